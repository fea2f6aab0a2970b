#pragma once

#include <cstddef>
#include <cstdint>

#include "adainfer/tokenize/deepseek_classes.hpp"
#include "adainfer/tokenize/piece_sink.hpp"
#include "adainfer/tokenize/unicode.hpp"

namespace adainfer::inline v0 {

/// Single stages of the splitters that work in several passes. A stage cuts out what it matches; what it cuts
/// out and what lies between go to the next stage alike.
namespace detail::split {

using unicode::Glyph;

/// Calls sink(first, last) for consecutive pieces that cover the text. match(p, end) is asked at every code
/// point and returns the end of the match there, or nullptr; it must not scan far where it fails.
template <class Match>
void cut(const char* p, const char* end, const Match& match, PieceSink sink) {
    const char* between = p;
    while (p < end) {
        const char* const last = match(p, end);
        if (last == nullptr) {
            p += unicode::glyph_at(p, end).length;
            continue;
        }
        if (between < p) sink(between, p);
        sink(p, last);
        between = p = last;
    }
    if (between < end) sink(between, end);
}

/// A run of at most `most` code points that have one of the flags.
struct Run {
    unicode::Flags any;
    std::size_t most = static_cast<std::size_t>(-1);

    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        const char* last = nullptr;
        for (std::size_t n = 0; n < most; ++n) {
            const Glyph g = unicode::glyph_at(p, end);
            if (!g.is(any)) break;
            last = p += g.length;
        }
        return last;
    }
};

/// A run, at most `most` long, of punctuation in Falcon's sense: the category, and these ASCII symbols.
struct FalconMarks {
    bool backtick;
    std::size_t most = static_cast<std::size_t>(-1);

    constexpr bool has(const Glyph& g) const noexcept {
        if (g.is(unicode::punctuation)) return true;
        switch (g.code) {
            case '$': case '+': case '<': case '=': case '>': case '^': case '~': case '|': return true;
            case '`': return backtick;
            default: return false;
        }
    }

    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        const char* last = nullptr;
        std::size_t n = 0;
        for (Glyph g = unicode::glyph_at(p, end); n < most && has(g); g = unicode::glyph_at(p, end), ++n) last = p += g.length;
        return last;
    }
};

/// Exactly three ASCII digits.
struct ThreeDigits {
    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        if (end - p < 3) return nullptr;
        for (int i = 0; i < 3; ++i) {
            if (p[i] < '0' || p[i] > '9') return nullptr;
        }
        return p + 3;
    }
};

struct LineEnd {
    constexpr const char* operator()(const char* p, const char*) const noexcept {
        return *p == '\r' || *p == '\n' ? p + 1 : nullptr;
    }
};

/// At most one white space, then a run of what `Has` accepts. Has must not accept white space.
template <class Has>
struct SpacedRun {
    Has has;

    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        Glyph g = unicode::glyph_at(p, end);
        if (g.is(unicode::space)) g = unicode::glyph_at(p += g.length, end);
        const char* last = nullptr;
        for (; g.length != 0 && has(g); g = unicode::glyph_at(p, end)) last = p += g.length;
        return last;
    }
};

struct HasFlag {
    unicode::Flags any;
    constexpr bool operator()(const Glyph& g) const noexcept { return g.is(any); }
};

struct DeepseekLetter {
    constexpr bool operator()(const Glyph& g) const noexcept { return deepseek::contains(deepseek::letters, g.code); }
};

struct DeepseekMark {
    constexpr bool operator()(const Glyph& g) const noexcept { return deepseek::contains(deepseek::marks, g.code); }
};

/// A run of CJK, Hangul and whatever else lies between. White space inside the range does not count.
struct DeepseekUncased {
    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        const char* last = nullptr;
        for (;;) {
            const Glyph g = unicode::glyph_at(p, end);
            if (g.length == 0 || g.is(unicode::space) || !deepseek::contains(deepseek::uncased, g.code)) return last;
            last = p += g.length;
        }
    }
};

/// Cuts off the white space at the end. Not a match for cut(): that would look to the end of each run of white
/// space once for every character in it.
inline void cut_trailing_spaces(const char* p, const char* end, PieceSink sink) {
    const char* tail = p;
    for (const char* at = p; at < end;) {
        const Glyph g = unicode::glyph_at(at, end);
        at += g.length;
        if (!g.is(unicode::space)) tail = at;
    }
    if (p < tail) sink(p, tail);
    if (tail < end) sink(tail, end);
}

}  // namespace detail::split

}  // namespace adainfer::inline v0
