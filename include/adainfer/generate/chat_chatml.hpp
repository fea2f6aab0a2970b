#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "adainfer/generate/chat_reader.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// ChatML: <|im_start|>role NEWLINE content<|im_end|> NEWLINE. Some templates begin with a system message of their own where the
/// conversation has none; those of the Qwen family that think leave old thoughts out.
struct ChatMl {
    enum class Thoughts { Keep, DropOld, Qwen3 };

    bool bos = false, trim = false;
    std::optional<std::string> preset;  ///< system message where the conversation has none
    Thoughts thoughts = Thoughts::Keep;
    std::string answer;                 ///< what opens the assistant's turn

    [[nodiscard]] static std::optional<Known> recognise(std::string_view outline) {
        constexpr std::string_view user_turn = R"({{'<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>\n'}})";
        constexpr std::string_view trimmed_turn =
            R"({{'<|im_start|>'+message.role+'\n'+message.content|trim+'<|im_end|>\n'}})";
        OutlineReader in(outline);
        ChatMl style;
        std::string preset;
        style.bos = in.take("{{bos_token}}");
        if (in.take(R"({%if messages[0].role=='system'%}{{'<|im_start|>system\n'+messages[0].content+'<|im_end|>\n'}})")) {
            if (in.take(R"({%else%}{{'<|im_start|>system\n)", preset, R"(<|im_end|>\n'}})")) style.preset = preset;
            if (!in.take("{%endif%}")) return std::nullopt;
            const bool qwen3 = in.take(find_last_question);
            if (!in.take("{%for message in messages%}{%if message.role=='user' or message.role=='system' and not loop.first")) {
                return std::nullopt;
            }
            if (!in.take(" or message.role=='assistant'%}")) {
                const std::string_view answer = qwen3 ? qwen3_answer : drop_old_answer;
                if (!in.take("%}") || !in.take(user_turn) || !in.take(answer)) return std::nullopt;
                style.thoughts = qwen3 ? Thoughts::Qwen3 : Thoughts::DropOld;
            } else if (qwen3 || !in.take(user_turn)) {
                return std::nullopt;
            }
            if (!in.take("{%endif%}")) return std::nullopt;
        } else {
            if (!in.take("{%for message in messages%}")) return std::nullopt;
            if (in.take(R"({%if loop.first and messages[0].role!='system'%}{{'<|im_start|>system\n)", preset,
                        R"(<|im_end|>\n'}}{%endif%})")) {
                style.preset = preset;
            }
            style.trim = in.take(trimmed_turn);
            if (!style.trim && !in.take(user_turn)) return std::nullopt;
        }
        if (!in.take("{%endfor%}{%if add_generation_prompt%}{{'", style.answer, "'}}{%endif%}") || !in.at_end() ||
            !style.answer.starts_with("<|im_start|>assistant\n")) {
            return std::nullopt;
        }
        return Known{"ChatML", "<|im_end|>", style};
    }

    std::string operator()(Messages messages, bool add_generation_prompt, const ChatTokens& tokens) const {
        std::string text = bos ? tokens.bos : std::string();
        const auto add = [&](std::string_view role, std::string_view content) {
            text.append("<|im_start|>").append(role).append("\n").append(content).append("<|im_end|>\n");
        };
        if (preset && !is_system(messages.front())) add("system", *preset);
        const std::size_t question = last_question(messages);
        for (std::size_t i = 0; i < messages.size(); ++i) {
            const bool last = i + 1 == messages.size();
            std::string content = trimmed_if(trim, messages[i].content);
            if (messages[i].role == "assistant") {
                if (thoughts == Thoughts::DropOld && !last) content = answer_of(content);
                if (thoughts == Thoughts::Qwen3) content = qwen3_content(content, i > question, last);
            }
            add(messages[i].role, content);
        }
        if (add_generation_prompt) text += answer;
        return text;
    }

  private:
    // Statements of the templates that think, as outlines.
    static constexpr std::string_view find_last_question =
        "{%set ns=namespace(multi_step_tool=true,last_query_index=messages|length-1)%}{%for message in messages[::-1]%}"
        "{%set index=(messages|length-1)-loop.index0%}{%if ns.multi_step_tool and message.role=='user' and "
        "not(message.content.startswith('<tool_response>')and message.content.endswith('</tool_response>'))%}"
        "{%set ns.last_query_index=index%}{%set ns.multi_step_tool=false%}{%endif%}{%endfor%}";
    static constexpr std::string_view drop_old_answer =
        R"({%elif message.role=='assistant'%}{%set content=message.content%}{%if not loop.last%})"
        R"({%set content=message.content.split('</think>')[-1].lstrip('\n')%}{%endif%})"
        R"({{'<|im_start|>'+message.role+'\n'+content+'<|im_end|>\n'}})";
    static constexpr std::string_view qwen3_answer =
        R"({%elif message.role=='assistant'%}{%set content=message.content%}{%set reasoning_content=''%})"
        R"({%if '</think>' in message.content%}{%set content=message.content.split('</think>')[-1].lstrip('\n')%})"
        R"({%set reasoning_content=message.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')%})"
        "{%endif%}"
        R"({%if loop.index0>ns.last_query_index%}{%if loop.last or not loop.last and reasoning_content%})"
        R"({{'<|im_start|>'+message.role+'\n<think>\n'+reasoning_content.strip('\n')+'\n</think>\n\n'+content.lstrip('\n')}})"
        R"({%else%}{{'<|im_start|>'+message.role+'\n'+content}}{%endif%})"
        R"({%else%}{{'<|im_start|>'+message.role+'\n'+content}}{%endif%}{{'<|im_end|>\n'}})";

    [[nodiscard]] static std::string without_line_breaks(std::string_view text, bool front, bool back) {
        while (front && text.starts_with('\n')) text.remove_prefix(1);
        while (back && text.ends_with('\n')) text.remove_suffix(1);
        return std::string(text);
    }

    /// What follows the last </think>.
    [[nodiscard]] static std::string answer_of(std::string_view content) {
        const std::size_t end = content.rfind("</think>");
        return without_line_breaks(end == std::string_view::npos ? content : content.substr(end + 8), true, false);
    }

    [[nodiscard]] static std::string qwen3_content(std::string_view content, bool after_question, bool last) {
        const std::size_t end = content.find("</think>");
        if (end == std::string_view::npos && !(after_question && last)) return std::string(content);
        std::string thought, rest(content);
        if (end != std::string_view::npos) {
            thought = without_line_breaks(content.substr(0, end), false, true);
            const std::size_t begin = thought.rfind("<think>");
            thought = without_line_breaks(begin == std::string::npos ? thought : thought.substr(begin + 7), true, false);
            rest = answer_of(content);
        }
        if (!after_question || (!last && thought.empty())) return rest;
        return "<think>\n" + without_line_breaks(thought, true, true) + "\n</think>\n\n" + without_line_breaks(rest, true, false);
    }

    /// Index of the last message by the user that is not a tool's answer; of the last one where there is none.
    [[nodiscard]] static std::size_t last_question(Messages messages) {
        for (std::size_t i = messages.size(); i-- > 0;) {
            const std::string_view content = messages[i].content;
            if (messages[i].role != "user") continue;
            if (!content.starts_with("<tool_response>") || !content.ends_with("</tool_response>")) return i;
        }
        return messages.size() - 1;
    }
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
