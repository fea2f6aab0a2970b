#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace adainfer::inline v0 {

namespace detail::chat {

/// Text to be put out, or the inside of {{ }} or {% %}.
struct Piece {
    enum class Kind { Text, Output, Statement } kind;
    std::string text;
};

[[nodiscard]] inline bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

[[nodiscard]] inline bool opens_tag(std::string_view text) {
    return text.starts_with("{{") || text.starts_with("{%") || text.starts_with("{#");
}

/// Cuts a Jinja template at its tags. Blanks and line breaks around them go as in Jinja with trim_blocks and lstrip_blocks,
/// which is how chat templates are rendered. Nothing where a tag does not end.
[[nodiscard]] inline std::optional<std::vector<Piece>> cut(std::string_view source) {
    if (source.ends_with('\n')) source.remove_suffix(1);
    std::vector<Piece> pieces;
    bool line_start = true;
    for (std::size_t at = 0; at < source.size();) {
        std::size_t open = at;
        while (open < source.size() && !opens_tag(source.substr(open))) ++open;
        std::string_view text = source.substr(at, open - at);
        const char kind = open < source.size() ? source[open + 1] : ' ';
        std::size_t first = open + 2;
        const char sign = first < source.size() ? source[first] : ' ';
        if (open < source.size() && sign == '-') {
            while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
        } else if ((kind == '%' || kind == '#') && sign != '+') {
            const std::size_t line = text.rfind('\n') + 1;  // 0 where there is none
            const bool blank = text.find_first_not_of(" \t\v\f\r", line) == std::string_view::npos;
            if (blank && (line > 0 || line_start)) text = text.substr(0, line);
        }
        if (!text.empty()) pieces.push_back({Piece::Kind::Text, std::string(text)});
        if (open == source.size()) break;
        if (sign == '-' || sign == '+') ++first;

        std::size_t close = std::string_view::npos;
        if (kind == '#') {
            close = source.find("#}", first);
        } else {
            std::size_t depth = 0;
            for (std::size_t i = first; i + 1 < source.size() && close == std::string_view::npos; ++i) {
                const char c = source[i];
                if (depth == 0 && source[i + 1] == '}' && c == (kind == '{' ? '}' : '%')) close = i;
                else if (c == '(' || c == '[' || c == '{') ++depth;
                else if ((c == ')' || c == ']' || c == '}') && depth > 0) --depth;
                else if (c == '\'' || c == '"') {
                    for (++i; i < source.size() && source[i] != c; ++i) i += source[i] == '\\' ? 1U : 0U;
                }
            }
        }
        if (close == std::string_view::npos) return std::nullopt;
        const char last = close > first ? source[close - 1] : ' ';
        const bool signed_end = last == '-' || (last == '+' && kind != '{');
        if (kind != '#') {
            pieces.push_back({kind == '{' ? Piece::Kind::Output : Piece::Kind::Statement,
                              std::string(source.substr(first, close - first - (signed_end ? 1 : 0)))});
        }
        at = close + 2;
        if (last == '-') {
            while (at < source.size() && is_blank(source[at])) ++at;
        } else if (kind != '{' && !signed_end && at < source.size() && source[at] == '\n') {
            ++at;
        }
        line_start = source[at - 1] == '\n';
    }
    return pieces;
}

}  // namespace detail::chat

}  // namespace adainfer::inline v0
