#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "adainfer/tokenize/utf8.hpp"

// Text and numbers as an SVG file holds them. Names come from files and command lines, so nothing is taken as it is.

namespace cli::chart {

/// About how wide a character is in a sans-serif font, as a share of the font size; rather too wide than too narrow.
[[nodiscard]] constexpr double width_of(std::uint32_t code) noexcept {
    constexpr std::string_view narrow = "fijlrtI.,:;'|!()[]/ ", wide = "mwMW@%";
    if (code < 0x80U) {
        const char c = static_cast<char>(code);
        if (narrow.find(c) != std::string_view::npos) return 0.4;
        return wide.find(c) != std::string_view::npos ? 0.95 : (c >= 'A' && c <= 'Z') ? 0.74 : 0.62;
    }
    return code < 0x1100U ? 0.7 : 1.1;
}

/// What an XML 1.0 document may hold; control characters and line ends become blanks, what is no character U+FFFD.
[[nodiscard]] constexpr std::uint32_t printable(std::uint32_t code) noexcept {
    if (code < 0x20U || (code >= 0x7FU && code < 0xA0U)) return ' ';
    if ((code >= 0xD800U && code < 0xE000U) || code == 0xFFFEU || code == 0xFFFFU) return adainfer::detail::utf8::replacement;
    return code;
}

/// Calls visit(code point) for each character of UTF-8 text, made printable.
template <class Visit>
void for_each_character(std::string_view text, Visit&& visit) {
    const char *at = text.data(), *const end = text.data() + text.size();
    while (at != end) {
        const auto decoded = adainfer::detail::utf8::decode(at, end);
        at += decoded.length;
        visit(printable(decoded.code));
    }
}

/// Width of a text in pixels.
[[nodiscard]] inline double text_width(std::string_view text, double font_size) {
    double width = 0;
    for_each_character(text, [&](std::uint32_t code) { width += width_of(code); });
    return width * font_size;
}

/// The text as the content of an element or of a quoted attribute.
[[nodiscard]] inline std::string escaped(std::string_view text) {
    std::string out;
    for_each_character(text, [&](std::uint32_t code) {
        switch (code) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                adainfer::detail::utf8::append(out, code);
        }
    });
    return out;
}

/// The text, or as much of its beginning as fits into so many pixels and an ellipsis. Not escaped.
[[nodiscard]] inline std::string shortened(std::string_view text, double font_size, double most) {
    if (text_width(text, font_size) <= most) return std::string(text);
    std::string out;
    double left = most / font_size - width_of(0x2026U);
    bool full = false;
    for_each_character(text, [&](std::uint32_t code) {
        left -= width_of(code);
        full = full || left < 0;
        if (!full) adainfer::detail::utf8::append(out, code);
    });
    adainfer::detail::utf8::append(out, 0x2026U);
    return out;
}

/// A number with at most so many digits after the point, without needless zeros, whatever the locale.
[[nodiscard]] inline std::string number(double value, int digits = 1) {
    char text[64];
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, digits).ptr;
    std::string out(text, end);
    if (out.find('.') != std::string::npos) {
        out.erase(out.find_last_not_of('0') + 1);
        if (out.back() == '.') out.pop_back();
    }
    return out == "-0" ? "0" : out;
}

}  // namespace cli::chart
