#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_svm.hpp"

using adainfer::LinearChainCrf;
using adainfer::LinearSvm;

namespace {

LinearSvm svm() {
    LinearSvm model;
    model.mean = {0.5F, 1.0F};
    model.scale = {0.25F, 2.0F};
    model.weights = {2.0F, -3.0F};
    model.bias = 0.5F;
    return model;
}

LinearChainCrf crf() {
    LinearChainCrf model;
    model.mean = {0.5F, 1.0F};
    model.scale = {0.25F, 2.0F};
    model.weights = {-1.0F, 0.5F, 0.75F, -0.25F};
    model.bias = {0.1F, -0.3F};
    model.transitions = {1.0F, -0.5F, -2.0F, 0.7F};
    return model;
}

/// log-odds that the last of the steps is state 1, by adding up every path.
double brute_force_log_odds(const LinearChainCrf& model, const std::vector<std::vector<float>>& steps) {
    double total[2] = {0, 0};
    for (unsigned path = 0; path < (1U << steps.size()); ++path) {
        double score = 0;
        for (std::size_t t = 0; t < steps.size(); ++t) {
            const std::size_t state = (path >> t) & 1U;
            score += static_cast<double>(model.bias[state]);
            for (std::size_t i = 0; i < 2; ++i)
                score += static_cast<double>(model.weights[state * 2 + i]) * static_cast<double>(steps[t][i] - model.mean[i]) /
                         static_cast<double>(model.scale[i]);
            if (t > 0) score += static_cast<double>(model.transitions[2 * ((path >> (t - 1)) & 1U) + state]);
        }
        total[(path >> (steps.size() - 1)) & 1U] += std::exp(score);
    }
    return std::log(total[1] / total[0]);
}

template <class Call>
std::string message(Call&& call) {
    try {
        call();
    } catch (const adainfer::Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_CASE("LinearSvm scores the standardised features") {
    const LinearSvm model = svm();
    auto state = model.begin();
    const std::vector<float> x{1.0F, 3.0F};  // standardised: 2, 1
    CHECK(model.score(x, state) == doctest::Approx(1.5));
    CHECK(model.score(x, state) == doctest::Approx(1.5));  // nothing is carried
    CHECK(model.feature_count() == 2);
    CHECK(LinearSvm::kind == "svm");
    CHECK_NOTHROW(model.validate(2));
    static_assert(noexcept(model.score(x, state)));
}

TEST_CASE("LinearChainCrf scores by the forward filter") {
    const LinearChainCrf model = crf();
    const std::vector<std::vector<float>> steps{{0.4F, 2.0F}, {0.6F, -1.0F}, {0.1F, 0.0F}, {0.9F, 4.0F}, {0.8F, 1.0F}};
    for (int run = 0; run < 2; ++run) {  // a new state forgets the inference before
        auto state = model.begin();
        for (std::size_t t = 0; t < steps.size(); ++t) {
            const double expected = brute_force_log_odds(model, {steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(t + 1)});
            CHECK(model.score(steps[t], state) == doctest::Approx(expected).epsilon(1e-5));
        }
    }
    CHECK(model.feature_count() == 2);
    CHECK(LinearChainCrf::kind == "crf");
    CHECK_NOTHROW(model.validate(2));
    static_assert(noexcept(model.score(steps[0], std::declval<LinearChainCrf::State&>())));
}

TEST_CASE("LinearChainCrf stays finite over many layers and extreme features") {
    const LinearChainCrf model = crf();
    auto state = model.begin();
    for (int t = 0; t < 10000; ++t) {
        const std::vector<float> x{t % 2 == 0 ? 1e6F : -1e6F, 0.0F};
        REQUIRE(std::isfinite(model.score(x, state)));
    }
}

TEST_CASE("without transitions the CRF is logistic regression") {
    LinearChainCrf model = crf();
    model.transitions = {};
    auto state = model.begin();
    const std::vector<float> a{0.0F, 1.0F}, b{1.0F, 3.0F};
    CHECK(model.score(a, state) == doctest::Approx(-0.4 + 1.75 * -2));
    CHECK(model.score(b, state) == doctest::Approx(-0.4 + 1.75 * 2 - 0.75));
}

TEST_CASE("validate names the parameter that is wrong") {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    constexpr float infinity = std::numeric_limits<float>::infinity();

    CHECK(message([] { svm().validate(3); }) == "shape mismatch: svm mean: expected 3 values, found 2");
    CHECK(message([] { LinearSvm m = svm(); m.weights.pop_back(); m.validate(2); }) ==
          "shape mismatch: svm weights: expected 2 values, found 1");
    CHECK(message([] { LinearSvm m = svm(); m.weights[1] = nan; m.validate(2); }) == "not finite: svm weights[1] is nan");
    CHECK(message([] { LinearSvm m = svm(); m.bias = infinity; m.validate(2); }) == "not finite: svm bias is inf");
    CHECK(message([] { LinearSvm m = svm(); m.scale[0] = 0; m.validate(2); }) ==
          "invalid argument: svm scale[0] must be > 0, found 0");
    CHECK(message([] { LinearSvm m = svm(); m.threshold = nan; m.validate(2); }) == "not finite: svm threshold is nan");
    CHECK(message([] { LinearSvm m = svm(); m.threshold = infinity; m.validate(2); }).empty());

    CHECK(message([] { crf().validate(1); }) == "shape mismatch: crf mean: expected 1 values, found 2");
    CHECK(message([] { LinearChainCrf m = crf(); m.weights.push_back(0); m.validate(2); }) ==
          "shape mismatch: crf weights: expected 4 values, found 5");
    CHECK(message([] { LinearChainCrf m = crf(); m.transitions[2] = nan; m.validate(2); }) ==
          "not finite: crf transitions[2] is nan");
    CHECK(message([] { LinearChainCrf m = crf(); m.bias[1] = nan; m.validate(2); }) == "not finite: crf bias[1] is nan");
    CHECK(message([] { LinearChainCrf m = crf(); m.scale[1] = -1; m.validate(2); }) ==
          "invalid argument: crf scale[1] must be > 0, found -1");
    CHECK(message([] { LinearChainCrf m = crf(); m.threshold = nan; m.validate(2); }) == "not finite: crf threshold is nan");
}
