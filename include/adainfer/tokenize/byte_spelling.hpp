#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

/// Byte-level vocabularies write every byte as one printable character: visible Latin-1 characters stand for
/// themselves, the other 68 bytes, in order, for U+0100 and up.
namespace detail::byte_spelling {

inline constexpr std::uint32_t first_substitute = 0x100;
inline constexpr std::size_t substitutes = 68;

[[nodiscard]] constexpr bool stands_for_itself(std::uint32_t byte) noexcept {
    return (byte >= 0x21U && byte <= 0x7EU) || (byte >= 0xA1U && byte <= 0xACU) || (byte >= 0xAEU && byte <= 0xFFU);
}

struct Tables {
    std::array<std::uint16_t, 256> code_of{};
    std::array<unsigned char, substitutes> byte_of{};  ///< index: code point - first_substitute
};

[[nodiscard]] constexpr Tables make_tables() noexcept {
    Tables t;
    std::size_t next = 0;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        if (stands_for_itself(byte)) {
            t.code_of[byte] = static_cast<std::uint16_t>(byte);
        } else {
            t.code_of[byte] = static_cast<std::uint16_t>(first_substitute + next);
            t.byte_of[next++] = static_cast<unsigned char>(byte);
        }
    }
    return t;
}

inline constexpr Tables tables = make_tables();

inline void append_spelled(std::string& out, std::string_view bytes) {
    for (const char& c : bytes) utf8::append(out, tables.code_of[utf8::byte_at(&c)]);
}

[[nodiscard]] inline std::string spelled(std::string_view bytes) {
    std::string out;
    append_spelled(out, bytes);
    return out;
}

/// Appends the bytes that `spelling` stands for; false, and nothing appended, where it is not a byte spelling.
[[nodiscard]] inline bool append_bytes(std::string& out, std::string_view spelling) {
    const std::size_t before = out.size();
    const char* p = spelling.data();
    const char* const end = p + spelling.size();
    while (p < end) {
        const utf8::Decoded d = utf8::decode(p, end);
        std::uint32_t byte = d.code;
        if (d.valid && d.code >= first_substitute && d.code < first_substitute + substitutes) {
            byte = tables.byte_of[d.code - first_substitute];
        } else if (!d.valid || !stands_for_itself(d.code)) {
            out.resize(before);
            return false;
        }
        out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
        p += d.length;
    }
    return true;
}

}  // namespace detail::byte_spelling

}  // namespace adainfer::inline v0
