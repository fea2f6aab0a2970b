#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row.hpp"
#include "adainfer/kernels/lane_dot.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_ARM64

// Quantised rows as they are in the file: their codes, and their product with one token. The dot product of Arm takes signed bytes:
// codes of up to 6 bits are what they are elsewhere, those of q8_0 have no bias.

namespace adainfer::inline v0::detail::neon {

#define ADAINFER_INLINE_DOT ADAINFER_TARGET_DOTPROD, gnu::always_inline

/// code_format() as codes are here.
[[nodiscard]] constexpr CodeFormat signed_format(DType dtype) noexcept {
    const CodeFormat format = code_format(dtype);
    return {format.group, dtype == DType::Q8_0 ? 0 : format.bias, format.has_minimum};
}

[[ADAINFER_INLINE_DOT]] inline uint8x16_t load(const std::byte* p) noexcept {
    return vld1q_u8(reinterpret_cast<const std::uint8_t*>(p));
}

/// Field `bits` of every byte, moved to its lower end.
[[ADAINFER_INLINE_DOT]] inline uint8x16_t field(uint8x16_t bytes, std::size_t at, std::uint8_t mask) noexcept {
    return vandq_u8(vshlq_u8(bytes, vdupq_n_s8(static_cast<std::int8_t>(-static_cast<int>(at)))), vdupq_n_u8(mask));
}

/// 16 where a bit is set, of 16 bits.
[[ADAINFER_INLINE_DOT]] inline uint8x16_t fifth_bits(const std::byte* bits) noexcept {
    const uint8x8_t own = vcreate_u8(0x8040201008040201U);
    const auto low = std::to_integer<std::uint8_t>(bits[0]), high = std::to_integer<std::uint8_t>(bits[1]);
    const uint8x16_t set = vtstq_u8(vcombine_u8(vdup_n_u8(low), vdup_n_u8(high)), vcombine_u8(own, own));
    return vandq_u8(set, vdupq_n_u8(16));
}

/// 16 codes of a row, columns 16 i to 16 i + 15.
template <DType dtype>
[[ADAINFER_INLINE_DOT]] inline uint8x16_t codes16(const std::byte* row, std::size_t i) noexcept {
    constexpr std::size_t bytes = info(dtype).block_bytes;
    if constexpr (dtype == DType::Q8_0) {
        return load(row + i / 2 * bytes + 2 + i % 2 * 16);
    } else if constexpr (info(dtype).block_size == 32) {
        const std::byte* const block = row + i / 2 * bytes;
        const uint8x16_t low = field(load(block + bytes - 16), i % 2 * 4, 15);
        if constexpr (dtype == DType::Q4_0 || dtype == DType::Q4_1) return low;
        else return vorrq_u8(low, fifth_bits(block + (dtype == DType::Q5_0 ? 2 : 4) + i % 2 * 2));
    } else {
        const std::byte* const block = row + i / 16 * bytes;
        const std::size_t part = i % 16 / 2, at = i % 2 * 16;  // of 32 columns
        if constexpr (dtype == DType::Q6_K) {
            const uint8x16_t low = field(load(block + 64 * (part / 4) + 32 * (part % 2) + at), part % 4 / 2 * 4, 15);
            const uint8x16_t high = field(load(block + 128 + 32 * (part / 4) + at), 2 * (part % 4), 3);
            return vorrq_u8(low, vshlq_n_u8(high, 4));
        } else {
            const uint8x16_t low = field(load(block + (dtype == DType::Q5_K ? 48 : 16) + part / 2 * 32 + at), part % 2 * 4, 15);
            if constexpr (dtype == DType::Q4_K) return low;
            else return vorrq_u8(low, vshlq_n_u8(field(load(block + 16 + at), part, 1), 4));
        }
    }
}

[[ADAINFER_INLINE_DOT]] inline float half_at(const std::byte* p) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
}

/// Eight bytes as floats, the first in the lowest one, times a factor.
[[ADAINFER_INLINE_DOT]] inline void scaled_bytes(std::uint64_t bytes, float factor, float* out) noexcept {
    const uint16x8_t words = vmovl_u8(vcreate_u8(bytes));
    vst1q_f32(out, vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))), factor));
    vst1q_f32(out + 4, vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_high_u16(words))), factor));
}

/// Scales and minima of one block of a row, one for each group.
template <DType dtype, std::size_t groups, std::size_t pieces>
[[ADAINFER_INLINE_DOT]] inline void block_scales(const std::byte* block, float (&scales)[groups],
                                                 float (&minima)[pieces]) noexcept {
    if constexpr (info(dtype).block_size == 32) {
        scales[0] = half_at(block);
        if constexpr (code_format(dtype).has_minimum) minima[0] = half_at(block + 2);
    } else if constexpr (dtype == DType::Q6_K) {
        const float d = half_at(block + 208);
        for (std::size_t g = 0; g < 16; ++g) scales[g] = d * static_cast<float>(std::to_integer<std::int8_t>(block[192 + g]));
    } else {
        std::uint64_t scale_bytes, minimum_bytes;
        k_scale_bytes(block, scale_bytes, minimum_bytes);
        scaled_bytes(scale_bytes, half_at(block), scales);
        scaled_bytes(minimum_bytes, -half_at(block + 2), minima);
    }
}

/// Products with codes and with rests together, in units of a rest.
[[ADAINFER_INLINE_DOT]] inline int32x4_t in_rests(int32x4_t codes, int32x4_t rests) noexcept {
    return vmlaq_n_s32(rests, codes, static_cast<std::int32_t>(rest_steps));
}

/// row . x for a row of `cols` elements and activations made for signed_format(dtype). Bound: instructions. For 32 columns, four of
/// them products: 32 of q8_0, 38 of q4_0, 57 of q4_k, 94 of q6_k as GCC 12 compiles it.
template <DType dtype>
[[ADAINFER_TARGET_DOTPROD]] inline float row_dot(const std::byte* row, std::size_t cols, const LaneActivations::Block* x) noexcept {
    constexpr CodeFormat format = signed_format(dtype);
    constexpr std::size_t pieces = info(dtype).block_size / 32, groups = 32 / format.group;
    float32x4_t total = vdupq_n_f32(0.0F);
    float rest = 0.0F;  // of the minima
    float scales[pieces * groups], minima[pieces];
    for (std::size_t p = 0; p < cols / 32; ++p) {
        if (p % pieces == 0) block_scales<dtype>(row + p / pieces * info(dtype).block_bytes, scales, minima);
        int32x4_t codes[groups], rests[groups];
#pragma GCC unroll 2
        for (std::size_t g = 0; g < groups; ++g) {
            codes[g] = rests[g] = vdupq_n_s32(0);
            if constexpr (format.bias != 0) {
                codes[g] = vsetq_lane_s32(x[p].offsets[g], codes[g], 0);
                rests[g] = vsetq_lane_s32(x[p].rest_offsets[g], rests[g], 0);
            }
        }
#pragma GCC unroll 2
        for (std::size_t i = 0; i < 2; ++i) {
            const int8x16_t w = vreinterpretq_s8_u8(codes16<dtype>(row, 2 * p + i));
            const std::size_t g = i % groups;
            codes[g] = vdotq_s32(codes[g], w, vld1q_s8(x[p].codes + 16 * i));
            rests[g] = vdotq_s32(rests[g], w, vld1q_s8(x[p].rests + 16 * i));
        }
        const float x_scale = x[p].scale * (1.0F / rest_steps);
#pragma GCC unroll 2
        for (std::size_t g = 0; g < groups; ++g) {
            const float scale = scales[p % pieces * groups + g] * x_scale;
            total = vfmaq_n_f32(total, vcvtq_f32_s32(in_rests(codes[g], rests[g])), scale);
        }
        if constexpr (format.has_minimum) rest += minima[p % pieces] * x[p].sum;
    }
    return vaddvq_f32(total) + rest;
}

using RowDot = float (*)(const std::byte* row, std::size_t cols, const LaneActivations::Block* x) noexcept;

/// row_dot() of a dtype that has a code format, else null.
[[nodiscard]] inline RowDot row_dot_of(DType dtype) noexcept {
    return with_codes(dtype, []<DType type>() -> RowDot { return row_dot<type>; });
}

#undef ADAINFER_INLINE_DOT

}  // namespace adainfer::inline v0::detail::neon

#endif
