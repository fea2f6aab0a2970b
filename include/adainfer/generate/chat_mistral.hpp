#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "adainfer/generate/chat_reader.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// Mistral: bos [INST] question [/INST] answer eos. The versions differ in the blanks around the marks and in the place of the
/// system's text: nowhere, in the first question, in the last one (v3), or between marks of its own (v7).
struct Mistral {
    enum class System { Refused, InFirst, InLast, Apart };

    System system = System::Refused;
    bool alternates = false, trim_answer = false;
    std::string open, close;                 ///< around a question
    std::string separator;                   ///< between the system's text and the question's
    std::string before_answer, after_eos;
    std::string open_system, close_system;   ///< around the system's text where it stands apart

    [[nodiscard]] static std::optional<Known> recognise(std::string_view outline) {
        OutlineReader in(outline);
        Mistral style;
        const bool splits = in.take(
            "{%if messages[0].role=='system'%}{%set loop_messages=messages[1:]%}{%set system_message=messages[0].content%}"
            "{%else%}{%set loop_messages=messages%}{%endif%}");
        const bool checked = splits && in.take(
            "{%set ns=namespace()%}{%set ns.index=0%}{%for message in loop_messages%}"
            "{%if (message.role=='user')!=(ns.index%2==0)%}{{raise_exception()}}{%endif%}{%set ns.index=ns.index+1%}{%endfor%}");
        if (!in.take("{{bos_token}}") || !in.take(splits ? "{%for message in loop_messages%}" : "{%for message in messages%}")) {
            return std::nullopt;
        }
        style.alternates = in.take(alternation_check) || checked;
        if (!in.take("{%if message.role=='user'%}") || !style.take_question(in, splits)) return std::nullopt;
        if (style.system == System::Refused &&
            in.take("{%elif message.role=='system'%}{{'", style.open_system, "'+message.content+'")) {
            if (splits || !in.take("", style.close_system, "'}}")) return std::nullopt;
            style.system = System::Apart;
        }
        if (!in.take("{%elif message.role=='assistant'%}") || !style.take_answer(in) ||
            !in.take("{%else%}{{raise_exception()}}{%endif%}{%endfor%}") || !in.at_end()) {
            return std::nullopt;
        }
        // Without a check the order of roles is free, which is rendered for the version whose system messages may stand anywhere.
        if (style.alternates == (style.system == System::Apart)) return std::nullopt;
        return Known{"Mistral", {}, style};
    }

    std::string operator()(Messages messages, bool, const ChatTokens& tokens) const {
        const ChatMessage* instruction = nullptr;
        if (alternates) {
            const auto [first, turns] = split_system(messages);
            if (system == System::Refused) refuse_system(first, "Mistral");
            require_alternation(turns, "Mistral");
            instruction = first;
            messages = turns;
        }
        std::string text = tokens.bos;
        for (std::size_t i = 0; i < messages.size(); ++i) {
            const std::string& content = messages[i].content;
            if (is_system(messages[i])) {
                text.append(open_system).append(content).append(close_system);
            } else if (messages[i].role == "user") {
                const bool instructed = system == System::InFirst ? i == 0 : i + 1 == messages.size();
                text.append(open);
                if (instruction != nullptr && instructed) text.append(instruction->content).append(separator);
                text.append(content).append(close);
            } else {
                text.append(before_answer).append(trimmed_if(trim_answer, content)).append(tokens.eos).append(after_eos);
            }
        }
        return text;
    }

  private:
    [[nodiscard]] bool take_question(OutlineReader& in, bool splits) {
        const bool first = in.take("{%if loop.first and system_message is defined%}");
        const bool instructed = first || in.take("{%if loop.last and system_message is defined%}");
        std::string again_open, again_close;
        if (instructed) {
            system = first ? System::InFirst : System::InLast;
            if (!in.take("{{'", again_open, "'+system_message+'") || !in.take("", separator, "'+message.content+'") ||
                !in.take("", again_close, "'}}{%else%}")) {
                return false;
            }
        }
        if (!in.take("{{'", open, "'+message.content+'") || !in.take("", close, "'}}")) return false;
        if (instructed && (!in.take("{%endif%}") || again_open != open || again_close != close)) return false;
        return splits == instructed && open.find("[INST]") != std::string::npos && close.ends_with("[/INST]");
    }

    [[nodiscard]] bool take_answer(OutlineReader& in) {
        if (!in.take("{{'", before_answer, "'+message.content") && !in.take("{{message.content")) return false;
        trim_answer = in.take("|trim");
        return in.take("+eos_token}}") || in.take("+eos_token+'", after_eos, "'}}");
    }
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
