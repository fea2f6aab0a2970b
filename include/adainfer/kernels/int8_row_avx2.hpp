#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/float_lanes.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_X86

// Quantised rows as they are in the file: their codes, and their product with one token.

namespace adainfer::inline v0::detail::avx2 {

#define ADAINFER_INLINE2 ADAINFER_TARGET_AVX2, gnu::always_inline

[[ADAINFER_INLINE2]] inline __m256i load(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

/// Field `bits` of every byte, moved to its lower end.
[[ADAINFER_INLINE2]] inline __m256i field(__m256i bytes, std::size_t at, int mask) noexcept {
    const __m256i moved = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(static_cast<int>(at)));
    return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask)));
}

/// 32 codes of a row, columns 32 p to 32 p + 31.
template <DType dtype>
[[ADAINFER_INLINE2]] inline __m256i codes32(const std::byte* row, std::size_t p) noexcept {
    constexpr std::size_t bytes = info(dtype).block_bytes;
    if constexpr (dtype == DType::Q8_0) {
        return _mm256_xor_si256(load(row + p * bytes + 2), _mm256_set1_epi8(-128));
    } else if constexpr (info(dtype).block_size == 32) {
        const std::byte* const block = row + p * bytes;
        const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + bytes - 16));
        const __m256i low = field(_mm256_inserti128_si256(_mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1), 0, 15);
        if constexpr (dtype == DType::Q4_0 || dtype == DType::Q4_1) return low;
        // Byte i gets the byte of the fifth bits that holds its own.
        std::int32_t bits;
        std::memcpy(&bits, block + (dtype == DType::Q5_0 ? 2 : 4), sizeof bits);
        const __m256i place = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
        const __m256i own = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201U));
        const __m256i set = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), place), own);
        return _mm256_or_si256(low, _mm256_and_si256(_mm256_cmpeq_epi8(set, own), _mm256_set1_epi8(16)));
    } else {
        const std::byte* const block = row + p / 8 * bytes;
        const std::size_t part = p % 8;
        if constexpr (dtype == DType::Q6_K) {
            const __m256i low = field(load(block + 64 * (part / 4) + 32 * (part % 2)), part % 4 / 2 * 4, 15);
            const __m256i high = field(load(block + 128 + 32 * (part / 4)), 2 * (part % 4), 3);
            return _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
        } else {
            const __m256i low = field(load(block + (dtype == DType::Q5_K ? 48 : 16) + part / 2 * 32), part % 2 * 4, 15);
            if constexpr (dtype == DType::Q4_K) return low;
            return _mm256_or_si256(low, _mm256_slli_epi16(field(load(block + 16), part, 1), 4));
        }
    }
}

/// Scales and minima of one block of a row, one for each group.
template <DType dtype, std::size_t groups, std::size_t pieces>
[[ADAINFER_INLINE2]] inline void block_scales(const std::byte* block, float (&scales)[groups], float (&minima)[pieces]) noexcept {
    if constexpr (info(dtype).block_size == 32) {
        scales[0] = half_at(block);
        if constexpr (code_format(dtype).has_minimum) minima[0] = half_at(block + 2);
    } else if constexpr (dtype == DType::Q6_K) {
        const float d = half_at(block + 208);
        for (std::size_t g = 0; g < 16; ++g) scales[g] = d * static_cast<float>(std::to_integer<std::int8_t>(block[192 + g]));
    } else {
        dequantize::scales_and_minima(block, scales, minima);
        for (std::size_t g = 0; g < 8; ++g) minima[g] = -minima[g];
    }
}

/// row . x for a row of `cols` elements. Bound: unpacking; about 20 instructions for 32 products.
template <DType dtype>
[[ADAINFER_TARGET_AVX2]] inline float row_dot(const std::byte* row, std::size_t cols, const WordBlock* x) noexcept {
    constexpr CodeFormat format = code_format(dtype);
    constexpr std::size_t pieces = info(dtype).block_size / 32, groups = 32 / format.group;
    const __m256i low = _mm256_set1_epi16(255);
    __m256 total = _mm256_setzero_ps();
    float rest = 0.0F;  // of the bias and the minima
    float scales[pieces * groups], minima[pieces];
    for (std::size_t p = 0; p < cols / 32; ++p) {
        if (p % pieces == 0) block_scales<dtype>(row + p / pieces * info(dtype).block_bytes, scales, minima);
        // Quads 0 1 4 5 2 3 6 7, as the words of even and of odd columns are found.
        const __m256i codes = _mm256_permute4x64_epi64(codes32<dtype>(row, p), 0xD8);
        const __m256 first = _mm256_loadu_ps(reinterpret_cast<const float*>(x[p].words));
        const __m256 second = _mm256_loadu_ps(reinterpret_cast<const float*>(x[p].words + 16));
        const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0x88));
        const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0xDD));
        const __m256i product = _mm256_add_epi32(_mm256_madd_epi16(_mm256_and_si256(codes, low), even),
                                                 _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), odd));
        const float* const scale = scales + p % pieces * groups;
        const float a = scale[0] * x[p].scale, b = scale[groups - 1] * x[p].scale;
        const __m256 factor = groups == 1 ? _mm256_set1_ps(a) : _mm256_set_ps(b, b, a, a, b, b, a, a);
        total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), factor, total);
        if constexpr (format.bias != 0) {
            const float bias = static_cast<float>(-format.bias);
            rest += bias * (a * static_cast<float>(x[p].sums[0]) + b * static_cast<float>(x[p].sums[1]));
        }
        if constexpr (format.has_minimum) rest += minima[p % pieces] * (x[p].scale * x[p].sum);
    }
    return sum_of(total) + rest;
}

using RowDot = float (*)(const std::byte* row, std::size_t cols, const WordBlock* x) noexcept;

/// row_dot() of a dtype that has a code format, else null.
[[nodiscard]] inline RowDot row_dot_of(DType dtype) noexcept {
    return with_codes(dtype, []<DType type>() -> RowDot { return row_dot<type>; });
}

#undef ADAINFER_INLINE2

}  // namespace adainfer::inline v0::detail::avx2

#endif
