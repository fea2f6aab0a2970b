#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "adainfer/train/dataset.hpp"

namespace adainfer::inline v0 {

/// Brings features to mean 0 and variance 1: (x - mean) / scale. In float, as a classifier stores and applies it.
struct Scaling {
    std::vector<float> mean;   ///< [n_features]
    std::vector<float> scale;  ///< [n_features], population standard deviation; 1 for a constant feature
};

/// Mean and standard deviation (divisor: number of steps) over all steps. Precondition: validate_sequences() passed.
[[nodiscard]] inline Scaling fit_scaling(std::span<const Sequence> sequences) {
    const std::size_t width = sequences[0].n_features;
    double count = 0;
    std::vector<double> mean(width), variance(width);
    for (const Sequence& sequence : sequences) {
        count += static_cast<double>(sequence.steps());
        for (std::size_t i = 0; i < sequence.features.size(); ++i) mean[i % width] += static_cast<double>(sequence.features[i]);
    }
    for (double& value : mean) value /= count;
    for (const Sequence& sequence : sequences)
        for (std::size_t i = 0; i < sequence.features.size(); ++i) {
            const double d = static_cast<double>(sequence.features[i]) - mean[i % width];
            variance[i % width] += d * d;
        }
    Scaling scaling;
    for (std::size_t i = 0; i < width; ++i) {
        const double deviation = std::sqrt(variance[i] / count);
        // A constant feature leaves only rounding noise; scaling that up to variance 1 would invent a signal.
        const bool constant = deviation <= 1e-7 * std::abs(mean[i]) || !(static_cast<float>(deviation) > 0);
        scaling.mean.push_back(static_cast<float>(mean[i]));
        scaling.scale.push_back(constant ? 1.0F : static_cast<float>(deviation));
    }
    return scaling;
}

/// All steps of all sequences, one after the other, in standardised features and one more that is always 1.
struct StandardizedData {
    std::size_t cols = 0;              ///< n_features + 1
    std::vector<double> rows;          ///< [steps, cols], row-major
    std::vector<std::uint8_t> labels;  ///< [steps]
    std::vector<std::size_t> starts;   ///< [sequences + 1], first step of each sequence, then the number of steps

    [[nodiscard]] std::size_t steps() const noexcept { return labels.size(); }
    [[nodiscard]] std::span<const double> row(std::size_t step) const noexcept { return {rows.data() + step * cols, cols}; }
};

/// Precondition: validate_sequences() passed, and `scaling` has as many features.
[[nodiscard]] inline StandardizedData standardize(std::span<const Sequence> sequences, const Scaling& scaling) {
    const std::size_t width = scaling.mean.size();
    StandardizedData data;
    data.cols = width + 1;
    data.starts.push_back(0);
    for (const Sequence& sequence : sequences) {
        for (std::size_t t = 0; t < sequence.steps(); ++t) {
            for (std::size_t i = 0; i < width; ++i)
                data.rows.push_back((static_cast<double>(sequence.features[t * width + i]) - static_cast<double>(scaling.mean[i])) /
                                    static_cast<double>(scaling.scale[i]));
            data.rows.push_back(1.0);
            data.labels.push_back(sequence.labels[t]);
        }
        data.starts.push_back(data.labels.size());
    }
    return data;
}

}  // namespace adainfer::inline v0
