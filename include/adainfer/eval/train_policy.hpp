#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/any_readout.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/eval/prompt.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "adainfer/io/policy_file.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/train/calibrate.hpp"
#include "adainfer/train/collect_trace.hpp"
#include "adainfer/train/dataset.hpp"
#include "adainfer/train/train_crf.hpp"
#include "adainfer/train/train_per_layer_svm.hpp"
#include "adainfer/train/train_rbf_svm.hpp"
#include "adainfer/train/train_svm.hpp"

namespace adainfer::inline v0 {

struct TrainPolicyOptions {
    std::string classifier = "svm";    ///< "svm", "crf" or "rbf"
    bool per_layer = false;            ///< of "svm": one a layer beside the shared one
    std::vector<std::string> features = PaperFeatures::names();  ///< some of WideFeatures::names(), in any order
    AnyLens lens{};
    AnyHead head{};                    ///< for open answers; a task with labels reads its candidates
    Label label = Label::AgreesWithFinal;
    Schedule schedule{};
    CalibrateOptions calibration{};
    bool per_task = false;             ///< a threshold and a first layer for each task, beside the shared ones
    std::size_t examples = 0;          ///< of a task at most, 4 or more; 0: all of the policy half
    std::size_t prefixes = 3;          ///< few-shot prefixes each example is asked behind: the task's own, then random ones
    double first_layer_share =
        0.4;  ///< per task: checks begin where this share of the answers stands, and the shortlist holds them
    std::uint64_t seed = 0;
    RunOptions run{};
};

/// What came of it: the record for the policy file (lens file and hash are the caller's), and each task's calibration.
struct TrainedPolicy {
    PolicyFile file;
    Calibration shared;
    std::map<std::string, Calibration> tasks;
};

namespace detail::train_policy {

/// Keeps the named columns of a trace of WideFeatures.
inline void keep_features(Trace& trace, const std::vector<std::string>& names) {
    const std::vector<std::string> all = WideFeatures::names();
    std::vector<float> kept;
    for (std::size_t t = 0; t < trace.steps(); ++t) {
        for (const std::string& name : names) {
            const auto column = static_cast<std::size_t>(std::find(all.begin(), all.end(), name) - all.begin());
            if (column == all.size()) fail(ErrorCode::InvalidArgument, "unknown feature '", name, "'");
            kept.push_back(trace.features[t * all.size() + column]);
        }
    }
    trace.features = std::move(kept);
    trace.n_features = names.size();
}

/// What the policy half of a task's train examples gives, with the options' features, `prefixes` times as many traces.
/// All built-in features are collected and the wanted ones kept, so that one instantiation serves every list.
template <class Backend>
[[nodiscard]] std::vector<Trace> traces_of(const Model<Backend>& dense, const Tokenizer& tokenizer, const Task& task, int group,
                                           const Schedule& schedule, const AnyHead& head, std::size_t prefixes,
                                           const TrainPolicyOptions& options) {
    std::vector<Example> examples = train_half(task, TrainHalf::Policy);
    if (options.examples > 0 && examples.size() > options.examples) examples.resize(options.examples);
    if (examples.size() < 4) {
        fail(ErrorCode::InvalidArgument, "task '", task.name, "': ", task.train.size(), " train examples and ", task.shots,
             " shots leave too few to train on; at least ", task.shots + 8, " are needed");
    }
    const Task pool = without_policy_half(task);
    std::vector<Trace> traces;
    for (std::size_t number = 0; number < prefixes; ++number) {  // number 0 is the task's own prefix
        const std::vector<std::size_t> shots = number == 0 ? default_shots(pool) : pick_shots(pool, options.seed + number);
        const TaskPrompts prompts = make_prompts(tokenizer, pool, shots, examples);
        Session session = dense.new_session(prompts.longest());
        dense.prefill(session, prompts.prefix, RunOptions{options.run.stop, {}});
        for (std::size_t i = 0; i < prompts.prompts.size(); ++i) {
            if (options.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "training was cancelled");
            Trace trace = collect_trace<WideFeatures>(dense, session, prompts.prompts[i], prompts.candidates, prompts.gold[i],
                                                      schedule, options.lens, head, group);
            keep_features(trace, options.features);
            traces.push_back(std::move(trace));
            if (options.run.progress) options.run.progress({task.name, traces.size(), prefixes * prompts.prompts.size()});
        }
    }
    return traces;
}

[[nodiscard]] inline Schedule schedule_of(std::span<const std::size_t> layers) {
    return Schedule::only({layers.begin(), layers.end()});
}

/// Share of the traces whose answer at full depth is on the shortlist, 1 where there is none.
[[nodiscard]] inline double reachable_share(std::span<const Trace> traces) {
    const auto reachable = std::count_if(traces.begin(), traces.end(), [](const Trace& trace) { return trace.final_reachable; });
    return static_cast<double>(reachable) / static_cast<double>(traces.size());
}

/// A task's traces, from the layer on that its checks begin at: the first of `layers` after which `first_layer_share` of the
/// answers stand, and whose shortlist holds nearly all answers of full depth. What it lacks is lost wherever an inference stops,
/// so half of the disagreement that the calibration allows is the most, and in any case 2.5 %. The last of the layers where none
/// is as good.
template <class Backend>
[[nodiscard]] std::pair<std::size_t, std::vector<Trace>> traces_from_first_layer(const Model<Backend>& dense,
                                                                                 const Tokenizer& tokenizer, const Task& task,
                                                                                 int group, std::span<const std::size_t> layers,
                                                                                 const TrainPolicyOptions& options) {
    std::map<std::size_t, std::size_t> agrees;
    std::size_t prompts = 0;
    for (const Trace& trace : traces_of(dense, tokenizer, task, group, schedule_of(layers), AnyHead(CandidateHead{}), 1, options)) {
        for (std::size_t t = 0; t < trace.steps(); ++t) agrees[trace.layers[t]] += trace.agrees[t];
        ++prompts;
    }
    const auto stand = [&](std::size_t layer) {
        return static_cast<double>(agrees[layer]) >= options.first_layer_share * static_cast<double>(prompts);
    };
    for (std::size_t i = 0; i < layers.size(); ++i) {
        const bool last = i + 1 == layers.size();
        if (!last && !stand(layers[i])) continue;
        auto traces =
            traces_of(dense, tokenizer, task, group, schedule_of(layers.subspan(i)), options.head, options.prefixes, options);
        if (last || reachable_share(traces) >= (std::max)((1 + options.calibration.target) / 2, 0.975))
            return {layers[i], std::move(traces)};
    }
    fail(ErrorCode::InvalidArgument, "the schedule names no layer");
}

/// Before anything is collected.
inline void check_classifier(const TrainPolicyOptions& options) {
    const std::string& name = options.classifier;
    if (name != LinearSvm::kind && name != LinearChainCrf::kind && name != RbfSvm::kind)
        fail(ErrorCode::InvalidArgument, "unknown classifier '", name, "'; known: svm, crf, rbf");
    if (options.per_layer && name != LinearSvm::kind)
        fail(ErrorCode::InvalidArgument, "a classifier for each layer can be of kind svm only, found '", name, "'");
}

}  // namespace detail::train_policy

/// What the exit policies of some tasks are trained on and calibrated with; it serves any number of classifiers.
struct PolicyTraces {
    std::vector<std::size_t> layers;                  ///< of the schedule, as far as the lens reads them
    std::map<std::string, std::size_t> first_layers;  ///< per task: where its checks begin
    std::vector<Trace> training, calibration;         ///< group: the task's place in the list
};

/// Asks the policy half of the train examples; one of three trains classifiers, the others calibrate them (whole
/// examples: all prompts that ask for one stand on one side). Throws InvalidArgument (no task, too few examples, a lens that reads
/// none of the layers), Cancelled, and as collect_trace() does.
template <class Backend>
[[nodiscard]] PolicyTraces collect_policy_traces(const Model<Backend>& dense, const Tokenizer& tokenizer,
                                                 std::span<const Task> tasks, const TrainPolicyOptions& options) {
    namespace d = detail::train_policy;
    if (tasks.empty()) fail(ErrorCode::InvalidArgument, "training needs at least one task");
    PolicyTraces result;
    for (const std::size_t layer : options.schedule.layers(dense.config().layers)) {
        if (options.lens.reads(layer)) result.layers.push_back(layer);
    }
    if (result.layers.empty()) fail(ErrorCode::InvalidArgument, "the lens reads none of the layers of the schedule");
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const Task& task = tasks[i];
        std::vector<Trace> traces;
        if (options.per_task) {
            std::tie(result.first_layers[task.name], traces) =
                d::traces_from_first_layer(dense, tokenizer, task, static_cast<int>(i), result.layers, options);
        } else {
            traces = d::traces_of(dense, tokenizer, task, static_cast<int>(i), d::schedule_of(result.layers), options.head,
                                  options.prefixes, options);
        }
        const std::size_t examples = traces.size() / options.prefixes;
        for (std::size_t t = 0; t < traces.size(); ++t) {
            const std::size_t example = t % examples;
            const bool trains = (example + example / 3) % 3 == 0;  // not the same place of three each time: labels may take turns
            (trains ? result.training : result.calibration).push_back(std::move(traces[t]));
        }
    }
    return result;
}

/// Trains one exit classifier on the traces that collect_policy_traces() made of this model, these tasks and these options, and
/// calibrates its threshold. Throws InvalidArgument (unknown classifier) and as the trainers and calibrate() do.
template <class Backend>
[[nodiscard]] TrainedPolicy train_policy(const Model<Backend>& dense, std::span<const Task> tasks, const PolicyTraces& traces,
                                         const TrainPolicyOptions& options) {
    detail::train_policy::check_classifier(options);
    TrainedPolicy result;
    PolicyFile& file = result.file;
    file.layers = traces.layers;
    file.task_first_layers = traces.first_layers;

    const std::vector<Sequence> sequences = to_sequences(traces.training, options.label);
    std::vector<ScoredPrompt> scored;
    const auto adopt = [&](const auto& fit) {
        scored = score_traces(fit.model, traces.calibration, options.label);
        file.training["converged"] = fit.converged ? "yes" : "no";
        file.kind = std::remove_cvref_t<decltype(fit.model)>::kind;
        file.classifier = fit.model;
    };
    const SvmOptions svm{.max_passes = 5000};
    if (options.per_layer) {
        adopt(train_per_layer_svm(traces.training, options.label, svm));
    } else if (options.classifier == LinearSvm::kind) {
        adopt(train_svm(sequences, svm));
    } else if (options.classifier == RbfSvm::kind) {
        adopt(train_rbf_svm(sequences, {.seed = options.seed}));
    } else {
        adopt(train_crf(sequences, {}));
    }
    result.shared = calibrate(scored, options.calibration);
    file.threshold = result.shared.threshold;
    if (options.per_task) {
        for (const auto& [group, calibrated] : calibrate_per_group(scored, options.calibration)) {
            if (group < 0 || static_cast<std::size_t>(group) >= tasks.size())
                fail(ErrorCode::InvalidArgument, "a trace is of task number ", group, ", tasks given: ", tasks.size());
            const std::string& name = tasks[static_cast<std::size_t>(group)].name;
            file.task_thresholds[name] = calibrated.threshold;
            result.tasks[name] = calibrated;
        }
    }

    file.features = options.features;
    file.lens = options.lens.kind();
    file.head = options.head.name();
    file.label_rule = options.label == Label::AgreesWithFinal ? "agrees" : "gold";
    file.agreement = options.calibration.target;
    file.model_identity = dense.decoder().weights().identity;
    file.model_name = dense.config().name;
    if (options.calibration.confidence > 0) file.training["confidence"] = std::to_string(options.calibration.confidence);
    if (options.calibration.accuracy_price) file.training["accuracy_price"] = std::to_string(*options.calibration.accuracy_price);
    file.training["prompts_trained"] = std::to_string(traces.training.size());
    file.training["prompts_calibrated"] = std::to_string(traces.calibration.size());
    for (const Task& task : tasks) file.training["tasks"] += (file.training["tasks"].empty() ? "" : ", ") + task.name;
    return result;
}

/// Both in one: trains a classifier for these tasks. Throws as they do.
template <class Backend>
[[nodiscard]] TrainedPolicy train_policy(const Model<Backend>& dense, const Tokenizer& tokenizer, std::span<const Task> tasks,
                                         const TrainPolicyOptions& options) {
    detail::train_policy::check_classifier(options);
    return train_policy(dense, tasks, collect_policy_traces(dense, tokenizer, tasks, options), options);
}

}  // namespace adainfer::inline v0
