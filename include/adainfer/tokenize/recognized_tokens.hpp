#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/nfc.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/special_tokens.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/unicode.hpp"
#include "adainfer/tokenize/utf8.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Cuts a text at the tokens that are written out in it, each as its AddedToken says.
class RecognizedTokens {
  public:
    /// All user-defined tokens, and the special ones too where `special`. Throws Error(CorruptFile) for an AddedToken outside
    /// the vocabulary.
    RecognizedTokens(const TokenTable& table, const TokenizerData& data, bool special)
        : rules_(data.added), leftmost_(data.hugging_face) {
        std::sort(rules_.begin(), rules_.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
        for (const AddedToken& rule : rules_) {
            if (!table.contains(rule.id)) {
                fail(ErrorCode::CorruptFile, "an added token is ", rule.id, " in a vocabulary of ", table.size());
            }
        }
        const bool prefix = data.model != "gpt2" && data.add_space_prefix && data.prefix_scheme == PrefixScheme::EveryPart;
        std::vector<SpecialTokens::Pattern> plain, normalized;
        for (std::size_t i = 0; i < table.size(); ++i) {
            const auto id = static_cast<TokenId>(i);
            if (table.texts()[i].empty()) continue;
            if (table.type(id) == TokenType::UserDefined || (special && table.is_special(id))) {
                const std::string& text = table.texts()[i];
                if (rule_of(id).normalized) {
                    normalized.push_back({normalized_text(text, data.nfc, prefix), id});
                } else {
                    plain.push_back({text, id});
                }
            }
        }
        plain_ = SpecialTokens(std::move(plain));
        normalized_ = SpecialTokens(std::move(normalized));
    }

    /// Whether any token is looked for in normalised text.
    [[nodiscard]] bool has_normalized() const noexcept { return !normalized_.empty(); }

    /// Calls sink(part, whether it stands at the start) for what lies between the tokens, where it is not empty, and appends
    /// the tokens to ids.
    template <class Sink>
    void for_each_part(std::string_view text, std::vector<TokenId>& ids, Sink&& sink) const {
        cut(plain_, text, ids, [&](std::string_view part, std::size_t first) {
            if (!part.empty()) sink(part, first == 0);
        });
    }

    /// The same for tokens that are looked for in normalised text.
    template <class Sink>
    void for_each_normalized_part(std::string_view text, std::vector<TokenId>& ids, Sink&& sink) const {
        cut(normalized_, text, ids, [&](std::string_view part, std::size_t first) {
            if (!part.empty()) sink(part, first == 0);
        });
    }

  private:
    /// What a token looks like in a text that was normalised, where `prefix`: with a space in front, spaces as U+2581.
    [[nodiscard]] static std::string normalized_text(std::string_view text, bool nfc, bool prefix) {
        std::string out = nfc ? nfc::normalise(text) : std::string(text);
        if (!prefix) return out;
        std::string escaped;
        append_escaped(escaped, ' ' + out);
        return escaped;
    }

    [[nodiscard]] AddedToken rule_of(TokenId id) const noexcept {
        const auto at = std::lower_bound(rules_.begin(), rules_.end(), id,
                                         [](const AddedToken& rule, TokenId token) { return rule.id < token; });
        return at != rules_.end() && at->id == id ? *at : AddedToken{};
    }

    template <class Sink>
    void cut(const SpecialTokens& tokens, std::string_view text, std::vector<TokenId>& ids, Sink&& sink) const {
        std::size_t done = 0;
        if (!tokens.empty()) {
            for (const SpecialTokens::Found& found : leftmost_ ? tokens.find_leftmost(text) : tokens.find_in(text)) {
                const AddedToken rule = rules_.empty() ? AddedToken{} : rule_of(found.token);
                std::size_t first = found.first, last = found.first + found.length;
                if (first < done || (rule.single_word && touches_word(text, first, last))) continue;
                if (rule.strip_left) first = done + without_trailing_space(text.substr(done, first - done)).size();
                if (rule.strip_right) {
                    const char* const end = text.data() + text.size();
                    last = static_cast<std::size_t>(unicode::skip_any(text.data() + last, end, unicode::space) - text.data());
                }
                sink(text.substr(done, first - done), done);
                ids.push_back(found.token);
                done = last;
            }
        }
        sink(text.substr(done), done);
    }

    /// The last character of a text that is not empty.
    [[nodiscard]] static std::string_view last_character(std::string_view text) noexcept {
        std::size_t at = text.size() - 1;
        while (at > 0 && text.size() - at < 4 && utf8::is_continuation(utf8::byte_at(&text[at]))) --at;
        return text.substr(at);
    }

    [[nodiscard]] static unicode::Glyph glyph(std::string_view character) noexcept {
        return unicode::glyph_at(character.data(), character.data() + character.size());
    }

    [[nodiscard]] static std::string_view without_trailing_space(std::string_view text) noexcept {
        while (!text.empty() && glyph(last_character(text)).is(unicode::space)) {
            text.remove_suffix(last_character(text).size());
        }
        return text;
    }

    [[nodiscard]] static bool touches_word(std::string_view text, std::size_t first, std::size_t last) noexcept {
        return (first > 0 && unicode::in_word(glyph(last_character(text.substr(0, first))))) ||
               (last < text.size() && unicode::in_word(glyph(text.substr(last))));
    }

    std::vector<AddedToken> rules_;  ///< by id
    bool leftmost_;
    SpecialTokens plain_, normalized_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
