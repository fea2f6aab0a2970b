#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/cpu.hpp"

// bfloat_tile.hpp's product on the matrix unit (Intel SDM, TDPBF16PS). A tile register holds 16 rows of 64 bytes: 16 tokens with
// 16 pairs of columns each, 16 pairs of columns with 16 weight rows each, or the sums of 16 tokens with 16 weight rows. Subnormal
// numbers count as zero, as with AVX512-BF16.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// 32 tokens at a time. Bound: four products of 16 cycles for four tiles loaded, two of which come from the second cache: the
/// activations. They are asked not to stay in the first (TILELOADDT1), so that the panel does; with both from the second a product
/// takes half as long again.
struct AmxTile {
    using Rows = BfloatRows<16>;
    static constexpr std::size_t tokens = 32, columns = BfloatPanel::most_columns;  ///< at most
    static constexpr std::size_t cached = std::size_t{1} << 20U;  ///< bytes of activations: half of the L2 of all CPUs with AMX

    /// f(first, count) for blocks of tokens that Unit::run() takes; `first` begins a tile.
    template <class F>
    static void for_blocks(std::size_t all, F&& f) {
        for (std::size_t first = 0; first < all; first += tokens) f(first, (std::min)(tokens, all - first));
    }

    /// The calling thread's tiles, which have a shape while this lives.
    class Unit {
      public:
        Unit() = default;
        Unit(const Unit&) = delete;
        Unit& operator=(const Unit&) = delete;
        [[ADAINFER_TARGET_AMX]] ~Unit() { _tile_release(); }

        /// As BfloatTile::run() for `count` tokens, 1 to 32. Panels are read in whole steps of 16 pairs.
        [[ADAINFER_TARGET_AMX]] void run(std::size_t count, const BfloatTask& task, const std::uint32_t* x, std::size_t x_stride,
                                         float* y, std::size_t y_stride) noexcept {
            constexpr std::size_t lanes = BfloatPanel::lanes, row = lanes * sizeof(float);
            if (count != shaped_for_) shape(count);
            const bool more = count > 16;
            const std::size_t y_row = y_stride * sizeof(float);
            // GCC 12 does not know that these instructions read memory: what was stored has to be there before them.
            asm volatile("" ::: "memory");
            if (task.sums == nullptr) {
                _tile_zero(0);
                _tile_zero(1);
            } else {
                _tile_loadd(0, task.sums, row);
                _tile_loadd(1, task.sums + 16, row);
            }
            if (more && task.sums == nullptr) {
                _tile_zero(2);
                _tile_zero(3);
            } else if (more) {
                _tile_loadd(2, task.sums + 16 * lanes, row);
                _tile_loadd(3, task.sums + 16 * lanes + 16, row);
            }
            const std::uint32_t* panel = task.panel[0];
            std::size_t asked = 0;  // rows of y
            for (const std::uint32_t* const end = task.panel[task.pairs]; panel < end; panel += 16 * lanes, x += 256) {
                if (task.ahead != nullptr) task.ahead->fetch(task.ahead->each);
                for (const std::size_t last = (std::min)(asked + 2, count); asked < last; ++asked) own(y + asked * y_stride);
                _tile_stream_loadd(4, x, 64);
                _tile_loadd(6, panel, row);
                _tile_loadd(7, panel + 16, row);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                if (!more) continue;
                _tile_stream_loadd(5, x + x_stride, 64);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, y, y_row);
            _tile_stored(1, y + 16, y_row);
            if (!more) return;
            _tile_stored(2, y + 16 * y_stride, y_row);
            _tile_stored(3, y + 16 * y_stride + 16, y_row);
        }

      private:
        /// Tiles 0 to 3: sums, 4 and 5: activations, 6 and 7: weights.
        [[ADAINFER_TARGET_AMX]] void shape(std::size_t count) noexcept {
            struct alignas(64) Shape {  // as LDTILECFG reads it
                std::uint8_t palette = 1, start_row = 0, unused[14] = {};
                std::uint16_t row_bytes[16] = {};
                std::uint8_t rows[16] = {};
            } of;
            const auto set = [&](std::size_t tile, std::size_t rows) {
                of.rows[tile] = static_cast<std::uint8_t>(rows);
                of.row_bytes[tile] = rows == 0 ? 0 : 64;
            };
            const std::size_t first = (std::min)(count, std::size_t{16});
            for (const std::size_t tile : {0U, 1U, 4U}) set(tile, first);
            for (const std::size_t tile : {2U, 3U, 5U}) set(tile, count - first);
            for (const std::size_t tile : {6U, 7U}) set(tile, 16);
            asm volatile("" : : "r"(&of) : "memory");  // GCC 12 believes that only eight bytes of it are read
            _tile_loadconfig(&of);
            shaped_for_ = count;
        }

        /// The lines of a row of results: written without having been asked for, they hold up all stores behind them.
        static void own(float* row) noexcept {
            __builtin_prefetch(row, 1, 3);
            __builtin_prefetch(row + 16, 1, 3);
        }

        std::size_t shaped_for_ = 0;
    };
};

}  // namespace adainfer::inline v0::detail::avx512

#endif
