#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/half.hpp"

// Before a loop of few, fixed steps: compilers that unroll it first then find nothing left to vectorise.
#if defined(__GNUC__)
#define ADAINFER_ROLLED _Pragma("GCC unroll 1")
#else
#define ADAINFER_ROLLED
#endif

namespace adainfer::inline v0 {

namespace detail::dequantize {

static_assert(std::endian::native == std::endian::little, "weights are read as little-endian bytes");

// The kernels copy a block's packed bytes into a local array first: loads need no alignment, and the compiler knows
// that the stores to `out` (floats) do not change what is still to be read (bytes may alias anything, locals do not).
//
// d * q + m may be contracted to one fused operation without changing a bit: a binary16 scale has 11 significant
// bits, the integers of these formats at most 6 + 5, so every product that is followed by a sum is exact.

inline constexpr std::size_t small_block = 32;   ///< elements of a block of the q*_0 and q*_1 formats
inline constexpr std::size_t super_block = 256;  ///< elements of a block of the q*_k formats

[[nodiscard, gnu::always_inline]] inline float load_f16(const std::byte* p) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return f16_to_f32(bits);
}

/// out[i] = value(i, bytes[i]) for 16 bytes as integers of type Byte. All kernels are made of this step: it is what GCC
/// and Clang vectorise well for every width from SSE2 to AVX-512 (longer arrays are split badly for AVX2).
template <class Byte, class Value>
[[gnu::always_inline]] inline void sixteen(const std::byte* bytes, float* out, const Value& value) noexcept {
    Byte q[16];
    std::memcpy(q, bytes, sizeof q);
    ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) out[i] = value(i, q[i]);
}

[[gnu::always_inline]] inline void q8_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 34, out += small_block) {
        const float d = load_f16(block);
        const auto value = [d](std::size_t, int q) { return d * static_cast<float>(q); };
        sixteen<std::int8_t>(block + 2, out, value);
        sixteen<std::int8_t>(block + 18, out + 16, value);
    }
}

[[gnu::always_inline]] inline void q4_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 18, out += small_block) {
        const float d = load_f16(block);
        const std::byte* const packed = block + 2;
        sixteen<std::uint8_t>(packed, out, [d](std::size_t, int q) { return d * static_cast<float>((q & 15) - 8); });
        sixteen<std::uint8_t>(packed, out + 16,
                              [d](std::size_t, int q) { return d * static_cast<float>((q >> 4) - 8); });
    }
}

[[gnu::always_inline]] inline void q4_1(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 20, out += small_block) {
        const float d = load_f16(block);
        const float m = load_f16(block + 2);
        const std::byte* const packed = block + 4;
        sixteen<std::uint8_t>(packed, out, [d, m](std::size_t, int q) { return d * static_cast<float>(q & 15) + m; });
        sixteen<std::uint8_t>(packed, out + 16,
                              [d, m](std::size_t, int q) { return d * static_cast<float>(q >> 4) + m; });
    }
}

/// 1 << i, read as a vector: shifts by a count per lane do not exist before AVX2.
inline constexpr std::int32_t bit_of[16] = {1,       1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                                            1 << 8,  1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};

/// 16 where bit i is set, otherwise 0.
[[nodiscard]] inline int fifth_bit(std::int32_t bits, std::size_t i) noexcept {
    return (bits & bit_of[i]) != 0 ? 16 : 0;
}

[[gnu::always_inline]] inline void q5_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 22, out += small_block) {
        const float d = load_f16(block);
        std::uint16_t high[2];
        std::memcpy(high, block + 2, sizeof high);
        const std::int32_t first = high[0], second = high[1];
        const std::byte* const packed = block + 6;
        sixteen<std::uint8_t>(packed, out, [=](std::size_t i, int q) {
            return d * static_cast<float>(((q & 15) | fifth_bit(first, i)) - 16);
        });
        sixteen<std::uint8_t>(packed, out + 16, [=](std::size_t i, int q) {
            return d * static_cast<float>(((q >> 4) | fifth_bit(second, i)) - 16);
        });
    }
}

[[gnu::always_inline]] inline void q5_1(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 24, out += small_block) {
        const float d = load_f16(block);
        const float m = load_f16(block + 2);
        std::uint16_t high[2];
        std::memcpy(high, block + 4, sizeof high);
        const std::int32_t first = high[0], second = high[1];
        const std::byte* const packed = block + 8;
        sixteen<std::uint8_t>(packed, out, [=](std::size_t i, int q) {
            return d * static_cast<float>((q & 15) | fifth_bit(first, i)) + m;
        });
        sixteen<std::uint8_t>(packed, out + 16, [=](std::size_t i, int q) {
            return d * static_cast<float>((q >> 4) | fifth_bit(second, i)) + m;
        });
    }
}

/// The 8 scales and 8 minima of a q4_k or q5_k block, 6 bits each, in 12 bytes: the low six bits of the first four
/// of each in bytes 0-3 and 4-7, those of the last four as nibbles in bytes 8-11 with their top bits in the upper two
/// bits of bytes 0-7. Multiplied by the block's two binary16 factors.
[[gnu::always_inline]] inline void scales_and_minima(const std::byte* block, float (&scale)[8], float (&minimum)[8]) noexcept {
    const float d = load_f16(block);
    const float dmin = load_f16(block + 2);
    std::uint8_t s[12];
    std::memcpy(s, block + 4, sizeof s);
    for (std::size_t i = 0; i < 4; ++i) {
        scale[i] = d * static_cast<float>(s[i] & 63);
        minimum[i] = dmin * static_cast<float>(s[i + 4] & 63);
        scale[i + 4] = d * static_cast<float>((s[i + 8] & 15) | ((s[i] >> 6) << 4));
        minimum[i + 4] = dmin * static_cast<float>((s[i + 8] >> 4) | ((s[i + 4] >> 6) << 4));
    }
}

[[gnu::always_inline]] inline void q4_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 144, out += super_block) {
        float scale[8], minimum[8];
        scales_and_minima(block, scale, minimum);
        for (std::size_t part = 0; part < 8; ++part) {  // 16 bytes of 8 x 16; 32 bytes share scales
            const std::size_t group = part / 2 * 2;     // low nibbles belong to group, high ones to the next
            const std::byte* const packed = block + 16 + 16 * part;
            float* const low = out + 32 * group + 16 * (part % 2);
            const float d0 = scale[group], d1 = scale[group + 1], m0 = minimum[group], m1 = minimum[group + 1];
            sixteen<std::uint8_t>(packed, low,
                                  [=](std::size_t, int q) { return d0 * static_cast<float>(q & 15) - m0; });
            sixteen<std::uint8_t>(packed, low + 32,
                                  [=](std::size_t, int q) { return d1 * static_cast<float>(q >> 4) - m1; });
        }
    }
}

[[gnu::always_inline]] inline void q5_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 176, out += super_block) {
        float scale[8], minimum[8];
        scales_and_minima(block, scale, minimum);
        for (std::size_t half = 0; half < 2; ++half) {
            std::uint8_t high[16];  // bit g of byte i belongs to element i of group g
            std::memcpy(high, block + 16 + 16 * half, sizeof high);
            for (std::size_t group = 0; group < 8; group += 2) {
                const std::byte* const packed = block + 48 + 16 * group + 16 * half;
                float* const low = out + 32 * group + 16 * half;
                const float d0 = scale[group], d1 = scale[group + 1], m0 = minimum[group], m1 = minimum[group + 1];
                const int bit = static_cast<int>(group);
                sixteen<std::uint8_t>(packed, low, [&, d0, m0, bit](std::size_t i, int q) {
                    return d0 * static_cast<float>((q & 15) | (((high[i] >> bit) & 1) << 4)) - m0;
                });
                sixteen<std::uint8_t>(packed, low + 32, [&, d1, m1, bit](std::size_t i, int q) {
                    return d1 * static_cast<float>((q >> 4) | (((high[i] >> bit) & 2) << 3)) - m1;
                });
            }
        }
    }
}

[[gnu::always_inline]] inline void q6_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 210, out += super_block) {
        std::int8_t s[16];
        std::memcpy(s, block + 192, sizeof s);
        const float d = load_f16(block + 208);
        float scale[16];
        for (std::size_t i = 0; i < 16; ++i) scale[i] = d * static_cast<float>(s[i]);
        for (std::size_t half = 0; half < 2; ++half) {
            for (std::size_t part = 0; part < 8; ++part) {  // 16 elements under one scale
                const std::size_t group = part / 2, first = 16 * (part % 2);
                const std::byte* const packed = block + 64 * half + 32 * (group % 2) + first;
                std::uint8_t high[16];
                std::memcpy(high, block + 128 + 32 * half + first, sizeof high);
                const float factor = scale[8 * half + part];
                const int nibble_shift = group < 2 ? 0 : 4, high_shift = static_cast<int>(2 * group);
                sixteen<std::uint8_t>(packed, out + 128 * half + 16 * part, [&](std::size_t i, int q) {
                    const int low = (q >> nibble_shift) & 15;
                    return factor * static_cast<float>((low | (((high[i] >> high_shift) & 3) << 4)) - 32);
                });
            }
        }
    }
}

/// `convert` maps 16 bits to a float. `step` elements at once through a local array, so that unaligned loads vectorise.
template <std::size_t step, class Convert>
[[gnu::always_inline]] inline void half_row(const std::byte* row, std::size_t cols, float* out, const Convert& convert) noexcept {
    for (std::size_t steps = cols / step; steps != 0; --steps, row += 2 * step, out += step) {
        std::uint16_t bits[step];
        std::memcpy(bits, row, sizeof bits);
        ADAINFER_ROLLED for (std::size_t i = 0; i < step; ++i) out[i] = convert(bits[i]);
    }
    for (std::size_t rest = cols % step; rest != 0; --rest, row += 2, ++out) {
        std::uint16_t bits;
        std::memcpy(&bits, row, sizeof bits);
        *out = convert(bits);
    }
}

/// dequantize_row(), for loops under at_level().
[[gnu::always_inline]] inline void row_to_floats(DType dtype, const std::byte* row, std::size_t cols, float* out) noexcept {
    const std::size_t blocks = cols / info(dtype).block_size;
    switch (dtype) {
        case DType::F32:
            if (cols != 0) std::memcpy(out, row, cols * sizeof(float));
            return;
        // The steps that measured fastest.
        case DType::F16:
            return half_row<32>(row, cols, out, [](std::uint16_t bits) { return f16_to_f32(bits); });
        case DType::BF16:
            return half_row<8>(row, cols, out, [](std::uint16_t bits) { return bf16_to_f32(bits); });
        case DType::Q8_0: return q8_0(row, blocks, out);
        case DType::Q4_0: return q4_0(row, blocks, out);
        case DType::Q4_1: return q4_1(row, blocks, out);
        case DType::Q5_0: return q5_0(row, blocks, out);
        case DType::Q5_1: return q5_1(row, blocks, out);
        case DType::Q4_K: return q4_k(row, blocks, out);
        case DType::Q5_K: return q5_k(row, blocks, out);
        case DType::Q6_K: return q6_k(row, blocks, out);
    }
}

}  // namespace detail::dequantize

/// Writes the `cols` elements of a row in its storage format to `out` as floats, bit for bit the values that the
/// format defines. `row` needs no alignment and holds row_bytes(dtype, cols) bytes; it must not overlap `out`.
/// Precondition: cols is a multiple of the format's block size.
inline void dequantize_row(DType dtype, const std::byte* row, std::size_t cols, float* out) noexcept {
    detail::dequantize::row_to_floats(dtype, row, cols, out);
}

}  // namespace adainfer::inline v0

#undef ADAINFER_ROLLED
