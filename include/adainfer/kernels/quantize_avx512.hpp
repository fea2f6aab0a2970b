#pragma once

#include <cstdint>
#include <limits>

#include "adainfer/kernels/activation_codes.hpp"
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

}  // namespace adainfer::inline v0::detail::avx512

#endif
