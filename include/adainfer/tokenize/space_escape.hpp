#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// SentencePiece vocabularies write U+2581 for a space. In a text the two are the same.
namespace detail::tokenizing {

inline constexpr std::string_view escaped_space = "\xE2\x96\x81";

/// Bytes of the character that starts with `lead`, by this byte alone, whatever follows: how llama.cpp cuts text.
[[nodiscard]] constexpr std::size_t character_length(char lead) noexcept {
    const auto byte = static_cast<unsigned char>(lead);
    if (byte < 0xC0U) return 1;
    if (byte < 0xE0U) return 2;
    return byte < 0xF0U ? 3 : 4;
}

/// The first character of a text that is not empty.
[[nodiscard]] inline std::string_view first_character(std::string_view text) noexcept {
    return text.substr(0, (std::min)(character_length(text.front()), text.size()));
}

[[nodiscard]] inline bool starts_with_space(std::string_view text) noexcept {
    return text.starts_with(' ') || text.starts_with(escaped_space);
}

/// Appends the text with U+2581 for every space.
inline void append_escaped(std::string& out, std::string_view text) {
    for (const char c : text) {
        if (c == ' ') {
            out.append(escaped_space);
        } else {
            out.push_back(c);
        }
    }
}

/// Appends the text with a space for every U+2581.
inline void append_unescaped(std::string& out, std::string_view text) {
    for (;;) {
        const std::size_t at = text.find(escaped_space);
        out.append(text.substr(0, at));
        if (at == std::string_view::npos) return;
        out.push_back(' ');
        text.remove_prefix(at + escaped_space.size());
    }
}

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
