#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <utility>

#include "adainfer/backend/concept.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/core/progress.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/kv_completion.hpp"
#include "adainfer/model/observer.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0 {

/// Of one call.
struct RunOptions {
    std::stop_token stop{};  ///< looked at between layers; a stop throws Cancelled and leaves the session as it was
    Progress progress{};     ///< prompt tokens done
};

/// What the model says comes next, and how deep it went to say so. The spans point into the session and are valid until its
/// next pass.
struct Prediction {
    TokenId token = no_token;          ///< the largest logit: among the candidates where the call named some
    std::size_t exit_layer = 0;        ///< layers run for this token, 1 to layers
    std::size_t layers = 0;            ///< layers of the model
    std::size_t checks = 0;            ///< how often the policy was consulted
    std::span<const float> logits;     ///< a row, computed at the exit layer
    std::span<const TokenId> columns;  ///< token of each logit; empty: logit i belongs to token i
};

/// A decoder-only language model that stops each inference at the layer where its exit policy says so.
///
/// Immutable: every member is const and may be called from many threads at once, each with its own Session. Models with
/// other policies over the same weights come from with_policy() and share them.
template <class Backend, class Policy = NeverExit, class Completion = PropagateHidden>
class Model {
    static_assert((require_backend<Backend>(), true));
    static_assert((require_exit_policy<Policy>(), true));
    static_assert(KvCompletion<Completion>, "adainfer: the third argument of Model must be a KvCompletion");

  public:
    /// Throws Cancelled, and what the policy throws where it belongs to another model.
    explicit Model(ModelWeights weights, Policy policy = {}, Backend backend = Backend{}, const BuildOptions& options = {})
        : Model(std::make_shared<const Decoder<Backend>>(std::move(weights), std::move(backend), options), std::move(policy)) {}

    explicit Model(std::shared_ptr<const Decoder<Backend>> decoder, Policy policy = {})
        : decoder_(std::move(decoder)), policy_(std::move(policy)) {
        if constexpr (requires { policy_.check_model(decoder_->weights()); }) policy_.check_model(decoder_->weights());
    }

    Model(Model&&) noexcept = default;
    Model& operator=(Model&&) noexcept = default;

    /// The same weights under another policy; nothing is copied.
    template <class Other>
    [[nodiscard]] Model<Backend, Other, Completion> with_policy(Other policy) const {
        return Model<Backend, Other, Completion>(decoder_, std::move(policy));
    }

    [[nodiscard]] const ModelConfig& config() const noexcept { return decoder_->config(); }
    [[nodiscard]] const Decoder<Backend>& decoder() const noexcept { return *decoder_; }
    [[nodiscard]] const Policy& policy() const noexcept { return policy_; }

    /// An empty session for `capacity` positions; 0: as many as the model was made for. Throws ContextOverflow above that.
    [[nodiscard]] Session new_session(std::size_t capacity = 0) const {
        if (capacity > config().context) {
            fail(ErrorCode::ContextOverflow, "a session of ", capacity, " positions was asked for, the model's context is ", config().context);
        }
        return Session(KvCache(config(), capacity == 0 ? config().context : capacity), decoder_->weights().identity);
    }

    /// Appends the tokens to the session at full depth; no logits. Throws InvalidArgument (no tokens), ContextOverflow,
    /// UnknownToken, NotFinite, Cancelled; then the session is as it was.
    void prefill(Session& session, std::span<const TokenId> tokens, const RunOptions& options = {}) const {
        check(session, tokens);
        Transaction transaction(session);
        for (std::size_t done = 0; done < tokens.size();) {
            const std::span<const TokenId> chunk = tokens.subspan(done, (std::min)(prefill_chunk, tokens.size() - done));
            run_all_layers(session, chunk, options.stop);
            session.cache.set_length(session.length() + chunk.size());
            done += chunk.size();
            if (options.progress) options.progress({"prefill", done, tokens.size()});
        }
        transaction.commit();
    }

    /// Appends the tokens at full depth and says what comes next. Throws as prefill() does.
    [[nodiscard]] Prediction prefill_and_predict(Session& session, std::span<const TokenId> tokens, const RunOptions& options = {}) const {
        Transaction transaction(session);
        prefill(session, tokens, options);
        Observer<Backend> observer(*decoder_, session, {});
        observer.answer(policy_, config().layers);
        const Prediction prediction = conclude(observer, config().layers);
        transaction.commit();
        return prediction;
    }

    /// Appends one token, runs as many layers as the policy lets it, completes its K/V, and says what comes next. Throws as
    /// prefill() does.
    [[nodiscard]] Prediction decode(Session& session, TokenId token, const RunOptions& options = {}) const {
        static_assert(Completion::keeps_session, "adainfer: decode() and generate() need a KvCompletion that keeps the session; "
                                                 "Discard is for predict() and classify() only");
        const Pass pass = run_until_exit(session, {&token, 1}, {}, options.stop);
        if constexpr (Completion::keeps_session) Completion::complete(*decoder_, session, pass.layers_run);
        session.cache.set_length(session.length() + 1);
        return pass.prediction;
    }

    /// What comes after the session's positions and these tokens: among the candidates, or in the whole vocabulary where
    /// there are none. Early exit is allowed for all of the tokens, and the session stays as it was. Throws as prefill().
    [[nodiscard]] Prediction predict(Session& session, std::span<const TokenId> tokens, std::span<const TokenId> candidates = {},
                                     const RunOptions& options = {}) const {
        for (const TokenId candidate : candidates) {
            if (candidate < 0 || static_cast<std::size_t>(candidate) >= config().vocabulary) {
                fail(ErrorCode::UnknownToken, "candidate token ", candidate, " is outside the vocabulary of ", config().vocabulary);
            }
        }
        return run_until_exit(session, tokens, candidates, options.stop).prediction;
    }

    /// Full-depth pass over the tokens that keeps no K/V beyond the session's and calls visit(t, logits [vocabulary]) for
    /// each token in turn. Throws as prefill().
    template <class Visit>
    void for_each_logits(Session& session, std::span<const TokenId> tokens, Visit&& visit, const RunOptions& options = {}) const {
        check(session, tokens);
        Transaction transaction(session);  // never committed: rewinds
        for (std::size_t done = 0; done < tokens.size();) {
            const std::span<const TokenId> chunk = tokens.subspan(done, (std::min)(prefill_chunk, tokens.size() - done));
            run_all_layers(session, chunk, options.stop);
            const std::span<float> normed = session.work.lens.resize(1, config().hidden).row(0);
            const std::span<float> logits = session.work.logits.resize(1, config().vocabulary).row(0);
            for (std::size_t t = 0; t < chunk.size(); ++t) {
                decoder_->final_norm(session.work.hidden.row(t), normed);
                decoder_->logits(normed, logits);
                visit(done + t, std::span<const float>(logits));
            }
            session.cache.set_length(session.length() + chunk.size());
            done += chunk.size();
            if (options.progress) options.progress({"score", done, tokens.size()});
        }
    }

  private:
    static constexpr std::size_t prefill_chunk = 256;  // tokens a pass: bounds the scratch

    struct Pass {
        Prediction prediction;
        std::size_t layers_run;  // hindsight may report a smaller exit layer
    };

    /// Restores the session's length unless the work was committed.
    class Transaction {
      public:
        explicit Transaction(Session& session) : session_(session), length_(session.length()) {}
        Transaction(const Transaction&) = delete;
        Transaction& operator=(const Transaction&) = delete;
        ~Transaction() {
            if (!committed_) session_.cache.set_length(length_);
        }
        void commit() noexcept { committed_ = true; }

      private:
        Session& session_;
        std::size_t length_;
        bool committed_ = false;
    };

    void check(const Session& session, std::span<const TokenId> tokens) const {
        if (session.identity() != decoder_->weights().identity) {
            fail(ErrorCode::IdentityMismatch, "the session belongs to model ", session.identity(), ", not to ", decoder_->weights().identity);
        }
        if (tokens.empty()) fail(ErrorCode::InvalidArgument, "the prompt is empty: at least one token is needed");
        if (tokens.size() > session.capacity() - session.length()) {
            fail(ErrorCode::ContextOverflow, tokens.size(), " tokens after ", session.length(), " positions exceed the session's ",
                 session.capacity(), " (the model's context is ", config().context, ")");
        }
    }

    void run_layer(Session& session, std::size_t layer, const std::stop_token& stop) const {
        if (stop.stop_requested()) fail(ErrorCode::Cancelled, "stopped before layer ", layer + 1);
        decoder_->run_layer(session, layer);
    }

    void run_all_layers(Session& session, std::span<const TokenId> tokens, const std::stop_token& stop) const {
        decoder_->begin(session, tokens);
        for (std::size_t layer = 0; layer < config().layers; ++layer) run_layer(session, layer, stop);
    }

    /// AdaInfer's loop (arXiv 2403.02181, section 3.3): run a layer, read the features, ask the classifier.
    Pass run_until_exit(Session& session, std::span<const TokenId> tokens, std::span<const TokenId> candidates,
                        const std::stop_token& stop) const {
        check(session, tokens);
        Observer<Backend> observer(*decoder_, session, candidates);
        std::size_t layers_run = config().layers, exit_layer = layers_run;
        if constexpr (requires { Policy::never_exits; }) {
            run_all_layers(session, tokens, stop);
            observer.answer(policy_, layers_run);
        } else {
            typename Policy::State state{};
            decoder_->begin(session, tokens);
            for (std::size_t layer = 1; layer <= config().layers; ++layer) {
                const bool wanted = layer < config().layers && policy_.wants(layer);
                if (wanted) observer.before_layer();
                run_layer(session, layer - 1, stop);
                if (!wanted) continue;
                observer.after_layer(layer);
                if (ask(policy_, layer, observer, state) == ExitDecision::Exit) {
                    layers_run = exit_layer = layer;
                    break;
                }
            }
            observer.answer(policy_, layers_run);
            if constexpr (requires { policy_.hindsight(state, TokenId{}, exit_layer); }) {
                exit_layer = policy_.hindsight(state, observer.best(), exit_layer);
            }
        }
        return {conclude(observer, exit_layer), layers_run};
    }

    template <class Asked>
    static ExitDecision ask(const Asked& policy, std::size_t layer, Observer<Backend>& observer, typename Asked::State& state) {
        if constexpr (HasConsult<Asked>) {
            return policy.consult(layer, [&](const auto& part, auto& part_state) { return ask(part, layer, observer, part_state); }, state);
        } else {
            return policy.decide(layer, observer.features(policy), state);
        }
    }

    Prediction conclude(const Observer<Backend>& observer, std::size_t exit_layer) const {
        return {observer.best(), exit_layer, config().layers, observer.checks(), observer.logits(), observer.columns()};
    }

    std::shared_ptr<const Decoder<Backend>> decoder_;
    Policy policy_;
};

}  // namespace adainfer::inline v0
