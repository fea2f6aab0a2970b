#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_tile.hpp"
#include "adainfer/kernels/kv_rows.hpp"
#include "adainfer/kernels/vector_math.hpp"

namespace adainfer::inline v0 {

/// Queries that share a K/V head, side by side: lane i is one head of one token.
template <std::size_t lanes>
struct QueryLanes {
    const float* q[lanes];    ///< [head_dim]; null: no query in this lane
    float* out[lanes];        ///< [head_dim]
    std::size_t begin[lanes]; ///< the positions that it sees
    std::size_t end[lanes];
};

/// The rows of one K/V head as a cache stores them.
struct KvHead {
    KvType type = KvType::F32;
    const std::byte* k = nullptr;  ///< [positions, row_bytes(type, head_dim)]
    const std::byte* v = nullptr;
    std::size_t head_dim = 0;
};

/// A range of positions.
struct SeenPositions {
    std::size_t begin = ~std::size_t{0}, end = 0;
};

/// What any of the queries sees.
template <std::size_t lanes>
[[nodiscard, gnu::always_inline]] inline SeenPositions seen_by(const QueryLanes<lanes>& queries) noexcept {
    SeenPositions seen;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        if (queries.q[lane] == nullptr) continue;
        seen = {(std::min)(seen.begin, queries.begin[lane]), (std::max)(seen.end, queries.end[lane])};
    }
    return seen;
}

/// Scores [count][lanes] of the positions from `position` on: what a lane does not see becomes minus infinity.
template <std::size_t lanes>
[[gnu::always_inline]] inline void hide_unseen(const QueryLanes<lanes>& queries, std::size_t position, std::size_t count,
                                               float* scores) noexcept {
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        if (queries.q[lane] == nullptr) continue;
        const auto within = [&](std::size_t i) { return (std::min)(i - (std::min)(i, position), count); };
        for (std::size_t i = 0; i < within(queries.begin[lane]); ++i) scores[i * lanes + lane] = -HUGE_VALF;
        for (std::size_t i = within(queries.end[lane]); i < count; ++i) scores[i * lanes + lane] = -HUGE_VALF;
    }
}

/// Positions that are looked at together: their scores and, where the cache stores no floats, their rows stay in the L2 cache.
inline constexpr std::size_t attention_block = 512;

/// Floats of scratch that lane_attention() needs, whatever the number of positions.
[[nodiscard]] constexpr std::size_t lane_attention_scratch(std::size_t lanes, KvType type, std::size_t head_dim) noexcept {
    return lanes * (3 * head_dim + attention_block) + (type == KvType::F32 ? 0 : attention_block * head_dim);
}

namespace detail {

/// The softmax of each lane while blocks of scores pass by (Milakov and Gimelshein, arXiv 1805.02867, section 3).
template <std::size_t lanes>
struct RunningSoftmax {
    float largest[lanes], sum[lanes];

    RunningSoftmax() noexcept {
        std::fill_n(largest, lanes, -HUGE_VALF);
        std::fill_n(sum, lanes, 0.0F);
    }

    /// Scores [count][lanes] become weights; `shrink` [lanes] is what earlier sums are to be multiplied by.
    [[gnu::always_inline]] void weigh(float* scores, std::size_t count, float* shrink) noexcept {
        float top[lanes], total[lanes];  // local, so that they stay in registers
        for (std::size_t lane = 0; lane < lanes; ++lane) top[lane] = largest[lane];
        for (std::size_t i = 0; i < count; ++i) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                const float score = scores[i * lanes + lane];
                top[lane] = score > top[lane] ? score : top[lane];
            }
        }
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            const float before = largest[lane];
            largest[lane] = top[lane];
            top[lane] = top[lane] == -HUGE_VALF ? 0.0F : top[lane];  // nothing seen yet: weights of zero, not NaN
            shrink[lane] = exp_approx(before - top[lane]);
            total[lane] = sum[lane] * shrink[lane];
        }
        for (std::size_t i = 0; i < count; ++i) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                const float weight = exp_approx(scores[i * lanes + lane] - top[lane]);
                scores[i * lanes + lane] = weight;
                total[lane] += weight;
            }
        }
        for (std::size_t lane = 0; lane < lanes; ++lane) sum[lane] = total[lane];
    }
};

}  // namespace detail

/// out = softmax(scale q k^T) v of every lane, a block of positions at a time. Each row of K and V is read once for all lanes.
template <class Tile>
[[gnu::always_inline]] inline void lane_attention(const QueryLanes<Tile::lanes>& queries, const KvHead& kv, CpuLevel level,
                                                  float scale, float* scratch) noexcept {
    constexpr std::size_t lanes = Tile::lanes;
    const std::size_t d = kv.head_dim, stride = row_bytes(kv.type, d);
    const SeenPositions seen = seen_by(queries);
    float* const packed = scratch;               // [head_dim][lanes]
    float* const result = packed + d * lanes;    // [head_dim][lanes]
    float* const partial = result + d * lanes;   // [head_dim][lanes]
    float* const scores = partial + d * lanes;   // [attention_block][lanes]
    float* const floats = scores + attention_block * lanes;  // [attention_block, head_dim]
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        const float* const q = queries.q[lane];
        for (std::size_t i = 0; i < d; ++i) packed[i * lanes + lane] = q == nullptr ? 0.0F : q[i] * scale;
    }
    const auto rows = [&](const std::byte* plane, std::size_t position, std::size_t count) {
        const std::byte* const stored = plane + position * stride;
        if (kv.type == KvType::F32) return reinterpret_cast<const float*>(stored);
        unpack_kv(kv.type, level, stored, count * d, floats);
        return static_cast<const float*>(floats);
    };

    detail::RunningSoftmax<lanes> softmax;
    for (std::size_t position = seen.begin; position < seen.end; position += attention_block) {
        const std::size_t count = (std::min)(attention_block, seen.end - position);
        detail::float_tiles<Tile>({.a = rows(kv.k, position, count), .row_stride = d, .k_stride = 1, .k = d, .b = packed,
                                   .out = scores},
                                  count);
        hide_unseen(queries, position, count, scores);  // before the softmax of every lane at once
        float shrink[lanes];
        softmax.weigh(scores, count, shrink);
        float* const product = position == seen.begin ? result : partial;
        detail::float_tiles<Tile>({.a = rows(kv.v, position, count), .row_stride = 1, .k_stride = d, .k = count, .b = scores,
                                   .out = product},
                                  d);
        if (position == seen.begin) continue;
        for (std::size_t i = 0; i < d; ++i) {
            for (std::size_t lane = 0; lane < lanes; ++lane) {
                result[i * lanes + lane] = result[i * lanes + lane] * shrink[lane] + partial[i * lanes + lane];
            }
        }
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        if (queries.q[lane] == nullptr) continue;
        const float inverse = 1.0F / softmax.sum[lane];
        for (std::size_t i = 0; i < d; ++i) queries.out[lane][i] = result[i * lanes + lane] * inverse;
    }
}

}  // namespace adainfer::inline v0
