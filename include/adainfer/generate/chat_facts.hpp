#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/generate/chat_expression.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// A condition as far as it can be told before a conversation is there.
struct Condition {
    std::optional<bool> value;  ///< where it is known
    Tokens tokens;              ///< else what is left of it
    std::vector<std::string> alternatives;  ///< the parts that `or` joins, each as text
    bool joined = false;        ///< by `or` or `and`
};

/// What is known about a template's names when plain text is rendered: no tools, no documents, messages of a role (system, user
/// or assistant) and a content that is text, and the constants that the template sets itself.
class Facts {
  public:
    enum class Kind { Given, Perhaps, True, False, None, String, Alias };
    struct Value {
        Kind kind;
        std::string text;  ///< of a String; the other name of an Alias
    };

    [[nodiscard]] bool is_given(std::string_view name) const { return kind_of(name) == Kind::Given; }

    void set(const std::string& name, Value value) {
        for (auto& [other, known] : names_) {
            if (known.kind == Kind::Alias && known.text == name) known = {Kind::Perhaps, {}};
        }
        names_[name] = std::move(value);
    }

    /// Number of names in use.
    [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }

    /// The expression with constants in place of their names, as long as the template's constants fill no more than `most_text`.
    [[nodiscard]] Tokens substituted(TokenSpan tokens) {
        Tokens result;
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const bool is_field = i > 0 && tokens[i - 1].is(".");
            const bool is_argument = i + 1 < tokens.size() && tokens[i + 1].is("=");
            const auto found = tokens[i].is_word() && !is_field && !is_argument ? names_.find(tokens[i].text) : names_.end();
            if (found != names_.end() && found->second.kind == Kind::String && found->second.text.size() <= text_left_) {
                text_left_ -= found->second.text.size();
                result.push_back({Token::Kind::String, found->second.text});
            } else if (found != names_.end() && found->second.kind == Kind::Alias) {
                result.push_back({Token::Kind::Word, found->second.text});
            } else {
                result.push_back(tokens[i]);
            }
        }
        return tidied(result);
    }

    using Texts = std::set<std::string, std::less<>>;

    /// What is left of a condition where the expressions `known_false` do not hold.
    [[nodiscard]] Condition simplified(TokenSpan tokens, const Texts& known_false = {}) {
        if (std::any_of(tokens.begin(), tokens.end(), [](const Token& token) { return token.is("if"); })) {
            return {std::nullopt, Tokens(tokens.begin(), tokens.end()), {}, false};
        }
        return join(tokens, "or", known_false, 0);
    }

  private:
    static constexpr std::size_t deepest = 32, most_text = std::size_t{1} << 20U;

    [[nodiscard]] std::optional<Kind> kind_of(std::string_view name) const {
        const auto found = names_.find(name);
        return found == names_.end() ? std::nullopt : std::optional<Kind>(found->second.kind);
    }

    [[nodiscard]] static Condition constant(bool value) { return {value, {}, {}, false}; }

    /// Position after the bracket that closes the one at `open`.
    [[nodiscard]] static std::size_t after_bracket(TokenSpan tokens, std::size_t open) {
        std::size_t depth = 0;
        for (std::size_t i = open; i < tokens.size(); ++i) {
            if (tokens[i].is("(") || tokens[i].is("[")) ++depth;
            if ((tokens[i].is(")") || tokens[i].is("]")) && --depth == 0) return i + 1;
        }
        return tokens.size();
    }

    /// a or b or ..., each of them c and d and ...
    [[nodiscard]] Condition join(TokenSpan tokens, std::string_view word, const Texts& known_false, std::size_t depth) {
        const bool is_or = word == "or";
        Condition result;
        std::size_t parts = 0;
        for (std::size_t first = 0, i = 0; i <= tokens.size(); ++i) {
            if (i < tokens.size() && (tokens[i].is("(") || tokens[i].is("["))) i = after_bracket(tokens, i);
            if (i < tokens.size() && !tokens[i].is(word)) continue;
            const TokenSpan part = tokens.subspan(first, i - first);
            Condition next = is_or ? join(part, "and", known_false, depth) : single(part, known_false, depth);
            first = i + 1;
            if (next.value == is_or) return constant(is_or);
            if (next.value) continue;
            if (parts++ > 0) result.tokens.push_back({Token::Kind::Word, std::string(word)});
            const bool bracket = !is_or && !next.alternatives.empty() && next.alternatives.size() > 1;
            if (bracket) next.tokens.insert(next.tokens.begin(), {Token::Kind::Operator, "("});
            if (bracket) next.tokens.push_back({Token::Kind::Operator, ")"});
            result.tokens.insert(result.tokens.end(), next.tokens.begin(), next.tokens.end());
            result.joined = parts > 1 || next.joined;
            if (is_or && next.alternatives.empty()) result.alternatives.push_back(written(next.tokens));
            if (is_or || tokens.size() == part.size()) {
                result.alternatives.insert(result.alternatives.end(), next.alternatives.begin(), next.alternatives.end());
            }
        }
        if (parts == 0) return constant(!is_or);
        return result;
    }

    [[nodiscard]] Condition single(TokenSpan tokens, const Texts& known_false, std::size_t depth) {
        bool negated = false;
        std::size_t nots = 0;
        for (; nots < tokens.size() && tokens[nots].is("not"); ++nots) negated = !negated;
        if (nots > 0) {
            Condition inner = single(tokens.subspan(nots), known_false, depth);
            if (inner.value) return constant(*inner.value != negated);
            if (!negated) return inner;
            if (inner.joined) {
                inner.tokens.insert(inner.tokens.begin(), {Token::Kind::Operator, "("});
                inner.tokens.push_back({Token::Kind::Operator, ")"});
            }
            inner.tokens.insert(inner.tokens.begin(), {Token::Kind::Word, "not"});
            return {std::nullopt, std::move(inner.tokens), {}, false};
        }
        const bool bracketed = !tokens.empty() && tokens[0].is("(") && tokens.back().is(")");
        if (depth < deepest && bracketed && after_bracket(tokens, 0) == tokens.size()) {
            return join(tokens.subspan(1, tokens.size() - 2), "or", known_false, depth + 1);
        }
        Tokens left = substituted(tokens);
        if (known_false.contains(written(left))) return constant(false);
        if (const std::optional<bool> value = told(tokens)) return constant(*value);
        return {std::nullopt, std::move(left), {}, false};
    }

    /// The truth of an expression without and, or and not, where it can be told.
    [[nodiscard]] std::optional<bool> told(TokenSpan tokens) const {
        const bool is_message = is_given("message");  // in a loop over them
        const std::size_t field = tokens.empty() || (tokens[0].is("message") && !is_message) ? 0 : message_field(tokens);
        if (field != 0) return told_of_field(tokens[field].text, tokens.subspan(field + 1));
        if (tokens.size() == 3 && tokens[0].is_string() && tokens[1].is("in") && tokens[2].is("message") && is_message) {
            return is_field(tokens[0].text);
        }
        if (tokens.empty() || !tokens[0].is_word()) return std::nullopt;
        if (tokens.size() == 3 && tokens[1].is("==") && tokens[2].is("true") && (tokens[0].is("true") || tokens[0].is("false"))) {
            return tokens[0].is("true");
        }
        const std::string& name = tokens[0].text;
        if (tokens.size() == 1) {
            if (name == "true" || name == "True") return true;
            if (name == "false" || name == "False" || name == "none" || name == "None") return false;
        }
        const std::optional<Kind> kind = kind_of(name);
        const auto is_test = [&](std::string_view test) { return tested(tokens, test); };
        if (tokens.size() == 1) {
            if (!kind || kind == Kind::False || kind == Kind::None) return false;
            if (kind == Kind::True) return true;
            if (kind == Kind::String) return !names_.find(name)->second.text.empty();
        }
        if (kind == Kind::Perhaps || kind == Kind::Alias) return std::nullopt;
        if (const auto asked = is_test("defined")) return asked == kind.has_value();
        if (const auto asked = is_test("none"); asked && kind != Kind::Given) return asked == (kind == Kind::None);
        return std::nullopt;
    }

    /// For x is test: true; for x is not test: false; nothing for other expressions.
    [[nodiscard]] static std::optional<bool> tested(TokenSpan tokens, std::string_view test) {
        if (tokens.size() == 3 && tokens[1].is("is") && tokens[2].is(test)) return true;
        if (tokens.size() == 4 && tokens[1].is("is") && tokens[2].is("not") && tokens[3].is(test)) return false;
        return std::nullopt;
    }

    [[nodiscard]] static bool is_field(std::string_view name) { return name == "role" || name == "content"; }

    /// Where the expression begins with a field of a message, e.g. message.role or messages[0].role: the index of that field.
    [[nodiscard]] static std::size_t message_field(TokenSpan tokens) {
        std::size_t dot = 0;
        if (tokens.size() >= 3 && tokens[0].is("message")) dot = 1;
        if (tokens.size() >= 6 && (tokens[0].is("messages") || tokens[0].is("loop_messages")) && tokens[1].is("[")) {
            dot = after_bracket(tokens, 1);
        }
        return dot != 0 && dot + 1 < tokens.size() && tokens[dot].is(".") && tokens[dot + 1].is_word() ? dot + 1 : 0;
    }

    [[nodiscard]] static std::optional<bool> told_of_field(std::string_view field, TokenSpan rest) {
        if (rest.empty()) return is_field(field) ? std::nullopt : std::optional<bool>(false);
        const Token name{Token::Kind::Word, std::string(field)};
        Tokens whole{name};
        whole.insert(whole.end(), rest.begin(), rest.end());
        constexpr std::array<std::pair<std::string_view, bool>, 6> of_text{
            {{"defined", true}, {"string", true}, {"iterable", true}, {"none", false}, {"mapping", false}, {"undefined", false}}};
        for (const auto& [test, holds] : of_text) {
            if (const auto asked = tested(whole, test)) return asked == (is_field(field) ? holds : test == "undefined");
        }
        if (field == "role" && rest.size() == 2 && (rest[0].is("==") || rest[0].is("!=")) && rest[1].is_string()) {
            const std::string& role = rest[1].text;
            if (role != "system" && role != "user" && role != "assistant") return rest[0].is("!=");
        }
        return std::nullopt;
    }

    std::map<std::string, Value, std::less<>> names_{
        {"messages", {Kind::Given, {}}},  {"add_generation_prompt", {Kind::Given, {}}},
        {"bos_token", {Kind::Given, {}}}, {"eos_token", {Kind::Given, {}}},
        {"loop", {Kind::Given, {}}},      {"raise_exception", {Kind::Given, {}}},
        {"namespace", {Kind::Given, {}}}, {"range", {Kind::Given, {}}},
        {"dict", {Kind::Given, {}}},      {"tools", {Kind::None, {}}},
        {"documents", {Kind::None, {}}},
    };
    std::size_t text_left_ = most_text;
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
