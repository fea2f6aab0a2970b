#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

// Loops over plain arrays, written so that a compiler vectorises them without -ffast-math: reductions keep a fixed
// number of independent partial sums, and exp is a polynomial without branches. What runs under at_level() is always inlined. The
// ends of loops are counted from n % lanes, so that where n is known GCC sees that there are none; else it warns of their overflow.

namespace adainfer::inline v0 {

/// Sum of a[i] * b[i]. The order of the additions depends on n only.
[[nodiscard, gnu::always_inline]] inline float dot(const float* a, const float* b, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float partial[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) partial[j] += a[i + j] * b[i + j];
    }
    float tail = 0.0F;
    for (std::size_t left = n % lanes; left != 0; --left, ++i) tail += a[i] * b[i];
    for (std::size_t width = lanes / 2; width > 0; width /= 2) {
        for (std::size_t j = 0; j < width; ++j) partial[j] += partial[j + width];
    }
    return partial[0] + tail;
}

/// Sum of x[i]. The order of the additions depends on n only.
[[nodiscard, gnu::always_inline]] inline float sum(const float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float partial[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) partial[j] += x[i + j];
    }
    float tail = 0.0F;
    for (std::size_t left = n % lanes; left != 0; --left, ++i) tail += x[i];
    for (const float value : partial) tail += value;
    return tail;
}

/// y[i] = f(i). What f reads may be y[i] itself, and no other element of y: values are computed some at a time before they are
/// stored, which a compiler then vectorises without having to know what else y may overlap.
template <class F>
[[gnu::always_inline]] inline void set_each(float* y, std::size_t n, const F& f) noexcept {
    constexpr std::size_t lanes = 32;
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        float value[lanes];
        for (std::size_t j = 0; j < lanes; ++j) value[j] = f(i + j);
        for (std::size_t j = 0; j < lanes; ++j) y[i + j] = value[j];
    }
    for (std::size_t left = n % lanes; left != 0; --left, ++i) y[i] = f(i);
}

/// y[i] += scale * x[i].
[[gnu::always_inline]] inline void axpy(float scale, const float* x, float* y, std::size_t n) noexcept {
    set_each(y, n, [=](std::size_t i) { return y[i] + scale * x[i]; });
}

/// e^x to about 2 units in the last place; 0 below -87.3, infinity above 88.7, NaN stays NaN. Range reduction to
/// |r| <= ln(2)/2 and a Taylor polynomial of degree 7 there. Selects by masks: of ternaries GCC makes branches where a level has no
/// mask registers, and then vectorises no loop over them.
[[nodiscard, gnu::always_inline]] inline float exp_approx(float x) noexcept {
    constexpr float log2_e = 1.44269504F, ln2_high = 0.693359375F, ln2_low = -2.12194440e-4F;
    constexpr float to_integer = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    const std::uint32_t is_large = 0U - static_cast<std::uint32_t>(x > 88.72283F);
    const std::uint32_t is_outside = is_large | (0U - static_cast<std::uint32_t>(x < -87.33654F));
    const float inside = std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & ~is_outside);
    const float shifted = inside * log2_e + to_integer;
    const float n = shifted - to_integer;
    const float r = (inside - n * ln2_high) - n * ln2_low;
    float p = 1.0F / 5040.0F;
    p = p * r + 1.0F / 720.0F;
    p = p * r + 1.0F / 120.0F;
    p = p * r + 1.0F / 24.0F;
    p = p * r + 1.0F / 6.0F;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    // Two factors, because 2^128 alone has no float. The low nine bits are the exponent, with its sign.
    const std::int32_t exponent = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) << 23U) >> 23;
    const std::int32_t half = exponent >> 1;
    const float scale1 = std::bit_cast<float>(static_cast<std::uint32_t>(half + 127) << 23U);
    const float scale2 = std::bit_cast<float>(static_cast<std::uint32_t>(exponent - half + 127) << 23U);
    const auto value = std::bit_cast<std::uint32_t>(p * scale1 * scale2);
    return std::bit_cast<float>((value & ~is_outside) | (std::bit_cast<std::uint32_t>(HUGE_VALF) & is_large));
}

/// Largest of n values. NaN passes by unseen: callers look at their sums.
[[nodiscard, gnu::always_inline]] inline float max_value(const float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float best[lanes];
    for (float& value : best) value = -HUGE_VALF;
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) best[j] = x[i + j] > best[j] ? x[i + j] : best[j];
    }
    float result = -HUGE_VALF;
    for (std::size_t left = n % lanes; left != 0; --left, ++i) result = x[i] > result ? x[i] : result;
    for (const float value : best) result = value > result ? value : result;
    return result;
}

/// Largest magnitude of n values. NaN passes by unseen.
[[nodiscard, gnu::always_inline]] inline float max_magnitude(const float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float best[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) best[j] = std::fabs(x[i + j]) > best[j] ? std::fabs(x[i + j]) : best[j];
    }
    float result = 0.0F;
    for (std::size_t left = n % lanes; left != 0; --left, ++i) result = std::fabs(x[i]) > result ? std::fabs(x[i]) : result;
    for (const float value : best) result = value > result ? value : result;
    return result;
}

/// Replaces x by softmax(x); returns the largest input. n > 0.
inline float softmax(float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    const float largest = max_value(x, n);
    float partial[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) {
            x[i + j] = exp_approx(x[i + j] - largest);
            partial[j] += x[i + j];
        }
    }
    float sum = 0.0F;
    for (std::size_t left = n % lanes; left != 0; --left, ++i) {
        x[i] = exp_approx(x[i] - largest);
        sum += x[i];
    }
    for (const float value : partial) sum += value;
    const float inverse = 1.0F / sum;
    set_each(x, n, [=](std::size_t k) { return x[k] * inverse; });
    return largest;
}

/// False if any value is NaN or infinite.
[[nodiscard, gnu::always_inline]] inline bool all_finite(const float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float partial[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) partial[j] += x[i + j] * 0.0F;  // 0, or NaN for inf and NaN
    }
    float sum = 0.0F;
    for (std::size_t left = n % lanes; left != 0; --left, ++i) sum += x[i] * 0.0F;
    for (const float value : partial) sum += value;
    return sum == 0.0F;
}

/// Cosine of the angle between a and b, 0 where either is zero.
[[nodiscard]] inline float cosine(const float* a, const float* b, std::size_t n) noexcept {
    const float norms = std::sqrt(dot(a, a, n)) * std::sqrt(dot(b, b, n));
    return norms > 0.0F ? dot(a, b, n) / norms : 0.0F;
}

}  // namespace adainfer::inline v0
