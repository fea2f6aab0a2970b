#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "adainfer/train/calibrate.hpp"
#include "adainfer/train/train_per_layer_svm.hpp"
#include "adainfer/train/train_rbf_svm.hpp"
#include "adainfer/train/train_svm.hpp"
#include "errors.hpp"
#include "test_train_fixture.hpp"

namespace test_train_svm {

using namespace adainfer;

namespace {

SvmOptions exact() {
    SvmOptions options;
    options.tolerance = 1e-8;
    options.max_passes = 1000000;
    return options;
}

Sequence tiny() { return {1, {0.1F, 0.9F, 0.2F, 0.8F}, {0, 1, 0, 1}, 0}; }

}  // namespace

TEST_CASE("train_svm finds scikit-learn's LinearSVC") {
    for (const std::string file : {"two_features", "five_features"}) {
        const TrainingFixture fixture(file);
        const auto sequences = fixture.sequences();
        const std::size_t n = sequences[0].n_features;
        for (const std::string loss : {"squared_hinge", "hinge"})
            for (const std::string weight : {"none", "balanced"})
                for (const std::string c : {"0.1", "1", "10"}) {
                    CAPTURE(file);
                    CAPTURE(loss);
                    CAPTURE(weight);
                    CAPTURE(c);
                    SvmOptions options = exact();
                    options.loss = loss == "hinge" ? SvmLoss::Hinge : SvmLoss::SquaredHinge;
                    options.balanced = weight == "balanced";
                    options.c = std::stod(c);
                    const SvmFit fit = train_svm(sequences, options);
                    CHECK(fit.converged);
                    CHECK(fit.duality_gap >= -1e-9 * fit.primal);
                    CHECK(fit.duality_gap <= 1e-6 * fit.primal);
                    const auto& expected = fixture["svm." + loss + "." + weight + "." + c];
                    for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(static_cast<double>(fit.model.weights[i]) - expected[i]) < 1e-4);
                    CHECK(std::abs(static_cast<double>(fit.model.bias) - expected[n]) < 1e-4);
                    for (std::size_t i = 0; i < n; ++i) {
                        CHECK(static_cast<double>(fit.model.mean[i]) == doctest::Approx(fixture["mean"][i]).epsilon(1e-6));
                        CHECK(static_cast<double>(fit.model.scale[i]) == doctest::Approx(fixture["scale"][i]).epsilon(1e-6));
                    }
                }
    }
}

TEST_CASE("train_svm repeats itself, and another seed ends at the same plane") {
    const auto sequences = TrainingFixture("five_features").sequences();
    SvmOptions options = exact();
    const SvmFit first = train_svm(sequences, options), again = train_svm(sequences, options);
    CHECK(first.model.weights == again.model.weights);
    CHECK(first.model.bias == again.model.bias);
    CHECK(first.passes == again.passes);
    options.seed = 7;
    const SvmFit other = train_svm(sequences, options);
    for (std::size_t i = 0; i < first.model.weights.size(); ++i)
        CHECK(other.model.weights[i] == doctest::Approx(first.model.weights[i]).epsilon(1e-4));
}

TEST_CASE("explicit class weights equal the balanced ones where they are the same numbers") {
    const auto sequences = TrainingFixture("two_features").sequences();
    double n = 0, stop = 0;
    for (const auto& sequence : sequences)
        for (const auto label : sequence.labels) n += 1, stop += label;
    SvmOptions balanced = exact(), by_hand = exact();
    balanced.balanced = true;
    by_hand.class_weight = {n / (2 * (n - stop)), n / (2 * stop)};
    CHECK(train_svm(sequences, balanced).model.bias == doctest::Approx(train_svm(sequences, by_hand).model.bias));
}

TEST_CASE("a stop at max_passes is reported") {
    SvmOptions options = exact();
    options.max_passes = 1;
    const SvmFit fit = train_svm(TrainingFixture("five_features").sequences(), options);
    CHECK_FALSE(fit.converged);
    CHECK(fit.passes == 1);
    CHECK(fit.duality_gap > 0);
}

TEST_CASE("a constant feature gets no weight and breaks nothing") {
    Sequence sequence{2, {}, {0, 1, 0, 1, 1}, 0};
    for (const float x : {0.1F, 0.9F, 0.2F, 0.8F, 0.7F}) sequence.features.insert(sequence.features.end(), {x, 0.3F});
    const SvmFit fit = train_svm(std::vector{sequence});
    CHECK(fit.model.scale[1] == 1.0F);
    CHECK(std::abs(fit.model.weights[1]) < 1e-5F);
    auto state = fit.model.begin();
    CHECK(fit.model.score(std::vector{0.9F, 0.3F}, state) > 0);
    CHECK(fit.model.score(std::vector{0.1F, 0.3F}, state) < 0);
}

TEST_CASE("train_svm learns 20,000 x 8 noisy rows") {
    std::mt19937_64 random(3);
    const auto uniform = [&] { return static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53); };
    std::vector<Sequence> sequences;
    for (int p = 0; p < 2000; ++p) {
        Sequence sequence{8, {}, {}, 0};
        for (int t = 0; t < 10; ++t) {
            float sum = 0;
            for (int i = 0; i < 8; ++i) {
                sequence.features.push_back(uniform());
                sum += i < 4 ? sequence.features.back() : -sequence.features.back();
            }
            sequence.labels.push_back(sum + 2 * (uniform() - 0.5F) > 0 ? 1 : 0);
        }
        sequences.push_back(sequence);
    }
    for (const SvmLoss loss : {SvmLoss::SquaredHinge, SvmLoss::Hinge}) {
        SvmOptions options;
        options.loss = loss;
        const SvmFit fit = train_svm(sequences, options);
        MESSAGE("passes: ", fit.passes, ", relative gap: ", fit.duality_gap / fit.primal, ", converged: ", fit.converged);
        CHECK(fit.duality_gap < 1e-2 * fit.primal);
        for (std::size_t i = 0; i < 8; ++i) CHECK((i < 4 ? 1.0F : -1.0F) * fit.model.weights[i] > 0);
    }
}

TEST_CASE("bad training data is named") {
    const auto train = [](std::vector<Sequence> sequences) { return error_of([&] { (void)train_svm(sequences); }); };
    CHECK(contains(train({}), "no training data: 0 sequences"));
    CHECK(contains(train({Sequence{1, {}, {}, 0}}), "no training data: 1 sequences"));
    CHECK(contains(train({Sequence{0, {}, {0, 1}, 0}}), "no features"));
    CHECK(contains(train({Sequence{1, {1, 2, 3}, {1, 1, 1}, 0}}), "all 3 steps are labelled 1"));
    CHECK(contains(train({Sequence{1, {1, 2}, {0, 0}, 0}}), "all 2 steps are labelled 0"));
    CHECK(contains(train({tiny(), Sequence{2, {1, 2}, {0}, 0}}), "sequence 1: expected 1 features a step, found 2"));
    CHECK(contains(train({tiny(), Sequence{1, {1, 2, 3}, {0, 1}, 0}}), "sequence 1: expected 2 x 1 feature values, found 3"));
    CHECK(contains(train({tiny(), Sequence{1, {1, 2}, {0, 2}, 0}}), "sequence 1, step 1: label must be 0 or 1, found 2"));
    Sequence broken = tiny();
    broken.features[2] = std::numeric_limits<float>::quiet_NaN();
    CHECK(train({tiny(), broken}) == "not finite: training sequence 1, step 2, feature 0 is nan");
}

TEST_CASE("bad svm options are named") {
    const auto train = [](auto&& change) {
        SvmOptions options;
        change(options);
        return error_of([&] { (void)train_svm(std::vector{tiny()}, options); });
    };
    CHECK(train([](SvmOptions&) {}).empty());
    CHECK(contains(train([](SvmOptions& o) { o.c = 0; }), "svm c must be > 0"));
    CHECK(contains(train([](SvmOptions& o) { o.tolerance = -1; }), "svm tolerance"));
    CHECK(contains(train([](SvmOptions& o) { o.class_weight[1] = std::nan(""); }), "svm class_weight[1]"));
}

TEST_CASE("split_by_prompt keeps groups in proportion and loses nobody") {
    std::vector<Sequence> sequences;
    for (int i = 0; i < 90; ++i) sequences.push_back({1, {}, {}, i % 3});
    const Split split = split_by_prompt(sequences, 0.2, 5);
    CHECK(split.held_out.size() == 18);
    CHECK(split.train.size() == 72);
    std::vector<int> seen(90), held(3);
    for (const auto i : split.train) ++seen[i];
    for (const auto i : split.held_out) ++seen[i], ++held[static_cast<std::size_t>(sequences[i].group)];
    CHECK(seen == std::vector<int>(90, 1));
    CHECK(held == std::vector<int>(3, 6));
    CHECK(split_by_prompt(sequences, 0.2, 5).held_out == split.held_out);
    CHECK(split_by_prompt(sequences, 0.2, 6).held_out != split.held_out);
    CHECK(select_prompts(sequences, split.held_out).size() == 18);
    CHECK(contains(error_of([&] { (void)split_by_prompt(sequences, 1.0); }), "share of prompts held out"));
}

TEST_CASE("train_rbf_svm decides as scikit-learn's SVC") {
    for (const std::string file : {"rbf_two_features", "rbf_five_features"}) {
        const TrainingFixture fixture(file);
        const auto sequences = fixture.sequences();
        const std::size_t n = sequences[0].n_features;
        const auto& unseen = fixture["test_features"];
        for (const std::string c : {"0.1", "1", "10"}) {
            const auto& expected = fixture["svc." + c];
            REQUIRE(expected.size() * n == unseen.size());
            RbfSvmOptions options;
            options.svm.c = std::stod(c);
            options.svm.tolerance = 1e-3;  // as SVC by default
            const RbfSvmFit fit = train_rbf_svm(sequences, options);
            CHECK(fit.duality_gap >= -1e-9 * fit.primal);
            auto state = fit.model.begin();
            std::size_t alike = 0, stops = 0;
            for (std::size_t i = 0; i < expected.size(); ++i) {
                const auto first = unseen.begin() + static_cast<std::ptrdiff_t>(i * n);
                const std::vector<float> x(first, first + static_cast<std::ptrdiff_t>(n));
                const bool stop = fit.model.score(x, state) > 0;
                alike += stop == (expected[i] > 0) ? 1U : 0U;
                stops += expected[i] > 0 ? 1U : 0U;
            }
            CAPTURE(file);
            CAPTURE(c);
            const double share = static_cast<double>(alike) / static_cast<double>(expected.size());
            MESSAGE(file, ", C = ", c, ": ", 100 * share, " % of ", expected.size(), " decisions alike, ", stops, " stop");
            CHECK(share >= 0.97);
            CHECK(4 * stops > expected.size());  // so that a constant answer does not pass
            CHECK(4 * stops < 3 * expected.size());
        }
    }
}

TEST_CASE("an RBF machine learns what no plane divides") {
    // Stop inside a ring only.
    Sequence sequence{2, {}, {}, 0};
    for (int i = 0; i < 400; ++i) {
        const float angle = 0.1F * static_cast<float>(i), radius = i % 2 == 0 ? 0.5F : 2.0F;
        sequence.features.insert(sequence.features.end(), {radius * std::cos(angle), radius * std::sin(angle)});
        sequence.labels.push_back(i % 2 == 0 ? 1 : 0);
    }
    const std::vector<Sequence> sequences{sequence};
    const auto right = [&](const auto& model) {
        auto state = model.begin();
        int count = 0;
        for (std::size_t t = 0; t < sequence.steps(); ++t) {
            const bool stop = model.score(std::span(sequence.features).subspan(2 * t, 2), state) > 0;
            count += stop == (sequence.labels[t] != 0) ? 1 : 0;
        }
        return count;
    };
    CHECK(right(train_rbf_svm(sequences).model) == 400);
    CHECK(right(train_svm(sequences).model) < 300);
    RbfSvmOptions narrow;
    narrow.gamma = 3;
    narrow.seed = 5;
    CHECK(train_rbf_svm(sequences, narrow).model.map.gamma() == 3);
    CHECK(train_rbf_svm(sequences, narrow).model.weights == train_rbf_svm(sequences, narrow).model.weights);
}

TEST_CASE("train_per_layer_svm trains each layer on its own rows") {
    // After layer 2 a large number says stop, after layer 5 a small one; after layer 9 all stop.
    std::vector<Trace> traces;
    for (int i = 0; i < 20; ++i) {
        Trace trace;
        trace.n_layers = 10;
        trace.n_features = 1;
        trace.layers = {2, 5, 9};
        const float x = static_cast<float>(i) / 20;
        trace.features = {x, x, x};
        const std::uint8_t large = i >= 10 ? 1 : 0;
        trace.agrees = {large, static_cast<std::uint8_t>(1 - large), 1};
        traces.push_back(trace);
    }
    const PerLayerSvmFit fit = train_per_layer_svm(traces);
    CHECK(fit.converged);
    CHECK(fit.model.layers == std::vector<std::size_t>{2, 5});
    auto state = fit.model.begin();
    const std::vector<float> low{0.1F}, high{0.9F};
    CHECK(fit.model.score(2, high, state) > 0);
    CHECK(fit.model.score(2, low, state) < 0);
    CHECK(fit.model.score(5, high, state) < 0);
    CHECK(fit.model.score(5, low, state) > 0);
    const LinearSvm shared = train_svm(to_sequences(traces)).model;
    CHECK(fit.model.shared.weights == shared.weights);
    auto nothing = shared.begin();
    CHECK(fit.model.score(9, low, state) == shared.score(low, nothing));

    // A layer's own machine is the one that its rows alone give.
    std::vector<Sequence> second;
    for (const Trace& trace : traces) second.push_back({1, {trace.features[1]}, {trace.agrees[1]}, 0});
    CHECK(fit.model.own[1].weights == train_svm(second).model.weights);
    CHECK(fit.model.own[1].bias == train_svm(second).model.bias);

    for (Trace& trace : traces) trace.agrees = {1, 1, 1};
    CHECK(contains(error_of([&] { (void)train_per_layer_svm(traces); }), "of one class only"));
}

TEST_CASE("score_traces tells the classifier the layer") {
    Trace trace;
    trace.n_layers = 10;
    trace.n_features = 1;
    trace.layers = {2, 5};
    trace.features = {0.5F, 0.5F};
    trace.agrees = {0, 1};
    PerLayer<LinearSvm> classifiers;
    classifiers.shared = {{0.0F}, {1.0F}, {1.0F}, 0, 0};
    classifiers.layers = {5};
    classifiers.own = {{{0.0F}, {1.0F}, {1.0F}, 7, 0}};
    CHECK(score_traces(classifiers, std::vector{trace})[0].scores == std::vector<float>{0.5F, 7.5F});
}

TEST_CASE("bad RBF options are named") {
    const auto train = [](RbfSvmOptions options) { return error_of([&] { (void)train_rbf_svm(std::vector{tiny()}, options); }); };
    CHECK(train({}).empty());
    CHECK(contains(train({.size = 0}), "0 of 1 inputs"));
    CHECK(contains(train({.gamma = -1}), "gamma must be above 0"));
    CHECK(contains(train({.svm = {.c = 0}}), "svm c must be > 0"));
}

}  // namespace test_train_svm
