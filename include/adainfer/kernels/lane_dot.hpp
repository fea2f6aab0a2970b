#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/quad_product.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
#include "adainfer/tensor/dtype.hpp"

// Products of a few tokens with the panels of lane_layout.hpp, activations rounded to 16 bits as those of int8_row.hpp.

namespace adainfer::inline v0 {

/// Rows of activations to 16 bits, as products with a LaneWeight read them.
class LaneActivations {
  public:
    /// 32 values of a row: scale * (code + rest / rest_steps).
    struct Block {
        std::int8_t codes[activation_block];
        std::int8_t rests[activation_block];
        // -bias times the sum of the codes, and of the rests, of a group of the weight's format; the second is for groups of 16.
        std::int32_t offsets[2], rest_offsets[2];
        float scale;
        float sum;  ///< of the values: what a weight's minimum is multiplied by
    };

    /// Makes room for rows of `cols` elements, a multiple of 32.
    void resize(std::size_t tokens, std::size_t cols) {
        blocks_ = cols / activation_block;
        if (values_.size() < tokens * blocks_) values_.resize(tokens * blocks_);
    }

    /// Row `token` = x [cols], for products with weights of this format.
    void assign(std::size_t token, std::span<const float> x, CodeFormat format, QuantizeBlock quantize) noexcept {
        for (std::size_t b = 0; b < blocks_; ++b) {
            ActivationBlock from;
            quantize(x.data() + b * activation_block, from);
            Block& to = values_[token * blocks_ + b];
            std::memcpy(to.codes, from.codes, sizeof to.codes);
            std::memcpy(to.rests, from.rests, sizeof to.rests);
            std::int32_t sums[2] = {}, rest_sums[2] = {};
            for (std::size_t i = 0; i < activation_block / 4; ++i) {
                sums[i / 4] += from.sums[i];
                rest_sums[i / 4] += from.rest_sums[i];
            }
            const std::int32_t total = sums[0] + sums[1], rest_total = rest_sums[0] + rest_sums[1];
            const bool pair = format.group == 16;
            to.offsets[0] = -format.bias * (pair ? sums[0] : total);
            to.offsets[1] = -format.bias * sums[1];
            to.rest_offsets[0] = -format.bias * (pair ? rest_sums[0] : rest_total);
            to.rest_offsets[1] = -format.bias * rest_sums[1];
            to.scale = from.scale;
            to.sum = from.scale * (static_cast<float>(total) + static_cast<float>(rest_total) / rest_steps);
        }
    }

    [[nodiscard]] const Block* row(std::size_t token) const noexcept { return values_.data() + token * blocks_; }

  private:
    std::vector<Block> values_;
    std::size_t blocks_ = 0;
};

#if ADAINFER_X86

namespace detail::avx512 {

#define ADAINFER_INLINE512 ADAINFER_TARGET_AVX512, gnu::always_inline

/// Integer sums of 32 columns: [token][half of the rows][group][codes, rests]. A group is 32 columns, or 16.
template <std::size_t tokens, std::size_t groups>
using QuadSums = __m512i[tokens][2][groups][2];

/// Adds two quads (see quad_index()) of `halves` halves of the rows, from half `first` on, whose codes stand at `half`.
template <DType dtype, std::size_t tokens, std::size_t groups, std::size_t first, std::size_t halves, int j>
[[ADAINFER_INLINE512]] inline void add_two_quads(const std::byte* half, const LaneActivations::Block* const (&x)[tokens],
                                                 QuadSums<tokens, groups>& sums) noexcept {
    __m512i w[halves][2];
#pragma GCC unroll 2
    for (std::size_t h = 0; h < halves; ++h) quads_at<dtype, j>(half + h * lane_layout(dtype).half, w[h][0], w[h][1]);
#pragma GCC unroll 4
    for (std::size_t t = 0; t < tokens; ++t) {
#pragma GCC unroll 2
        for (std::size_t q = 0; q < 2; ++q) {
            const std::size_t column = 4 * quad_index(dtype, j, q);
            const __m512i codes = quad_of(x[t]->codes + column), rests = quad_of(x[t]->rests + column);
#pragma GCC unroll 2
            for (std::size_t h = 0; h < halves; ++h) add_products(sums[t][first + h][q * (groups - 1)][0], w[h][q], codes);
#pragma GCC unroll 2
            for (std::size_t h = 0; h < halves; ++h) add_products(sums[t][first + h][q * (groups - 1)][1], w[h][q], rests);
        }
    }
}

/// The same of all quads.
template <DType dtype, std::size_t tokens, std::size_t groups, std::size_t first, std::size_t halves>
[[ADAINFER_INLINE512]] inline void add_quads(const std::byte* half, const LaneActivations::Block* const (&x)[tokens],
                                             WeightFetch fetch, QuadSums<tokens, groups>& sums) noexcept {
    fetch_weights<halves * lane_layout(dtype).half>(half, fetch);
    add_two_quads<dtype, tokens, groups, first, halves, 0>(half, x, sums);
    add_two_quads<dtype, tokens, groups, first, halves, 1>(half, x, sums);
    add_two_quads<dtype, tokens, groups, first, halves, 2>(half, x, sums);
    add_two_quads<dtype, tokens, groups, first, halves, 3>(half, x, sums);
}

/// out[token][32] = a panel of `cols` columns times `count` rows of activations, one to `tokens` of them; where there are fewer,
/// the last is multiplied again. Bound: memory; four instructions for 64 weights and two products of 64, about twenty for the
/// scales of 1024.
template <DType dtype, std::size_t tokens>
[[ADAINFER_TARGET_AVX512]] inline void lane_product(const std::byte* panel, std::size_t cols,
                                                    const LaneActivations::Block* activations, std::size_t stride,
                                                    std::size_t count, float* out) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    constexpr CodeFormat format = code_format(dtype);
    constexpr bool k_format = layout.columns != 32;
    constexpr std::size_t groups = 32 / format.group, pieces = layout.columns / 32;
    const __m512 fine = _mm512_set1_ps(1.0F / rest_steps);
    const WeightFetch fetch = lane_fetch();
    const LaneActivations::Block* rows[tokens];
    __m512 total[tokens][2];
#pragma GCC unroll 4
    for (std::size_t t = 0; t < tokens; ++t) {
        rows[t] = activations + (std::min)(t, count - 1) * stride;
        total[t][0] = total[t][1] = _mm512_setzero_ps();
    }
    for (std::size_t b = 0; b < cols / layout.columns; ++b, panel += layout.bytes) {
        __m512 block_sum[tokens][2], block_less[tokens][2];  // of a k format, before its binary16 factors
#pragma GCC unroll 4
        for (std::size_t t = 0; t < tokens; ++t) {
            block_sum[t][0] = block_sum[t][1] = block_less[t][0] = block_less[t][1] = _mm512_setzero_ps();
        }
        fetch_weights<layout.head>(panel, fetch);
        for (std::size_t p = 0; p < pieces; ++p) {
            const std::byte* const piece = panel + layout.head + p * layout.piece;
            fetch_weights<layout.codes>(piece, fetch);
            const LaneActivations::Block* x[tokens];
            QuadSums<tokens, groups> sums;
#pragma GCC unroll 4
            for (std::size_t t = 0; t < tokens; ++t) {
                x[t] = rows[t] + b * pieces + p;
#pragma GCC unroll 2
                for (std::size_t g = 0; g < groups; ++g) {
                    sums[t][0][g][0] = sums[t][1][g][0] = _mm512_set1_epi32(format.bias != 0 ? x[t]->offsets[g] : 0);
                    sums[t][0][g][1] = sums[t][1][g][1] = _mm512_set1_epi32(format.bias != 0 ? x[t]->rest_offsets[g] : 0);
                }
            }
            if constexpr (tokens == 1) {  // bound by memory, so in its order
                add_quads<dtype, tokens, groups, 0, 1>(piece + layout.codes, x, fetch, sums);
                add_quads<dtype, tokens, groups, 1, 1>(piece + layout.codes + layout.half, x, fetch, sums);
            } else {  // bound by products: both halves with the same activations
                add_quads<dtype, tokens, groups, 0, 2>(piece + layout.codes, x, fetch, sums);
            }
#pragma GCC unroll 2
            for (std::size_t h = 0; h < 2; ++h) {
#pragma GCC unroll 2
                for (std::size_t g = 0; g < groups; ++g) {
                    const __m512 scale = k_format ? bytes_at<dtype>(piece + 32 * g + 16 * h) : halves_at(piece + 32 * h);
#pragma GCC unroll 4
                    for (std::size_t t = 0; t < tokens; ++t) {
                        const __m512 codes = _mm512_cvtepi32_ps(sums[t][h][g][0]), rests = _mm512_cvtepi32_ps(sums[t][h][g][1]);
                        const __m512 sum = _mm512_fmadd_ps(rests, fine, codes);
                        __m512& to = k_format ? block_sum[t][h] : total[t][h];
                        to = _mm512_fmadd_ps(_mm512_mul_ps(sum, _mm512_set1_ps(x[t]->scale)), scale, to);
                    }
                }
                if constexpr (format.has_minimum) {
                    const std::byte* const at = piece + layout.minima;
                    const __m512 minimum = k_format ? bytes_at<dtype>(at + 16 * h) : halves_at(at + 32 * h);
#pragma GCC unroll 4
                    for (std::size_t t = 0; t < tokens; ++t) {
                        __m512& to = k_format ? block_less[t][h] : total[t][h];
                        to = _mm512_fmadd_ps(minimum, _mm512_set1_ps(x[t]->sum), to);
                    }
                }
            }
        }
        if constexpr (k_format) {
#pragma GCC unroll 4
            for (std::size_t t = 0; t < tokens; ++t) {
#pragma GCC unroll 2
                for (std::size_t h = 0; h < 2; ++h) {
                    total[t][h] = _mm512_fmadd_ps(block_sum[t][h], halves_at(panel + 32 * h), total[t][h]);
                    if constexpr (format.has_minimum) {
                        total[t][h] = _mm512_fnmadd_ps(block_less[t][h], halves_at(panel + 64 + 32 * h), total[t][h]);
                    }
                }
            }
        }
    }
#pragma GCC unroll 4
    for (std::size_t t = 0; t < tokens; ++t) {
        _mm512_storeu_ps(out + t * 32, total[t][0]);
        _mm512_storeu_ps(out + t * 32 + 16, total[t][1]);
    }
}

/// lane_product() for a dtype that has a code format and 1 to most_lane_tokens rows of activations. `out` has room for
/// most_lane_tokens times 32.
inline void lane_product(DType dtype, const std::byte* panel, std::size_t cols, const LaneActivations::Block* activations,
                         std::size_t stride, std::size_t count, float* out) noexcept {
    with_codes(dtype, [&]<DType type>() {
        if (count == 1) lane_product<type, 1>(panel, cols, activations, stride, count, out);
        else if (count == 2) lane_product<type, 2>(panel, cols, activations, stride, count, out);
        else lane_product<type, most_lane_tokens>(panel, cols, activations, stride, count, out);
    });
}

#undef ADAINFER_INLINE512

}  // namespace detail::avx512

#endif

}  // namespace adainfer::inline v0
