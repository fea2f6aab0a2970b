#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "adainfer/model/config.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// Angle a position for each rotated pair, radians [dims / 2] (Su et al., arXiv 2104.09864, section 3.2.2).
[[nodiscard]] inline std::vector<double> rope_frequencies(const RopeConfig& rope) {
    std::vector<double> frequencies(rope.dims / 2);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rope.dims);
        const double factor = rope.frequency_factors.empty() ? 1.0 : static_cast<double>(rope.frequency_factors[i]);
        frequencies[i] = std::pow(rope.base, exponent) / factor / rope.linear_factor;
    }
    return frequencies;
}

/// Cosines and sines, times `amplitude`, of the positions first, first + 1, ...; both [tokens, dims / 2].
inline void rope_angles(const std::vector<double>& frequencies, double amplitude, std::size_t first, MatrixView<float> cos,
                        MatrixView<float> sin) {
    for (std::size_t t = 0; t < cos.rows(); ++t) {
        for (std::size_t i = 0; i < frequencies.size(); ++i) {
            const double angle = static_cast<double>(first + t) * frequencies[i];
            cos.row(t)[i] = static_cast<float>(amplitude * std::cos(angle));
            sin.row(t)[i] = static_cast<float>(amplitude * std::sin(angle));
        }
    }
}

}  // namespace adainfer::inline v0
