#pragma once

#include <cstddef>
#include <cstring>

#include "adainfer/kernels/cpu.hpp"

// The float product of attention:
//
//     out[r][lane] = sum over k of a[r * row_stride + k * k_stride] * b[k][lane]
//
// `a` is a few keys or (with the strides swapped) values; `b` holds `lanes` queries side by side.

namespace adainfer::inline v0 {

/// One product, of at most tile_rows rows.
struct FloatTile {
    const float* a = nullptr;
    std::size_t row_stride = 0, k_stride = 1, k = 0;
    const float* b = nullptr;      ///< [k][lanes]
    float* out = nullptr;          ///< [rows][lanes]
};

inline constexpr std::size_t tile_rows = 6;

#if ADAINFER_X86

namespace detail {

/// Bound: 16 multiply-adds an instruction, two of them for each broadcast of `a`.
struct FloatTileAvx512 {
    static constexpr CpuLevel level = CpuLevel::Avx512;
    static constexpr std::size_t lanes = 32;

    template <std::size_t rows>
    [[ADAINFER_TARGET_AVX512]] static void run(const FloatTile& t) noexcept {
        __m512 sum[rows][2];
#pragma GCC unroll 6
        for (std::size_t r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        for (std::size_t k = 0; k < t.k; ++k) {
            const __m512 b0 = _mm512_loadu_ps(t.b + k * lanes), b1 = _mm512_loadu_ps(t.b + k * lanes + 16);
#pragma GCC unroll 6
            for (std::size_t r = 0; r < rows; ++r) {
                const __m512 a = _mm512_set1_ps(t.a[r * t.row_stride + k * t.k_stride]);
                sum[r][0] = _mm512_fmadd_ps(a, b0, sum[r][0]);
                sum[r][1] = _mm512_fmadd_ps(a, b1, sum[r][1]);
            }
        }
#pragma GCC unroll 6
        for (std::size_t r = 0; r < rows; ++r) {
            _mm512_storeu_ps(t.out + r * lanes, sum[r][0]);
            _mm512_storeu_ps(t.out + r * lanes + 16, sum[r][1]);
        }
    }
};

/// The same with 8 multiply-adds an instruction. lanes = 16.
struct FloatTileAvx2 {
    static constexpr CpuLevel level = CpuLevel::Avx2;
    static constexpr std::size_t lanes = 16;

    template <std::size_t rows>
    [[ADAINFER_TARGET_AVX2]] static void run(const FloatTile& t) noexcept {
        __m256 sum[rows][2];
#pragma GCC unroll 6
        for (std::size_t r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
        for (std::size_t k = 0; k < t.k; ++k) {
            const __m256 b0 = _mm256_loadu_ps(t.b + k * lanes), b1 = _mm256_loadu_ps(t.b + k * lanes + 8);
#pragma GCC unroll 6
            for (std::size_t r = 0; r < rows; ++r) {
                const __m256 a = _mm256_broadcast_ss(t.a + r * t.row_stride + k * t.k_stride);
                sum[r][0] = _mm256_fmadd_ps(a, b0, sum[r][0]);
                sum[r][1] = _mm256_fmadd_ps(a, b1, sum[r][1]);
            }
        }
#pragma GCC unroll 6
        for (std::size_t r = 0; r < rows; ++r) {
            _mm256_storeu_ps(t.out + r * lanes, sum[r][0]);
            _mm256_storeu_ps(t.out + r * lanes + 8, sum[r][1]);
        }
    }
};

}  // namespace detail

#endif

#if ADAINFER_ARM64

namespace detail {

/// The same with 4 multiply-adds an instruction. lanes = 16.
struct FloatTileNeon {
    static constexpr CpuLevel level = CpuLevel::Neon;
    static constexpr std::size_t lanes = 16;

    template <std::size_t rows>
    static void run(const FloatTile& t) noexcept {
        float32x4_t sum[rows][4];
#pragma GCC unroll 6
        for (std::size_t r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = vdupq_n_f32(0.0F);
        for (std::size_t k = 0; k < t.k; ++k) {
            const float32x4x4_t b = vld1q_f32_x4(t.b + k * lanes);
#pragma GCC unroll 6
            for (std::size_t r = 0; r < rows; ++r) {
                const float a = t.a[r * t.row_stride + k * t.k_stride];
#pragma GCC unroll 4
                for (std::size_t i = 0; i < 4; ++i) sum[r][i] = vfmaq_n_f32(sum[r][i], b.val[i], a);
            }
        }
#pragma GCC unroll 6
        for (std::size_t r = 0; r < rows; ++r) {
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) vst1q_f32(t.out + r * lanes + 4 * i, sum[r][i]);
        }
    }
};

}  // namespace detail

#endif

namespace detail {

struct FloatTilePortable {
    static constexpr CpuLevel level = CpuLevel::Portable;
    static constexpr std::size_t lanes = 16;

    template <std::size_t rows>
    static void run(const FloatTile& t) noexcept {
        float sum[rows][lanes] = {};
        for (std::size_t k = 0; k < t.k; ++k) {
            for (std::size_t r = 0; r < rows; ++r) {
                const float a = t.a[r * t.row_stride + k * t.k_stride];
                for (std::size_t lane = 0; lane < lanes; ++lane) sum[r][lane] += a * t.b[k * lanes + lane];
            }
        }
        std::memcpy(t.out, sum, sizeof sum);
    }
};

/// out [rows][lanes] of any number of rows.
template <class Tile>
void float_tiles(FloatTile t, std::size_t rows) noexcept {
    for (; rows >= tile_rows; rows -= tile_rows) {
        Tile::template run<tile_rows>(t);
        t.a += tile_rows * t.row_stride;
        t.out += tile_rows * Tile::lanes;
    }
    switch (rows) {
        case 1: return Tile::template run<1>(t);
        case 2: return Tile::template run<2>(t);
        case 3: return Tile::template run<3>(t);
        case 4: return Tile::template run<4>(t);
        case 5: return Tile::template run<5>(t);
        default: return;
    }
}

}  // namespace detail

}  // namespace adainfer::inline v0
