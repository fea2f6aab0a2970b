#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Where text can be cut into words without any change to its tokens: before a space to which no token reaches over from the
/// byte on its left. Most vocabularies have few or no tokens with a space inside, and then all words stand alone.
class WordStarts {
  public:
    /// `always`: cut before every space, whatever the tokens are.
    WordStarts(const TokenTable& table, bool always) {
        std::string plain;
        for (const std::string& text : table.texts()) {
            if (always) break;
            if (text.find(escaped_space, 1) == std::string::npos && text.find(' ', 1) == std::string::npos) continue;
            plain.clear();
            append_unescaped(plain, text);
            for (std::size_t i = 1; i < plain.size(); ++i) {
                if (plain[i] == ' ') joined_[utf8::byte_at(&plain[i - 1])] = true;
            }
        }
    }

    /// Whether a word starts at a space that has the byte `left` before it, itself ' ' for a space.
    [[nodiscard]] bool after(char left) const noexcept { return !joined_[utf8::byte_at(&left)]; }

  private:
    std::array<bool, 256> joined_{};
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
