#pragma once

#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/code_panel.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/quad_product.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_X86

// word_panel.hpp with AVX-512.

namespace adainfer::inline v0::detail::avx512 {

/// Some columns of 32 rows.
struct WordPanel {
    static constexpr std::size_t lanes = 32;

    alignas(64) std::int16_t words[panel_depth / 2][lanes][2];  ///< without the bias, columns as in avx2::WordBlock
    alignas(64) float scales[panel_depth / 16][lanes];          ///< one for each group of the format
    alignas(64) float minima[panel_depth / 16][lanes];
    std::size_t depth;
    CodeFormat format;

    /// Four columns of the sixteen rows from `half` on.
    template <CodeFormat of>
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void put(std::size_t quad, std::size_t half, __m512i codes) noexcept {
        const __m512i bias = _mm512_set1_epi16(static_cast<std::int16_t>(of.bias));
        const __m512i even = _mm512_and_si512(codes, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(codes, 8);
        _mm512_store_si512(words[2 * quad][half], _mm512_sub_epi16(even, bias));
        _mm512_store_si512(words[2 * quad + 1][half], _mm512_sub_epi16(odd, bias));
    }
};

/// y[token][32] += the panel times rows of activations that begin at the panel's first column, `columns` of them under one scale as
/// avx2::WordTile has it. Bound: integer products, 32 an instruction, of which machines start as many a cycle as float products of
/// 16; a group of 32 columns costs 16 of them and two to four instructions to scale.
template <std::size_t columns>
struct WordTile {
    static_assert(columns == activation_block || columns == panel_depth);
    static constexpr std::size_t tokens = 12;
    static constexpr std::size_t under_one_scale = columns;

    /// Of a quantised weight.
    [[nodiscard]] static WordPanel pack(const WeightPart& part) noexcept { return packed_codes<WordPanel>(part); }

    template <std::size_t count>
    [[ADAINFER_TARGET_AVX512]] static void run(const WordPanel& panel, const avx2::WordBlock* x, std::size_t x_stride, float* y,
                                               std::size_t y_stride) noexcept {
        const std::size_t group = panel.format.group;
        __m512 total[count][2];
#pragma GCC unroll 12
        for (std::size_t t = 0; t < count; ++t) total[t][0] = total[t][1] = _mm512_setzero_ps();
        for (std::size_t g = 0; g < panel.depth / group; ++g) {
            const avx2::WordBlock* const block = x + g * group / activation_block;
            const std::size_t from = g * group % activation_block;
            const auto weight = panel.words + g * group / 2;
            __m512i sum[count][2];
#pragma GCC unroll 12
            for (std::size_t t = 0; t < count; ++t) sum[t][0] = sum[t][1] = _mm512_setzero_si512();
            for (std::size_t j = 0; j < group / 2; ++j) {
                const __m512i w0 = _mm512_load_si512(weight[j]), w1 = _mm512_load_si512(weight[j] + 16);
#pragma GCC unroll 12
                for (std::size_t t = 0; t < count; ++t) {
                    const __m512i pair = quad_of(block[t * x_stride].words + from + 2 * j);
                    add_word_products(sum[t][0], w0, pair);
                    add_word_products(sum[t][1], w1, pair);
                }
            }
#pragma GCC unroll 12
            for (std::size_t t = 0; t < count; ++t) {
                const float unit = scales_blocks ? block[t * x_stride].scale : 1.0F;
                __m512 products[2] = {_mm512_cvtepi32_ps(sum[t][0]), _mm512_cvtepi32_ps(sum[t][1])};
                if (scales_blocks) {
                    for (__m512& p : products) p = _mm512_mul_ps(p, _mm512_set1_ps(unit));
                }
                add_scaled(total[t], products, panel, g, unit * block[t * x_stride].sum);
            }
        }
#pragma GCC unroll 12
        for (std::size_t t = 0; t < count; ++t) {
            const __m512 x_scale = _mm512_set1_ps(scales_blocks ? 1.0F : x[t * x_stride].scale);
#pragma GCC unroll 2
            for (std::size_t i = 0; i < 2; ++i) {
                float* const to = y + t * y_stride + 16 * i;
                _mm512_storeu_ps(to, _mm512_fmadd_ps(total[t][i], x_scale, _mm512_loadu_ps(to)));
            }
        }
    }

  private:
    static constexpr bool scales_blocks = columns == activation_block;
};

}  // namespace adainfer::inline v0::detail::avx512

#endif
