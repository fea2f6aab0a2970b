#pragma once

#include <cstddef>

#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/tensor/dtype.hpp"

// Quantised weights laid out for products of one token: 32 rows side by side, so that one instruction multiplies sixteen of them
// and nothing is added across lanes. The numbers are those of the file, only their places differ:
//
//     panel of 32 rows: a block of columns (32, or 256 of the k formats) after the other, each
//       of the k formats: binary16 d [32 rows] and, where there are minima, dmin [32]
//       for every 32 columns:
//         scales and minima [32 rows]: binary16; of the k formats a byte each, q6_k two groups of scales
//         for each half of the rows vectors of 16 rows x 4 columns, a quad of columns in a dword: q8_0 eight of them; else
//         quads j and j + 4 as low and high nibbles of vector j, then what the nibbles lack: a bit of every quad in one
//         vector (q5_*) or two bits of quads 0-3 and of quads 4-7 in two (q6_k).
//
// As large as the file, but for the bytes of 6-bit scales (q4_k 2.8 % more, q5_k 2.3 %) and rows up to the next multiple of 32.

namespace adainfer::inline v0 {

namespace detail {

/// Where things stand in a panel, bytes. Everything is a multiple of a vector's 64.
struct LaneLayout {
    static constexpr std::size_t lanes = 32, vector = 64;

    std::size_t columns = 0;  ///< of a block
    std::size_t head = 0;     ///< of a block: its binary16 factors, of a k format
    std::size_t minima = 0;   ///< of 32 columns: offset of the minima, where there are any
    std::size_t codes = 0;    ///< of 32 columns: offset of the codes
    std::size_t high = 0;     ///< vectors of bits above the nibbles, for each half of the rows
    std::size_t half = 0;     ///< codes of 32 columns and half of the rows
    std::size_t piece = 0;    ///< 32 columns
    std::size_t bytes = 0;    ///< a block

    /// Offset of columns 32 i to 32 i + 31.
    [[nodiscard]] constexpr std::size_t piece_at(std::size_t i) const noexcept {
        const std::size_t pieces = columns / 32;
        return i / pieces * bytes + head + i % pieces * piece;
    }
};

/// Tokens that a panel is multiplied with at once: what registers hold the sums of.
inline constexpr std::size_t most_lane_tokens = 4;

[[nodiscard]] constexpr LaneLayout lane_layout(DType dtype) noexcept {
    const bool has_minimum = code_format(dtype).has_minimum;
    LaneLayout layout;
    layout.columns = info(dtype).block_size;
    const bool k_format = layout.columns != 32;
    layout.head = k_format ? LaneLayout::vector * (has_minimum ? 2 : 1) : 0;
    layout.minima = k_format ? LaneLayout::lanes : LaneLayout::vector;
    layout.codes = LaneLayout::vector * (has_minimum && !k_format ? 2 : 1);
    const bool five_bits = dtype == DType::Q5_0 || dtype == DType::Q5_1 || dtype == DType::Q5_K;
    layout.high = dtype == DType::Q6_K ? 2 : five_bits ? 1 : 0;
    layout.half = LaneLayout::vector * (dtype == DType::Q8_0 ? 8 : 4 + layout.high);
    layout.piece = layout.codes + 2 * layout.half;
    layout.bytes = layout.head + layout.columns / 32 * layout.piece;
    return layout;
}

}  // namespace detail

#if ADAINFER_X86

namespace detail::avx512 {

#define ADAINFER_INLINE512 ADAINFER_TARGET_AVX512, gnu::always_inline

/// Sixteen halves, and sixteen bytes, as floats.
[[ADAINFER_INLINE512]] inline __m512 halves_at(const std::byte* p) noexcept {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
}
template <DType dtype>
[[ADAINFER_INLINE512]] inline __m512 bytes_at(const std::byte* p) noexcept {
    const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(dtype == DType::Q6_K ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes));
}

/// Fields of `bits` moved to bits 4 and up: bit i of two-bit fields 2 i, or one bit.
template <unsigned width, int i>
[[ADAINFER_INLINE512]] inline __m512i with_high(__m512i nibbles, __m512i bits) noexcept {
    constexpr int shift = 4 - static_cast<int>(width) * i;
    __m512i moved = bits;
    if constexpr (shift > 0) moved = _mm512_slli_epi16(bits, shift);
    if constexpr (shift < 0) moved = _mm512_srli_epi16(bits, -shift);
    const __m512i mask = _mm512_set1_epi8(width == 2 ? 48 : 16);
    return _mm512_ternarylogic_epi32(nibbles, moved, mask, 0xF8);  // nibbles | (moved & mask)
}

/// Which quad of 32 columns quads_at<dtype, j>() gives as its first (0) or second (1): of 8 bits two that follow one another, else
/// two that share bytes.
[[nodiscard]] constexpr std::size_t quad_index(DType dtype, std::size_t j, std::size_t which) noexcept {
    return dtype == DType::Q8_0 ? 2 * j + which : j + 4 * which;
}

/// Two quads of 32 columns of half of a panel's rows: see quad_index().
template <DType dtype, int j>
[[ADAINFER_INLINE512]] inline void quads_at(const std::byte* half, __m512i& first, __m512i& second) noexcept {
    if constexpr (dtype == DType::Q8_0) {
        first = _mm512_load_si512(half + 128 * j);
        second = _mm512_load_si512(half + 128 * j + 64);
    } else {
        const __m512i both = _mm512_load_si512(half + 64 * j), low = _mm512_set1_epi8(15);
        first = _mm512_and_si512(both, low);
        second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        if constexpr (lane_layout(dtype).high == 1) {
            const __m512i bits = _mm512_load_si512(half + 256);
            first = with_high<1, j>(first, bits);
            second = with_high<1, j + 4>(second, bits);
        } else if constexpr (lane_layout(dtype).high == 2) {
            first = with_high<2, j>(first, _mm512_load_si512(half + 256));
            second = with_high<2, j>(second, _mm512_load_si512(half + 320));
        }
    }
}

/// Scales of group g of 32 columns for half h of the rows, and what is added to code * scale.
template <DType dtype>
[[ADAINFER_INLINE512]] inline __m512 scales_at(const std::byte* block, const std::byte* piece, std::size_t g,
                                               std::size_t h) noexcept {
    if constexpr (lane_layout(dtype).head == 0) return halves_at(piece + 32 * h);
    else return _mm512_mul_ps(bytes_at<dtype>(piece + 32 * g + 16 * h), halves_at(block + 32 * h));
}
template <DType dtype>
[[ADAINFER_INLINE512]] inline __m512 minima_at(const std::byte* block, const std::byte* piece, std::size_t h) noexcept {
    const std::byte* const at = piece + lane_layout(dtype).minima;
    if constexpr (lane_layout(dtype).head == 0) return halves_at(at + 32 * h);
    else return _mm512_fnmadd_ps(bytes_at<dtype>(at + 16 * h), halves_at(block + 64 + 32 * h), _mm512_setzero_ps());
}

#undef ADAINFER_INLINE512

}  // namespace detail::avx512

#endif

}  // namespace adainfer::inline v0
