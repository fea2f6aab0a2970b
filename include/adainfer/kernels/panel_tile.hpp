#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/tensor/matrix_view.hpp"

// The product of many tokens with a weight matrix whose rows lie side by side in vectors, `lanes` of them a panel:
//
//     y[token][lane] += sum over k of panel[k][lane] * x[token][k]
//
// Tokens need no packing and no padding, so a prompt of twenty costs twenty times one.

namespace adainfer::inline v0::detail {

/// Columns of a weight that a panel holds at once: one block of the largest formats, and what stays in the first cache.
inline constexpr std::size_t panel_depth = 256;

/// Some columns of `lanes` weight rows: [depth][lanes].
struct Panel {
    const float* values = nullptr;
    std::size_t depth = 0;
};

#if ADAINFER_X86

/// Bound: 16 multiply-adds an instruction, two of them for each broadcast of x.
struct PanelTileAvx512 {
    static constexpr CpuLevel level = CpuLevel::Avx512;
    static constexpr std::size_t lanes = 32, tokens = 12;

    template <std::size_t count>
    [[ADAINFER_TARGET_AVX512]] static void run(Panel panel, const float* x, std::size_t x_stride, float* y,
                                               std::size_t y_stride) noexcept {
        __m512 sum[count][2];
#pragma GCC unroll 12
        for (std::size_t t = 0; t < count; ++t) {
            sum[t][0] = _mm512_loadu_ps(y + t * y_stride);
            sum[t][1] = _mm512_loadu_ps(y + t * y_stride + 16);
        }
        for (std::size_t k = 0; k < panel.depth; ++k) {
            const __m512 w0 = _mm512_loadu_ps(panel.values + k * lanes), w1 = _mm512_loadu_ps(panel.values + k * lanes + 16);
#pragma GCC unroll 12
            for (std::size_t t = 0; t < count; ++t) {
                const __m512 a = _mm512_set1_ps(x[t * x_stride + k]);
                sum[t][0] = _mm512_fmadd_ps(a, w0, sum[t][0]);
                sum[t][1] = _mm512_fmadd_ps(a, w1, sum[t][1]);
            }
        }
#pragma GCC unroll 12
        for (std::size_t t = 0; t < count; ++t) {
            _mm512_storeu_ps(y + t * y_stride, sum[t][0]);
            _mm512_storeu_ps(y + t * y_stride + 16, sum[t][1]);
        }
    }
};

/// The same with 8 multiply-adds an instruction.
struct PanelTileAvx2 {
    static constexpr CpuLevel level = CpuLevel::Avx2;
    static constexpr std::size_t lanes = 16, tokens = 6;

    template <std::size_t count>
    [[ADAINFER_TARGET_AVX2]] static void run(Panel panel, const float* x, std::size_t x_stride, float* y,
                                             std::size_t y_stride) noexcept {
        __m256 sum[count][2];
#pragma GCC unroll 6
        for (std::size_t t = 0; t < count; ++t) {
            sum[t][0] = _mm256_loadu_ps(y + t * y_stride);
            sum[t][1] = _mm256_loadu_ps(y + t * y_stride + 8);
        }
        for (std::size_t k = 0; k < panel.depth; ++k) {
            const __m256 w0 = _mm256_loadu_ps(panel.values + k * lanes), w1 = _mm256_loadu_ps(panel.values + k * lanes + 8);
#pragma GCC unroll 6
            for (std::size_t t = 0; t < count; ++t) {
                const __m256 a = _mm256_broadcast_ss(x + t * x_stride + k);
                sum[t][0] = _mm256_fmadd_ps(a, w0, sum[t][0]);
                sum[t][1] = _mm256_fmadd_ps(a, w1, sum[t][1]);
            }
        }
#pragma GCC unroll 6
        for (std::size_t t = 0; t < count; ++t) {
            _mm256_storeu_ps(y + t * y_stride, sum[t][0]);
            _mm256_storeu_ps(y + t * y_stride + 8, sum[t][1]);
        }
    }
};

#endif

#if ADAINFER_ARM64

/// The same with 4 multiply-adds an instruction, four of them for each broadcast of x.
struct PanelTileNeon {
    static constexpr CpuLevel level = CpuLevel::Neon;
    static constexpr std::size_t lanes = 16, tokens = 6;

    template <std::size_t count>
    static void run(Panel panel, const float* x, std::size_t x_stride, float* y, std::size_t y_stride) noexcept {
        float32x4_t sum[count][4];
#pragma GCC unroll 6
        for (std::size_t t = 0; t < count; ++t) {
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) sum[t][i] = vld1q_f32(y + t * y_stride + 4 * i);
        }
        for (std::size_t k = 0; k < panel.depth; ++k) {
            const float32x4x4_t w = vld1q_f32_x4(panel.values + k * lanes);
#pragma GCC unroll 6
            for (std::size_t t = 0; t < count; ++t) {
#pragma GCC unroll 4
                for (std::size_t i = 0; i < 4; ++i) sum[t][i] = vfmaq_n_f32(sum[t][i], w.val[i], x[t * x_stride + k]);
            }
        }
#pragma GCC unroll 6
        for (std::size_t t = 0; t < count; ++t) {
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) vst1q_f32(y + t * y_stride + 4 * i, sum[t][i]);
        }
    }
};

#endif

struct PanelTilePortable {
    static constexpr CpuLevel level = CpuLevel::Portable;
    static constexpr std::size_t lanes = 16, tokens = 4;

    template <std::size_t count>
    static void run(Panel panel, const float* x, std::size_t x_stride, float* y, std::size_t y_stride) noexcept {
        for (std::size_t k = 0; k < panel.depth; ++k) {
            const float* const w = panel.values + k * lanes;
            for (std::size_t t = 0; t < count; ++t) {
                const float a = x[t * x_stride + k];
                for (std::size_t lane = 0; lane < lanes; ++lane) y[t * y_stride + lane] += a * w[lane];
            }
        }
    }
};

/// Tile::run<count>() for a count that is known at run time, at most Tile::tokens.
template <class Tile, std::size_t count = Tile::tokens>
void run_tile(std::size_t tokens, const auto& panel, const auto* x, std::size_t x_stride, float* y, std::size_t y_stride) noexcept {
    if (tokens == count) return Tile::template run<count>(panel, x, x_stride, y, y_stride);
    if constexpr (count > 1) run_tile<Tile, count - 1>(tokens, panel, x, x_stride, y, y_stride);
}

/// Calls f(first, count) for blocks of the tokens, at most `most` each and as equal as they can be.
template <class F>
void for_token_blocks(std::size_t tokens, std::size_t most, F&& f) {
    const std::size_t blocks = (tokens + most - 1) / most;
    for (std::size_t b = 0, first = 0; b < blocks; ++b) {
        const std::size_t count = (tokens - first + blocks - b - 1) / (blocks - b);
        f(first, count);
        first += count;
    }
}

}  // namespace adainfer::inline v0::detail
