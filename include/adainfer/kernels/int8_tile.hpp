#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// 32 integers as bytes, and the sums of four of them each.
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void store_bytes(__m512i a, __m512i b, std::int8_t* bytes,
                                                                       std::int32_t* sums) noexcept {
    const __m256i all = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm512_cvtepi32_epi8(a)), _mm512_cvtepi32_epi8(b), 1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), all);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), all));
}

/// quantize_block(), 32 values at once.
[[ADAINFER_TARGET_AVX512]] inline void quantize(const float* x, ActivationBlock& block) noexcept {
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    const __m512 zero = _mm512_setzero_ps();
    const __m512 poison = _mm512_fmadd_ps(a, zero, _mm512_mul_ps(b, zero));  // 0, or NaN
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    const bool bad = _mm512_cmp_ps_mask(poison, zero, _CMP_NEQ_UQ) != 0;
    if (bad || largest < smallest_activation) {
        block = {};
        if (bad) block.scale = std::numeric_limits<float>::quiet_NaN();
        return;
    }
    const __m512 inverse = _mm512_set1_ps(127.0F / largest), steps = _mm512_set1_ps(rest_steps);
    const __m512 scaled_a = _mm512_mul_ps(a, inverse), scaled_b = _mm512_mul_ps(b, inverse);
    const __m512i code_a = _mm512_cvtps_epi32(scaled_a), code_b = _mm512_cvtps_epi32(scaled_b);
    const __m512 rest_a = _mm512_mul_ps(_mm512_sub_ps(scaled_a, _mm512_cvtepi32_ps(code_a)), steps);
    const __m512 rest_b = _mm512_mul_ps(_mm512_sub_ps(scaled_b, _mm512_cvtepi32_ps(code_b)), steps);
    store_bytes(code_a, code_b, block.codes, block.sums);
    store_bytes(_mm512_cvtps_epi32(rest_a), _mm512_cvtps_epi32(rest_b), block.rests, block.rest_sums);
    block.scale = largest / 127.0F;
}

/// out[r][lane] for `rows` weight rows (6) and `panels` panels (1 or 2) of 16 tokens:
/// sum over groups of scale * (dot of the codes) * activation scale + minimum * activation sum.
/// Bound: integer products, 64 an instruction; a block of 32 columns costs 8 of them and 3 or 4 instructions to scale.
template <std::size_t panels, std::size_t group, bool has_minimum>
[[ADAINFER_TARGET_AVX512]] inline void tile(const std::uint8_t* codes, const float* scales, const float* minima, std::size_t cols,
                                            const std::int8_t* const* x, const float* const* x_scales, const float* const* x_sums,
                                            const std::int32_t* const* offsets, float* out, std::size_t out_stride) noexcept {
    constexpr std::size_t rows = 6, lanes = 16;
    const std::size_t groups = cols / group;
    __m512 total[rows][panels];
#pragma GCC unroll 6
    for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (std::size_t p = 0; p < panels; ++p) total[r][p] = _mm512_setzero_ps();
    }
    for (std::size_t g = 0; g < groups; ++g) {
        __m512i product[rows][panels];
#pragma GCC unroll 2
        for (std::size_t p = 0; p < panels; ++p) {
            const __m512i offset = _mm512_loadu_si512(offsets[p] + g * lanes);
#pragma GCC unroll 6
            for (std::size_t r = 0; r < rows; ++r) product[r][p] = offset;
        }
        for (std::size_t k = 0; k < group; k += 4) {
            __m512i activation[panels];
#pragma GCC unroll 2
            for (std::size_t p = 0; p < panels; ++p) activation[p] = _mm512_loadu_si512(x[p] + (g * group + k) * lanes);
#pragma GCC unroll 6
            for (std::size_t r = 0; r < rows; ++r) {
                std::int32_t four;
                std::memcpy(&four, codes + r * cols + g * group + k, 4);
                const __m512i weight = _mm512_set1_epi32(four);
#pragma GCC unroll 2
                for (std::size_t p = 0; p < panels; ++p) product[r][p] = _mm512_dpbusd_epi32(product[r][p], weight, activation[p]);
            }
        }
#pragma GCC unroll 2
        for (std::size_t p = 0; p < panels; ++p) {
            const __m512 x_scale = _mm512_loadu_ps(x_scales[p] + g * group / activation_block * lanes);
            const __m512 x_sum = has_minimum ? _mm512_loadu_ps(x_sums[p] + g * group / activation_block * lanes) : x_scale;
#pragma GCC unroll 6
            for (std::size_t r = 0; r < rows; ++r) {
                const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(product[r][p]), x_scale);
                total[r][p] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(scales[r * groups + g]), total[r][p]);
                if constexpr (has_minimum) total[r][p] = _mm512_fmadd_ps(x_sum, _mm512_set1_ps(minima[r * groups + g]), total[r][p]);
            }
        }
    }
#pragma GCC unroll 6
    for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (std::size_t p = 0; p < panels; ++p) _mm512_storeu_ps(out + r * out_stride + p * lanes, total[r][p]);
    }
}

/// Some weight rows as unpack_codes() leaves them.
struct CodeRows {
    const std::uint8_t* codes;  ///< [6][cols]
    const float* scales;        ///< [6][cols / group]
    const float* minima;        ///< [6][cols / group]
    std::size_t cols;
};

/// tile() of the panels `first` and, where panels is 2, first + 1; out [6][panels * 16].
inline void int8_tile(const CodeFormat& format, const CodeRows& w, const ActivationCodes& x, std::size_t first, std::size_t panels,
                      float* out) noexcept {
    const std::size_t second = first + panels - 1;
    const std::int8_t* const codes[] = {x.codes(first), x.codes(second)};
    const float* const scales[] = {x.scales(first), x.scales(second)};
    const float* const sums[] = {x.sums(first), x.sums(second)};
    const std::int32_t* const offsets[] = {x.offsets(first, format.group), x.offsets(second, format.group)};
    const auto run = [&](auto kernel) { kernel(w.codes, w.scales, w.minima, w.cols, codes, scales, sums, offsets, out, panels * 16); };
    if (format.group == 16) return run(panels == 2 ? tile<2, 16, false> : tile<1, 16, false>);
    if (format.has_minimum) return run(panels == 2 ? tile<2, 32, true> : tile<1, 32, true>);
    run(panels == 2 ? tile<2, 32, false> : tile<1, 32, false>);
}

}  // namespace adainfer::inline v0::detail::avx512

#endif
