#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/cost.hpp"
#include "adainfer/eval/policy_spec.hpp"
#include "adainfer/eval/prompt.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/train/collect_trace.hpp"

namespace adainfer::inline v0 {

/// How one policy did on the test prompts of one task.
struct Evaluation {
    std::string task, policy;
    double accuracy = 0;         ///< share of prompts whose answer begins with the right token
    double accuracy_dense = 0;   ///< the same for the dense model, on the same prompts
    double agreement = 0;        ///< share of prompts with the dense model's answer
    double mean_layers = 0;      ///< layers run
    double sd_layers = 0;        ///< their standard deviation over the prompts
    std::size_t layers = 0;      ///< of the model
    double pruning_ratio = 0;    ///< share of the layers not run
    double seconds_per_prompt = 0;  ///< wall clock: what follows the shared prefix, the answer included
    double speedup_vs_dense = 0;    ///< dense seconds / these seconds; both measured in this run, prompt by prompt in turn
    double checks_per_prompt = 0;
    double check_cost = 0;          ///< of the checks of a prompt that exits nowhere, as a share of the dense pass (cost_of_task)
    std::size_t break_even_layer = 0;  ///< the deepest exit that costs less than the dense pass; 0: none does
    std::size_t prompts = 0;
};

struct EvaluateOptions {
    std::size_t limit = 0;  ///< test prompts at most; 0: all
    RunOptions run{};
    KvType kv = KvType::F32;  ///< of the sessions
};

/// The smallest fixed depth that keeps `agreement` with the dense model on the task's train prompts (those that no lens was
/// fitted on); the model's depth where none does. Throws as evaluate().
template <class Backend>
[[nodiscard]] std::size_t best_fixed_layer(const Model<Backend>& dense, const Tokenizer& tokenizer, const Task& task,
                                           const AnyLens& lens, double agreement, const RunOptions& run = {},
                                           KvType kv = KvType::F32) {
    const std::vector<Example> examples = train_half(task, TrainHalf::Policy);
    const std::size_t layers = dense.config().layers;
    const TaskPrompts prompts = make_prompts(tokenizer, task, default_shots(task), examples);
    Session session = dense.new_session({.capacity = prompts.longest(), .kv = kv});
    dense.prefill(session, prompts.prefix, run);
    std::vector<std::size_t> agrees(layers + 1);
    for (const auto& tokens : prompts.prompts) {
        const Trace trace = collect_trace<WideFeatures>(dense, session, tokens, prompts.candidates, std::nullopt, Schedule{},
                                                        lens, CandidateHead{});
        for (std::size_t i = 0; i < trace.steps(); ++i) agrees[trace.layers[i]] += trace.agrees[i];
        if (run.stop.stop_requested()) fail(ErrorCode::Cancelled, "choosing a fixed layer was cancelled");
    }
    for (std::size_t layer = 1; layer < layers; ++layer) {
        if (static_cast<double>(agrees[layer]) >= agreement * static_cast<double>(examples.size())) return layer;
    }
    return layers;
}

/// The first `limit` test prompts of a task, all where it is 0, behind the task's own shots. Throws as make_prompts().
[[nodiscard]] inline TaskPrompts test_prompts(const Tokenizer& tokenizer, const Task& task, std::size_t limit) {
    const std::size_t count = limit == 0 ? task.test.size() : (std::min)(limit, task.test.size());
    return make_prompts(tokenizer, task, default_shots(task), std::span(task.test).first(count));
}

/// What a policy costs on such prompts: on one of their mean length, behind the prefix. Precondition: there is one.
template <class Policy>
[[nodiscard]] PolicyCost cost_of_task(const ModelWeights& weights, const Policy& policy, const TaskPrompts& prompts,
                                      KvType kv = KvType::F32) {
    std::size_t tokens = 0;
    for (const auto& prompt : prompts.prompts) tokens += prompt.size();
    const CostOptions pass{.tokens = tokens / prompts.prompts.size(), .context = prompts.prefix.size(), .kv = kv};
    return cost(weights, policy, {.pass = pass, .candidates = prompts.candidates.size(), .completes_kv = false});
}

/// Runs the dense model and each policy on every test prompt of a task, in turn so that whatever else the machine does falls
/// on all alike. The few-shot prefix runs once, at full depth. Returns one row a policy. Throws ContextOverflow where a
/// prompt does not fit, and as make_prompts() and Model::predict() do.
template <class Backend>
[[nodiscard]] std::vector<Evaluation> evaluate(const Model<Backend>& dense, const Tokenizer& tokenizer, const Task& task,
                                               std::span<const NamedPolicy> policies, const EvaluateOptions& options = {}) {
    using Clock = std::chrono::steady_clock;
    const TaskPrompts prompts = test_prompts(tokenizer, task, options.limit);
    const std::size_t count = prompts.prompts.size();
    Session session = dense.new_session({.capacity = prompts.longest(), .kv = options.kv});
    dense.prefill(session, prompts.prefix, RunOptions{options.run.stop, {}});

    std::vector<Model<Backend, Scheduled<AnyPolicy>>> models;
    for (const NamedPolicy& policy : policies) {
        if (policy.chooses_fixed_layer) {
            models.push_back(dense.with_policy(
                policy.make_fixed(best_fixed_layer(dense, tokenizer, task, policy.lens, 0.99, options.run, options.kv))));
        } else {
            models.push_back(dense.with_policy(policy.make(task.name)));
        }
    }

    // A prefix without the layers that a policy skips has K/V of its own.
    std::vector<std::optional<Session>> pruned(models.size());
    for (std::size_t i = 0; i < models.size(); ++i) {
        if (models[i].skipped() == dense.skipped()) continue;
        pruned[i].emplace(models[i].new_session({.capacity = prompts.longest(), .kv = options.kv}));
        models[i].prefill(*pruned[i], prompts.prefix, RunOptions{options.run.stop, {}});
    }

    struct Sums {
        double seconds = 0, right = 0, agrees = 0, layers = 0, squares = 0, checks = 0;
    };
    std::vector<Sums> sums(models.size() + 1);  // the last: dense
    std::vector<Prediction> answers(sums.size());
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t turn = 0; turn < sums.size(); ++turn) {
            const std::size_t which = (i + turn) % sums.size();
            const auto start = Clock::now();
            answers[which] =
                which < models.size()
                    ? models[which].predict(pruned[which] ? *pruned[which] : session, prompts.prompts[i], prompts.candidates,
                                            RunOptions{options.run.stop, {}})
                    : dense.predict(session, prompts.prompts[i], prompts.candidates, RunOptions{options.run.stop, {}});
            sums[which].seconds += std::chrono::duration<double>(Clock::now() - start).count();
        }
        for (std::size_t which = 0; which < sums.size(); ++which) {
            const Prediction& answer = answers[which];
            const auto depth = static_cast<double>(answer.exit_layer);
            sums[which].right += answer.token == prompts.gold[i] ? 1 : 0;
            sums[which].agrees += answer.token == answers.back().token ? 1 : 0;
            sums[which].layers += depth;
            sums[which].squares += depth * depth;
            sums[which].checks += static_cast<double>(answer.checks);
        }
        if (options.run.progress) options.run.progress({task.name, i + 1, count});
    }

    std::vector<Evaluation> rows;
    const auto n = static_cast<double>(count), layers = static_cast<double>(dense.config().layers);
    for (std::size_t p = 0; p < policies.size(); ++p) {
        const Sums& s = sums[p];
        const double mean = s.layers / n;
        const PolicyCost cost = cost_of_task(dense.decoder().weights(), models[p].policy(), prompts, options.kv);
        const double check_cost = static_cast<double>(cost.deciding(cost.checks)) / static_cast<double>(cost.deciding(cost.dense));
        rows.push_back({.task = task.name,
                        .policy = policies[p].name,
                        .accuracy = s.right / n,
                        .accuracy_dense = sums.back().right / n,
                        .agreement = s.agrees / n,
                        .mean_layers = mean,
                        .sd_layers = std::sqrt((std::max)(0.0, s.squares / n - mean * mean)),
                        .layers = dense.config().layers,
                        .pruning_ratio = 1 - mean / layers,
                        .seconds_per_prompt = s.seconds / n,
                        .speedup_vs_dense = sums.back().seconds / s.seconds,
                        .checks_per_prompt = s.checks / n,
                        .check_cost = check_cost,
                        .break_even_layer = cost.exits_for_real ? cost.deepest_paying() : 0,
                        .prompts = count});
    }
    return rows;
}

}  // namespace adainfer::inline v0
