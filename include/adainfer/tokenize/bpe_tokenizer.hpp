#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/merge_table.hpp"
#include "adainfer/tokenize/pre_tokenizer.hpp"
#include "adainfer/tokenize/special_tokens.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/vocabulary.hpp"
#include "adainfer/tokenize/word_merger.hpp"

namespace adainfer::inline v0 {

/// What to do with bytes that are not UTF-8.
enum class InvalidUtf8 {
    Replace,  ///< encode each as U+FFFD, and overlong forms as the character they spell; agrees with llama.cpp
    Keep,     ///< encode the bytes themselves, so that decoding gives them back
};

/// What to do with bytes that the vocabulary has no token for, such as some control characters.
enum class MissingByte {
    Drop,   ///< leave them out; agrees with llama.cpp
    Throw,  ///< Error(UnknownToken)
};

struct EncodeOptions {
    bool parse_special = true;  ///< recognise control tokens in the text; off for text from untrusted users
    bool add_bos = false;       ///< put bos first; Tokenizer::adds_bos() tells whether the model expects it
    InvalidUtf8 invalid_utf8 = InvalidUtf8::Replace;
    MissingByte missing_byte = MissingByte::Drop;
};

/// Byte-level BPE between text and token ids. Immutable: const members may be called from many threads at once.
class Tokenizer {
  public:
    /// Checks and indexes the vocabulary. Throws Error(Unsupported) for a model other than "gpt2" or an unknown
    /// pre-tokenizer, and Error(CorruptFile), with the offender's name, for a vocabulary without tokens, equal
    /// tokens, ids out of range, missing byte tokens, and merges that are malformed, repeated or name a token
    /// that is not there.
    explicit Tokenizer(TokenizerData data)
        : splitter_(checked_splitter(data)),
          table_(std::move(data.tokens), data.token_types),
          merges_(make_merges(table_, data.merges)),
          bos_(checked_id(data.bos, "bos")),
          eos_(checked_id(data.eos, "eos")),
          eot_(checked_id(data.eot, "eot")),
          unknown_(checked_id(data.unknown, "unknown")),
          padding_(checked_id(data.padding, "padding")),
          adds_bos_(data.add_bos),
          chat_template_(std::move(data.chat_template)) {
        if (eos_) table_.mark_end(*eos_);
        if (eot_) table_.mark_end(*eot_);
        std::vector<TokenId> always, all;
        for (std::size_t i = 0; i < table_.size(); ++i) {
            const auto id = static_cast<TokenId>(i);
            if (table_.texts()[i].empty()) continue;
            if (table_.type(id) == TokenType::UserDefined) always.push_back(id);
            if (table_.type(id) == TokenType::UserDefined || is_special(id)) all.push_back(id);
        }
        user_defined_ = detail::bpe::SpecialTokens(table_.texts(), std::move(always));
        in_text_ = detail::bpe::SpecialTokens(table_.texts(), std::move(all));
    }

    /// Throws Error(InvalidArgument) for add_bos without a bos token, and Error(UnknownToken) as MissingByte says.
    [[nodiscard]] std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const {
        std::vector<TokenId> ids;
        ids.reserve(text.size() / 3 + 1);
        if (options.add_bos) {
            if (!bos_) fail(ErrorCode::InvalidArgument, "add_bos, but the vocabulary has no bos token");
            ids.push_back(*bos_);
        }
        Encoder encoder{*this, options, ids, detail::bpe::WordMerger(merges_), {}, {}};
        const detail::bpe::SpecialTokens& specials = options.parse_special ? in_text_ : user_defined_;
        std::size_t done = 0;
        if (!specials.empty()) {
            for (const auto& found : specials.find_in(text)) {
                encoder.plain(text.substr(done, found.first - done));
                ids.push_back(found.token);
                done = found.first + found.length;
            }
        }
        encoder.plain(text.substr(done));
        return ids;
    }

    /// The bytes of the tokens; not always UTF-8 as a whole, see StreamDecoder for that. Throws
    /// Error(UnknownToken) for an id outside the vocabulary.
    [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool skip_special = false) const {
        std::string text;
        for (const TokenId id : ids) {
            const std::string_view bytes = token_bytes(id);
            if (!skip_special || !is_special(id)) text.append(bytes);
        }
        return text;
    }

    /// What the token stands for, valid as long as this object is neither moved nor destroyed. Throws
    /// Error(UnknownToken) for an id outside the vocabulary.
    [[nodiscard]] std::string_view token_bytes(TokenId id) const {
        if (!table_.contains(id)) {
            fail(ErrorCode::UnknownToken, "token ", id, " in a vocabulary of ", table_.size());
        }
        return table_.bytes(id);
    }

    /// The token of this text in the spelling of the vocabulary, where "Ġ" is a space.
    [[nodiscard]] std::optional<TokenId> find(std::string_view token) const noexcept {
        const TokenId id = table_.find(token);
        return id == no_token ? std::nullopt : std::optional<TokenId>(id);
    }

    [[nodiscard]] std::size_t vocab_size() const noexcept { return table_.size(); }

    /// A control or unknown token, which stands for no text. False for ids outside the vocabulary.
    [[nodiscard]] bool is_special(TokenId id) const noexcept {
        if (!table_.contains(id)) return false;
        const TokenType type = table_.type(id);
        return type == TokenType::Control || type == TokenType::Unknown;
    }

    /// eos, eot and tokens whose name says that a turn or a text ends. False for ids outside the vocabulary.
    [[nodiscard]] bool is_end_of_generation(TokenId id) const noexcept {
        return table_.contains(id) && table_.is_end(id);
    }

    [[nodiscard]] std::optional<TokenId> bos() const noexcept { return bos_; }
    [[nodiscard]] std::optional<TokenId> eos() const noexcept { return eos_; }
    [[nodiscard]] std::optional<TokenId> eot() const noexcept { return eot_; }
    [[nodiscard]] std::optional<TokenId> unknown() const noexcept { return unknown_; }
    [[nodiscard]] std::optional<TokenId> padding() const noexcept { return padding_; }

    /// Whether the model expects bos in front of a text.
    [[nodiscard]] bool adds_bos() const noexcept { return adds_bos_; }

    /// The model's own template source; empty where the file has none.
    [[nodiscard]] const std::string& chat_template() const noexcept { return chat_template_; }

  private:
    /// One call of encode().
    struct Encoder {
        const Tokenizer& tokenizer;
        const EncodeOptions& options;
        std::vector<TokenId>& ids;
        detail::bpe::WordMerger merger;
        std::vector<TokenId> symbols;
        std::string spelling;

        /// Text without tokens written out in it.
        void plain(std::string_view text) {
            const char* const end = text.data() + text.size();
            if (options.invalid_utf8 == InvalidUtf8::Replace && detail::utf8::find_invalid(text.data(), end) != end) {
                split(detail::utf8::repair(text));
            } else {
                split(text);
            }
        }

        void split(std::string_view text) {
            detail::pre_tokenizer::run(tokenizer.splitter_.kind, text, [this](const char* first, const char* last) {
                piece({first, static_cast<std::size_t>(last - first)});
            });
        }

        void piece(std::string_view bytes) {
            if (tokenizer.splitter_.whole_words) {
                spelling.clear();
                detail::byte_spelling::append_spelled(spelling, bytes);
                const TokenId whole = tokenizer.table_.find(spelling);
                if (whole != no_token) {
                    ids.push_back(whole);
                    return;
                }
            }
            if (bytes.size() > detail::bpe::WordMerger::max_symbols) {
                fail(ErrorCode::InvalidArgument, "a word of ", bytes.size(), " bytes");
            }
            if (symbols.size() < bytes.size()) symbols.resize(bytes.size());
            for (std::size_t i = 0; i < bytes.size(); ++i) {
                symbols[i] = tokenizer.table_.byte_token(bytes[i]);
                if (symbols[i] == no_token && options.missing_byte == MissingByte::Throw) {
                    fail(ErrorCode::UnknownToken, "the vocabulary has no token for the byte ",
                         detail::utf8::byte_at(&bytes[i]));
                }
            }
            merger.apply(symbols.data(), bytes.size(), ids);
        }
    };

    [[nodiscard]] static detail::pre_tokenizer::Name checked_splitter(const TokenizerData& data) {
        if (data.model != "gpt2") {
            fail(ErrorCode::Unsupported, "tokenizer model \"", data.model, "\"; supported: gpt2 (byte-level BPE)");
        }
        return detail::pre_tokenizer::find(data.pre);
    }

    [[nodiscard]] std::optional<TokenId> checked_id(std::optional<TokenId> id, std::string_view what) const {
        if (id && !table_.contains(*id)) {
            fail(ErrorCode::CorruptFile, "the ", what, " token is ", *id, " in a vocabulary of ", table_.size());
        }
        return id;
    }

    [[nodiscard]] static detail::bpe::MergeTable make_merges(const detail::bpe::TokenTable& table,
                                                             const std::vector<std::string>& merges) {
        if (merges.size() >= detail::bpe::no_rank) fail(ErrorCode::CorruptFile, merges.size(), " merges");
        detail::bpe::MergeTable result(merges.size());
        std::string joined;
        for (std::size_t i = 0; i < merges.size(); ++i) {
            const std::string_view merge = merges[i];
            const std::size_t blank = merge.find(' ');
            if (blank == 0 || blank == std::string_view::npos || blank + 1 == merge.size() ||
                merge.find(' ', blank + 1) != std::string_view::npos) {
                fail(ErrorCode::CorruptFile, "merge ", i, " \"", merge, "\" is not two tokens with a space between");
            }
            const auto id_of = [&](std::string_view text) {
                const TokenId id = table.find(text);
                if (id == no_token) {
                    fail(ErrorCode::CorruptFile, "merge ", i, " \"", merge, "\" names \"", text, "\", not a token");
                }
                return id;
            };
            const TokenId left = id_of(merge.substr(0, blank)), right = id_of(merge.substr(blank + 1));
            joined.assign(merge.substr(0, blank)).append(merge.substr(blank + 1));
            if (!result.insert(left, right, {static_cast<std::uint32_t>(i), id_of(joined)})) {
                fail(ErrorCode::CorruptFile, "merge ", i, " \"", merge, "\" is there twice");
            }
        }
        return result;
    }

    detail::pre_tokenizer::Name splitter_;
    detail::bpe::TokenTable table_;
    detail::bpe::MergeTable merges_;
    std::optional<TokenId> bos_, eos_, eot_, unknown_, padding_;
    bool adds_bos_;
    std::string chat_template_;
    detail::bpe::SpecialTokens user_defined_;  ///< recognised always
    detail::bpe::SpecialTokens in_text_;       ///< recognised where parse_special is on: those and the control ones
};

}  // namespace adainfer::inline v0
