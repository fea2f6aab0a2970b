#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/tensor/half.hpp"
#include "adainfer/tensor/kv_type.hpp"

// Rows of keys and values, from floats to what a cache stores and back. A row is stored once and read by every later token.

namespace adainfer::inline v0 {

namespace detail::kv {

inline void f16_to_floats(const std::byte* row, std::size_t n, float* out) noexcept { dequantize_row(DType::F16, row, n, out); }

inline void floats_to_f16(const float* x, std::size_t n, std::byte* out) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint16_t bits = f32_to_f16(x[i]);
        std::memcpy(out + 2 * i, &bits, sizeof bits);
    }
}

/// Blocks of 32: the largest magnitude over 127 as binary16, then each element over that scale, rounded to an integer. The scale
/// divides as it is stored, so that its own rounding costs nothing.
[[gnu::always_inline]] inline void floats_to_q8_0(const float* x, std::size_t n, std::byte* out) noexcept {
    constexpr float to_integer = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
    for (; n != 0; n -= 32, x += 32, out += 34) {
        const std::uint16_t scale = f32_to_f16(max_magnitude(x, 32) / 127.0F);
        const float d = f16_to_f32(scale), inverse = d > 0.0F ? 1.0F / d : 0.0F;
        std::int8_t q[32];
        for (std::size_t i = 0; i < 32; ++i) {
            const float above = x[i] * inverse < -127.0F ? -127.0F : x[i] * inverse;
            const float clamped = above > 127.0F ? 127.0F : above;
            q[i] = static_cast<std::int8_t>((clamped + to_integer) - to_integer);
        }
        std::memcpy(out, &scale, sizeof scale);
        std::memcpy(out + 2, q, sizeof q);
    }
}

#if ADAINFER_X86

[[ADAINFER_TARGET_AVX512]] inline void f16_to_floats_avx512(const std::byte* row, std::size_t n, float* out) noexcept {
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        std::uint16_t bits[16];
        std::memcpy(bits, row + 2 * i, sizeof bits);
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits))));
    }
    f16_to_floats(row + 2 * i, n - i, out + i);
}

[[ADAINFER_TARGET_AVX2]] inline void f16_to_floats_avx2(const std::byte* row, std::size_t n, float* out) noexcept {
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        std::uint16_t bits[8];
        std::memcpy(bits, row + 2 * i, sizeof bits);
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bits))));
    }
    f16_to_floats(row + 2 * i, n - i, out + i);
}

[[ADAINFER_TARGET_AVX2]] inline void floats_to_f16_avx2(const float* x, std::size_t n, std::byte* out) noexcept {
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i bits = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        std::memcpy(out + 2 * i, &bits, sizeof bits);
    }
    floats_to_f16(x + i, n - i, out + 2 * i);
}

#endif

#if ADAINFER_ARM64

inline void f16_to_floats_neon(const std::byte* row, std::size_t n, float* out) noexcept {
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        std::uint16_t bits[4];
        std::memcpy(bits, row + 2 * i, sizeof bits);
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits))));
    }
    f16_to_floats(row + 2 * i, n - i, out + i);
}

inline void floats_to_f16_neon(const float* x, std::size_t n, std::byte* out) noexcept {
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint16x4_t bits = vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i)));
        std::memcpy(out + 2 * i, &bits, sizeof bits);
    }
    floats_to_f16(x + i, n - i, out + 2 * i);
}

#endif

}  // namespace detail::kv

/// Stores n floats as the type has them; every level of the machine gives the same bits. Preconditions: n is a multiple of the
/// type's block size, no magnitude exceeds largest_value(type).
inline void pack_kv(KvType type, const float* x, std::size_t n, std::byte* out) noexcept {
    const CpuLevel level = best_cpu_level();
    switch (type) {
        case KvType::F32: std::memcpy(out, x, n * sizeof(float)); return;
        case KvType::Q8_0: at_level(level, [&] { detail::kv::floats_to_q8_0(x, n, out); }); return;
        case KvType::F16:
#if ADAINFER_X86
            if (level >= CpuLevel::Avx2) return detail::kv::floats_to_f16_avx2(x, n, out);
#elif ADAINFER_ARM64
            if (level == CpuLevel::Neon) return detail::kv::floats_to_f16_neon(x, n, out);
#endif
            return detail::kv::floats_to_f16(x, n, out);
    }
}

/// The floats of n stored elements; what every level gives is the same.
inline void unpack_kv(KvType type, CpuLevel level, const std::byte* rows, std::size_t n, float* out) noexcept {
    switch (type) {
        case KvType::F32: std::memcpy(out, rows, n * sizeof(float)); return;
        case KvType::Q8_0: at_level(level, [&] { detail::dequantize::q8_0(rows, n / 32, out); }); return;
        case KvType::F16:
#if ADAINFER_X86
            if (level >= CpuLevel::Avx512) return detail::kv::f16_to_floats_avx512(rows, n, out);
            if (level == CpuLevel::Avx2) return detail::kv::f16_to_floats_avx2(rows, n, out);
#elif ADAINFER_ARM64
            if (level == CpuLevel::Neon) return detail::kv::f16_to_floats_neon(rows, n, out);
#endif
            return detail::kv::f16_to_floats(rows, n, out);
    }
}

}  // namespace adainfer::inline v0
