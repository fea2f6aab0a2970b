#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/lane_weight_neon.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/turned_rows.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/dtype.hpp"

// Rows of a weight, dequantised and turned so that they lie side by side: what panel_tile.hpp multiplies with.

namespace adainfer::inline v0::detail {

/// panel [depth][lanes] = rows [lanes][depth].
inline void turn(const float* rows, std::size_t depth, std::size_t lanes, float* panel) noexcept {
    for (std::size_t k = 0; k < depth; ++k) {
        for (std::size_t r = 0; r < lanes; ++r) panel[k * lanes + r] = rows[r * depth + k];
    }
}

#if ADAINFER_X86

namespace avx2 {

/// panel [depth][16] of float rows, squares of 8 by 8 at once. Bound: three shuffles and a store for 8 elements.
template <DType dtype>
[[ADAINFER_TARGET_AVX2]] inline void pack_floats(const WeightPart& part, float* panel) noexcept {
    constexpr std::size_t lanes = 16, bytes = info(dtype).block_bytes;
    for (std::size_t first = 0; first < lanes; first += 8) {
        const std::byte* rows[8];
        for (std::size_t r = 0; r < 8; ++r) rows[r] = part.row(first + r);
        for (std::size_t k = 0; k < part.depth; k += 8) {
            const std::size_t left = part.depth - k;
            __m256 v[8], t[8];
#pragma GCC unroll 8
            for (std::size_t r = 0; r < 8; ++r) v[r] = floats8<dtype>(rows[r] + k * bytes, left);
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 8; i += 2) {
                t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
                t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
            }
#pragma GCC unroll 2
            for (std::size_t i = 0; i < 8; i += 4) {
                v[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
                v[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
                v[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
                v[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
            }
            float* const out = panel + k * lanes + first;
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) {
                if (i < left) _mm256_storeu_ps(out + i * lanes, _mm256_permute2f128_ps(v[i], v[i + 4], 0x20));
                if (i + 4 < left) _mm256_storeu_ps(out + (i + 4) * lanes, _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
            }
        }
    }
}

/// panel [depth][16] = the part, which is of floats.
inline void pack_panel(const WeightPart& part, float* panel) noexcept {
    with_floats(part.weight.dtype, [&]<DType dtype>() { pack_floats<dtype>(part, panel); });
}

}  // namespace avx2

namespace avx512 {

/// panel [depth][32] of float rows. Bound: four shuffles and a store for 16 elements.
template <DType dtype>
[[ADAINFER_TARGET_AVX512]] inline void pack_floats(const WeightPart& part, float* panel) noexcept {
    for (std::size_t half = 0; half < 2; ++half) {
        const std::byte* rows[16];
        for (std::size_t r = 0; r < 16; ++r) rows[r] = part.row(16 * half + r);
        for (std::size_t k = 0; k < part.depth; k += 16) {
            const std::size_t left = part.depth - k;
            __m512i v[16];
#pragma GCC unroll 16
            for (std::size_t r = 0; r < 16; ++r) v[r] = _mm512_castps_si512(floats16<dtype>(rows[r], k, left));
            transpose(v);
            float* const out = panel + k * 32 + 16 * half;
#pragma GCC unroll 16
            for (std::size_t i = 0; i < 16; ++i) {
                if (i < left) _mm512_storeu_ps(out + i * 32, _mm512_castsi512_ps(v[i]));
            }
        }
    }
}

/// panel [depth][32] of quantised rows in lanes. Bound: 13 instructions for 64 elements.
template <DType dtype>
[[ADAINFER_TARGET_AVX512]] inline void pack_quads_as_floats(const std::byte* blocks, std::size_t depth, float* panel) noexcept {
    constexpr CodeFormat format = code_format(dtype);
    for (std::size_t half = 0; half < 2; ++half) {
        const LaneQuads<dtype> quads(blocks, half);
        __m512i scales[16], minima[16];
        quads.scales(depth / format.group, scales, minima);
        for (std::size_t step = 0; 64 * step < depth; ++step) {
            const bool whole = 64 * step + 64 <= depth;
            __m512i v[16];
            quads.codes(step, whole, v);
            float* out = panel + 64 * step * 32 + 16 * half;
            for (std::size_t j = 0; j < (whole ? 16U : 8U); ++j, out += 4 * 32) {
                const std::size_t g = (64 * step + 4 * j) / format.group;
                const __m512 scale = _mm512_castsi512_ps(scales[g]);
                const __m512 shift = format.has_minimum ? _mm512_castsi512_ps(minima[g])
                                                        : _mm512_mul_ps(scale, _mm512_set1_ps(static_cast<float>(-format.bias)));
                const __m512i low = _mm512_set1_epi32(255), codes = v[j];
                const __m512i four[] = {_mm512_and_si512(codes, low), _mm512_and_si512(_mm512_srli_epi32(codes, 8), low),
                                        _mm512_and_si512(_mm512_srli_epi32(codes, 16), low), _mm512_srli_epi32(codes, 24)};
#pragma GCC unroll 4
                for (std::size_t i = 0; i < 4; ++i) {
                    _mm512_storeu_ps(out + i * 32, _mm512_fmadd_ps(_mm512_cvtepi32_ps(four[i]), scale, shift));
                }
            }
        }
    }
}

/// panel [depth][32] = the part.
inline void pack_panel(const WeightPart& part, float* panel) noexcept {
    with_dtype(part.weight.dtype, [&]<DType dtype>() {
        if constexpr (!is_quantised(dtype)) pack_floats<dtype>(part, panel);
        else pack_quads_as_floats<dtype>(LaneBlocks(part).get(), part.depth, panel);
    });
}

}  // namespace avx512

#endif

#if ADAINFER_ARM64

namespace neon {

/// turn() of 16 lanes, squares of 4 by 4 at once.
[[ADAINFER_TARGET_DOTPROD]] inline void turn(const float* rows, std::size_t depth, float* panel) noexcept {
    constexpr std::size_t lanes = 16;
    const std::size_t whole = depth / 4 * 4;
    for (std::size_t first = 0; first < lanes; first += 4) {
        const float* const from = rows + first * depth;
        for (std::size_t k = 0; k < whole; k += 4) {
            uint8x16_t v[4];
            for (std::size_t i = 0; i < 4; ++i) v[i] = vreinterpretq_u8_f32(vld1q_f32(from + i * depth + k));
            transpose(v);
            for (std::size_t i = 0; i < 4; ++i) vst1q_f32(panel + (k + i) * lanes + first, vreinterpretq_f32_u8(v[i]));
        }
        for (std::size_t k = whole; k < depth; ++k) {
            for (std::size_t r = 0; r < 4; ++r) panel[k * lanes + first + r] = from[r * depth + k];
        }
    }
}

}  // namespace neon

#endif

/// panel [depth][Tile::lanes] = the part: dequantised with what the level has for loops, then turned.
template <class Tile>
void pack_turned(const WeightPart& part, float* panel) {
    struct Rows;
    float* const rows = thread_scratch<Rows>(part.depth * Tile::lanes).data();
    at_level<Tile::level>([&] {
        for (std::size_t r = 0; r < Tile::lanes; ++r) {
            dequantize::row_to_floats(part.weight.dtype, part.row(r), part.depth, rows + r * part.depth);
        }
    });
#if ADAINFER_ARM64
    if constexpr (Tile::level == CpuLevel::Neon) return neon::turn(rows, part.depth, panel);
#endif
    turn(rows, part.depth, Tile::lanes, panel);
}

/// panel [depth][Tile::lanes] = the part, at the level of the tile that it is for; for AVX2's it must be one of floats.
template <class Tile>
void pack_panel_for(const WeightPart& part, float* panel) {
#if ADAINFER_X86
    if constexpr (Tile::level == CpuLevel::Avx512) {
        avx512::pack_panel(part, panel);
    } else if constexpr (Tile::level == CpuLevel::Avx2) {
        avx2::pack_panel(part, panel);
    } else
#endif
    {
        pack_turned<Tile>(part, panel);
    }
}

}  // namespace adainfer::inline v0::detail
