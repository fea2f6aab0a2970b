#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "adainfer/core/line_vector.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/part_ahead.hpp"

// panel_tile.hpp's product in bfloat16: weights and activations are rounded to the upper half of a float, eight significant bits
// (to nearest, ties to even: off by 2^-8 of themselves at most), and multiplied in pairs of columns; sums are floats. A product is
// off by 2^-7 of itself at most, and the sum of many by far less, since the errors have no common sign.
//
// What the instructions do (Intel SDM, VDPBF16PS and VCVTNE2PS2BF16): NaN and infinity pass through, numbers below 2^-126 count
// as zero, and a finite number of 2^128 (1 - 2^-9) or more becomes infinite.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// What the nearest bfloat16 leaves of numbers, which is less than 2^-8 of them; 0 where that is not finite.
[[ADAINFER_TARGET_BFLOAT16, gnu::always_inline]] inline __m512 bfloat_rests(__m512 x) noexcept {
    const auto nearest = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
    const __m512 wide = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(nearest), 16));
    constexpr int not_finite = 0x99;  // both NaNs, both infinities
    return _mm512_maskz_sub_ps(_knot_mask16(_mm512_fpclass_ps_mask(wide, not_finite)), x, wide);
}

/// Elements i to i + 31 of a row of activations, or their rests, as pairs of bfloat16: columns 2 p and 2 p + 1 in dword p, the
/// first of them in its lower half. What is missing is zero.
template <bool rests>
[[ADAINFER_TARGET_BFLOAT16, gnu::always_inline]] inline __m512i bfloat_pairs(std::span<const float> x, std::size_t i) noexcept {
    const std::size_t left = x.size() - i;
    __m512 low = _mm512_maskz_loadu_ps(first_lanes(left), x.data() + i);
    __m512 high = _mm512_maskz_loadu_ps(first_lanes(left > 16 ? left - 16 : 0), x.data() + i + 16);
    if constexpr (rests) {
        low = bfloat_rests(low);
        high = bfloat_rests(high);
    }
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

/// Rows of activations in bfloat_pairs(). `together` of them lie side by side, a line of 16 pairs each in turn: 1, one row after
/// the other; 16, as AMX reads them, tile after tile of 16 tokens and 16 pairs, so that a product reads memory in order.
template <std::size_t together>
class BfloatRows {
  public:
    /// Makes room for rows of `cols` elements.
    void resize(std::size_t tokens, std::size_t cols) {
        stride_ = (cols + 31) / 32 * line * together;
        if (together == 1) stride_ += line;  // so that a tile's rows do not meet in one set of the cache
        const std::size_t needed = (tokens + together - 1) / together * stride_;
        if (pairs_.size() < needed) pairs_.resize(needed);
    }

    /// Row `token` from a column on, which is a multiple of 32, = x, or the rests of x. Several threads may assign.
    template <bool rests = false>
    [[ADAINFER_TARGET_BFLOAT16]] void assign(std::size_t token, std::span<const float> x, std::size_t column = 0) noexcept {
        for (std::size_t i = 0; i < x.size(); i += 32) _mm512_store_si512(row(token, (column + i) / 2), bfloat_pairs<rests>(x, i));
    }

    /// Pair `pair` of row `token`; the next is beside it, but for the last of 16 where several rows lie together.
    [[nodiscard]] const std::uint32_t* row(std::size_t token, std::size_t pair) const noexcept {
        return pairs_.data() + token / together * stride_ + (pair / line * together + token % together) * line + pair % line;
    }
    [[nodiscard]] std::uint32_t* row(std::size_t token, std::size_t pair) noexcept {
        return const_cast<std::uint32_t*>(std::as_const(*this).row(token, pair));
    }
    [[nodiscard]] std::size_t stride() const noexcept { return stride_; }  ///< pairs from `together` rows to the next

  private:
    static constexpr std::size_t line = 16;  // pairs

    LineVector<std::uint32_t> pairs_;
    std::size_t stride_ = 0;
};

/// Some columns of 32 weight rows side by side.
struct BfloatPanel {
    static constexpr std::size_t lanes = 32, most_columns = 640;  ///< 40 KB, of an AMX machine's first cache of 48

    alignas(4096) std::uint32_t values[most_columns / 2][lanes];  ///< in as few pages as can be
    std::size_t pairs;  ///< of columns; up to a multiple of 16 there are zeros
};

using BfloatAhead = PartAhead<BfloatPanel::lanes>;

/// What a tile works with besides activations.
struct BfloatTask {
    const std::uint32_t (*panel)[BfloatPanel::lanes];  ///< [pairs][32], on a cache line
    std::size_t pairs;
    const float* sums = nullptr;  ///< [tokens][32], of the columns before; null: zeros
    /// If not null, some of it is fetched meanwhile. No copy: while one is read that was just written piece by piece, a core waits
    /// for all results stored before.
    BfloatAhead* ahead = nullptr;
};

/// y[token][32] = the sums so far + the panel times rows of activations; y may be where the sums are. Bound: 16 pairs of
/// multiply-adds an instruction, two of them for each broadcast of x.
struct BfloatTile {
    using Rows = BfloatRows<1>;
    static constexpr std::size_t tokens = 12, columns = 512;  ///< at most; a panel of so many stays in the first cache
    static constexpr std::size_t cached = std::size_t{1} << 19U;  ///< bytes of activations: half of the L2 of Zen 4 and 5

    /// f(first, count) for blocks of tokens that Unit::run() takes.
    template <class F>
    static void for_blocks(std::size_t all, F&& f) {
        for_token_blocks(all, tokens, f);
    }

    /// What a thread needs to have while it runs tiles: nothing but registers.
    struct Unit {
        void run(std::size_t count, const BfloatTask& task, const std::uint32_t* x, std::size_t x_stride, float* y,
                 std::size_t y_stride) noexcept {
            run_tile<BfloatTile>(count, task, x, x_stride, y, y_stride);
        }
    };

    template <std::size_t count>
    [[ADAINFER_TARGET_BFLOAT16]] static void run(const BfloatTask& task, const std::uint32_t* x, std::size_t x_stride, float* y,
                                                 std::size_t y_stride) noexcept {
        __m512 sum[count][2];
#pragma GCC unroll 12
        for (std::size_t t = 0; t < count; ++t) {
            sum[t][0] = task.sums == nullptr ? _mm512_setzero_ps() : _mm512_loadu_ps(task.sums + t * BfloatPanel::lanes);
            sum[t][1] = task.sums == nullptr ? _mm512_setzero_ps() : _mm512_loadu_ps(task.sums + t * BfloatPanel::lanes + 16);
        }
        // A line a pair, whatever `each` says (so many at once every 16 pairs cost Zen 5 up to a tenth of its speed); where there
        // is nothing to fetch, what is in the first cache already.
        const bool fetches = task.ahead != nullptr && task.ahead->first < task.ahead->end;
        const BfloatAhead here{reinterpret_cast<std::uintptr_t>(task.panel)}, &ahead = fetches ? *task.ahead : here;
        const std::size_t line = ahead.first;
        if (fetches) task.ahead->first += task.pairs;
        for (std::size_t p = 0; p < task.pairs; ++p) {
            _mm_prefetch(ahead.line(line + p), _MM_HINT_T1);
            const auto w0 = reinterpret_cast<__m512bh>(_mm512_load_si512(task.panel[p]));
            const auto w1 = reinterpret_cast<__m512bh>(_mm512_load_si512(task.panel[p] + 16));
#pragma GCC unroll 12
            for (std::size_t t = 0; t < count; ++t) {
                const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(x[t * x_stride + p])));
                sum[t][0] = _mm512_dpbf16_ps(sum[t][0], a, w0);
                sum[t][1] = _mm512_dpbf16_ps(sum[t][1], a, w1);
            }
        }
#pragma GCC unroll 12
        for (std::size_t t = 0; t < count; ++t) {
            _mm512_storeu_ps(y + t * y_stride, sum[t][0]);
            _mm512_storeu_ps(y + t * y_stride + 16, sum[t][1]);
        }
    }
};

}  // namespace adainfer::inline v0::detail::avx512

#endif
