#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/generate/chat_source.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// A word (or number), string or operator of an expression. A string holds what it stands for, not how it was written.
struct Token {
    enum class Kind { Word, String, Operator } kind;
    std::string text;

    /// Whether it is this word or operator.
    [[nodiscard]] bool is(std::string_view what) const { return kind != Kind::String && text == what; }
    [[nodiscard]] bool is_word() const { return kind == Kind::Word; }
    [[nodiscard]] bool is_string() const { return kind == Kind::String; }
};

using Tokens = std::vector<Token>;
using TokenSpan = std::span<const Token>;

[[nodiscard]] inline bool is_word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

[[nodiscard]] inline bool is_name(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), is_word_char);
}

/// The tokens of an expression or a statement; nothing where a string does not end or has an escape other than the usual ones.
[[nodiscard]] inline std::optional<Tokens> read_tokens(std::string_view code) {
    constexpr std::string_view escapes = "n\nt\tr\r\\\\''\"\"";  // pairs: letter, meaning
    Tokens tokens;
    for (std::size_t i = 0; i < code.size();) {
        const char c = code[i];
        std::size_t end = i + 1;
        if (is_blank(c)) {
        } else if (is_word_char(c)) {
            while (end < code.size() && is_word_char(code[end])) ++end;
            tokens.push_back({Token::Kind::Word, std::string(code.substr(i, end - i))});
        } else if (c == '\'' || c == '"') {
            std::string text;
            for (; end < code.size() && code[end] != c; ++end) {
                if (code[end] != '\\') {
                    text += code[end];
                    continue;
                }
                std::size_t escape = 0;
                if (++end == code.size()) return std::nullopt;
                while (escape < escapes.size() && escapes[escape] != code[end]) escape += 2;
                if (escape >= escapes.size()) return std::nullopt;
                text += escapes[escape + 1];
            }
            if (end++ >= code.size()) return std::nullopt;
            tokens.push_back({Token::Kind::String, std::move(text)});
        } else {
            if (end < code.size() && code[end] == '=' && std::string_view("=!<>").find(c) != std::string_view::npos) ++end;
            tokens.push_back({Token::Kind::Operator, std::string(code.substr(i, end - i))});
        }
        i = end;
    }
    return tokens;
}

/// One spelling for what is the same: fields as x.name, x.strip() as x|trim, ~ as +, loop.index0==0 as loop.first, 'a'+'b' as
/// 'ab', raise_exception() without its message.
[[nodiscard]] inline Tokens tidied(TokenSpan tokens) {
    Tokens out;
    const auto ends = [&](std::initializer_list<std::string_view> parts) {
        if (out.size() < parts.size()) return false;
        std::size_t i = out.size() - parts.size();
        for (const std::string_view part : parts) {
            if (!out[i++].is(part)) return false;
        }
        return true;
    };
    const auto replace = [&](std::size_t count, std::string_view sign, std::string_view word) {
        out.resize(out.size() - count, Token{});
        out.push_back({Token::Kind::Operator, std::string(sign)});
        out.push_back({Token::Kind::Word, std::string(word)});
    };
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const auto next_is = [&](std::string_view what) { return i + 1 < tokens.size() && tokens[i + 1].is(what); };
        out.push_back(tokens[i]);
        const std::size_t n = out.size();
        if (out.back().is("~")) {
            out.back().text = "+";
        } else if (n >= 4 && out[n - 1].is("]") && out[n - 2].is_string() && out[n - 3].is("[") && is_name(out[n - 2].text) &&
                   (out[n - 4].is_word() || out[n - 4].is("]") || out[n - 4].is(")"))) {
            replace(3, ".", std::string(out[n - 2].text));
        } else if (ends({".", "strip", "(", ")"})) {
            replace(4, "|", "trim");
        } else if (ends({"loop", ".", "index0", "==", "0"})) {
            replace(4, ".", "first");
        } else if (n >= 4 && out[n - 1].is(")") && out[n - 2].is_string() && out[n - 3].is("(") &&
                   out[n - 4].is("raise_exception")) {
            out.erase(out.end() - 2);
        } else if (n >= 3 && out[n - 1].is_string() && out[n - 2].is("+") && out[n - 3].is_string() && !next_is(".") &&
                   !next_is("|") && !next_is("[") && !next_is("*") && !next_is("%") &&
                   !(n >= 4 && (out[n - 4].is("%") || out[n - 4].is("*")))) {
            out[n - 3].text += out[n - 1].text;
            out.resize(n - 2, Token{});
        }
    }
    return out;
}

/// The tokens as text, with blanks only between words.
[[nodiscard]] inline std::string written(TokenSpan tokens) {
    std::string text;
    bool after_word = false;
    for (const Token& token : tokens) {
        if (token.is_string()) {
            if (after_word) text += ' ';
            text += '\'';
            for (const char c : token.text) {
                if (c == '\\' || c == '\'') text += '\\';
                if (c == '\n') text += "\\n";
                else text += c;
            }
            text += '\'';
        } else {
            if (after_word && token.is_word()) text += ' ';
            text += token.text;
        }
        after_word = token.kind != Token::Kind::Operator;
    }
    return text;
}

}  // namespace detail::chat

}  // namespace adainfer::inline v0
