#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/lane_weight_avx2.hpp"
#include "adainfer/kernels/token_attention.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
#include "adainfer/tensor/kv_type.hpp"

// What token_attention.hpp does with vectors of sixteen, with vectors of eight.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx2 {

#define ADAINFER_INLINE2 ADAINFER_TARGET_AVX2, gnu::always_inline

/// The first `left` of 8 lanes, all of them where there are more.
[[ADAINFER_INLINE2]] inline __m256i first_lanes(std::size_t left) noexcept {
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>((std::min)(left, std::size_t{8}))), lane);
}

/// Elements [at, at + 8) of a stored row as floats; past `left` they are zero.
template <KvType type>
[[ADAINFER_INLINE2]] inline __m256 stored8(const std::byte* row, std::size_t at, std::size_t left) noexcept {
    if constexpr (type == KvType::Q8_0) {
        const std::byte* const block = row + row_bytes(type, at / 32 * 32);
        const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(block + 2 + at % 32));
        return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), _mm256_set1_ps(half_at(block)));
    } else {
        return floats8<dtype_of(type)>(row + row_bytes(type, at), left);
    }
}

/// With vectors of 8, straight from the stored rows.
struct TokenKernels {
    static constexpr CpuLevel level = CpuLevel::Avx2;
    static constexpr std::size_t score_heads = 2, value_heads = 4;

    /// Bound: memory, or for 8 scores d / 8 times 8 multiply-adds with 6 or 9 loads, and 24 shuffles.
    template <KvType type, std::size_t some>
    [[ADAINFER_TARGET_AVX2]] static void scores(const TokenHeads& heads, const StoredRows& keys, float* scores) noexcept {
        constexpr std::size_t together = 8 / some;
        const WeightFetch fetch = kv_row_fetch(keys.stride);
        for (std::size_t first = 0; first < keys.count; first += together) {
            const std::byte* rows[together];
            take_rows(keys, first, fetch, rows);
            __m256 sum[8];  // [some][together]
#pragma GCC unroll 8
            for (std::size_t i = 0; i < 8; ++i) sum[i] = _mm256_setzero_ps();
            for (std::size_t j = 0; j < keys.d; j += 8) {
                const std::size_t left = keys.d - j;
                __m256 q[some];
#pragma GCC unroll 2
                for (std::size_t h = 0; h < some; ++h) {
                    q[h] = stored8<KvType::F32>(reinterpret_cast<const std::byte*>(heads.q + h * keys.d), j, left);
                }
#pragma GCC unroll 8
                for (std::size_t i = 0; i < together; ++i) {
                    const __m256 key = stored8<type>(rows[i], j, left);
#pragma GCC unroll 2
                    for (std::size_t h = 0; h < some; ++h) {
                        sum[h * together + i] = _mm256_fmadd_ps(key, q[h], sum[h * together + i]);
                    }
                }
            }
            __m256i turned[8];
#pragma GCC unroll 8
            for (std::size_t i = 0; i < 8; ++i) turned[i] = _mm256_castps_si256(sum[i]);
            transpose(turned);
            __m256 total = _mm256_castsi256_ps(turned[0]);
#pragma GCC unroll 7
            for (std::size_t i = 1; i < 8; ++i) total = _mm256_add_ps(total, _mm256_castsi256_ps(turned[i]));
            float totals[8];
            _mm256_storeu_ps(totals, _mm256_mul_ps(total, _mm256_set1_ps(heads.scale)));
            spread_scores<some, together>(totals, first, scores);
        }
    }

    /// Bound: memory, or a load for every multiply-add of 8 where one head looks at the values, four heads share one.
    template <KvType type, std::size_t some>
    [[ADAINFER_TARGET_AVX2]] static void values(const float* weights, const StoredRows& values, float* weighted) noexcept {
        const std::size_t d = values.d;
        const WeightFetch fetch = kv_row_fetch(values.stride);
        for (std::size_t j = 0; j < d; j += 16) {
            const std::size_t left[2] = {d - j, d - (std::min)(d, j + 8)};
            __m256 sum[some][2];
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) sum[h][0] = sum[h][1] = _mm256_setzero_ps();
            for (std::size_t i = 0; i < values.count; ++i) {
                const std::byte* const row = values.row(i);
                if (j == 0) fetch_weights(row, values.stride, fetch);
                const __m256 v0 = stored8<type>(row, j, left[0]);
                const __m256 v1 = left[1] != 0 ? stored8<type>(row, j + 8, left[1]) : _mm256_setzero_ps();
#pragma GCC unroll 4
                for (std::size_t h = 0; h < some; ++h) {
                    const __m256 weight = _mm256_set1_ps(weights[h * token_span + i]);
                    sum[h][0] = _mm256_fmadd_ps(weight, v0, sum[h][0]);
                    sum[h][1] = _mm256_fmadd_ps(weight, v1, sum[h][1]);
                }
            }
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
                _mm256_maskstore_ps(weighted + h * d + j, first_lanes(left[0]), sum[h][0]);
                _mm256_maskstore_ps(weighted + h * d + j + 8, first_lanes(left[1]), sum[h][1]);
            }
        }
    }
};

#undef ADAINFER_INLINE2

}  // namespace adainfer::inline v0::detail::avx2

#endif
