#pragma once

#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/kernels/int8_row_avx2.hpp"
#include "adainfer/kernels/lane_weight_avx2.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/turned_rows.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/kernels/word_panel.hpp"
#include "adainfer/kernels/word_panel_avx512.hpp"
#include "adainfer/tensor/dtype.hpp"

// Rows of floats rounded to 12-bit words, 32 columns of a row under one scale, and turned so that they lie side by side: what
// word_panel.hpp multiplies with. Where there is a NaN or an infinity among the 32 the scale is a NaN, and the words are any.

#if ADAINFER_X86

namespace adainfer::inline v0::detail {

/// The largest word that weights are rounded to: 32 products with words of activations stay below 2^31.
inline constexpr float largest_weight_word = 2047;

/// Where the largest magnitude is less, the weights count as zero: its inverse could overflow.
inline constexpr float smallest_weight = smallest_activation * largest_weight_word;

/// The bits of the largest finite float; those of NaN and infinity are more.
inline constexpr std::int32_t largest_finite = 0x7F7FFFFF;

/// What a rounded part is like to a tile.
inline constexpr CodeFormat rounded_format{activation_block};

namespace avx2 {

#define ADAINFER_INLINE2 ADAINFER_TARGET_AVX2, gnu::always_inline

/// Eight magnitudes of 32 elements of a float row, as bits of floats, the largest among them. The order of bits is that of values,
/// with infinity and NaN behind all others.
template <DType dtype>
[[ADAINFER_INLINE2]] inline __m256i magnitudes(const std::byte* row) noexcept {
    if constexpr (dtype == DType::F32) {
        const __m256i all = _mm256_set1_epi32(0x7FFFFFFF);
        const __m256i a = _mm256_max_epi32(_mm256_and_si256(all, load(row)), _mm256_and_si256(all, load(row + 32)));
        const __m256i b = _mm256_max_epi32(_mm256_and_si256(all, load(row + 64)), _mm256_and_si256(all, load(row + 96)));
        return _mm256_max_epi32(a, b);
    } else {
        const __m256i all = _mm256_set1_epi16(0x7FFF);
        const __m256i two = _mm256_max_epi16(_mm256_and_si256(all, load(row)), _mm256_and_si256(all, load(row + 32)));
        const __m128i one = _mm_max_epi16(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
        return _mm256_castps_si256(floats8<dtype>(one));
    }
}

/// The scales of 32 columns of eight rows, from byte `skip` of each on, and what multiplied with makes their words.
template <DType dtype>
[[ADAINFER_INLINE2]] inline void word_scales(const std::byte* const* rows, std::size_t skip, float* scales,
                                             float* inverses) noexcept {
    __m256i v[8];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < 8; ++r) v[r] = magnitudes<dtype>(rows[r] + skip);
    transpose(v);
#pragma GCC unroll 7
    for (std::size_t i = 1; i < 8; ++i) v[0] = _mm256_max_epi32(v[0], v[i]);
    const __m256 largest = _mm256_castsi256_ps(v[0]), most = _mm256_set1_ps(largest_weight_word);
    const __m256 bad = _mm256_castsi256_ps(_mm256_cmpgt_epi32(v[0], _mm256_set1_epi32(largest_finite)));
    const __m256 some = _mm256_cmp_ps(largest, _mm256_set1_ps(smallest_weight), _CMP_GE_OQ);
    const __m256 scale = _mm256_and_ps(some, _mm256_mul_ps(largest, _mm256_set1_ps(1 / largest_weight_word)));
    _mm256_store_ps(scales, _mm256_or_ps(bad, scale));  // all bits: a NaN
    _mm256_store_ps(inverses, _mm256_and_ps(some, _mm256_div_ps(most, largest)));
}

/// The words of sixteen columns of eight rows.
template <DType dtype>
[[ADAINFER_INLINE2]] inline void round_columns(const std::byte* const* rows, std::size_t skip, const float* inverses,
                                               std::int16_t (*words)[WordPanel::lanes][2], std::size_t lane) noexcept {
    const __m256i order = _mm256_broadcastsi128_si256(_mm_set_epi8(15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0));
    __m256i v[8];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < 8; ++r) {
        const std::byte* const from = rows[r] + skip;
        const __m256 inverse = _mm256_broadcast_ss(inverses + r);
        const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(floats8<dtype>(from), inverse));
        const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(floats8<dtype>(from + 8 * info(dtype).block_bytes), inverse));
        v[r] = _mm256_shuffle_epi8(_mm256_packs_epi32(a, b), order);
    }
    transpose(v);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) {
        const std::size_t quad = i / 4 + i % 4 / 2 * 2;  // each half of a row is a quad of a and one of b
        _mm256_store_si256(reinterpret_cast<__m256i*>(words[2 * quad + i % 2][lane]), v[i]);
    }
}

/// Fills a panel with the sixteen rows from `first` on.
template <DType dtype>
[[ADAINFER_TARGET_AVX2]] inline void round_rows(const WeightPart& part, std::size_t first, WordPanel& panel) noexcept {
    constexpr std::size_t bytes = info(dtype).block_bytes;
    panel.depth = part.depth;
    panel.format = rounded_format;
    for (std::size_t lane = 0; lane < WordPanel::lanes; lane += 8) {
        const std::byte* rows[8];
        for (std::size_t r = 0; r < 8; ++r) rows[r] = part.row(first + lane + r);
        alignas(32) float inverses[panel_depth / 32][8];  // all of them first: words would wait for theirs
        for (std::size_t g = 0; g < part.depth / 32; ++g) {
            word_scales<dtype>(rows, 32 * bytes * g, panel.scales[g] + lane, inverses[g]);
        }
        for (std::size_t k = 0; k < part.depth; k += 16) {
            round_columns<dtype>(rows, bytes * k, inverses[k / 32], panel.words + k / 2, lane);
        }
    }
}

/// A part of a weight of floats, a multiple of 32 columns.
[[nodiscard]] inline WordPanels rounded_words(const WeightPart& part) noexcept {
    WordPanels panels;
    with_floats(part.weight.dtype, [&]<DType dtype>() {
        for (std::size_t half = 0; half < 2; ++half) round_rows<dtype>(part, WordPanel::lanes * half, panels[half]);
    });
    return panels;
}

#undef ADAINFER_INLINE2

}  // namespace avx2

namespace avx512 {

/// avx2::magnitudes(), sixteen.
template <DType dtype>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline __m512i magnitudes(const std::byte* row) noexcept {
    if constexpr (dtype == DType::F32) {
        const __m512i all = _mm512_set1_epi32(0x7FFFFFFF);
        const __m512i low = _mm512_loadu_si512(row), high = _mm512_loadu_si512(row + 64);
        return _mm512_max_epi32(_mm512_and_si512(all, low), _mm512_and_si512(all, high));
    } else {
        const __m512i two = _mm512_and_si512(_mm512_set1_epi16(0x7FFF), _mm512_loadu_si512(row));
        const __m256i one = _mm256_max_epi16(_mm512_castsi512_si256(two), _mm512_extracti64x4_epi64(two, 1));
        return _mm512_castps_si512(floats16<dtype>(one));
    }
}

/// avx2::word_scales() of sixteen rows.
template <DType dtype>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void word_scales(const std::byte* const* rows, std::size_t skip,
                                                                       float* scales, float* inverses) noexcept {
    __m512i v[16];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < 16; ++r) v[r] = magnitudes<dtype>(rows[r] + skip);
    transpose(v);
#pragma GCC unroll 15
    for (std::size_t i = 1; i < 16; ++i) v[0] = _mm512_max_epi32(v[0], v[i]);
    const __m512 largest = _mm512_castsi512_ps(v[0]), most = _mm512_set1_ps(largest_weight_word);
    const __mmask16 bad = _mm512_cmpgt_epi32_mask(v[0], _mm512_set1_epi32(largest_finite));
    const __mmask16 some = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(smallest_weight), _CMP_GE_OQ);
    const __m512 scale = _mm512_maskz_mul_ps(some, largest, _mm512_set1_ps(1 / largest_weight_word));
    const __m512 nan = _mm512_castsi512_ps(_mm512_set1_epi32(-1));
    _mm512_store_ps(scales, _mm512_mask_mov_ps(scale, bad, nan));
    _mm512_store_ps(inverses, _mm512_maskz_div_ps(some, most, largest));
}

/// The words of 32 columns of sixteen rows.
template <DType dtype>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void round_columns(const std::byte* const* rows, std::size_t column,
                                                                         const float* inverses,
                                                                         std::int16_t (*words)[WordPanel::lanes][2],
                                                                         std::size_t lane) noexcept {
    const __m512i order = _mm512_broadcast_i32x4(_mm_set_epi8(15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0));
    __m512i v[16];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < 16; ++r) {
        const __m512 inverse = _mm512_set1_ps(inverses[r]);
        const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(floats16<dtype>(rows[r], column, 16), inverse));
        const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(floats16<dtype>(rows[r], column + 16, 16), inverse));
        v[r] = _mm512_shuffle_epi8(_mm512_packs_epi32(a, b), order);
    }
    transpose(v);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < 16; ++i) {
        const std::size_t quad = i / 4 + i % 4 / 2 * 4;  // each quarter of a row is a quad of a and one of b
        _mm512_store_si512(words[2 * quad + i % 2][lane], v[i]);
    }
}

/// Fills a panel.
template <DType dtype>
[[ADAINFER_TARGET_AVX512]] inline void round_rows(const WeightPart& part, WordPanel& panel) noexcept {
    panel.depth = part.depth;
    panel.format = rounded_format;
    for (std::size_t lane = 0; lane < WordPanel::lanes; lane += 16) {
        const std::byte* rows[16];
        for (std::size_t r = 0; r < 16; ++r) rows[r] = part.row(lane + r);
        alignas(64) float inverses[panel_depth / 32][16];
        for (std::size_t g = 0; g < part.depth / 32; ++g) {
            word_scales<dtype>(rows, 32 * info(dtype).block_bytes * g, panel.scales[g] + lane, inverses[g]);
        }
        for (std::size_t k = 0; k < part.depth; k += 32) {
            round_columns<dtype>(rows, k, inverses[k / 32], panel.words + k / 2, lane);
        }
    }
}

/// A part of a weight of floats, a multiple of 32 columns.
[[nodiscard]] inline WordPanel rounded_words(const WeightPart& part) noexcept {
    WordPanel panel;
    with_floats(part.weight.dtype, [&]<DType dtype>() { round_rows<dtype>(part, panel); });
    return panel;
}

}  // namespace avx512

}  // namespace adainfer::inline v0::detail

#endif
