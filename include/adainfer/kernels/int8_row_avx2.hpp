#pragma once

#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx2 {

/// Codes, scales and minima of one row: scratch of row_dot().
struct UnpackedRow {
    std::uint8_t* codes;  ///< [cols]
    float* scales;        ///< [cols / group]
    float* minima;        ///< [cols / group]
};

/// row . x as avx512::row_dot(), by way of unpacked codes: 32 products in seven instructions. Bound: unpacking.
[[ADAINFER_TARGET_AVX2, gnu::flatten]] inline float row_dot(DType dtype, const std::byte* row, std::size_t cols,
                                                            const ActivationRow& x, const UnpackedRow& scratch) noexcept {
    const CodeFormat format = code_format(dtype);
    unpack_codes(dtype, row, cols, scratch.codes, scratch.scales, scratch.minima);
    const __m256i bias = _mm256_set1_epi8(static_cast<char>(format.bias)), ones = _mm256_set1_epi16(1);
    const __m256 fine = _mm256_set1_ps(1.0F / rest_steps);
    __m256 total = _mm256_setzero_ps();
    float less = 0.0F;
    for (std::size_t b = 0; b < cols / activation_block; ++b) {
        const __m256i unsigned_codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scratch.codes + 32 * b));
        const __m256i w = _mm256_sub_epi8(unsigned_codes, bias);
        const __m256i size = _mm256_abs_epi8(w);
        const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.codes() + 32 * b));
        const __m256i rests = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.rests() + 32 * b));
        // At most 2 * 128 * 127, which 16 bits hold.
        const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(codes, w));
        const __m256i rest_pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(rests, w));
        const __m256 rest = _mm256_cvtepi32_ps(_mm256_madd_epi16(rest_pairs, ones));
        const __m256 product = _mm256_fmadd_ps(rest, fine, _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones)));
        const float x_scale = x.scales()[b];
        if (format.group == 32) {
            total = _mm256_fmadd_ps(product, _mm256_set1_ps(scratch.scales[b] * x_scale), total);
        } else {
            const __m128 low = _mm_set1_ps(scratch.scales[2 * b] * x_scale), high = _mm_set1_ps(scratch.scales[2 * b + 1] * x_scale);
            total = _mm256_fmadd_ps(product, _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1), total);
        }
        if (format.has_minimum) less += scratch.minima[b] * x.sums()[b];
    }
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps(total, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two))) + less;
}

}  // namespace adainfer::inline v0::detail::avx2

#endif
