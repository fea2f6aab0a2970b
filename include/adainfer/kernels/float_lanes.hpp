#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/tensor/dtype.hpp"

#if ADAINFER_X86

namespace adainfer::inline v0::detail::avx2 {

/// The binary16 number at p.
[[ADAINFER_TARGET_AVX2, gnu::always_inline]] inline float half_at(const std::byte* p) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

/// Eight numbers of a type of 16 bits as floats.
template <DType dtype>
[[ADAINFER_TARGET_AVX2, gnu::always_inline]] inline __m256 floats8(__m128i halves) noexcept {
    if constexpr (dtype == DType::F16) return _mm256_cvtph_ps(halves);
    else return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

/// Eight elements of a float row as floats.
template <DType dtype>
[[ADAINFER_TARGET_AVX2, gnu::always_inline]] inline __m256 floats8(const std::byte* at) noexcept {
    if constexpr (dtype == DType::F32) return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    else return floats8<dtype>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}

/// The same; past `left` they are zero, and not read.
template <DType dtype>
[[ADAINFER_TARGET_AVX2, gnu::always_inline]] inline __m256 floats8(const std::byte* at, std::size_t left) noexcept {
    if (left >= 8) return floats8<dtype>(at);
    std::byte some[8 * info(dtype).block_bytes] = {};
    std::memcpy(some, at, left * info(dtype).block_bytes);
    return floats8<dtype>(some);
}

/// Sum of the eight lanes.
[[ADAINFER_TARGET_AVX2, gnu::always_inline]] inline float sum_of(__m256 v) noexcept {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace adainfer::inline v0::detail::avx2

namespace adainfer::inline v0::detail::avx512 {

/// The first `left` of 16 lanes, all of them where there are more.
[[nodiscard]] inline __mmask16 first_lanes(std::size_t left) noexcept {
    return static_cast<__mmask16>(left >= 16 ? 0xFFFFU : (1U << left) - 1U);
}

/// 16 numbers of a type of 16 bits as floats.
template <DType dtype>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline __m512 floats16(__m256i halves) noexcept {
    if constexpr (dtype == DType::F16) return _mm512_cvtph_ps(halves);
    else return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/// 16 elements of a float row as floats; past `left` they are zero.
template <DType dtype>
[[ADAINFER_TARGET_AVX512, gnu::always_inline]] inline __m512 floats16(const std::byte* row, std::size_t at,
                                                                      std::size_t left) noexcept {
    const __mmask16 mask = first_lanes(left);
    if constexpr (dtype == DType::F32) return _mm512_maskz_loadu_ps(mask, row + 4 * at);
    else return floats16<dtype>(_mm256_maskz_loadu_epi16(mask, row + 2 * at));
}

}  // namespace adainfer::inline v0::detail::avx512

#endif

#if ADAINFER_ARM64

namespace adainfer::inline v0::detail::neon {

/// Four elements of a float row as floats.
template <DType dtype>
[[nodiscard]] inline float32x4_t floats4(const std::byte* at) noexcept {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(at);
    if constexpr (dtype == DType::F32) return vreinterpretq_f32_u8(vld1q_u8(bytes));
    else if constexpr (dtype == DType::F16) return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(bytes)));
    else return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(bytes)), 16));
}

/// The same; past `left` they are zero, and not read.
template <DType dtype>
[[nodiscard]] inline float32x4_t floats4(const std::byte* at, std::size_t left) noexcept {
    if (left >= 4) return floats4<dtype>(at);
    std::byte some[4 * info(dtype).block_bytes] = {};
    std::memcpy(some, at, left * info(dtype).block_bytes);
    return floats4<dtype>(some);
}

}  // namespace adainfer::inline v0::detail::neon

#endif
