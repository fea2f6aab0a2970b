#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// A linear-chain conditional random field over the checked layers of one inference; state 0 = go on, state 1 = stop.
///
/// Source: the second classifier of AdaInfer (arXiv 2403.02181, section 3); the model is that of Lafferty, McCallum and
/// Pereira (ICML 2001). Trained by train_crf(). Satisfies the classifier interface described at LinearSvm.
///
/// Later layers do not exist yet when the decision falls, so the score comes from the forward recursion alone, which
/// equals the last marginal of the chain cut off at this layer. It takes O(1) a layer.
struct LinearChainCrf {
    static constexpr std::string_view kind = "crf";

    /// The forward message of the layers seen so far. Only the difference of its two log values matters.
    struct State {
        float log_odds = 0;  ///< alpha(stop) - alpha(go on)
        bool first = true;   ///< no layer seen yet: no transition enters
    };

    std::vector<float> mean;                    ///< [n_features]
    std::vector<float> scale;                   ///< [n_features], > 0
    std::vector<float> weights;                 ///< [2, n_features], row-major, a row per state
    std::array<float, 2> bias{};                ///< [2]
    std::array<float, 4> transitions{};         ///< [2, 2], row-major: from, to
    float threshold = 0;                        ///< log-odds; 0 = stop where stopping is the likelier state

    [[nodiscard]] std::size_t feature_count() const noexcept { return weights.size() / 2; }
    [[nodiscard]] State begin() const noexcept { return {}; }

    /// Log-odds of "stop" given the features of this layer and of those scored before it with the same state.
    /// Precondition: features.size() == feature_count() and validate() passed.
    [[nodiscard]] float score(std::span<const float> features, State& state) const noexcept {
        const std::size_t n = feature_count();
        float emission = bias[1] - bias[0];
        for (std::size_t i = 0; i < n; ++i)
            emission += (weights[n + i] - weights[i]) * ((features[i] - mean[i]) / scale[i]);
        if (!state.first) {
            // The go-on message is the zero of the scale, so the recursion cannot drift, however deep the model.
            const float d = state.log_odds;
            emission += log_sum_exp(transitions[1], d + transitions[3]) - log_sum_exp(transitions[0], d + transitions[2]);
        }
        state = {emission, false};
        return emission;
    }

    /// Throws Error (ShapeMismatch, NotFinite, InvalidArgument) unless every parameter fits `n_features` features.
    /// An infinite threshold is valid: it always or never stops.
    void validate(std::size_t n_features) const {
        const auto check = [](std::string_view name, std::span<const float> values, std::size_t expected) {
            if (values.size() != expected)
                fail(ErrorCode::ShapeMismatch, "crf ", name, ": expected ", expected, " values, found ", values.size());
            for (std::size_t i = 0; i < values.size(); ++i)
                if (!std::isfinite(values[i])) fail(ErrorCode::NotFinite, "crf ", name, "[", i, "] is ", values[i]);
        };
        check("mean", mean, n_features);
        check("scale", scale, n_features);
        check("weights", weights, 2 * n_features);
        check("bias", bias, 2);
        check("transitions", transitions, 4);
        for (std::size_t i = 0; i < scale.size(); ++i)
            if (!(scale[i] > 0)) fail(ErrorCode::InvalidArgument, "crf scale[", i, "] must be > 0, found ", scale[i]);
        if (std::isnan(threshold)) fail(ErrorCode::NotFinite, "crf threshold is ", threshold);
    }

  private:
    [[nodiscard]] static float log_sum_exp(float a, float b) noexcept {
        return (std::max)(a, b) + std::log1p(std::exp(-std::abs(a - b)));
    }
};

}  // namespace adainfer::inline v0
