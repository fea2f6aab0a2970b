#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "adainfer/train/lbfgs.hpp"

namespace test_train_lbfgs {

using namespace adainfer;

TEST_CASE("lbfgs walks Rosenbrock's valley") {
    for (const std::size_t n : {2U, 20U}) {
        const auto rosenbrock = [](std::span<const double> x, std::span<double> g) {
            double value = 0;
            for (double& entry : g) entry = 0;
            for (std::size_t i = 0; i + 1 < x.size(); i += 2) {
                const double a = 1 - x[i], b = x[i + 1] - x[i] * x[i];
                value += a * a + 100 * b * b;
                g[i] += -2 * a - 400 * x[i] * b;
                g[i + 1] += 200 * b;
            }
            return value;
        };
        std::vector<double> start(n, 1.0);
        for (std::size_t i = 0; i < n; i += 2) start[i] = -1.2;
        LbfgsOptions options;
        options.tolerance = 1e-9;
        const LbfgsResult result = minimize_lbfgs(rosenbrock, start, options);
        CHECK(result.stop == LbfgsStop::Converged);
        CHECK(result.iterations < 100);
        for (const double x : result.x) CHECK(x == doctest::Approx(1.0).epsilon(1e-7));
    }
}

TEST_CASE("lbfgs solves a badly scaled quadratic") {
    const auto quadratic = [](std::span<const double> x, std::span<double> g) {
        double value = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double scale = std::pow(10.0, static_cast<double>(i % 5)), d = x[i] - static_cast<double>(i);
            value += 0.5 * scale * d * d;
            g[i] = scale * d;
        }
        return value;
    };
    LbfgsOptions options;
    options.history = 6;
    options.tolerance = 1e-8;
    const LbfgsResult result = minimize_lbfgs(quadratic, std::vector<double>(12), options);
    CHECK(result.stop == LbfgsStop::Converged);
    for (std::size_t i = 0; i < 12; ++i) CHECK(result.x[i] == doctest::Approx(static_cast<double>(i)).epsilon(1e-6));
}

TEST_CASE("lbfgs says why it stopped") {
    const auto square = [](std::span<const double> x, std::span<double> g) { return g[0] = 2 * x[0], x[0] * x[0]; };
    CHECK(minimize_lbfgs(square, {0.0}).stop == LbfgsStop::Converged);
    CHECK(minimize_lbfgs(square, {0.0}).evaluations == 1);
    CHECK(minimize_lbfgs([](auto, auto) { return 3.0; }, {}).stop == LbfgsStop::Converged);

    LbfgsOptions none;
    none.max_iterations = 0;
    CHECK(minimize_lbfgs(square, {1.0}, none).stop == LbfgsStop::MaxIterations);

    const auto uphill = [](std::span<const double> x, std::span<double> g) { return g[0] = -1, x[0]; };  // wrong sign
    CHECK(minimize_lbfgs(uphill, {1.0}).stop == LbfgsStop::NoProgress);

    // Steps that leave the domain are shortened.
    const auto barrier = [](std::span<const double> x, std::span<double> g) {
        g[0] = 1 - 1e-3 / x[0];
        return x[0] - 1e-3 * std::log(x[0]);
    };
    const LbfgsResult inside = minimize_lbfgs(barrier, {0.5});
    CHECK(inside.stop == LbfgsStop::Converged);
    CHECK(inside.x[0] == doctest::Approx(1e-3).epsilon(1e-4));
}

TEST_CASE("lbfgs refuses a start that is not finite and an empty history") {
    const auto nan = [](std::span<const double>, std::span<double> g) { return g[0] = 0, std::numeric_limits<double>::quiet_NaN(); };
    CHECK_THROWS_WITH_AS((void)minimize_lbfgs(nan, {1.0}), "not finite: lbfgs objective at the start: value nan, gradient norm 0",
                         Error);
    LbfgsOptions options;
    options.history = 0;
    CHECK_THROWS_AS((void)minimize_lbfgs(nan, {1.0}, options), Error);
}

}  // namespace test_train_lbfgs
