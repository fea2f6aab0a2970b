#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <variant>

#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/any_classifier.hpp"
#include "adainfer/early_exit/any_readout.hpp"
#include "adainfer/early_exit/calm_threshold.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/skip_decode.hpp"
#include "adainfer/early_exit/skip_layers.hpp"
#include "adainfer/model/exit_policy.hpp"

namespace adainfer::inline v0 {

/// One of several policies, chosen at run time. For programs whose user names the policy (the command line); its price is a
/// branch a check.
template <class... Policies>
class OneOf {
  public:
    struct State {
        std::variant<std::monostate, typename Policies::State...> active;
    };

    template <class Policy>
        requires(std::is_same_v<std::remove_cvref_t<Policy>, Policies> || ...)
    explicit(false) OneOf(Policy&& policy) : policy_(std::forward<Policy>(policy)) {}

    [[nodiscard]] bool wants(std::size_t layer) const {
        return std::visit([&](const auto& policy) { return policy.wants(layer); }, policy_);
    }

    [[nodiscard]] State start(std::size_t step) const {
        return std::visit(
            [&]<class Policy>(const Policy& policy) {
                constexpr std::size_t slot = index_of<Policy>() + 1;
                State state;
                if constexpr (HasStart<Policy>) {
                    state.active.template emplace<slot>(policy.start(step));
                } else {
                    state.active.template emplace<slot>();
                }
                return state;
            },
            policy_);
    }

    [[nodiscard]] bool skips(std::size_t layer) const {
        return std::visit([&](const auto& policy) { return adainfer::skips_of(policy, layer); }, policy_);
    }

    template <class Ask>
    ExitDecision consult(std::size_t, Ask&& ask, State& state) const {
        return with_state(state, [&](const auto& policy, auto& own) { return ask(policy, own); });
    }

    [[nodiscard]] std::size_t hindsight(const State& state, TokenId final_token, std::size_t exit_layer) const {
        return std::visit(
            [&]<class Policy>(const Policy& policy) {
                if constexpr (requires(const typename Policy::State& s) { policy.hindsight(s, final_token, exit_layer); }) {
                    const auto* own = get_state<Policy>(state);
                    if (own != nullptr) return policy.hindsight(*own, final_token, exit_layer);
                }
                return exit_layer;
            },
            policy_);
    }

    [[nodiscard]] AnyLens lens() const {
        return std::visit([](const auto& policy) { return AnyLens(adainfer::lens_of(policy)); }, policy_);
    }
    [[nodiscard]] AnyHead head() const {
        return std::visit([](const auto& policy) { return AnyHead(adainfer::head_of(policy)); }, policy_);
    }

    template <class Weights>
    void check_model(const Weights& weights) const {
        std::visit(
            [&](const auto& policy) {
                if constexpr (requires { policy.check_model(weights); }) policy.check_model(weights);
            },
            policy_);
    }

  private:
    template <class Policy>
    static constexpr std::size_t index_of() {
        std::size_t i = 0;
        static_cast<void>(((std::is_same_v<Policy, Policies> ? true : (++i, false)) || ...));
        return i;
    }

    template <class Policy>
    static const typename Policy::State* get_state(const State& state) {
        return std::get_if<index_of<Policy>() + 1>(&state.active);
    }

    template <class F>
    ExitDecision with_state(State& state, F&& f) const {
        return std::visit(
            [&]<class Policy>(const Policy& policy) {
                constexpr std::size_t slot = index_of<Policy>() + 1;
                if (state.active.index() != slot) state.active.template emplace<slot>();
                return f(policy, std::get<slot>(state.active));
            },
            policy_);
    }

    std::variant<Policies...> policy_;
};

/// Every built-in policy, with lens, head and classifier chosen at run time too.
using AnyPolicy =
    OneOf<NeverExit, ExitAtLayer<AnyLens, AnyHead>, GapThreshold<AnyLens, AnyHead>, TopProbThreshold<AnyLens, AnyHead>,
          EntropyThreshold<AnyLens, AnyHead>, HiddenSaturation<AnyLens, AnyHead>, Patience<AnyLens, AnyHead>,
          CalmThreshold<AnyLens, AnyHead>, SkipDecode<AnyLens, AnyHead>, SkipLayers<>, Oracle<AnyLens, AnyHead>,
          AdaInferPolicy<AnyClassifier, PaperFeatures, AnyLens, AnyHead>,
          AdaInferPolicy<AnyClassifier, DepthFeatures, AnyLens, AnyHead>,
          AdaInferPolicy<AnyClassifier, WideFeatures, AnyLens, AnyHead>>;

}  // namespace adainfer::inline v0
