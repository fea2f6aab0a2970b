#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "adainfer/generate/chat_reader.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// Phi: <|user|> NEWLINE content<|end|> NEWLINE (Phi-3, Phi-4-mini), or <|im_start|>user<|im_sep|>content<|im_end|> (Phi-4). Some
/// templates leave system messages out, and some open the answer at the end of each question.
struct Phi {
    struct Turn {
        bool rendered = false, needs_content = false;
        std::string before, after;
    };

    bool bos = false;
    std::array<Turn, 3> turns;             ///< of system, user, assistant
    std::optional<std::string> open;       ///< what opens the assistant's turn, where it is asked for
    bool open_after_assistant = true;      ///< also where the last message is the assistant's
    bool eos_at_end = false;               ///< where it is not asked for

    [[nodiscard]] static std::optional<Known> recognise(std::string_view outline) {
        OutlineReader in(outline);
        Phi style;
        style.bos = in.take("{{bos_token}}");
        if (!in.take("{%for message in messages%}") || !style.take_turns(in) || !in.take("{%endfor%}")) return std::nullopt;
        if (in.take("{%if add_generation_prompt")) {
            std::string open;
            style.open_after_assistant = !in.take(" and messages[-1].role!='assistant'");
            if (!in.take("%}{{'", open, "'}}")) return std::nullopt;
            style.open = open;
            style.eos_at_end = style.open_after_assistant && in.take("{%else%}{{eos_token}}");
            if (!in.take("{%endif%}")) return std::nullopt;
        }
        const std::string& question = style.turns[1].before;
        const bool phi4 = question == "<|im_start|>user<|im_sep|>";
        if (!in.at_end() || (!phi4 && question != "<|user|>" && question != "<|user|>\n")) return std::nullopt;
        const std::string stop = phi4 ? "<|im_end|>" : "<|end|>";
        if (!style.turns[2].after.starts_with(stop)) return std::nullopt;
        return Known{"Phi-3", stop, style};
    }

    std::string operator()(Messages messages, bool add_generation_prompt, const ChatTokens& tokens) const {
        std::string text = bos ? tokens.bos : std::string();
        for (const ChatMessage& message : messages) {
            const Turn& turn = turns[index_of(message.role)];
            if (!turn.rendered || (turn.needs_content && message.content.empty())) continue;
            text.append(turn.before).append(message.content).append(turn.after);
        }
        if (!add_generation_prompt) return eos_at_end ? text + tokens.eos : text;
        if (open && (open_after_assistant || messages.back().role != "assistant")) text.append(*open);
        return text;
    }

  private:
    static constexpr std::array<std::string_view, 3> roles{"system", "user", "assistant"};

    [[nodiscard]] static std::size_t index_of(std::string_view role) { return role == roles[0] ? 0 : role == roles[1] ? 1 : 2; }

    [[nodiscard]] bool take_turns(OutlineReader& in) {
        std::string before, after;
        if (in.take("{{'<|'+message.role+'|>", before, "'+message.content+'")) {
            if (!in.take("", after, "'}}")) return false;
            for (std::size_t i = 0; i < roles.size(); ++i) {
                turns[i] = {true, false, std::string("<|").append(roles[i]).append("|>").append(before), after};
            }
            return true;
        }
        bool first = true;
        for (std::size_t i = 0; i < roles.size(); ++i) {
            const std::string role = std::string(" message.role=='").append(roles[i]).append("'");
            if (!in.take((first ? "{%if" : "{%elif") + role)) continue;
            first = false;
            Turn& turn = turns[i];
            turn.rendered = true;
            turn.needs_content = in.take(" and message.content");
            if (!in.take("%}{{'", turn.before, "'+message.content+'") && !in.take("%}{{message.content+'")) return false;
            if (!in.take("", turn.after, "'}}")) return false;
        }
        return turns[1].rendered && turns[2].rendered && in.take("{%endif%}");
    }
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
