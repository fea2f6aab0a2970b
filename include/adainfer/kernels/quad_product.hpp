#pragma once

#include <cstdint>
#include <cstring>

#include "adainfer/kernels/cpu.hpp"

#if ADAINFER_X86

// Products of four bytes or two words at once, sixteen rows in the lanes of a vector.

namespace adainfer::inline v0::detail::avx512 {

/// Four bytes or two words, the same in every lane.
template <class T>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline __m512i quad_of(const T* values) noexcept {
    std::int32_t four;
    std::memcpy(&four, values, sizeof four);
    return _mm512_set1_epi32(four);
}

/// sum += products of four bytes each, the weight's unsigned. GCC 12 copies the sum of the intrinsic back and forth.
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void add_products(__m512i& sum, __m512i weight, __m512i activation) noexcept {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(activation));
}

/// The same with products of two words each.
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline void add_word_products(__m512i& sum, __m512i weight,
                                                                             __m512i activation) noexcept {
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(activation));
}

}  // namespace adainfer::inline v0::detail::avx512

#endif
