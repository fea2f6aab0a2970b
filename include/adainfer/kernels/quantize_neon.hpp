#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/cpu.hpp"

#if ADAINFER_ARM64

namespace adainfer::inline v0::detail::neon {

/// Sixteen integers as bytes, and the sums of four of them each.
inline void store_bytes(const int32x4_t (&v)[4], std::int8_t* bytes, std::int32_t* sums) noexcept {
    const int16x8_t low = vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1])), high = vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3]));
    vst1q_s8(bytes, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    vst1q_s32(sums, vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3])));
}

/// quantize_block(), four values at once.
inline void quantize(const float* x, ActivationBlock& block) noexcept {
    float32x4_t most = vdupq_n_f32(0.0F), poison = vdupq_n_f32(0.0F);  // poison: 0, or NaN
    for (std::size_t i = 0; i < activation_block; i += 4) {
        const float32x4_t v = vld1q_f32(x + i);
        most = vmaxq_f32(most, vabsq_f32(v));
        poison = vfmaq_n_f32(poison, v, 0.0F);
    }
    const float largest = vmaxvq_f32(most);
    const bool bad = vaddvq_f32(poison) != 0.0F;  // NaN differs from 0
    if (bad || largest < smallest_activation) {
        block = {};
        if (bad) block.scale = std::numeric_limits<float>::quiet_NaN();
        return;
    }
    const float inverse = 127.0F / largest;
    for (std::size_t i = 0; i < activation_block; i += 16) {
        int32x4_t codes[4], rests[4];
        for (std::size_t j = 0; j < 4; ++j) {
            const float32x4_t scaled = vmulq_n_f32(vld1q_f32(x + i + 4 * j), inverse), rounded = vrndnq_f32(scaled);
            codes[j] = vcvtq_s32_f32(rounded);
            rests[j] = vcvtnq_s32_f32(vmulq_n_f32(vsubq_f32(scaled, rounded), rest_steps));
        }
        store_bytes(codes, block.codes + i, block.sums + i / 4);
        store_bytes(rests, block.rests + i, block.rest_sums + i / 4);
    }
    block.scale = largest / 127.0F;
}

}  // namespace adainfer::inline v0::detail::neon

#endif
