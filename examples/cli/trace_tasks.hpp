#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/eval/task.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/train/collect_trace.hpp"
#include "command.hpp"
#include "progress_bar.hpp"

namespace cli {

/// What the whole head says after a layer, mean over the test prompts of a task.
struct TaskRow {
    std::size_t layer = 0;
    double gap = 0, top_probability = 0;
    double agreement = 0;  ///< share of the prompts whose top token is that of the last layer
};

struct TaskTrace {
    std::string task;
    std::size_t prompts = 0;
    std::vector<TaskRow> rows;  ///< of the layers that the lens reads, and of the last one
};

/// Gap and top probability over depth for the first `limit` test prompts of a task (0: all), each behind the task's shots, as in
/// figures 2 and 3 of AdaInfer (arXiv 2403.02181). Throws as make_prompts() and Model::predict() do.
template <class Model>
[[nodiscard]] TaskTrace trace_task(const Model& dense, const adainfer::Tokenizer& tokenizer, const adainfer::Task& task,
                                   const adainfer::AnyLens& lens, std::size_t limit, const Context& context) {
    const std::size_t layers = dense.config().layers;
    const std::span<const adainfer::Example> test(task.test);
    const auto prompts = adainfer::make_prompts(tokenizer, task, adainfer::default_shots(task),
                                                test.first(limit == 0 || limit > test.size() ? test.size() : limit));
    adainfer::Session session = dense.new_session(prompts.longest());
    dense.prefill(session, prompts.prefix, adainfer::RunOptions{context.stop, {}});

    std::map<std::size_t, TaskRow> sums;
    const auto add = [&](std::size_t layer, float gap, float top_probability, bool agrees) {
        TaskRow& row = sums[layer];
        row.layer = layer;
        row.gap += static_cast<double>(gap);
        row.top_probability += static_cast<double>(top_probability);
        row.agreement += agrees ? 1 : 0;
    };
    ProgressBar bar;
    for (std::size_t i = 0; i < prompts.prompts.size(); ++i) {
        if (context.stop.stop_requested()) adainfer::fail(adainfer::ErrorCode::Cancelled, "tracing was cancelled");
        const adainfer::Trace trace = adainfer::collect_trace<adainfer::PaperFeatures>(
            dense, session, prompts.prompts[i], {}, std::nullopt, {}, lens, adainfer::FullHead{});
        for (std::size_t t = 0; t < trace.steps(); ++t) {
            add(trace.layers[t], trace.features[2 * t], trace.features[2 * t + 1], trace.agrees[t] != 0);
        }
        const adainfer::TopTwo last = adainfer::top_two(dense.predict(session, prompts.prompts[i]).logits);
        add(layers, last.top_probability - last.second_probability, last.top_probability, true);
        bar.update(task.name, i + 1, prompts.prompts.size());
    }
    TaskTrace result{task.name, prompts.prompts.size(), {}};
    const auto n = static_cast<double>(result.prompts);
    for (auto& [layer, row] : sums) {
        row.gap /= n;
        row.top_probability /= n;
        row.agreement /= n;
        result.rows.push_back(row);
    }
    return result;
}

}  // namespace cli
