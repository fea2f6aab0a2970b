#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "adainfer/model/cost.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/reading.hpp"
#include "adainfer/model/weights.hpp"

// What a policy's checks cost beside the layers that its exits save. A lens and a head say what they read by OPTIONAL members:
//
//     std::size_t numbers(std::size_t hidden) const;    // that one apply() multiplies with; default none
//     std::size_t bytes(std::size_t layer) const;       // that apply() reads after the layer; default: numbers as floats
//     std::size_t rows(std::size_t vocabulary, std::size_t candidates, bool first) const;
//                                                       // logits of one check, the first or a later one; default all
//     bool confirms() const;                            // an answer after a later check costs a full head; default false

namespace adainfer::inline v0 {

struct PolicyCostOptions {
    CostOptions pass{};
    std::size_t candidates = 0;   ///< that the call names; 0: open answers
    bool completes_kv = true;     ///< decode(): layers not run still write K/V; predict(): they do not
};

/// Passes of a model under one policy, in its worst case: where it is made of parts, each that can be asked is. What a classifier
/// itself computes is left out.
struct PolicyCost {
    struct Exit {
        std::size_t layer = 0;  ///< layers run
        Cost check;             ///< of the check there
        Cost total;             ///< of a pass that exits there: layers, checks, K/V, answer
    };

    Cost dense;               ///< a pass of the dense model, its answer included
    Cost full_depth;          ///< a pass of the policy that exits nowhere
    Cost checks;              ///< the checks of that pass
    std::vector<Exit> exits;  ///< the layers after which it is asked, ascending
    bool exits_for_real = true;  ///< false for a bound such as Oracle, which always runs every layer
    bool one_token = true;    ///< bytes decide what one token costs, multiplications what many at once do

    /// The side of a cost that decides.
    [[nodiscard]] std::uint64_t deciding(const Cost& cost) const noexcept { return one_token ? cost.bytes : cost.multiply_adds; }

    /// What a pass loses against the dense model where it exits nowhere.
    [[nodiscard]] std::uint64_t most_lost() const noexcept { return excess(full_depth, dense); }

    /// The exit that saves most; nothing where the policy is never asked.
    [[nodiscard]] const Exit* best_exit() const noexcept {
        const auto best = std::min_element(exits.begin(), exits.end(),
                                           [&](const Exit& a, const Exit& b) { return deciding(a.total) < deciding(b.total); });
        return best == exits.end() ? nullptr : &*best;
    }

    /// What a pass saves with that exit; 0 where no exit pays.
    [[nodiscard]] std::uint64_t most_saved() const noexcept {
        const Exit* best = best_exit();
        return best == nullptr ? 0 : excess(dense, best->total);
    }

    /// The deepest exit that still saves something, in layers; 0 where none does.
    [[nodiscard]] std::size_t deepest_paying() const noexcept {
        std::size_t deepest = 0;
        for (const Exit& exit : exits) {
            if (deciding(exit.total) < deciding(dense)) deepest = exit.layer;
        }
        return deepest;
    }

    /// True where one pass without an exit loses more than the best exit saves: the policy then pays only if most passes exit.
    [[nodiscard]] bool loses() const noexcept { return exits_for_real && most_lost() > most_saved(); }

  private:
    [[nodiscard]] std::uint64_t excess(const Cost& a, const Cost& b) const noexcept {
        return deciding(a) > deciding(b) ? deciding(a) - deciding(b) : 0;
    }
};

namespace detail::policy_cost {

template <class Lens>
[[nodiscard]] Cost of_lens(const Lens& lens, std::size_t hidden, std::size_t layer) {
    if constexpr (requires { lens.numbers(hidden); }) {
        const std::uint64_t numbers = lens.numbers(hidden);
        if constexpr (requires { lens.bytes(layer); }) return {lens.bytes(layer), numbers};
        else return {numbers * sizeof(float), numbers};
    } else {
        return {};
    }
}

template <class Head>
[[nodiscard]] std::uint64_t rows(const Head& head, const ModelCost& model, std::size_t candidates, bool first) {
    if constexpr (requires { head.rows(std::size_t{}, candidates, first); }) {
        return head.rows(static_cast<std::size_t>(model.vocabulary), candidates, first);
    } else {
        return model.vocabulary;
    }
}

/// What the checks of one pass compute, the parts of a composite policy taken together.
class Checks {
  public:
    Checks(const ModelCost& model, std::size_t hidden, std::size_t candidates)
        : model_(model), hidden_(hidden), candidates_(candidates) {}

    /// The check after `layer` layers; `answered` says whether it leaves logits to answer from.
    template <class Policy>
    [[nodiscard]] Cost after(const Policy& policy, std::size_t layer, bool& answered) {
        lens_ = {};
        rows_ = 0;
        reads_logits_ = false;
        // Some parts are asked only where others go on, some only where they exit.
        for (const ExitDecision answer : {ExitDecision::Continue, ExitDecision::Exit}) {
            typename Policy::State state = adainfer::start_of(policy, 0);
            ask(policy, layer, state, answer);
        }
        answered = reads_logits_;
        confirmation_ = confirmation_of(rows_);
        shortlisted_ = shortlisted_ || reads_logits_;
        return reads_logits_ ? lens_ + model_.head_rows(rows_) : lens_;
    }

    /// Lens and head for an exit after `layer` layers whose check left no logits.
    template <class Policy>
    [[nodiscard]] Cost answer(const Policy& policy, std::size_t layer) const {
        // Where it is not none, the check has read it.
        const Cost lens = lens_ == Cost{} ? of_lens(adainfer::lens_of(policy), hidden_, layer) : Cost{};
        const std::uint64_t read = rows(adainfer::head_of(policy), model_, candidates_, !shortlisted_);
        return lens + model_.head_rows(read) + confirmation_of(read);
    }

    /// The full head of an exit after the last check, where its logits are of a shortlist that is confirmed.
    [[nodiscard]] Cost confirmation() const noexcept { return confirmation_; }

    /// The answer of a pass that ran every layer: where a shortlist stands that nothing confirms, it is among its tokens.
    template <class Policy>
    [[nodiscard]] Cost last_answer(const Policy& policy) const {
        if (candidates_ > 0) return model_.head_rows(candidates_);
        if (bound_ || confirms_ || !shortlisted_) return model_.head();
        return model_.head_rows(rows(adainfer::head_of(policy), model_, 0, false));
    }

    /// A policy that needs the dense model's answer is a bound.
    [[nodiscard]] bool bound() const noexcept { return bound_; }

  private:
    [[nodiscard]] Cost confirmation_of(std::uint64_t read) const noexcept {
        return confirms_ && candidates_ == 0 && read < model_.vocabulary ? model_.head() : Cost{};
    }

    template <class Policy>
    void ask(const Policy& policy, std::size_t layer, typename Policy::State& state, ExitDecision answer) {
        if constexpr (HasConsult<Policy>) {
            static_cast<void>(policy.consult(
                layer,
                [&](const auto& part, auto& part_state) {
                    ask(part, layer, part_state, answer);
                    return answer;
                },
                state));
        } else if constexpr (requires { Policy::Features::needs; }) {
            if constexpr (requires { Policy::needs_dense_answer; }) bound_ = true;
            if constexpr (Policy::Features::needs >= Needs::Lens) lens_ = of_lens(adainfer::lens_of(policy), hidden_, layer);
            if constexpr (Policy::Features::needs >= Needs::Logits) {
                rows_ = (std::max)(rows_, rows(adainfer::head_of(policy), model_, candidates_, !shortlisted_));
                confirms_ = confirms_ || adainfer::confirms_of(adainfer::head_of(policy));
                reads_logits_ = true;
            }
        }
    }

    const ModelCost& model_;
    std::size_t hidden_, candidates_;
    Cost lens_, confirmation_;
    std::uint64_t rows_ = 0;
    bool reads_logits_ = false, shortlisted_ = false, confirms_ = false, bound_ = false;
};

}  // namespace detail::policy_cost

/// Counts what passes of a model under a policy cost: which layers it is asked after, through which lens and head it reads, and
/// which layers it skips.
template <class Policy>
[[nodiscard]] PolicyCost cost(const ModelWeights& weights, const Policy& policy, const PolicyCostOptions& options = {}) {
    const ModelCost dense = cost(weights, options.pass);
    ModelCost run = dense;
    const std::size_t layers = run.layers.size();
    for (std::size_t layer = 1; layer <= layers; ++layer) {
        if (adainfer::skips_of(policy, layer)) run.layers[layer - 1] = run.kv[layer - 1] = Cost{};
    }
    PolicyCost result;
    result.one_token = options.pass.tokens <= 1;
    const Cost dense_answer = options.candidates > 0 ? dense.head_rows(options.candidates) : dense.head();
    result.dense = dense.embedding + dense.layers_between(0, layers) + dense_answer;

    detail::policy_cost::Checks checks(run, weights.config.hidden, options.candidates);
    Cost so_far = run.embedding;
    for (std::size_t layer = 1; layer <= layers; ++layer) {
        so_far += run.layers[layer - 1];
        if (layer == layers || !policy.wants(layer)) continue;
        bool answered = false;
        const Cost check = checks.after(policy, layer, answered);
        so_far += check;
        result.checks += check;
        Cost total = so_far + (answered ? checks.confirmation() : checks.answer(policy, layer));
        if (options.completes_kv) total += run.kv_after(layer);
        result.exits.push_back({layer, check, total});
    }
    result.full_depth = so_far + checks.last_answer(policy);
    result.exits_for_real = !checks.bound();
    return result;
}

}  // namespace adainfer::inline v0
