#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/generate/sampler.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/session.hpp"

namespace adainfer::inline v0 {

/// What a callback wants next.
enum class Flow { Continue, Stop };

/// One token as it is delivered.
struct GeneratedToken {
    TokenId token = no_token;
    std::size_t exit_layer = 0;  ///< layers that ran to choose it; the first token follows the prompt and takes all
    std::size_t layers = 0;      ///< layers of the model
    std::size_t checks = 0;      ///< how often the exit policy was consulted
};

struct GenerateOptions {
    std::size_t max_new_tokens = 128;
    SamplingOptions sampling{};
    std::uint64_t seed = 0;                  ///< of the generator, where the caller brings none
    std::function<bool(TokenId)> is_end{};   ///< true for tokens that end the text, e.g. Tokenizer::is_end_of_generation
    RunOptions run{};                        ///< progress counts the prompt's tokens; step is that of the first decode
};

enum class FinishReason {
    StopToken,    ///< the model chose a token that is_end() knows; it is not delivered
    Callback,     ///< the callback returned Flow::Stop
    MaxTokens,    ///< max_new_tokens were delivered
    ContextFull,  ///< the session has no room for another token
};

[[nodiscard]] constexpr std::string_view to_string(FinishReason reason) noexcept {
    switch (reason) {
        case FinishReason::StopToken: return "stop token";
        case FinishReason::Callback: return "callback";
        case FinishReason::MaxTokens: return "max tokens";
        case FinishReason::ContextFull: return "context full";
    }
    return "unknown reason";
}

struct GenerateResult {
    std::size_t tokens = 0;  ///< delivered
    FinishReason reason = FinishReason::MaxTokens;
    double mean_layers = 0;  ///< of exit_layer over the delivered tokens; 0 where there are none
    /// The last token that the model chose, delivered or an end: the session does not hold it yet. Put it in front of the
    /// next prompt to go on. no_token where max_new_tokens is 0.
    TokenId pending = no_token;
};

/// Appends the prompt at full depth, then chooses tokens one by one, each as deep as the model's exit policy lets it run,
/// and calls on_token(const GeneratedToken&) for each: it returns Flow, or nothing to go on.
///
/// Afterwards the session holds the prompt and all delivered tokens except result.pending. So
/// `generate(model, session, {{result.pending}}, ...)` goes on where this call ended.
///
/// Throws what Model::prefill throws where the prompt is empty or does not fit (then the session is as it was), and
/// InvalidArgument for sampling options out of range. A requested stop throws Cancelled, as a NaN throws NotFinite; the
/// session then holds the tokens delivered so far but the last.
template <class Model, std::uniform_random_bit_generator Generator, class OnToken>
    requires std::invocable<OnToken&, const GeneratedToken&>
GenerateResult generate(const Model& model, Session& session, std::span<const TokenId> prompt, const GenerateOptions& options,
                        Generator& generator, OnToken&& on_token) {
    Sampler sampler(options.sampling);
    GenerateResult result;
    if (options.max_new_tokens == 0) {
        model.prefill(session, prompt, options.run);
        return result;
    }
    std::size_t layers_run = 0;
    RunOptions run = options.run;
    Prediction next = model.prefill_and_predict(session, prompt, options.run);
    for (;;) {
        TokenId token = next.token;
        if (options.sampling.temperature != 0) {
            token = sampler(next.logits, generator);
            if (!next.columns.empty()) token = next.columns[static_cast<std::size_t>(token)];
        }
        result.pending = token;
        if (options.is_end && options.is_end(token)) {
            result.reason = FinishReason::StopToken;
            break;
        }
        ++result.tokens;
        layers_run += next.exit_layer;
        const GeneratedToken delivered{token, next.exit_layer, next.layers, next.checks};
        if constexpr (std::same_as<std::invoke_result_t<OnToken&, const GeneratedToken&>, Flow>) {
            if (on_token(delivered) == Flow::Stop) {
                result.reason = FinishReason::Callback;
                break;
            }
        } else {
            static_assert(std::is_void_v<std::invoke_result_t<OnToken&, const GeneratedToken&>>,
                          "adainfer: the callback of generate() must return Flow or void");
            on_token(delivered);
        }
        if (result.tokens == options.max_new_tokens) break;
        if (session.length() == session.capacity()) {
            result.reason = FinishReason::ContextFull;
            break;
        }
        next = model.decode(session, token, run);
        ++run.step;
    }
    if (result.tokens != 0) result.mean_layers = static_cast<double>(layers_run) / static_cast<double>(result.tokens);
    return result;
}

/// The same with a generator of its own, std::mt19937_64 seeded with options.seed.
template <class Model, class OnToken>
    requires std::invocable<OnToken&, const GeneratedToken&>
GenerateResult generate(const Model& model, Session& session, std::span<const TokenId> prompt, const GenerateOptions& options,
                        OnToken&& on_token) {
    std::mt19937_64 generator(options.seed);
    return generate(model, session, prompt, options, generator, std::forward<OnToken>(on_token));
}

}  // namespace adainfer::inline v0
