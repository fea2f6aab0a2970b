#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/token_attention.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
#include "adainfer/tensor/kv_type.hpp"

// What token_attention.hpp does with vectors of sixteen, with vectors of four.

#if ADAINFER_ARM64

namespace adainfer::inline v0::detail::neon {

/// Elements [at, at + 4) of a stored row as floats; past `left` they are zero.
template <KvType type>
[[nodiscard]] inline float32x4_t stored4(const std::byte* row, std::size_t at, std::size_t left) noexcept {
    if constexpr (type == KvType::Q8_0) {
        const std::byte* const block = row + row_bytes(type, at / 32 * 32);
        std::uint16_t scale;
        std::uint32_t codes;
        std::memcpy(&scale, block, sizeof scale);
        std::memcpy(&codes, block + sizeof scale + at % 32, sizeof codes);
        const int16x4_t words = vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(codes))));
        const float32x4_t factor = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(scale)));
        return vmulq_f32(vcvtq_f32_s32(vmovl_s16(words)), factor);
    } else {
        return floats4<dtype_of(type)>(row + row_bytes(type, at), left);
    }
}

/// With vectors of 4, straight from the stored rows.
struct TokenKernels {
    static constexpr CpuLevel level = CpuLevel::Neon;
    static constexpr std::size_t score_heads = 4, value_heads = 4;

    /// Bound: memory, or for 4 scores of each head d / 4 times 4 multiply-adds; four heads share a load.
    template <KvType type, std::size_t some>
    static void scores(const TokenHeads& heads, const StoredRows& keys, float* scores) noexcept {
        constexpr std::size_t together = 4;
        const WeightFetch fetch = kv_row_fetch(keys.stride);
        for (std::size_t first = 0; first < keys.count; first += together) {
            const std::byte* rows[together];
            take_rows(keys, first, fetch, rows);
            float32x4_t sum[some][together];
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
#pragma GCC unroll 4
                for (std::size_t i = 0; i < together; ++i) sum[h][i] = vdupq_n_f32(0.0F);
            }
            for (std::size_t j = 0; j < keys.d; j += 4) {
                const std::size_t left = keys.d - j;
                float32x4_t key[together];
#pragma GCC unroll 4
                for (std::size_t i = 0; i < together; ++i) key[i] = stored4<type>(rows[i], j, left);
#pragma GCC unroll 4
                for (std::size_t h = 0; h < some; ++h) {
                    const auto* const q = reinterpret_cast<const std::byte*>(heads.q + h * keys.d);
                    const float32x4_t four = stored4<KvType::F32>(q, j, left);
#pragma GCC unroll 4
                    for (std::size_t i = 0; i < together; ++i) sum[h][i] = vfmaq_f32(sum[h][i], key[i], four);
                }
            }
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
                const float32x4_t total = vpaddq_f32(vpaddq_f32(sum[h][0], sum[h][1]), vpaddq_f32(sum[h][2], sum[h][3]));
                vst1q_f32(scores + h * token_span + first, vmulq_n_f32(total, heads.scale));
            }
        }
    }

    /// Bound: memory, or a load for every multiply-add of 4 where one head looks at the values, four heads share one.
    template <KvType type, std::size_t some>
    static void values(const float* weights, const StoredRows& values, float* weighted) noexcept {
        const std::size_t d = values.d;
        const WeightFetch fetch = kv_row_fetch(values.stride);
        for (std::size_t j = 0; j < d; j += 16) {
            float32x4_t sum[some][4];
#pragma GCC unroll 4
            for (std::size_t h = 0; h < some; ++h) {
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) sum[h][c] = vdupq_n_f32(0.0F);
            }
            for (std::size_t i = 0; i < values.count; ++i) {
                const std::byte* const row = values.row(i);
                if (j == 0) fetch_weights(row, values.stride, fetch);
                float32x4_t value[4];
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) {
                    const std::size_t at = j + 4 * c;
                    value[c] = at < d ? stored4<type>(row, at, d - at) : vdupq_n_f32(0.0F);
                }
#pragma GCC unroll 4
                for (std::size_t h = 0; h < some; ++h) {
                    const float weight = weights[h * token_span + i];
#pragma GCC unroll 4
                    for (std::size_t c = 0; c < 4; ++c) sum[h][c] = vfmaq_n_f32(sum[h][c], value[c], weight);
                }
            }
            for (std::size_t h = 0; h < some; ++h) {
                float out[16];
#pragma GCC unroll 4
                for (std::size_t c = 0; c < 4; ++c) vst1q_f32(out + 4 * c, sum[h][c]);
                std::copy_n(out, (std::min)(d - j, std::size_t{16}), weighted + h * d + j);
            }
        }
    }
};

}  // namespace adainfer::inline v0::detail::neon

#endif
