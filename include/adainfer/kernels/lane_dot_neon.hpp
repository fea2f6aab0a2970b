#pragma once

#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row_neon.hpp"
#include "adainfer/kernels/lane_dot.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_ARM64

// Products of tokens with the panels of lane_layout.hpp as lane_weight_neon.hpp makes them.

namespace adainfer::inline v0::detail::neon {

#define ADAINFER_INLINE_DOT ADAINFER_TARGET_DOTPROD, gnu::always_inline

/// Four halves, and four bytes, as floats.
[[ADAINFER_INLINE_DOT]] inline float32x4_t halves_at(const std::byte* p) noexcept {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(p))));
}
template <DType dtype>
[[ADAINFER_INLINE_DOT]] inline float32x4_t bytes_at(const std::byte* p) noexcept {
    const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(bits32(p)));
    if constexpr (dtype == DType::Q6_K) return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(bytes)))));
    else return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}

/// Quad q of 32 columns of four rows, a row in each dword. `rows` are the codes from the first of those rows on.
template <DType dtype, int q>
[[ADAINFER_INLINE_DOT]] inline int8x16_t quad_at(const std::byte* rows) noexcept {
    constexpr std::size_t high = lane_layout(dtype).high;
    if constexpr (dtype == DType::Q8_0) {
        return vreinterpretq_s8_u8(load(rows + 64 * q));
    } else {
        uint8x16_t quad = load(rows + 64 * (q % 4));
        if constexpr (q < 4) quad = vandq_u8(quad, vdupq_n_u8(15));
        else quad = vshrq_n_u8(quad, 4);
        if constexpr (high != 0) {
            constexpr int shift = 4 - (high == 1 ? q : q % 4 * 2);  // of the quad's bits to the left
            uint8x16_t bits = load(rows + 64 * (high == 1 ? 4 : 4 + q / 4));
            if constexpr (shift > 0) bits = vshlq_n_u8(bits, shift);
            if constexpr (shift < 0) bits = vshrq_n_u8(bits, -shift);
            quad = vorrq_u8(quad, vandq_u8(bits, vdupq_n_u8(high == 1 ? 16 : 48)));
        }
        return vreinterpretq_s8_u8(quad);
    }
}

/// Adds quad 4 h + i of four rows times four codes, and times four rests, of every token.
template <DType dtype, int h, int i, std::size_t tokens>
[[ADAINFER_INLINE_DOT]] inline void add_quad(const std::byte* rows, const int8x16_t (&x)[tokens][2],
                                             int32x4_t (&sum)[tokens][2]) noexcept {
    const int8x16_t w = quad_at<dtype, 4 * h + i>(rows);
#pragma GCC unroll 4
    for (std::size_t t = 0; t < tokens; ++t) {
        sum[t][0] = vdotq_laneq_s32(sum[t][0], w, x[t][0], i);
        sum[t][1] = vdotq_laneq_s32(sum[t][1], w, x[t][1], i);
    }
}

/// The same of all quads of columns 16 h to 16 h + 15.
template <DType dtype, int h, std::size_t tokens>
[[ADAINFER_INLINE_DOT]] inline void add_quads(const std::byte* rows, const LaneActivations::Block* const (&blocks)[tokens],
                                              int32x4_t (&sum)[tokens][2]) noexcept {
    int8x16_t x[tokens][2];
#pragma GCC unroll 4
    for (std::size_t t = 0; t < tokens; ++t) {
        x[t][0] = vld1q_s8(blocks[t]->codes + 16 * h);
        x[t][1] = vld1q_s8(blocks[t]->rests + 16 * h);
    }
    add_quad<dtype, h, 0>(rows, x, sum);
    add_quad<dtype, h, 1>(rows, x, sum);
    add_quad<dtype, h, 2>(rows, x, sum);
    add_quad<dtype, h, 3>(rows, x, sum);
}

/// y[token][32] += `pieces` times 32 columns of a panel, of which `block` is the first, times as many columns of rows of
/// activations made for signed_format(dtype). Bound: instructions. For four rows and 32 columns, 16 of them products: 46 of q8_0,
/// 51 of q4_0, 68 of q4_k, 96 of q6_k as GCC 12 compiles it; of four tokens 130, 141, 156, 219 with 64 products.
template <DType dtype, std::size_t tokens>
[[ADAINFER_TARGET_DOTPROD]] inline void lane_product(const std::byte* block, std::size_t pieces, const LaneActivations::Block* x,
                                                     std::size_t x_stride, float* y, std::size_t y_stride) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    constexpr CodeFormat format = signed_format(dtype);
    constexpr bool k_format = layout.columns != 32;
    constexpr std::size_t groups = 32 / format.group;
    for (std::size_t p = 0; p < pieces; ++p, ++x) {
        const std::byte* const piece = block + layout.piece_at(p);
        const std::byte* const head = block + p * 32 / layout.columns * layout.bytes;
        const LaneActivations::Block* blocks[tokens];
        float x_scale[tokens];
#pragma GCC unroll 4
        for (std::size_t t = 0; t < tokens; ++t) {
            blocks[t] = x + t * x_stride;
            x_scale[t] = blocks[t]->scale * (1.0F / rest_steps);
        }
        for (std::size_t r = 0; r < LaneLayout::lanes; r += 4) {
            const std::byte* const rows = piece + layout.codes + r / 16 * layout.half + r % 16 * 4;
            float32x4_t total[tokens];
#pragma GCC unroll 4
            for (std::size_t t = 0; t < tokens; ++t) total[t] = vld1q_f32(y + t * y_stride + r);
#pragma GCC unroll 2
            for (std::size_t g = 0; g < groups; ++g) {
                int32x4_t sum[tokens][2];
#pragma GCC unroll 4
                for (std::size_t t = 0; t < tokens; ++t) {
                    sum[t][0] = vdupq_n_s32(format.bias != 0 ? blocks[t]->offsets[g] : 0);
                    sum[t][1] = vdupq_n_s32(format.bias != 0 ? blocks[t]->rest_offsets[g] : 0);
                }
                if (groups == 1 || g == 0) add_quads<dtype, 0>(rows, blocks, sum);
                if (groups == 1 || g == 1) add_quads<dtype, 1>(rows, blocks, sum);
                float32x4_t scale;
                if constexpr (k_format) scale = vmulq_f32(bytes_at<dtype>(piece + 32 * g + r), halves_at(head + 2 * r));
                else scale = halves_at(piece + 2 * r);
#pragma GCC unroll 4
                for (std::size_t t = 0; t < tokens; ++t) {
                    const float32x4_t product = vcvtq_f32_s32(in_rests(sum[t][0], sum[t][1]));
                    total[t] = vfmaq_f32(total[t], vmulq_n_f32(product, x_scale[t]), scale);
                }
            }
            if constexpr (format.has_minimum) {
                const std::byte* const at = piece + layout.minima;
                float32x4_t minimum;
                if constexpr (k_format) minimum = vnegq_f32(vmulq_f32(bytes_at<dtype>(at + r), halves_at(head + 64 + 2 * r)));
                else minimum = halves_at(at + 2 * r);
#pragma GCC unroll 4
                for (std::size_t t = 0; t < tokens; ++t) total[t] = vfmaq_n_f32(total[t], minimum, blocks[t]->sum);
            }
#pragma GCC unroll 4
            for (std::size_t t = 0; t < tokens; ++t) vst1q_f32(y + t * y_stride + r, total[t]);
        }
    }
}

/// The same for a dtype that has a code format and any number of tokens.
inline void lane_products(DType dtype, const std::byte* block, std::size_t pieces, const LaneActivations::Block* x,
                          std::size_t x_stride, std::size_t tokens, float* y, std::size_t y_stride) noexcept {
    with_codes(dtype, [&]<DType type>() {
        std::size_t t = 0;
        const auto run = [&]<std::size_t count>() {
            for (; t + count <= tokens; t += count) {
                lane_product<type, count>(block, pieces, x + t * x_stride, x_stride, y + t * y_stride, y_stride);
            }
        };
        run.template operator()<4>();
        run.template operator()<2>();
        run.template operator()<1>();
    });
}

#undef ADAINFER_INLINE_DOT

}  // namespace adainfer::inline v0::detail::neon

#endif
