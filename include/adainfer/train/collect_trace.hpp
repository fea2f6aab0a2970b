#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/readout.hpp"
#include "adainfer/train/dataset.hpp"

namespace adainfer::inline v0 {

namespace detail {

/// Never exits; writes down what a policy with these features would have read at each check of a schedule.
template <class FeaturesList, class Lens, class Head>
class Recorder;

template <class... Fs, class Lens, class Head>
class Recorder<FeatureList<Fs...>, Lens, Head> : public ReadsWith<Lens, Head> {
  public:
    static constexpr bool needs_dense_answer = true;
    using Features = FeatureList<Fs..., TopToken>;
    struct State {};

    Recorder(Schedule schedule, Lens lens, Head head, Trace& trace)
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), schedule_(std::move(schedule)), trace_(&trace) {}

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && ReadsWith<Lens, Head>::wants(layer); }

    [[nodiscard]] ExitDecision decide(std::size_t layer, const typename Features::Values& values, State&) const {
        trace_->layers.push_back(layer);
        trace_->features.insert(trace_->features.end(), values.all().begin(), values.all().end() - 1);
        trace_->tokens.push_back(static_cast<TokenId>(values.all().back()));
        return ExitDecision::Continue;
    }

  private:
    Schedule schedule_;
    Trace* trace_;
};

}  // namespace detail

/// Runs the model to its full depth on the tokens that follow the session's positions, and records what a policy with these
/// features, lens and head would have read after each layer of the schedule, together with the answers there and at the
/// end. The answers there are of the checks' own logits: a shortlist that confirms is not confirmed here. `candidates` as in
/// Model::predict(); `gold`, where known, is the right answer. The session stays as it was. Throws as predict() does.
template <class Features, class Lens, class Head, class Backend, class Policy, class Completion>
[[nodiscard]] Trace collect_trace(const Model<Backend, Policy, Completion>& model, Session& session,
                                  std::span<const TokenId> tokens, std::span<const TokenId> candidates,
                                  std::optional<TokenId> gold, const Schedule& schedule, const Lens& lens, const Head& head,
                                  int group = 0) {
    Trace trace;
    trace.n_layers = model.config().layers;
    trace.n_features = Features::size;
    trace.group = group;
    const auto recorder = model.with_policy(detail::Recorder<Features, Lens, Head>(schedule, lens, head, trace));
    trace.final_token = recorder.predict(session, tokens, candidates).token;
    const std::vector<TokenId>& shortlist = session.work.shortlist;
    trace.final_reachable = shortlist.empty() || adainfer::confirms_of(head) ||
                            std::binary_search(shortlist.begin(), shortlist.end(), trace.final_token);
    for (const TokenId token : trace.tokens) {
        trace.agrees.push_back(token == trace.final_token ? 1 : 0);
        if (gold) trace.matches_gold.push_back(token == *gold ? 1 : 0);
    }
    trace.final_matches_gold = gold && trace.final_token == *gold;
    return trace;
}

}  // namespace adainfer::inline v0
