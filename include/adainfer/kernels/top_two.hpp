#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "adainfer/core/error.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/vector_math.hpp"

namespace adainfer::inline v0 {

/// What a check reads from a row of logits.
struct TopTwo {
    std::size_t top = 0;           ///< index of the largest logit, the first one on a tie
    float top_probability = 0;     ///< softmax at `top`
    float second_probability = 0;  ///< the second largest softmax value (0 for a single logit)
    float entropy = 0;             ///< nats; only where it was asked for
};

namespace detail {

inline constexpr std::size_t exp_lanes = 32;

/// sums [exp_lanes] += e^(x - most) of x [n].
[[gnu::always_inline]] inline void add_exponentials(const float* x, std::size_t n, float most, float* sums) noexcept {
    float partial[exp_lanes] = {};
    std::size_t i = 0;
    for (; i + exp_lanes <= n; i += exp_lanes) {
        for (std::size_t j = 0; j < exp_lanes; ++j) partial[j] += exp_approx(x[i + j] - most);
    }
    for (std::size_t left = n % exp_lanes; left != 0; --left, ++i) partial[i % exp_lanes] += exp_approx(x[i] - most);
    for (std::size_t j = 0; j < exp_lanes; ++j) sums[j] += partial[j];
}

}  // namespace detail

/// Largest and second largest softmax probability of `logits` in one pass over memory (a running maximum a block), without a
/// softmax of the whole row, its exponentials as compiled for `level`. Throws NotFinite where a logit is NaN or +infinity,
/// InvalidArgument on an empty row.
[[nodiscard]] inline TopTwo top_two(std::span<const float> logits, bool with_entropy = false, CpuLevel level = CpuLevel::Portable) {
    if (logits.empty()) fail(ErrorCode::InvalidArgument, "top_two: no logits");
    constexpr std::size_t block = 1024, lanes = detail::exp_lanes;
    TopTwo result;
    float first = -HUGE_VALF, second = -HUGE_VALF, weighted = 0.0F, sum = 0.0F;
    for (std::size_t start = 0; start < logits.size(); start += block) {
        const float* x = logits.data() + start;
        const std::size_t n = (std::min)(block, logits.size() - start);
        const float largest = max_value(x, n);
        if (largest > first) {  // everything summed so far was relative to the old maximum
            const float rescale = first == -HUGE_VALF ? 0.0F : std::exp(first - largest);
            if (with_entropy) weighted = first == -HUGE_VALF ? 0.0F : rescale * (weighted + (first - largest) * sum);
            sum *= rescale;
        }
        if (largest > second) {
            for (std::size_t i = 0; i < n; ++i) {
                if (x[i] > first) {
                    second = first;
                    first = x[i];
                    result.top = start + i;
                } else if (x[i] > second) {
                    second = x[i];
                }
            }
        }
        float partial[lanes] = {}, partial_weighted[lanes] = {};
        at_level(level, [&] { detail::add_exponentials(x, n, first, partial); });
        if (with_entropy) {
            for (std::size_t i = 0; i < n; ++i) {
                const float shifted = x[i] - first;
                partial_weighted[i % lanes] += shifted > -80.0F ? shifted * exp_approx(shifted) : 0.0F;
            }
        }
        for (std::size_t j = 0; j < lanes; ++j) {
            sum += partial[j];
            weighted += partial_weighted[j];
        }
    }
    if (!std::isfinite(sum) || !std::isfinite(first)) fail(ErrorCode::NotFinite, "logits hold NaN or infinity");
    result.top_probability = 1.0F / sum;
    result.second_probability = logits.size() > 1 ? std::exp(second - first) / sum : 0.0F;
    result.entropy = with_entropy ? std::log(sum) - weighted / sum : 0.0F;
    return result;
}

/// Index of the largest logit, the first one on a tie: top_two().top without what the probabilities cost. Throws as top_two().
[[nodiscard]] inline std::size_t top_index(std::span<const float> logits) {
    if (logits.empty()) fail(ErrorCode::InvalidArgument, "top_index: no logits");
    constexpr std::size_t block = 1024, lanes = 32;
    float first = -HUGE_VALF;
    std::size_t top = 0;
    std::uint32_t bad[lanes] = {};
    for (std::size_t start = 0; start < logits.size(); start += block) {
        const float* x = logits.data() + start;
        const std::size_t n = (std::min)(block, logits.size() - start);
        std::size_t i = 0;
        for (; i + lanes <= n; i += lanes) {
            for (std::size_t j = 0; j < lanes; ++j) bad[j] |= x[i + j] < HUGE_VALF ? 0U : 1U;  // true for NaN
        }
        for (; i < n; ++i) bad[0] |= x[i] < HUGE_VALF ? 0U : 1U;
        const float largest = max_value(x, n);
        if (!(largest > first)) continue;
        first = largest;
        top = start + static_cast<std::size_t>(std::find(x, x + n, largest) - x);
    }
    const bool all_below = std::all_of(std::begin(bad), std::end(bad), [](std::uint32_t flag) { return flag == 0; });
    if (!all_below || first == -HUGE_VALF) fail(ErrorCode::NotFinite, "logits hold NaN or infinity");
    return top;
}

/// Natural logarithm of the sum of e^logit, stable. Throws NotFinite as top_two does.
[[nodiscard]] inline float log_sum_exp(std::span<const float> logits) {
    const TopTwo top = top_two(logits);
    return logits[top.top] - std::log(top.top_probability);
}

}  // namespace adainfer::inline v0
