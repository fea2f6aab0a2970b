#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/encode_options.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/utf8.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Stands for a character without a token until it is written; merges with nothing.
inline constexpr TokenId unknown_symbol = -2;

/// What stands for characters without a token: their bytes, or the unknown token, once for a run of them.
class UnknownText {
  public:
    UnknownText(const TokenTable& table, const TokenizerData& data)
        : unknown_(data.unknown.value_or(no_token)), bytes_(data.byte_fallback), fuse_(data.fuse_unknown) {
        bool all_bytes = bytes_;
        for (int byte = 0; byte < 256; ++byte) {
            all_bytes = all_bytes && table.byte_token(static_cast<char>(static_cast<unsigned char>(byte))) != no_token;
        }
        writes_token_ = !all_bytes && unknown_ != no_token;
    }

    /// Whether the unknown token can come out at all.
    [[nodiscard]] bool writes_token() const noexcept { return writes_token_; }

    /// One call of Tokenizer::encode(). Keeps references to everything it is given.
    class Writer {
      public:
        Writer(const UnknownText& rules, const TokenTable& table, const EncodeOptions& options, std::vector<TokenId>& ids)
            : rules_(rules), table_(table), options_(options), ids_(ids) {}

        /// What is written from here on does not belong to a run that came before.
        void start() noexcept { in_run_ = false; }

        /// Appends what stands for the character: byte tokens, unknown_symbol, or no_token to leave it out. Throws
        /// Error(UnknownToken) as MissingByte says.
        void append_to(std::vector<TokenId>& symbols, std::string_view character) const {
            if (rules_.bytes_ && has_bytes(character)) {
                for (const char byte : character) symbols.push_back(table_.byte_token(byte));
                return;
            }
            if (rules_.unknown_ == no_token && options_.missing_byte == MissingByte::Throw) {
                fail(ErrorCode::UnknownToken, "the vocabulary has no token for \"", character, '"');
            }
            symbols.push_back(rules_.unknown_ == no_token ? no_token : unknown_symbol);
        }

        /// Writes a token or what append_to() gave.
        void emit(TokenId id) {
            if (id == no_token) return;
            const bool unknown = id == unknown_symbol;
            if (!unknown || !in_run_ || !rules_.fuse_) ids_.push_back(unknown ? rules_.unknown_ : id);
            in_run_ = unknown;
        }

      private:
        [[nodiscard]] bool has_bytes(std::string_view character) const noexcept {
            for (const char byte : character) {
                if (table_.byte_token(byte) == no_token) return false;
            }
            return true;
        }

        const UnknownText& rules_;
        const TokenTable& table_;
        const EncodeOptions& options_;
        std::vector<TokenId>& ids_;
        bool in_run_ = false;
    };

  private:
    TokenId unknown_;
    bool bytes_, fuse_, writes_token_ = false;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
