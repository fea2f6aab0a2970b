#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "adainfer/generate/chat_reader.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// Gemma: <start_of_turn>user or model NEWLINE content<end_of_turn> NEWLINE, contents trimmed. There is no system turn: Gemma 1
/// and 2 refuse a system message, Gemma 3 puts it in front of the first user message.
struct Gemma {
    bool bos = false;
    std::optional<std::string> after_system;  ///< what stands between the system's text and the user's; none: system refused

    [[nodiscard]] static std::optional<Known> recognise(std::string_view outline) {
        OutlineReader in(outline);
        Gemma style;
        std::string separator;
        style.bos = in.take("{{bos_token}}");
        if (in.take("{%if messages[0].role=='system'%}{%set first_user_prefix=messages[0].content+'", separator,
                    "'%}{%set loop_messages=messages[1:]%}{%else%}{%set first_user_prefix=''%}{%set loop_messages=messages%}"
                    "{%endif%}{%for message in loop_messages%}")) {
            style.after_system = separator;
        } else if (!in.take("{%if messages[0].role=='system'%}{{raise_exception()}}{%endif%}{%for message in messages%}")) {
            return std::nullopt;
        }
        if (!in.take(alternation_check) ||
            !in.take("{%if message.role=='assistant'%}{%set role='model'%}{%else%}{%set role=message.role%}{%endif%}") ||
            !in.take(R"({{'<start_of_turn>'+role+'\n'+)") ||
            (style.after_system && !in.take("(first_user_prefix if loop.first else '')+")) ||
            !in.take(R"(message.content|trim+'<end_of_turn>\n'}}{%endfor%})") ||
            !in.take(R"({%if add_generation_prompt%}{{'<start_of_turn>model\n'}}{%endif%})") || !in.at_end()) {
            return std::nullopt;
        }
        return Known{"Gemma", "<end_of_turn>", style};
    }

    std::string operator()(Messages messages, bool add_generation_prompt, const ChatTokens& tokens) const {
        const auto [system, turns] = split_system(messages);
        if (!after_system) refuse_system(system, "Gemma");
        require_alternation(turns, "Gemma");
        std::string text = bos ? tokens.bos : std::string();
        std::string prefix = system == nullptr ? std::string() : system->content + after_system.value_or("");
        for (const ChatMessage& message : turns) {
            text.append("<start_of_turn>").append(message.role == "assistant" ? "model" : "user").append("\n");
            text.append(prefix).append(trimmed(message.content)).append("<end_of_turn>\n");
            prefix.clear();
        }
        if (add_generation_prompt) text.append("<start_of_turn>model\n");
        return text;
    }
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
