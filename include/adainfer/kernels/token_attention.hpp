#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/lane_attention.hpp"
#include "adainfer/kernels/turned_rows.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
#include "adainfer/tensor/kv_type.hpp"

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

/// Rows of keys or values as a cache stores them.
struct StoredRows {
    const std::byte* at = nullptr;  ///< [count, stride]
    std::size_t stride = 0;         ///< bytes of a row
    std::size_t count = 0, d = 0;   ///< d: its elements

    [[nodiscard]] const std::byte* row(std::size_t i) const noexcept { return at + i * stride; }
};

/// Rows [first, first + n) of `from`, past the end its last again; asks for the rows to come.
template <std::size_t n>
[[gnu::always_inline]] inline void take_rows(const StoredRows& from, std::size_t first, WeightFetch fetch,
                                             const std::byte* (&rows)[n]) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
        rows[i] = from.row((std::min)(first + i, from.count - 1));
        fetch_weights(rows[i], from.stride, fetch);
    }
}

/// scores [some][token_span], from key `first` on, = totals [some][keys].
template <std::size_t some, std::size_t keys>
[[gnu::always_inline]] inline void spread_scores(const float* totals, std::size_t first, float* scores) noexcept {
    for (std::size_t h = 0; h < some; ++h) std::memcpy(scores + h * token_span + first, totals + h * keys, keys * sizeof(float));
}

/// Calls f.template operator()<some>(first) for all heads of a group, up to `most` at a time.
template <std::size_t most, class F>
void for_heads(std::size_t group, F&& f, std::size_t first = 0) {
    for (; first + most <= group; first += most) f.template operator()<most>(first);
    if constexpr (most > 1) for_heads<most - 1>(group, f, first);
}

/// Floats of scratch that span_attention() needs.
[[nodiscard]] constexpr std::size_t span_scratch(std::size_t group) noexcept { return group * token_span; }

/// One span of positions, [begin, begin + count), count at most token_span; scores: scratch. Kernels have
/// scores<type, some>(heads, keys, scores), which writes scores [some][token_span] of up to score_heads heads, and
/// values<type, some>(weights, values, weighted): weighted [some, d] = weights [some][token_span] times the values, of up to
/// value_heads heads.
template <class Kernels>
void span_attention(const TokenHeads& heads, const KvHead& kv, std::size_t begin, std::size_t count, float* scores,
                    const SpanResult& result) noexcept {
    const std::size_t d = kv.head_dim, stride = row_bytes(kv.type, d);
    const StoredRows keys{kv.k + begin * stride, stride, count, d}, values{kv.v + begin * stride, stride, count, d};
    with_kv_type(kv.type, [&]<KvType type>() {
        for_heads<Kernels::score_heads>(heads.group, [&]<std::size_t some>(std::size_t h) {
            Kernels::template scores<type, some>({heads.q + h * d, some, heads.scale}, keys, scores + h * token_span);
        });
    });
    at_level<Kernels::level>([&] {
        for (std::size_t h = 0; h < heads.group; ++h) {
            float* const row = scores + h * token_span;
            const float largest = max_value(row, count);
            result.largest[h] = largest;
            set_each(row, count, [=](std::size_t i) { return exp_approx(row[i] - largest); });
            result.sum[h] = sum(row, count);
        }
    });
    with_kv_type(kv.type, [&]<KvType type>() {
        for_heads<Kernels::value_heads>(heads.group, [&]<std::size_t some>(std::size_t h) {
            Kernels::template values<type, some>(scores + h * token_span, values, result.weighted + h * d);
        });
    });
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

/// Elements [at, at + 16) of a stored row as floats; past `left` they are zero.
template <KvType type>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline __m512 stored16(const std::byte* row, std::size_t at,
                                                                      std::size_t left) noexcept {
    if constexpr (type == KvType::Q8_0) {
        const std::byte* const block = row + row_bytes(type, at / 32 * 32);
        const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 2 + at % 32));
        return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), _mm512_set1_ps(avx2::half_at(block)));
    } else {
        return floats16<dtype_of(type)>(row, at, left);
    }
}

/// With vectors of 16, straight from the stored rows.
struct TokenKernels {
    static constexpr CpuLevel level = CpuLevel::Avx512;
    static constexpr std::size_t score_heads = 4, value_heads = 4;

    /// Bound: memory, or for 16 scores d / 16 times 16 multiply-adds with 8 or 10 loads (one head: 17), then 64 shuffles.
    template <KvType type, std::size_t some>
    [[ADAINFER_TARGET_AVX512]] static void scores(const TokenHeads& heads, const StoredRows& keys, float* scores) noexcept {
        constexpr std::size_t together = some == 1 ? 16 : some == 2 ? 8 : 4;
        const WeightFetch fetch = kv_row_fetch(keys.stride);
        for (std::size_t first = 0; first < keys.count; first += together) {
            const std::byte* rows[together];
            take_rows(keys, first, fetch, rows);
            __m512 sum[16];  // [some][together]
#pragma GCC unroll 16
            for (std::size_t i = 0; i < 16; ++i) sum[i] = _mm512_setzero_ps();
            for (std::size_t j = 0; j < keys.d; j += 16) {
                const std::size_t left = keys.d - j;
                __m512 key[together];
#pragma GCC unroll 16
                for (std::size_t i = 0; i < together; ++i) key[i] = stored16<type>(rows[i], j, left);
#pragma GCC unroll 4
                for (std::size_t h = 0; h < some; ++h) {
                    const __m512 q = _mm512_maskz_loadu_ps(first_lanes(left), heads.q + h * keys.d + j);
#pragma GCC unroll 16
                    for (std::size_t i = 0; i < together; ++i) {
                        sum[h * together + i] = _mm512_fmadd_ps(key[i], q, sum[h * together + i]);
                    }
                }
            }
            __m512i sums[16];
#pragma GCC unroll 16
            for (std::size_t i = 0; i < 16; ++i) sums[i] = _mm512_castps_si512(sum[i]);
            transpose(sums);
            __m512 total = _mm512_castsi512_ps(sums[0]);
#pragma GCC unroll 15
            for (std::size_t i = 1; i < 16; ++i) total = _mm512_add_ps(total, _mm512_castsi512_ps(sums[i]));
            float totals[16];
            _mm512_storeu_ps(totals, _mm512_mul_ps(total, _mm512_set1_ps(heads.scale)));
            spread_scores<some, together>(totals, first, scores);
        }
    }

    /// Bound: memory, or a load for every multiply-add of 16 where one head looks at the values, four heads share one.
    template <KvType type, std::size_t some>
    [[ADAINFER_TARGET_AVX512]] static void values(const float* weights, const StoredRows& values, float* weighted) noexcept {
        const std::size_t d = values.d;
        const WeightFetch fetch = kv_row_fetch(values.stride);
        for (std::size_t j = 0; j < d; j += 64) {
            __m512 sum[some][4];
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) sum[h][c] = _mm512_setzero_ps();
            }
            for (std::size_t i = 0; i < values.count; ++i) {
                const std::byte* const row = values.row(i);
                if (j == 0) fetch_weights(row, values.stride, fetch);
                __m512 value[4];
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) {
                    const std::size_t at = j + 16 * c;
                    value[c] = at < d ? stored16<type>(row, at, d - at) : _mm512_setzero_ps();
                }
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
                for (std::size_t c = 0; c < 4; ++c) {
                    const std::size_t at = j + 16 * c, left = d - (std::min)(d, at);
                    _mm512_mask_storeu_ps(weighted + h * d + at, first_lanes(left), sum[h][c]);
                }
            }
        }
    }
};

}  // namespace avx512

#endif

}  // namespace adainfer::inline v0::detail
