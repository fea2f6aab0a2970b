#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/train/dataset.hpp"
#include "adainfer/train/lbfgs.hpp"
#include "adainfer/train/standardize.hpp"

namespace adainfer::inline v0 {

struct CrfOptions {
    double c2 = 1.0;                     ///< weight of the regulariser c2 * |parameters|^2, >= 0
    std::size_t max_iterations = 1000;
    double tolerance = 1e-5;             ///< see LbfgsOptions::tolerance
};

struct CrfFit {
    LinearChainCrf model;       ///< threshold 0
    double objective = 0;       ///< -log_likelihood + c2 * |parameters|^2
    double log_likelihood = 0;  ///< sum over the sequences of log P(labels | features)
    double gradient_norm = 0;   ///< of the objective
    std::size_t iterations = 0;
    bool converged = false;
};

namespace detail::crf {

using lbfgs::add_scaled;
using lbfgs::inner;

/// Sums over all label paths of one sequence in log space: Lafferty, McCallum and Pereira, "Conditional Random Fields"
/// (ICML 2001), section 3, by the recursions of Rabiner's HMM tutorial (Proceedings of the IEEE 77(2), 1989, section III.A).
struct Lattice {
    using Pair = std::array<double, 2>;  ///< a value per state
    std::vector<Pair> emission, alpha, beta;
    std::array<double, 4> transitions{};  ///< [2, 2], from, to
    double log_z = 0;

    [[nodiscard]] static double log_sum_exp(double a, double b) noexcept {
        return (std::max)(a, b) + std::log1p(std::exp(-std::abs(a - b)));
    }

    void resize(std::size_t steps) {
        emission.resize(steps);
        alpha.resize(steps);
        beta.resize(steps);
    }

    /// Fills alpha, beta and log_z from emission and transitions. Precondition: at least one step.
    void run() noexcept {
        const std::size_t n = emission.size();
        alpha[0] = emission[0];
        for (std::size_t t = 1; t < n; ++t)
            for (std::size_t to = 0; to < 2; ++to)
                alpha[t][to] =
                    emission[t][to] + log_sum_exp(alpha[t - 1][0] + transitions[to], alpha[t - 1][1] + transitions[2 + to]);
        beta[n - 1] = {0, 0};
        for (std::size_t t = n - 1; t-- > 0;)
            for (std::size_t from = 0; from < 2; ++from)
                beta[t][from] = log_sum_exp(transitions[2 * from] + emission[t + 1][0] + beta[t + 1][0],
                                            transitions[2 * from + 1] + emission[t + 1][1] + beta[t + 1][1]);
        log_z = log_sum_exp(alpha[n - 1][0], alpha[n - 1][1]);
    }

    /// P(state at t = state | all features)
    [[nodiscard]] double marginal(std::size_t t, std::size_t state) const noexcept {
        return std::exp(alpha[t][state] + beta[t][state] - log_z);
    }

    /// P(state at t = from and state at t + 1 = to | all features)
    [[nodiscard]] double marginal(std::size_t t, std::size_t from, std::size_t to) const noexcept {
        return std::exp(alpha[t][from] + transitions[2 * from + to] + emission[t + 1][to] + beta[t + 1][to] - log_z);
    }
};

/// The regularised negative log-likelihood as a function of [W (2 x cols), transitions (2 x 2)]; the last column of W is
/// the bias. Every parameter is regularised, as in CRFsuite.
class Objective {
  public:
    Objective(const StandardizedData& data, double c2) : data_(data), c2_(c2) {}

    [[nodiscard]] std::size_t size() const noexcept { return 2 * data_.cols + 4; }

    double operator()(std::span<const double> parameters, std::span<double> gradient) {
        const std::size_t cols = data_.cols;
        double value = c2_ * inner(parameters, parameters);
        for (std::size_t i = 0; i < parameters.size(); ++i) gradient[i] = 2 * c2_ * parameters[i];
        const std::span<double> transition_gradient = gradient.subspan(2 * cols);
        std::copy_n(parameters.begin() + static_cast<std::ptrdiff_t>(2 * cols), 4, lattice_.transitions.begin());

        for (std::size_t s = 0; s + 1 < data_.starts.size(); ++s) {
            const std::size_t begin = data_.starts[s], steps = data_.starts[s + 1] - begin;
            if (steps == 0) continue;
            lattice_.resize(steps);
            for (std::size_t t = 0; t < steps; ++t)
                for (std::size_t state = 0; state < 2; ++state)
                    lattice_.emission[t][state] = inner(parameters.subspan(state * cols, cols), data_.row(begin + t));
            lattice_.run();
            double loss = lattice_.log_z;  // summed up per sequence: one long sum would round more
            for (std::size_t t = 0; t < steps; ++t) {
                const std::size_t label = data_.labels[begin + t];
                loss -= lattice_.emission[t][label];
                for (std::size_t state = 0; state < 2; ++state)
                    add_scaled(gradient.subspan(state * cols, cols), lattice_.marginal(t, state) - (state == label ? 1 : 0),
                               data_.row(begin + t));
                if (t + 1 == steps) break;
                const std::size_t pair = 2 * label + data_.labels[begin + t + 1];
                loss -= lattice_.transitions[pair];
                for (std::size_t k = 0; k < 4; ++k)
                    transition_gradient[k] += lattice_.marginal(t, k / 2, k % 2) - (k == pair ? 1 : 0);
            }
            value += loss;
        }
        return value;
    }

  private:
    const StandardizedData& data_;
    double c2_;
    Lattice lattice_;
};

}  // namespace detail::crf

/// Trains a linear-chain CRF by maximum likelihood, a chain per prompt:
///     minimise -sum over sequences of log P(labels | features) + c2 * |parameters|^2
/// over standardised features, a bias per state and four transitions, all regularised. This is what CRFsuite minimises with
/// its lbfgs algorithm, c1 = 0, all possible states and transitions, and an attribute that is always 1.
/// Throws Error for bad options (InvalidArgument) and bad data (see validate_sequences).
[[nodiscard]] inline CrfFit train_crf(std::span<const Sequence> sequences, const CrfOptions& options = {}) {
    if (!(options.c2 >= 0) || !std::isfinite(options.c2))
        fail(ErrorCode::InvalidArgument, "crf c2 must be >= 0, found ", options.c2);
    if (!(options.tolerance > 0)) fail(ErrorCode::InvalidArgument, "crf tolerance must be > 0, found ", options.tolerance);

    const std::size_t n_features = validate_sequences(sequences);
    Scaling scaling = fit_scaling(sequences);
    const StandardizedData data = standardize(sequences, scaling);
    detail::crf::Objective objective(data, options.c2);
    LbfgsOptions minimizer;
    minimizer.max_iterations = options.max_iterations;
    minimizer.tolerance = options.tolerance;
    const LbfgsResult found = minimize_lbfgs(objective, std::vector<double>(objective.size()), minimizer);

    CrfFit fit;
    fit.objective = found.value;
    fit.log_likelihood = options.c2 * detail::crf::inner(found.x, found.x) - found.value;
    fit.gradient_norm = found.gradient_norm;
    fit.iterations = found.iterations;
    fit.converged = found.stop == LbfgsStop::Converged;
    LinearChainCrf& model = fit.model;
    for (std::size_t state = 0; state < 2; ++state) {
        const double* row = found.x.data() + state * data.cols;
        for (std::size_t i = 0; i < n_features; ++i) model.weights.push_back(static_cast<float>(row[i]));
        model.bias[state] = static_cast<float>(row[n_features]);
    }
    for (std::size_t k = 0; k < 4; ++k) model.transitions[k] = static_cast<float>(found.x[2 * data.cols + k]);
    model.mean = std::move(scaling.mean);
    model.scale = std::move(scaling.scale);
    model.validate(n_features);
    return fit;
}

/// P(stop) at each of the steps of a whole sequence, earlier and later steps considered: [steps].
/// For analysis; while a model runs, only LinearChainCrf::score() applies. `features` is [steps, n_features], row-major.
/// Throws Error where `model` is not valid, or ShapeMismatch where `features` does not fill whole steps.
[[nodiscard]] inline std::vector<double> crf_marginals(const LinearChainCrf& model, std::span<const float> features) {
    const std::size_t width = model.feature_count();
    model.validate(width);
    if (width == 0 || features.size() % width != 0)
        fail(ErrorCode::ShapeMismatch, "crf features: expected a multiple of ", width, " values, found ", features.size());
    const std::size_t steps = features.size() / width;
    if (steps == 0) return {};
    detail::crf::Lattice lattice;
    lattice.resize(steps);
    std::copy(model.transitions.begin(), model.transitions.end(), lattice.transitions.begin());
    for (std::size_t t = 0; t < steps; ++t)
        for (std::size_t state = 0; state < 2; ++state) {
            double sum = static_cast<double>(model.bias[state]);
            for (std::size_t i = 0; i < width; ++i) {
                const float x = (features[t * width + i] - model.mean[i]) / model.scale[i];
                sum += static_cast<double>(model.weights[state * width + i] * x);
            }
            lattice.emission[t][state] = sum;
        }
    lattice.run();
    std::vector<double> stop(steps);
    for (std::size_t t = 0; t < steps; ++t) stop[t] = lattice.marginal(t, 1);
    return stop;
}

}  // namespace adainfer::inline v0
