#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

// xtensor moved its headers into folders in 0.26.
#if __has_include(<xtensor/containers/xadapt.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/core/xnoalias.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xnoalias.hpp>
#endif

#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/row_blocks.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// Products as xtensor expressions, on blocks of weight rows dequantised just before. A product is a sum of scaled rows
/// of the transposed block, because xtensor vectorises assignments but not lazy row reductions.
class XtensorBackend {
  public:
    using Weight = WeightView;

    explicit XtensorBackend(std::size_t threads = 1) : pool_(std::make_shared<ThreadPool>(threads)) {}

    [[nodiscard]] std::size_t threads() const noexcept { return pool_->threads(); }

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }

    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
        pool_->parallel_for(n, grain, f);
    }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        for_each_row_block(*this, weight, [&](std::size_t first, std::size_t rows, const float* block) {
            struct Slot;
            const std::size_t cols = weight.cols;
            float* transposed = thread_scratch<Slot>(rows * cols).data();
            for (std::size_t r = 0; r < rows; ++r) {
                for (std::size_t i = 0; i < cols; ++i) transposed[i * rows + r] = block[r * cols + i];
            }
            for (std::size_t t = 0; t < x.rows(); ++t) add_scaled_rows(transposed, x.row(t), y.row(t).subspan(first, rows));
        });
    }

  private:
    static void add_scaled_rows(const float* rows, std::span<const float> scales, std::span<float> out) {
        const std::array<std::size_t, 1> shape{out.size()};
        const auto row = [&](std::size_t i) { return xt::adapt(rows + i * out.size(), out.size(), xt::no_ownership(), shape); };
        auto sum = xt::adapt(out.data(), out.size(), xt::no_ownership(), shape);
        sum.fill(0.0F);
        std::size_t i = 0;
        for (; i + 4 <= scales.size(); i += 4) {
            xt::noalias(sum) += scales[i] * row(i) + scales[i + 1] * row(i + 1) + scales[i + 2] * row(i + 2) +
                                scales[i + 3] * row(i + 3);
        }
        for (; i < scales.size(); ++i) xt::noalias(sum) += scales[i] * row(i);
    }

    std::shared_ptr<ThreadPool> pool_;
};

}  // namespace adainfer::inline v0
