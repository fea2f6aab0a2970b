#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/weight_view.hpp"

// What a panel is packed from: some columns of some rows, of the file or repacked.

namespace adainfer::inline v0::detail {

/// Columns [begin, begin + depth) of the `count` rows from `first` on; begin is a multiple of the dtype's block. Where there are
/// `lanes`, the same weight repacked, they are read instead, and `first` is a multiple of LaneWeight::lanes.
struct WeightPart {
    const WeightView& weight;
    std::size_t first, count, begin, depth;
    const LaneWeight* lanes = nullptr;

    /// Where those columns of row `i` begin; rows past the last repeat it.
    [[nodiscard]] const std::byte* row(std::size_t i) const noexcept {
        const auto block = info(weight.dtype);
        return weight.row(first + (std::min)(i, count - 1)) + begin / block.block_size * block.block_bytes;
    }

    /// Where those columns of the repacked weight begin.
    [[nodiscard]] const std::byte* blocks() const noexcept {
        const LaneLayout layout = lane_layout(weight.dtype);
        return lanes->panel(first / LaneWeight::lanes) + begin / layout.columns * layout.bytes;
    }
};

/// A part of 32 rows of a quantised weight, at most panel_depth columns, in the order of lane_layout.hpp: as it is repacked, or
/// turned for this once.
template <TurnRows turn>
class LaneBlocks {
  public:
    explicit LaneBlocks(const WeightPart& part) noexcept : blocks_(room_) {
        if (part.lanes != nullptr) {
            blocks_ = part.blocks();
            return;
        }
        const std::byte* rows[LaneWeight::lanes];
        for (std::size_t r = 0; r < LaneWeight::lanes; ++r) rows[r] = part.row(r);
        turn(part.weight.dtype, rows, part.depth, room_);
    }
    LaneBlocks(const LaneBlocks&) = delete;
    LaneBlocks& operator=(const LaneBlocks&) = delete;

    [[nodiscard]] const std::byte* get() const noexcept { return blocks_; }

  private:
    alignas(64) std::byte room_[panel_depth / 32 * lane_layout(DType::Q8_0).bytes];  // no format takes more
    const std::byte* blocks_;
};

#if ADAINFER_X86

namespace avx512 {

using LaneBlocks = detail::LaneBlocks<turn_rows>;

/// Sixteen of the 32 rows: what is packed from them.
template <DType dtype>
struct LaneQuads {
    static constexpr LaneLayout layout = lane_layout(dtype);
    const std::byte* block;
    std::size_t half;

    LaneQuads(const std::byte* blocks, std::size_t which) noexcept : block(blocks), half(which) {}

    /// Of the first `groups` groups; minima only where the format has them.
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void scales(std::size_t groups, __m512i (&scales)[16],
                                                               __m512i (&minima)[16]) const noexcept {
        constexpr std::size_t in_piece = 32 / code_format(dtype).group, in_block = in_piece * layout.columns / 32;
        for (std::size_t g = 0; g < groups; ++g) {
            const std::byte* const head = block + g / in_block * layout.bytes;
            const std::byte* const piece = block + layout.piece_at(g / in_piece);
            scales[g] = _mm512_castps_si512(scales_at<dtype>(head, piece, g % in_piece, half));
            if constexpr (code_format(dtype).has_minimum) minima[g] = _mm512_castps_si512(minima_at<dtype>(head, piece, half));
        }
    }

    /// Columns 64 step to 64 step + 63, four in a vector; without `whole` there are 32.
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void codes(std::size_t step, bool whole, __m512i (&quads)[16]) const noexcept {
        codes32(2 * step, quads);
        if (whole) codes32(2 * step + 1, quads + 8);
    }

  private:
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void codes32(std::size_t i, __m512i* quads) const noexcept {
        const std::byte* const at = block + layout.piece_at(i) + layout.codes + half * layout.half;
        quads_at<dtype, 0>(at, quads[quad_index(dtype, 0, 0)], quads[quad_index(dtype, 0, 1)]);
        quads_at<dtype, 1>(at, quads[quad_index(dtype, 1, 0)], quads[quad_index(dtype, 1, 1)]);
        quads_at<dtype, 2>(at, quads[quad_index(dtype, 2, 0)], quads[quad_index(dtype, 2, 1)]);
        quads_at<dtype, 3>(at, quads[quad_index(dtype, 3, 0)], quads[quad_index(dtype, 3, 1)]);
    }
};

}  // namespace avx512

#endif

}  // namespace adainfer::inline v0::detail
