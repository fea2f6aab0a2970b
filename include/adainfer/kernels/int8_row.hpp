#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/tensor/dtype.hpp"

namespace adainfer::inline v0::detail {

[[nodiscard]] inline std::uint32_t bits32(const std::byte* p) noexcept {
    std::uint32_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return bits;
}

/// The eight 6-bit scales and minima of a q4_k or q5_k block, the first in the lowest byte, as scales_and_minima() reads them.
inline void k_scale_bytes(const std::byte* block, std::uint64_t& scales, std::uint64_t& minima) noexcept {
    const std::uint32_t a = bits32(block + 4), b = bits32(block + 8), c = bits32(block + 12);
    scales = static_cast<std::uint64_t>((c & 0x0F0F0F0FU) | (a >> 2U & 0x30303030U)) << 32U | (a & 0x3F3F3F3FU);
    minima = static_cast<std::uint64_t>((c >> 4U & 0x0F0F0F0FU) | (b >> 2U & 0x30303030U)) << 32U | (b & 0x3F3F3F3FU);
}

}  // namespace adainfer::inline v0::detail

#if ADAINFER_X86

// Quantised row times activations of 16 bits, straight from the row's packed bytes. Bound: memory, a row is read once; about
// fifteen instructions for 64 elements.

namespace adainfer::inline v0::detail::avx512 {

#define ADAINFER_INLINE512 ADAINFER_TARGET_AVX512, gnu::always_inline

/// Two times 16 bytes as 64 nibbles: those of the first, low then high, and those of the second.
[[ADAINFER_INLINE512]] inline __m512i nibbles(const std::byte* first, const std::byte* second) noexcept {
    const __m256i a = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
    const __m256i b = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(second)));
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    const __m512i shifted = _mm512_srlv_epi64(both, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0));
    return _mm512_and_si512(shifted, _mm512_set1_epi8(15));
}

/// The same 32 bytes twice.
[[ADAINFER_INLINE512]] inline __m512i twice(const std::byte* p) noexcept {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

/// 64 codes of a row, elements 64 step to 64 step + 63; where the row ends after 32 of them, the others are arbitrary.
template <DType dtype>
[[ADAINFER_INLINE512]] inline __m512i codes64(const std::byte* row, std::size_t step, bool whole) noexcept {
    constexpr std::size_t bytes = info(dtype).block_bytes;
    if constexpr (info(dtype).block_size == 32) {
        const std::byte* const a = row + 2 * step * bytes;
        const std::byte* const b = whole ? a + bytes : a;
        if constexpr (dtype == DType::Q8_0) {
            const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + 2));
            const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 2));
            return _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1), _mm512_set1_epi8(-128));
        } else {
            const __m512i low = nibbles(a + bytes - 16, b + bytes - 16);
            if constexpr (dtype == DType::Q4_0 || dtype == DType::Q4_1) return low;
            constexpr std::size_t at = dtype == DType::Q5_0 ? 2 : 4;
            const __mmask64 high = static_cast<std::uint64_t>(bits32(b + at)) << 32U | bits32(a + at);
            return _mm512_or_si512(low, _mm512_maskz_set1_epi8(high, 16));
        }
    } else {
        const std::byte* const block = row + step / 4 * bytes;
        const std::size_t part = step % 4;
        if constexpr (dtype == DType::Q6_K) {
            const std::byte* const half = block + 64 * (part / 2);
            const __m512i low = _mm512_loadu_si512(half), high = twice(block + 128 + 32 * (part / 2));
            const __m512i four = _mm512_and_si512(part % 2 == 0 ? low : _mm512_srli_epi64(low, 4), _mm512_set1_epi8(15));
            const __m512i two = part % 2 == 0 ? _mm512_sllv_epi64(high, _mm512_set_epi64(2, 2, 2, 2, 4, 4, 4, 4))
                                              : _mm512_srlv_epi64(high, _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0));
            return _mm512_or_si512(four, _mm512_and_si512(two, _mm512_set1_epi8(48)));
        } else {
            constexpr std::size_t packed = dtype == DType::Q5_K ? 48 : 16;
            const __m512i shifted =
                _mm512_srlv_epi64(twice(block + packed + 32 * part), _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0));
            const __m512i low = _mm512_and_si512(shifted, _mm512_set1_epi8(15));
            if constexpr (dtype == DType::Q4_K) return low;
            const __m512i bit = _mm512_inserti64x4(_mm512_set1_epi8(static_cast<char>(1U << (2 * part))),
                                                   _mm256_set1_epi8(static_cast<char>(2U << (2 * part))), 1);
            return _mm512_or_si512(low, _mm512_maskz_set1_epi8(_mm512_test_epi8_mask(twice(block + 16), bit), 16));
        }
    }
}

/// k_scale_bytes() times the block's two factors.
[[ADAINFER_INLINE512]] inline void k_scales(const std::byte* block, __m256& scales, __m256& minima) noexcept {
    std::uint64_t scale, minimum;
    k_scale_bytes(block, scale, minimum);
    const __m128 factors = _mm_cvtph_ps(_mm_cvtsi32_si128(static_cast<int>(bits32(block))));
    const __m256i s = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(scale)));
    const __m256i m = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(minimum)));
    scales = _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_broadcastss_ps(factors));
    minima = _mm256_mul_ps(_mm256_cvtepi32_ps(m), _mm256_broadcastss_ps(_mm_movehdup_ps(factors)));
}

/// 32 bits each from the first eight blocks of a row, or from `blocks` where there are fewer. A gather would take longer.
[[ADAINFER_INLINE512]] inline __m256i eight_words(const std::byte* row, std::size_t stride, std::size_t blocks) noexcept {
    const auto word = [&](std::size_t i) { return static_cast<int>(bits32(row + i * stride)); };
    if (blocks >= 8) return _mm256_set_epi32(word(7), word(6), word(5), word(4), word(3), word(2), word(1), word(0));
    const auto some = [&](std::size_t i) { return i < blocks ? word(i) : 0; };
    return _mm256_set_epi32(0, some(6), some(5), some(4), some(3), some(2), some(1), some(0));
}

/// Groups that group_scales() reads at once.
template <DType dtype>
inline constexpr std::size_t groups_at_once = code_format(dtype).group == 16 ? 16 : 8;

/// Scales of the first `groups` groups of a row (groups_at_once at most), and what is added to code * scale: the minima of
/// formats that have them.
template <DType dtype>
[[ADAINFER_INLINE512]] inline void group_scales(const std::byte* row, std::size_t groups, __m512& scales, __m512& minima) noexcept {
    minima = _mm512_setzero_ps();
    if constexpr (info(dtype).block_size == 32) {
        const __m256i words = eight_words(row, info(dtype).block_bytes, groups);
        scales = _mm512_zextps256_ps512(_mm256_cvtph_ps(_mm256_cvtepi32_epi16(words)));
        if constexpr (code_format(dtype).has_minimum) {
            minima = _mm512_zextps256_ps512(_mm256_cvtph_ps(_mm256_cvtepi32_epi16(_mm256_srli_epi32(words, 16))));
        }
    } else if constexpr (dtype == DType::Q6_K) {
        const __m512i scale = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 192)));
        scales = _mm512_mul_ps(_mm512_cvtepi32_ps(scale), _mm512_set1_ps(avx2::half_at(row + 208)));
    } else {
        __m256 eight, less;
        k_scales(row, eight, less);
        scales = _mm512_zextps256_ps512(eight);
        minima = _mm512_zextps256_ps512(_mm256_sub_ps(_mm256_setzero_ps(), less));
    }
}

/// factors[g] = scale of group g times that of the activations; returns the lanes of sum(minimum * sum of activations).
/// `x_scales` and `x_sums` are those of a plain row of activations, and may be read to the next multiple of 16.
template <DType dtype>
[[ADAINFER_INLINE512]] inline __m512 row_factors(const std::byte* row, std::size_t cols, const float* x_scales, const float* x_sums,
                                                 float* factors) noexcept {
    constexpr std::size_t group = code_format(dtype).group, at_once = groups_at_once<dtype>;
    constexpr std::size_t step_bytes = at_once * group / info(dtype).block_size * info(dtype).block_bytes;
    __m512 extra = _mm512_setzero_ps();
    for (std::size_t g = 0; g < cols / group; g += at_once, row += step_bytes) {
        __m512 scales, minima;
        const std::size_t left = cols / group - g;
        group_scales<dtype>(row, left, scales, minima);
        const auto mask = static_cast<__mmask16>(left >= at_once ? (1U << at_once) - 1U : (1U << left) - 1U);
        if constexpr (group == 16) {
            const __m512i index = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
            const __m512 x = _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(x_scales + g / 2)));
            _mm512_storeu_ps(factors + g, _mm512_mul_ps(scales, x));
        } else {
            _mm512_storeu_ps(factors + g, _mm512_mul_ps(scales, _mm512_maskz_loadu_ps(mask, x_scales + g)));
            if constexpr (code_format(dtype).has_minimum) {
                extra = _mm512_fmadd_ps(minima, _mm512_maskz_loadu_ps(mask, x_sums + g), extra);
            }
        }
    }
    _mm512_storeu_ps(factors + cols / group, _mm512_setzero_ps());
    return extra;
}

/// row . x for a row of `cols` elements and activations that were made with the bias of the dtype's CodeFormat.
/// `factors`: room for cols / group + 32.
template <DType dtype>
[[ADAINFER_TARGET_AVX512]] inline float row_dot(const std::byte* row, std::size_t cols, const ActivationRow& x,
                                                float* factors) noexcept {
    constexpr std::size_t group = code_format(dtype).group;
    constexpr bool biased = code_format(dtype).bias != 0;
    const __m512i spread = group == 32 ? _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
                                       : _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m512 fine = _mm512_set1_ps(1.0F / rest_steps);
    __m512 even = row_factors<dtype>(row, cols, x.scales(), x.sums(), factors), odd = _mm512_setzero_ps();
    for (std::size_t step = 0; 64 * step < cols; ++step) {
        const __m512i zero = _mm512_setzero_si512();
        const __m512i w = codes64<dtype>(row, step, 64 * step + 64 <= cols);
        const __m512i product = _mm512_dpbusd_epi32(biased ? _mm512_loadu_si512(x.offsets() + 16 * step) : zero, w,
                                                    _mm512_loadu_si512(x.codes() + 64 * step));
        const __m512i rest = _mm512_dpbusd_epi32(biased ? _mm512_loadu_si512(x.rest_offsets() + 16 * step) : zero, w,
                                                 _mm512_loadu_si512(x.rests() + 64 * step));
        const __m512 sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(rest), fine, _mm512_cvtepi32_ps(product));
        // No more than what one store of row_factors() wrote: a wider load would have to wait for it.
        const __m128 few = group == 32 ? _mm_castsi128_ps(_mm_loadu_si64(factors + 2 * step)) : _mm_loadu_ps(factors + 4 * step);
        const __m512 factor = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(few));
        even = _mm512_fmadd_ps(sum, factor, even);
        const __m512 swap = even;
        even = odd;
        odd = swap;
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}

using RowDot = float (*)(const std::byte* row, std::size_t cols, const ActivationRow& x, float* factors) noexcept;

/// row_dot() of a dtype that has a code format, else null.
[[nodiscard]] inline RowDot row_dot_of(DType dtype) noexcept {
    return with_codes(dtype, []<DType type>() -> RowDot { return row_dot<type>; });
}

#undef ADAINFER_INLINE512

}  // namespace adainfer::inline v0::detail::avx512

#endif
