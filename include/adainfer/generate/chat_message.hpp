#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// One turn of a conversation.
struct ChatMessage {
    std::string role;  ///< "system", "user" or "assistant"
    std::string content;

    [[nodiscard]] friend bool operator==(const ChatMessage&, const ChatMessage&) = default;
};

/// What a template knows as bos_token and eos_token: the texts of these tokens, empty where the model has none.
struct ChatTokens {
    std::string bos, eos;
};

namespace detail::chat {

using Messages = std::span<const ChatMessage>;

/// A recognised template: the conversation as text, with or without the opening of the assistant's answer at the end.
using Render = std::function<std::string(Messages messages, bool add_generation_prompt, const ChatTokens& tokens)>;

[[nodiscard]] inline bool is_system(const ChatMessage& message) noexcept { return message.role == "system"; }

/// The first message where it is a system message, else none; and the messages after it.
[[nodiscard]] inline std::pair<const ChatMessage*, Messages> split_system(Messages messages) {
    const bool has_system = is_system(messages.front());
    return {has_system ? &messages.front() : nullptr, messages.subspan(has_system ? 1 : 0)};
}

/// Throws InvalidArgument unless the roles are user, assistant, user, ... and nothing else: such templates raise an exception.
inline void require_alternation(Messages messages, std::string_view family) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const std::string_view expected = i % 2 == 0 ? "user" : "assistant";
        if (messages[i].role == expected) continue;
        fail(ErrorCode::InvalidArgument, "after an optional system message, a conversation for a ", family,
             " template alternates between user and assistant: message ", i + 1, " of these is by ", messages[i].role,
             ", not by ", expected);
    }
}

/// Throws InvalidArgument: the template raises an exception for a system message.
inline void refuse_system(const ChatMessage* system, std::string_view family) {
    if (system == nullptr) return;
    fail(ErrorCode::InvalidArgument, "this ", family,
         " template takes no system message: put its text into the first user message");
}

/// Without the white space at both ends, as Python's str.strip() and Jinja's trim see it.
[[nodiscard]] inline std::string trimmed(std::string_view text) {
    constexpr std::string_view more[] = {"\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005",
                                         "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f",
                                         "\u3000"};
    const auto is_blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f'); };
    for (bool found = true; found && !text.empty();) {
        found = is_blank(text.front());
        if (found) text.remove_prefix(1);
        for (const std::string_view blank : more) {
            if (!text.starts_with(blank)) continue;
            text.remove_prefix(blank.size());
            found = true;
        }
    }
    for (bool found = true; found && !text.empty();) {
        found = is_blank(text.back());
        if (found) text.remove_suffix(1);
        for (const std::string_view blank : more) {
            if (!text.ends_with(blank)) continue;
            text.remove_suffix(blank.size());
            found = true;
        }
    }
    return std::string(text);
}

[[nodiscard]] inline std::string trimmed_if(bool trim, std::string_view text) { return trim ? trimmed(text) : std::string(text); }

}  // namespace detail::chat

}  // namespace adainfer::inline v0
