#include "adainfer/eval/train_policy.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/simd.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/random_model.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "errors.hpp"
#include "tokenizer_vocabulary.hpp"

namespace test_train_policy {

using namespace adainfer;

namespace {

/// A model that answers something, and tasks to ask it.
struct Classroom {
    Tokenizer tokenizer{test_vocabulary::data()};
    Model<SimdBackend> model{make_random_model({.layers = 6, .vocabulary = tokenizer.vocab_size(), .context = 256})};
    std::vector<Task> tasks{task("open", {}), task("labels", {"no", "yes"})};

    static Task task(std::string name, std::vector<std::string> labels) {
        Task result{std::move(name), "{input}:{output}\n", 2, std::move(labels), {}, {{"x", "yes"}}};
        for (std::size_t i = 0; i < 26; ++i)
            result.train.push_back({std::string(1 + i % 3, static_cast<char>('a' + i)), i % 2 == 0 ? "yes" : "no"});
        return result;
    }
};

TrainPolicyOptions options() {
    TrainPolicyOptions result;
    result.prefixes = 2;
    result.calibration.target = 0.5;
    return result;
}

}  // namespace

TEST_CASE("traces: the policy half behind every prefix, an example on one side only") {
    const Classroom room;
    const PolicyTraces traces = collect_policy_traces(room.model, room.tokenizer, room.tasks, options());
    CHECK(traces.layers == std::vector<std::size_t>{1, 2, 3, 4, 5});
    CHECK(traces.first_layers.empty());
    // 26 train examples, 2 of them shots, half of the rest: 12 a task, one of three to train.
    CHECK(traces.training.size() == 2 * 2 * 4);
    CHECK(traces.calibration.size() == 2 * 2 * 8);
    for (const Trace& trace : traces.training) {
        CHECK(trace.steps() == 5);
        CHECK(trace.n_features == PaperFeatures::size);
    }
    TrainPolicyOptions few = options();
    few.examples = 6;
    CHECK(collect_policy_traces(room.model, room.tokenizer, room.tasks, few).training.size() == 2 * 2 * 2);
    TrainPolicyOptions chosen = options();
    chosen.per_task = true;
    chosen.schedule = Schedule::only({2, 4});
    const PolicyTraces per_task = collect_policy_traces(room.model, room.tokenizer, room.tasks, chosen);
    CHECK(per_task.layers == std::vector<std::size_t>{2, 4});
    for (const Task& task : room.tasks) CHECK(std::set<std::size_t>{2, 4}.contains(per_task.first_layers.at(task.name)));
}

TEST_CASE("labels that take turns are in both halves, and in what trains and what calibrates") {
    for (const std::vector<std::string>& labels : {std::vector<std::string>{"no", "yes"}, {"a", "b", "c"}, {"1", "2", "3", "4"}}) {
        Task task{"turns", "{input}:{output}\n", labels.size(), labels, {}, {{"x", labels[0]}}};
        for (std::size_t i = 0; i < 25 * labels.size(); ++i) task.train.push_back({std::to_string(i), labels[i % labels.size()]});
        std::set<std::string> seen;
        for (const TrainHalf half : {TrainHalf::Lens, TrainHalf::Policy}) {
            const std::vector<Example> examples = train_half(task, half);
            CHECK(examples.size() == 12 * labels.size());
            std::map<std::string, std::size_t> count;
            for (const Example& example : examples) {
                ++count[example.output];
                CHECK(seen.insert(example.input).second);  // in one half only
            }
            for (const std::string& label : labels) CHECK(count[label] == 12);
        }
        CHECK(seen.size() == 24 * labels.size());
    }
    // In any other order it is every second example, whatever its label.
    Task task{"mixed", "{input}:{output}\n", 0, {"no", "yes"}, {}, {{"x", "no"}}};
    for (const char* output : {"no", "no", "yes", "yes", "no", "no"}) task.train.push_back({"x", output});
    const std::vector<Example> half = train_half(task, TrainHalf::Policy);
    REQUIRE(half.size() == 3);
    CHECK(half[0].output == "no");
    CHECK(half[1].output == "yes");
    CHECK(half[2].output == "no");

    const Classroom room;
    Task three{"three", "{input}:{output}\n", 3, {"a", "b", "c"}, {}, {{"x", "a"}}};
    for (std::size_t i = 0; i < 75; ++i) three.train.push_back({"x", three.labels[i % 3]});
    const PolicyTraces traces = collect_policy_traces(room.model, room.tokenizer, std::vector{three}, options());
    for (const std::vector<Trace>& part : {traces.training, traces.calibration}) {
        // All prompts are alike but for the right answer, which is the model's own in a third of them.
        const auto right = std::count_if(part.begin(), part.end(), [](const Trace& trace) { return trace.final_matches_gold; });
        CHECK(3 * static_cast<std::size_t>(right) == part.size());
    }
}

TEST_CASE("one collection of traces trains what a run for each classifier does") {
    const Classroom room;
    TrainPolicyOptions how = options();
    how.per_task = true;
    const PolicyTraces traces = collect_policy_traces(room.model, room.tokenizer, room.tasks, how);
    for (const std::string classifier : {"svm", "crf", "rbf"}) {
        CAPTURE(classifier);
        how.classifier = classifier;
        const TrainedPolicy at_once = train_policy(room.model, room.tasks, traces, how);
        const TrainedPolicy alone = train_policy(room.model, room.tokenizer, room.tasks, how);
        CHECK(at_once.file.kind == classifier);
        CHECK(at_once.file.threshold == alone.file.threshold);
        CHECK(at_once.file.task_thresholds == alone.file.task_thresholds);
        CHECK(at_once.file.task_first_layers == alone.file.task_first_layers);
        CHECK(at_once.file.training == alone.file.training);
        CHECK(at_once.file.model_identity == room.model.decoder().weights().identity);
        CHECK(at_once.tasks.size() == 2);
        CHECK(at_once.shared.prompts == traces.calibration.size());
    }
}

TEST_CASE("what no policy can be trained with is named") {
    const Classroom room;
    const auto refused = [&](const std::vector<Task>& tasks, const TrainPolicyOptions& how) {
        return error_of(ErrorCode::InvalidArgument, [&] { static_cast<void>(train_policy(room.model, room.tokenizer, tasks, how)); });
    };
    CHECK(contains(refused({}, options()), "at least one task"));
    TrainPolicyOptions how = options();
    how.classifier = "forest";
    CHECK(contains(refused(room.tasks, how), "unknown classifier 'forest'; known: svm, crf, rbf"));
    how.classifier = "crf";
    how.per_layer = true;
    CHECK(contains(refused(room.tasks, how), "found 'crf'"));
    how = options();
    how.features = {"gap", "mood"};
    CHECK(contains(refused(room.tasks, how), "unknown feature 'mood'"));
    Task few = room.tasks[0];
    few.train.resize(8);
    CHECK(contains(refused({few}, options()), "leave too few to train on"));
    how = options();
    how.per_task = true;
    const PolicyTraces traces = collect_policy_traces(room.model, room.tokenizer, room.tasks, how);
    CHECK(contains(error_of(ErrorCode::InvalidArgument,
                            [&] { static_cast<void>(train_policy(room.model, std::span(room.tasks).first(1), traces, how)); }),
                   "task number 1, tasks given: 1"));
}

}  // namespace test_train_policy
