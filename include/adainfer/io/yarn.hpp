#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include "adainfer/model/config.hpp"

namespace adainfer::inline v0::detail {

/// YaRN (Peng et al., arXiv 2309.00071): pairs that turn often within the original context keep their wavelength, those that
/// never complete a turn are stretched by `factor`, and between them lies a ramp.
struct Yarn {
    double factor = 1;
    double original = 0;                    ///< positions the model was trained for
    double beta_fast = 32, beta_slow = 1;   ///< turns within them where the ramp begins and ends
    bool truncate = true;                   ///< the ramp begins and ends at whole pairs
};

/// Factors on the wavelengths [rope.dims / 2] (section 3.2).
[[nodiscard]] inline std::vector<float> yarn_factors(const Yarn& yarn, const RopeConfig& rope) {
    const auto dims = static_cast<double>(rope.dims);
    const auto pair_that_turns = [&](double times) {
        return dims * std::log(yarn.original / (times * 2 * std::numbers::pi)) / (2 * std::log(rope.base));
    };
    double low = pair_that_turns(yarn.beta_fast), high = pair_that_turns(yarn.beta_slow);
    if (yarn.truncate) {
        low = std::floor(low);
        high = std::ceil(high);
    }
    low = (std::max)(low, 0.0);
    high = (std::min)(high, dims - 1);
    if (low == high) high += 0.001;
    std::vector<float> factors;
    for (std::size_t i = 0; i < rope.dims / 2; ++i) {
        const double stretched = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        factors.push_back(static_cast<float>(1 / (stretched / yarn.factor + 1 - stretched)));
    }
    return factors;
}

/// What cosines and sines are multiplied with, and so the logits of attention with its square (section 3.4).
[[nodiscard]] inline double yarn_amplitude(double factor, double slope = 1) {
    return factor <= 1 ? 1.0 : 0.1 * slope * std::log(factor) + 1;
}

/// The context that a model is stretched to, where it is more than its configuration says.
[[nodiscard]] inline std::size_t yarn_context(const Yarn& yarn, std::size_t context) noexcept {
    const double stretched = yarn.factor * yarn.original;
    return stretched > static_cast<double>(context) && stretched < 1e9 ? static_cast<std::size_t>(stretched) : context;
}

}  // namespace adainfer::inline v0::detail
