#pragma once

#include <bit>
#include <cstdint>

namespace adainfer::inline v0 {

/// IEEE 754 binary16 bits to float, exactly (subnormals, infinities and NaN included). Selects by masks, not by
/// branches or ternaries, which compilers turn into branches: so loops over it vectorise.
[[nodiscard]] constexpr float f16_to_f32(std::uint16_t bits) noexcept {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16U;
    const std::uint32_t magnitude = bits & 0x7FFFU;
    const std::uint32_t is_special = 0U - static_cast<std::uint32_t>(magnitude >= 0x7C00U);  // infinity or NaN
    const std::uint32_t is_subnormal = 0U - static_cast<std::uint32_t>(magnitude < 0x0400U);
    const std::uint32_t normal = (magnitude << 13U) + 0x38000000U + (is_special & 0x38000000U);
    // Subnormal: the integer value times 2^-24. From a signed integer, since SSE2 and AVX2 convert no unsigned ones.
    const auto subnormal =
        std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F);
    return std::bit_cast<float>(sign | (subnormal & is_subnormal) | (normal & ~is_subnormal));
}

/// Float to binary16 bits, round to nearest even; overflow becomes infinity, NaN stays a (quiet) NaN.
[[nodiscard]] constexpr std::uint16_t f32_to_f16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16U) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U);
    if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // rounds to 65536 or more
    if (magnitude < 0x38800000U) {  // below 2^-14: let the FPU round to the 2^-24 grid
        const float grid = std::bit_cast<float>(magnitude) + 0.5F;  // 0.5 has an ulp of 2^-24
        return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(grid) - 0x3F000000U));
    }
    const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13U) & 1U);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13U));
}

/// bfloat16 bits to float: the upper half of the float.
[[nodiscard]] constexpr float bf16_to_f32(std::uint16_t bits) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

}  // namespace adainfer::inline v0
