#pragma once

#include <algorithm>
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

// The product of one token, or a few, with a panel of lane_layout.hpp.

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

/// Blocks of several rows of activations.
template <std::size_t count>
using WordRows = const WordBlock* [count];

/// sum += quad q of sixteen rows times four words of each token.
template <DType dtype, int q, std::size_t count>
[[ADAINFER_INLINE2]] inline void add_quad(const std::byte* half, const WordRows<count>& x, __m256i (&sum)[count][2]) noexcept {
    __m256i even[2], odd[2];
    pairs_at<dtype, q>(half, even[0], odd[0]);
    pairs_at<dtype, q>(half + 32, even[1], odd[1]);
#pragma GCC unroll 4
    for (std::size_t t = 0; t < count; ++t) {
        const __m256i x_even = pair_of(x[t]->words + 4 * q), x_odd = pair_of(x[t]->words + 4 * q + 2);
#pragma GCC unroll 2
        for (std::size_t r = 0; r < 2; ++r) {
            add_products(sum[t][r], even[r], x_even);
            add_products(sum[t][r], odd[r], x_odd);
        }
    }
}

/// The same of quads [first, first + 4).
template <DType dtype, int first, std::size_t count>
[[ADAINFER_INLINE2]] inline void add_quads(const std::byte* half, const WordRows<count>& x, __m256i (&sum)[count][2]) noexcept {
    add_quad<dtype, first>(half, x, sum);
    add_quad<dtype, first + 1>(half, x, sum);
    add_quad<dtype, first + 2>(half, x, sum);
    add_quad<dtype, first + 3>(half, x, sum);
}

/// out [tokens][32] = a panel of `cols` columns times `count` rows of activations, `stride` blocks apart; the last of them stands
/// for those that are missing. Bound: memory, or three to four instructions a cycle. 64 weights are four products and four sums
/// for each token after 6 instructions to widen 4 bits, 13 to widen 5 or 6; of 8 bits and one token it is 12 in all. Scales take
/// about a tenth more.
template <DType dtype, std::size_t tokens>
[[ADAINFER_TARGET_AVX2]] inline void lane_product(const std::byte* panel, std::size_t cols, const WordBlock* activations,
                                                  std::size_t stride, std::size_t count, float* out) noexcept {
    constexpr LaneLayout layout = lane_layout(dtype);
    constexpr CodeFormat format = code_format(dtype);
    constexpr bool k_format = layout.columns != 32;
    constexpr std::size_t groups = 32 / format.group, pieces = layout.columns / 32;
    const WeightFetch fetch = lane_fetch();
    WordRows<tokens> x;
    __m256 total[tokens][4];
#pragma GCC unroll 4
    for (std::size_t t = 0; t < tokens; ++t) {
        x[t] = activations + (std::min)(t, count - 1) * stride;
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) total[t][i] = _mm256_setzero_ps();
    }
    for (std::size_t b = 0; b < cols / layout.columns; ++b, panel += layout.bytes) {
        __m256 block_sum[tokens][4], block_less[tokens][4];  // of a k format, before its binary16 factors
#pragma GCC unroll 4
        for (std::size_t t = 0; t < tokens; ++t) {
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) block_sum[t][i] = block_less[t][i] = _mm256_setzero_ps();
        }
        fetch_weights<layout.head>(panel, fetch);
        for (std::size_t p = 0; p < pieces; ++p) {
            const std::byte* const piece = panel + layout.head + p * layout.piece;
            fetch_weights<layout.piece>(piece, fetch);
#pragma GCC unroll 2
            for (std::size_t h = 0; h < 2; ++h) {
                const std::byte* const half = piece + layout.codes + h * layout.half;
#pragma GCC unroll 2
                for (std::size_t g = 0; g < groups; ++g) {
                    __m256i sum[tokens][2];
#pragma GCC unroll 4
                    for (std::size_t t = 0; t < tokens; ++t) {
                        const std::int32_t words = groups == 2 ? x[t]->sums[g] : x[t]->sums[0] + x[t]->sums[1];
                        sum[t][0] = sum[t][1] = _mm256_set1_epi32(-format.bias * words);
                    }
                    if (groups == 1 || g == 0) add_quads<dtype, 0>(half, x, sum);
                    if (groups == 1 || g == 1) add_quads<dtype, 4>(half, x, sum);
#pragma GCC unroll 2
                    for (std::size_t r = 0; r < 2; ++r) {
                        const std::size_t i = 2 * h + r;
                        const __m256 scale = k_format ? bytes_at<dtype>(piece + 32 * g + 8 * i) : halves_at(piece + 16 * i);
#pragma GCC unroll 4
                        for (std::size_t t = 0; t < tokens; ++t) {
                            __m256& to = k_format ? block_sum[t][i] : total[t][i];
                            const __m256 products = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[t][r]), _mm256_set1_ps(x[t]->scale));
                            to = _mm256_fmadd_ps(products, scale, to);
                        }
                    }
                }
                if constexpr (format.has_minimum) {
#pragma GCC unroll 2
                    for (std::size_t i = 2 * h; i < 2 * h + 2; ++i) {
                        const std::byte* const at = piece + layout.minima;
                        const __m256 minimum = k_format ? bytes_at<dtype>(at + 8 * i) : halves_at(at + 16 * i);
#pragma GCC unroll 4
                        for (std::size_t t = 0; t < tokens; ++t) {
                            __m256& to = k_format ? block_less[t][i] : total[t][i];
                            to = _mm256_fmadd_ps(minimum, _mm256_set1_ps(x[t]->scale * x[t]->sum), to);
                        }
                    }
                }
            }
#pragma GCC unroll 4
            for (std::size_t t = 0; t < tokens; ++t) ++x[t];
        }
        if constexpr (k_format) {
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) {
#pragma GCC unroll 4
                for (std::size_t t = 0; t < tokens; ++t) {
                    total[t][i] = _mm256_fmadd_ps(block_sum[t][i], halves_at(panel + 16 * i), total[t][i]);
                    if constexpr (format.has_minimum) {
                        total[t][i] = _mm256_fnmadd_ps(block_less[t][i], halves_at(panel + 64 + 16 * i), total[t][i]);
                    }
                }
            }
        }
    }
#pragma GCC unroll 4
    for (std::size_t t = 0; t < tokens; ++t) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) _mm256_storeu_ps(out + 32 * t + 8 * i, total[t][i]);
    }
}

/// lane_product() for a dtype that has a code format and 1 to most_lane_tokens rows of activations. `out` has room for
/// most_lane_tokens times 32.
inline void lane_product(DType dtype, const std::byte* panel, std::size_t cols, const WordBlock* activations, std::size_t stride,
                         std::size_t count, float* out) noexcept {
    with_codes(dtype, [&]<DType type>() {
        if (count == 1) lane_product<type, 1>(panel, cols, activations, stride, count, out);
        else if (count == 2) lane_product<type, 2>(panel, cols, activations, stride, count, out);
        else lane_product<type, most_lane_tokens>(panel, cols, activations, stride, count, out);
    });
}

#undef ADAINFER_INLINE2

}  // namespace adainfer::inline v0::detail::avx2

#endif
