#pragma once

#include "adainfer/tokenize/split_stages.hpp"
#include "adainfer/tokenize/split_white_space.hpp"
#include "adainfer/tokenize/unicode.hpp"

namespace adainfer::inline v0 {

/// Two of the three stages of DeepSeek-V3's splitter, for cut(); the first cuts out groups of at most three numbers.
namespace detail::split {

/// A run of Chinese characters, up to U+9FA5, and of all in the blocks of hiragana and katakana.
struct HanKana {
    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        const char* last = nullptr;
        for (;;) {
            const Glyph g = unicode::glyph_at(p, end);
            const bool han = g.code >= 0x4E00 && g.code <= 0x9FA5, kana = g.code >= 0x3040 && g.code <= 0x30FF;
            if (!han && !kana) return last;
            last = p += g.length;
        }
    }
};

/// An ASCII mark with ASCII letters; letters and combining marks with at most one character before that is neither a line
/// end, punctuation nor a symbol; punctuation and symbols with line ends after; white space.
struct DeepseekV3Words {
    static constexpr bool ascii_letter(char c) noexcept { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        constexpr unicode::Flags worded = unicode::letter | unicode::mark;
        constexpr unicode::Flags marks = unicode::punctuation | unicode::symbol;
        const Glyph g = unicode::glyph_at(p, end);
        const char* const next = p + g.length;
        if (g.code < 128 && g.is(marks) && next < end && ascii_letter(*next)) {
            p = next;
            while (p < end && ascii_letter(*p)) ++p;
            return p;
        }
        if (g.is(worded)) return unicode::skip_any(next, end, worded);
        if (!is_line_end(*p) && !g.is(marks) && unicode::glyph_at(next, end).is(worded))
            return unicode::skip_any(next, end, worded);
        if (g.is(marks) || (*p == ' ' && unicode::glyph_at(next, end).is(marks))) {
            p = unicode::skip_any(next, end, marks);
            while (p < end && is_line_end(*p)) ++p;
            return p;
        }
        return g.is(unicode::space) ? end_of_white_space(p, end) : nullptr;
    }
};

}  // namespace detail::split

}  // namespace adainfer::inline v0
