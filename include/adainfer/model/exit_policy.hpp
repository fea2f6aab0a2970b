#pragma once

#include <concepts>
#include <cstddef>

#include "adainfer/model/readout.hpp"

namespace adainfer::inline v0 {

enum class ExitDecision { Continue, Exit };

/// An exit policy is one of two kinds. A plain one reads numbers and decides:
///
///     struct SureEnough {
///         using Features = FeatureList<TopProb>;   // what decide() reads
///         struct State {};                         // of one inference, made anew for every token
///         bool wants(std::size_t layer) const { return layer >= 12; }   // asked before anything is computed
///         ExitDecision decide(std::size_t layer, const Features::Values& values, State&) const {
///             return values.get<TopProb>() > 0.9F ? ExitDecision::Exit : ExitDecision::Continue;
///         }
///         const LogitLens& lens() const;           // OPTIONAL: how a hidden state is read; default LogitLens
///         const FullHead& head() const;            // OPTIONAL: which logits are computed; default FullHead
///         std::size_t hindsight(const State&, TokenId final_token, std::size_t layers) const;  // OPTIONAL: after a run at
///                                                  // full depth, the layer to report as exit layer (Oracle)
///         static constexpr bool needs_dense_answer = true;   // OPTIONAL: at full depth no shortlist stands in for the vocabulary
///         State start(std::size_t step) const;     // OPTIONAL: the state of an inference that is `step` steps into its
///                                                  // generation (RunOptions::step); default State{}
///         bool skips(std::size_t layer) const;     // OPTIONAL: layers, counted from 1, that this model never runs; default
///                                                  // none. Asked once, when the model is built
///     };
///
/// A composite one asks others, in place of Features and decide():
///
///     template <class Ask> ExitDecision consult(std::size_t layer, Ask&& ask, State&) const;   // ask(policy, its state)
///
/// `layer` counts the layers that have run, 1 to layers - 1. decide() is const and must not throw. A composite passes start(),
/// skips() and hindsight() of its parts on, with start_of() and skips_of().
template <class P>
concept HasState = requires { typename P::State; } && std::default_initializable<typename P::State>;

template <class P>
concept HasWants = requires(const P& policy, std::size_t layer) {
    { policy.wants(layer) } -> std::same_as<bool>;
};

template <class P>
concept HasDecide = requires(const P& policy, std::size_t layer, const typename P::Features::Values& values,
                             typename P::State& state) {
    { policy.decide(layer, values, state) } -> std::same_as<ExitDecision>;
};

namespace detail {
/// Stands for the model's answer when a composite policy is checked.
struct AnyAnswer {
    template <class P, class S>
    ExitDecision operator()(const P&, S&) const;
};
}  // namespace detail

template <class P>
concept HasConsult = requires(const P& policy, std::size_t layer, const detail::AnyAnswer& ask, typename P::State& state) {
    { policy.consult(layer, ask, state) } -> std::same_as<ExitDecision>;
};

/// The optional members, where a policy has them with the right signature.
template <class P>
concept HasStart = requires(const P& policy, std::size_t step) {
    { policy.start(step) } -> std::same_as<typename P::State>;
};

template <class P>
concept HasSkips = requires(const P& policy, std::size_t layer) {
    { policy.skips(layer) } -> std::same_as<bool>;
};

namespace detail {
// A member of that name that does not fit its concept is a mistake, which would go unnoticed as the member is optional.
template <class P>
concept NamesStart = requires { &P::start; } || requires(P& policy, std::size_t step) { policy.start(step); };

template <class P>
concept NamesSkips = requires { &P::skips; } || requires(P& policy, std::size_t layer) { policy.skips(layer); };
}  // namespace detail

template <class P>
concept ExitPolicy = std::move_constructible<P> && HasState<P> && HasWants<P> && (HasDecide<P> || HasConsult<P>);

/// Turns a missing operation into one readable line.
template <class P>
consteval void require_exit_policy() {
    static_assert(HasState<P>, "adainfer: the exit policy lacks a default-constructible nested type State (see ExitPolicy)");
    static_assert(HasWants<P>, "adainfer: the exit policy lacks 'bool wants(std::size_t layer) const' (see ExitPolicy)");
    if constexpr (HasState<P> && HasWants<P>) {
        static_assert(HasDecide<P> || HasConsult<P>,
                      "adainfer: the exit policy lacks 'ExitDecision decide(std::size_t layer, const Features::Values&, State&) "
                      "const' (see ExitPolicy)");
    }
    if constexpr (HasState<P>) {
        static_assert(HasStart<P> || !detail::NamesStart<P>,
                      "adainfer: the exit policy's optional start must be 'State start(std::size_t step) const' (see "
                      "ExitPolicy)");
    }
    static_assert(HasSkips<P> || !detail::NamesSkips<P>,
                  "adainfer: the exit policy's optional skips must be 'bool skips(std::size_t layer) const' (see ExitPolicy)");
    constexpr bool movable = std::move_constructible<P>;
    static_assert(movable, "adainfer: the exit policy must be movable (see ExitPolicy)");
}

/// The policy's state for an inference that is `step` steps into its generation.
template <class P>
[[nodiscard]] typename P::State start_of(const P& policy, std::size_t step) {
    if constexpr (HasStart<P>) {
        return policy.start(step);
    } else {
        return typename P::State{};
    }
}

/// True where models of this policy never run `layer`, counted from 1.
template <class P>
[[nodiscard]] bool skips_of(const P& policy, std::size_t layer) {
    if constexpr (HasSkips<P>) {
        return policy.skips(layer);
    } else {
        return false;
    }
}

/// The policy's lens, or the logit lens where it names none.
template <class P>
[[nodiscard]] decltype(auto) lens_of(const P& policy) {
    if constexpr (requires { policy.lens(); }) {
        return policy.lens();
    } else {
        return LogitLens{};
    }
}

/// The policy's head, or the full head where it names none.
template <class P>
[[nodiscard]] decltype(auto) head_of(const P& policy) {
    if constexpr (requires { policy.head(); }) {
        return policy.head();
    } else {
        return FullHead{};
    }
}

/// The dense model: every layer runs, nothing is computed in between.
struct NeverExit {
    static constexpr bool never_exits = true;
    struct State {};
    struct Features {
        struct Values {};
    };
    [[nodiscard]] static constexpr bool wants(std::size_t) noexcept { return false; }
    [[nodiscard]] static constexpr ExitDecision decide(std::size_t, const Features::Values&, State&) noexcept {
        return ExitDecision::Continue;
    }
};

}  // namespace adainfer::inline v0
