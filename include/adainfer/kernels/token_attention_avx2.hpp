#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_weight_avx2.hpp"
#include "adainfer/kernels/token_attention.hpp"

// What token_attention.hpp does with vectors of sixteen, with vectors of eight.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx2 {

#define ADAINFER_INLINE2 ADAINFER_TARGET_AVX2, gnu::always_inline

/// The first `left` of 8 lanes, all of them where there are more.
[[ADAINFER_INLINE2]] inline __m256i first_lanes(std::size_t left) noexcept {
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>((std::min)(left, std::size_t{8}))), lane);
}

/// With vectors of 8.
struct TokenKernels {
    static constexpr CpuLevel level = CpuLevel::Avx2;

    /// scores [group][token_span] of the keys. Bound: for 8 keys d multiply-adds of 8 and 9 / 8 as many loads, then
    /// 24 shuffles.
    [[ADAINFER_TARGET_AVX2]] static void scores(const TokenHeads& heads, const StoredRows& keys, float* scratch,
                                                float* scores) noexcept {
        const float* const k = keys.floats(level, scratch);
        const std::size_t count = keys.count, d = keys.d;
        const __m256i tail = first_lanes(d % 8);
        for (std::size_t first = 0; first < count; first += 8) {
            const float* rows[8];
            for (std::size_t i = 0; i < 8; ++i) rows[i] = k + (std::min)(first + i, count - 1) * d;
            for (std::size_t h = 0; h < heads.group; ++h) {
                const float* const q = heads.q + h * d;
                __m256 sum[8];
#pragma GCC unroll 8
                for (std::size_t i = 0; i < 8; ++i) sum[i] = _mm256_setzero_ps();
                std::size_t j = 0;
                for (; j + 8 <= d; j += 8) {
                    const __m256 some = _mm256_loadu_ps(q + j);
#pragma GCC unroll 8
                    for (std::size_t i = 0; i < 8; ++i) sum[i] = _mm256_fmadd_ps(_mm256_loadu_ps(rows[i] + j), some, sum[i]);
                }
                if (j < d) {
                    const __m256 some = _mm256_maskload_ps(q + j, tail);
#pragma GCC unroll 8
                    for (std::size_t i = 0; i < 8; ++i) {
                        sum[i] = _mm256_fmadd_ps(_mm256_maskload_ps(rows[i] + j, tail), some, sum[i]);
                    }
                }
                __m256i turned[8];
#pragma GCC unroll 8
                for (std::size_t i = 0; i < 8; ++i) turned[i] = _mm256_castps_si256(sum[i]);
                transpose(turned);
                __m256 total = _mm256_castsi256_ps(turned[0]);
#pragma GCC unroll 7
                for (std::size_t i = 1; i < 8; ++i) total = _mm256_add_ps(total, _mm256_castsi256_ps(turned[i]));
                _mm256_storeu_ps(scores + h * token_span + first, _mm256_mul_ps(total, _mm256_set1_ps(heads.scale)));
            }
        }
    }

    /// weighted [group, d] = weights [group][token_span] times the values. Bound: a load for every multiply-add of 8 where one head
    /// looks at the values, four heads share one.
    static void values(std::size_t group, const float* weights, const StoredRows& values, float* scratch, float* weighted) noexcept {
        const float* const v = values.floats(level, scratch);
        for_heads(group, [&]<std::size_t some>(std::size_t h) {
            some_values<some>(weights + h * token_span, v, values.count, values.d, weighted + h * values.d);
        });
    }

  private:
    /// The same of `some` heads and values [count, d].
    template <std::size_t some>
    [[ADAINFER_TARGET_AVX2]] static void some_values(const float* weights, const float* v, std::size_t count, std::size_t d,
                                                     float* weighted) noexcept {
        for (std::size_t j = 0; j < d; j += 16) {
            const __m256i mask[2] = {first_lanes(d - j), first_lanes(d - (std::min)(d, j + 8))};
            __m256 sum[some][2];
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) sum[h][0] = sum[h][1] = _mm256_setzero_ps();
            for (std::size_t i = 0; i < count; ++i) {
                if (j == 0) {  // the rows to come, whole: only their beginnings are foreseen
                    const char* const ahead = reinterpret_cast<const char*>(v + (i + 16) * d);
                    for (std::size_t c = 0; c < 4 * d; c += 64) _mm_prefetch(ahead + c, _MM_HINT_T0);
                }
                const __m256 v0 = _mm256_maskload_ps(v + i * d + j, mask[0]), v1 = _mm256_maskload_ps(v + i * d + j + 8, mask[1]);
#pragma GCC unroll 4
                for (std::size_t h = 0; h < some; ++h) {
                    const __m256 weight = _mm256_set1_ps(weights[h * token_span + i]);
                    sum[h][0] = _mm256_fmadd_ps(weight, v0, sum[h][0]);
                    sum[h][1] = _mm256_fmadd_ps(weight, v1, sum[h][1]);
                }
            }
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
                _mm256_maskstore_ps(weighted + h * d + j, mask[0], sum[h][0]);
                _mm256_maskstore_ps(weighted + h * d + j + 8, mask[1], sum[h][1]);
            }
        }
    }
};

#undef ADAINFER_INLINE2

}  // namespace adainfer::inline v0::detail::avx2

#endif
