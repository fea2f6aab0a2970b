#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "adainfer/core/line_vector.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/kv_rows.hpp"
#include "adainfer/kernels/lane_attention.hpp"
#include "adainfer/kernels/turned_rows.hpp"
#include "adainfer/tensor/kv_type.hpp"

// lane_attention.hpp's attention with both products in bfloat16: queries, keys, values and the weights after the softmax are
// rounded to eight significant bits; sums and the softmax are floats.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// A few blocks of 32 queries that share a K/V head: a key or value is rounded once for all of them. Tile: BfloatTile or AmxTile.
/// Scratch is kept, so that the next head of the same size allocates nothing.
template <class Tile>
class BfloatAttention {
  public:
    static constexpr std::size_t lanes = BfloatPanel::lanes, most_blocks = 8;

    /// Writes the outputs of at most `most_blocks` blocks. No bit of one depends on which others there are, nor on how many
    /// positions stand before `begin`, from where on the queries of a call see something.
    void run(std::span<const QueryLanes<lanes>> blocks, const KvHead& kv, float scale, std::size_t begin) {
        resize(blocks.size(), kv);
        std::array<SeenPositions, most_blocks> seen;
        std::array<RunningSoftmax<lanes>, most_blocks> softmax;
        SeenPositions all;
        for (std::size_t b = 0; b < blocks.size(); ++b) {
            seen[b] = seen_by(blocks[b]);
            all = {(std::min)(all.begin, seen[b].begin), (std::max)(all.end, seen[b].end)};
            pack_queries(blocks[b], kv.head_dim, scale, queries(b));
            std::fill_n(result(b), depth_ * lanes, 0.0F);
        }
        typename Tile::Unit unit;
        const std::size_t skipped = (all.begin - begin) / positions * positions;
        for (std::size_t position = begin + skipped; position < all.end; position += positions) {
            const SeenPositions here{(std::max)(all.begin, position), (std::min)(all.end, position + positions)};
            round_rows(kv, here, position);
            for (std::size_t b = 0; b < blocks.size(); ++b) {
                const SeenPositions own{(std::max)(seen[b].begin, position), (std::min)(seen[b].end, here.end)};
                if (own.begin < own.end) attend(unit, blocks[b], softmax[b], b, own, position);
            }
        }
        for (std::size_t b = 0; b < blocks.size(); ++b) write(blocks[b], softmax[b], result(b), kv.head_dim);
    }

  private:
    static constexpr std::size_t step = 32;        ///< positions that are multiplied or left out together
    static constexpr std::size_t positions = 256;  ///< whose rounded rows stay in the second cache

    using Pairs = std::uint32_t (*)[lanes];

    /// Where the step begins that i is in, of those from `position` on.
    static std::size_t step_of(std::size_t i, std::size_t position) noexcept { return position + (i - position) / step * step; }

    void resize(std::size_t blocks, const KvHead& kv) {
        depth_ = (kv.head_dim + 31) / 32 * 32;
        keys_.resize(positions, kv.head_dim);
        values_.resize(depth_, positions);
        const auto at_least = [](auto& vector, std::size_t n) {
            if (vector.size() < n) vector.resize(n);
        };
        at_least(queries_, blocks * depth_ / 2 * lanes);
        at_least(results_, blocks * depth_ * lanes);
        if (kv.type != KvType::F32) at_least(floats_, positions * kv.head_dim);
        scores_.resize(positions * lanes);
        weights_.resize(positions / 2 * lanes);
    }

    [[nodiscard]] static Pairs pairs_of(std::uint32_t* lines) noexcept { return reinterpret_cast<Pairs>(lines); }
    /// Of block b: [depth_ / 2][32], and [depth_][32].
    [[nodiscard]] Pairs queries(std::size_t b) noexcept { return pairs_of(queries_.data() + b * depth_ / 2 * lanes); }
    [[nodiscard]] float* result(std::size_t b) noexcept { return results_.data() + b * depth_ * lanes; }

    /// Turned, times the scale; what is missing is zero.
    [[ADAINFER_TARGET_BFLOAT16]] static void pack_queries(const QueryLanes<lanes>& block, std::size_t d, float scale,
                                                          Pairs out) noexcept {
        const __m512 factor = _mm512_set1_ps(scale);
        for (std::size_t half = 0; half < lanes; half += 16) {
            for (std::size_t i = 0; i < d; i += 32) {
                __m512i v[16];
                for (std::size_t r = 0; r < 16; ++r) {
                    const float* const q = block.q[half + r];
                    const __m512 low = _mm512_mul_ps(floats(q, i, d), factor), high = _mm512_mul_ps(floats(q, i + 16, d), factor);
                    v[r] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
                }
                transpose(v);
                for (std::size_t p = 0; p < 16; ++p) _mm512_store_si512(out[i / 2 + p] + half, v[p]);
            }
        }
    }

    /// Keys and values of a range in the block of positions that starts at `position`. Values are turned, and zero where the range
    /// does not fill a step.
    void round_rows(const KvHead& kv, const SeenPositions& range, std::size_t position) {
        const std::size_t d = kv.head_dim, stride = row_bytes(kv.type, d), count = range.end - range.begin;
        const auto floats = [&](const std::byte* plane) {
            const std::byte* const stored = plane + range.begin * stride;
            if (kv.type == KvType::F32) return reinterpret_cast<const float*>(stored);
            unpack_kv(kv.type, CpuLevel::Avx512, stored, count * d, floats_.data());
            return static_cast<const float*>(floats_.data());
        };
        const float* const keys = floats(kv.k);
        for (std::size_t i = 0; i < count; ++i) keys_.assign(range.begin + i - position, {keys + i * d, d});
        const float* const values = floats(kv.v);
        for (std::size_t at = step_of(range.begin, position); at < range.end; at += step) {
            const float* rows[step];
            for (std::size_t i = 0; i < step; ++i) {
                rows[i] = at + i >= range.begin && at + i < range.end ? values + (at + i - range.begin) * d : nullptr;
            }
            turn_values(rows, d, (at - position) / 2);
        }
    }

    /// Values of 32 positions, null where there is none: two positions a pair, as pairs `pair` to `pair` + 15 of d rows.
    [[ADAINFER_TARGET_BFLOAT16]] void turn_values(const float* const (&rows)[step], std::size_t d, std::size_t pair) noexcept {
        for (std::size_t i = 0; i < d; i += 16) {
            __m512i v[16];
            for (std::size_t p = 0; p < 16; ++p) v[p] = side_by_side(floats(rows[2 * p], i, d), floats(rows[2 * p + 1], i, d));
            transpose(v);
            for (std::size_t r = 0; r < 16; ++r) _mm512_store_si512(values_.row(i + r, pair), v[r]);
        }
    }

    /// row[i] to row[i + 15] of d floats; what is missing is zero.
    [[ADAINFER_TARGET_BFLOAT16, gnu::always_inline]] static __m512 floats(const float* row, std::size_t i, std::size_t d) noexcept {
        return row == nullptr || i >= d ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(first_lanes(d - i), row + i);
    }

    /// Pairs of an element of each.
    [[ADAINFER_TARGET_BFLOAT16, gnu::always_inline]] static __m512i side_by_side(__m512 first, __m512 second) noexcept {
        const auto low = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(first));
        const auto high = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(second));
        return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    }

    /// A block's queries with its part of the positions that keys_ and values_ hold from `position` on.
    void attend(typename Tile::Unit& unit, const QueryLanes<lanes>& block, RunningSoftmax<lanes>& softmax, std::size_t b,
                const SeenPositions& own, std::size_t position) noexcept {
        const std::size_t first = step_of(own.begin, position), count = own.end - first, whole = (count + step - 1) / step * step;
        float* const scores = scores_.data();
        Tile::for_blocks(whole, [&](std::size_t i, std::size_t some) {
            unit.run(some, {queries(b), depth_ / 2}, keys_.row(first - position + i, 0), keys_.stride(), scores + i * lanes, lanes);
        });
        hide_unseen(block, first, count, scores);  // before the softmax of every lane at once
        float shrink[lanes];
        at_level<CpuLevel::Avx512>([&] {
            softmax.weigh(scores, count, shrink);
            float* const sums = result(b);
            for (std::size_t i = 0; i < depth_; ++i) {
                for (std::size_t lane = 0; lane < lanes; ++lane) sums[i * lanes + lane] *= shrink[lane];
            }
        });
        std::fill(scores + count * lanes, scores + whole * lanes, 0.0F);
        pack_weights(whole);
        Tile::for_blocks(depth_, [&](std::size_t i, std::size_t some) {
            float* const sums = result(b) + i * lanes;
            const std::uint32_t* const values = values_.row(i, (first - position) / 2);
            unit.run(some, {pairs_of(weights_.data()), whole / 2, sums}, values, values_.stride(), sums, lanes);
        });
    }

    /// The outputs [d] of a block's queries: sums [d][32], turned, over the sums of the weights.
    [[ADAINFER_TARGET_AVX512]] static void write(const QueryLanes<lanes>& block, const RunningSoftmax<lanes>& softmax,
                                                 const float* sums, std::size_t d) noexcept {
        for (std::size_t half = 0; half < lanes; half += 16) {
            const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1.0F), _mm512_loadu_ps(softmax.sum + half));
            for (std::size_t i = 0; i < d; i += 16) {  // sums has whole steps of 32
                __m512i v[16];
#pragma GCC unroll 16
                for (std::size_t r = 0; r < 16; ++r) {
                    v[r] = _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(sums + (i + r) * lanes + half), inverse));
                }
                transpose(v);
                for (std::size_t r = 0; r < 16; ++r) {
                    if (block.q[half + r] == nullptr) continue;
                    _mm512_mask_storeu_ps(block.out[half + r] + i, first_lanes(d - i), _mm512_castsi512_ps(v[r]));
                }
            }
        }
    }

    /// weights_ [count / 2][32] = the scores, two positions a pair.
    [[ADAINFER_TARGET_BFLOAT16]] void pack_weights(std::size_t count) noexcept {
        const Pairs out = pairs_of(weights_.data());
        for (std::size_t p = 0; p < count / 2; ++p) {
            const float* const from = scores_.data() + 2 * p * lanes;
            for (std::size_t half = 0; half < lanes; half += 16) {
                _mm512_store_si512(out[p] + half, side_by_side(_mm512_loadu_ps(from + half), _mm512_loadu_ps(from + lanes + half)));
            }
        }
    }

    std::size_t depth_ = 0;               ///< of a head, up to a multiple of 32
    typename Tile::Rows keys_, values_;   ///< [positions][head_dim] and [depth_][positions]
    LineVector<std::uint32_t> queries_, weights_;
    LineVector<float> results_, scores_, floats_;
};

}  // namespace adainfer::inline v0::detail::avx512

#endif
