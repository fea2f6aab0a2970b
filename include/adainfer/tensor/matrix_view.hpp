#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

namespace adainfer::inline v0 {

/// A row-major matrix that belongs to somebody else. Rows are `stride` elements apart.
template <class T>
class MatrixView {
  public:
    constexpr MatrixView() noexcept = default;
    constexpr MatrixView(T* data, std::size_t rows, std::size_t cols, std::size_t stride) noexcept
        : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
    constexpr MatrixView(T* data, std::size_t rows, std::size_t cols) noexcept : MatrixView(data, rows, cols, cols) {}

    /// A view of mutable elements is also a view of const ones.
    constexpr operator MatrixView<const T>() const noexcept  // NOLINT(google-explicit-constructor)
        requires(!std::is_const_v<T>)
    {
        return {data_, rows_, cols_, stride_};
    }

    [[nodiscard]] constexpr T* data() const noexcept { return data_; }
    [[nodiscard]] constexpr std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] constexpr std::size_t cols() const noexcept { return cols_; }
    [[nodiscard]] constexpr std::size_t stride() const noexcept { return stride_; }

    /// Row i, a span of cols() elements. Precondition: i < rows().
    [[nodiscard]] constexpr std::span<T> row(std::size_t i) const noexcept { return {data_ + i * stride_, cols_}; }

    /// Rows [first, first + count).
    [[nodiscard]] constexpr MatrixView rows(std::size_t first, std::size_t count) const noexcept {
        return {data_ + first * stride_, count, cols_, stride_};
    }

    /// Columns [first, first + count) of every row.
    [[nodiscard]] constexpr MatrixView cols(std::size_t first, std::size_t count) const noexcept {
        return {data_ + first, rows_, count, stride_};
    }

  private:
    T* data_ = nullptr;
    std::size_t rows_ = 0, cols_ = 0, stride_ = 0;
};

}  // namespace adainfer::inline v0
