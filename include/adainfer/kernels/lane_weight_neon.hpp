#pragma once

#include <cstddef>

#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row_neon.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_ARM64

// Making the panels of lane_layout.hpp, with the codes of int8_row_neon.hpp.

namespace adainfer::inline v0::detail::neon {

#define ADAINFER_INLINE_DOT ADAINFER_TARGET_DOTPROD, gnu::always_inline

/// Turns a square of 4 rows of 4 dwords.
[[ADAINFER_INLINE_DOT]] inline void transpose(uint8x16_t (&v)[4]) noexcept {
    const uint32x4_t a = vreinterpretq_u32_u8(v[0]), b = vreinterpretq_u32_u8(v[1]);
    const uint32x4_t c = vreinterpretq_u32_u8(v[2]), d = vreinterpretq_u32_u8(v[3]);
    const uint64x2_t ab_even = vreinterpretq_u64_u32(vtrn1q_u32(a, b)), ab_odd = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
    const uint64x2_t cd_even = vreinterpretq_u64_u32(vtrn1q_u32(c, d)), cd_odd = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
    v[0] = vreinterpretq_u8_u64(vtrn1q_u64(ab_even, cd_even));
    v[1] = vreinterpretq_u8_u64(vtrn1q_u64(ab_odd, cd_odd));
    v[2] = vreinterpretq_u8_u64(vtrn2q_u64(ab_even, cd_even));
    v[3] = vreinterpretq_u8_u64(vtrn2q_u64(ab_odd, cd_odd));
}

/// Four rows of vector i of those that codes are packed in.
[[ADAINFER_INLINE_DOT]] inline void store(std::byte* codes, std::size_t i, uint8x16_t v) noexcept {
    vst1q_u8(reinterpret_cast<std::uint8_t*>(codes + i * LaneLayout::vector), v);
}

/// Packs 32 columns of 4 rows: quads[j] holds columns 4 j to 4 j + 3 of every row.
template <DType dtype>
[[ADAINFER_INLINE_DOT]] inline void store_quads(const uint8x16_t (&quads)[8], std::byte* out) noexcept {
    if constexpr (dtype == DType::Q8_0) {
        for (std::size_t j = 0; j < 8; ++j) store(out, j, quads[j]);
    } else {
        for (std::size_t j = 0; j < 4; ++j) {
            store(out, j, vorrq_u8(vandq_u8(quads[j], vdupq_n_u8(15)), vshlq_n_u8(quads[j + 4], 4)));
        }
        constexpr std::size_t high = lane_layout(dtype).high;
        if constexpr (high != 0) {
            constexpr std::size_t each = 8 / high;  // quads a vector; `high` bits of each
            for (std::size_t part = 0; part < high; ++part) {
                uint8x16_t bits = vdupq_n_u8(0);
                for (std::size_t i = 0; i < each; ++i) {
                    const int8x16_t place = vdupq_n_s8(static_cast<std::int8_t>(high * i));
                    bits = vorrq_u8(bits, vshlq_u8(vshrq_n_u8(quads[part * each + i], 4), place));
                }
                store(out, 4 + part, bits);
            }
        }
    }
}

/// TurnRows of one dtype.
template <DType dtype>
[[ADAINFER_TARGET_DOTPROD]] inline void turn_rows(const std::byte* const (&rows)[32], std::size_t cols, std::byte* out) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    for (std::size_t lane = 0; lane < LaneLayout::lanes; lane += 4) {
        for (std::size_t b = 0; b < cols / layout.columns; ++b) {
            for (std::size_t r = lane; r < lane + 4; ++r) {
                turn_block_scales<dtype>(rows[r] + b * info(dtype).block_bytes, r, out + b * layout.bytes);
            }
        }
        for (std::size_t p = 0; p < cols / 32; ++p) {
            uint8x16_t quads[8];
            for (std::size_t half = 0; half < 2; ++half) {
                uint8x16_t v[4];
                for (std::size_t r = 0; r < 4; ++r) v[r] = codes16<dtype>(rows[lane + r], 2 * p + half);
                transpose(v);
                for (std::size_t j = 0; j < 4; ++j) quads[4 * half + j] = v[j];
            }
            store_quads<dtype>(quads, out + layout.piece_at(p) + layout.codes + lane / 16 * layout.half + lane % 16 * 4);
        }
    }
}

/// A TurnRows.
inline void turn_rows(DType dtype, const std::byte* const (&rows)[LaneLayout::lanes], std::size_t cols, std::byte* out) noexcept {
    with_codes(dtype, [&]<DType type>() { turn_rows<type>(rows, cols, out); });
}

#undef ADAINFER_INLINE_DOT

}  // namespace adainfer::inline v0::detail::neon

#endif
