#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/kv_rows.hpp"
#include "adainfer/kernels/lane_attention.hpp"
#include "adainfer/kernels/turned_rows.hpp"
#include "adainfer/kernels/vector_math.hpp"

// Attention of one token: too few heads share a row of keys to fill the lanes of lane_attention(), so here the lanes are the
// elements of the row.

namespace adainfer::inline v0::detail {

/// Positions that are looked at together. It does not depend on the number of threads, so neither does the sum over the spans.
inline constexpr std::size_t token_span = 128;

/// The heads of one token that share a K/V head.
struct TokenHeads {
    const float* q = nullptr;  ///< [group, head_dim]
    std::size_t group = 1;
    float scale = 1;
};

/// What a span contributes: softmax sums relative to the largest score of the span.
struct SpanResult {
    float* largest = nullptr;  ///< [group]
    float* sum = nullptr;      ///< [group]
    float* weighted = nullptr; ///< [group, head_dim]: sum of weight * value
};

/// Floats of scratch that span_attention() needs.
[[nodiscard]] constexpr std::size_t span_scratch(std::size_t group, KvType type, std::size_t head_dim) noexcept {
    return group * token_span + (type == KvType::F32 ? 0 : token_span * head_dim);
}

/// One span of positions, [begin, begin + count), count at most token_span.
template <class Kernels>
void span_attention(const TokenHeads& heads, const KvHead& kv, std::size_t begin, std::size_t count, float* scratch,
                    const SpanResult& result) noexcept {
    const std::size_t d = kv.head_dim, stride = row_bytes(kv.type, d);
    float* const scores = scratch;                            // [group][token_span]
    float* const floats = scratch + heads.group * token_span; // [token_span, head_dim]
    const auto rows = [&](const std::byte* plane) {
        if (kv.type == KvType::F32) return reinterpret_cast<const float*>(plane + begin * stride);
        unpack_kv(kv.type, Kernels::level, plane + begin * stride, count * d, floats);
        return static_cast<const float*>(floats);
    };
    Kernels::scores(heads, rows(kv.k), count, d, scores);
    at_level<Kernels::level>([&] {
        for (std::size_t h = 0; h < heads.group; ++h) {
            float* const row = scores + h * token_span;
            const float largest = max_value(row, count);
            result.largest[h] = largest;
            set_each(row, count, [=](std::size_t i) { return exp_approx(row[i] - largest); });
            result.sum[h] = sum(row, count);
        }
    });
    const float* const values = rows(kv.v);
    for (std::size_t h = 0; h < heads.group; h += 4) {
        const float* const weights = scores + h * token_span;
        float* const out = result.weighted + h * d;
        switch (heads.group - h) {
            case 1: Kernels::template values<1>(weights, values, count, d, out); break;
            case 2: Kernels::template values<2>(weights, values, count, d, out); break;
            case 3: Kernels::template values<3>(weights, values, count, d, out); break;
            default: Kernels::template values<4>(weights, values, count, d, out); break;
        }
    }
}

/// Floats of a SpanResult.
[[nodiscard]] constexpr std::size_t span_result_floats(std::size_t group, std::size_t head_dim) noexcept {
    return group * (head_dim + 2);
}

[[nodiscard]] inline SpanResult span_result(float* floats, std::size_t group) noexcept {
    return {floats, floats + group, floats + 2 * group};
}

/// out [group, head_dim] = the softmax over all spans together (Milakov and Gimelshein, arXiv 1805.02867, section 3).
/// `results`: [spans] of span_result_floats() each.
[[gnu::always_inline]] inline void join_spans(float* results, std::size_t spans, std::size_t group, std::size_t d,
                                              float* out) noexcept {
    const std::size_t stride = span_result_floats(group, d);
    for (std::size_t h = 0; h < group; ++h) {
        float largest = -HUGE_VALF, sum = 0.0F;
        for (std::size_t s = 0; s < spans; ++s) {
            const float candidate = span_result(results + s * stride, group).largest[h];
            largest = candidate > largest ? candidate : largest;
        }
        float* const row = out + h * d;
        std::fill_n(row, d, 0.0F);
        for (std::size_t s = 0; s < spans; ++s) {
            const SpanResult span = span_result(results + s * stride, group);
            const float shrink = exp_approx(span.largest[h] - largest);
            sum += shrink * span.sum[h];
            axpy(shrink, span.weighted + h * d, row, d);
        }
        const float inverse = 1.0F / sum;
        set_each(row, d, [=](std::size_t i) { return row[i] * inverse; });
    }
}

#if ADAINFER_X86

namespace avx512 {

/// With vectors of 16.
struct TokenKernels {
    static constexpr CpuLevel level = CpuLevel::Avx512;

    /// scores [group][token_span] of `count` keys [count, d]. Bound: for 16 keys d multiply-adds of 16, then 64 shuffles.
    [[ADAINFER_TARGET_AVX512]] static void scores(const TokenHeads& heads, const float* k, std::size_t count, std::size_t d,
                                               float* scores) noexcept {
        for (std::size_t first = 0; first < count; first += 16) {
            const std::size_t last = count - 1;
            for (std::size_t h = 0; h < heads.group; ++h) {
                const float* const q = heads.q + h * d;
                __m512i sums[16];
#pragma GCC unroll 16
                for (std::size_t i = 0; i < 16; ++i) {
                    const float* const row = k + (std::min)(first + i, last) * d;  // past the end: the last key again
                    __m512 sum = _mm512_setzero_ps();
                    std::size_t j = 0;
                    for (; j + 16 <= d; j += 16) sum = _mm512_fmadd_ps(_mm512_loadu_ps(row + j), _mm512_loadu_ps(q + j), sum);
                    if (j < d) {
                        const auto mask = static_cast<__mmask16>((1U << (d - j)) - 1U);
                        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, row + j), _mm512_maskz_loadu_ps(mask, q + j), sum);
                    }
                    sums[i] = _mm512_castps_si512(sum);
                }
                transpose(sums);
                __m512 total = _mm512_castsi512_ps(sums[0]);
#pragma GCC unroll 15
                for (std::size_t i = 1; i < 16; ++i) total = _mm512_add_ps(total, _mm512_castsi512_ps(sums[i]));
                _mm512_storeu_ps(scores + h * token_span + first, _mm512_mul_ps(total, _mm512_set1_ps(heads.scale)));
            }
        }
    }

    /// weighted [group, d] = weights [group][token_span] times values [count, d]. Bound: a load for every multiply-add of 16 where
    /// one head looks at the values, four heads share one.
    template <std::size_t some>
    [[ADAINFER_TARGET_AVX512]] static void values(const float* weights, const float* v, std::size_t count, std::size_t d,
                                                       float* weighted) noexcept {
        for (std::size_t j = 0; j < d; j += 64) {
            __mmask16 mask[4];
#pragma GCC unroll 4
            for (std::size_t c = 0; c < 4; ++c) {
                const std::size_t left = d - (std::min)(d, j + 16 * c);
                mask[c] = first_lanes(left);
            }
            __m512 sum[some][4];
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) sum[h][c] = _mm512_setzero_ps();
            }
            for (std::size_t i = 0; i < count; ++i) {
                __m512 value[4];
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) value[c] = _mm512_maskz_loadu_ps(mask[c], v + i * d + j + 16 * c);
#pragma GCC unroll 4
                for (std::size_t h = 0; h < some; ++h) {
                    const __m512 weight = _mm512_set1_ps(weights[h * token_span + i]);
#pragma GCC unroll 4
                    for (std::size_t c = 0; c < 4; ++c) sum[h][c] = _mm512_fmadd_ps(weight, value[c], sum[h][c]);
                }
            }
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) _mm512_mask_storeu_ps(weighted + h * d + j + 16 * c, mask[c], sum[h][c]);
            }
        }
    }
};

}  // namespace avx512

#endif

}  // namespace adainfer::inline v0::detail
