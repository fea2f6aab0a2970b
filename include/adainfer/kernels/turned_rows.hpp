#pragma once

#include <cstddef>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row.hpp"
#include "adainfer/tensor/dtype.hpp"

// Sixteen rows turned so that they lie side by side, a row in each dword of a vector.

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx512 {

/// Turns a square of 16 rows of 16 dwords.
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void transpose(__m512i (&v)[16]) noexcept {
    __m512i t[16];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    // Four rows by four columns within each quarter of a vector.
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // Then the quarters themselves.
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
        const __m512i a = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88), b = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xDD), d = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xDD);
        t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(a, b, 0xDD);
        t[i + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(c, d, 0xDD);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < 16; ++i) v[i] = t[i];
}

/// The codes of 16 rows, columns 64 step to 64 step + 63: v[j] holds columns 4 j to 4 j + 3 of every row.
template <DType dtype>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void turned_codes(const std::byte* const (&rows)[16], std::size_t step,
                                                                        bool whole, __m512i (&v)[16]) noexcept {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < 16; ++r) v[r] = codes64<dtype>(rows[r], step, whole);
    transpose(v);
}

}  // namespace adainfer::inline v0::detail::avx512

#endif
