#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/train/dataset.hpp"
#include "adainfer/train/standardize.hpp"

namespace adainfer::inline v0 {

/// Loss of a step with margin m = y * score(x), y in {-1, 1}.
enum class SvmLoss {
    Hinge,         ///< max(0, 1 - m)
    SquaredHinge,  ///< max(0, 1 - m)^2
};

struct SvmOptions {
    SvmLoss loss = SvmLoss::SquaredHinge;
    double c = 1.0;                            ///< weight of the losses against the regulariser, > 0
    bool balanced = false;                     ///< weigh each class by steps / (2 * steps of the class)
    std::array<double, 2> class_weight{1, 1};  ///< further factor on C for labels 0 and 1, > 0
    double tolerance = 1e-4;                   ///< largest spread of the projected gradient at the end, > 0
    std::size_t max_passes = 10000;            ///< work allowed: steps looked at / steps of the data
    std::uint64_t seed = 0;                    ///< order in which steps are visited
};

struct SvmFit {
    LinearSvm model;             ///< threshold 0
    double primal = 0;           ///< 1/2 |w|^2 + sum_i C_i loss_i, the bias counted in w
    double duality_gap = 0;      ///< primal - dual objective: how far the primal can still be from its minimum
    std::size_t passes = 0;      ///< work done: steps looked at / steps of the data, rounded up
    bool converged = false;
};

namespace detail::svm {

/// What a training reports beside its model.
struct Result {
    std::vector<double> plane;  ///< [cols], the bias last
    double primal = 0, duality_gap = 0;
    std::size_t passes = 0;
    bool converged = false;
};

/// Dual coordinate descent for the L2-regularised linear SVM; the columns of `data` include the constant 1 of the bias.
/// Source: Hsieh, Chang, Lin, Keerthi, Sundararajan, "A Dual Coordinate Descent Method for Large-scale Linear SVM"
/// (ICML 2008), Algorithm 1, with the shrinking of section 3.2 (Algorithm 3).
class Solver {
  public:
    Solver(const StandardizedData& data, const SvmOptions& options)
        : data_(data), options_(options), w_(data.cols), alpha_(data.steps()), q_diagonal_(data.steps()) {
        const double n = static_cast<double>(data.steps());
        const double n_stop = static_cast<double>(std::accumulate(data.labels.begin(), data.labels.end(), std::size_t{0}));
        const std::array<double, 2> count{n - n_stop, n_stop};
        for (std::size_t k = 0; k < 2; ++k)
            cost_[k] = options.c * options.class_weight[k] * (options.balanced ? n / (2 * count[k]) : 1.0);
        for (std::size_t i = 0; i < data.steps(); ++i)
            q_diagonal_[i] = dot(data.row(i), data.row(i)) + diagonal(i);
    }

    void solve(Result& fit) {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        std::vector<std::size_t> active(data_.steps());
        std::iota(active.begin(), active.end(), std::size_t{0});
        std::mt19937_64 random(options_.seed);
        std::size_t n_active = active.size();
        double shrink_above = infinity, shrink_below = -infinity;  // extremes of the pass before
        // Shrinking makes most rounds short, so the limit is on the steps looked at, not on the rounds.
        double visits = 0;
        const double n_steps = static_cast<double>(data_.steps()), limit = static_cast<double>(options_.max_passes) * n_steps;
        while (visits < limit) {
            visits += static_cast<double>(n_active);
            double highest = -infinity, lowest = infinity;
            for (std::size_t i = n_active; i > 1; --i) std::swap(active[i - 1], active[random() % i]);
            for (std::size_t a = 0; a < n_active;) {
                const std::size_t i = active[a];
                const double gradient = y(i) * dot(w_, data_.row(i)) - 1 + diagonal(i) * alpha_[i];
                double projected = gradient;
                if (alpha_[i] <= 0) {
                    if (gradient > shrink_above) {
                        std::swap(active[a], active[--n_active]);
                        continue;
                    }
                    projected = (std::min)(gradient, 0.0);
                } else if (alpha_[i] >= upper(i)) {
                    if (gradient < shrink_below) {
                        std::swap(active[a], active[--n_active]);
                        continue;
                    }
                    projected = (std::max)(gradient, 0.0);
                }
                highest = (std::max)(highest, projected);
                lowest = (std::min)(lowest, projected);
                if (std::abs(projected) > 0) step(i, gradient);
                ++a;
            }
            if (n_active == 0 || highest - lowest <= options_.tolerance) {
                if (n_active == active.size()) {
                    fit.converged = true;
                    break;
                }
                // Good on what is left: the steps set aside must be looked at again before it counts.
                n_active = active.size();
                shrink_above = infinity;
                shrink_below = -infinity;
            } else {
                shrink_above = highest > 0 ? highest : infinity;
                shrink_below = lowest < 0 ? lowest : -infinity;
            }
        }
        fit.passes = static_cast<std::size_t>(std::ceil(visits / n_steps));
        report(fit);
    }

    /// [cols], the bias last.
    [[nodiscard]] const std::vector<double>& weights() const noexcept { return w_; }

  private:
    [[nodiscard]] static double dot(std::span<const double> a, std::span<const double> b) noexcept {
        double sum = 0;
        for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
        return sum;
    }
    [[nodiscard]] double y(std::size_t i) const noexcept { return data_.labels[i] ? 1.0 : -1.0; }
    [[nodiscard]] double cost(std::size_t i) const noexcept { return cost_[data_.labels[i]]; }
    [[nodiscard]] double diagonal(std::size_t i) const noexcept {  // D_ii
        return options_.loss == SvmLoss::Hinge ? 0.0 : 0.5 / cost(i);
    }
    [[nodiscard]] double upper(std::size_t i) const noexcept {  // U
        return options_.loss == SvmLoss::Hinge ? cost(i) : std::numeric_limits<double>::infinity();
    }

    /// Minimises the dual over alpha_i alone and keeps w = sum_i y_i alpha_i x_i.
    void step(std::size_t i, double gradient) noexcept {
        const double before = alpha_[i];
        alpha_[i] = (std::min)((std::max)(before - gradient / q_diagonal_[i], 0.0), upper(i));
        const double change = (alpha_[i] - before) * y(i);
        const std::span<const double> x = data_.row(i);
        for (std::size_t k = 0; k < x.size(); ++k) w_[k] += change * x[k];
    }

    void report(Result& fit) const noexcept {
        const double half_norm = 0.5 * dot(w_, w_);
        double losses = 0, dual = -half_norm;
        for (std::size_t i = 0; i < data_.steps(); ++i) {
            const double short_of = (std::max)(0.0, 1 - y(i) * dot(w_, data_.row(i)));
            losses += cost(i) * (options_.loss == SvmLoss::Hinge ? short_of : short_of * short_of);
            dual += alpha_[i] - 0.5 * diagonal(i) * alpha_[i] * alpha_[i];
        }
        fit.primal = half_norm + losses;
        fit.duality_gap = fit.primal - dual;
    }

    const StandardizedData& data_;
    const SvmOptions& options_;
    std::vector<double> w_, alpha_, q_diagonal_;
    std::array<double, 2> cost_{};
};

/// Throws InvalidArgument for options that make no problem.
inline void check(const SvmOptions& options) {
    const auto positive = [](const char* name, double value) {
        if (!(value > 0) || !std::isfinite(value)) fail(ErrorCode::InvalidArgument, "svm ", name, " must be > 0, found ", value);
    };
    positive("c", options.c);
    positive("tolerance", options.tolerance);
    positive("class_weight[0]", options.class_weight[0]);
    positive("class_weight[1]", options.class_weight[1]);
}

[[nodiscard]] inline Result solve(const StandardizedData& data, const SvmOptions& options) {
    Solver solver(data, options);
    Result result;
    solver.solve(result);
    result.plane = solver.weights();
    return result;
}

/// Copies result and plane into the fit of a model whose score is weights . x + bias.
template <class Fit>
void adopt(const Result& result, Fit& fit) {
    fit.model.weights.assign(result.plane.size() - 1, 0.0F);
    for (std::size_t i = 0; i + 1 < result.plane.size(); ++i) fit.model.weights[i] = static_cast<float>(result.plane[i]);
    fit.model.bias = static_cast<float>(result.plane.back());
    fit.primal = result.primal;
    fit.duality_gap = result.duality_gap;
    fit.passes = result.passes;
    fit.converged = result.converged;
}

}  // namespace detail::svm

/// Trains a linear SVM on all steps of `sequences`, each a sample of its own:
///     minimise 1/2 (|w|^2 + b^2) + sum_i C_i loss(y_i (w x_i + b))
/// over standardised features x. The bias is regularised like a weight, as in LIBLINEAR and in scikit-learn's LinearSVC,
/// whose coefficients this reproduces. The same seed gives the same model.
/// Throws Error for bad options (InvalidArgument) and bad data (see validate_sequences).
[[nodiscard]] inline SvmFit train_svm(std::span<const Sequence> sequences, const SvmOptions& options = {}) {
    detail::svm::check(options);
    const std::size_t n_features = validate_sequences(sequences);
    Scaling scaling = fit_scaling(sequences);
    SvmFit fit;
    detail::svm::adopt(detail::svm::solve(standardize(sequences, scaling), options), fit);
    fit.model.mean = std::move(scaling.mean);
    fit.model.scale = std::move(scaling.scale);
    fit.model.validate(n_features);
    return fit;
}

}  // namespace adainfer::inline v0
