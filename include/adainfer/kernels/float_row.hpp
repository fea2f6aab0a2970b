#pragma once

#include <cstddef>
#include <cstring>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/tensor/dtype.hpp"

// Rows of floats times a row of activations, straight from the file's bytes. Bound: memory.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// Bytes ahead of the reading to ask for, where the next row follows: what measured best of 1024 to 8192.
inline constexpr std::size_t float_row_prefetch = 8192;

/// row . x for a row of `cols` elements; the order of the additions depends on `cols` only. `ahead`: float_row_prefetch, or 0
/// for rows that are not read one after the other.
template <DType dtype>
[[ADAINFER_TARGET_AVX512]] inline float float_row_dot(const std::byte* row, std::size_t cols, const float* x,
                                                      std::size_t ahead) noexcept {
    constexpr std::size_t bytes = info(dtype).block_bytes;
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    std::size_t k = 0;
    for (; k + 64 <= cols; k += 64) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 64 * bytes; i += 64) _mm_prefetch(row + k * bytes + ahead + i, _MM_HINT_T0);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            sum[i] = _mm512_fmadd_ps(floats16<dtype>(row, k + 16 * i, 16), _mm512_loadu_ps(x + k + 16 * i), sum[i]);
        }
    }
    for (; k < cols; k += 16) {
        const std::size_t left = cols - k;
        const __mmask16 mask = first_lanes(left);
        sum[0] = _mm512_fmadd_ps(floats16<dtype>(row, k, left), _mm512_maskz_loadu_ps(mask, x + k), sum[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

using FloatRowDot = float (*)(const std::byte* row, std::size_t cols, const float* x, std::size_t ahead) noexcept;

/// float_row_dot() of a dtype of floats, else null.
[[nodiscard]] inline FloatRowDot float_row_dot_of(DType dtype) noexcept {
    if (dtype == DType::F32) return float_row_dot<DType::F32>;
    if (dtype == DType::F16) return float_row_dot<DType::F16>;
    if (dtype == DType::BF16) return float_row_dot<DType::BF16>;
    return nullptr;
}

}  // namespace adainfer::inline v0::detail::avx512

#endif

#if ADAINFER_ARM64

namespace adainfer::inline v0::detail::neon {

/// row . x for a row of `cols` elements; the order of the additions depends on `cols` only.
template <DType dtype>
inline float float_row_dot(const std::byte* row, std::size_t cols, const float* x) noexcept {
    constexpr std::size_t bytes = info(dtype).block_bytes;
    float32x4_t sum[4] = {vdupq_n_f32(0.0F), vdupq_n_f32(0.0F), vdupq_n_f32(0.0F), vdupq_n_f32(0.0F)};
    std::size_t k = 0;
    for (; k + 16 <= cols; k += 16) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            const std::size_t at = k + 4 * i;
            sum[i] = vfmaq_f32(sum[i], floats4<dtype>(row + at * bytes), vld1q_f32(x + at));
        }
    }
    for (; k < cols; k += 4) {
        const std::size_t left = cols - k < 4 ? cols - k : 4;
        std::byte some[4 * bytes] = {};
        float factors[4] = {};
        std::memcpy(some, row + k * bytes, left * bytes);
        std::memcpy(factors, x + k, left * sizeof(float));
        sum[0] = vfmaq_f32(sum[0], floats4<dtype>(some), vld1q_f32(factors));
    }
    return vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
}

using FloatRowDot = float (*)(const std::byte* row, std::size_t cols, const float* x) noexcept;

/// float_row_dot() of a dtype of floats, else null.
[[nodiscard]] inline FloatRowDot float_row_dot_of(DType dtype) noexcept {
    if (dtype == DType::F32) return float_row_dot<DType::F32>;
    if (dtype == DType::F16) return float_row_dot<DType::F16>;
    if (dtype == DType::BF16) return float_row_dot<DType::BF16>;
    return nullptr;
}

}  // namespace adainfer::inline v0::detail::neon

#endif
