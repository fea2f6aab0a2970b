#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/turned_rows.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/dtype.hpp"

// Rows of a weight, rounded to bfloat16 and turned so that they lie side by side: what bfloat_tile.hpp multiplies with.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// 32 elements of a float row, or their rests, as pairs of bfloat16; past `left` they are zero.
template <DType dtype, bool rests>
[[ADAINFER_TARGET_BFLOAT16, gnu::always_inline]] inline __m512i pairs16(const std::byte* row, std::size_t at,
                                                                        std::size_t left) noexcept {
    if constexpr (dtype == DType::BF16) {
        static_assert(!rests, "a bfloat16 leaves no rest");
        return _mm512_maskz_loadu_epi16(left >= 32 ? 0xFFFFFFFFU : (1U << left) - 1U, row + 2 * at);
    } else {
        __m512 low = floats16<dtype>(row, at, left), high = floats16<dtype>(row, at + 16, left > 16 ? left - 16 : 0);
        if constexpr (rests) {
            low = bfloat_rests(low);
            high = bfloat_rests(high);
        }
        return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
    }
}

/// panel [(depth + 1) / 2][32] of float rows. Bound: four shuffles and a store for 32 elements.
template <DType dtype, bool rests = false>
[[ADAINFER_TARGET_BFLOAT16]] inline void pack_floats_as_bfloat(const WeightPart& part, std::uint32_t (*panel)[32],
                                                               BfloatAhead* ahead = nullptr) noexcept {
    for (std::size_t half = 0; half < 32; half += 16) {
        const std::byte* rows[16];
        for (std::size_t r = 0; r < 16; ++r) rows[r] = part.row(half + r);
        for (std::size_t k = 0; k < part.depth; k += 32) {
            const std::size_t left = part.depth - k;
            if (ahead != nullptr) ahead->fetch(ahead->each);
            __m512i v[16];
#pragma GCC unroll 16
            for (std::size_t r = 0; r < 16; ++r) v[r] = pairs16<dtype, rests>(rows[r], k, left);
            transpose(v);
            std::uint32_t(*const out)[32] = panel + k / 2;
#pragma GCC unroll 16
            for (std::size_t i = 0; i < 16; ++i) {
                if (2 * i < left) _mm512_store_si512(out[i] + half, v[i]);
            }
        }
    }
}

/// Codes become floats by being put into the bits of a constant whose last place is worth 1 there: byte `byte` of the float
/// `base` makes it base + code. Both are exact, and so is what remains of them after scaling unless there is a minimum; then it
/// is 2^-24 of 128 scales, far below the rounding to come.
template <DType dtype>
struct CodeFloat {
    static constexpr bool eight_bits = dtype == DType::Q8_0;
    static constexpr float base = eight_bits ? 32768.0F : 128.0F;
    static constexpr std::uint64_t byte = eight_bits ? 1 : 2;
};

/// panel [depth / 2][32] of quantised rows in lanes. Bound: 15 instructions for 64 elements.
template <DType dtype>
[[ADAINFER_TARGET_BFLOAT16]] inline void pack_quads_as_bfloat(const std::byte* blocks, std::size_t depth,
                                                              std::uint32_t (*panel)[32], BfloatAhead* ahead) noexcept {
    constexpr CodeFormat format = code_format(dtype);
    using Float = CodeFloat<dtype>;
    const __m512 base = _mm512_set1_ps(Float::base);
    const __mmask64 byte = std::uint64_t{0x1111111111111111} << Float::byte;
    // Dword 2 i + j of the result: column j of row i. Rows from 8 on are 32 bytes, columns 2 and 3 two bytes further.
    const __m512i from = _mm512_mullo_epi32(_mm512_set_epi32(29, 28, 25, 24, 21, 20, 17, 16, 13, 12, 9, 8, 5, 4, 1, 0),
                                            _mm512_set1_epi32(0x01010101));
    const __m512i first = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for (std::size_t half = 0; half < 32; half += 16) {
        const LaneQuads<dtype> quads(blocks, half / 16);
        __m512i scales[16], minima[16];
        quads.scales(depth / format.group, scales, minima);
        for (std::size_t step = 0; 64 * step < depth; ++step) {
            const bool whole = 64 * step + 64 <= depth;
            if (ahead != nullptr) ahead->fetch(2 * ahead->each);
            __m512i v[16];
            quads.codes(step, whole, v);
            std::uint32_t(*out)[32] = panel + 32 * step;
            for (std::size_t j = 0; j < (whole ? 16U : 8U);) {
                const std::size_t g = (64 * step + 4 * j) / format.group;
                const __m512 scale = _mm512_castsi512_ps(scales[g]);
                const __m512 zero = _mm512_set1_ps(-Float::base - static_cast<float>(format.bias));
                const __m512 shift = format.has_minimum ? _mm512_fmadd_ps(scale, zero, _mm512_castsi512_ps(minima[g]))
                                                        : _mm512_mul_ps(scale, zero);
                const __m512 scale0 = _mm512_permutexvar_ps(first, scale), scale1 = _mm512_permutexvar_ps(second, scale);
                const __m512 shift0 = _mm512_permutexvar_ps(first, shift), shift1 = _mm512_permutexvar_ps(second, shift);
                for (const std::size_t end = j + format.group / 4; j < end; ++j) {
#pragma GCC unroll 2
                    for (int pair = 0; pair < 2; ++pair, ++out) {
                        const __m512i from0 = _mm512_add_epi8(from, _mm512_set1_epi8(static_cast<char>(2 * pair)));
                        const __m512i from1 = _mm512_add_epi8(from, _mm512_set1_epi8(static_cast<char>(2 * pair + 32)));
                        const __m512i c0 = _mm512_mask_permutexvar_epi8(_mm512_castps_si512(base), byte, from0, v[j]);
                        const __m512i c1 = _mm512_mask_permutexvar_epi8(_mm512_castps_si512(base), byte, from1, v[j]);
                        const __m512 w0 = _mm512_fmadd_ps(_mm512_castsi512_ps(c0), scale0, shift0);
                        const __m512 w1 = _mm512_fmadd_ps(_mm512_castsi512_ps(c1), scale1, shift1);
                        _mm512_store_si512(*out + half, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(w1, w0)));
                    }
                }
            }
        }
    }
}

/// Rows [(depth + 1) / 2] of pairs, 32 lanes each = the part, of at most panel_depth columns.
inline void pack_bfloat(const WeightPart& part, std::uint32_t (*panel)[32], BfloatAhead* ahead) noexcept {
    with_dtype(part.weight.dtype, [&]<DType dtype>() {
        if constexpr (!is_quantised(dtype)) pack_floats_as_bfloat<dtype>(part, panel, ahead);
        else pack_quads_as_bfloat<dtype>(LaneBlocks(part).get(), part.depth, panel, ahead);
    });
}

/// Fills a panel with zeros up to the next multiple of 16 pairs.
inline void pad_panel(BfloatPanel& panel) noexcept {
    for (std::size_t p = panel.pairs; p % 16 != 0; ++p) std::fill_n(panel.values[p], BfloatPanel::lanes, 0U);
}

/// Fills a panel with a part of at most BfloatPanel::most_columns columns, and fetches some of what is ahead meanwhile.
inline void pack_bfloat(const WeightPart& part, BfloatPanel& panel, BfloatAhead* ahead = nullptr) noexcept {
    panel.pairs = (part.depth + 1) / 2;
    for (std::size_t column = 0; column < part.depth; column += panel_depth) {
        WeightPart some = part;
        some.begin += column;
        some.depth = (std::min)(panel_depth, part.depth - column);
        pack_bfloat(some, panel.values + column / 2, ahead);
    }
    pad_panel(panel);
}

/// True where numbers of this type leave rests.
[[nodiscard]] constexpr bool leaves_rests(DType dtype) noexcept { return dtype == DType::F32 || dtype == DType::F16; }

/// The same of the rests of a weight that leaves_rests().
inline void pack_rests(const WeightPart& part, BfloatPanel& panel) noexcept {
    panel.pairs = (part.depth + 1) / 2;
    if (part.weight.dtype == DType::F32) pack_floats_as_bfloat<DType::F32, true>(part, panel.values);
    else pack_floats_as_bfloat<DType::F16, true>(part, panel.values);
    pad_panel(panel);
}

}  // namespace adainfer::inline v0::detail::avx512

#endif
