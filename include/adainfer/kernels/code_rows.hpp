#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/tensor/dtype.hpp"

// Quantised rows as 8-bit codes, so that one integer product serves all of GGUF's formats:
//
//     weight[i] = scale[i / group] * (code[i] - bias) + minimum[i / group]

namespace adainfer::inline v0 {

/// How a format's rows look as codes; group 0: the format is not one of integers.
struct CodeFormat {
    std::size_t group = 0;    ///< elements under one scale
    int bias = 0;             ///< what the codes are shifted by to be unsigned
    bool has_minimum = false;
};

[[nodiscard]] constexpr CodeFormat code_format(DType dtype) noexcept {
    switch (dtype) {
        case DType::Q8_0: return {32, 128, false};
        case DType::Q4_0: return {32, 8, false};
        case DType::Q5_0: return {32, 16, false};
        case DType::Q6_K: return {16, 32, false};
        case DType::Q4_1:
        case DType::Q5_1:
        case DType::Q4_K:
        case DType::Q5_K: return {32, 0, true};
        case DType::F32:
        case DType::F16:
        case DType::BF16: return {};
    }
    return {};
}

namespace detail::codes {

/// The low nibbles of 16 bytes, then the high ones 16 codes later.
inline void nibbles(const std::byte* packed, std::uint8_t* out) noexcept {
    std::uint8_t q[16];
    std::memcpy(q, packed, sizeof q);
    for (std::size_t i = 0; i < 16; ++i) {
        out[i] = q[i] & 15;
        out[i + 16] = static_cast<std::uint8_t>(q[i] >> 4);
    }
}

/// Adds 16 to the codes whose bit in `high` is set.
inline void fifth_bits(const std::byte* high, std::uint8_t* out) noexcept {
    std::uint8_t bytes[4];
    std::memcpy(bytes, high, sizeof bytes);
    for (std::size_t b = 0; b < 4; ++b) {
        // Eight bits become eight bytes of 0 or 16: bit i of the byte is moved to bit 8 i + 4.
        const std::uint64_t spread = bytes[b] * std::uint64_t{0x0101010101010101} & 0x8040201008040201U;
        const std::uint64_t set = ((spread + 0x7F7F7F7F7F7F7F7FU) | spread) >> 7U & 0x0101010101010101U;
        std::uint64_t eight;
        std::memcpy(&eight, out + 8 * b, 8);
        eight |= set << 4U;
        std::memcpy(out + 8 * b, &eight, 8);
    }
}

}  // namespace detail::codes

/// Writes the `cols` codes of a row, and its cols / group scales and minima (where the format has them; else `minima` is not
/// touched). Precondition: the dtype has a code format.
inline void unpack_codes(DType dtype, const std::byte* row, std::size_t cols, std::uint8_t* codes, float* scales,
                         float* minima) noexcept {
    using dequantize_f16 = float (*)(const std::byte*) noexcept;
    constexpr dequantize_f16 f16 = detail::dequantize::load_f16;
    const std::size_t blocks = cols / info(dtype).block_size, bytes = info(dtype).block_bytes;
    for (std::size_t b = 0; b < blocks; ++b, row += bytes) {
        switch (dtype) {
            case DType::Q8_0: {
                scales[b] = f16(row);
                std::uint8_t q[32];
                std::memcpy(q, row + 2, sizeof q);
                for (std::size_t i = 0; i < 32; ++i) codes[32 * b + i] = q[i] ^ 0x80U;
                break;
            }
            case DType::Q4_0:
                scales[b] = f16(row);
                detail::codes::nibbles(row + 2, codes + 32 * b);
                break;
            case DType::Q4_1:
                scales[b] = f16(row);
                minima[b] = f16(row + 2);
                detail::codes::nibbles(row + 4, codes + 32 * b);
                break;
            case DType::Q5_0:
                scales[b] = f16(row);
                detail::codes::nibbles(row + 6, codes + 32 * b);
                detail::codes::fifth_bits(row + 2, codes + 32 * b);
                break;
            case DType::Q5_1:
                scales[b] = f16(row);
                minima[b] = f16(row + 2);
                detail::codes::nibbles(row + 8, codes + 32 * b);
                detail::codes::fifth_bits(row + 4, codes + 32 * b);
                break;
            case DType::Q4_K:
            case DType::Q5_K: {
                float minimum[8], scale[8];
                detail::dequantize::scales_and_minima(row, scale, minimum);
                for (std::size_t g = 0; g < 8; ++g) {
                    scales[8 * b + g] = scale[g];
                    minima[8 * b + g] = -minimum[g];
                }
                const bool five = dtype == DType::Q5_K;
                const std::byte* const packed = row + (five ? 48 : 16);
                std::uint8_t high[32] = {};
                if (five) std::memcpy(high, row + 16, sizeof high);
                for (std::size_t pair = 0; pair < 4; ++pair) {
                    std::uint8_t q[32];
                    std::memcpy(q, packed + 32 * pair, sizeof q);
                    std::uint8_t* const out = codes + 256 * b + 64 * pair;
                    for (std::size_t i = 0; i < 32; ++i) {
                        const unsigned bits = static_cast<unsigned>(high[i]) >> (2 * pair);
                        out[i] = static_cast<std::uint8_t>((q[i] & 15U) | (bits & 1U) << 4U);
                        out[i + 32] = static_cast<std::uint8_t>(q[i] >> 4U | (bits & 2U) << 3U);
                    }
                }
                break;
            }
            case DType::Q6_K: {
                const float d = f16(row + 208);
                std::int8_t scale[16];
                std::memcpy(scale, row + 192, sizeof scale);
                for (std::size_t g = 0; g < 16; ++g) scales[16 * b + g] = d * static_cast<float>(scale[g]);
                for (std::size_t half = 0; half < 2; ++half) {
                    std::uint8_t low[64], high[32];
                    std::memcpy(low, row + 64 * half, sizeof low);
                    std::memcpy(high, row + 128 + 32 * half, sizeof high);
                    std::uint8_t* const out = codes + 256 * b + 128 * half;
                    for (std::size_t i = 0; i < 32; ++i) {
                        const unsigned h = high[i];
                        out[i] = static_cast<std::uint8_t>((low[i] & 15U) | (h & 3U) << 4U);
                        out[i + 32] = static_cast<std::uint8_t>((low[i + 32] & 15U) | (h & 12U) << 2U);
                        out[i + 64] = static_cast<std::uint8_t>(low[i] >> 4U | (h & 48U));
                        out[i + 96] = static_cast<std::uint8_t>(low[i + 32] >> 4U | (h & 192U) >> 2U);
                    }
                }
                break;
            }
            case DType::F32:
            case DType::F16:
            case DType::BF16: break;
        }
    }
}

}  // namespace adainfer::inline v0
