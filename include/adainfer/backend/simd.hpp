#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/simd_kernels.hpp"
#include "adainfer/backend/simd_products.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_memory.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/tensor/kv_type.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// This library's own kernels. Whatever the compiler was told, it uses AVX2, AVX-512 and AMX or Arm's dot products where the
/// machine has them (see cpu.hpp); no other dependency. Copies share one team of threads; results do not depend on the number of
/// threads.
///
/// A token's product with a quantised weight is one of integers, the activations rounded to 16 bits, 32 under one scale: what
/// reads the weights once and changes no digit that counts. Weights are repacked for it when a model is built (see Repack). How
/// products of many tokens are computed, with AVX-512 more than 24, is the caller's choice: see Products. The portable level is
/// float throughout.
class SimdBackend {
  public:
    /// How products of many tokens are computed. Where the machine or the level lacks what is asked for, it is Exact instead.
    enum class Products : std::uint8_t {
        Fast,  ///< Bfloat16 where that is faster than floats, else Bits12 or Exact: perplexity stays within 0.5 % of Exact's
        /// As a token's: of integers where the weight is quantised, activations rounded to 16 bits, else in float. With AMX, where
        /// the weight is of floats, in products of bfloat16 parts, which are off by 2^-15 of themselves at most.
        Exact,
        /// Weights and activations rounded to bfloat16 (eight significant bits), sums in float; in attention queries, keys, values
        /// and the weights after the softmax.
        Bfloat16,
        /// Of integers: activations rounded to 16 bits, 256 under one scale, and weights of floats to 12 bits, off by up to 1 / 4094
        /// of the largest of 32 in a row. Rows of floats that are no multiple of 32 are multiplied in float.
        Bits12,
        /// Of integers: activations rounded to 8 bits, off by up to 1 / 254 of the largest of 32, as llama.cpp does always. Weights
        /// that are not quantised are multiplied in float.
        Bits8
    };

    /// Whether prepare() copies quantised weights into the order in which a token's product reads them fastest (see
    /// lane_layout.hpp). It takes as much memory as they have bytes, up to 3 % more for the k formats, and of the file only the
    /// rows that are gathered are read from then on. At the portable level nothing is copied.
    enum class Repack : bool { No, Yes };

    /// A weight in its file, and repacked where it was.
    struct Weight {
        WeightView view;
        LaneWeight lanes;

        Weight(WeightView weight, LaneWeight repacked = {}) : view(weight), lanes(std::move(repacked)) {}
    };

    /// Throws InvalidArgument where the environment variable ADAINFER_CPU asks for what the machine does not have.
    explicit SimdBackend(std::size_t threads = 1, Products products = Products::Fast, Repack repack = Repack::Yes)
        : SimdBackend(threads, cpu_level(), products, repack) {}
    SimdBackend(std::size_t threads, CpuLevel level, Products products = Products::Fast, Repack repack = Repack::Yes)
        : shared_(std::make_shared<Shared>(threads)), kernels_(&simd_kernels(level)), level_(level),
          products_(possible(products, level)), repack_(kernels_->repack == nullptr ? Repack::No : repack) {}

    [[nodiscard]] std::size_t threads() const noexcept { return shared_->pool.threads(); }
    [[nodiscard]] CpuLevel level() const noexcept { return level_; }

    /// What the choice came to on this machine: any of them but Fast.
    [[nodiscard]] Products products() const noexcept { return products_; }

    /// How a product of this many tokens with a prepared weight of this type is computed: few tokens are Exact, two, or with
    /// AVX-512 24 of a repacked weight.
    [[nodiscard]] Products products_of(DType dtype, std::size_t tokens) const noexcept {
        return products_of(dtype, repacks(dtype), tokens);
    }

    /// True where prepare() copies weights of this type.
    [[nodiscard]] bool repacks(DType dtype) const noexcept { return repack_ == Repack::Yes && is_quantised(dtype); }

    /// What this backend and its copies have repacked, and how long it took.
    [[nodiscard]] std::size_t repacked_bytes() const noexcept { return shared_->repacked_bytes.load(std::memory_order_relaxed); }
    [[nodiscard]] double repack_seconds() const noexcept {
        return 1e-9 * static_cast<double>(shared_->repack_nanoseconds.load(std::memory_order_relaxed));
    }

    /// Throws std::bad_alloc.
    [[nodiscard]] Weight prepare(WeightView weight) const {
        if (!repacks(weight.dtype) || weight.rows == 0 || weight.cols == 0) return weight;
        const auto start = std::chrono::steady_clock::now();
        LaneWeight lanes(weight.dtype, weight.rows, weight.cols, shared_->memory);
        parallel_for(lanes.panels(), 1, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) kernels_->repack(weight, lanes, i);
        });
        const std::chrono::nanoseconds taken = std::chrono::steady_clock::now() - start;
        shared_->repacked_bytes.fetch_add(lanes.bytes(), std::memory_order_relaxed);
        shared_->repack_nanoseconds.fetch_add(taken.count(), std::memory_order_relaxed);
        return {weight, std::move(lanes)};
    }

    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
        shared_->pool.parallel_for(n, grain, f);
    }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        if (!weight.lanes.empty() && x.rows() <= kernels_->lane_tokens) {
            kernels_->lanes(shared_->pool, weight.lanes, x, y);
        } else if (x.rows() <= few_tokens) {
            for (std::size_t t = 0; t < x.rows(); ++t) {
                kernels_->rows(shared_->pool, weight.view, {weight.view.rows}, x.row(t), y.row(t).data());
            }
        } else {
            product_of_many(weight.view.dtype)(shared_->pool, operand(weight), x, y);
        }
    }

    [[nodiscard]] bool gated_feed_forward(const GatedWeights<Weight>& weights, Activation activation, MatrixView<const float> x,
                                          MatrixView<float> y) const {
        const auto rounds = [&](const Weight& weight) {
            return products_of(weight.view.dtype, !weight.lanes.empty(), x.rows()) == Products::Bfloat16;
        };
        if (!rounds(weights.gate) || !rounds(weights.up) || !rounds(weights.down)) return false;
        const GatedWeights<detail::simd::Operand> operands{operand(weights.gate), operand(weights.up), operand(weights.down)};
        kernels_->bfloat16_gated(shared_->pool, operands, activation, x, y);
        return true;
    }

    void matmul_rows(const Weight& weight, std::span<const TokenId> rows, std::span<const float> x, std::span<float> out) const {
        kernels_->rows(shared_->pool, weight.view, {rows.size(), rows.data()}, x, out.data());
    }

    void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) const {
        for_rows(out, [&](std::size_t first, MatrixView<float> rows) {
            kernels_->rms_norm(x.rows(first, rows.rows()), gain, eps, rows);
        });
    }

    void layer_norm(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                    MatrixView<float> out) const {
        for_rows(out, [&](std::size_t first, MatrixView<float> rows) {
            kernels_->layer_norm(x.rows(first, rows.rows()), gain, bias, eps, rows);
        });
    }

    void rope(MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos,
              MatrixView<const float> sin) const {
        for_rows(x, [&](std::size_t first, MatrixView<float> rows) {
            kernels_->rope(rows, head_dim, interleaved, cos.rows(first, rows.rows()), sin.rows(first, rows.rows()));
        });
    }

    void activate(Activation activation, MatrixView<float> x) const {
        for_rows(x, [&](std::size_t, MatrixView<float> rows) { kernels_->activate(activation, rows); });
    }

    void gate(Activation activation, MatrixView<const float> x, MatrixView<float> y) const {
        for_rows(
            y, [&](std::size_t first, MatrixView<float> rows) { kernels_->gate(activation, x.rows(first, rows.rows()), rows); });
    }

    void add(MatrixView<const float> x, MatrixView<float> y) const {
        for_rows(y, [&](std::size_t first, MatrixView<float> rows) { kernels_->add(x.rows(first, rows.rows()), rows); });
    }

    void attention(const AttentionArgs& args) const {
        attention(args, {KvType::F32, reinterpret_cast<const std::byte*>(args.k), reinterpret_cast<const std::byte*>(args.v)});
    }

    /// The same over K/V rows of any type, which are read as they are stored.
    void attention(const AttentionArgs& args, const StoredKv& kv) const {
        const bool rounds = products_ == Products::Bfloat16 && args.q.rows() > kernels_->lane_tokens;
        (rounds ? kernels_->bfloat16_attention : kernels_->attention)(shared_->pool, args, kv);
    }

  private:
    /// f(first, rows) for parts of the rows of y, from row `first` on, on all threads where it is worth waking them.
    template <class F>
    void for_rows(MatrixView<float> y, F&& f) const {
        const std::size_t grain = 1 + 8192 / (y.cols() + 1);
        parallel_for(y.rows(), grain, [&](std::size_t begin, std::size_t end) { f(begin, y.rows(begin, end - begin)); });
    }

    [[nodiscard]] static detail::simd::Operand operand(const Weight& weight) noexcept {
        return {weight.view, weight.lanes.empty() ? nullptr : &weight.lanes};
    }

    [[nodiscard]] Products products_of(DType dtype, bool repacked, std::size_t tokens) const noexcept {
        return tokens <= (repacked ? kernels_->lane_tokens : few_tokens) ? Products::Exact : products_of_many(dtype);
    }

    static constexpr std::size_t few_tokens = 2;  // from there on a tile of tokens is faster than one after the other

    static Products possible(Products asked, CpuLevel level) noexcept {
        if (level < CpuLevel::Avx2) return Products::Exact;
        const bool avx512 = level >= CpuLevel::Avx512;
        switch (asked) {
            case Products::Fast:
                return level == CpuLevel::Amx || (avx512 && has_fast_bfloat16()) ? Products::Bfloat16 : Products::Bits12;
            case Products::Bfloat16: return avx512 && has_bfloat16() ? asked : Products::Exact;
            case Products::Bits8: return avx512 ? asked : Products::Exact;
            default: return asked;
        }
    }

    [[nodiscard]] Products products_of_many(DType dtype) const noexcept {
        return products_ == Products::Bits8 && !is_quantised(dtype) ? Products::Exact : products_;
    }

    [[nodiscard]] SimdKernels::Product product_of_many(DType dtype) const noexcept {
        switch (products_of_many(dtype)) {
            case Products::Bfloat16: return kernels_->bfloat16;
            case Products::Bits12: return kernels_->bits12;
            case Products::Bits8: return kernels_->bits8;
            default: return kernels_->exact;
        }
    }

    struct Shared {
        ThreadPool pool;
        LaneMemory memory;
        std::atomic<std::size_t> repacked_bytes{0};
        std::atomic<std::int64_t> repack_nanoseconds{0};

        explicit Shared(std::size_t threads) : pool(threads) {}
    };

    std::shared_ptr<Shared> shared_;
    const SimdKernels* kernels_;
    CpuLevel level_;
    Products products_;
    Repack repack_;
};

[[nodiscard]] constexpr std::string_view to_string(SimdBackend::Products products) noexcept {
    switch (products) {
        case SimdBackend::Products::Fast: return "fast";
        case SimdBackend::Products::Exact: return "exact";
        case SimdBackend::Products::Bfloat16: return "bfloat16";
        case SimdBackend::Products::Bits12: return "bits12";
        case SimdBackend::Products::Bits8: return "bits8";
    }
    return "unknown";
}

}  // namespace adainfer::inline v0
