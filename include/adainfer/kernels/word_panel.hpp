#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_dot_avx2.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_weight_avx2.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_X86

// The product of several tokens with a weight in 16-bit words, sixteen rows side by side: a quantised one is widened to them here,
// some columns once for all tokens, one of floats is rounded to them in pack_words.hpp.

namespace adainfer::inline v0::detail::avx2 {

#define ADAINFER_INLINE2 ADAINFER_TARGET_AVX2, gnu::always_inline

/// Some columns of sixteen rows.
struct WordPanel {
    static constexpr std::size_t lanes = 16;

    alignas(32) std::int16_t words[panel_depth / 2][lanes][2];  ///< without the bias, columns as in WordBlock
    alignas(32) float scales[panel_depth / 16][lanes];          ///< one for each group of the format
    alignas(32) float minima[panel_depth / 16][lanes];
    std::size_t depth;
    CodeFormat format;
};

/// Quad q of sixteen rows.
template <DType dtype, int q>
[[ADAINFER_INLINE2]] inline void widen_quad(const std::byte* half, std::int16_t (*words)[WordPanel::lanes][2]) noexcept {
    const __m256i bias = _mm256_set1_epi16(static_cast<std::int16_t>(code_format(dtype).bias));
#pragma GCC unroll 2
    for (std::size_t r = 0; r < 2; ++r) {
        __m256i even, odd;
        pairs_at<dtype, q>(half + 32 * r, even, odd);
        _mm256_store_si256(reinterpret_cast<__m256i*>(words[2 * q][8 * r]), _mm256_sub_epi16(even, bias));
        _mm256_store_si256(reinterpret_cast<__m256i*>(words[2 * q + 1][8 * r]), _mm256_sub_epi16(odd, bias));
    }
}

/// Fills a panel with `pieces` times 32 columns of half `half` of the rows. `block` is where the first of them begin.
template <DType dtype>
[[ADAINFER_TARGET_AVX2]] inline void widen(const std::byte* block, std::size_t half, std::size_t pieces,
                                           WordPanel& panel) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    constexpr CodeFormat format = code_format(dtype);
    constexpr std::size_t groups = 32 / format.group;
    panel.depth = 32 * pieces;
    panel.format = format;
    for (std::size_t p = 0; p < pieces; ++p) {
        const std::byte* const piece = block + layout.piece_at(p);
        const std::byte* const codes = piece + layout.codes + half * layout.half;
        const auto words = panel.words + 16 * p;
        widen_quad<dtype, 0>(codes, words);
        widen_quad<dtype, 1>(codes, words);
        widen_quad<dtype, 2>(codes, words);
        widen_quad<dtype, 3>(codes, words);
        widen_quad<dtype, 4>(codes, words);
        widen_quad<dtype, 5>(codes, words);
        widen_quad<dtype, 6>(codes, words);
        widen_quad<dtype, 7>(codes, words);
        const std::byte* const head = block + p * 32 / layout.columns * layout.bytes;
        for (std::size_t r = 0; r < 2; ++r) {
            const std::size_t i = 2 * half + r;
            for (std::size_t g = 0; g < groups; ++g) {
                __m256 scale;
                if constexpr (layout.head == 0) scale = halves_at(piece + 16 * i);
                else scale = _mm256_mul_ps(bytes_at<dtype>(piece + 32 * g + 8 * i), halves_at(head + 16 * i));
                _mm256_store_ps(panel.scales[p * groups + g] + 8 * r, scale);
            }
            if constexpr (format.has_minimum) {
                const std::byte* const at = piece + layout.minima;
                const __m256 none = _mm256_setzero_ps();
                __m256 minimum;
                if constexpr (layout.head == 0) minimum = halves_at(at + 16 * i);
                else minimum = _mm256_fnmadd_ps(bytes_at<dtype>(at + 8 * i), halves_at(head + 64 + 16 * i), none);
                _mm256_store_ps(panel.minima[p] + 8 * r, minimum);
            }
        }
    }
}

/// 32 rows.
using WordPanels = std::array<WordPanel, 2>;

/// y[token][32] += the panels times rows of activations that begin at their first column, `columns` of them under one scale: a block,
/// or as many as a panel may have, whose products need not be scaled group by group. Bound: 16 products and as many sums need two
/// instructions, of which machines start three (Intel) or four (AMD) a cycle where they start two float products of eight.
template <std::size_t columns>
struct WordTile {
    static_assert(columns == activation_block || columns == panel_depth);
    static constexpr std::size_t tokens = 4;
    static constexpr std::size_t under_one_scale = columns;

    /// Of a quantised weight.
    [[nodiscard]] static WordPanels pack(const WeightPart& part) noexcept {
        WordPanels panels;
        const LaneBlocks<turn_rows> blocks(part);
        with_codes(part.weight.dtype, [&]<DType dtype>() {
            for (std::size_t half = 0; half < 2; ++half) widen<dtype>(blocks.get(), half, part.depth / 32, panels[half]);
        });
        return panels;
    }

    template <std::size_t count>
    static void run(const WordPanels& panels, const WordBlock* x, std::size_t x_stride, float* y, std::size_t y_stride) noexcept {
        for (std::size_t half = 0; half < 2; ++half) {
            const WordPanel& panel = panels[half];
            float* const to = y + WordPanel::lanes * half;
            if (panel.format.group == 16) run<count, 16, false>(panel, x, x_stride, to, y_stride);
            else if (panel.format.has_minimum) run<count, 32, true>(panel, x, x_stride, to, y_stride);
            else run<count, 32, false>(panel, x, x_stride, to, y_stride);
        }
    }

  private:
    static constexpr bool scales_blocks = columns == activation_block;

    template <std::size_t count, std::size_t group, bool has_minimum>
    [[ADAINFER_TARGET_AVX2]] static void run(const WordPanel& panel, const WordBlock* x, std::size_t x_stride, float* y,
                                             std::size_t y_stride) noexcept {
        __m256 total[count][2];
#pragma GCC unroll 4
        for (std::size_t t = 0; t < count; ++t) total[t][0] = total[t][1] = _mm256_setzero_ps();
        for (std::size_t g = 0; g < panel.depth / group; ++g) {
            const WordBlock* const block = x + g * group / activation_block;
            const std::size_t from = g * group % activation_block;
            const auto weight = panel.words + g * group / 2;
            __m256i sum[count][2];
#pragma GCC unroll 4
            for (std::size_t t = 0; t < count; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_si256();
            for (std::size_t j = 0; j < group / 2; ++j) {
                const __m256i w0 = load(weight[j][0]), w1 = load(weight[j][8]);
#pragma GCC unroll 4
                for (std::size_t t = 0; t < count; ++t) {
                    const __m256i pair = pair_of(block[t * x_stride].words + from + 2 * j);
                    add_products(sum[t][0], w0, pair);
                    add_products(sum[t][1], w1, pair);
                }
            }
#pragma GCC unroll 4
            for (std::size_t t = 0; t < count; ++t) {
                const float unit = scales_blocks ? block[t * x_stride].scale : 1.0F;
                const __m256 x_unit = _mm256_set1_ps(unit), x_sum = _mm256_set1_ps(unit * block[t * x_stride].sum);
#pragma GCC unroll 2
                for (std::size_t i = 0; i < 2; ++i) {
                    __m256& to = total[t][i];
                    __m256 products = _mm256_cvtepi32_ps(sum[t][i]);
                    if (scales_blocks) products = _mm256_mul_ps(products, x_unit);
                    to = _mm256_fmadd_ps(products, _mm256_load_ps(panel.scales[g] + 8 * i), to);
                    if (has_minimum) to = _mm256_fmadd_ps(x_sum, _mm256_load_ps(panel.minima[g] + 8 * i), to);
                }
            }
        }
#pragma GCC unroll 4
        for (std::size_t t = 0; t < count; ++t) {
            const __m256 x_scale = _mm256_set1_ps(scales_blocks ? 1.0F : x[t * x_stride].scale);
#pragma GCC unroll 2
            for (std::size_t i = 0; i < 2; ++i) {
                float* const to = y + t * y_stride + 8 * i;
                _mm256_storeu_ps(to, _mm256_fmadd_ps(total[t][i], x_scale, _mm256_loadu_ps(to)));
            }
        }
    }
};

#undef ADAINFER_INLINE2

}  // namespace adainfer::inline v0::detail::avx2

#endif
