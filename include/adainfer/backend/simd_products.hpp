#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>

#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/simd_loops.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/bfloat_product.hpp"
#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/code_panel.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/float_row.hpp"
#include "adainfer/kernels/int8_row.hpp"
#include "adainfer/kernels/int8_row_avx2.hpp"
#include "adainfer/kernels/int8_row_neon.hpp"
#include "adainfer/kernels/lane_dot.hpp"
#include "adainfer/kernels/lane_dot_avx2.hpp"
#include "adainfer/kernels/lane_dot_neon.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/lane_weight_neon.hpp"
#include "adainfer/kernels/pack_bfloat.hpp"
#include "adainfer/kernels/pack_panel.hpp"
#include "adainfer/kernels/pack_words.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/part_ahead.hpp"
#include "adainfer/kernels/quantize_avx512.hpp"
#include "adainfer/kernels/quantize_neon.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/kernels/word_panel.hpp"
#include "adainfer/kernels/word_panel_avx512.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

// The products of SimdBackend, spread over its threads: y [tokens, rows] = x [tokens, cols] times the weight transposed.

namespace adainfer::inline v0::detail::simd {

/// A weight as a product reads it: in its file, and repacked where it was.
struct Operand {
    const WeightView& view;
    const LaneWeight* lanes = nullptr;
};

// ---- a row of activations ------------------------------------------------------------------------------------------------

/// Which rows of a weight: all of them in order, or those that are named.
struct RowChoice {
    std::size_t count = 0;
    const TokenId* rows = nullptr;  ///< [count]; null: all

    [[nodiscard]] std::size_t operator[](std::size_t i) const noexcept {
        return rows == nullptr ? i : static_cast<std::size_t>(rows[i]);
    }
};

/// Every row of x as a product wants it: `prepare(rows, t)` makes row t, on all threads. Rows: has room for them after
/// resize(tokens, cols, format...). The calling thread's until its next call.
template <class Rows, class Prepare, class... Format>
[[nodiscard]] const Rows& prepared_rows(ThreadPool& pool, MatrixView<const float> x, Prepare&& prepare, const Format&... format) {
    thread_local Rows own;
    Rows& rows = own;  // of this thread, read by all
    rows.resize(x.rows(), x.cols(), format...);
    pool.parallel_for(x.rows(), 4, [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) prepare(rows, t);
    });
    return rows;
}

/// out[i] = row chosen[i] of the weight . x, in float.
template <CpuLevel level>
void float_rows(ThreadPool& pool, const WeightView& weight, const RowChoice& chosen, std::span<const float> x, float* out) {
    pool.parallel_for(chosen.count, 16, [&](std::size_t begin, std::size_t end) {
#if ADAINFER_X86
        if constexpr (level == CpuLevel::Avx512 || level == CpuLevel::Avx2) {
            using Kernel = std::conditional_t<level == CpuLevel::Avx512, FloatRowsAvx512, FloatRowsAvx2>;
            auto [at_once, fetch] = float_row_reading(weight.row_bytes());
            if (chosen.rows != nullptr) fetch.ahead = 0;
            for (std::size_t i = begin; i < end; i += at_once) {
                const std::byte* rows[most_float_rows];
                const std::size_t count = (std::min)(at_once, end - i);
                for (std::size_t r = 0; r < count; ++r) rows[r] = weight.row(chosen[i + r]);
                float_row_dots<Kernel>(weight.dtype, count, rows, weight.cols, x.data(), fetch, out + i);
            }
            return;
        }
#elif ADAINFER_ARM64
        if constexpr (level == CpuLevel::Neon) {
            const auto row_dot = neon::float_row_dot_of(weight.dtype);
            for (std::size_t i = begin; i < end; ++i) out[i] = row_dot(weight.row(chosen[i]), weight.cols, x.data());
            return;
        }
#endif
        struct Slot;
        float* const row = thread_scratch<Slot>(weight.cols).data();
        at_level<level>([&] {
            for (std::size_t i = begin; i < end; ++i) {
                dequantize::row_to_floats(weight.dtype, weight.row(chosen[i]), weight.cols, row);
                out[i] = dot(row, x.data(), weight.cols);
            }
        });
    });
}

#if ADAINFER_X86

/// The same as integers, of a quantised weight; the activations are rounded to 16 bits.
inline void code_rows(ThreadPool& pool, const WeightView& weight, const RowChoice& chosen, std::span<const float> x, float* out) {
    thread_local ActivationRow own;
    ActivationRow& codes = own;  // of this thread, read by all
    const CodeFormat format = code_format(weight.dtype);
    codes.assign(x, format.bias, avx512::quantize);
    pool.parallel_for(chosen.count, 16, [&](std::size_t begin, std::size_t end) {
        struct Slot;
        const std::size_t groups = weight.cols / format.group + 32;
        float* const factors = thread_scratch<Slot>(groups).data();
        const auto row_dot = avx512::row_dot_of(weight.dtype);
        for (std::size_t i = begin; i < end; ++i) out[i] = row_dot(weight.row(chosen[i]), weight.cols, codes, factors);
    });
}

/// Rows of activations rounded to 16 bits, so many columns under one scale.
[[nodiscard]] inline const avx2::ActivationWords& words_of(ThreadPool& pool, MatrixView<const float> x,
                                                           std::size_t columns = activation_block) {
    return prepared_rows<avx2::ActivationWords>(pool, x, [&](auto& words, std::size_t t) { words.assign(t, x.row(t), columns); });
}

/// code_rows() with AVX2.
inline void word_rows(ThreadPool& pool, const WeightView& weight, const RowChoice& chosen, std::span<const float> x, float* out) {
    const avx2::ActivationWords& words = words_of(pool, {x.data(), 1, x.size()});
    const auto row_dot = avx2::row_dot_of(weight.dtype);
    pool.parallel_for(chosen.count, 16, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) out[i] = row_dot(weight.row(chosen[i]), weight.cols, words.row(0));
    });
}

#endif

#if ADAINFER_ARM64

/// Rows of activations rounded to 16 bits, for products with weights of this dtype.
[[nodiscard]] inline const LaneActivations& signed_activations(ThreadPool& pool, DType dtype, MatrixView<const float> x) {
    return prepared_rows<LaneActivations>(pool, x, [&](auto& rows, std::size_t t) {
        rows.assign(t, x.row(t), neon::signed_format(dtype), neon::quantize);
    });
}

/// code_rows() with NEON.
inline void signed_rows(ThreadPool& pool, const WeightView& weight, const RowChoice& chosen, std::span<const float> x, float* out) {
    const LaneActivations& codes = signed_activations(pool, weight.dtype, {x.data(), 1, x.size()});
    const auto row_dot = neon::row_dot_of(weight.dtype);
    pool.parallel_for(chosen.count, 16, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) out[i] = row_dot(weight.row(chosen[i]), weight.cols, codes.row(0));
    });
}

#endif

/// out[i] = row chosen[i] of the weight . x.
template <CpuLevel level>
void rows_times(ThreadPool& pool, const WeightView& weight, const RowChoice& chosen, std::span<const float> x, float* out) {
#if ADAINFER_X86
    const bool quantised = is_quantised(weight.dtype);
    if constexpr (level == CpuLevel::Avx512) {
        if (quantised) return code_rows(pool, weight, chosen, x, out);
    } else if constexpr (level == CpuLevel::Avx2) {
        if (quantised) return word_rows(pool, weight, chosen, x, out);
    }
#elif ADAINFER_ARM64
    if constexpr (level == CpuLevel::Neon) {
        if (is_quantised(weight.dtype)) return signed_rows(pool, weight, chosen, x, out);
    }
#endif
    float_rows<level>(pool, weight, chosen, x, out);
}

// ---- many rows of activations --------------------------------------------------------------------------------------------

/// y = x times the weight, panel after panel of `lanes` weight rows, part after part of panel_depth columns. pack(part) makes what
/// multiplies some tokens with a part, at most `tokens` of them: called with the first, their number and out [tokens][lanes], it
/// adds the part's products to that. Beside each such step some of the part that comes next is fetched.
template <std::size_t lanes, std::size_t tokens, class Pack>
void for_panels(ThreadPool& pool, const Operand& operand, MatrixView<float> y, Pack&& pack) {
    const WeightView& weight = operand.view;
    const std::size_t steps = (y.rows() + tokens - 1) / tokens;
    const auto part = [&](std::size_t first, std::size_t column) {
        const std::size_t count = (std::min)(lanes, weight.rows - first), depth = (std::min)(panel_depth, weight.cols - column);
        return WeightPart{weight, first, count, column, depth, operand.lanes};
    };
    pool.parallel_for((weight.rows + lanes - 1) / lanes, 1, [&](std::size_t begin, std::size_t end) {
        // Not y itself: where its rows are a power of two apart, the same few sets of the cache would have to hold them all.
        struct Slot;
        const std::span<float> sums = thread_scratch<Slot>(y.rows() * lanes);
        for (std::size_t first = begin * lanes; first < (std::min)(end * lanes, weight.rows); first += lanes) {
            std::ranges::fill(sums, 0.0F);
            for (std::size_t column = 0; column < weight.cols; column += panel_depth) {
                const auto times = pack(part(first, column));
                PartAhead<lanes> next;
                if (column + panel_depth < weight.cols) next = ahead_of<lanes>(part(first, column + panel_depth), steps);
                else if (first + lanes < weight.rows) next = ahead_of<lanes>(part(first + lanes, 0), steps);
                for_token_blocks(y.rows(), tokens, [&](std::size_t token, std::size_t count) {
                    next.fetch(next.each);
                    times(token, count, sums.data() + token * lanes);
                });
            }
            const auto copy = [&](auto width) {
                for (std::size_t t = 0; t < y.rows(); ++t) std::copy_n(sums.data() + t * lanes, width, y.row(t).data() + first);
            };
            if (weight.rows - first >= lanes) copy(std::integral_constant<std::size_t, lanes>{});
            else copy(weight.rows - first);
        }
    });
}

/// In float.
template <class Tile>
void float_panels(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y) {
    for_panels<Tile::lanes, Tile::tokens>(pool, weight, y, [&](const WeightPart& part) {
        struct Slot;
        float* const values = thread_scratch<Slot>(panel_depth * Tile::lanes).data();
        pack_panel_for<Tile>(part, values);
        const Panel panel{values, part.depth};
        return [&x, panel, column = part.begin](std::size_t token, std::size_t count, float* out) {
            run_tile<Tile>(count, panel, x.row(token).data() + column, x.stride(), out, Tile::lanes);
        };
    });
}

#if ADAINFER_X86

/// Of few tokens with a repacked weight: of each panel product(panel, stride, first, count, out), where out [tokens][32] is the
/// panel's product with `count` rows of activations from `first` on, at most most_lane_tokens, `stride` blocks apart.
template <class Product>
void for_lanes(ThreadPool& pool, const LaneWeight& weight, MatrixView<float> y, Product&& product) {
    constexpr std::size_t lanes = LaneWeight::lanes;
    pool.parallel_for(weight.panels(), 1, [&](std::size_t begin, std::size_t end) {
        std::array<float, most_lane_tokens * lanes> out;
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t width = (std::min)(lanes, weight.rows() - i * lanes);
            for (std::size_t first = 0, count = 0; first < y.rows(); first += count) {
                count = (std::min)(most_lane_tokens, y.rows() - first);
                product(weight.panel(i), weight.cols() / activation_block, first, count, out.data());
                for (std::size_t t = 0; t < count; ++t) {
                    std::copy_n(out.data() + t * lanes, width, y.row(first + t).data() + i * lanes);
                }
            }
        }
    });
}

/// Of few tokens with a repacked weight, the activations rounded to 16 bits.
inline void lane_products(ThreadPool& pool, const LaneWeight& weight, MatrixView<const float> x, MatrixView<float> y) {
    const auto& rows = prepared_rows<LaneActivations>(pool, x, [&](auto& activations, std::size_t t) {
        activations.assign(t, x.row(t), code_format(weight.dtype()), avx512::quantize);
    });
    for_lanes(pool, weight, y, [&](const std::byte* panel, std::size_t stride, std::size_t first, std::size_t count, float* out) {
        avx512::lane_product(weight.dtype(), panel, weight.cols(), rows.row(first), stride, count, out);
    });
}

/// The same with AVX2.
inline void word_lanes(ThreadPool& pool, const LaneWeight& weight, MatrixView<const float> x, MatrixView<float> y) {
    const avx2::ActivationWords& words = words_of(pool, x);
    for_lanes(pool, weight, y, [&](const std::byte* panel, std::size_t stride, std::size_t first, std::size_t count, float* out) {
        avx2::lane_product(weight.dtype(), panel, weight.cols(), words.row(first), stride, count, out);
    });
}

/// What multiplies with words at a level, so many columns of activations under one scale.
template <CpuLevel level, std::size_t columns>
using WordTile = std::conditional_t<level == CpuLevel::Avx512, avx512::WordTile<columns>, avx2::WordTile<columns>>;

/// Of many tokens as integers, the activations rounded to 16 bits. pack(part) is a part of the weight as Tile reads it.
template <class Tile, class Pack>
void words_times(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y, Pack&& pack) {
    const avx2::ActivationWords& words = words_of(pool, x, Tile::under_one_scale);
    for_panels<LaneWeight::lanes, Tile::tokens>(pool, weight, y, [&](const WeightPart& part) {
        const std::size_t block = part.begin / activation_block;
        return [&words, panel = pack(part), block](std::size_t token, std::size_t count, float* out) {
            run_tile<Tile>(count, panel, words.row(token) + block, words.blocks(), out, LaneWeight::lanes);
        };
    });
}

/// As integers where the weight is quantised, activations under the scales that a single token's have, else in float.
template <CpuLevel level>
void word_panels(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y) {
    using Floats = std::conditional_t<level == CpuLevel::Avx512, PanelTileAvx512, PanelTileAvx2>;
    using Words = WordTile<level, activation_block>;
    if (is_quantised(weight.view.dtype)) words_times<Words>(pool, weight, x, y, Words::pack);
    else float_panels<Floats>(pool, weight, x, y);
}

/// As integers with more activations under a scale, a weight of floats rounded to 12 bits. In float where that has columns that are
/// no multiple of 32.
template <CpuLevel level>
void rounded_panels(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y) {
    using Words = WordTile<level, panel_depth>;
    if (is_quantised(weight.view.dtype)) words_times<Words>(pool, weight, x, y, Words::pack);
    else if (x.cols() % activation_block != 0) word_panels<level>(pool, weight, x, y);
    else if constexpr (level == CpuLevel::Avx512) words_times<Words>(pool, weight, x, y, avx512::rounded_words);
    else words_times<Words>(pool, weight, x, y, avx2::rounded_words);
}

/// Rows of activations, or their rests, rounded to bfloat16.
template <class Tile, bool rests = false>
[[nodiscard]] const typename Tile::Rows& bfloat_rows(ThreadPool& pool, MatrixView<const float> x) {
    return prepared_rows<typename Tile::Rows>(
        pool, x, [&](auto& pairs, std::size_t t) { pairs.template assign<rests>(t, x.row(t)); });
}

/// With a weight rounded to bfloat16.
template <class Tile>
void bfloat_times(ThreadPool& pool, const Operand& weight, const typename Tile::Rows& x, MatrixView<float> y) {
    constexpr std::size_t lanes = avx512::BfloatPanel::lanes;
    pool.parallel_for((weight.view.rows + lanes - 1) / lanes, 1, [&](std::size_t begin, std::size_t end) {
        struct Slot;
        float* const scratch = thread_scratch<Slot>(avx512::bfloat_scratch<Tile>(y.rows(), weight.view.cols)).data();
        const std::size_t first = begin * lanes, count = (std::min)(end * lanes, weight.view.rows) - first;
        avx512::bfloat_product<Tile>(weight.view, weight.lanes, x, begin, end, y.cols(first, count), scratch);
    });
}

/// With weights and activations rounded to bfloat16. Tile: avx512::BfloatTile or avx512::AmxTile.
template <class Tile>
void bfloat_panels(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y) {
    bfloat_times<Tile>(pool, weight, bfloat_rows<Tile>(pool, x), y);
}

/// The same of a gated feed-forward network. What is between its products is rounded where it was computed, a few columns at a
/// time, and never written as floats.
template <class Tile>
void bfloat_gated(ThreadPool& pool, const GatedWeights<Operand>& weights, Activation activation, MatrixView<const float> x,
                  MatrixView<float> y) {
    constexpr std::size_t lanes = avx512::BfloatPanel::lanes;
    const auto& rows = bfloat_rows<Tile>(pool, x);
    const std::size_t tokens = x.rows(), width = weights.gate.view.rows;
    thread_local typename Tile::Rows own;
    typename Tile::Rows& inner = own;  // of this thread, written by all
    inner.resize(tokens, width);
    pool.parallel_for((width + lanes - 1) / lanes, 1, [&](std::size_t begin, std::size_t end) {
        struct Slot;
        const std::size_t together = avx512::bfloat_group<Tile>(tokens, x.cols());
        const std::size_t stride = together * lanes, size = tokens * stride;
        float* const gate = thread_scratch<Slot>(2 * size + avx512::bfloat_scratch<Tile>(tokens, x.cols())).data();
        float* const up = gate + size;
        for (std::size_t i = begin; i < end; i += together) {
            const std::size_t last = (std::min)(i + together, end), count = (std::min)(last * lanes, width) - i * lanes;
            const auto product = [&](const Operand& weight, float* out) {
                const MatrixView<float> columns(out, tokens, count, stride);
                avx512::bfloat_product<Tile>(weight.view, weight.lanes, rows, i, last, columns, up + size);
            };
            product(weights.gate, gate);
            product(weights.up, up);
            LevelLoops<CpuLevel::Avx512>::gate(activation, {up, 1, size}, {gate, 1, size});
            for (std::size_t t = 0; t < tokens; ++t) inner.assign(t, {gate + t * stride, count}, i * lanes);
        }
    });
    bfloat_times<Tile>(pool, weights.down, inner, y);
}

/// word_panels(), but weights that are floats themselves are multiplied in bfloat16, thrice, see avx512::split_product().
template <class Tile>
void split_panels(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y) {
    if (is_quantised(weight.view.dtype)) return word_panels<CpuLevel::Avx512>(pool, weight, x, y);
    const auto& nearest = bfloat_rows<Tile>(pool, x);
    const auto& rests = bfloat_rows<Tile, true>(pool, x);
    constexpr std::size_t lanes = avx512::BfloatPanel::lanes;
    pool.parallel_for((weight.view.rows + lanes - 1) / lanes, 1, [&](std::size_t begin, std::size_t end) {
        struct Slot;
        float* const scratch = thread_scratch<Slot>(y.rows() * lanes).data();
        avx512::split_product<Tile>(weight.view, nearest, rests, begin, end, y, scratch);
    });
}

/// Of integers with a quantised weight, the activations rounded to 8 bits.
inline void code_panels(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y) {
    const CodeFormat format = code_format(weight.view.dtype);
    const auto& codes = prepared_rows<ActivationCodes>(
        pool, x, [&](auto& rows, std::size_t t) { rows.assign(t, x.row(t), avx512::quantize); }, format);
    using Tile = avx512::CodeTile;
    for_panels<LaneWeight::lanes, Tile::tokens>(pool, weight, y, [&](const WeightPart& part) {
        return [&codes, panel = Tile::pack(part), column = part.begin](std::size_t token, std::size_t count, float* out) {
            const avx512::CodedTokens from(codes, token, column);
            run_tile<Tile>(count, panel, &from, 0, out, LaneWeight::lanes);
        };
    });
}

#endif

#if ADAINFER_ARM64

/// lane_products() with NEON.
inline void signed_lanes(ThreadPool& pool, const LaneWeight& weight, MatrixView<const float> x, MatrixView<float> y) {
    const LaneActivations& rows = signed_activations(pool, weight.dtype(), x);
    const std::size_t blocks = weight.cols() / activation_block;
    pool.parallel_for(weight.panels(), 1, [&](std::size_t begin, std::size_t end) {
        struct Slot;
        float* const out = thread_scratch<Slot>(x.rows() * LaneWeight::lanes).data();
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t first = i * LaneWeight::lanes, count = (std::min)(LaneWeight::lanes, weight.rows() - first);
            std::fill_n(out, x.rows() * LaneWeight::lanes, 0.0F);
            neon::lane_products(weight.dtype(), weight.panel(i), blocks, rows.row(0), blocks, x.rows(), out, LaneWeight::lanes);
            for (std::size_t t = 0; t < x.rows(); ++t) std::copy_n(out + t * LaneWeight::lanes, count, y.row(t).data() + first);
        }
    });
}

/// Of many tokens with NEON: of integers where the weight is quantised, the activations rounded to 16 bits.
inline void signed_panels(ThreadPool& pool, const Operand& weight, MatrixView<const float> x, MatrixView<float> y) {
    if (!is_quantised(weight.view.dtype)) return float_panels<PanelTileNeon>(pool, weight, x, y);
    const LaneActivations& rows = signed_activations(pool, weight.view.dtype, x);
    const std::size_t blocks = x.cols() / activation_block;
    constexpr std::size_t tokens = 4 * most_lane_tokens;  // so that few steps are of less than most_lane_tokens
    for_panels<LaneWeight::lanes, tokens>(pool, weight, y, [&](const WeightPart& part) {
        const LaneActivations::Block* const first = rows.row(0) + part.begin / activation_block;
        const std::size_t pieces = part.depth / activation_block;
        return [=, dtype = part.weight.dtype, panel = LaneBlocks<neon::turn_rows>(part)](std::size_t token, std::size_t count,
                                                                                       float* out) {
            neon::lane_products(dtype, panel.get(), pieces, first + token * blocks, blocks, count, out, LaneWeight::lanes);
        };
    });
}

#endif

}  // namespace adainfer::inline v0::detail::simd
