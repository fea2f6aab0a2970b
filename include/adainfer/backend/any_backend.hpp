#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <typeinfo>
#include <type_traits>
#include <utility>

#include "adainfer/backend/concept.hpp"
#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/stored_attention.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/tensor/buffer.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// A backend that is chosen at run time, for programs whose user names it (the command line): one Model<AnyBackend> is compiled in
/// place of one a backend. Computes what the backend computes; its price is an indirect call for every operation of a layer.
class AnyBackend {
    template <class B>
    struct Prepared {
        typename B::Weight weight;
        WeightView view;
    };

  public:
    /// A weight as the backend prepared it. Copies share it.
    class Weight {
        friend class AnyBackend;
        explicit Weight(std::shared_ptr<const void> prepared) : prepared_(std::move(prepared)) {}
        std::shared_ptr<const void> prepared_;  // a Prepared<B>
    };

    template <class B>
        requires(!std::same_as<std::remove_cvref_t<B>, AnyBackend> && TensorBackend<std::remove_cvref_t<B>>)
    explicit(false) AnyBackend(B&& backend)
        : operations_(std::make_shared<Holder<std::remove_cvref_t<B>>>(std::forward<B>(backend))) {}

    /// The backend that was chosen, if it is a B; else null.
    template <class B>
    [[nodiscard]] const B* target() const noexcept {
        return operations_->type() == typeid(B) ? &static_cast<const Holder<B>&>(*operations_).backend : nullptr;
    }

    [[nodiscard]] Weight prepare(WeightView weight) const { return Weight(operations_->prepare(weight)); }
    [[nodiscard]] bool repacks(DType dtype) const { return operations_->repacks(dtype); }
    [[nodiscard]] CpuLevel level() const noexcept { return operations_->level(); }

    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
        using Function = std::remove_reference_t<F>;
        operations_->parallel_for(
            n, grain,
            {[](void* context, std::size_t begin, std::size_t end) { (*static_cast<Function*>(context))(begin, end); },
             const_cast<void*>(static_cast<const void*>(std::addressof(f)))});
    }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        operations_->matmul(weight.prepared_.get(), x, y);
    }
    void matmul_rows(const Weight& weight, std::span<const TokenId> rows, std::span<const float> x, std::span<float> out) const {
        operations_->matmul_rows(weight.prepared_.get(), rows, x, out);
    }
    void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) const {
        operations_->rms_norm(x, gain, eps, out);
    }
    void layer_norm(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                    MatrixView<float> out) const {
        operations_->layer_norm(x, gain, bias, eps, out);
    }
    void rope(MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos,
              MatrixView<const float> sin) const {
        operations_->rope(x, head_dim, interleaved, cos, sin);
    }
    void activate(Activation activation, MatrixView<float> x) const { operations_->activate(activation, x); }
    void gate(Activation activation, MatrixView<const float> x, MatrixView<float> y) const { operations_->gate(activation, x, y); }
    [[nodiscard]] bool gated_feed_forward(const GatedWeights<Weight>& weights, Activation activation, MatrixView<const float> x,
                                          MatrixView<float> y) const {
        const std::array<const void*, 3> prepared{weights.gate.prepared_.get(), weights.up.prepared_.get(),
                                                  weights.down.prepared_.get()};
        return operations_->gated_feed_forward(prepared, activation, x, y);
    }
    void add(MatrixView<const float> x, MatrixView<float> y) const { operations_->add(x, y); }
    void attention(const AttentionArgs& args) const { operations_->attention(args); }
    void attention(const AttentionArgs& args, const StoredKv& kv) const { operations_->attention(args, kv); }

  private:
    struct Loop {
        void (*call)(void* context, std::size_t begin, std::size_t end);
        void* context;

        void operator()(std::size_t begin, std::size_t end) const { call(context, begin, end); }
    };

    struct Operations {
        virtual ~Operations() = default;
        [[nodiscard]] virtual const std::type_info& type() const noexcept = 0;
        [[nodiscard]] virtual std::shared_ptr<const void> prepare(WeightView weight) const = 0;
        [[nodiscard]] virtual bool repacks(DType dtype) const = 0;
        [[nodiscard]] virtual CpuLevel level() const noexcept = 0;
        virtual void parallel_for(std::size_t n, std::size_t grain, Loop loop) const = 0;
        virtual void matmul(const void* weight, MatrixView<const float> x, MatrixView<float> y) const = 0;
        virtual void matmul_rows(const void* weight, std::span<const TokenId> rows, std::span<const float> x,
                                 std::span<float> out) const = 0;
        virtual void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) const = 0;
        virtual void layer_norm(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                                MatrixView<float> out) const = 0;
        virtual void rope(MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos,
                          MatrixView<const float> sin) const = 0;
        virtual void activate(Activation activation, MatrixView<float> x) const = 0;
        virtual void gate(Activation activation, MatrixView<const float> x, MatrixView<float> y) const = 0;
        virtual bool gated_feed_forward(const std::array<const void*, 3>& weights, Activation activation,
                                        MatrixView<const float> x, MatrixView<float> y) const = 0;
        virtual void add(MatrixView<const float> x, MatrixView<float> y) const = 0;
        virtual void attention(const AttentionArgs& args) const = 0;
        virtual void attention(const AttentionArgs& args, const StoredKv& kv) const = 0;
    };

    template <class B>
    struct Holder final : Operations {
        B backend;

        explicit Holder(B chosen) : backend(std::move(chosen)) {}

        static const Prepared<B>& prepared(const void* weight) noexcept { return *static_cast<const Prepared<B>*>(weight); }

        const std::type_info& type() const noexcept override { return typeid(B); }
        std::shared_ptr<const void> prepare(WeightView weight) const override {
            return std::make_shared<const Prepared<B>>(Prepared<B>{backend.prepare(weight), weight});
        }
        bool repacks(DType dtype) const override {
            if constexpr (requires { { backend.repacks(dtype) } -> std::same_as<bool>; }) return backend.repacks(dtype);
            else return false;
        }
        CpuLevel level() const noexcept override { return ops::level_of(backend); }
        void parallel_for(std::size_t n, std::size_t grain, Loop loop) const override {
            ops::parallel_for(backend, n, grain, loop);
        }
        void matmul(const void* weight, MatrixView<const float> x, MatrixView<float> y) const override {
            backend.matmul(prepared(weight).weight, x, y);
        }
        void matmul_rows(const void* weight, std::span<const TokenId> rows, std::span<const float> x,
                         std::span<float> out) const override {
            ops::matmul_rows(backend, prepared(weight).weight, prepared(weight).view, rows, x, out);
        }
        void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) const override {
            ops::rms_norm(backend, x, gain, eps, out);
        }
        void layer_norm(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                        MatrixView<float> out) const override {
            ops::layer_norm(backend, x, gain, bias, eps, out);
        }
        void rope(MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos,
                  MatrixView<const float> sin) const override {
            ops::rope(backend, x, head_dim, interleaved, cos, sin);
        }
        void activate(Activation activation, MatrixView<float> x) const override { ops::activate(backend, activation, x); }
        void gate(Activation activation, MatrixView<const float> x, MatrixView<float> y) const override {
            ops::gate(backend, activation, x, y);
        }
        bool gated_feed_forward(const std::array<const void*, 3>& weights, Activation activation, MatrixView<const float> x,
                                MatrixView<float> y) const override {
            const auto weight = [&](std::size_t i) -> const auto& { return prepared(weights[i]).weight; };
            using W = std::remove_cvref_t<decltype(weight(0))>;
            return ops::gated_feed_forward(backend, GatedWeights<W>{weight(0), weight(1), weight(2)}, activation, x, y);
        }
        void add(MatrixView<const float> x, MatrixView<float> y) const override { ops::add(backend, x, y); }
        void attention(const AttentionArgs& args) const override { ops::attention(backend, args); }
        void attention(const AttentionArgs& args, const StoredKv& kv) const override {
            thread_local Buffer floats;  // for backends that read no other type
            ops::stored_attention(backend, args, kv, floats);
        }
    };

    std::shared_ptr<const Operations> operations_;
};

}  // namespace adainfer::inline v0
