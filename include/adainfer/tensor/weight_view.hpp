#pragma once

#include <cstddef>

#include "adainfer/tensor/dtype.hpp"

namespace adainfer::inline v0 {

/// A weight matrix [rows = out features, cols = in features] in its storage format, over bytes that belong to
/// somebody else (a mapped file). Rows are contiguous; the bytes need no alignment.
struct WeightView {
    DType dtype = DType::F32;
    std::size_t rows = 0;
    std::size_t cols = 0;
    const std::byte* data = nullptr;

    [[nodiscard]] constexpr bool empty() const noexcept { return data == nullptr; }
    [[nodiscard]] constexpr std::size_t row_bytes() const noexcept { return v0::row_bytes(dtype, cols); }
    [[nodiscard]] constexpr std::size_t bytes() const noexcept { return rows * row_bytes(); }
    [[nodiscard]] constexpr const std::byte* row(std::size_t i) const noexcept { return data + i * row_bytes(); }
};

}  // namespace adainfer::inline v0
