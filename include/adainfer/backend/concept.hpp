#pragma once

#include <concepts>

#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// `B::Weight`: a weight matrix as the backend likes it.
template <class B>
concept HasPreparedWeight = requires { typename B::Weight; };

/// `Weight prepare(WeightView) const`: keep the view, or repack. Called once a weight, when a model is built.
template <class B>
concept HasPrepare = requires(const B& backend, WeightView weight) {
    { backend.prepare(weight) } -> std::same_as<typename B::Weight>;
};

/// `void matmul(const Weight&, MatrixView<const float> x, MatrixView<float> y) const`: y = x w^T,
/// x [tokens, in], w [out, in], y [tokens, out].
template <class B>
concept HasMatmul = requires(const B& backend, const typename B::Weight& weight, MatrixView<const float> x,
                             MatrixView<float> y) { backend.matmul(weight, x, y); };

/// What a model computes with: a small copyable object whose operations are const and may be called from many threads.
/// The three requirements above are all there is; `ops.hpp` lists the operations that a backend may bring of its own. Besides,
/// `bool repacks(DType) const` may say that prepare() copies weights of a type: a mapped file's pages of them are then let go of.
template <class B>
concept TensorBackend = HasPreparedWeight<B> && HasPrepare<B> && HasMatmul<B> && std::copy_constructible<B>;

namespace detail {
/// Takes the place of a backend that lacks something, so that the compiler has nothing to say beyond that.
struct StandInBackend {
    using Weight = WeightView;
    StandInBackend() = default;
    template <class Other>
    StandInBackend(const Other&) {}
    Weight prepare(WeightView weight) const { return weight; }
    void matmul(const Weight&, MatrixView<const float>, MatrixView<float>) const {}
};
}  // namespace detail

/// Turns a missing operation into one readable line.
template <class B>
consteval void require_backend() {
    static_assert(HasPreparedWeight<B>, "adainfer: the backend lacks a nested type Weight (see TensorBackend)");
    if constexpr (HasPreparedWeight<B>) {
        constexpr bool prepares = HasPrepare<B>;  // a bool, lest the compiler explain the standard library
        static_assert(prepares, "adainfer: the backend lacks 'Weight prepare(WeightView) const' (see TensorBackend)");
        static_assert(HasMatmul<B>,
                      "adainfer: the backend lacks 'void matmul(const Weight&, MatrixView<const float> x, "
                      "MatrixView<float> y) const' (see TensorBackend)");
    }
    constexpr bool copyable = std::copy_constructible<B>;
    static_assert(copyable, "adainfer: the backend must be copyable (see TensorBackend)");
}

}  // namespace adainfer::inline v0
