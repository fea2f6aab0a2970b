#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "adainfer/backend/concept.hpp"
#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0 {

/// A LinearWeights that a backend has prepared.
template <class Backend>
struct Linear {
    typename Backend::Weight prepared;
    WeightView weight;
    std::span<const float> bias;

    Linear(const Backend& backend, const LinearWeights& source)
        : prepared(backend.prepare(source.weight)), weight(source.weight), bias(source.bias) {}

    /// y [tokens, out] = x [tokens, in] w^T + bias.
    void apply(const Backend& backend, MatrixView<const float> x, MatrixView<float> y) const {
        backend.matmul(prepared, x, y);
        if (bias.empty()) return;
        for (std::size_t t = 0; t < y.rows(); ++t) axpy(1.0F, bias.data(), y.row(t).data(), bias.size());
    }
};

/// One decoder layer: hidden += attention(norm(hidden)); hidden += feed_forward(norm(hidden)).
template <class Backend>
class DecoderLayer {
  public:
    DecoderLayer(const Backend& backend, const LayerWeights& weights)
        : weights_(&weights), q_(backend, weights.q), k_(backend, weights.k), v_(backend, weights.v),
          output_(backend, weights.attention_output), gate_(backend, weights.gate), up_(backend, weights.up),
          down_(backend, weights.down) {}

    /// Runs the T tokens of work.hidden at the positions after cache.length(); leaves their K/V in the cache. Throws NotFinite
    /// as write_kv() does.
    void run(const Backend& backend, const ModelConfig& config, std::size_t layer, Workspace& work, KvCache& cache) const {
        const std::size_t tokens = work.hidden.view().rows();
        write_kv(backend, config, layer, work, cache);

        const MatrixView<float> q = work.q.resize(tokens, config.q_size());
        q_.apply(backend, work.normed.view(), q);
        rotate(backend, config, q, work);
        const MatrixView<float> attended = work.attended.resize(tokens, config.q_size());
        ops::attention(backend, AttentionArgs{.q = q, .k = cache.keys(layer), .v = cache.values(layer),
                                              .capacity = cache.capacity(), .first = cache.length(), .heads = config.heads,
                                              .kv_heads = config.kv_heads, .head_dim = config.head_dim,
                                              .scale = config.attention_scale, .window = 0, .out = attended});
        const MatrixView<float> projected = work.projected.resize(tokens, config.hidden);
        output_.apply(backend, attended, projected);
        add(projected, work.hidden.view());

        ops::rms_norm(backend, work.hidden.view(), weights_->feed_forward_norm, config.norm_eps, work.normed.view());
        const MatrixView<float> gate = work.gate.resize(tokens, config.feed_forward);
        const MatrixView<float> up = work.up.resize(tokens, config.feed_forward);
        gate_.apply(backend, work.normed.view(), gate);
        up_.apply(backend, work.normed.view(), up);
        ops::activate(backend, config.activation, gate);
        multiply(up, gate);
        down_.apply(backend, gate, projected);
        add(projected, work.hidden.view());
    }

    /// Only the K/V rows that the layer would see for the current hidden state: what an early exit leaves to later tokens.
    /// Throws NotFinite, naming layer and position: a backend may multiply the V rows of later positions by zero, so NaN there
    /// would turn up at earlier positions, and in a session it would spoil every token to come.
    void write_kv(const Backend& backend, const ModelConfig& config, std::size_t layer, Workspace& work, KvCache& cache) const {
        const MatrixView<float> hidden = work.hidden.view();
        const MatrixView<float> normed = work.normed.resize(hidden.rows(), config.hidden);
        ops::rms_norm(backend, hidden, weights_->attention_norm, config.norm_eps, normed);
        const MatrixView<float> k = work.k.resize(hidden.rows(), config.kv_size());
        const MatrixView<float> v = work.v.resize(hidden.rows(), config.kv_size());
        k_.apply(backend, normed, k);
        v_.apply(backend, normed, v);
        rotate(backend, config, k, work);
        for (std::size_t t = 0; t < hidden.rows(); ++t) {
            if (!all_finite(k.row(t).data(), k.cols()) || !all_finite(v.row(t).data(), v.cols())) {
                fail(ErrorCode::NotFinite, "keys or values of layer ", layer + 1, " at position ", cache.length() + t,
                     " hold NaN or infinity");
            }
            cache.store(cache.keys(layer), cache.length() + t, k.row(t));
            cache.store(cache.values(layer), cache.length() + t, v.row(t));
        }
    }

  private:
    static void rotate(const Backend& backend, const ModelConfig& config, MatrixView<float> x, Workspace& work) {
        if (config.rope.dims == 0) return;
        ops::rope(backend, x, config.head_dim, config.rope.interleaved, work.cos.view(), work.sin.view());
    }

    static void add(MatrixView<const float> x, MatrixView<float> y) noexcept {
        for (std::size_t t = 0; t < y.rows(); ++t) axpy(1.0F, x.row(t).data(), y.row(t).data(), y.cols());
    }

    static void multiply(MatrixView<const float> x, MatrixView<float> y) noexcept {
        for (std::size_t t = 0; t < y.rows(); ++t) {
            const float* factors = x.row(t).data();
            float* row = y.row(t).data();
            for (std::size_t i = 0; i < y.cols(); ++i) row[i] *= factors[i];
        }
    }

    const LayerWeights* weights_;
    Linear<Backend> q_, k_, v_, output_, gate_, up_, down_;
};

}  // namespace adainfer::inline v0
