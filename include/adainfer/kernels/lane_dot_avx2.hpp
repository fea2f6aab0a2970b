#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row_avx2.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_X86

// The product of one token with a panel of lane_layout.hpp.

namespace adainfer::inline v0::detail::avx2 {

#define ADAINFER_INLINE2 ADAINFER_TARGET_AVX2, gnu::always_inline

/// Eight halves, and eight bytes, as floats.
[[ADAINFER_INLINE2]] inline __m256 halves_at(const std::byte* p) noexcept {
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
}
template <DType dtype>
[[ADAINFER_INLINE2]] inline __m256 bytes_at(const std::byte* p) noexcept {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(dtype == DType::Q6_K ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}

/// 16-bit shift right, or left where `by` is negative.
template <int by>
[[ADAINFER_INLINE2]] inline __m256i shifted(__m256i v) noexcept {
    if constexpr (by > 0) return _mm256_srli_epi16(v, by);
    else if constexpr (by < 0) return _mm256_slli_epi16(v, -by);
    else return v;
}

/// Quad q of 32 columns of eight rows: its columns 0 and 2, and its columns 1 and 3, a row in each dword. `rows` are the codes from
/// the first of those rows on.
template <DType dtype, int q>
[[ADAINFER_INLINE2]] inline void pairs_at(const std::byte* rows, __m256i& even, __m256i& odd) noexcept {
    constexpr std::size_t high = lane_layout(dtype).high;
    const __m256i packed = load(rows + 64 * (dtype == DType::Q8_0 ? q : q % 4));
    if constexpr (dtype == DType::Q8_0) {
        even = _mm256_and_si256(packed, _mm256_set1_epi16(255));
        odd = _mm256_srli_epi16(packed, 8);
    } else if constexpr (high == 0) {
        const __m256i low = _mm256_set1_epi16(15);
        even = _mm256_and_si256(shifted<q / 4 * 4>(packed), low);
        odd = shifted<8 + q / 4 * 4>(packed);
        if constexpr (q < 4) odd = _mm256_and_si256(odd, low);
    } else {
        constexpr int place = high == 1 ? q : q % 4 * 2;  // of the quad's bits in a byte of the high ones
        const __m256i bits = shifted<place - 4>(load(rows + 64 * (high == 1 ? 4 : 4 + q / 4)));
        const __m256i nibbles = _mm256_and_si256(shifted<q / 4 * 4>(packed), _mm256_set1_epi8(15));
        const __m256i quad = _mm256_or_si256(nibbles, _mm256_and_si256(bits, _mm256_set1_epi8(high == 1 ? 16 : 48)));
        even = _mm256_and_si256(quad, _mm256_set1_epi16(255));
        odd = _mm256_srli_epi16(quad, 8);
    }
}

/// Two words of an activation, the same in every lane.
[[ADAINFER_INLINE2]] inline __m256i pair_of(const std::int16_t* words) noexcept {
    std::int32_t pair;
    std::memcpy(&pair, words, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/// sum += products of two words each. GCC 12 copies the sum of the intrinsic back and forth.
[[ADAINFER_INLINE2]] inline void add_products(__m256i& sum, __m256i weight, __m256i activation) noexcept {
    const __m256i product = _mm256_madd_epi16(weight, activation);
    asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product));
}

/// sum += quad q of sixteen rows times four words.
template <DType dtype, int q>
[[ADAINFER_INLINE2]] inline void add_quad(const std::byte* half, const std::int16_t* words, __m256i (&sum)[2]) noexcept {
    const __m256i x_even = pair_of(words + 4 * q), x_odd = pair_of(words + 4 * q + 2);
#pragma GCC unroll 2
    for (std::size_t r = 0; r < 2; ++r) {
        __m256i even, odd;
        pairs_at<dtype, q>(half + 32 * r, even, odd);
        add_products(sum[r], even, x_even);
        add_products(sum[r], odd, x_odd);
    }
}

/// The same of quads [first, first + 4).
template <DType dtype, int first>
[[ADAINFER_INLINE2]] inline void add_quads(const std::byte* half, const std::int16_t* words, __m256i (&sum)[2]) noexcept {
    add_quad<dtype, first>(half, words, sum);
    add_quad<dtype, first + 1>(half, words, sum);
    add_quad<dtype, first + 2>(half, words, sum);
    add_quad<dtype, first + 3>(half, words, sum);
}

/// out[32] = a panel of `cols` columns times a row of activations. Bound: memory, or three to four instructions a cycle. 64 weights
/// are four products and four sums after 6 instructions to widen 4 bits, 13 to widen 5 or 6; of 8 bits it is 12 in all. Scales take
/// about a tenth more.
template <DType dtype>
[[ADAINFER_TARGET_AVX2]] inline void lane_product(const std::byte* panel, std::size_t cols, const WordBlock* x,
                                                  float* out) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    constexpr CodeFormat format = code_format(dtype);
    constexpr bool k_format = layout.columns != 32;
    constexpr std::size_t groups = 32 / format.group, pieces = layout.columns / 32;
    const WeightFetch fetch = lane_fetch();
    __m256 total[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) total[i] = _mm256_setzero_ps();
    for (std::size_t b = 0; b < cols / layout.columns; ++b, panel += layout.bytes) {
        __m256 block_sum[4], block_less[4];  // of a k format, before its binary16 factors
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) block_sum[i] = block_less[i] = _mm256_setzero_ps();
        fetch_weights<layout.head>(panel, fetch);
        for (std::size_t p = 0; p < pieces; ++p, ++x) {
            const std::byte* const piece = panel + layout.head + p * layout.piece;
            fetch_weights<layout.piece>(piece, fetch);
            const __m256 x_scale = _mm256_set1_ps(x->scale), x_sum = _mm256_set1_ps(x->sum);
#pragma GCC unroll 2
            for (std::size_t h = 0; h < 2; ++h) {
                const std::byte* const half = piece + layout.codes + h * layout.half;
#pragma GCC unroll 2
                for (std::size_t g = 0; g < groups; ++g) {
                    const std::int32_t words = groups == 2 ? x->sums[g] : x->sums[0] + x->sums[1];
                    __m256i sum[2];
                    sum[0] = sum[1] = _mm256_set1_epi32(-format.bias * words);
                    if (groups == 1 || g == 0) add_quads<dtype, 0>(half, x->words, sum);
                    if (groups == 1 || g == 1) add_quads<dtype, 4>(half, x->words, sum);
#pragma GCC unroll 2
                    for (std::size_t r = 0; r < 2; ++r) {
                        const std::size_t i = 2 * h + r;
                        const __m256 scale = k_format ? bytes_at<dtype>(piece + 32 * g + 8 * i) : halves_at(piece + 16 * i);
                        __m256& to = k_format ? block_sum[i] : total[i];
                        to = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum[r]), x_scale), scale, to);
                    }
                }
                if constexpr (format.has_minimum) {
#pragma GCC unroll 2
                    for (std::size_t i = 2 * h; i < 2 * h + 2; ++i) {
                        const std::byte* const at = piece + layout.minima;
                        __m256& to = k_format ? block_less[i] : total[i];
                        to = _mm256_fmadd_ps(k_format ? bytes_at<dtype>(at + 8 * i) : halves_at(at + 16 * i), x_sum, to);
                    }
                }
            }
        }
        if constexpr (k_format) {
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) {
                total[i] = _mm256_fmadd_ps(block_sum[i], halves_at(panel + 16 * i), total[i]);
                if constexpr (format.has_minimum) {
                    total[i] = _mm256_fnmadd_ps(block_less[i], halves_at(panel + 64 + 16 * i), total[i]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) _mm256_storeu_ps(out + 8 * i, total[i]);
}

/// The same for a dtype that is known at run time and has a code format.
inline void lane_product(DType dtype, const std::byte* panel, std::size_t cols, const WordBlock* x, float* out) noexcept {
    with_codes(dtype, [&]<DType type>() { lane_product<type>(panel, cols, x, out); });
}

#undef ADAINFER_INLINE2

}  // namespace adainfer::inline v0::detail::avx2

#endif
