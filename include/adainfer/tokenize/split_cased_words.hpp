#pragma once

#include <cstddef>

#include "adainfer/tokenize/piece_sink.hpp"
#include "adainfer/tokenize/split_stages.hpp"
#include "adainfer/tokenize/split_white_space.hpp"
#include "adainfer/tokenize/split_words.hpp"
#include "adainfer/tokenize/unicode.hpp"

namespace adainfer::inline v0 {

/// The splitter of GPT-4o and Tekken, which also cuts words where lower case goes over to upper case.
namespace detail::split {

/// What differs between the vocabularies that use it.
struct CasedRules {
    std::size_t digits;    ///< most numbers in a piece
    bool contractions;     ///< a contraction in any case belongs to the word before it
    bool long_s = false;   ///< as for contraction_at()
};

/// End of the word at p: characters that are not lower case, then at least one that is not upper case; where there are none
/// such, upper case alone. Letters without case and marks are both. p where no letter or mark stands.
[[nodiscard]] constexpr const char* end_of_cased_word(const char* p, const char* end) noexcept {
    constexpr Flags worded = unicode::letter | unicode::mark;
    const char* caseless_end = nullptr;
    Glyph g = unicode::glyph_at(p, end);
    for (; g.is(worded) && !g.is(unicode::lower); g = unicode::glyph_at(p, end)) {
        p += g.length;
        if (!g.is(unicode::upper)) caseless_end = p;
    }
    if (!g.is(unicode::lower)) return caseless_end != nullptr ? caseless_end : p;
    for (; g.is(worded) && !g.is(unicode::upper); g = unicode::glyph_at(p, end)) p += g.length;
    return p;
}

/// Words with at most one other character before and, by the rules, a contraction behind; groups of numbers; other
/// characters with line ends and slashes after; white space up to its last line end; other white space.
inline void cased_words(const char* p, const char* end, CasedRules rules, PieceSink sink) {
    constexpr Flags worded = unicode::letter | unicode::mark;
    constexpr Flags not_other = unicode::letter | unicode::number | unicode::space;
    while (p < end) {
        const char* const first = p;
        const Glyph g = unicode::glyph_at(p, end);
        const char* const word = g.is(worded) || is_line_end(*p) ? p : p + g.length;
        const char* const body = *p == ' ' ? p + 1 : p;
        if (g.is(unicode::number)) {
            p = Run{unicode::number, rules.digits}(p, end);
        } else if (unicode::glyph_at(word, end).is(worded)) {
            p = end_of_cased_word(word, end);
            if (rules.contractions && p < end) p += contraction_at(p, end, true, rules.long_s);
        } else if (const Glyph other = unicode::glyph_at(body, end); other.length != 0 && !other.is(not_other)) {
            p = unicode::skip_none(body + other.length, end, not_other);
            while (p < end && (is_line_end(*p) || *p == '/')) ++p;
        } else {
            p = end_of_white_space(p, end);
        }
        sink(first, p);
    }
}

}  // namespace detail::split

}  // namespace adainfer::inline v0
