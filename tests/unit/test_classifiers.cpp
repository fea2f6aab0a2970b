#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/early_exit/any_classifier.hpp"
#include "adainfer/early_exit/exit_classifier.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/per_layer.hpp"
#include "adainfer/early_exit/random_fourier.hpp"
#include "adainfer/early_exit/rbf_svm.hpp"

namespace test_classifiers {

using adainfer::AnyClassifier;
using adainfer::LinearChainCrf;
using adainfer::LinearSvm;
using adainfer::PerLayer;
using adainfer::RandomFourier;
using adainfer::RbfSvm;

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

PerLayer<LinearSvm> layers() {
    PerLayer<LinearSvm> model;
    model.shared = svm();
    model.layers = {3, 7};
    model.own = {svm(), svm()};
    model.own[0].bias = 10;
    model.own[1].bias = 20;
    return model;
}

RbfSvm rbf() {
    RbfSvm model;
    model.mean = {0.5F, 1.0F};
    model.scale = {0.25F, 2.0F};
    model.map = RandomFourier(2, 3, 0.5, 9);
    model.weights = {1, -2, 0.5F};
    model.bias = 0.25F;
    return model;
}

/// Mean over random pairs of the distance of z(x) . z(y) from exp(-gamma |x - y|^2).
double kernel_error(std::size_t size, double gamma) {
    std::mt19937_64 random(4);
    const auto uniform = [&] { return static_cast<float>(4 * (static_cast<double>(random() >> 11) * 0x1p-53) - 2); };
    double error = 0;
    int count = 0;
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const RandomFourier map(3, size, gamma, seed);
        std::vector<float> x(3), y(3), zx(size), zy(size);
        for (int pair = 0; pair < 200; ++pair, ++count) {
            double distance = 0, dot = 0;
            for (std::size_t i = 0; i < 3; ++i) {
                x[i] = uniform();
                y[i] = uniform();
                distance += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
            }
            map.map(x, zx);
            map.map(y, zy);
            for (std::size_t i = 0; i < size; ++i) dot += static_cast<double>(zx[i]) * static_cast<double>(zy[i]);
            error += std::abs(dot - std::exp(-gamma * distance));
        }
    }
    return error / count;
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

TEST_CASE("PerLayer asks the classifier of the layer, or the shared one") {
    const PerLayer<LinearSvm> model = layers();
    auto state = model.begin();
    const std::vector<float> x{1.0F, 3.0F};  // 1 above the bias, see LinearSvm
    CHECK(model.score(3, x, state) == doctest::Approx(11));
    CHECK(model.score(7, x, state) == doctest::Approx(21));
    for (const std::size_t layer : {1U, 2U, 4U, 6U, 8U, 1000U}) CHECK(model.score(layer, x, state) == doctest::Approx(1.5));
    CHECK(adainfer::score_after(model, 7, x, state) == doctest::Approx(21));
    CHECK(adainfer::score_after(model.shared, 7, x, state) == doctest::Approx(1.5));
    CHECK(model.feature_count() == 2);
    CHECK(PerLayer<LinearSvm>::kind == "per_layer_svm");
    CHECK_NOTHROW(model.validate(2));
    static_assert(adainfer::ExitClassifier<PerLayer<LinearSvm>>);
    static_assert(adainfer::ExitClassifier<RbfSvm>);
    static_assert(adainfer::ExitClassifier<AnyClassifier>);
}

TEST_CASE("RandomFourier features approximate the RBF kernel, better the more there are") {
    for (const double gamma : {0.1, 0.5}) {
        const double coarse = kernel_error(64, gamma), middle = kernel_error(1024, gamma), fine = kernel_error(16384, gamma);
        MESSAGE("gamma ", gamma, ": mean error ", coarse, " with 64 features, ", middle, " with 1024, ", fine, " with 16384");
        // As 1 / sqrt(D): 16 times the features, a quarter of the error.
        CHECK(middle < coarse / 2.5);
        CHECK(fine < middle / 2.5);
        CHECK(fine < 0.01);
    }
}

TEST_CASE("RandomFourier draws what its distributions say") {
    const double gamma = 0.7;
    const RandomFourier map(1, 20000, gamma, 3);
    CHECK(map.size() == 20000);
    // The characteristic function at x of N(0, 2 gamma): E cos(w x) = exp(-gamma x^2). z(0) . z(x) is that mean.
    const std::vector<float> zero{0}, one{1};
    std::vector<float> z0(map.size()), z1(map.size());
    map.map(zero, z0);
    map.map(one, z1);
    double dot = 0, mean = 0;
    for (std::size_t i = 0; i < map.size(); ++i) {
        dot += static_cast<double>(z0[i]) * static_cast<double>(z1[i]);
        mean += static_cast<double>(z0[i]) / std::sqrt(2.0 * 20000);  // cos of a phase, mean 0
    }
    CHECK(dot == doctest::Approx(std::exp(-gamma)).epsilon(0.03));
    CHECK(std::abs(mean) < 0.02);
    CHECK(RandomFourier(1, 50, gamma, 3).feature(7, one.data()) == RandomFourier(1, 50, gamma, 3).feature(7, one.data()));
    CHECK(RandomFourier(1, 50, gamma, 3).feature(7, one.data()) != RandomFourier(1, 50, gamma, 4).feature(7, one.data()));
}

TEST_CASE("RbfSvm is a linear machine over the features of the standardised input") {
    const RbfSvm model = rbf();
    auto state = model.begin();
    const std::vector<float> x{1.0F, 3.0F}, standardised{2.0F, 1.0F};
    std::vector<float> z(3);
    model.map.map(standardised, z);
    CHECK(model.score(x, state) == doctest::Approx(0.25 + static_cast<double>(z[0] - 2 * z[1] + 0.5F * z[2])));
    CHECK(model.feature_count() == 2);
    CHECK(RbfSvm::kind == "rbf");
    CHECK_NOTHROW(model.validate(2));
    static_assert(noexcept(model.score(x, state)));
}

TEST_CASE("AnyClassifier scores as the classifier that it holds") {
    const std::vector<std::vector<float>> steps{{0.4F, 2.0F}, {0.6F, -1.0F}, {0.1F, 0.0F}};
    const auto same = [&](auto classifier) {
        classifier.threshold = 0.5F;
        const AnyClassifier any{AnyClassifier::Variant(classifier)};
        CHECK(any.kind() == decltype(classifier)::kind);
        CHECK(any.threshold == 0.5F);
        CHECK(any.feature_count() == 2);
        CHECK_NOTHROW(any.validate(2));
        CHECK_THROWS_AS(any.validate(3), adainfer::Error);
        auto state = any.begin();
        auto own = classifier.begin();
        for (std::size_t t = 0; t < steps.size(); ++t) {
            CHECK(any.score(t + 6, steps[t], state) == adainfer::score_after(classifier, t + 6, steps[t], own));
        }
    };
    same(svm());
    same(crf());
    same(layers());
    same(rbf());
}

TEST_CASE("validate of the wider classifiers names what is wrong") {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(message([] { layers().validate(3); }) == "shape mismatch: svm mean: expected 3 values, found 2");
    CHECK(message([] { auto m = layers(); m.own.pop_back(); m.validate(2); }) ==
          "shape mismatch: per_layer_svm: 2 layers, but 1 classifiers of their own");
    CHECK(message([] { auto m = layers(); m.layers = {7, 7}; m.validate(2); }) ==
          "invalid argument: per_layer_svm: layers must ascend from 1 or more, found 7 at place 1");
    CHECK(message([] { auto m = layers(); m.own[1].weights[0] = nan; m.validate(2); }) == "not finite: svm weights[0] is nan");
    CHECK(message([] { auto m = layers(); m.threshold = nan; m.validate(2); }) == "not finite: per_layer_svm threshold is nan");
    CHECK(message([] { rbf().validate(3); }) == "shape mismatch: rbf map: expected 3 inputs, found 2");
    CHECK(message([] { auto m = rbf(); m.weights.pop_back(); m.validate(2); }) ==
          "shape mismatch: rbf weights: expected 3 values, found 2");
    CHECK(message([] { auto m = rbf(); m.scale[1] = 0; m.validate(2); }) ==
          "invalid argument: rbf scale[1] must be > 0, found 0");
    CHECK(message([] { auto m = rbf(); m.bias = nan; m.validate(2); }) == "not finite: rbf bias is nan");
    CHECK(message([] { RandomFourier(0, 1, 1, 0); }).find("of 0 inputs") != std::string::npos);
    CHECK(message([] { RandomFourier(65, 1, 1, 0); }).find("of 65 inputs") != std::string::npos);
    CHECK(message([] { RandomFourier(1, 65537, 1, 0); }).find("65537 of 1 inputs") != std::string::npos);
    CHECK(message([] { RandomFourier(1, 1, static_cast<double>(nan), 0); }).find("gamma must be above 0") != std::string::npos);
    CHECK(message([] { RandomFourier(1, 1, 0, 0); }).find("gamma must be above 0") != std::string::npos);
}

}  // namespace test_classifiers
