#pragma once

#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
#include "adainfer/tensor/dtype.hpp"

// Rows of floats times a row of activations, straight from the file's bytes. Bound: memory.

#if ADAINFER_X86

namespace adainfer::inline v0::detail {

/// out[i] = rows[i] . x for rows of `cols` elements; the order of the additions depends on `cols` only.
struct FloatRowsAvx512 {
    template <DType dtype, std::size_t rows>
    [[ADAINFER_TARGET_AVX512]] static void dots(const std::byte* const* row, std::size_t cols, const float* x, WeightFetch fetch,
                                                float* out) noexcept {
        using avx512::first_lanes, avx512::floats16;
        constexpr std::size_t bytes = info(dtype).block_bytes;
        __m512 sum[rows][4];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = _mm512_setzero_ps();
        std::size_t k = 0;
        for (; k + 64 <= cols; k += 64) {
#pragma GCC unroll 4
            for (std::size_t r = 0; r < rows; ++r) {
                fetch_weights<64 * bytes>(row[r] + k * bytes, fetch);
#pragma GCC unroll 4
                for (std::size_t i = 0; i < 4; ++i) {
                    const __m512 w = floats16<dtype>(row[r], k + 16 * i, 16);
                    sum[r][i] = _mm512_fmadd_ps(w, _mm512_loadu_ps(x + k + 16 * i), sum[r][i]);
                }
            }
        }
        for (; k < cols; k += 16) {
            const std::size_t left = cols - k;
            const __m512 some = _mm512_maskz_loadu_ps(first_lanes(left), x + k);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < rows; ++r) sum[r][0] = _mm512_fmadd_ps(floats16<dtype>(row[r], k, left), some, sum[r][0]);
        }
#pragma GCC unroll 4
        for (std::size_t r = 0; r < rows; ++r) {
            out[r] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[r][0], sum[r][1]), _mm512_add_ps(sum[r][2], sum[r][3])));
        }
    }
};

/// The same.
struct FloatRowsAvx2 {
    template <DType dtype, std::size_t rows>
    [[ADAINFER_TARGET_AVX2]] static void dots(const std::byte* const* row, std::size_t cols, const float* x, WeightFetch fetch,
                                              float* out) noexcept {
        using avx2::floats8;
        constexpr std::size_t bytes = info(dtype).block_bytes;
        __m256 sum[rows][2];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
        std::size_t k = 0;
        for (; k + 32 <= cols; k += 32) {
#pragma GCC unroll 4
            for (std::size_t r = 0; r < rows; ++r) fetch_weights<32 * bytes>(row[r] + k * bytes, fetch);
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) {
                const __m256 some = _mm256_loadu_ps(x + k + 8 * i);
#pragma GCC unroll 4
                for (std::size_t r = 0; r < rows; ++r) {
                    sum[r][i % 2] = _mm256_fmadd_ps(floats8<dtype>(row[r] + (k + 8 * i) * bytes), some, sum[r][i % 2]);
                }
            }
        }
        for (; k < cols; k += 8) {
            const std::size_t left = cols - k;
            const __m256 some = floats8<DType::F32>(reinterpret_cast<const std::byte*>(x + k), left);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < rows; ++r) {
                sum[r][0] = _mm256_fmadd_ps(floats8<dtype>(row[r] + k * bytes, left), some, sum[r][0]);
            }
        }
#pragma GCC unroll 4
        for (std::size_t r = 0; r < rows; ++r) out[r] = avx2::sum_of(_mm256_add_ps(sum[r][0], sum[r][1]));
    }
};

/// The same of `count` rows, at most most_float_rows, of a type of floats. Kernel: one of the two.
template <class Kernel>
void float_row_dots(DType dtype, std::size_t count, const std::byte* const* row, std::size_t cols, const float* x,
                    WeightFetch fetch, float* out) noexcept {
    const auto dots = [&]<DType type>() {
        if (count == most_float_rows) return Kernel::template dots<type, most_float_rows>(row, cols, x, fetch, out);
        for (std::size_t r = 0; r < count; ++r) Kernel::template dots<type, 1>(row + r, cols, x, fetch, out + r);
    };
    if (dtype == DType::F32) dots.template operator()<DType::F32>();
    else if (dtype == DType::F16) dots.template operator()<DType::F16>();
    else dots.template operator()<DType::BF16>();
}

}  // namespace adainfer::inline v0::detail

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
        const float32x4_t some = floats4<DType::F32>(reinterpret_cast<const std::byte*>(x + k), cols - k);
        sum[0] = vfmaq_f32(sum[0], floats4<dtype>(row + k * bytes, cols - k), some);
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
