#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/tokenize/nfc_classes.hpp"
#include "adainfer/tokenize/nfc_pairs.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

/// Unicode Normalization Form C (UAX #15), which some vocabularies want their text in.
namespace detail::nfc {

/// Below, everything is in NFC; only the last code point can compose with what follows.
inline constexpr std::uint32_t first_active = 0x300;

/// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
inline constexpr std::uint32_t syllables = 0xAC00, leads = 0x1100, vowels = 0x1161, trails = 0x11A7;
inline constexpr std::uint32_t lead_count = 19, vowel_count = 21, trail_count = 28, syllable_count = 11172;

inline constexpr std::uint32_t part_mask = 0x1FFFFF;

/// Whether NFC can change or move this code point or compose it with one before.
[[nodiscard]] constexpr bool is_active(std::uint32_t code) noexcept {
    if (code < first_active) return false;
    return (std::upper_bound(edges.begin(), edges.end(), code) - edges.begin()) % 2 == 0;
}

[[nodiscard]] constexpr std::uint32_t combining_class(std::uint32_t code) noexcept {
    if (code < first_active) return 0;
    return *(std::upper_bound(classes.begin(), classes.end(), (code << 8U) | 0xFFU) - 1) & 0xFFU;
}

/// The code point that the two compose to, or 0.
[[nodiscard]] constexpr std::uint32_t compose(std::uint32_t first, std::uint32_t second) noexcept {
    if (first - leads < lead_count && second - vowels < vowel_count)
        return syllables + ((first - leads) * vowel_count + (second - vowels)) * trail_count;
    if (first - syllables < syllable_count && (first - syllables) % trail_count == 0 && second > trails &&
        second - trails < trail_count)
        return first + (second - trails);
    constexpr std::uint64_t parts = (std::uint64_t{1} << 42U) - 1;
    const std::uint64_t key = (std::uint64_t{first} << 21U) | second;
    const auto found = std::lower_bound(composing.begin(), composing.end(), key,
                                        [](std::uint16_t i, std::uint64_t k) { return (pairs[i] & parts) < k; });
    if (found == composing.end() || (pairs[*found] & parts) != key) return 0;
    return static_cast<std::uint32_t>(pairs[*found] >> 42U);
}

/// A code point with its canonical combining class.
struct Mark {
    std::uint32_t code, order;
};

/// Appends the full canonical decomposition of a code point.
inline void decompose(std::uint32_t code, std::vector<Mark>& out) {
    if (code - syllables < syllable_count) {
        const std::uint32_t index = code - syllables;
        out.push_back({leads + index / (vowel_count * trail_count), 0});
        out.push_back({vowels + index % (vowel_count * trail_count) / trail_count, 0});
        if (index % trail_count != 0) out.push_back({trails + index % trail_count, 0});
        return;
    }
    const std::uint64_t pair_key = std::uint64_t{code} << 42U;
    const auto pair = std::lower_bound(pairs.begin(), pairs.end(), pair_key);
    if (pair != pairs.end() && *pair >> 42U == code) {
        decompose(static_cast<std::uint32_t>(*pair >> 21U) & part_mask, out);  // at most three levels deep
        decompose(static_cast<std::uint32_t>(*pair) & part_mask, out);
        return;
    }
    const auto single = std::lower_bound(singles.begin(), singles.end(), std::uint64_t{code} << 21U);
    if (single != singles.end() && *single >> 21U == code) {
        decompose(static_cast<std::uint32_t>(*single) & part_mask, out);
        return;
    }
    out.push_back({code, combining_class(code)});
}

/// Sorts each run of combining marks by class, then composes what composes. Appends the result.
inline void compose_all(std::vector<Mark>& marks, std::string& out) {
    const auto is_starter = [](const Mark& m) { return m.order == 0; };
    for (auto at = marks.begin(); at != marks.end();) {
        const auto end = std::find_if(at, marks.end(), is_starter);
        std::stable_sort(at, end, [](const Mark& a, const Mark& b) { return a.order < b.order; });
        at = end == marks.end() ? end : end + 1;
    }
    std::size_t kept = 0, starter = marks.size();
    for (const Mark mark : marks) {
        // Blocked: between the starter and this mark stands one of the same or a higher class, or another starter.
        const bool adjacent = starter + 1 == kept;
        if (starter < kept && (adjacent || (marks[kept - 1].order != 0 && marks[kept - 1].order < mark.order))) {
            if (const std::uint32_t whole = compose(marks[starter].code, mark.code)) {
                marks[starter].code = whole;
                continue;
            }
        }
        if (mark.order == 0) starter = kept;
        marks[kept++] = mark;
    }
    for (std::size_t i = 0; i < kept; ++i) utf8::append(out, marks[i].code);
}

/// The longest piece of the text that is certainly normalised and that nothing after it can change.
[[nodiscard]] inline std::string_view normalised_prefix(std::string_view text) noexcept {
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    const char* last = begin;  // where the last inactive code point begins
    for (const char* p = begin; p < end;) {
        if (utf8::byte_at(p) < 0x80U) {
            last = p++;
            continue;
        }
        const utf8::Decoded d = utf8::decode(p, end);
        if (d.valid && is_active(d.code)) return {begin, static_cast<std::size_t>(last - begin)};
        last = p;
        p += d.length;
    }
    return text;
}

/// The text in NFC. Bytes that are not UTF-8 stay as they are, and nothing composes across them. Time is linear but for
/// the sorting of marks that stand on one letter.
[[nodiscard]] inline std::string normalise(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    std::vector<Mark> marks;
    while (!text.empty()) {
        const std::string_view done = normalised_prefix(text);
        out.append(done);
        text.remove_prefix(done.size());
        // What is left begins with at most one inactive code point, then active ones.
        const char* const end = text.data() + text.size();
        const char* p = text.data();
        marks.clear();
        while (p < end) {
            const utf8::Decoded d = utf8::decode(p, end);
            if (!d.valid || (p != text.data() && !is_active(d.code))) break;
            decompose(d.code, marks);
            p += d.length;
        }
        compose_all(marks, out);
        text.remove_prefix(static_cast<std::size_t>(p - text.data()));
        if (marks.empty() && !text.empty()) {
            out.push_back(text.front());
            text.remove_prefix(1);
        }
    }
    return out;
}

}  // namespace detail::nfc

}  // namespace adainfer::inline v0
