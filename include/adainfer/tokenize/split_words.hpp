#pragma once

#include <cstddef>

#include "adainfer/tokenize/piece_sink.hpp"
#include "adainfer/tokenize/split_white_space.hpp"
#include "adainfer/tokenize/unicode.hpp"

namespace adainfer::inline v0 {

/// The two word splitters that most byte-level vocabularies were trained with. Each calls sink(first, last) for
/// consecutive pieces that cover the text.
namespace detail::split {

using unicode::Flags;
using unicode::Glyph;

/// Bytes of an English contraction ('s 't 'm 'd 're 've 'll) at p, or 0. `long_s`: U+017F is an s, as it is for a regular
/// expression that ignores case.
[[nodiscard]] constexpr std::size_t contraction_at(const char* p, const char* end, bool any_case, bool long_s) noexcept {
    if (*p != '\'') return 0;
    const auto lower = [any_case](char c) noexcept {
        return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    if (end - p < 2) return 0;
    const char a = lower(p[1]);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - p < 3) return 0;
    if (long_s && a == '\xC5' && p[2] == '\xBF') return 3;
    const char b = lower(p[2]);
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/// GPT-2: contractions; letters, numbers or other characters, each with at most one space before; white space.
inline void gpt2(const char* p, const char* end, PieceSink sink) {
    constexpr Flags worded = unicode::letter | unicode::number | unicode::space;
    while (p < end) {
        const char* const first = p;
        if (const std::size_t n = contraction_at(p, end, false, false)) {
            p += n;
            sink(first, p);
            continue;
        }
        if (*p == ' ') ++p;
        const Glyph g = unicode::glyph_at(p, end);
        if (g.is(unicode::letter)) {
            p = unicode::skip_any(p + g.length, end, unicode::letter);
        } else if (g.is(unicode::number)) {
            p = unicode::skip_any(p + g.length, end, unicode::number);
        } else if (g.length != 0 && !g.is(unicode::space)) {
            p = unicode::skip_none(p + g.length, end, worded);
        } else {
            p = end_of_spaces(unicode::spaces_at(first, end), end);
        }
        sink(first, p);
    }
}

/// What differs between the vocabularies that use the splitter of GPT-4.
struct Gpt4Rules {
    std::size_t digits = 3;         ///< most numbers in a piece
    Flags word = unicode::letter;   ///< what words are made of
    bool long_s = false;            ///< as for contraction_at()
};

/// GPT-4: contractions in any case; words with at most one other character before; groups of numbers; other
/// characters with line ends after; white space up to its last line end; other white space.
inline void gpt4(const char* p, const char* end, Gpt4Rules rules, PieceSink sink) {
    const Flags worded = static_cast<Flags>(rules.word | unicode::number | unicode::space);
    while (p < end) {
        const char* const first = p;
        if (const std::size_t n = contraction_at(p, end, true, rules.long_s)) {
            p += n;
            sink(first, p);
            continue;
        }
        const Glyph g = unicode::glyph_at(p, end);
        if (g.is(unicode::number)) {
            p += g.length;
            for (std::size_t n = 1; n < rules.digits; ++n) {
                const Glyph next = unicode::glyph_at(p, end);
                if (!next.is(unicode::number)) break;
                p += next.length;
            }
            sink(first, p);
            continue;
        }
        if (!is_line_end(*p) && (g.is(rules.word) || unicode::glyph_at(p + g.length, end).is(rules.word))) {
            p = unicode::skip_any(p + g.length, end, rules.word);
            sink(first, p);
            continue;
        }
        const char* const body = *p == ' ' ? p + 1 : p;
        const Glyph other = unicode::glyph_at(body, end);
        if (other.length != 0 && !other.is(worded)) {
            p = unicode::skip_none(body + other.length, end, worded);
            while (p < end && is_line_end(*p)) ++p;
            sink(first, p);
            continue;
        }
        p = end_of_white_space(p, end);
        sink(first, p);
    }
}

}  // namespace detail::split

}  // namespace adainfer::inline v0
