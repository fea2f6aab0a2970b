#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/checked.hpp"
#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// A tensor of a safetensors file. The data belong to somebody else and need no alignment of their own.
struct SafetensorsTensor {
    std::string name;
    std::string_view dtype;            ///< as the file spells it, e.g. "F16"; a literal
    std::vector<std::uint64_t> shape;  ///< outermost first; none for a scalar
    std::span<const std::byte> data;
};

namespace detail::safetensors {

inline constexpr std::size_t max_header_bytes = 100'000'000;  ///< the format's own limit
inline constexpr std::size_t max_depth = 127;                 ///< of the header's JSON, as the official reader
inline constexpr std::size_t max_rank = 64;                   ///< ours: bounds what a list of zeros can take

struct DTypeBits {
    std::string_view name;
    std::size_t bits;
};

inline constexpr std::array<DTypeBits, 22> dtypes{{
    {"BOOL", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8}, {"I8", 8}, {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},
    {"I32", 32}, {"U32", 32}, {"F32", 32}, {"C64", 64}, {"F64", 64}, {"I64", 64}, {"U64", 64},
}};

/// The entry of a type, or null.
[[nodiscard]] inline const DTypeBits* find_dtype(std::string_view name) noexcept {
    const auto found = std::find_if(dtypes.begin(), dtypes.end(), [name](const DTypeBits& d) { return d.name == name; });
    return found == dtypes.end() ? nullptr : &*found;
}

/// Bits an element. Throws Error (Unsupported), which lists the types there are.
[[nodiscard]] inline std::size_t dtype_bits(std::string_view name) {
    if (const DTypeBits* const found = find_dtype(name)) return found->bits;
    std::string known;
    for (const DTypeBits& d : dtypes) known += (known.empty() ? "" : ", ") + std::string(d.name);
    fail(ErrorCode::Unsupported, "safetensors: unknown type ", detail::quoted(name), "; known: ", known);
}

/// Bytes that a tensor takes; nothing where its bits overflow 64 bits or do not fill whole bytes.
[[nodiscard]] inline std::optional<std::uint64_t> data_bytes(std::string_view dtype, std::span<const std::uint64_t> shape) {
    std::optional<std::uint64_t> bits = 1;
    for (const std::uint64_t extent : shape) {
        if (bits) bits = checked_mul(*bits, extent);
    }
    if (bits) bits = checked_mul(*bits, dtype_bits(dtype));
    if (!bits || *bits % 8 != 0) return std::nullopt;
    return *bits / 8;
}

}  // namespace detail::safetensors

}  // namespace adainfer::inline v0
