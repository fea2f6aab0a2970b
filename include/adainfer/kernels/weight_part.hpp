#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/turned_rows.hpp"
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
};

#if ADAINFER_X86

namespace avx512 {

/// Sixteen rows of a part of a quantised weight, from the file's bytes: what is packed from them.
template <DType dtype>
struct RowQuads {
    const std::byte* rows[16];

    RowQuads(const WeightPart& part, std::size_t half) noexcept {
        for (std::size_t r = 0; r < 16; ++r) rows[r] = part.row(16 * half + r);
    }
    /// Of the first `groups` groups; minima only where the format has them.
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void scales(std::size_t groups, __m512i (&scales)[16],
                                                               __m512i (&minima)[16]) const noexcept {
        turned_scales<dtype>(rows, groups, scales, minima);
    }
    /// Columns 64 step to 64 step + 63, four in a vector; without `whole` there are 32.
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void codes(std::size_t step, bool whole, __m512i (&quads)[16]) const noexcept {
        turned_codes<dtype>(rows, step, whole, quads);
    }
};

/// The same from a repacked weight, where they are turned already.
template <DType dtype>
struct LaneQuads {
    static constexpr LaneLayout layout = lane_layout(dtype);
    const std::byte* block;
    std::size_t half;

    LaneQuads(const WeightPart& part, std::size_t which) noexcept
        : block(part.lanes->panel(part.first / LaneWeight::lanes) + part.begin / layout.columns * layout.bytes), half(which) {}

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

    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void codes(std::size_t step, bool whole, __m512i (&quads)[16]) const noexcept {
        codes32(2 * step, quads);
        if (whole) codes32(2 * step + 1, quads + 8);
    }

  private:
    [[ADAINFER_TARGET_AVX512, gnu::always_inline]] void codes32(std::size_t i, __m512i* quads) const noexcept {
        const std::byte* const at = block + layout.piece_at(i) + layout.codes + half * layout.half;
        quads_at<dtype, 0>(at, quads[0], quads[4]);
        quads_at<dtype, 1>(at, quads[1], quads[5]);
        quads_at<dtype, 2>(at, quads[2], quads[6]);
        quads_at<dtype, 3>(at, quads[3], quads[7]);
    }
};

/// f.operator()<Quads>() with what a part of a quantised weight is read from.
template <DType dtype, class F>
void with_quads(const WeightPart& part, F&& f) {
    if (part.lanes == nullptr) f.template operator()<RowQuads<dtype>>();
    else f.template operator()<LaneQuads<dtype>>();
}

}  // namespace avx512

#endif

}  // namespace adainfer::inline v0::detail
