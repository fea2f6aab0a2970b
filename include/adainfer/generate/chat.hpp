#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/generate/chat_chatml.hpp"
#include "adainfer/generate/chat_gemma.hpp"
#include "adainfer/generate/chat_llama.hpp"
#include "adainfer/generate/chat_message.hpp"
#include "adainfer/generate/chat_mistral.hpp"
#include "adainfer/generate/chat_outline.hpp"
#include "adainfer/generate/chat_phi.hpp"
#include "adainfer/tokenize/tokenizer.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// A family of templates. A new one is a header of its own, with what its templates vary in as members, recognise() and
/// operator(), and a line here.
struct Family {
    std::string_view name;
    std::optional<Known> (*recognise)(std::string_view outline);
};

inline constexpr std::array families{
    Family{"ChatML", &ChatMl::recognise},   Family{"Llama 2", &Llama2::recognise}, Family{"Llama 3", &Llama3::recognise},
    Family{"Gemma", &Gemma::recognise},     Family{"Phi-3", &Phi::recognise},      Family{"Mistral", &Mistral::recognise},
};

[[nodiscard]] inline std::optional<Known> find_family(std::string_view source) {
    const std::string outline = Outline::of(source);
    for (const Family& family : families) {
        if (std::optional<Known> known = family.recognise(outline)) return known;
    }
    return std::nullopt;
}

/// The first characters of a template as a message may show them: a model's file may hold anything.
[[nodiscard]] inline std::string beginning(std::string_view source) {
    std::string shown(source.substr(0, 60));
    for (char& c : shown) {
        if (is_blank(c)) c = ' ';
        else if (c < ' ' || c > '~') c = '?';
    }
    return shown;
}

}  // namespace detail::chat

/// True where ChatTemplate knows the template.
[[nodiscard]] inline bool knows_chat_template(std::string_view source) { return detail::chat::find_family(source).has_value(); }

/// The texts of bos and eos as a template writes them.
[[nodiscard]] inline ChatTokens chat_tokens(const Tokenizer& tokenizer) {
    const auto text = [&](std::optional<TokenId> id) { return id ? std::string(tokenizer.token_bytes(*id)) : std::string(); };
    return {text(tokenizer.bos()), text(tokenizer.eos())};
}

/// How a model wants a conversation written: its chat template, of one of the families ChatML, Llama 2, Llama 3, Gemma, Phi-3
/// and Mistral. Templates are programs (Jinja); none is run here. A template is known where all of it, apart from what serves
/// tools, is what its family's templates are made of, and is refused otherwise, so that no text differs from the template's own.
///
/// Immutable: const members may be called from many threads at once.
class ChatTemplate {
  public:
    /// `source` is the template's text, e.g. Tokenizer::chat_template(). Throws Unsupported where it is empty or not known.
    explicit ChatTemplate(std::string_view source, ChatTokens tokens = {}) : known_(find(source)), tokens_(std::move(tokens)) {
        if (known_.stop.empty()) known_.stop = tokens_.eos;
    }

    /// The template of a model.
    explicit ChatTemplate(const Tokenizer& tokenizer) : ChatTemplate(tokenizer.chat_template(), chat_tokens(tokenizer)) {}

    [[nodiscard]] std::string_view family() const noexcept { return known_.family; }

    /// The text of the token that ends the assistant's turn: a stop even where the model's eos is another token.
    [[nodiscard]] const std::string& stop_text() const noexcept { return known_.stop; }

    /// The conversation as the text that the model was trained on, bos included where the template writes it; encode it with
    /// encode_chat(). With add_generation_prompt it ends where the assistant's answer begins (some templates always do).
    /// Contents are put in as they are: special tokens written out in them become such tokens, so take care with text from
    /// others.
    /// Throws InvalidArgument for a conversation without messages, an unknown role, and roles in an order that the template does
    /// not take: Llama 2, Gemma and Mistral want user and assistant in turn, after a system message at most.
    [[nodiscard]] std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt = true) const {
        if (messages.empty()) fail(ErrorCode::InvalidArgument, "a conversation needs at least one message");
        for (const ChatMessage& message : messages) {
            if (message.role == "system" || message.role == "user" || message.role == "assistant") continue;
            fail(ErrorCode::InvalidArgument, "a message by '", message.role, "'; known: system, user, assistant");
        }
        return known_.render(messages, add_generation_prompt, tokens_);
    }

  private:
    [[nodiscard]] static detail::chat::Known find(std::string_view source) {
        if (source.empty()) fail(ErrorCode::Unsupported, "the model has no chat template: it was not trained to chat");
        if (std::optional<detail::chat::Known> known = detail::chat::find_family(source)) return *std::move(known);
        std::string names;
        for (const auto& family : detail::chat::families) names.append(names.empty() ? "" : ", ").append(family.name);
        fail(ErrorCode::Unsupported, "the model's chat template is of no known family (known: ", names, "); it begins \"",
             detail::chat::beginning(source), "\"");
    }

    detail::chat::Known known_;
    ChatTokens tokens_;
};

/// ChatTemplate(source, tokens).render(...).
[[nodiscard]] inline std::string render_chat(std::string_view source, std::span<const ChatMessage> messages,
                                             bool add_generation_prompt = true, const ChatTokens& tokens = {}) {
    return ChatTemplate(source, tokens).render(messages, add_generation_prompt);
}

/// The same with the template of a model's tokenizer.
[[nodiscard]] inline std::string render_chat(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                             bool add_generation_prompt = true) {
    return ChatTemplate(tokenizer).render(messages, add_generation_prompt);
}

/// The tokens of a rendered conversation. One bos goes first where the text begins with it or the model expects it: never two.
[[nodiscard]] inline std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, std::string_view text) {
    const std::string bos = chat_tokens(tokenizer).bos;
    const bool written = !bos.empty() && text.starts_with(bos);
    if (written) text.remove_prefix(bos.size());
    return tokenizer.encode(text, {.parse_special = true, .add_bos = written || tokenizer.adds_bos()});
}

/// True for the tokens that end an answer: for GenerateOptions::is_end. Refers to the tokenizer, which must outlive it.
[[nodiscard]] inline std::function<bool(TokenId)> chat_end(const Tokenizer& tokenizer, const ChatTemplate& chat_template) {
    const TokenId stop = tokenizer.find(chat_template.stop_text()).value_or(no_token);
    return [&tokenizer, stop](TokenId id) { return id == stop || tokenizer.is_end_of_generation(id); };
}

}  // namespace adainfer::inline v0
