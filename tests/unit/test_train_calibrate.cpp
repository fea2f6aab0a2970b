#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "adainfer/train/calibrate.hpp"
#include "adainfer/train/train_crf.hpp"
#include "adainfer/train/train_svm.hpp"
#include "errors.hpp"
#include "test_train_fixture.hpp"

namespace test_train_calibrate {

using namespace adainfer;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

ScoredPrompt prompt(std::vector<float> scores, std::vector<std::uint8_t> good, std::size_t n_layers = 10, int group = 0) {
    ScoredPrompt result{n_layers, {}, scores, good, true, group};
    for (std::size_t t = 0; t < scores.size(); ++t) result.layers.push_back(2 * t + 2);
    return result;
}

std::vector<ScoredPrompt> random_prompts(std::uint64_t seed, std::size_t n, bool coarse) {
    std::mt19937_64 random(seed);
    std::vector<ScoredPrompt> prompts;
    for (std::size_t p = 0; p < n; ++p) {
        ScoredPrompt one = prompt({}, {}, 13, static_cast<int>(p % 3));
        one.good_at_end = random() % 10 != 0;
        for (std::size_t t = 0; t < 6; ++t) {
            const auto draw = static_cast<float>(random() % (coarse ? 8 : 100000)) * (coarse ? 1.0F : 1e-4F);
            one.layers.push_back(2 * t + 1 + random() % 2);
            one.scores.push_back(draw + static_cast<float>(t));
            one.good.push_back(random() % (t + 2) != 0 ? 1 : 0);
        }
        prompts.push_back(one);
    }
    return prompts;
}

}  // namespace

TEST_CASE("calibrate takes the least depth that meets the target, also past a dip in agreement") {
    // Scores below 3: prompt 0 stops well. Below 2: prompt 1 stops badly. Below 1: prompt 1 stops earlier, and well.
    const std::vector prompts{prompt({0, 3}, {1, 1}), prompt({1, 2}, {1, 0})};
    CalibrateOptions options;
    options.target = 1.0;
    const Calibration all = calibrate(prompts, options);
    CHECK(all.threshold < 0.0F);  // everything stops at its first check
    CHECK(all.agreement == 1.0);
    CHECK(all.mean_layers == 2.0);
    CHECK(all.exit_rate == 1.0);
    CHECK(all.pruning_ratio() == doctest::Approx(0.8));
    CHECK(all.met);

    const std::vector bad_start{prompt({0, 3}, {0, 1}), prompt({1, 2}, {1, 0})};
    const Calibration middle = calibrate(bad_start, options);
    CHECK(middle.threshold == 0.5F);  // midway between 1 and 0
    CHECK(middle.mean_layers == 3.0);
    options.target = 0.5;
    CHECK(calibrate(bad_start, options).mean_layers == 2.0);
}

TEST_CASE("calibrate never exits where nothing meets the target") {
    const std::vector prompts{prompt({1, 2, 3}, {0, 0, 0}), prompt({1, 2, 3}, {0, 0, 0})};
    const Calibration result = calibrate(prompts);
    CHECK(result.threshold == infinity);
    CHECK(result.agreement == 1.0);
    CHECK(result.mean_layers == 10.0);
    CHECK(result.exit_rate == 0.0);
    CHECK(result.met);  // the dense model agrees with itself

    std::vector wrong = prompts;  // accuracy: the last layer is wrong too
    wrong[0].good_at_end = false;
    CHECK(full_depth_share(wrong) == 0.5);
    CHECK_FALSE(calibrate(wrong).met);
    CHECK(calibrate(wrong).threshold == infinity);
    CalibrateOptions options;
    options.target = full_depth_share(wrong) - 0.1;
    CHECK(calibrate(wrong, options).met);
}

TEST_CASE("equal scores move together and neighbouring floats leave room for no midpoint") {
    CalibrateOptions options;
    options.target = 1.0;
    const std::vector tied{prompt({2}, {1}), prompt({2}, {0})};
    CHECK(calibrate(tied, options).threshold == infinity);

    const float low = 1.0F, high = std::nextafter(low, 2.0F);
    const std::vector close{prompt({high}, {1}), prompt({low}, {0})};
    const Calibration result = calibrate(close, options);
    CHECK(result.threshold == low);
    CHECK(result.exit_rate == 0.5);
    CHECK(result.agreement == 1.0);
}

TEST_CASE("calibrate equals a search over every score") {
    for (std::uint64_t seed = 0; seed < 40; ++seed)
        for (const double target : {0.6, 0.75, 0.9, 1.0})
            for (const double confidence : {0.0, 0.8}) {
                const auto prompts = random_prompts(seed, 30, seed % 2 == 0);
                CalibrateOptions options;
                options.target = target;
                options.confidence = confidence;
                std::vector<float> candidates{infinity};
                for (const auto& one : prompts)
                    for (const float score : one.scores) candidates.insert(candidates.end(), {score, score - 1e-5F});
                double best = 13.0;
                bool met = false;
                for (const float threshold : candidates)
                    if (const Calibration c = measure_threshold(prompts, threshold, options); c.met) {
                        best = (std::min)(best, c.mean_layers);
                        met = true;
                    }
                const Calibration found = calibrate(prompts, options);
                CHECK(found.met == met);
                CHECK(found.mean_layers == doctest::Approx(best));
                if (met && confidence > 0) CHECK(found.lower_bound >= target - 1e-9);
                if (met) CHECK(found.agreement >= target - 1e-9);
            }
}

TEST_CASE("a price of accuracy: least depth and accuracy lost together, by a search over every score") {
    for (std::uint64_t seed = 0; seed < 40; ++seed)
        for (const double price : {0.0, 0.5, 2.0, 10.0})
            for (const double target : {0.0, 0.75}) {
                auto prompts = random_prompts(seed, 30, seed % 2 == 0);
                std::mt19937_64 random(seed + 100);
                for (ScoredPrompt& one : prompts) {
                    one.right_at_end = random() % 4 != 0;
                    for (std::size_t t = 0; t < one.scores.size(); ++t) one.right.push_back(random() % (t + 3) > 1 ? 1 : 0);
                }
                CalibrateOptions options;
                options.target = target;
                options.accuracy_price = price;
                // Depth and right answers of every threshold, counted anew.
                const auto cost_of = [&](float threshold) {
                    double depth = 0, right = 0;
                    for (const ScoredPrompt& one : prompts) {
                        const auto stop =
                            std::find_if(one.scores.begin(), one.scores.end(), [&](float score) { return score > threshold; });
                        const auto t = static_cast<std::size_t>(stop - one.scores.begin());
                        depth += stop == one.scores.end() ? 1.0 : static_cast<double>(one.layers[t]) / 13;
                        right += (stop == one.scores.end() ? one.right_at_end : one.right[t] != 0) ? 1.0 : 0.0;
                    }
                    return (depth - price * right) / static_cast<double>(prompts.size());
                };
                double best = 1e9;
                bool met = false;
                std::vector<float> candidates{infinity};
                for (const auto& one : prompts)
                    for (const float score : one.scores) candidates.insert(candidates.end(), {score, score - 1e-5F});
                for (const float threshold : candidates)
                    if (measure_threshold(prompts, threshold, options).met) {
                        best = (std::min)(best, cost_of(threshold));
                        met = true;
                    }
                const Calibration found = calibrate(prompts, options);
                CHECK(found.met == met);
                if (!met) continue;
                CHECK(cost_of(found.threshold) == doctest::Approx(best));
                CHECK(found.mean_layers / 13 - price * found.accuracy_change ==
                      doctest::Approx(cost_of(found.threshold) - cost_of(infinity) + 1));
            }
}

TEST_CASE("a price of accuracy lets a prompt go on where an early answer is wrong, and stop where it is the right one") {
    // 8 of 10 layers less for one answer of two: worth it up to a price of 0.8 / 0.5.
    std::vector prompts{prompt({1}, {1}), prompt({1}, {0})};
    for (ScoredPrompt& one : prompts) one.right_at_end = true;
    prompts[0].right = {1};
    prompts[1].right = {0};
    CalibrateOptions options;
    options.target = 0;
    options.accuracy_price = 1.5;
    CHECK(calibrate(prompts, options).exit_rate == 1);
    CHECK(calibrate(prompts, options).accuracy_change == -0.5);
    options.accuracy_price = 1.7;
    CHECK(calibrate(prompts, options).exit_rate == 0);
    // A better answer than that of the last layer is taken although it agrees with nothing, but not against the target.
    prompts[0].right_at_end = prompts[1].right_at_end = false;
    CHECK(calibrate(prompts, options).accuracy_change == 0.5);
    options.target = 0.9;
    CHECK(calibrate(prompts, options).exit_rate == 0);
}

TEST_CASE("each group gets the threshold of its own prompts") {
    const auto prompts = random_prompts(11, 60, false);
    CalibrateOptions options;
    options.target = 0.8;
    const auto per_group = calibrate_per_group(prompts, options);
    REQUIRE(per_group.size() == 3);
    for (const auto& [group, result] : per_group) {
        std::vector<ScoredPrompt> own;
        for (const auto& one : prompts)
            if (one.group == group) own.push_back(one);
        CHECK(result.prompts == own.size());
        CHECK(result.threshold == calibrate(own, options).threshold);
    }
}

TEST_CASE("binomial bounds") {
    // Expected: the 0.05 quantile of the beta distribution with parameters k and n - k + 1.
    CHECK(success_lower_bound(298, 300, 0.95) == doctest::Approx(0.9791638).epsilon(1e-6));
    CHECK(success_lower_bound(5, 10, 0.95) == doctest::Approx(0.2224411).epsilon(1e-6));
    CHECK(success_lower_bound(10, 10, 0.95) == doctest::Approx(std::pow(0.05, 0.1)));
    CHECK(success_lower_bound(0, 10, 0.95) == 0.0);
    CHECK(binomial_upper_tail(0, 5, 0.3) == 1.0);
    CHECK(binomial_upper_tail(6, 5, 0.3) == 0.0);
    CHECK(binomial_upper_tail(2, 3, 0.5) == doctest::Approx(0.5));
    CHECK(binomial_upper_tail(4000, 100000, 0.05) == doctest::Approx(1.0));  // p^n underflows
    CHECK(least_successes(298, 0.99, 0.95) == 299);                         // not even all of them
    CHECK(least_successes(299, 0.99, 0.95) == 299);
    CHECK(least_successes(10, 0.0, 0.95) == 0);
    for (const std::size_t n : {20U, 313U, 1000U}) {
        const std::size_t k = least_successes(n, 0.8, 0.9);
        CHECK(success_lower_bound(k, n, 0.9) >= 0.8 - 1e-12);
        CHECK(success_lower_bound(k - 1, n, 0.9) < 0.8);
    }
}

TEST_CASE("from traces to a calibrated classifier") {
    std::vector<Trace> traces;
    for (const Sequence& sequence : TrainingFixture("five_features").sequences()) {
        Trace trace;
        trace.n_layers = 14;
        trace.n_features = sequence.n_features;
        trace.features = sequence.features;
        trace.agrees = sequence.labels;
        for (std::size_t t = 0; t < sequence.steps(); ++t) trace.layers.push_back(t + 1);
        trace.group = sequence.group;
        traces.push_back(trace);
    }
    const Split split = split_by_prompt(traces, 0.5, 1);
    const auto train = select_prompts(traces, split.train), held_out = select_prompts(traces, split.held_out);
    const auto run = [&](auto model) {
        CalibrateOptions options;
        options.target = 0.9;
        const auto scored = score_traces(model, held_out);
        const Calibration result = calibrate(scored, options);
        CHECK(result.met);
        CHECK(result.agreement >= 0.9);
        CHECK(result.mean_layers < 13.0);
        CHECK(result.mean_full_layers == 14.0);
        MESSAGE(model.kind, ": ", result.mean_layers, " of 14 layers at agreement ", result.agreement);
    };
    const auto sequences = to_sequences(train);
    run(train_svm(sequences).model);
    run(train_crf(sequences).model);

    CHECK(contains(error_of([&] { (void)to_sequences(train, Label::MatchesGold); }), "trace matches_gold: expected one label"));
    LinearSvm narrow = train_svm(sequences).model;
    narrow.weights.pop_back();
    CHECK(contains(error_of([&] { (void)score_traces(narrow, held_out); }), "svm weights: expected 5 values, found 4"));
    traces[0].features.pop_back();
    CHECK(contains(error_of([&] { (void)score_traces(train_svm(sequences).model, traces); }), "trace 0: expected 12 x 5"));
}

TEST_CASE("bad input to calibration is named") {
    const auto run = [](std::vector<ScoredPrompt> prompts) { return error_of([&] { (void)calibrate(prompts); }); };
    CHECK(contains(run({}), "no prompts"));
    CHECK(contains(run({prompt({1}, {1}), prompt({1, 2}, {1})}), "prompt 1: 2 layers, 2 scores, 1 good"));
    CHECK(contains(run({prompt({1, std::nanf("")}, {1, 1})}), "prompt 0, step 1: score is nan"));
    CHECK(contains(run({prompt({1, 2}, {1, 1}, 3)}), "prompt 0, step 1: layers must ascend and stay below 3, found 4"));
    CHECK(contains(run({prompt({}, {}, 0)}), "n_layers must be >= 1"));
    ScoredPrompt unordered = prompt({1, 2}, {1, 1});
    unordered.layers = {3, 3};
    CHECK(contains(run({unordered}), "layers must ascend"));
    const std::vector good{prompt({1}, {1})};
    CalibrateOptions options;
    options.target = 1.5;
    CHECK(contains(error_of([&] { (void)calibrate(good, options); }), "target must lie in [0, 1]"));
    options.target = 0.9;
    options.confidence = 1;
    CHECK(contains(error_of([&] { (void)calibrate(good, options); }), "confidence must lie in [0, 1)"));
    options.confidence = 0;
    options.accuracy_price = -1;
    CHECK(contains(error_of([&] { (void)calibrate(good, options); }), "accuracy_price must be finite and >= 0, found -1"));
    options.accuracy_price = 1;
    CHECK(contains(error_of([&] { (void)calibrate(good, options); }), "it is not known which answers are right"));
    CHECK(contains(error_of([&] { (void)measure_threshold(good, std::nanf("")); }), "threshold is nan"));
}

}  // namespace test_train_calibrate
