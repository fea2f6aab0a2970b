#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

struct LbfgsOptions {
    std::size_t history = 10;           ///< pairs of steps and gradient changes kept, >= 1
    std::size_t max_iterations = 1000;
    std::size_t max_evaluations = 50;   ///< of the objective, in one line search
    double tolerance = 1e-6;            ///< done where |gradient| <= tolerance * max(1, |x|)
};

enum class LbfgsStop {
    Converged,      ///< the gradient is as small as asked for
    NoProgress,     ///< no point further down was found: rounding, or a gradient that is not the objective's
    MaxIterations,
};

struct LbfgsResult {
    std::vector<double> x;     ///< [n], the best point found
    double value = 0;          ///< objective there
    double gradient_norm = 0;  ///< Euclidean
    std::size_t iterations = 0, evaluations = 0;
    LbfgsStop stop = LbfgsStop::MaxIterations;
};

namespace detail::lbfgs {

[[nodiscard]] inline double inner(std::span<const double> a, std::span<const double> b) noexcept {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

/// a += factor * b
inline void add_scaled(std::span<double> a, double factor, std::span<const double> b) noexcept {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
}

/// One remembered iteration: s = change of x, y = change of the gradient.
struct Pair {
    std::vector<double> s, y;
    double sy = 0;
};

/// Turns a gradient into the quasi-Newton direction -H * gradient, in place: the two-loop recursion of Nocedal and Wright,
/// "Numerical Optimization" (2nd ed., 2006), Algorithm 7.4, with the initial scaling of (7.20).
inline void to_direction(const std::deque<Pair>& pairs, std::span<double> gradient) {
    std::vector<double> a(pairs.size());
    for (std::size_t i = pairs.size(); i-- > 0;) {
        a[i] = inner(pairs[i].s, gradient) / pairs[i].sy;
        add_scaled(gradient, -a[i], pairs[i].y);
    }
    const double scale = pairs.empty() ? 1.0 : pairs.back().sy / inner(pairs.back().y, pairs.back().y);
    for (double& value : gradient) value *= scale;
    for (std::size_t i = 0; i < pairs.size(); ++i)
        add_scaled(gradient, a[i] - inner(pairs[i].y, gradient) / pairs[i].sy, pairs[i].s);
    for (double& value : gradient) value = -value;
}

}  // namespace detail::lbfgs

/// Minimises a smooth function from `start` by limited-memory BFGS.
/// `objective(std::span<const double> x, std::span<double> gradient) -> double` returns the value at x and fills the
/// gradient, both [n]; a value that is not finite counts as too far and shortens the step.
/// Step lengths satisfy the weak Wolfe conditions, found by the bracketing of Lewis and Overton ("Nonsmooth optimization
/// via quasi-Newton methods", Mathematical Programming 141, 2013, section 2), so every remembered pair has s.y > 0.
/// Throws Error: InvalidArgument for history 0, NotFinite where value or gradient at the start is not finite.
template <class Objective>
[[nodiscard]] LbfgsResult minimize_lbfgs(Objective&& objective, std::vector<double> start, const LbfgsOptions& options = {}) {
    static_assert(std::is_invocable_r_v<double, Objective&, std::span<const double>, std::span<double>>,
                  "the objective must be callable as double(std::span<const double> x, std::span<double> gradient)");
    if (options.history == 0) fail(ErrorCode::InvalidArgument, "lbfgs history must be >= 1");
    const std::size_t n = start.size();
    std::vector<double> gradient(n), direction(n), next_x(n), next_gradient(n);
    std::deque<detail::lbfgs::Pair> pairs;

    LbfgsResult result;
    result.x = std::move(start);
    result.value = objective(std::span<const double>(result.x), std::span<double>(gradient));
    result.evaluations = 1;
    result.gradient_norm = std::sqrt(detail::lbfgs::inner(gradient, gradient));
    if (!std::isfinite(result.value) || !std::isfinite(result.gradient_norm))
        fail(ErrorCode::NotFinite, "lbfgs objective at the start: value ", result.value, ", gradient norm ", result.gradient_norm);

    const auto converged = [&] {
        return result.gradient_norm <= options.tolerance * (std::max)(1.0, std::sqrt(detail::lbfgs::inner(result.x, result.x)));
    };
    while (!converged() && result.iterations < options.max_iterations) {
        direction = gradient;
        detail::lbfgs::to_direction(pairs, direction);
        const double slope = detail::lbfgs::inner(gradient, direction);

        // Near the minimum the decrease asked for drowns in rounding; the slack leaves the decision to the slope.
        const double slack = 4 * std::numeric_limits<double>::epsilon() * std::abs(result.value);
        double low = 0, high = std::numeric_limits<double>::infinity(), value = 0;
        double t = pairs.empty() ? (std::min)(1.0, 1.0 / result.gradient_norm) : 1.0;
        bool found = false;
        for (std::size_t tries = 0; tries < options.max_evaluations && slope < 0; ++tries) {
            next_x = result.x;
            detail::lbfgs::add_scaled(next_x, t, direction);
            value = objective(std::span<const double>(next_x), std::span<double>(next_gradient));
            ++result.evaluations;
            if (!(value <= result.value + 1e-4 * t * slope + slack)) {
                high = t;
            } else if (!(detail::lbfgs::inner(next_gradient, direction) >= 0.9 * slope)) {
                low = t;
            } else {
                found = true;
                break;
            }
            t = std::isinf(high) ? 2 * low : 0.5 * (low + high);
        }
        if (!found) {
            if (pairs.empty()) break;
            pairs.clear();  // a stale model of the curvature: once more, straight downhill
            continue;
        }

        detail::lbfgs::Pair pair{next_x, next_gradient, 0};
        detail::lbfgs::add_scaled(pair.s, -1, result.x);
        detail::lbfgs::add_scaled(pair.y, -1, gradient);
        pair.sy = detail::lbfgs::inner(pair.s, pair.y);
        if (pair.sy > 0) {
            if (pairs.size() == options.history) pairs.pop_front();
            pairs.push_back(std::move(pair));
        }
        result.x.swap(next_x);
        gradient.swap(next_gradient);
        result.value = value;
        result.gradient_norm = std::sqrt(detail::lbfgs::inner(gradient, gradient));
        ++result.iterations;
    }
    result.stop = converged()                                     ? LbfgsStop::Converged
                  : result.iterations >= options.max_iterations ? LbfgsStop::MaxIterations
                                                                : LbfgsStop::NoProgress;
    return result;
}

}  // namespace adainfer::inline v0
