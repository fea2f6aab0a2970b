#pragma once

#include <cstddef>

#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row_avx2.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_X86

// Making the panels of lane_layout.hpp.

namespace adainfer::inline v0::detail::avx2 {

#define ADAINFER_INLINE2 ADAINFER_TARGET_AVX2, gnu::always_inline

/// Turns a square of 8 rows of 8 dwords.
[[ADAINFER_INLINE2]] inline void transpose(__m256i (&v)[8]) noexcept {
    __m256i t[8];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    // Four rows by four columns within each half of a vector.
#pragma GCC unroll 2
    for (std::size_t i = 0; i < 8; i += 4) {
        v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // Then the halves themselves.
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(v[i], v[i + 4], 0x31);
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) v[i] = t[i];
}

/// Eight rows of vector i of those that codes are packed in.
[[ADAINFER_INLINE2]] inline void store(std::byte* codes, std::size_t i, __m256i v) noexcept {
    _mm256_store_si256(reinterpret_cast<__m256i*>(codes + i * LaneLayout::vector), v);
}

/// Packs 32 columns of 8 rows: quads[j] holds columns 4 j to 4 j + 3 of every row.
template <DType dtype>
[[ADAINFER_INLINE2]] inline void store_quads(const __m256i (&quads)[8], std::byte* out) noexcept {
    if constexpr (dtype == DType::Q8_0) {
#pragma GCC unroll 8
        for (std::size_t j = 0; j < 8; ++j) store(out, j, quads[j]);
    } else {
        const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < 4; ++j) {
            const __m256i high = _mm256_slli_epi16(_mm256_and_si256(quads[j + 4], low), 4);
            store(out, j, _mm256_or_si256(_mm256_and_si256(quads[j], low), high));
        }
        constexpr std::size_t high = lane_layout(dtype).high;
        if constexpr (high != 0) {
            constexpr std::size_t each = 8 / high;  // quads a vector; `high` bits of each
#pragma GCC unroll 2
            for (std::size_t part = 0; part < high; ++part) {
                __m256i bits = _mm256_setzero_si256();
#pragma GCC unroll 8
                for (std::size_t i = 0; i < each; ++i) {
                    const __m128i count = _mm_cvtsi32_si128(static_cast<int>(high * i));
                    bits = _mm256_or_si256(bits, _mm256_sll_epi16(field(quads[part * each + i], 4, (1 << high) - 1), count));
                }
                store(out, 4 + part, bits);
            }
        }
    }
}

/// TurnRows of one dtype.
template <DType dtype>
[[ADAINFER_TARGET_AVX2]] inline void turn_rows(const std::byte* const (&rows)[32], std::size_t cols, std::byte* out) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    for (std::size_t lane = 0; lane < LaneLayout::lanes; lane += 8) {
        for (std::size_t b = 0; b < cols / layout.columns; ++b) {
            for (std::size_t r = lane; r < lane + 8; ++r) {
                turn_block_scales<dtype>(rows[r] + b * info(dtype).block_bytes, r, out + b * layout.bytes);
            }
        }
        for (std::size_t p = 0; p < cols / 32; ++p) {
            __m256i v[8];
#pragma GCC unroll 8
            for (std::size_t r = 0; r < 8; ++r) v[r] = codes32<dtype>(rows[lane + r], p);
            transpose(v);
            store_quads<dtype>(v, out + layout.piece_at(p) + layout.codes + lane / 16 * layout.half + lane % 16 * 4);
        }
    }
}

/// A TurnRows.
inline void turn_rows(DType dtype, const std::byte* const (&rows)[LaneLayout::lanes], std::size_t cols, std::byte* out) noexcept {
    with_codes(dtype, [&]<DType type>() { turn_rows<type>(rows, cols, out); });
}

#undef ADAINFER_INLINE2

}  // namespace adainfer::inline v0::detail::avx2

#endif
