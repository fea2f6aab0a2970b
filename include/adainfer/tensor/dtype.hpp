#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace adainfer::inline v0 {

/// Storage formats of a weight. The quantised ones are those of GGUF: blocks of `block_size` elements along a row.
enum class DType : std::uint8_t { F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K };

struct DTypeInfo {
    std::string_view name;
    std::size_t block_size;   ///< elements a block
    std::size_t block_bytes;  ///< bytes a block
};

[[nodiscard]] constexpr DTypeInfo info(DType dtype) noexcept {
    switch (dtype) {
        case DType::F32: return {"f32", 1, 4};
        case DType::F16: return {"f16", 1, 2};
        case DType::BF16: return {"bf16", 1, 2};
        case DType::Q8_0: return {"q8_0", 32, 2 + 32};
        case DType::Q4_0: return {"q4_0", 32, 2 + 16};
        case DType::Q4_1: return {"q4_1", 32, 2 + 2 + 16};
        case DType::Q5_0: return {"q5_0", 32, 2 + 4 + 16};
        case DType::Q5_1: return {"q5_1", 32, 2 + 2 + 4 + 16};
        case DType::Q4_K: return {"q4_k", 256, 2 + 2 + 12 + 128};
        case DType::Q5_K: return {"q5_k", 256, 2 + 2 + 12 + 32 + 128};
        case DType::Q6_K: return {"q6_k", 256, 128 + 64 + 16 + 2};
    }
    return {"unknown", 1, 0};
}

/// f.operator()<dtype>(), for code that is compiled for each format.
template <class F>
constexpr decltype(auto) with_dtype(DType dtype, F&& f) {
    switch (dtype) {
        case DType::F32: return f.template operator()<DType::F32>();
        case DType::F16: return f.template operator()<DType::F16>();
        case DType::BF16: return f.template operator()<DType::BF16>();
        case DType::Q8_0: return f.template operator()<DType::Q8_0>();
        case DType::Q4_0: return f.template operator()<DType::Q4_0>();
        case DType::Q4_1: return f.template operator()<DType::Q4_1>();
        case DType::Q5_0: return f.template operator()<DType::Q5_0>();
        case DType::Q5_1: return f.template operator()<DType::Q5_1>();
        case DType::Q4_K: return f.template operator()<DType::Q4_K>();
        case DType::Q5_K: return f.template operator()<DType::Q5_K>();
        case DType::Q6_K: break;
    }
    return f.template operator()<DType::Q6_K>();
}

/// Bytes of a row of `cols` elements. Precondition: cols is a multiple of the block size.
[[nodiscard]] constexpr std::size_t row_bytes(DType dtype, std::size_t cols) noexcept {
    return cols / info(dtype).block_size * info(dtype).block_bytes;
}

}  // namespace adainfer::inline v0
