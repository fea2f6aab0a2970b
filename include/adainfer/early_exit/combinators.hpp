#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/reading.hpp"

// Policies made of policies.

namespace adainfer::inline v0 {

namespace detail {
/// The lens and head that a policy reads its features through; void where it reads none.
template <class Policy>
struct ReadsThrough {
    using Lens = void;
    using Head = void;
};
template <class Policy>
    requires requires { Policy::Features::needs; }
struct ReadsThrough<Policy> {
    template <bool needed, class T>
    using If = std::conditional_t<needed, T, void>;
    using Lens = If<(Policy::Features::needs >= Needs::Lens),
                    std::remove_cvref_t<decltype(adainfer::lens_of(std::declval<const Policy&>()))>>;
    using Head = If<(Policy::Features::needs >= Needs::Logits),
                    std::remove_cvref_t<decltype(adainfer::head_of(std::declval<const Policy&>()))>>;
};
template <class Policy>
    requires requires { typename Policy::Readout; }
struct ReadsThrough<Policy> : Policy::Readout {};

template <class A, class B>
inline constexpr bool alike = std::is_void_v<A> || std::is_void_v<B> || std::is_same_v<A, B>;

/// What is read once a check serves all parts of a composite, so they must read alike.
template <class First, class Second>
struct CommonReadout {
    using A = ReadsThrough<First>;
    using B = ReadsThrough<Second>;
    static_assert(alike<typename A::Lens, typename B::Lens> && alike<typename A::Head, typename B::Head>,
                  "adainfer: policies that are combined must read their features through the same lens and head");
    using Lens = std::conditional_t<std::is_void_v<typename A::Lens>, typename B::Lens, typename A::Lens>;
    using Head = std::conditional_t<std::is_void_v<typename A::Head>, typename B::Head, typename A::Head>;
};

/// Lens and head of a composite policy for an exit whose check computed no logits: those of its last part.
template <class Part>
class ReadsLike {
  public:
    explicit ReadsLike(Part part) : part_(std::move(part)) {}
    [[nodiscard]] decltype(auto) lens() const { return adainfer::lens_of(part_); }
    [[nodiscard]] decltype(auto) head() const { return adainfer::head_of(part_); }
    [[nodiscard]] bool skips(std::size_t layer) const { return adainfer::skips_of(part_, layer); }

    template <class Weights>
    void check_model(const Weights& weights) const {
        if constexpr (requires { part_.check_model(weights); }) part_.check_model(weights);
    }

  protected:
    Part part_;
};
}  // namespace detail

/// Asks a policy only after the layers of a schedule.
template <class Policy>
class Scheduled : public detail::ReadsLike<Policy> {
  public:
    using State = typename Policy::State;
    using Readout = detail::ReadsThrough<Policy>;

    Scheduled(Schedule schedule, Policy policy) : detail::ReadsLike<Policy>(std::move(policy)), schedule_(std::move(schedule)) {}

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && this->part_.wants(layer); }

    template <class Ask>
    ExitDecision consult(std::size_t, Ask&& ask, State& state) const {
        return ask(this->part_, state);
    }

    [[nodiscard]] State start(std::size_t step) const { return adainfer::start_of(this->part_, step); }

    /// Passes a policy's own hindsight on.
    [[nodiscard]] std::size_t hindsight(const State& state, TokenId final_token, std::size_t layers) const
        requires requires(const Policy& p) { p.hindsight(state, final_token, layers); }
    {
        return this->part_.hindsight(state, final_token, layers);
    }

  private:
    Schedule schedule_;
};

namespace detail {
template <class First, class Second>
class Pair : public ReadsLike<Second> {
  public:
    struct State {
        typename First::State first{};
        typename Second::State second{};
    };
    using Readout = CommonReadout<First, Second>;

    Pair(First first, Second second) : ReadsLike<Second>(std::move(second)), first_(std::move(first)) {}

    [[nodiscard]] State start(std::size_t step) const {
        return {adainfer::start_of(first_, step), adainfer::start_of(this->part_, step)};
    }

    /// What either part skips.
    [[nodiscard]] bool skips(std::size_t layer) const {
        return adainfer::skips_of(first_, layer) || ReadsLike<Second>::skips(layer);
    }

    /// Throws what the parts throw, and InvalidArgument where they read through different lenses of the same type.
    template <class Weights>
    void check_model(const Weights& weights) const {
        if constexpr (!std::is_void_v<typename ReadsThrough<First>::Lens> && !std::is_void_v<typename ReadsThrough<Second>::Lens>) {
            if constexpr (requires { adainfer::lens_of(first_) == adainfer::lens_of(this->part_); }) {
                if (!(adainfer::lens_of(first_) == adainfer::lens_of(this->part_))) {
                    fail(ErrorCode::InvalidArgument, "policies that are combined must read their features through the same lens");
                }
            }
        }
        if constexpr (requires { first_.check_model(weights); }) first_.check_model(weights);
        ReadsLike<Second>::check_model(weights);
    }

  protected:
    template <class Part, class Ask, class PartState>
    static ExitDecision ask_if_wanted(const Part& part, std::size_t layer, Ask& ask, PartState& state) {
        return part.wants(layer) ? ask(part, state) : ExitDecision::Continue;
    }

    First first_;
};
}  // namespace detail

/// Exits where either policy does; the second is asked only where the first goes on.
template <class First, class Second>
class AnyOf : public detail::Pair<First, Second> {
  public:
    using State = typename detail::Pair<First, Second>::State;
    using detail::Pair<First, Second>::Pair;

    /// False also where the second policy's lens, which reads the answer if no check has, has no map.
    [[nodiscard]] bool wants(std::size_t layer) const {
        return (this->first_.wants(layer) || this->part_.wants(layer)) && adainfer::lens_of(this->part_).reads(layer);
    }

    template <class Ask>
    ExitDecision consult(std::size_t layer, Ask&& ask, State& state) const {
        if (this->ask_if_wanted(this->first_, layer, ask, state.first) == ExitDecision::Exit) return ExitDecision::Exit;
        return this->ask_if_wanted(this->part_, layer, ask, state.second);
    }
};

/// Exits where both policies do at the same check; both are asked at every one, so that both keep their state.
template <class First, class Second>
class AllOf : public detail::Pair<First, Second> {
  public:
    using State = typename detail::Pair<First, Second>::State;
    using detail::Pair<First, Second>::Pair;

    [[nodiscard]] bool wants(std::size_t layer) const { return this->first_.wants(layer) || this->part_.wants(layer); }

    template <class Ask>
    ExitDecision consult(std::size_t layer, Ask&& ask, State& state) const {
        const ExitDecision first = this->ask_if_wanted(this->first_, layer, ask, state.first);
        const ExitDecision second = this->ask_if_wanted(this->part_, layer, ask, state.second);
        return first == ExitDecision::Exit ? second : ExitDecision::Continue;
    }
};

/// Asks a cheap policy first and the other only where that says Exit, so that logits are computed only where an exit is
/// likely. The cheap one must read no logits.
template <class Cheap, class Policy>
class Gated : public detail::Pair<Cheap, Policy> {
    static_assert(std::is_void_v<typename detail::ReadsThrough<Cheap>::Head>,
                  "adainfer: the first policy of Gated must read no logits");

  public:
    using State = typename detail::Pair<Cheap, Policy>::State;
    using detail::Pair<Cheap, Policy>::Pair;

    [[nodiscard]] bool wants(std::size_t layer) const { return this->first_.wants(layer) && this->part_.wants(layer); }

    template <class Ask>
    ExitDecision consult(std::size_t, Ask&& ask, State& state) const {
        return ask(this->first_, state.first) == ExitDecision::Exit ? ask(this->part_, state.second) : ExitDecision::Continue;
    }
};

template <class First, class Second>
AnyOf(First, Second) -> AnyOf<First, Second>;
template <class First, class Second>
AllOf(First, Second) -> AllOf<First, Second>;
template <class Cheap, class Policy>
Gated(Cheap, Policy) -> Gated<Cheap, Policy>;

}  // namespace adainfer::inline v0
