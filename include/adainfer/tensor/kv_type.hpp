#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "adainfer/tensor/dtype.hpp"

namespace adainfer::inline v0 {

/// How a KV cache stores its rows: as they are, rounded to binary16, or to 8 bits in blocks of 32 under one scale.
enum class KvType : std::uint8_t { F32, F16, Q8_0 };

[[nodiscard]] constexpr DType dtype_of(KvType type) noexcept {
    switch (type) {
        case KvType::F32: return DType::F32;
        case KvType::F16: return DType::F16;
        case KvType::Q8_0: return DType::Q8_0;
    }
    return DType::F32;
}

/// f.operator()<type>(), for code that is compiled for each type.
template <class F>
constexpr decltype(auto) with_kv_type(KvType type, F&& f) {
    switch (type) {
        case KvType::F32: return f.template operator()<KvType::F32>();
        case KvType::F16: return f.template operator()<KvType::F16>();
        case KvType::Q8_0: break;
    }
    return f.template operator()<KvType::Q8_0>();
}

[[nodiscard]] constexpr std::string_view to_string(KvType type) noexcept { return info(dtype_of(type)).name; }

/// Bytes of n elements, a multiple of the type's block size.
[[nodiscard]] constexpr std::size_t row_bytes(KvType type, std::size_t n) noexcept { return row_bytes(dtype_of(type), n); }

/// The largest magnitude that the type can store: the largest binary16, or 127 times that under a scale.
[[nodiscard]] constexpr float largest_value(KvType type) noexcept {
    switch (type) {
        case KvType::F32: return (std::numeric_limits<float>::max)();
        case KvType::F16: return 65504.0F;
        case KvType::Q8_0: return 127.0F * 65504.0F;
    }
    return 0.0F;
}

}  // namespace adainfer::inline v0
