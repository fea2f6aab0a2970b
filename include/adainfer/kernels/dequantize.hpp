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

[[nodiscard]] inline float load_f16(const std::byte* p) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return f16_to_f32(bits);
}

inline void q8_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 34, out += small_block) {
        const float d = load_f16(block);
        std::int8_t q[32];
        std::memcpy(q, block + 2, sizeof q);
        ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i]);
    }
}

inline void q4_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 18, out += small_block) {
        const float d = load_f16(block);
        std::uint8_t q[16];
        std::memcpy(q, block + 2, sizeof q);
        ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) out[i] = d * static_cast<float>((q[i] & 15) - 8);
        ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) out[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
    }
}

inline void q4_1(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 20, out += small_block) {
        const float d = load_f16(block);
        const float m = load_f16(block + 2);
        std::uint8_t q[16];
        std::memcpy(q, block + 4, sizeof q);
        ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) out[i] = d * static_cast<float>(q[i] & 15) + m;
        ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) out[i + 16] = d * static_cast<float>(q[i] >> 4) + m;
    }
}

inline constexpr std::uint16_t bit_of[16] = {1U << 0U, 1U << 1U, 1U << 2U,  1U << 3U,  1U << 4U,  1U << 5U,
                                             1U << 6U, 1U << 7U, 1U << 8U,  1U << 9U,  1U << 10U, 1U << 11U,
                                             1U << 12U, 1U << 13U, 1U << 14U, 1U << 15U};

/// 32 five-bit integers: low nibbles and high nibbles of 16 bytes at `packed`, the fifth bits in the 4 bytes at `high`.
inline void unpack_5_bits(const std::byte* high, const std::byte* packed, std::int16_t (&q)[32]) noexcept {
    std::uint16_t bits[2];
    std::memcpy(bits, high, sizeof bits);
    std::uint8_t bytes[16];
    std::memcpy(bytes, packed, sizeof bytes);
    // A table of masks instead of shifts by i: a shift count per lane does not exist for 16 bits before AVX-512.
    ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i)
        q[i] = static_cast<std::int16_t>((bytes[i] & 15) | ((bits[0] & bit_of[i]) != 0 ? 16 : 0));
    ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i)
        q[i + 16] = static_cast<std::int16_t>((bytes[i] >> 4) | ((bits[1] & bit_of[i]) != 0 ? 16 : 0));
}

inline void q5_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 22, out += small_block) {
        const float d = load_f16(block);
        std::int16_t q[32];
        unpack_5_bits(block + 2, block + 6, q);
        ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i] - 16);
    }
}

inline void q5_1(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 24, out += small_block) {
        const float d = load_f16(block);
        const float m = load_f16(block + 2);
        std::int16_t q[32];
        unpack_5_bits(block + 4, block + 8, q);
        ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i]) + m;
    }
}

/// The 8 scales and 8 minima of a q4_k or q5_k block, 6 bits each, in 12 bytes: the low six bits of the first four
/// of each in bytes 0-3 and 4-7, those of the last four as nibbles in bytes 8-11 with their top bits in the upper two
/// bits of bytes 0-7. Multiplied by the block's two binary16 factors.
inline void scales_and_minima(const std::byte* block, float (&scale)[8], float (&minimum)[8]) noexcept {
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

inline void q4_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 144, out += super_block) {
        float scale[8], minimum[8];
        scales_and_minima(block, scale, minimum);
        for (std::size_t part = 0; part < 4; ++part) {  // 32 bytes: low nibbles, then high nibbles
            std::uint8_t q[32];
            std::memcpy(q, block + 16 + 32 * part, sizeof q);
            float* const low = out + 64 * part;
            const float d0 = scale[2 * part], d1 = scale[2 * part + 1];
            const float m0 = minimum[2 * part], m1 = minimum[2 * part + 1];
            ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) low[i] = d0 * static_cast<float>(q[i] & 15) - m0;
            ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) low[i + 32] = d1 * static_cast<float>(q[i] >> 4) - m1;
        }
    }
}

inline void q5_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 176, out += super_block) {
        float scale[8], minimum[8];
        scales_and_minima(block, scale, minimum);
        std::uint8_t high[32];  // bit g of byte i belongs to element i of group g
        std::memcpy(high, block + 16, sizeof high);
        for (std::size_t part = 0; part < 4; ++part) {
            std::uint8_t q[32];
            std::memcpy(q, block + 48 + 32 * part, sizeof q);
            float* const low = out + 64 * part;
            const float d0 = scale[2 * part], d1 = scale[2 * part + 1];
            const float m0 = minimum[2 * part], m1 = minimum[2 * part + 1];
            ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) low[i] = d0 * static_cast<float>((q[i] & 15) | ((high[i] & 1) << 4)) - m0;
            ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i)
                low[i + 32] = d1 * static_cast<float>((q[i] >> 4) | ((high[i] & 2) << 3)) - m1;
            ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) high[i] = static_cast<std::uint8_t>(high[i] >> 2);
        }
    }
}

inline void q6_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 210, out += super_block) {
        std::int8_t s[16];
        std::memcpy(s, block + 192, sizeof s);
        const float d = load_f16(block + 208);
        float scale[16];
        ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) scale[i] = d * static_cast<float>(s[i]);
        for (std::size_t half = 0; half < 2; ++half) {
            std::uint8_t low[64], high[32];
            std::memcpy(low, block + 64 * half, sizeof low);
            std::memcpy(high, block + 128 + 32 * half, sizeof high);
            for (std::size_t part = 0; part < 8; ++part) {  // 16 elements under one scale
                const std::size_t group = part / 2, first = part % 2 * 16;
                const std::size_t nibbles = group % 2 * 32 + first;
                const float factor = scale[8 * half + part];
                float* const to = out + 128 * half + 16 * part;
                const auto nibble_shift = static_cast<int>(group / 2 * 4), high_shift = static_cast<int>(group * 2);
                ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) {
                    const int q = ((low[nibbles + i] >> nibble_shift) & 15) | (((high[first + i] >> high_shift) & 3) << 4);
                    to[i] = factor * static_cast<float>(q - 32);
                }
            }
        }
    }
}

/// `convert` maps 16 bits to a float. 32 elements a step through a local array, so that unaligned loads vectorise.
template <class Convert>
inline void half_row(const std::byte* row, std::size_t cols, float* out, Convert convert) noexcept {
    for (std::size_t steps = cols / 32; steps != 0; --steps, row += 64, out += 32) {
        std::uint16_t bits[32];
        std::memcpy(bits, row, sizeof bits);
        ADAINFER_ROLLED for (std::size_t i = 0; i < 32; ++i) out[i] = convert(bits[i]);
    }
    for (std::size_t rest = cols % 32; rest != 0; --rest, row += 2, ++out) {
        std::uint16_t bits;
        std::memcpy(&bits, row, sizeof bits);
        *out = convert(bits);
    }
}

}  // namespace detail::dequantize

/// Writes the `cols` elements of a row in its storage format to `out` as floats, bit for bit the values that the
/// format defines. `row` needs no alignment and holds row_bytes(dtype, cols) bytes; it must not overlap `out`.
/// Precondition: cols is a multiple of the format's block size.
inline void dequantize_row(DType dtype, const std::byte* row, std::size_t cols, float* out) noexcept {
    namespace kernel = detail::dequantize;
    const std::size_t blocks = cols / info(dtype).block_size;
    switch (dtype) {
        case DType::F32:
            if (cols != 0) std::memcpy(out, row, cols * sizeof(float));
            return;
        case DType::F16: return kernel::half_row(row, cols, out, [](std::uint16_t bits) { return f16_to_f32(bits); });
        case DType::BF16: return kernel::half_row(row, cols, out, [](std::uint16_t bits) { return bf16_to_f32(bits); });
        case DType::Q8_0: return kernel::q8_0(row, blocks, out);
        case DType::Q4_0: return kernel::q4_0(row, blocks, out);
        case DType::Q4_1: return kernel::q4_1(row, blocks, out);
        case DType::Q5_0: return kernel::q5_0(row, blocks, out);
        case DType::Q5_1: return kernel::q5_1(row, blocks, out);
        case DType::Q4_K: return kernel::q4_k(row, blocks, out);
        case DType::Q5_K: return kernel::q5_k(row, blocks, out);
        case DType::Q6_K: return kernel::q6_k(row, blocks, out);
    }
}

}  // namespace adainfer::inline v0

#undef ADAINFER_ROLLED
