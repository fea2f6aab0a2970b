#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/session.hpp"

namespace adainfer::inline v0 {

/// How likely the dense model finds a text, in nats.
struct Score {
    double log_probability = 0;                     ///< of all tokens together
    std::vector<double> token_log_probabilities;    ///< of each, given what stands before it
};

namespace detail {
/// ln softmax(logits) of a token. The caller has top_two(logits) at hand.
[[nodiscard]] inline double log_probability(std::span<const float> logits, const TopTwo& top, TokenId token) {
    return static_cast<double>(logits[static_cast<std::size_t>(token)]) - static_cast<double>(logits[top.top]) +
           std::log(static_cast<double>(top.top_probability));
}

/// Puts a session back to the length it had.
class RewindAtEnd {
  public:
    explicit RewindAtEnd(Session& session) : session_(session), length_(session.length()), held_(session.cache.hold()) {}
    RewindAtEnd(const RewindAtEnd&) = delete;
    RewindAtEnd& operator=(const RewindAtEnd&) = delete;
    ~RewindAtEnd() {
        session_.cache.set_length(length_);
        session_.cache.release(held_);
    }

  private:
    Session& session_;
    std::size_t length_, held_;
};

inline void require_tokens(std::span<const TokenId> tokens, std::size_t vocabulary) {
    for (const TokenId token : tokens) {
        if (token < 0 || static_cast<std::size_t>(token) >= vocabulary) {
            fail(ErrorCode::UnknownToken, "token ", token, " is outside the vocabulary of ", vocabulary);
        }
    }
}

inline void add(Score& score, double log_probability) {
    score.token_log_probabilities.push_back(log_probability);
    score.log_probability += log_probability;
}

/// Adds the tokens of `continuation` after its first one, which the session does not hold yet.
template <class Model>
void score_rest(const Model& model, Session& session, std::span<const TokenId> continuation, Score& score,
                const RunOptions& options) {
    if (continuation.size() < 2) return;
    const CpuLevel level = ops::level_of(model.decoder().backend());
    const auto visit = [&](std::size_t t, std::span<const float> logits) {
        add(score, log_probability(logits, top_two(logits, false, level), continuation[t + 1]));
    };
    model.for_each_logits(session, continuation.first(continuation.size() - 1), visit, options);
}
}  // namespace detail

/// How likely `continuation` is after the session's positions and `prompt`, at full depth whatever the policy. The session
/// stays as it was. Throws InvalidArgument (either is empty) and what Model::prefill throws; the last token of the
/// continuation needs no room.
template <class Model>
[[nodiscard]] Score score(const Model& model, Session& session, std::span<const TokenId> prompt,
                          std::span<const TokenId> continuation, const RunOptions& options = {}) {
    if (continuation.empty()) fail(ErrorCode::InvalidArgument, "score: the continuation is empty");
    detail::require_tokens(continuation, model.config().vocabulary);
    const detail::RewindAtEnd rewind(session);
    const Prediction next = model.prefill_and_predict(session, prompt, options);
    Score result;
    detail::add(result, detail::log_probability(next.logits, top_two(next.logits), continuation[0]));
    detail::score_rest(model, session, continuation, result, options);
    return result;
}

/// How likely tokens[1], tokens[2], ... are, each after the session's positions and the tokens before it, at full depth.
/// -log_probability / (tokens.size() - 1) is the mean negative log-likelihood, its exponential the perplexity. The session
/// stays as it was. Throws InvalidArgument (fewer than two tokens) and what Model::prefill throws.
template <class Model>
[[nodiscard]] Score log_likelihood(const Model& model, Session& session, std::span<const TokenId> tokens,
                                   const RunOptions& options = {}) {
    if (tokens.size() < 2) {
        fail(ErrorCode::InvalidArgument, "log_likelihood: two tokens or more are needed, found ", tokens.size());
    }
    detail::require_tokens(tokens, model.config().vocabulary);
    Score result;
    result.token_log_probabilities.reserve(tokens.size() - 1);
    detail::score_rest(model, session, tokens, result, options);
    return result;
}

}  // namespace adainfer::inline v0
