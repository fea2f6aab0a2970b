#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/token_attention.hpp"

// What token_attention.hpp does with vectors of sixteen, with vectors of four.

#if ADAINFER_ARM64

namespace adainfer::inline v0::detail::neon {

/// With vectors of 4.
struct TokenKernels {
    static constexpr CpuLevel level = CpuLevel::Neon;

    /// scores [group][token_span] of the keys. Bound: for 4 keys d multiply-adds of 4 and 5 / 4 as many loads.
    static void scores(const TokenHeads& heads, const StoredRows& keys, float* scratch, float* scores) noexcept {
        const float* const k = keys.floats(level, scratch);
        const std::size_t count = keys.count, d = keys.d;
        for (std::size_t first = 0; first < count; first += 4) {
            const float* rows[4];
            for (std::size_t i = 0; i < 4; ++i) rows[i] = k + (std::min)(first + i, count - 1) * d;  // past the end: the last again
            for (std::size_t h = 0; h < heads.group; ++h) {
                const float* const q = heads.q + h * d;
                float32x4_t sum[4];
#pragma GCC unroll 4
                for (std::size_t i = 0; i < 4; ++i) sum[i] = vdupq_n_f32(0.0F);
                std::size_t j = 0;
                for (; j + 4 <= d; j += 4) {
                    const float32x4_t some = vld1q_f32(q + j);
#pragma GCC unroll 4
                    for (std::size_t i = 0; i < 4; ++i) sum[i] = vfmaq_f32(sum[i], vld1q_f32(rows[i] + j), some);
                }
                float32x4_t total = vpaddq_f32(vpaddq_f32(sum[0], sum[1]), vpaddq_f32(sum[2], sum[3]));
                for (; j < d; ++j) {
                    const float last[4] = {rows[0][j], rows[1][j], rows[2][j], rows[3][j]};
                    total = vfmaq_n_f32(total, vld1q_f32(last), q[j]);
                }
                vst1q_f32(scores + h * token_span + first, vmulq_n_f32(total, heads.scale));
            }
        }
    }

    /// weighted [group, d] = weights [group][token_span] times the values. Bound: a load for every multiply-add of 4 where one head
    /// looks at the values, four heads share one.
    static void values(std::size_t group, const float* weights, const StoredRows& values, float* scratch,
                       float* weighted) noexcept {
        const float* const v = values.floats(level, scratch);
        for_heads<4>(group, [&]<std::size_t some>(std::size_t h) {
            values_of<some>(weights + h * token_span, v, values.count, values.d, weighted + h * values.d);
        });
    }

  private:
    /// The same of `some` heads and values [count, d].
    template <std::size_t some>
    static void values_of(const float* weights, const float* v, std::size_t count, std::size_t d, float* weighted) noexcept {
        std::size_t j = 0;
        for (; j + 16 <= d; j += 16) some_values<some, 4>(weights, v + j, count, d, weighted + j);
        for (; j + 4 <= d; j += 4) some_values<some, 1>(weights, v + j, count, d, weighted + j);
        for (; j < d; ++j) {
            for (std::size_t h = 0; h < some; ++h) {
                float sum = 0.0F;
                for (std::size_t i = 0; i < count; ++i) sum += weights[h * token_span + i] * v[i * d + j];
                weighted[h * d + j] = sum;
            }
        }
    }

    /// The same of 4 * vectors elements of a row.
    template <std::size_t some, std::size_t vectors>
    static void some_values(const float* weights, const float* v, std::size_t count, std::size_t d, float* weighted) noexcept {
        float32x4_t sum[some][vectors];
#pragma GCC unroll 4
        for (std::size_t h = 0; h < some; ++h) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < vectors; ++c) sum[h][c] = vdupq_n_f32(0.0F);
        }
        for (std::size_t i = 0; i < count; ++i) {
            float32x4_t value[vectors];
#pragma GCC unroll 4
            for (std::size_t c = 0; c < vectors; ++c) value[c] = vld1q_f32(v + i * d + 4 * c);
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
                const float weight = weights[h * token_span + i];
#pragma GCC unroll 4
                for (std::size_t c = 0; c < vectors; ++c) sum[h][c] = vfmaq_n_f32(sum[h][c], value[c], weight);
            }
        }
#pragma GCC unroll 4
        for (std::size_t h = 0; h < some; ++h) {
#pragma GCC unroll 4
            for (std::size_t c = 0; c < vectors; ++c) vst1q_f32(weighted + h * d + 4 * c, sum[h][c]);
        }
    }
};

}  // namespace adainfer::inline v0::detail::neon

#endif
