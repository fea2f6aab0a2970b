#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/row_blocks.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// Products by Eigen, on blocks of weight rows dequantised just before. Copies share one team of threads.
class EigenBackend {
  public:
    using Weight = WeightView;

    explicit EigenBackend(std::size_t threads = 1) : pool_(std::make_shared<ThreadPool>(threads)) {}

    [[nodiscard]] std::size_t threads() const noexcept { return pool_->threads(); }

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }

    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
        pool_->parallel_for(n, grain, f);
    }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        if (x.rows() == 1) {
            matvec(*this, weight, x.data(), y.data(), [](const float* w, const float* row, std::size_t n) {
                return ConstVector(w, index(n)).dot(ConstVector(row, index(n)));
            });
            return;
        }
        for_each_row_block(*this, weight, [&](std::size_t first, std::size_t rows, const float* block) {
            view(y.cols(first, rows)).noalias() = view(x) * view(MatrixView<const float>(block, rows, weight.cols)).transpose();
        });
    }

    /// Blocks of queries against all the keys they see, as two matrix products around a causal softmax.
    void attention(const AttentionArgs& args) const {
        constexpr std::size_t queries = 32;
        const std::size_t tokens = args.q.rows(), d = args.head_dim, blocks = (tokens + queries - 1) / queries;
        parallel_for(args.heads * blocks, 1, [&](std::size_t begin, std::size_t end) {
            struct Slot;
            for (std::size_t item = begin; item < end; ++item) {
                const std::size_t head = item % args.heads, t0 = item / args.heads * queries;
                const std::size_t count = (std::min)(queries, tokens - t0), keys = args.first + t0 + count;
                // A single query takes what the whole context will need: a decode that grows allocates once.
                float* scores = thread_scratch<Slot>(count == 1 ? args.capacity : count * keys).data();
                if (count == 1) {
                    ops::attend(args, t0, head, scores);
                    continue;
                }
                const std::size_t kv = head / (args.heads / args.kv_heads) * args.capacity * d;
                const MatrixView<float> s(scores, count, keys);
                view(s).noalias() = view(args.q.rows(t0, count).cols(head * d, d)) *
                                    view(MatrixView<const float>(args.k + kv, keys, d)).transpose();
                for (std::size_t i = 0; i < count; ++i) {
                    const std::size_t seen = args.first + t0 + i + 1;
                    const std::size_t hidden = args.window != 0 && seen > args.window ? seen - args.window : 0;
                    float* row = s.row(i).data();
                    for (std::size_t j = hidden; j < seen; ++j) row[j] *= args.scale;
                    softmax(row + hidden, seen - hidden);
                    std::fill(row, row + hidden, 0.0F);
                    std::fill(row + seen, row + keys, 0.0F);
                }
                view(args.out.rows(t0, count).cols(head * d, d)).noalias() =
                    view(s) * view(MatrixView<const float>(args.v + kv, keys, d));
            }
        });
    }

  private:
    template <class Scalar>
    using RowMajor = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using ConstVector = Eigen::Map<const Eigen::VectorXf>;
    using Stride = Eigen::OuterStride<>;

    static Eigen::Index index(std::size_t n) noexcept { return static_cast<Eigen::Index>(n); }

    static Eigen::Map<RowMajor<float>, 0, Stride> view(MatrixView<float> m) noexcept {
        return {m.data(), index(m.rows()), index(m.cols()), Stride(index(m.stride()))};
    }
    static Eigen::Map<const RowMajor<float>, 0, Stride> view(MatrixView<const float> m) noexcept {
        return {m.data(), index(m.rows()), index(m.cols()), Stride(index(m.stride()))};
    }

    std::shared_ptr<ThreadPool> pool_;
};

}  // namespace adainfer::inline v0
