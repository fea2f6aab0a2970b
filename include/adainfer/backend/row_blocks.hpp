#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "adainfer/backend/ops.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// Walks a weight a block of rows at a time, in parallel: calls f(first_row, rows, block) with the block dequantised to
/// f32, row-major [rows, weight.cols]. A block stays within a core's L2 cache, so the product reads it from there.
template <class B, class F>
void for_each_row_block(const B& backend, const WeightView& weight, F&& f) {
    struct Slot;
    constexpr std::size_t block_floats = std::size_t{64} * 1024;
    const std::size_t fit = (std::max)(block_floats / (std::max)(weight.cols, std::size_t{1}), std::size_t{1});
    // Equally large blocks, an even number of them, whatever the threads: a library may add up the last rows of a block in
    // another order than the others, so only then does the number of threads change no bit.
    const std::size_t multiple = fit >= 16 ? 16 : 1;
    const std::size_t blocks = ((weight.rows + fit - 1) / fit + 1) / 2 * 2;
    const std::size_t even = (weight.rows + blocks - 1) / blocks;
    const std::size_t rows_a_block = (even + multiple - 1) / multiple * multiple;
    ops::parallel_for(backend, weight.rows, rows_a_block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t first = begin; first < end; first += rows_a_block) {
            const std::size_t rows = (std::min)(rows_a_block, end - first);
            float* block = thread_scratch<Slot>(rows * weight.cols).data();
            for (std::size_t r = 0; r < rows; ++r) {
                dequantize_row(weight.dtype, weight.row(first + r), weight.cols, block + r * weight.cols);
            }
            f(first, rows, static_cast<const float*>(block));
        }
    });
}

/// The product of one row x [in] with a weight: y[r] = w_r . x, every weight byte read once, nothing allocated.
/// `product(w, x, n)` is the backend's own dot product.
template <class B, class Dot>
void matvec(const B& backend, const WeightView& weight, const float* x, float* y, Dot&& product) {
    struct Slot;
    ops::parallel_for(backend, weight.rows, 16, [&](std::size_t begin, std::size_t end) {
        float* row = thread_scratch<Slot>(weight.cols).data();
        for (std::size_t r = begin; r < end; ++r) {
            dequantize_row(weight.dtype, weight.row(r), weight.cols, row);
            y[r] = product(static_cast<const float*>(row), x, weight.cols);
        }
    });
}

}  // namespace adainfer::inline v0
