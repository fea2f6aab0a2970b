#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/pack_bfloat.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/part_ahead.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// Panels that are multiplied in turn with the same columns of the activations: four where the activations do not stay in the
/// second cache, so that they come from farther away a quarter as often; else one, so that a weight is read in order.
template <class Tile>
[[nodiscard]] std::size_t bfloat_group(std::size_t tokens, std::size_t cols) noexcept {
    return tokens * cols * sizeof(std::uint16_t) > Tile::cached ? 4 : 1;
}

/// Floats of scratch that bfloat_product() needs.
template <class Tile>
[[nodiscard]] std::size_t bfloat_scratch(std::size_t tokens, std::size_t cols) noexcept {
    return bfloat_group<Tile>(tokens, cols) * BfloatPanel::lanes * tokens;
}

/// Columns of a panel: all of them where the tile takes as many, else whole blocks of every format.
template <class Tile>
[[nodiscard]] constexpr std::size_t bfloat_depth(std::size_t cols) noexcept {
    return cols <= Tile::columns ? cols : Tile::columns / panel_depth * panel_depth;
}

/// y [tokens][32 (end - begin)] = x times rows 32 begin to 32 end - 1 of the weight, or fewer where it has no more. If not null,
/// `repacked` is the same weight in lanes and read instead of it. Tile: BfloatTile or AmxTile.
template <class Tile>
void bfloat_product(const WeightView& weight, const LaneWeight* repacked, const typename Tile::Rows& x, std::size_t begin,
                    std::size_t end, MatrixView<float> y, float* scratch) noexcept {
    constexpr std::size_t lanes = BfloatPanel::lanes;
    const std::size_t depth = bfloat_depth<Tile>(weight.cols), rows = weight.rows - begin * lanes, tokens = y.rows();
    const std::size_t together = bfloat_group<Tile>(tokens, weight.cols);
    const auto part = [&](std::size_t i, std::size_t column) {
        const std::size_t first = i * lanes, count = (std::min)(lanes, weight.rows - first);
        return WeightPart{weight, first, count, column, (std::min)(depth, weight.cols - column), repacked};
    };
    BfloatPanel panel;
    typename Tile::Unit unit;
    for (std::size_t group = begin; group < end; group += together) {
        const std::size_t panels = (std::min)(together, end - group);
        for (std::size_t column = 0; column < weight.cols; column += depth) {
            for (std::size_t i = 0; i < panels; ++i) {
                const WeightPart packed = part(group + i, column);
                // Beside packing 16 rows and again 16, and beside each block of tokens.
                const std::size_t steps = (packed.depth + 31) / 32 * (2 + (tokens + Tile::tokens - 1) / Tile::tokens);
                BfloatAhead next;  // what is packed after this
                if (i + 1 < panels) next = ahead_of<lanes>(part(group + i + 1, column), steps);
                else if (column + depth < weight.cols) next = ahead_of<lanes>(part(group, column + depth), steps);
                else if ((group + panels) * lanes < weight.rows) next = ahead_of<lanes>(part(group + panels, 0), steps);
                pack_bfloat(packed, panel, &next);
                const std::size_t first = (group + i - begin) * lanes, count = (std::min)(lanes, rows - first);
                const bool last = column + depth >= weight.cols, direct = last && count == lanes;
                float* const sums = scratch + i * tokens * lanes;
                Tile::for_blocks(tokens, [&](std::size_t token, std::size_t some) {
                    float* const own = sums + token * lanes;
                    const BfloatTask task{panel.values, panel.pairs, column == 0 ? nullptr : own, &next};
                    const std::uint32_t* const from = x.row(token, column / 2);
                    if (direct) unit.run(some, task, from, x.stride(), y.row(token).data() + first, y.stride());
                    else unit.run(some, task, from, x.stride(), own, lanes);
                });
                if (!last || direct) continue;
                for (std::size_t t = 0; t < tokens; ++t) std::copy_n(sums + t * lanes, count, y.row(t).data() + first);
            }
        }
    }
}

/// The same nearly as exact as in float, for a weight of floats: with numbers split into the nearest bfloat16 and the rest of them,
/// h + r, the sum of h h', h r' and r h'. What is left out, r r', is 2^-16 of a product at most, and so is what rounding the rests
/// adds. Scratch: [tokens][32] floats.
template <class Tile>
void split_product(const WeightView& weight, const typename Tile::Rows& x, const typename Tile::Rows& rests, std::size_t begin,
                   std::size_t end, MatrixView<float> y, float* scratch) noexcept {
    constexpr std::size_t lanes = BfloatPanel::lanes;
    const std::size_t depth = bfloat_depth<Tile>(weight.cols);
    BfloatPanel nearest, rest;
    typename Tile::Unit unit;
    for (std::size_t first = begin * lanes; first < (std::min)(end * lanes, weight.rows); first += lanes) {
        const std::size_t count = (std::min)(lanes, weight.rows - first);
        for (std::size_t column = 0; column < weight.cols; column += depth) {
            const WeightPart part{weight, first, count, column, (std::min)(depth, weight.cols - column), nullptr};
            pack_bfloat(part, nearest);
            const bool has_rest = leaves_rests(weight.dtype);
            if (has_rest) pack_rests(part, rest);
            Tile::for_blocks(y.rows(), [&](std::size_t token, std::size_t some) {
                float* const own = scratch + token * lanes;
                const std::uint32_t* const from = x.row(token, column / 2);
                const std::uint32_t* const rest_from = rests.row(token, column / 2);
                unit.run(some, {nearest.values, nearest.pairs, column == 0 ? nullptr : own}, rest_from, rests.stride(), own, lanes);
                if (has_rest) unit.run(some, {rest.values, rest.pairs, own}, from, x.stride(), own, lanes);
                unit.run(some, {nearest.values, nearest.pairs, own}, from, x.stride(), own, lanes);
            });
        }
        for (std::size_t t = 0; t < y.rows(); ++t) std::copy_n(scratch + t * lanes, count, y.row(t).data() + first);
    }
}

}  // namespace adainfer::inline v0::detail::avx512

#endif
