#pragma once

#include "adainfer/tokenize/unicode.hpp"

namespace adainfer::inline v0 {

namespace detail::split {

/// White space before a word leaves its last character to that word.
[[nodiscard]] constexpr const char* end_of_spaces(const unicode::Spaces& s, const char* end) noexcept {
    return s.count > 1 && s.end != end ? s.last : s.end;
}

[[nodiscard]] constexpr bool is_line_end(char c) noexcept { return c == '\r' || c == '\n'; }

/// Where the first piece of white space at p ends: behind its last line end; else all of it, but for one character that it
/// leaves to the word behind it. p where there is none.
[[nodiscard]] constexpr const char* end_of_white_space(const char* p, const char* end) noexcept {
    const unicode::Spaces spaces = unicode::spaces_at(p, end);
    const char* line_end = spaces.end;
    while (line_end > p && !is_line_end(line_end[-1])) --line_end;
    return line_end > p ? line_end : end_of_spaces(spaces, end);
}

}  // namespace detail::split

}  // namespace adainfer::inline v0
