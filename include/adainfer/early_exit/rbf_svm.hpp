#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/random_fourier.hpp"

namespace adainfer::inline v0 {

/// A support vector machine with an RBF kernel, approximated: a linear one over random Fourier features of the standardised
/// features of a layer. Trained by train_rbf_svm(). Satisfies the classifier interface described at LinearSvm.
///
///     score(x) = bias + sum_i weights[i] * z_i((x - mean) / scale)
struct RbfSvm {
    static constexpr std::string_view kind = "rbf";

    /// Layers are judged one by one: nothing is carried.
    struct State {};

    std::vector<float> mean;     ///< [n_features]
    std::vector<float> scale;    ///< [n_features], > 0
    RandomFourier map;           ///< of n_features inputs
    std::vector<float> weights;  ///< [map.size()]
    float bias = 0;
    float threshold = 0;

    [[nodiscard]] std::size_t feature_count() const noexcept { return map.inputs(); }
    [[nodiscard]] State begin() const noexcept { return {}; }

    /// Precondition: features.size() == feature_count() and validate() passed.
    [[nodiscard]] float score(std::span<const float> features, State& /*state*/) const noexcept {
        std::array<float, RandomFourier::max_inputs> x;
        for (std::size_t k = 0; k < mean.size(); ++k) x[k] = (features[k] - mean[k]) / scale[k];
        float sum = bias;
        for (std::size_t i = 0; i < weights.size(); ++i) sum += weights[i] * map.feature(i, x.data());
        return sum;
    }

    /// Throws Error (ShapeMismatch, NotFinite, InvalidArgument) unless every parameter fits `n_features` features.
    /// An infinite threshold is valid: it always or never stops.
    void validate(std::size_t n_features) const {
        if (map.inputs() != n_features) {
            fail(ErrorCode::ShapeMismatch, "rbf map: expected ", n_features, " inputs, found ", map.inputs());
        }
        const auto check = [](std::string_view name, const std::vector<float>& values, std::size_t expected) {
            if (values.size() != expected) {
                fail(ErrorCode::ShapeMismatch, "rbf ", name, ": expected ", expected, " values, found ", values.size());
            }
            for (std::size_t i = 0; i < values.size(); ++i) {
                if (!std::isfinite(values[i])) fail(ErrorCode::NotFinite, "rbf ", name, "[", i, "] is ", values[i]);
            }
        };
        check("mean", mean, n_features);
        check("scale", scale, n_features);
        check("weights", weights, map.size());
        for (std::size_t i = 0; i < scale.size(); ++i) {
            if (!(scale[i] > 0)) fail(ErrorCode::InvalidArgument, "rbf scale[", i, "] must be > 0, found ", scale[i]);
        }
        if (!std::isfinite(bias)) fail(ErrorCode::NotFinite, "rbf bias is ", bias);
        if (std::isnan(threshold)) fail(ErrorCode::NotFinite, "rbf threshold is ", threshold);
    }
};

}  // namespace adainfer::inline v0
