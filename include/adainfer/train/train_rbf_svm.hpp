#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/early_exit/random_fourier.hpp"
#include "adainfer/early_exit/rbf_svm.hpp"
#include "adainfer/train/dataset.hpp"
#include "adainfer/train/standardize.hpp"
#include "adainfer/train/train_svm.hpp"

namespace adainfer::inline v0 {

struct RbfSvmOptions {
    std::size_t size = 256;   ///< random features: the kernel's error falls as 1 / sqrt(size), a check costs size cosines
    double gamma = 0;         ///< of the kernel exp(-gamma |x - y|^2) over standardised features; 0: 1 / number of features
    std::uint64_t seed = 0;   ///< of the random features
    SvmOptions svm{.loss = SvmLoss::Hinge};  ///< as scikit-learn's SVC
};

struct RbfSvmFit {
    RbfSvm model;            ///< threshold 0
    double primal = 0;       ///< see SvmFit
    double duality_gap = 0;
    std::size_t passes = 0;
    bool converged = false;
};

/// Trains an SVM with an approximated RBF kernel on all steps of `sequences`, each a sample of its own: train_svm() over random
/// Fourier features of the standardised features. It decides as scikit-learn's SVC of the same C and gamma does, up to the
/// error of the kernel and the bias, which is regularised here. Memory: steps * size doubles. Throws as train_svm() and
/// RandomFourier do.
[[nodiscard]] inline RbfSvmFit train_rbf_svm(std::span<const Sequence> sequences, const RbfSvmOptions& options = {}) {
    detail::svm::check(options.svm);
    const std::size_t n_features = validate_sequences(sequences);
    Scaling scaling = fit_scaling(sequences);
    const double gamma = options.gamma == 0 ? 1.0 / static_cast<double>(n_features) : options.gamma;
    RbfSvmFit fit;
    fit.model.map = RandomFourier(n_features, options.size, gamma, options.seed);

    StandardizedData data = standardize(sequences, scaling);
    StandardizedData mapped{options.size + 1, {}, std::move(data.labels), std::move(data.starts)};
    mapped.rows.reserve(mapped.steps() * mapped.cols);
    std::vector<float> x(n_features), z(options.size);
    for (std::size_t step = 0; step < mapped.steps(); ++step) {
        const std::span<const double> row = data.row(step);
        for (std::size_t i = 0; i < n_features; ++i) x[i] = static_cast<float>(row[i]);
        fit.model.map.map(x, z);
        mapped.rows.insert(mapped.rows.end(), z.begin(), z.end());
        mapped.rows.push_back(1.0);
    }
    detail::svm::adopt(detail::svm::solve(mapped, options.svm), fit);
    fit.model.mean = std::move(scaling.mean);
    fit.model.scale = std::move(scaling.scale);
    fit.model.validate(n_features);
    return fit;
}

}  // namespace adainfer::inline v0
