#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/quad_product.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/dtype.hpp"

// panel_tile.hpp's product in integers: quantised weights stay codes, activations are rounded to 8 bits.

namespace adainfer::inline v0 {

/// Rows of activations to 8 bits.
class ActivationCodes {
  public:
    /// Makes room for rows of `cols` elements, a multiple of 32, to be multiplied with weights of this format.
    void resize(std::size_t tokens, std::size_t cols, CodeFormat format) {
        cols_ = cols;
        format_ = format;
        grow(codes_, tokens * cols);
        grow(scales_, tokens * blocks());
        grow(sums_, tokens * blocks());
        grow(offsets_, tokens * (cols / format.group));
    }

    /// Row `token` = x [cols]. `quantize` is quantize_block() or does the same. Rows can be assigned by several threads.
    void assign(std::size_t token, std::span<const float> x, QuantizeBlock quantize) noexcept {
        const std::size_t group = format_.group, groups = activation_block / group;
        for (std::size_t b = 0; b < blocks(); ++b) {
            ActivationBlock block;
            quantize(x.data() + b * activation_block, block);
            const std::size_t at = token * blocks() + b;
            std::memcpy(codes_.data() + at * activation_block, block.codes, sizeof block.codes);
            std::int32_t total = 0;
            for (std::size_t i = 0; i < groups; ++i) {
                std::int32_t sum = 0;
                for (std::size_t j = 0; j < group / 4; ++j) sum += block.sums[i * group / 4 + j];
                offsets_[at * groups + i] = -format_.bias * sum;
                total += sum;
            }
            scales_[at] = block.scale;
            sums_[at] = block.scale * static_cast<float>(total);
        }
    }

    [[nodiscard]] std::size_t cols() const noexcept { return cols_; }
    [[nodiscard]] std::size_t blocks() const noexcept { return cols_ / activation_block; }
    [[nodiscard]] const std::int8_t* codes() const noexcept { return codes_.data(); }  ///< [tokens][cols]
    [[nodiscard]] const float* scales() const noexcept { return scales_.data(); }      ///< [tokens][cols / 32]
    /// Sums of the values [tokens][cols / 32]: what a weight's minimum is multiplied by.
    [[nodiscard]] const float* sums() const noexcept { return sums_.data(); }
    /// -bias times the sum of the codes [tokens][cols / group].
    [[nodiscard]] const std::int32_t* offsets() const noexcept { return offsets_.data(); }
    [[nodiscard]] std::size_t group() const noexcept { return format_.group; }

  private:
    template <class T>
    static void grow(std::vector<T>& values, std::size_t size) {
        if (values.size() < size) values.resize(size);
    }

    std::vector<std::int8_t> codes_;
    std::vector<float> scales_, sums_;
    std::vector<std::int32_t> offsets_;
    std::size_t cols_ = 0;
    CodeFormat format_{activation_block};
};

#if ADAINFER_X86

namespace detail::avx512 {

/// Some columns of 32 quantised rows side by side.
struct CodePanel {
    static constexpr std::size_t lanes = 32;

    alignas(64) std::uint8_t codes[panel_depth / 4][lanes][4];
    alignas(64) float scales[panel_depth / 16][lanes];  ///< one for each group of the format
    alignas(64) float minima[panel_depth / 16][lanes];
    std::size_t depth;
    CodeFormat format;

    /// Four columns of the sixteen rows from `half` on.
    template <CodeFormat>
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void put(std::size_t quad, std::size_t half, __m512i four) noexcept {
        _mm512_store_si512(codes[quad] + half, four);
    }
};

/// Fills a panel, a CodePanel or one of that kind, with quantised rows in lanes. Bound: 3 instructions for 64 elements.
template <DType dtype, class Panel>
[[ADAINFER_TARGET_AVX512]] inline void pack_quads(const std::byte* blocks, std::size_t depth, Panel& panel) noexcept {
    constexpr CodeFormat format = code_format(dtype);
    panel.depth = depth;
    panel.format = format;
    for (std::size_t half = 0; half < 32; half += 16) {
        const LaneQuads<dtype> quads(blocks, half / 16);
        __m512i scales[16], minima[16];
        const std::size_t groups = depth / format.group;
        quads.scales(groups, scales, minima);
        for (std::size_t g = 0; g < groups; ++g) {
            _mm512_store_si512(panel.scales[g] + half, scales[g]);
            if constexpr (format.has_minimum) _mm512_store_si512(panel.minima[g] + half, minima[g]);
        }
        for (std::size_t step = 0; 64 * step < depth; ++step) {
            const bool whole = 64 * step + 64 <= depth;
            __m512i v[16];
            quads.codes(step, whole, v);
            for (std::size_t j = 0; j < (whole ? 16U : 8U); ++j) panel.template put<format>(16 * step + j, half, v[j]);
        }
    }
}

/// A part of a weight that has a code format, as such a panel.
template <class Panel>
[[nodiscard]] Panel packed_codes(const WeightPart& part) noexcept {
    Panel panel;
    with_codes(part.weight.dtype, [&]<DType dtype>() { pack_quads<dtype>(LaneBlocks(part).get(), part.depth, panel); });
    return panel;
}

/// total[32] += scale * (sum of products of codes) + minimum * activation sum, of group g of a panel.
template <class Panel>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void add_scaled(__m512 (&total)[2], const __m512 (&products)[2],
                                                                      const Panel& panel, std::size_t g, float x_sum) noexcept {
#pragma GCC unroll 2
    for (std::size_t i = 0; i < 2; ++i) {
        total[i] = _mm512_fmadd_ps(products[i], _mm512_load_ps(panel.scales[g] + 16 * i), total[i]);
        if (!panel.format.has_minimum) continue;
        total[i] = _mm512_fmadd_ps(_mm512_set1_ps(x_sum), _mm512_load_ps(panel.minima[g] + 16 * i), total[i]);
    }
}

/// What a token's row of activations is made of, from the panel's first column on.
struct CodedTokens {
    const std::int8_t* codes;
    const float *scales, *sums;
    const std::int32_t* offsets;
    std::size_t cols;

    CodedTokens(const ActivationCodes& x, std::size_t token, std::size_t column) noexcept
        : codes(x.codes() + token * x.cols() + column), scales(x.scales() + token * x.blocks() + column / activation_block),
          sums(x.sums() + token * x.blocks() + column / activation_block),
          offsets(x.offsets() + (token * x.cols() + column) / x.group()), cols(x.cols()) {}
};

/// y[token][32] += sum over groups of scale * (dot of the codes) * activation scale + minimum * activation sum.
/// Bound: integer products, 64 an instruction; a group of 32 columns costs 8 of them and 3 or 4 instructions to scale.
struct CodeTile {
    static constexpr std::size_t tokens = 6;

    [[nodiscard]] static CodePanel pack(const WeightPart& part) noexcept { return packed_codes<CodePanel>(part); }

    template <std::size_t count>
    [[ADAINFER_TARGET_AVX512]] static void run(const CodePanel& panel, const CodedTokens* tokens_at, std::size_t, float* y,
                                               std::size_t y_stride) noexcept {
        const CodedTokens x = *tokens_at;
        const std::size_t group = panel.format.group, groups = x.cols / group;
        const std::size_t blocks = x.cols / activation_block;
        __m512 total[count][2];
#pragma GCC unroll 6
        for (std::size_t t = 0; t < count; ++t) {
            total[t][0] = _mm512_loadu_ps(y + t * y_stride);
            total[t][1] = _mm512_loadu_ps(y + t * y_stride + 16);
        }
        for (std::size_t g = 0; g < panel.depth / group; ++g) {
            __m512i sum[count][2];
#pragma GCC unroll 6
            for (std::size_t t = 0; t < count; ++t) sum[t][0] = sum[t][1] = _mm512_set1_epi32(x.offsets[t * groups + g]);
            for (std::size_t j = g * group / 4; j < (g + 1) * group / 4; ++j) {
                const __m512i w0 = _mm512_load_si512(panel.codes[j]), w1 = _mm512_load_si512(panel.codes[j] + 16);
#pragma GCC unroll 6
                for (std::size_t t = 0; t < count; ++t) {
                    const __m512i activation = quad_of(x.codes + t * x.cols + 4 * j);
                    add_products(sum[t][0], w0, activation);
                    add_products(sum[t][1], w1, activation);
                }
            }
            const std::size_t block = g * group / activation_block;
#pragma GCC unroll 6
            for (std::size_t t = 0; t < count; ++t) {
                const __m512 x_scale = _mm512_set1_ps(x.scales[t * blocks + block]);
                const __m512 products[2] = {_mm512_mul_ps(_mm512_cvtepi32_ps(sum[t][0]), x_scale),
                                            _mm512_mul_ps(_mm512_cvtepi32_ps(sum[t][1]), x_scale)};
                add_scaled(total[t], products, panel, g, x.sums[t * blocks + block]);
            }
        }
#pragma GCC unroll 6
        for (std::size_t t = 0; t < count; ++t) {
            _mm512_storeu_ps(y + t * y_stride, total[t][0]);
            _mm512_storeu_ps(y + t * y_stride + 16, total[t][1]);
        }
    }
};

}  // namespace detail::avx512

#endif

}  // namespace adainfer::inline v0
