#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/generate/chat.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/tokenize/stream_decoder.hpp"
#include "adainfer/tokenize/tokenizer.hpp"

namespace adainfer::inline v0 {

/// The assistant's answer.
struct ChatReply {
    std::string text;
    std::vector<std::size_t> exit_layers;  ///< of each token of the answer
    GenerateResult result;                 ///< why it ended, and how deep it went
    std::size_t prompt_tokens = 0;         ///< of the conversation up to the answer
    std::size_t reused_tokens = 0;         ///< those among them that the session held already and that did not run again
};

/// A conversation with a model: keeps its messages, and a session that holds the tokens said so far, so that a turn runs its own
/// tokens only. The session always continues what the chat template makes of the whole conversation: where that differs from what
/// the session holds (the template leaves old thoughts out, say, or an answer's text splits into other tokens than the model
/// chose), the session goes back to the point where they part. With an early-exit policy the answers' keys and values are those
/// that the policy's KvCompletion left.
///
/// For one thread at a time. Refers to the model and the tokenizer, which must outlive it.
template <class Model>
class Conversation {
  public:
    /// An empty `system` stands for no system message. `capacity` is the number of tokens that the session holds; 0: as many as
    /// the model was made for. Throws Unsupported (ChatTemplate) and ContextOverflow.
    Conversation(const Model& model, const Tokenizer& tokenizer, std::string system = {}, std::size_t capacity = 0)
        : Conversation(model, tokenizer, std::move(system), SessionOptions{.capacity = capacity}) {}

    /// The same with a session of one's choice. Throws what Model::new_session() does too.
    Conversation(const Model& model, const Tokenizer& tokenizer, std::string system, const SessionOptions& session)
        : model_(&model), tokenizer_(&tokenizer), template_(tokenizer), is_end_(chat_end(tokenizer, template_)),
          system_(std::move(system)), session_(model.new_session(session)) {
        reset();
    }

    /// The user says `text`, the model answers. on_text(std::string_view) gets the answer as it comes, in whole characters; it
    /// returns Flow, or nothing to go on. The answer ends at the token that ends the assistant's turn, or at one that
    /// options.is_end knows. options.seed is advanced by the number of messages so far.
    ///
    /// Throws ContextOverflow where the conversation does not fit the session any more, and what ChatTemplate::render, generate
    /// and on_text throw (Cancelled among it); then nothing has been said.
    template <class OnText>
        requires std::invocable<OnText&, std::string_view>
    ChatReply say(std::string text, const GenerateOptions& options, OnText&& on_text) {
        messages_.push_back({"user", std::move(text)});
        try {
            ChatReply reply = answer(options, on_text);
            messages_.push_back({"assistant", reply.text});
            return reply;
        } catch (...) {
            messages_.pop_back();
            throw;
        }
    }

    ChatReply say(std::string text, const GenerateOptions& options = {}) {
        return say(std::move(text), options, [](std::string_view) {});
    }

    /// Forgets all but the system message.
    void reset() {
        messages_.clear();
        if (!system_.empty()) messages_.push_back({"system", system_});
        session_.rewind(0);
        held_.clear();
    }

    [[nodiscard]] std::span<const ChatMessage> messages() const noexcept { return messages_; }

    /// The tokens that the session holds.
    [[nodiscard]] std::span<const TokenId> tokens() const noexcept { return held_; }

    [[nodiscard]] const Session& session() const noexcept { return session_; }
    [[nodiscard]] const ChatTemplate& chat_template() const noexcept { return template_; }

  private:
    template <class OnText>
    ChatReply answer(const GenerateOptions& options, OnText& on_text) {
        std::vector<TokenId> tokens = encode_chat(*tokenizer_, template_.render(messages_));
        if (tokens.size() > session_.capacity()) {
            fail(ErrorCode::ContextOverflow, "the conversation has come to ", tokens.size(), " tokens, its session holds ",
                 session_.capacity());
        }
        ChatReply reply;
        reply.prompt_tokens = tokens.size();
        const auto parting = std::mismatch(held_.begin(), held_.end(), tokens.begin(), tokens.end()).first;
        // At least one token must run to say what comes next.
        reply.reused_tokens = (std::min)(static_cast<std::size_t>(parting - held_.begin()), tokens.size() - 1);
        session_.rewind(reply.reused_tokens);
        held_ = tokens;

        GenerateOptions how = options;
        how.seed += messages_.size();
        how.is_end = [&](TokenId token) { return is_end_(token) || (options.is_end && options.is_end(token)); };
        StreamDecoder decoder(*tokenizer_, true);
        const auto deliver = [&](std::string_view part) {
            reply.text += part;
            if (part.empty()) return Flow::Continue;
            if constexpr (std::same_as<std::invoke_result_t<OnText&, std::string_view>, Flow>) {
                return on_text(part);
            } else {
                on_text(part);
                return Flow::Continue;
            }
        };
        try {
            const std::span<const TokenId> prompt = std::span(tokens).subspan(reply.reused_tokens);
            reply.result = generate(*model_, session_, prompt, how, [&](const GeneratedToken& token) {
                // The blank that SentencePiece puts in front of a text is not part of it.
                const std::size_t blank = reply.exit_layers.empty() ? tokenizer_->prefix_length(token.token) : 0;
                held_.push_back(token.token);
                reply.exit_layers.push_back(token.exit_layer);
                const std::string part = decoder.push(token.token);
                return deliver(std::string_view(part).substr((std::min)(blank, part.size())));
            });
            deliver(decoder.finish());
        } catch (...) {
            held_.resize(session_.length());
            throw;
        }
        held_.resize(session_.length());  // without the last token, which has not run
        return reply;
    }

    const Model* model_;
    const Tokenizer* tokenizer_;
    ChatTemplate template_;
    std::function<bool(TokenId)> is_end_;
    std::string system_;
    Session session_;
    std::vector<ChatMessage> messages_;
    std::vector<TokenId> held_;  ///< those of the session, in order
};

}  // namespace adainfer::inline v0
