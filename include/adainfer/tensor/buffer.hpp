#pragma once

#include <cstddef>
#include <span>

#include "adainfer/core/line_vector.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// A matrix that keeps its memory between passes: resizing to what it once held allocates nothing.
class Buffer {
  public:
    MatrixView<float> resize(std::size_t rows, std::size_t cols) {
        if (data_.size() < rows * cols) data_.resize(rows * cols);
        first_ = 0;
        rows_ = rows;
        cols_ = cols;
        return view();
    }

    /// Lets view() and row() begin at row `first` of the memory. Precondition: resize() has made first + rows rows.
    void window(std::size_t first, std::size_t rows) noexcept {
        first_ = first;
        rows_ = rows;
    }

    [[nodiscard]] MatrixView<float> view() noexcept { return {data_.data() + first_ * cols_, rows_, cols_}; }
    [[nodiscard]] std::span<float> row(std::size_t i) noexcept { return view().row(i); }

  private:
    LineVector<float> data_;
    std::size_t first_ = 0, rows_ = 0, cols_ = 0;
};

}  // namespace adainfer::inline v0
