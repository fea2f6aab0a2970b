#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// A linear support vector machine that says when to stop: one dot product over the standardised features of a layer.
///
/// score(x) = bias + sum_i weights[i] * (x[i] - mean[i]) / scale[i]
///
/// Source: the first of the two classifiers of AdaInfer (arXiv 2403.02181, section 3). Trained by train_svm().
///
/// A classifier of AdaInferPolicy has
///     static constexpr std::string_view kind;                            // name in a policy file
///     struct State { ... };                                              // what it carries from layer to layer
///     State begin() const;                                               // a new inference
///     float score(std::span<const float> features, State&) const noexcept;  // higher = stop; allocates nothing
///     float threshold;                                                   // stop where score > threshold, so NaN goes on
///     std::size_t feature_count() const;
///     void validate(std::size_t n_features) const;                       // throws Error
/// Threads may share one object; each inference has its own State.
struct LinearSvm {
    static constexpr std::string_view kind = "svm";

    /// Layers are judged one by one: nothing is carried.
    struct State {};

    std::vector<float> mean;     ///< [n_features]
    std::vector<float> scale;    ///< [n_features], > 0: the standard deviations of the training data
    std::vector<float> weights;  ///< [n_features], for standardised features
    float bias = 0;
    float threshold = 0;

    [[nodiscard]] std::size_t feature_count() const noexcept { return weights.size(); }
    [[nodiscard]] State begin() const noexcept { return {}; }

    /// Signed distance to the separating plane, times the norm of the weights; 0 lies on the plane.
    /// Precondition: features.size() == feature_count() and validate() passed.
    [[nodiscard]] float score(std::span<const float> features, State& /*state*/) const noexcept {
        float sum = bias;
        for (std::size_t i = 0; i < weights.size(); ++i) sum += weights[i] * ((features[i] - mean[i]) / scale[i]);
        return sum;
    }

    /// Throws Error (ShapeMismatch, NotFinite, InvalidArgument) unless every parameter fits `n_features` features.
    /// An infinite threshold is valid: it always or never stops.
    void validate(std::size_t n_features) const {
        const auto check = [&](std::string_view name, const std::vector<float>& values) {
            if (values.size() != n_features)
                fail(ErrorCode::ShapeMismatch, "svm ", name, ": expected ", n_features, " values, found ", values.size());
            for (std::size_t i = 0; i < values.size(); ++i)
                if (!std::isfinite(values[i])) fail(ErrorCode::NotFinite, "svm ", name, "[", i, "] is ", values[i]);
        };
        check("mean", mean);
        check("scale", scale);
        check("weights", weights);
        for (std::size_t i = 0; i < scale.size(); ++i)
            if (!(scale[i] > 0)) fail(ErrorCode::InvalidArgument, "svm scale[", i, "] must be > 0, found ", scale[i]);
        if (!std::isfinite(bias)) fail(ErrorCode::NotFinite, "svm bias is ", bias);
        if (std::isnan(threshold)) fail(ErrorCode::NotFinite, "svm threshold is ", threshold);
    }
};

}  // namespace adainfer::inline v0
