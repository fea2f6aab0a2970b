#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/byte_spelling.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/special_names.hpp"
#include "adainfer/tokenize/text_hash.hpp"
#include "adainfer/tokenize/token_index.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// How the texts of ordinary tokens stand for bytes.
enum class Spelling {
    ByteLevel,  ///< byte_spelling.hpp
    Plain,      ///< as they are, U+2581 for a space; single bytes as <0xHH>
};

/// The tokens of a vocabulary: text, kind and bytes of each, and the way back from text to id.
class TokenTable {
  public:
    /// Throws Error(CorruptFile) for no tokens, two equal ones, types that do not fit, or, with Spelling::ByteLevel, a
    /// printable ASCII character, space or newline without a token. Other bytes may lack one: vocabularies in use do.
    /// `trust_types`: tokens whose name says that they are control tokens are so only where the types say it too.
    TokenTable(std::vector<std::string> texts, const std::vector<std::int32_t>& types, Spelling spelling, bool trust_types)
        : texts_(std::move(texts)), spelling_(spelling), trust_types_(trust_types) {
        if (texts_.empty()) fail(ErrorCode::CorruptFile, "the vocabulary has no tokens");
        if (texts_.size() > static_cast<std::size_t>((std::numeric_limits<TokenId>::max)())) {
            fail(ErrorCode::CorruptFile, "the vocabulary has ", texts_.size(), " tokens, more than ids can number");
        }
        if (!types.empty() && types.size() != texts_.size()) {
            fail(ErrorCode::CorruptFile, "the vocabulary has ", texts_.size(), " tokens but ", types.size(), " types");
        }
        // An empty text is a hole that some converters leave; nothing can find it.
        if (const auto twins = index_.fill(texts_)) {
            fail(ErrorCode::CorruptFile, "tokens ", twins->first, " and ", twins->second, " are both ",
                 detail::quoted(texts_[static_cast<std::size_t>(twins->first)]));
        }
        kinds_.reserve(texts_.size());
        ends_.reserve(texts_.size());
        for (std::size_t i = 0; i < texts_.size(); ++i) {
            add(static_cast<TokenId>(i), types.empty() ? TokenType::Normal : checked_type(types[i], i));
        }
        find_bytes();
    }

    [[nodiscard]] std::size_t size() const noexcept { return texts_.size(); }

    [[nodiscard]] bool contains(TokenId id) const noexcept {
        return id >= 0 && static_cast<std::size_t>(id) < texts_.size();
    }

    [[nodiscard]] const std::vector<std::string>& texts() const noexcept { return texts_; }

    /// Requires contains(id), as do the next two.
    [[nodiscard]] TokenType type(TokenId id) const noexcept {
        return static_cast<TokenType>(kinds_[static_cast<std::size_t>(id)].type);
    }
    [[nodiscard]] bool is_end(TokenId id) const noexcept { return kinds_[static_cast<std::size_t>(id)].end; }
    [[nodiscard]] std::string_view bytes(TokenId id) const noexcept {
        const auto i = static_cast<std::size_t>(id);
        const std::size_t first = i == 0 ? 0 : ends_[i - 1];
        return std::string_view(bytes_).substr(first, ends_[i] - first);
    }

    void mark_end(TokenId id) noexcept { kinds_[static_cast<std::size_t>(id)].end = true; }

    /// The id of a text in the vocabulary's own spelling, or no_token.
    [[nodiscard]] TokenId find(std::string_view text) const noexcept {
        if (text.empty()) return no_token;
        return index_.find(TextHash(text), [&](TokenId id) { return text_of(id) == text; });
    }

    /// The same of two texts joined, of which one at least is not empty. `hash` is that of both together.
    [[nodiscard]] TokenId find(std::string_view left, std::string_view right, TextHash hash) const noexcept {
        return index_.find(hash, [&](TokenId id) {
            const std::string_view text = text_of(id);
            return text.size() == left.size() + right.size() && text.starts_with(left) && text.ends_with(right);
        });
    }

    /// The same, but never a special token, which text must not turn into by itself.
    [[nodiscard]] TokenId find_unspecial(std::string_view text) const noexcept {
        const TokenId id = find(text);
        return id == no_token || is_special(id) ? no_token : id;
    }

    /// Whether text can turn into this token by itself. Others have to be written out and recognised.
    [[nodiscard]] bool is_ordinary(TokenId id) const noexcept {
        const TokenType t = type(id);
        return t == TokenType::Normal || t == TokenType::Unused || t == TokenType::Undefined;
    }

    /// Control and unknown tokens, which stand for no text.
    [[nodiscard]] bool is_special(TokenId id) const noexcept {
        return type(id) == TokenType::Control || type(id) == TokenType::Unknown;
    }

    /// The token of a single byte, or no_token.
    [[nodiscard]] TokenId byte_token(char byte) const noexcept { return byte_tokens_[utf8::byte_at(&byte)]; }

  private:
    [[nodiscard]] std::string_view text_of(TokenId id) const noexcept { return texts_[static_cast<std::size_t>(id)]; }

    struct Kind {
        std::uint8_t type;  ///< a TokenType
        bool end;
    };

    [[nodiscard]] static TokenType checked_type(std::int32_t type, std::size_t id) {
        if (type < 0 || type > 6) fail(ErrorCode::CorruptFile, "token ", id, " has the unknown type ", type);
        return static_cast<TokenType>(type);
    }

    void add(TokenId id, TokenType type) {
        const std::string& text = texts_[static_cast<std::size_t>(id)];
        const bool end = special_names::is_end(text);
        if (!trust_types_ && special_names::is_control(text)) type = TokenType::Control;
        if (spelling_ == Spelling::Plain && type == TokenType::Normal && parse_byte(text) >= 0) type = TokenType::Byte;
        kinds_.push_back({static_cast<std::uint8_t>(type), end});
        append_bytes(text, type);
        ends_.push_back(bytes_.size());
    }

    void append_bytes(std::string_view text, TokenType type) {
        const bool literal = type == TokenType::Control || type == TokenType::Unknown || type == TokenType::UserDefined;
        if (type == TokenType::Byte) {
            const int byte = parse_byte(text);
            if (byte < 0) fail(ErrorCode::CorruptFile, "byte token ", detail::quoted(text), " is not of the form <0xHH>");
            bytes_.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
        } else if (!literal && spelling_ == Spelling::Plain) {
            append_unescaped(bytes_, text);
        } else if (literal || !byte_spelling::append_bytes(bytes_, text)) {
            bytes_.append(text);
        }
    }

    [[nodiscard]] static int parse_byte(std::string_view text) noexcept {
        constexpr std::string_view digits = "0123456789ABCDEF";
        if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
        const std::size_t high = digits.find(text[3]), low = digits.find(text[4]);
        if (high == std::string_view::npos || low == std::string_view::npos) return -1;
        return static_cast<int>(high * 16 + low);
    }

    void find_bytes() {
        constexpr std::string_view hex = "0123456789ABCDEF";
        for (std::size_t b = 0; b < byte_tokens_.size(); ++b) {
            if (spelling_ == Spelling::Plain) {
                const TokenId id = find(std::string("<0x") + hex[b / 16] + hex[b % 16] + '>');
                byte_tokens_[b] = id != no_token && type(id) == TokenType::Byte ? id : no_token;
                continue;
            }
            const char byte = static_cast<char>(static_cast<unsigned char>(b));
            byte_tokens_[b] = find_unspecial(byte_spelling::spelled({&byte, 1}));
            const bool needed = b == '\n' || (b >= 0x20 && b <= 0x7E);
            if (needed && byte_tokens_[b] == no_token) {
                fail(ErrorCode::CorruptFile, "the vocabulary has no token for the byte 0x", hex[b / 16], hex[b % 16]);
            }
        }
    }

    std::vector<std::string> texts_;
    std::vector<Kind> kinds_;
    std::string bytes_;               ///< of all tokens, one after the other
    std::vector<std::size_t> ends_;   ///< where each token's bytes end
    TokenIndex index_;
    Spelling spelling_;
    bool trust_types_;
    std::array<TokenId, 256> byte_tokens_{};
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
