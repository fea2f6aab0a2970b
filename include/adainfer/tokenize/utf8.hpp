#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

namespace detail::utf8 {

inline constexpr std::uint32_t replacement = 0xFFFD;
inline constexpr std::uint32_t max_code_point = 0x10FFFF;

/// A code point and the bytes it took. An invalid byte decodes to U+FFFD of length 1; `valid` tells it from
/// a U+FFFD that is really in the text.
struct Decoded {
    std::uint32_t code;
    std::uint32_t length;
    bool valid;
};

[[nodiscard]] constexpr std::uint32_t byte_at(const char* p) noexcept { return static_cast<unsigned char>(*p); }

[[nodiscard]] constexpr bool is_continuation(std::uint32_t byte) noexcept { return (byte & 0xC0U) == 0x80U; }

/// Bytes that a lead byte announces; 0 where no sequence starts with it.
[[nodiscard]] constexpr std::uint32_t announced_length(std::uint32_t lead) noexcept {
    if (lead < 0x80U) return 1;
    if (lead < 0xC0U) return 0;
    if (lead < 0xE0U) return 2;
    if (lead < 0xF0U) return 3;
    return lead < 0xF8U ? 4 : 0;
}

/// Decodes by the bit layout alone: overlong forms and surrogates come back as the number they spell.
/// Requires p < end.
[[nodiscard]] constexpr Decoded decode_by_layout(const char* p, const char* end) noexcept {
    const std::uint32_t lead = byte_at(p);
    const std::uint32_t length = announced_length(lead);
    if (length == 1) return {lead, 1, true};
    if (length == 0 || static_cast<std::size_t>(end - p) < length) return {replacement, 1, false};
    std::uint32_t code = lead & (0x7FU >> length);
    for (std::uint32_t i = 1; i < length; ++i) {
        const std::uint32_t byte = byte_at(p + i);
        if (!is_continuation(byte)) return {replacement, 1, false};
        code = (code << 6U) | (byte & 0x3FU);
    }
    if (code > max_code_point) return {replacement, 1, false};
    return {code, length, true};
}

[[nodiscard]] constexpr std::uint32_t encoded_length(std::uint32_t code) noexcept {
    if (code < 0x80U) return 1;
    if (code < 0x800U) return 2;
    return code < 0x10000U ? 3 : 4;
}

/// As decode_by_layout, but an overlong form is invalid. Lone surrogates stay: the vocabularies' own trainers
/// and the reference implementation let them through.
[[nodiscard]] constexpr Decoded decode(const char* p, const char* end) noexcept {
    const Decoded d = decode_by_layout(p, end);
    if (d.valid && encoded_length(d.code) != d.length) return {replacement, 1, false};
    return d;
}

/// Requires code <= max_code_point.
inline void append(std::string& out, std::uint32_t code) {
    const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
    switch (encoded_length(code)) {
        case 1: put(code); return;
        case 2: put(0xC0U | (code >> 6U)); break;
        case 3:
            put(0xE0U | (code >> 12U));
            put(0x80U | ((code >> 6U) & 0x3FU));
            break;
        default:
            put(0xF0U | (code >> 18U));
            put(0x80U | ((code >> 12U) & 0x3FU));
            put(0x80U | ((code >> 6U) & 0x3FU));
            break;
    }
    put(0x80U | (code & 0x3FU));
}

/// First byte that decode() finds invalid, or `end`.
[[nodiscard]] inline const char* find_invalid(const char* p, const char* end) noexcept {
    while (p < end) {
        if (byte_at(p) < 0x80U) {
            ++p;
            continue;
        }
        const Decoded d = decode(p, end);
        if (!d.valid) return p;
        p += d.length;
    }
    return end;
}

/// Replaces every invalid byte with U+FFFD and every overlong form with the short one. llama.cpp does the same
/// before it splits, so the ids agree on any input it accepts.
[[nodiscard]] inline std::string repair(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 16);
    const char* p = text.data();
    const char* const end = p + text.size();
    while (p < end) {
        const Decoded d = decode_by_layout(p, end);
        append(out, d.code);
        p += d.length;
    }
    return out;
}

}  // namespace detail::utf8

}  // namespace adainfer::inline v0
