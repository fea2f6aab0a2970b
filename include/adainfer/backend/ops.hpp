#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>

#include "adainfer/core/types.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/tensor/kv_type.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

// The operations of a decoder layer beside the matrix product. Each calls the backend's member of the same name and
// signature (without the leading backend) where there is one; the body here is the fallback. Those that SimdBackend compiles for
// its levels are always inlined: see at_level().

namespace adainfer::inline v0 {

/// Causal self-attention of the new tokens over the K/V rows of one layer.
struct AttentionArgs {
    MatrixView<const float> q;    ///< [tokens, heads * head_dim], already rotated
    const float* k = nullptr;     ///< [kv_heads, capacity, head_dim]
    const float* v = nullptr;     ///< [kv_heads, capacity, head_dim]
    std::size_t capacity = 0;     ///< rows between two K/V heads
    std::size_t first = 0;        ///< position of token 0; token t sees the rows 0 ... first + t
    std::size_t heads = 0;        ///< query heads, a multiple of kv_heads
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    float scale = 1;              ///< factor on q.k before the softmax
    std::size_t window = 0;       ///< 0: none; else a token sees the last `window` rows only, its own included
    MatrixView<float> out;        ///< [tokens, heads * head_dim]
};

/// K/V rows as a cache stores them, in place of AttentionArgs::k and v, which are null then.
struct StoredKv {
    KvType type = KvType::F32;
    const std::byte* k = nullptr;  ///< [kv_heads, capacity, row_bytes(type, head_dim)]
    const std::byte* v = nullptr;  ///< the same
};

/// `void attention(const AttentionArgs&, const StoredKv&) const`: the backend reads rows of every type itself. Optional: to one
/// that does not, a model hands floats.
template <class B>
concept HasStoredAttention =
    requires(const B& backend, const AttentionArgs& args, const StoredKv& kv) { backend.attention(args, kv); };

/// Elementwise functions of a feed-forward network.
enum class Activation { Silu, Gelu, GeluTanh, Relu };

/// The weights of a gated feed-forward network, prepared. W: a backend's Weight.
template <class W>
struct GatedWeights {
    const W& gate;  ///< [width, in]
    const W& up;    ///< [width, in]
    const W& down;  ///< [out, width]
};

namespace ops {

/// The level that a backend's kernels are chosen for; Portable where it does not say.
template <class B>
[[nodiscard]] CpuLevel level_of(const B& backend) noexcept {
    if constexpr (requires { { backend.level() } -> std::same_as<CpuLevel>; }) return backend.level();
    else return CpuLevel::Portable;
}

/// f(begin, end) over disjoint ranges that cover [0, n), at once where the backend has threads.
template <class B, class F>
void parallel_for(const B& backend, std::size_t n, std::size_t grain, F&& f) {
    if constexpr (requires { backend.parallel_for(n, grain, f); }) {
        backend.parallel_for(n, grain, f);
    } else if (n > 0) {
        f(std::size_t{0}, n);
    }
}

/// The first row of x that holds NaN or infinity; x.rows() where none does.
template <class B>
[[nodiscard]] std::size_t first_not_finite(const B& backend, MatrixView<const float> x) {
    std::atomic<std::size_t> first{x.rows()};
    ops::parallel_for(backend, x.rows(), 1 + 8192 / (x.cols() + 1), [&](std::size_t begin, std::size_t end) {
        std::size_t t = begin;
        at_level(level_of(backend), [&] {
            while (t < end && all_finite(x.row(t).data(), x.cols())) ++t;
        });
        if (t == end) return;
        for (std::size_t least = first.load(); t < least && !first.compare_exchange_weak(least, t);) {}
    });
    return first.load();
}

/// out = x / sqrt(mean(x^2) + eps) * gain, a row at a time (Zhang and Sennrich, arXiv 1910.07467). x may be out.
template <class B>
[[gnu::always_inline]] inline void rms_norm(const B& backend, MatrixView<const float> x, std::span<const float> gain, float eps,
                                            MatrixView<float> out) {
    if constexpr (requires { backend.rms_norm(x, gain, eps, out); }) {
        backend.rms_norm(x, gain, eps, out);
    } else {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            const float* row = x.row(t).data();
            float* result = out.row(t).data();
            const std::size_t n = x.cols();
            const float scale = 1.0F / std::sqrt(dot(row, row, n) / static_cast<float>(n) + eps);
            set_each(result, n, [=](std::size_t i) { return row[i] * scale * gain[i]; });
        }
    }
}

/// out = (x - mean) / sqrt(variance + eps) * gain + bias, a row at a time (Ba et al., arXiv 1607.06450). x may be out; an empty
/// bias is zero.
template <class B>
[[gnu::always_inline]] inline void layer_norm(const B& backend, MatrixView<const float> x, std::span<const float> gain,
                                              std::span<const float> bias, float eps, MatrixView<float> out) {
    if constexpr (requires { backend.layer_norm(x, gain, bias, eps, out); }) {
        backend.layer_norm(x, gain, bias, eps, out);
    } else {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            const float* row = x.row(t).data();
            float* result = out.row(t).data();
            const std::size_t n = x.cols();
            const float mean = sum(row, n) / static_cast<float>(n);
            set_each(result, n, [=](std::size_t i) { return row[i] - mean; });
            const float scale = 1.0F / std::sqrt(dot(result, result, n) / static_cast<float>(n) + eps);
            set_each(result, n, [=](std::size_t i) { return result[i] * scale * gain[i] + (bias.empty() ? 0.0F : bias[i]); });
        }
    }
}

/// Rotates the n pairs (a[stride i], b[stride i]) by the angles of cos[i] and sin[i]. Some are computed before any is stored, as in
/// set_each().
template <std::size_t stride>
[[gnu::always_inline]] inline void rotate(float* a, float* b, const float* cos, const float* sin, std::size_t n) noexcept {
    constexpr std::size_t lanes = 16;
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        float x[lanes], y[lanes];
        for (std::size_t l = 0; l < lanes; ++l) {
            const float p = a[stride * (i + l)], q = b[stride * (i + l)];
            x[l] = p * cos[i + l] - q * sin[i + l];
            y[l] = p * sin[i + l] + q * cos[i + l];
        }
        for (std::size_t l = 0; l < lanes; ++l) {
            a[stride * (i + l)] = x[l];
            b[stride * (i + l)] = y[l];
        }
    }
    for (std::size_t left = n % lanes; left != 0; --left, ++i) {
        const float p = a[stride * i], q = b[stride * i];
        a[stride * i] = p * cos[i] - q * sin[i];
        b[stride * i] = p * sin[i] + q * cos[i];
    }
}

/// Rotates pairs of each head by the angles whose cosines and sines stand in `cos`, `sin` [tokens, pairs] (Su et al.,
/// arXiv 2104.09864). Interleaved: pair i is (x[2i], x[2i+1]); else (x[i], x[i + pairs]). Elements past the pairs stay.
template <class B>
[[gnu::always_inline]] inline void rope(const B& backend, MatrixView<float> x, std::size_t head_dim, bool interleaved,
                                        MatrixView<const float> cos, MatrixView<const float> sin) {
    if constexpr (requires { backend.rope(x, head_dim, interleaved, cos, sin); }) {
        backend.rope(x, head_dim, interleaved, cos, sin);
    } else {
        const std::size_t pairs = cos.cols();
        for (std::size_t t = 0; t < x.rows(); ++t) {
            const float* c = cos.row(t).data();
            const float* s = sin.row(t).data();
            for (std::size_t head = 0; head < x.cols() / head_dim; ++head) {
                float* h = x.row(t).data() + head * head_dim;
                if (interleaved) rotate<2>(h, h + 1, c, s, pairs);
                else rotate<1>(h, h + pairs, c, s, pairs);
            }
        }
    }
}

/// One query row against its K/V head: the softmax-weighted mean of the V rows it sees.
inline void attend(const AttentionArgs& args, std::size_t token, std::size_t head, float* scores) {
    const std::size_t d = args.head_dim, last = args.first + token;
    const std::size_t begin = args.window != 0 && last + 1 > args.window ? last + 1 - args.window : 0;
    const std::size_t kv = head / (args.heads / args.kv_heads) * args.capacity * d;
    const float* q = args.q.row(token).data() + head * d;
    const std::size_t n = last + 1 - begin;
    for (std::size_t i = 0; i < n; ++i) scores[i] = args.scale * dot(q, args.k + kv + (begin + i) * d, d);
    softmax(scores, n);
    float* out = args.out.row(token).data() + head * d;
    std::fill_n(out, d, 0.0F);
    for (std::size_t i = 0; i < n; ++i) axpy(scores[i], args.v + kv + (begin + i) * d, out, d);
}

struct AttentionScratch;

/// args.out = softmax(scale q k^T) v, head by head, causal (Vaswani et al., arXiv 1706.03762, section 3.2.1), with
/// grouped K/V heads (Ainslie et al., arXiv 2305.13245).
template <class B>
void attention(const B& backend, const AttentionArgs& args) {
    if constexpr (requires { backend.attention(args); }) {
        backend.attention(args);
    } else {
        ops::parallel_for(backend, args.heads * args.q.rows(), 1, [&](std::size_t begin, std::size_t end) {
            const std::span<float> scores = thread_scratch<AttentionScratch>(args.capacity);  // at once, not as it grows
            for (std::size_t i = begin; i < end; ++i) attend(args, i % args.q.rows(), i / args.q.rows(), scores.data());
        });
    }
}

/// x = map(x), elementwise, times the factors where there are any.
template <class Map>
[[gnu::always_inline]] inline void map_rows(MatrixView<float> x, const MatrixView<const float>* factors, Map map) {
    for (std::size_t t = 0; t < x.rows(); ++t) {
        float* row = x.row(t).data();
        if (factors == nullptr) {
            set_each(row, x.cols(), [=](std::size_t i) { return map(row[i]); });
        } else {
            const float* factor = factors->row(t).data();
            set_each(row, x.cols(), [=](std::size_t i) { return map(row[i]) * factor[i]; });
        }
    }
}

/// map_rows() with the function that an activation names.
[[gnu::always_inline]] inline void activate_rows(Activation activation, MatrixView<float> x,
                                                 const MatrixView<const float>* factors = nullptr) {
    switch (activation) {
        case Activation::Silu: return map_rows(x, factors, [](float v) { return v / (1.0F + exp_approx(-v)); });
        case Activation::Gelu: return map_rows(x, factors, [](float v) { return 0.5F * v * (1.0F + std::erf(v * 0.70710678F)); });
        case Activation::GeluTanh:
            return map_rows(x, factors, [](float v) {
                const float u = 1.5957691F * (v + 0.044715F * v * v * v);  // 2 sqrt(2 / pi) (...)
                return v / (1.0F + exp_approx(-u));
            });
        case Activation::Relu: return map_rows(x, factors, [](float v) { return v > 0.0F || v != v ? v : 0.0F; });
    }
}

/// x = f(x), elementwise.
template <class B>
[[gnu::always_inline]] inline void activate(const B& backend, Activation activation, MatrixView<float> x) {
    if constexpr (requires { backend.activate(activation, x); }) backend.activate(activation, x);
    else activate_rows(activation, x);
}

/// y = f(y) * x, elementwise: a gated feed-forward network (Shazeer, arXiv 2002.05202).
template <class B>
[[gnu::always_inline]] inline void gate(const B& backend, Activation activation, MatrixView<const float> x, MatrixView<float> y) {
    if constexpr (requires { backend.gate(activation, x, y); }) backend.gate(activation, x, y);
    else activate_rows(activation, y, &x);
}

/// y [tokens, out] = down(activation(gate x) * (up x)) in one, for a backend that gains by it. False where it left y alone: then
/// the caller does it step by step.
template <class B, class W>
[[nodiscard]] bool gated_feed_forward(const B& backend, const GatedWeights<W>& weights, Activation activation,
                                      MatrixView<const float> x, MatrixView<float> y) {
    if constexpr (requires { { backend.gated_feed_forward(weights, activation, x, y) } -> std::same_as<bool>; }) {
        return backend.gated_feed_forward(weights, activation, x, y);
    } else {
        return false;
    }
}

/// y += x, elementwise.
template <class B>
[[gnu::always_inline]] inline void add(const B& backend, MatrixView<const float> x, MatrixView<float> y) {
    if constexpr (requires { backend.add(x, y); }) {
        backend.add(x, y);
    } else {
        for (std::size_t t = 0; t < y.rows(); ++t) axpy(1.0F, x.row(t).data(), y.row(t).data(), y.cols());
    }
}

/// out[i] = row rows[i] of the weight, times x [in]. The head of a few candidate tokens.
template <class B>
void matmul_rows(const B& backend, const typename B::Weight& prepared, WeightView weight, std::span<const TokenId> rows,
                 std::span<const float> x, std::span<float> out) {
    if constexpr (requires { backend.matmul_rows(prepared, rows, x, out); }) {
        backend.matmul_rows(prepared, rows, x, out);
    } else {
        struct Slot;
        const std::span<float> scratch = thread_scratch<Slot>(weight.cols);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            dequantize_row(weight.dtype, weight.row(static_cast<std::size_t>(rows[i])), weight.cols, scratch.data());
            out[i] = dot(scratch.data(), x.data(), weight.cols);
        }
    }
}

}  // namespace ops

}  // namespace adainfer::inline v0
