#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_memory.hpp"
#include "adainfer/kernels/touch_rows.hpp"
#include "adainfer/kernels/turned_rows.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/weight_view.hpp"

// Making the panels of lane_layout.hpp, and who owns them.

namespace adainfer::inline v0 {

/// A quantised weight in panels of 32 rows. Copies share the bytes.
class LaneWeight {
  public:
    static constexpr std::size_t lanes = detail::LaneLayout::lanes;

    LaneWeight() = default;

    /// Room for a weight of this shape, to be filled by fill_panel(). Throws std::bad_alloc. Preconditions: the dtype has a code
    /// format, rows and cols are not 0, cols is a multiple of its block.
    LaneWeight(DType dtype, std::size_t rows, std::size_t cols, LaneMemory& memory)
        : dtype_(dtype), rows_(rows), cols_(cols),
          panel_bytes_(cols / info(dtype).block_size * detail::lane_layout(dtype).bytes), bytes_(memory.take(bytes())) {}

    [[nodiscard]] bool empty() const noexcept { return bytes_ == nullptr; }
    [[nodiscard]] DType dtype() const noexcept { return dtype_; }
    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t cols() const noexcept { return cols_; }
    [[nodiscard]] std::size_t panels() const noexcept { return (rows_ + lanes - 1) / lanes; }
    [[nodiscard]] std::size_t bytes() const noexcept { return panels() * panel_bytes_; }

    /// The blocks of rows [lanes * i, lanes * (i + 1)); the weight's last row stands for those that are missing after it.
    [[nodiscard]] const std::byte* panel(std::size_t i) const noexcept { return bytes_.get() + i * panel_bytes_; }
    [[nodiscard]] std::byte* panel(std::size_t i) noexcept { return bytes_.get() + i * panel_bytes_; }

  private:
    DType dtype_ = DType::F32;
    std::size_t rows_ = 0, cols_ = 0, panel_bytes_ = 0;
    std::shared_ptr<std::byte> bytes_;
};

namespace detail {

/// The scales (and minima) of one block of one row, to lane `lane` of a panel's block.
template <DType dtype>
inline void turn_block_scales(const std::byte* block, std::size_t lane, std::byte* out) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    if constexpr (layout.columns == 32) {
        std::memcpy(out + 2 * lane, block, 2);
        if constexpr (code_format(dtype).has_minimum) std::memcpy(out + layout.minima + 2 * lane, block + 2, 2);
    } else if constexpr (dtype == DType::Q6_K) {
        std::memcpy(out + 2 * lane, block + 208, 2);
        for (std::size_t g = 0; g < 16; ++g) {
            out[layout.piece_at(g / 2) + g % 2 * LaneLayout::lanes + lane] = block[192 + g];
        }
    } else {
        std::memcpy(out + 2 * lane, block, 2);
        std::memcpy(out + LaneLayout::vector + 2 * lane, block + 2, 2);
        std::uint64_t scales, minima;
        k_scale_bytes(block, scales, minima);
        for (std::size_t g = 0; g < 8; ++g) {
            std::byte* const piece = out + layout.piece_at(g);
            piece[lane] = static_cast<std::byte>(scales >> (8 * g) & 255U);
            piece[layout.minima + lane] = static_cast<std::byte>(minima >> (8 * g) & 255U);
        }
    }
}

/// Blocks of a panel from the same `cols` columns of 32 rows, for a dtype that has a code format.
using TurnRows = void (*)(DType dtype, const std::byte* const (&rows)[LaneLayout::lanes], std::size_t cols,
                          std::byte* out) noexcept;

/// Fills panel `i` of lanes made for this weight. Panels can be filled by several threads.
template <TurnRows turn>
void fill_panel(const WeightView& weight, LaneWeight& out, std::size_t i) noexcept {
    const std::size_t first = i * LaneWeight::lanes, count = (std::min)(LaneWeight::lanes, weight.rows - first);
    const std::byte* rows[LaneWeight::lanes];
    for (std::size_t r = 0; r < LaneWeight::lanes; ++r) rows[r] = weight.row(first + (std::min)(r, count - 1));
    touch_rows(weight, first, count);
    turn(weight.dtype, rows, weight.cols, out.panel(i));
}

#if ADAINFER_X86

namespace avx512 {

/// Packs 32 columns of 16 rows: quads[j] holds columns 4 j to 4 j + 3 of every row.
template <DType dtype>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void store_quads(const __m512i* quads, std::byte* out) noexcept {
    if constexpr (dtype == DType::Q8_0) {
#pragma GCC unroll 8
        for (std::size_t j = 0; j < 8; ++j) _mm512_store_si512(out + 64 * j, quads[j]);
    } else {
        const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < 4; ++j) {
            const __m512i high = _mm512_slli_epi16(_mm512_and_si512(quads[j + 4], low), 4);
            _mm512_store_si512(out + 64 * j, _mm512_or_si512(_mm512_and_si512(quads[j], low), high));
        }
        constexpr std::size_t high = lane_layout(dtype).high;
        if constexpr (high != 0) {
            constexpr unsigned each = 8 / high, width = static_cast<unsigned>(high);  // quads a vector, bits a quad
#pragma GCC unroll 2
            for (std::size_t part = 0; part < high; ++part) {
                __m512i bits = _mm512_setzero_si512();
#pragma GCC unroll 8
                for (unsigned i = 0; i < each; ++i) {
                    const __m512i mask = _mm512_set1_epi8(static_cast<char>((1U << width) - 1U));
                    const __m512i field = _mm512_and_si512(_mm512_srli_epi16(quads[part * each + i], 4), mask);
                    // Not slli: without optimisation that is a macro, and a count that is no constant is a warning there.
                    const __m128i count = _mm_cvtsi32_si128(static_cast<int>(width * i));
                    bits = _mm512_or_si512(bits, _mm512_sll_epi16(field, count));
                }
                _mm512_store_si512(out + 64 * (4 + part), bits);
            }
        }
    }
}

/// TurnRows of one dtype.
template <DType dtype>
[[ADAINFER_TARGET_AVX512]] inline void turn_rows(const std::byte* const (&rows)[32], std::size_t cols, std::byte* out) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    for (std::size_t half = 0; half < 2; ++half) {
        const std::byte* some[16];
        std::copy_n(rows + 16 * half, 16, some);
        for (std::size_t b = 0; b < cols / layout.columns; ++b) {
            for (std::size_t r = 0; r < 16; ++r) {
                turn_block_scales<dtype>(some[r] + b * info(dtype).block_bytes, 16 * half + r, out + b * layout.bytes);
            }
        }
        const auto codes = [&](std::size_t i) { return out + layout.piece_at(i) + layout.codes + half * layout.half; };
        for (std::size_t step = 0; 64 * step < cols; ++step) {
            const bool whole = 64 * step + 64 <= cols;
            __m512i v[16];
            turned_codes<dtype>(some, step, whole, v);
            store_quads<dtype>(v, codes(2 * step));
            if (whole) store_quads<dtype>(v + 8, codes(2 * step + 1));
        }
    }
}

/// A TurnRows.
inline void turn_rows(DType dtype, const std::byte* const (&rows)[LaneLayout::lanes], std::size_t cols, std::byte* out) noexcept {
    with_codes(dtype, [&]<DType type>() { turn_rows<type>(rows, cols, out); });
}

}  // namespace avx512

#endif

}  // namespace detail

}  // namespace adainfer::inline v0
