#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/reading.hpp"
#include "adainfer/model/readout.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/train/dataset.hpp"

namespace adainfer::inline v0 {

namespace detail::collect {

/// Never exits; hands what can be read at each check of a schedule, as far as `most` goes, to a function.
template <Needs most, class Lens, class Head, class Visit>
class Recorder : public ReadsWith<Lens, Head> {
  public:
    static constexpr bool needs_dense_answer = true;
    struct State {};
    struct Features {
        static constexpr Needs needs = most;
        using Values = Reading;
        static const Reading& read(const Reading& reading) noexcept { return reading; }
    };

    Recorder(Schedule schedule, Lens lens, Head head, Visit& visit)
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), schedule_(std::move(schedule)), visit_(&visit) {}

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && ReadsWith<Lens, Head>::wants(layer); }

    [[nodiscard]] ExitDecision decide(std::size_t, const Reading& reading, State&) const {
        (*visit_)(reading);
        return ExitDecision::Continue;
    }

  private:
    Schedule schedule_;
    Visit* visit_;
};

/// Runs the model to its full depth with visit(reading) at each check. The token that the last layer answers with.
template <Needs most, class Lens, class Head, class Model, class Visit>
TokenId run(const Model& model, Session& session, std::span<const TokenId> tokens, std::span<const TokenId> candidates,
            const Schedule& schedule, const Lens& lens, const Head& head, Visit&& visit) {
    const auto recorder = model.with_policy(Recorder<most, Lens, Head, std::remove_reference_t<Visit>>(schedule, lens, head, visit));
    return recorder.predict(session, tokens, candidates).token;
}

/// True where every check would compute the logits of the whole vocabulary.
template <class Head>
[[nodiscard]] bool reads_vocabulary(const Head& head, std::size_t vocabulary, std::size_t candidates) {
    if constexpr (requires { head.rows(vocabulary, candidates, false); }) {
        return candidates == 0 && head.rows(vocabulary, candidates, false) == vocabulary;
    } else {
        return false;
    }
}

/// The states of the checks of one inference, whose logits are computed together: the head of a large vocabulary has the
/// weights of many layers, and is read once for all checks in place of once for each.
class States {
  public:
    explicit States(std::size_t hidden) : hidden_(hidden) {}

    void add(const Reading& reading) {
        layers_.push_back(reading.layer);
        lens_.insert(lens_.end(), reading.lens.begin(), reading.lens.end());
        before_.insert(before_.end(), reading.previous_hidden.begin(), reading.previous_hidden.end());
        after_.insert(after_.end(), reading.hidden.begin(), reading.hidden.end());
    }

    /// visit(reading) for each check in turn, as it would have been read there.
    template <class Decoder, class Visit>
    void visit(const Decoder& decoder, Workspace& work, bool with_entropy, Visit&& visit) const {
        constexpr std::size_t at_once = 16;  // logits of a large vocabulary are 17 MB then
        const auto row = [this](const std::vector<float>& rows, std::size_t i) {
            return std::span(rows).subspan(i * hidden_, hidden_);
        };
        Reading reading;
        reading.layers = decoder.config().layers;
        for (std::size_t first = 0; first < layers_.size(); first += at_once) {
            const std::size_t count = (std::min)(at_once, layers_.size() - first);
            const MatrixView<float> logits = work.logits.resize(count, decoder.config().vocabulary);
            decoder.logits(MatrixView<const float>(row(lens_, first).data(), count, hidden_), logits);
            for (std::size_t i = 0; i < count; ++i) {
                reading.layer = layers_[first + i];
                reading.previous_lens = std::exchange(reading.lens, row(lens_, first + i));
                reading.previous_hidden = row(before_, first + i);
                reading.hidden = row(after_, first + i);
                reading.top = top_two(logits.row(i), with_entropy, ops::level_of(decoder.backend()));
                reading.previous_token = std::exchange(reading.token, static_cast<TokenId>(reading.top.top));
                visit(reading);
            }
        }
    }

  private:
    std::size_t hidden_;
    std::vector<std::size_t> layers_;
    std::vector<float> lens_, before_, after_;  ///< [checks, hidden]: as the lens reads it, before and after the layer
};

}  // namespace detail::collect

/// Runs the model to its full depth on the tokens that follow the session's positions, and records what a policy with these
/// features, lens and head would have read after each layer of the schedule, together with the answers there and at the
/// end. The answers there are of the checks' own logits: a shortlist that confirms is not confirmed here. Logits of the whole
/// vocabulary are computed for all checks at once, rounded as the backend rounds a prompt's. `candidates` as in
/// Model::predict(); `gold`, where known, is the right answer. The session stays as it was. Throws as predict() does.
template <class Features, class Lens, class Head, class Backend, class Policy, class Completion>
[[nodiscard]] Trace collect_trace(const Model<Backend, Policy, Completion>& model, Session& session,
                                  std::span<const TokenId> tokens, std::span<const TokenId> candidates,
                                  std::optional<TokenId> gold, const Schedule& schedule, const Lens& lens, const Head& head,
                                  int group = 0) {
    namespace d = detail::collect;
    Trace trace;
    trace.n_layers = model.config().layers;
    trace.n_features = Features::size;
    trace.group = group;
    const auto add = [&trace](const Reading& reading) {
        const auto values = Features::read(reading).all();
        trace.layers.push_back(reading.layer);
        trace.features.insert(trace.features.end(), values.begin(), values.end());
        trace.tokens.push_back(reading.token);
    };
    if (d::reads_vocabulary(head, model.config().vocabulary, candidates.size())) {
        d::States states(model.config().hidden);
        trace.final_token = d::run<Needs::Lens>(model, session, tokens, candidates, schedule, lens, head,
                                                [&](const Reading& reading) { states.add(reading); });
        states.visit(model.decoder(), session.work, Features::needs == Needs::Entropy, add);
    } else {
        constexpr Needs needs = (std::max)(Features::needs, Needs::Logits);  // for the token
        trace.final_token = d::run<needs>(model, session, tokens, candidates, schedule, lens, head, add);
        const std::vector<TokenId>& shortlist = session.work.shortlist;
        trace.final_reachable = shortlist.empty() || adainfer::confirms_of(head) ||
                                std::binary_search(shortlist.begin(), shortlist.end(), trace.final_token);
    }
    for (const TokenId token : trace.tokens) {
        trace.agrees.push_back(token == trace.final_token ? 1 : 0);
        if (gold) trace.matches_gold.push_back(token == *gold ? 1 : 0);
    }
    trace.final_matches_gold = gold && trace.final_token == *gold;
    return trace;
}

}  // namespace adainfer::inline v0
