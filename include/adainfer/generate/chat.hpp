#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/tokenize/bpe_tokenizer.hpp"

namespace adainfer::inline v0 {

/// One turn of a conversation.
struct ChatMessage {
    std::string role;  ///< "system", "user" or "assistant"
    std::string content;
};

namespace detail::chat {

/// The literal text between `begin` and `end` in a template, its \n escapes resolved; empty where there is none or where it
/// holds an expression.
[[nodiscard]] inline std::string literal_between(std::string_view source, std::string_view begin, std::string_view end) {
    for (std::size_t at = source.find(begin); at != std::string_view::npos; at = source.find(begin, at + 1)) {
        const std::size_t first = at + begin.size(), last = source.find(end, first);
        if (last == std::string_view::npos) return {};
        const std::string_view raw = source.substr(first, last - first);
        if (raw.find_first_of("'\"{}") != std::string_view::npos) continue;  // the string ends before `end`
        std::string text;
        for (std::size_t i = 0; i < raw.size(); ++i) {
            const bool newline = raw[i] == '\\' && i + 1 < raw.size() && raw[i + 1] == 'n';
            text += newline ? '\n' : raw[i];
            i += newline ? 1 : 0;
        }
        return text;
    }
    return {};
}

/// <|im_start|>role NEWLINE content<|im_end|> NEWLINE; some templates begin with a system message of their own where the
/// conversation has none.
inline std::string render_chatml(std::string_view source, std::span<const ChatMessage> messages, bool add_generation_prompt) {
    std::string text;
    const auto add = [&](std::string_view role, std::string_view content) {
        text.append("<|im_start|>").append(role).append("\n").append(content).append("<|im_end|>\n");
    };
    if (messages.empty() || messages.front().role != "system") {
        std::string preset = literal_between(source, "<|im_start|>system", "<|im_end|>");
        if (!preset.empty() && preset.front() == '\n' && !messages.empty()) add("system", preset.substr(1));
    }
    for (const ChatMessage& message : messages) add(message.role, message.content);
    if (add_generation_prompt) text.append("<|im_start|>assistant\n");
    return text;
}

/// A template's source in one spelling: no blanks, strings in single quotes and joined, line breaks as \n, fields as x.role.
[[nodiscard]] inline std::string normalised(std::string_view source) {
    std::string text;
    for (const char c : source) {
        if (c == '\n') text += "\\n";
        else if (c != ' ') text += c == '"' ? '\'' : c;
    }
    const auto replace = [&](std::string_view from, std::string_view to) {
        for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
            text.replace(at, from.size(), to);
        }
    };
    replace("['role']", ".role");
    replace("['content']", ".content");
    replace("'+'", "");
    return text;
}

/// A family of templates: recognised by what its normalised source holds, and by what it must not hold, because that stands
/// for something that render() does not do.
struct Family {
    std::string_view name;
    std::array<std::string_view, 2> parts;
    std::array<std::string_view, 6> foreign;
    std::string (*render)(std::string_view source, std::span<const ChatMessage> messages, bool add_generation_prompt);
};

inline constexpr std::array families{
    Family{"ChatML",
           {R"('<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>\n')", R"('<|im_start|>assistant\n')"},
           {"tool", "think", "trim", "strip", "bos_token", "raise_exception"}, render_chatml},
};

[[nodiscard]] inline const Family* find_family(std::string_view source) {
    const std::string text = normalised(source);
    const auto holds = [&](std::string_view part) { return text.find(part) != std::string::npos; };
    for (const Family& family : families) {
        bool fits = true;
        for (const std::string_view part : family.parts) fits = fits && holds(part);
        for (const std::string_view part : family.foreign) fits = fits && !holds(part);
        if (fits) return &family;
    }
    return nullptr;
}

}  // namespace detail::chat

/// True where render_chat() knows the template.
[[nodiscard]] inline bool knows_chat_template(std::string_view source) {
    return detail::chat::find_family(source) != nullptr;
}

/// The conversation as the text that the model was trained on; with add_generation_prompt it ends where the assistant's
/// answer begins. `source` is the model's own template, Tokenizer::chat_template(). Encode the result with parse_special.
/// Contents are put in as they are: special tokens written out in them become such tokens, so take care with text from others.
/// Throws Unsupported for a template of no known family, InvalidArgument for a conversation without messages.
[[nodiscard]] inline std::string render_chat(std::string_view source, std::span<const ChatMessage> messages,
                                             bool add_generation_prompt = true) {
    if (source.empty()) fail(ErrorCode::Unsupported, "the model has no chat template: it was not trained to chat");
    const detail::chat::Family* const family = detail::chat::find_family(source);
    if (family == nullptr) {
        std::string names;
        for (const auto& known : detail::chat::families) names.append(names.empty() ? "" : ", ").append(known.name);
        fail(ErrorCode::Unsupported, "the model's chat template is of no known family (known: ", names, "); it begins \"",
             source.substr(0, 60), "\"");
    }
    if (messages.empty()) fail(ErrorCode::InvalidArgument, "a conversation needs at least one message");
    return family->render(source, messages, add_generation_prompt);
}

/// The same with the template of a model's tokenizer.
[[nodiscard]] inline std::string render_chat(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                             bool add_generation_prompt = true) {
    return render_chat(std::string_view(tokenizer.chat_template()), messages, add_generation_prompt);
}

}  // namespace adainfer::inline v0
