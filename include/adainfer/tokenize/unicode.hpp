#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "adainfer/tokenize/unicode_tables.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

namespace detail::unicode {

using Flags = std::uint8_t;

inline constexpr Flags letter = 0x01;
inline constexpr Flags number = 0x02;
inline constexpr Flags mark = 0x04;
inline constexpr Flags punctuation = 0x08;
inline constexpr Flags symbol = 0x10;
inline constexpr Flags upper = 0x20;  ///< title case too
inline constexpr Flags lower = 0x40;
inline constexpr Flags space = 0x80;

/// Flags of a code point by binary search.
[[nodiscard]] constexpr Flags search_flags(std::uint32_t code) noexcept {
    const auto after = std::upper_bound(runs.begin(), runs.end(), (code << 8U) | 0xFFU);
    const std::uint32_t run = *(after - 1);
    const auto flags = static_cast<Flags>(run & 0xFFU);
    if ((flags & upper) == 0 || (flags & lower) == 0) return flags;
    return static_cast<Flags>(flags & ~((code - (run >> 8U)) % 2 == 0 ? lower : upper));
}

[[nodiscard]] constexpr std::array<Flags, 128> make_ascii() noexcept {
    std::array<Flags, 128> table{};
    for (std::uint32_t code = 0; code < 128; ++code) table[code] = search_flags(code);
    return table;
}

inline constexpr std::array<Flags, 128> ascii = make_ascii();

/// Requires code <= U+10FFFF.
[[nodiscard]] constexpr Flags flags_of(std::uint32_t code) noexcept {
    return code < 128 ? ascii[code] : search_flags(code);
}

/// A code point of the text with what the splitters ask about it. Past the end: length 0 and no flags.
struct Glyph {
    std::uint32_t code = 0xFFFFFFFF;
    std::uint32_t length = 0;
    Flags flags = 0;

    [[nodiscard]] constexpr bool is(Flags any) const noexcept { return (flags & any) != 0; }
};

[[nodiscard]] constexpr Glyph glyph_at(const char* p, const char* end) noexcept {
    if (p >= end) return {};
    const std::uint32_t byte = utf8::byte_at(p);
    if (byte < 128) return {byte, 1, ascii[byte]};
    const utf8::Decoded d = utf8::decode(p, end);
    return {d.code, d.length, search_flags(d.code)};
}

/// What "\w" stands for in regular expressions (UTS #18): letters, marks, digits, connecting punctuation such as '_', the two
/// joiners, and letters in circles and boxes; but no fractions, superscripts or numbers in circles.
[[nodiscard]] constexpr bool in_word(const Glyph& g) noexcept {
    if (g.is(letter | mark)) return true;
    if (g.is(number)) {
        const auto after = std::upper_bound(other_numbers.begin(), other_numbers.end(), (g.code << 8U) | 0xFFU);
        return after == other_numbers.begin() || g.code - (*(after - 1) >> 8U) > (*(after - 1) & 0xFFU);
    }
    const auto among = [&g](std::uint32_t first, std::uint32_t last) { return g.code >= first && g.code <= last; };
    if (g.is(punctuation)) {
        return g.code == '_' || among(0x203F, 0x2040) || g.code == 0x2054 || among(0xFE33, 0xFE34) || among(0xFE4D, 0xFE4F) ||
               g.code == 0xFF3F;
    }
    return among(0x200C, 0x200D) || among(0x24B6, 0x24E9) || among(0x1F130, 0x1F149) || among(0x1F150, 0x1F169) ||
           among(0x1F170, 0x1F189);
}

/// End of the run of code points, from p on, that have one of the flags.
[[nodiscard]] constexpr const char* skip_any(const char* p, const char* end, Flags any) noexcept {
    while (p < end) {
        const Glyph g = glyph_at(p, end);
        if (!g.is(any)) break;
        p += g.length;
    }
    return p;
}

/// End of the run of code points, from p on, that have none of the flags.
[[nodiscard]] constexpr const char* skip_none(const char* p, const char* end, Flags none) noexcept {
    while (p < end) {
        const Glyph g = glyph_at(p, end);
        if (g.is(none)) break;
        p += g.length;
    }
    return p;
}

/// A run of white space and where its last character begins.
struct Spaces {
    const char* last;
    const char* end;
    std::size_t count;
};

[[nodiscard]] constexpr Spaces spaces_at(const char* p, const char* end) noexcept {
    Spaces s{p, p, 0};
    while (s.end < end) {
        const Glyph g = glyph_at(s.end, end);
        if (!g.is(space)) break;
        s.last = s.end;
        s.end += g.length;
        ++s.count;
    }
    return s;
}

}  // namespace detail::unicode

}  // namespace adainfer::inline v0
