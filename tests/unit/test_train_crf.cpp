#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "adainfer/train/train_crf.hpp"
#include "errors.hpp"
#include "test_train_fixture.hpp"

namespace test_train_crf {

using namespace adainfer;

TEST_CASE("train_crf finds CRFsuite's model") {
    for (const std::string file : {"two_features", "five_features"})
        for (const std::string c2 : {"0.01", "1"}) {
            CAPTURE(file);
            CAPTURE(c2);
            const TrainingFixture fixture(file);
            const auto sequences = fixture.sequences();
            CrfOptions options;
            options.c2 = std::stod(c2);
            const CrfFit fit = train_crf(sequences, options);
            CHECK(fit.converged);
            const std::string key = "crf." + c2;
            CHECK(fit.objective == doctest::Approx(fixture[key + ".loss"][0]).epsilon(1e-6));
            CHECK(fit.log_likelihood == doctest::Approx(fixture[key + ".loss"][1]).epsilon(1e-5));
            const auto close = [](float a, double b) { return std::abs(static_cast<double>(a) - b) < 1e-3; };
            for (std::size_t i = 0; i < fit.model.weights.size(); ++i) CHECK(close(fit.model.weights[i], fixture[key + ".weights"][i]));
            for (std::size_t i = 0; i < 2; ++i) CHECK(close(fit.model.bias[i], fixture[key + ".bias"][i]));
            for (std::size_t i = 0; i < 4; ++i) CHECK(close(fit.model.transitions[i], fixture[key + ".transitions"][i]));

            std::size_t at = 0;
            double worst = 0;
            for (const Sequence& sequence : sequences)
                for (const double p : crf_marginals(fit.model, sequence.features))
                    worst = (std::max)(worst, std::abs(p - fixture[key + ".marginals"][at++]));
            CHECK(at == fixture[key + ".marginals"].size());
            CHECK(worst < 1e-4);

            // CRFsuite's marginal of the last step of every prefix is what the filter says online.
            at = 0, worst = 0;
            for (std::size_t s = 0; s < 20; ++s) {
                auto state = fit.model.begin();
                const Sequence& sequence = sequences[s];
                for (std::size_t t = 0; t < sequence.steps(); ++t) {
                    const std::size_t n = sequence.n_features;
                    const float odds = fit.model.score(std::span(sequence.features).subspan(t * n, n), state);
                    const double p = 1 / (1 + std::exp(-static_cast<double>(odds)));
                    worst = (std::max)(worst, std::abs(p - fixture[key + ".filtered"][at++]));
                }
            }
            CHECK(at == fixture[key + ".filtered"].size());
            CHECK(worst < 1e-4);
        }
}

TEST_CASE("the gradient of the CRF objective is that of finite differences") {
    const auto sequences = TrainingFixture("five_features").sequences();
    const StandardizedData data = standardize(sequences, fit_scaling(sequences));
    detail::crf::Objective objective(data, 0.3);
    std::vector<double> x(objective.size()), gradient(x.size()), unused(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.4 * std::sin(static_cast<double>(3 * i + 1));
    (void)objective(x, gradient);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double h = 1e-5, middle = x[i];
        x[i] = middle + h;
        const double up = objective(x, unused);
        x[i] = middle - h;
        const double down = objective(x, unused);
        x[i] = middle;
        CHECK(gradient[i] == doctest::Approx((up - down) / (2 * h)).epsilon(1e-6));
    }
}

TEST_CASE("the CRF likelihood sums to one over all label paths") {
    Sequence sequence{2, {0.1F, 0.7F, -0.4F, 0.2F, 0.9F, -1.1F, 0.3F, 0.3F}, {0, 1, 0, 1}, 0};
    double total = 0;
    for (unsigned path = 0; path < 16; ++path) {
        for (std::size_t t = 0; t < 4; ++t) sequence.labels[t] = static_cast<std::uint8_t>((path >> t) & 1U);
        const StandardizedData data = standardize(std::vector{sequence}, {{0, 0}, {1, 1}});
        detail::crf::Objective objective(data, 0);
        std::vector<double> x{0.3, -0.8, 0.2, 1.1, 0.4, -0.5, 0.6, -0.9, 0.1, 1.3}, gradient(x.size());
        total += std::exp(-objective(x, gradient));
    }
    CHECK(total == doctest::Approx(1.0).epsilon(1e-12));
}

TEST_CASE("empty prompts and single steps are no obstacle") {
    std::vector<Sequence> sequences{{1, {0.1F}, {0}, 0}, {1, {}, {}, 0}, {1, {0.9F}, {1}, 0}};
    const CrfFit fit = train_crf(sequences);
    CHECK(fit.converged);
    CHECK(fit.model.transitions == std::array<float, 4>{});  // never seen, so only regularised
    CHECK(fit.model.weights[1] > fit.model.weights[0]);
    CHECK(crf_marginals(fit.model, {}).empty());
}

TEST_CASE("bad input to the CRF is named") {
    CHECK(contains(error_of([] { (void)train_crf({}); }), "no training data"));
    CHECK(contains(error_of([] { (void)train_crf(std::vector{Sequence{1, {1, 2}, {1, 1}, 0}}); }), "one class only"));
    const std::vector<Sequence> good{{1, {1, 2}, {0, 1}, 0}};
    CrfOptions options;
    options.c2 = -1;
    CHECK(contains(error_of([&] { (void)train_crf(good, options); }), "crf c2"));
    options = {};
    options.tolerance = 0;
    CHECK(contains(error_of([&] { (void)train_crf(good, options); }), "crf tolerance"));
    LinearChainCrf model = train_crf(good).model;
    model.weights = {1, 2, 3, 4};
    CHECK(contains(error_of([&] { (void)crf_marginals(model, std::vector{1.0F}); }), "crf mean: expected 2 values, found 1"));
    model.mean = model.scale = {1, 1};
    CHECK(contains(error_of([&] { (void)crf_marginals(model, std::vector{1.0F}); }), "expected a multiple of 2 values, found 1"));
}

}  // namespace test_train_crf
