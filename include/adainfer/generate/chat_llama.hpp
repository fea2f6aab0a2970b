#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "adainfer/generate/chat_reader.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// Llama 2: bos [INST] question [/INST] answer eos, contents trimmed; the system's text between <<SYS>> marks at the start of the
/// first question.
struct Llama2 {
    bool bos_once = false, bos_each = false;
    std::optional<std::string> preset;  ///< system message where the conversation has none

    [[nodiscard]] static std::optional<Known> recognise(std::string_view outline) {
        constexpr std::string_view all = "{%set loop_messages=messages%}";
        OutlineReader in(outline);
        Llama2 style;
        std::string preset;
        style.bos_once = in.take("{{bos_token}}");
        if (!in.take("{%if messages[0].role=='system'%}{%set loop_messages=messages[1:]%}"
                     "{%set system_message=messages[0].content%}")) {
            return std::nullopt;
        }
        if (in.take("{%elif not '<<SYS>>' in messages[0].content%}")) {
            if (!in.take(all) || !in.take("{%set system_message='", preset, "'%}")) return std::nullopt;
            style.preset = preset;
        }
        if (!in.take("{%else%}") || !in.take(all) || !in.take("{%set system_message=false%}{%endif%}") ||
            !in.take("{%for message in loop_messages%}") || !in.take(alternation_check) ||
            !in.take(R"({%if loop.first and system_message!=false%}{%set content='<<SYS>>\n'+system_message+'\n<</SYS>>\n\n')"
                     "+message.content%}{%else%}{%set content=message.content%}{%endif%}{%if message.role=='user'%}")) {
            return std::nullopt;
        }
        style.bos_each = in.take("{{bos_token+'[INST] '+content|trim+' [/INST]'}}");
        if (!style.bos_each && !in.take("{{'[INST] '+content|trim+' [/INST]'}}")) return std::nullopt;
        // Where roles alternate after the system message there is no other one.
        static_cast<void>(in.take(R"({%elif message.role=='system'%}{{'<<SYS>>\n'+content|trim+'\n<</SYS>>\n\n'}})"));
        if (!in.take("{%elif message.role=='assistant'%}{{' '+content|trim+' '+eos_token}}{%endif%}{%endfor%}") || !in.at_end()) {
            return std::nullopt;
        }
        return Known{"Llama 2", {}, style};
    }

    std::string operator()(Messages messages, bool, const ChatTokens& tokens) const {
        const auto [system, turns] = split_system(messages);
        require_alternation(turns, "Llama 2");
        std::optional<std::string> instruction;
        if (system != nullptr) instruction = system->content;
        else if (preset && messages.front().content.find("<<SYS>>") == std::string::npos) instruction = preset;
        std::string text = bos_once ? tokens.bos : std::string();
        for (std::size_t i = 0; i < turns.size(); ++i) {
            if (i % 2 == 1) {
                text.append(" ").append(trimmed(turns[i].content)).append(" ").append(tokens.eos);
                continue;
            }
            std::string content = turns[i].content;
            if (i == 0 && instruction) content = "<<SYS>>\n" + *instruction + "\n<</SYS>>\n\n" + content;
            text.append(bos_each ? tokens.bos : "").append("[INST] ").append(trimmed(content)).append(" [/INST]");
        }
        return text;
    }
};

/// Llama 3: <|start_header_id|>role<|end_header_id|>, an empty line, the content trimmed, <|eot_id|>. From 3.1 on there is always
/// a system turn, which begins with two dates: of the training data and of "today", for which the template's own date stands.
struct Llama3 {
    bool bos = false, trim = true, always_open = false;
    std::optional<std::string> dates;  ///< what the system turn begins with

    [[nodiscard]] static std::optional<Known> recognise(std::string_view outline) {
        constexpr std::string_view turn = R"('<|start_header_id|>'+message.role+'<|end_header_id|>\n\n'+message.content)";
        constexpr std::string_view open = R"({{'<|start_header_id|>assistant<|end_header_id|>\n\n'}})";
        OutlineReader in(outline);
        Llama3 style;
        std::string dates;
        style.bos = in.take("{{bos_token}}");
        if (in.take("{%if messages[0].role=='system'%}{%set system_message=messages[0].content|trim%}"
                    "{%set messages=messages[1:]%}{%else%}{%set system_message=''%}{%endif%}")) {
            constexpr std::string_view system = R"({{'<|start_header_id|>system<|end_header_id|>\n\n)";
            if (!in.take(system, dates, "'+system_message+'<|eot_id|>'}}")) return std::nullopt;
            style.dates = dates;
        }
        if (!in.take("{%for message in messages%}")) return std::nullopt;
        const bool set_first = in.take("{%set content=");
        if ((!set_first && !in.take("{{")) || !in.take(turn)) return std::nullopt;
        style.trim = in.take("|trim");
        if (set_first) {
            constexpr std::string_view put_out =
                "+'<|eot_id|>'%}{%if loop.first%}{%set content=bos_token+content%}{%endif%}{{content}}";
            if (style.bos || style.dates || !in.take(put_out)) return std::nullopt;
            style.bos = true;
        } else if (!in.take("+'<|eot_id|>'}}")) {
            return std::nullopt;
        }
        if (!in.take("{%endfor%}")) return std::nullopt;
        const bool asked = in.take("{%if add_generation_prompt%}");
        style.always_open = !asked;
        if (!in.take(open) || (asked && !in.take("{%endif%}")) || !in.at_end()) return std::nullopt;
        return Known{"Llama 3", "<|eot_id|>", style};
    }

    std::string operator()(Messages messages, bool add_generation_prompt, const ChatTokens& tokens) const {
        std::string text = bos ? tokens.bos : std::string();
        const auto add = [&](std::string_view role, std::string_view content) {
            text.append("<|start_header_id|>").append(role).append("<|end_header_id|>\n\n").append(content).append("<|eot_id|>");
        };
        if (dates) {
            const auto [system, turns] = split_system(messages);
            add("system", *dates + (system == nullptr ? std::string() : trimmed(system->content)));
            messages = turns;
        }
        for (const ChatMessage& message : messages) add(message.role, trimmed_if(trim, message.content));
        if (add_generation_prompt || always_open) text.append("<|start_header_id|>assistant<|end_header_id|>\n\n");
        return text;
    }
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
