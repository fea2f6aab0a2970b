#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "adainfer/kernels/float_tile.hpp"
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

/// Floats of scratch that lane_attention() needs where queries see positions in a range of `keys`.
[[nodiscard]] constexpr std::size_t lane_attention_scratch(std::size_t lanes, std::size_t head_dim, std::size_t keys) noexcept {
    return lanes * (2 * head_dim + keys);
}

/// out = softmax(scale q k^T) v of every lane. k and v [positions, head_dim]. Each row of K and V is read once for all lanes.
template <class Tile>
void lane_attention(const QueryLanes<Tile::lanes>& queries, const float* k, const float* v, std::size_t head_dim, float scale,
                    float* scratch) noexcept {
    constexpr std::size_t lanes = Tile::lanes;
    std::size_t first = queries.begin[0], last = 0;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        if (queries.q[lane] == nullptr) continue;
        first = (std::min)(first, queries.begin[lane]);
        last = (std::max)(last, queries.end[lane]);
    }
    const std::size_t keys = last - first;
    float* const packed = scratch;                       // [head_dim][lanes]
    float* const result = packed + head_dim * lanes;     // [head_dim][lanes]
    float* const scores = result + head_dim * lanes;     // [keys][lanes]
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        const float* const q = queries.q[lane];
        for (std::size_t d = 0; d < head_dim; ++d) packed[d * lanes + lane] = q == nullptr ? 0.0F : q[d] * scale;
    }
    detail::float_tiles<Tile>({.a = k + first * head_dim, .row_stride = head_dim, .k_stride = 1, .k = head_dim, .b = packed, .out = scores},
                              keys);

    // What a lane does not see is minus infinity, before the softmax of every lane at once.
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        if (queries.q[lane] == nullptr) continue;
        for (std::size_t i = first; i < queries.begin[lane]; ++i) scores[(i - first) * lanes + lane] = -HUGE_VALF;
        for (std::size_t i = queries.end[lane]; i < last; ++i) scores[(i - first) * lanes + lane] = -HUGE_VALF;
    }
    float largest[lanes], sum[lanes];
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        largest[lane] = -HUGE_VALF;
        sum[lane] = 0.0F;
    }
    for (std::size_t i = 0; i < keys; ++i) {
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            const float score = scores[i * lanes + lane];
            largest[lane] = score > largest[lane] ? score : largest[lane];
        }
    }
    for (std::size_t i = 0; i < keys; ++i) {
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            const float weight = exp_approx(scores[i * lanes + lane] - largest[lane]);
            scores[i * lanes + lane] = weight;
            sum[lane] += weight;
        }
    }
    detail::float_tiles<Tile>({.a = v + first * head_dim, .row_stride = 1, .k_stride = head_dim, .k = keys, .b = scores, .out = result},
                              head_dim);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        if (queries.q[lane] == nullptr) continue;
        const float inverse = 1.0F / sum[lane];
        for (std::size_t d = 0; d < head_dim; ++d) queries.out[lane][d] = result[d * lanes + lane] * inverse;
    }
}

}  // namespace adainfer::inline v0
