#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "adainfer/backend/concept.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/fit_together.hpp"
#include "adainfer/model/forward_pass.hpp"
#include "adainfer/model/kv_completion.hpp"
#include "adainfer/model/observer.hpp"
#include "adainfer/model/prediction.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/skipped_layers.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// A decoder-only language model that stops each inference at the layer where its exit policy says so.
///
/// Immutable: every member is const and may be called from many threads at once, each with its own Session. Models with
/// other policies over the same weights come from with_policy() and share them.
template <class Backend, class Policy = NeverExit, class Completion = PropagateHidden>
class Model {
  public:
    /// Throws Cancelled, and what the policy throws where it belongs to another model.
    explicit Model(ModelWeights weights, Policy policy = {}, Backend backend = Backend{}, const BuildOptions& options = {})
        : Model(std::make_shared<const Decoder<Backend>>(std::move(weights), std::move(backend), options), std::move(policy)) {}

    explicit Model(std::shared_ptr<const Decoder<Backend>> decoder, Policy policy = {})
        : decoder_(std::move(decoder)), policy_(std::move(policy)) {
        if constexpr (requires { policy_.check_model(decoder_->weights()); }) policy_.check_model(decoder_->weights());
        std::vector<bool> skipped;
        for (std::size_t layer = 1; layer <= config().layers; ++layer) skipped.push_back(adainfer::skips_of(policy_, layer));
        skipped_ = SkippedLayers(std::move(skipped));
    }

    Model(Model&&) noexcept = default;
    Model& operator=(Model&&) noexcept = default;

    /// The same weights under another policy; nothing is copied.
    template <class Other>
    [[nodiscard]] Model<Backend, Other, Completion> with_policy(Other policy) const {
        return Model<Backend, Other, Completion>(decoder_, std::move(policy));
    }

    /// The same weights and policy with another completion.
    template <class Other>
    [[nodiscard]] Model<Backend, Policy, Other> with_completion() const {
        return Model<Backend, Policy, Other>(decoder_, policy_);
    }

    [[nodiscard]] const ModelConfig& config() const noexcept { return decoder_->config(); }
    [[nodiscard]] const Decoder<Backend>& decoder() const noexcept { return *decoder_; }
    [[nodiscard]] const Policy& policy() const noexcept { return policy_; }

    /// The layers that no pass of this model runs.
    [[nodiscard]] const SkippedLayers& skipped() const noexcept { return skipped_; }

    /// An empty session for `capacity` positions; 0: as many as the model was made for. Throws ContextOverflow above that.
    [[nodiscard]] Session new_session(std::size_t capacity = 0) const { return new_session(SessionOptions{.capacity = capacity}); }

    /// The same with more to choose: new_session({.capacity = 4096, .kv = KvType::F16}). Throws InvalidArgument too, where the
    /// model's heads do not fit the type (see KvCache).
    [[nodiscard]] Session new_session(const SessionOptions& options) const {
        const std::size_t capacity = options.capacity;
        if (capacity > config().context) {
            fail(ErrorCode::ContextOverflow, "a session of ", capacity, " positions was asked for, the model's context is ",
                 config().context);
        }
        return Session(KvCache(config(), capacity == 0 ? config().context : capacity, options.kv, options.rewindable),
                       decoder_->weights().identity);
    }

    /// Appends the tokens to the session at full depth; no logits. Throws InvalidArgument (no tokens), ContextOverflow,
    /// UnknownToken, NotFinite, Cancelled, IdentityMismatch (a session of other weights, or without K/V of the same layers); then
    /// the session is as it was.
    void prefill(Session& session, std::span<const TokenId> tokens, const RunOptions& options = {}) const {
        check(session, tokens);
        detail::Transaction transaction(session);
        for (std::size_t done = 0; done < tokens.size();) {
            const std::span<const TokenId> chunk = tokens.subspan(done, (std::min)(rows_at_once, tokens.size() - done));
            ForwardPass<Backend> pass(*decoder_, session, chunk);
            run_all_layers(pass, options.stop);
            pass.commit(config().layers);
            pass.append();
            done += chunk.size();
            if (options.progress) options.progress({"prefill", done, tokens.size()});
        }
        transaction.commit();
    }

    /// Appends the tokens at full depth and says what comes next. Throws as prefill() does.
    [[nodiscard]] Prediction prefill_and_predict(Session& session, std::span<const TokenId> tokens,
                                                 const RunOptions& options = {}) const {
        detail::Transaction transaction(session);
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
        check(session, {&token, 1});
        if constexpr (!defers && !never_exits) finish(session, options);
        ForwardPass<Backend> pass(*decoder_, session, {&token, 1});
        const Outcome outcome = run_until_exit(pass, session, {}, options);
        if constexpr (Completion::keeps_session) Completion::complete(*decoder_, session, outcome.depth);
        pass.commit(outcome.depth);
        pass.append();
        return outcome.prediction;
    }

    /// Brings the positions whose K/V DeferredExact has left out to full depth: afterwards the session is as a dense run would
    /// have left it. Other models of these weights do so of themselves before they continue the session. Throws NotFinite,
    /// Cancelled, IdentityMismatch; then the session is as it was.
    void finish(Session& session, const RunOptions& options = {}) const {
        check_session(session);
        if (session.deferred.empty()) return;
        ForwardPass<Backend> pass(*decoder_, session, {});
        run_all_layers(pass, options.stop);
        pass.commit(config().layers);
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
        check(session, tokens);
        ForwardPass<Backend> pass(*decoder_, session, tokens);
        const Outcome outcome = run_until_exit(pass, session, candidates, options);
        pass.commit(outcome.depth);
        return outcome.prediction;
    }

    /// Full-depth pass over the tokens that keeps no K/V beyond the session's and calls visit(t, logits [vocabulary]) for
    /// each token in turn. Throws as prefill().
    template <class Visit>
    void for_each_logits(Session& session, std::span<const TokenId> tokens, Visit&& visit, const RunOptions& options = {}) const {
        check(session, tokens);
        detail::Transaction transaction(session);  // never committed: rewinds
        for (std::size_t done = 0; done < tokens.size();) {
            const std::span<const TokenId> chunk = tokens.subspan(done, (std::min)(rows_at_once, tokens.size() - done));
            ForwardPass<Backend> pass(*decoder_, session, chunk);
            run_all_layers(pass, options.stop);
            pass.commit(config().layers);
            const MatrixView<float> all = session.work.hidden.view();
            const MatrixView<float> hidden = all.rows(all.rows() - chunk.size(), chunk.size());
            for (std::size_t first = 0; first < chunk.size(); first += logits_at_once) {
                const std::size_t count = (std::min)(logits_at_once, chunk.size() - first);
                const MatrixView<float> normed = session.work.lens.resize(count, config().hidden);
                const MatrixView<float> logits = session.work.logits.resize(count, config().vocabulary);
                decoder_->final_norm(hidden.rows(first, count), normed);
                decoder_->logits(normed, logits);
                for (std::size_t t = 0; t < count; ++t) visit(done + first + t, std::span<const float>(logits.row(t)));
            }
            pass.append();
            done += chunk.size();
            if (options.progress) options.progress({"score", done, tokens.size()});
        }
    }

  private:
    static constexpr std::size_t logits_at_once = 16;  // the head is read once for them; of a large vocabulary they are 17 MB
    static constexpr bool never_exits = requires { Policy::never_exits; };
    static constexpr bool defers = requires { Completion::defers; };

    struct Outcome {
        Prediction prediction;
        std::size_t depth;  // layers passed, skipped ones included; hindsight may report a smaller exit layer
    };

    void check_session(Session& session) const {
        if (session.identity() != decoder_->weights().identity) {
            fail(ErrorCode::IdentityMismatch, "the session belongs to model ", session.identity(), ", not to ",
                 decoder_->weights().identity);
        }
        if (session.skipped == skipped_) return;
        if (session.length() != 0) {
            fail(ErrorCode::IdentityMismatch, "the session was filled by a model that skips ", session.skipped.describe(),
                 ", this one skips ", skipped_.describe());
        }
        session.skipped = skipped_;
    }

    void check(Session& session, std::span<const TokenId> tokens) const {
        check_session(session);
        if (tokens.empty()) fail(ErrorCode::InvalidArgument, "the prompt is empty: at least one token is needed");
        if (tokens.size() > session.capacity() - session.length()) {
            fail(ErrorCode::ContextOverflow, tokens.size(), " tokens after ", session.length(), " positions exceed the session's ",
                 session.capacity(), " (the model's context is ", config().context, ")");
        }
    }

    static void run_layer(ForwardPass<Backend>& pass, std::size_t layer, const std::stop_token& stop) {
        if (stop.stop_requested()) fail(ErrorCode::Cancelled, "stopped before layer ", layer + 1);
        pass.run_layer(layer);
    }

    void run_all_layers(ForwardPass<Backend>& pass, const std::stop_token& stop) const {
        for (std::size_t layer = 0; layer < config().layers; ++layer) {
            if (!skipped_.contains(layer)) run_layer(pass, layer, stop);
        }
    }

    /// AdaInfer's loop (arXiv 2403.02181, section 3.3): run a layer, read the features, ask the classifier.
    Outcome run_until_exit(ForwardPass<Backend>& pass, Session& session, std::span<const TokenId> candidates,
                           const RunOptions& options) const {
        Observer<Backend> observer(*decoder_, session, candidates);
        std::size_t depth = config().layers, exit_layer = depth;
        if constexpr (never_exits) {
            run_all_layers(pass, options.stop);
            observer.answer(policy_, depth);
        } else {
            typename Policy::State state = adainfer::start_of(policy_, options.step);
            const std::size_t last = skipped_.last_of(config().layers);
            for (std::size_t layer = 1; layer <= last; ++layer) {
                if (skipped_.contains(layer - 1)) continue;
                const bool wanted = layer < last && policy_.wants(layer);
                if (wanted) observer.before_layer();
                run_layer(pass, layer - 1, options.stop);
                if (!wanted) continue;
                observer.after_layer(layer);
                if (ask(policy_, layer, observer, state) == ExitDecision::Exit) {
                    depth = exit_layer = layer;
                    break;
                }
            }
            observer.answer(policy_, depth);
            if constexpr (requires { policy_.hindsight(state, TokenId{}, exit_layer); }) {
                exit_layer = policy_.hindsight(state, observer.best(), exit_layer);
            }
        }
        return {conclude(observer, exit_layer), depth};
    }

    template <class Asked>
    static ExitDecision ask(const Asked& policy, std::size_t layer, Observer<Backend>& observer, typename Asked::State& state) {
        if constexpr (HasConsult<Asked>) {
            return policy.consult(
                layer, [&](const auto& part, auto& part_state) { return ask(part, layer, observer, part_state); }, state);
        } else {
            return policy.decide(layer, observer.features(policy), state);
        }
    }

    Prediction conclude(const Observer<Backend>& observer, std::size_t depth) const {
        return {observer.best(),   skipped_.run_of(depth), config().layers,
                observer.checks(), observer.logits(),      observer.columns()};
    }

    std::shared_ptr<const Decoder<Backend>> decoder_;
    Policy policy_;
    SkippedLayers skipped_;
};

/// Backend, policy and completion that do not make a model: one readable line says why. The rest of the program is checked as if
/// they did, so that the compiler adds nothing to that line.
template <class Backend, class Policy, class Completion>
    requires(!FitTogether<Backend, Policy, Completion>)
class Model<Backend, Policy, Completion> : public Model<detail::StandInBackend, NeverExit, PropagateHidden> {
    static_assert((require_backend<Backend>(), true));
    static_assert((require_exit_policy<Policy>(), true));
    static_assert((require_readout<Backend, Policy>(), true));
    static_assert(KvCompletion<Completion>,
                  "adainfer: the completion lacks 'static constexpr bool keeps_session' (see KvCompletion)");

  public:
    template <class... Arguments>
    explicit Model(Arguments&&...);
};

}  // namespace adainfer::inline v0
