#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "adainfer/backend/concept.hpp"
#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/kv_attention.hpp"
#include "adainfer/model/norm.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/kv_type.hpp"

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

/// One decoder layer: hidden += attention(norm(hidden)); hidden += feed_forward(norm(hidden)). ModelConfig and the weights
/// that are there say what a family does otherwise: where its norms stand, whether both blocks read the same state, ...
template <class Backend>
class DecoderLayer {
  public:
    DecoderLayer(const Backend& backend, const LayerWeights& weights)
        : weights_(&weights), q_(backend, weights.q), k_(backend, weights.k), v_(backend, weights.v),
          output_(backend, weights.attention_output), up_(backend, weights.up), down_(backend, weights.down) {
        if (!weights.gate.weight.empty()) gate_.emplace(backend, weights.gate);
    }

    /// Runs the T tokens of work.hidden at the positions after cache.length(); leaves their K/V in the cache. Throws NotFinite
    /// as write_kv() does.
    void run(const Backend& backend, const ModelConfig& config, std::size_t layer, Workspace& work, KvCache& cache) const {
        write_kv(backend, config, layer, work, cache);
        attend(backend, config, layer, work, cache);
        if (config.parallel_blocks) {
            block_input(backend, config, weights_->feed_forward_norm, work);
            add_block(backend, config, weights_->attention_post_norm, weights_->attention_norm, work);
        } else {
            add_block(backend, config, weights_->attention_post_norm, weights_->attention_norm, work);
            block_input(backend, config, weights_->feed_forward_norm, work);
        }
        feed_forward(backend, config, work);
        add_block(backend, config, weights_->feed_forward_post_norm, weights_->feed_forward_norm, work);
    }

    /// Only the K/V rows that the layer would see for the current hidden state: what an early exit leaves to later tokens.
    /// Throws NotFinite, naming layer and position: a backend may multiply the V rows of later positions by zero, so NaN there
    /// would turn up at earlier positions, and in a session it would spoil every token to come. The same for values that would
    /// become infinite in a cache of fewer bits.
    void write_kv(const Backend& backend, const ModelConfig& config, std::size_t layer, Workspace& work, KvCache& cache) const {
        block_input(backend, config, weights_->attention_norm, work);
        const MatrixView<const float> input = work.normed.view();
        const MatrixView<float> k = work.k.resize(input.rows(), config.kv_size());
        const MatrixView<float> v = work.v.resize(input.rows(), config.kv_size());
        k_.apply(backend, input, k);
        v_.apply(backend, input, v);
        place(backend, config, layer, weights_->k_norm, k, work);
        const std::size_t bad = (std::min)(ops::first_not_finite(backend, k), ops::first_not_finite(backend, v));
        if (bad != input.rows()) {
            fail(ErrorCode::NotFinite, "keys or values of layer ", layer + 1, " at position ", cache.length() + bad,
                 " hold NaN or infinity");
        }
        if (cache.type() != KvType::F32) {
            for (std::size_t t = 0; t < input.rows(); ++t) {
                const float largest = (std::max)(max_magnitude(k.row(t).data(), k.cols()),
                                                 max_magnitude(v.row(t).data(), v.cols()));
                if (largest > largest_value(cache.type())) {
                    fail(ErrorCode::NotFinite, "keys or values of layer ", layer + 1, " at position ", cache.length() + t,
                         " reach ", largest, ", too much for a KV cache of type ", to_string(cache.type()), "; f32 holds them");
                }
            }
        }
        ops::parallel_for(backend, input.rows(), 1 + 8192 / (k.cols() + 1), [&](std::size_t begin, std::size_t end) {
            for (std::size_t t = begin; t < end; ++t) {
                cache.store(layer, KvCache::Part::Keys, cache.length() + t, k.row(t));
                cache.store(layer, KvCache::Part::Values, cache.length() + t, v.row(t));
            }
        });
    }

  private:
    /// work.projected = attention of work.normed, over the K/V that are in the cache.
    void attend(const Backend& backend, const ModelConfig& config, std::size_t layer, Workspace& work, KvCache& cache) const {
        const std::size_t tokens = work.normed.view().rows();
        const MatrixView<float> q = work.q.resize(tokens, config.q_size());
        q_.apply(backend, work.normed.view(), q);
        place(backend, config, layer, weights_->q_norm, q, work);
        const MatrixView<float> attended = work.attended.resize(tokens, config.q_size());
        attention_over(backend, AttentionArgs{.q = q, .first = cache.length(), .heads = config.heads, .kv_heads = config.kv_heads,
                                              .head_dim = config.head_dim, .scale = config.attention_scale,
                                              .window = config.window_of(layer), .out = attended},
                       cache, layer, work.kv_floats);
        output_.apply(backend, attended, work.projected.resize(tokens, config.hidden));
    }

    /// work.projected = down(activation(gate) * up), or down(activation(up)) without a gate, of work.normed.
    void feed_forward(const Backend& backend, const ModelConfig& config, Workspace& work) const {
        const MatrixView<const float> input = work.normed.view();
        const MatrixView<float> out = work.projected.resize(input.rows(), config.hidden);
        if (gate_ && gate_->bias.empty() && up_.bias.empty() && down_.bias.empty()) {
            const GatedWeights<typename Backend::Weight> weights{gate_->prepared, up_.prepared, down_.prepared};
            if (ops::gated_feed_forward(backend, weights, config.activation, input, out)) return;
        }
        const MatrixView<float> inner = work.gate.resize(input.rows(), config.feed_forward);
        if (gate_) {
            const MatrixView<float> up = work.up.resize(input.rows(), config.feed_forward);
            gate_->apply(backend, input, inner);
            up_.apply(backend, input, up);
            ops::gate(backend, config.activation, up, inner);
        } else {
            up_.apply(backend, input, inner);
            ops::activate(backend, config.activation, inner);
        }
        down_.apply(backend, inner, out);
    }

    /// work.normed = what a block reads.
    static void block_input(const Backend& backend, const ModelConfig& config, const NormWeights& norm, Workspace& work) {
        const MatrixView<const float> hidden = work.hidden.view();
        const MatrixView<float> input = work.normed.resize(hidden.rows(), hidden.cols());
        if (config.norm_placement == NormPlacement::Before) {
            apply_norm(backend, config, norm, hidden, input);
        } else {
            copy_rows(hidden, input);
        }
    }

    /// hidden += work.projected, with the norms that stand around the sum.
    static void add_block(const Backend& backend, const ModelConfig& config, const NormWeights& post_norm, const NormWeights& norm,
                          Workspace& work) {
        const MatrixView<float> projected = work.projected.view(), hidden = work.hidden.view();
        apply_norm(backend, config, post_norm, projected, projected);
        ops::add(backend, projected, hidden);
        if (config.norm_placement == NormPlacement::After) apply_norm(backend, config, norm, hidden, hidden);
    }

    /// The norm of each head of q or k, then its position.
    static void place(const Backend& backend, const ModelConfig& config, std::size_t layer, const NormWeights& norm,
                      MatrixView<float> x, Workspace& work) {
        const MatrixView<float> heads(x.data(), x.rows() * x.cols() / config.head_dim, config.head_dim);
        apply_norm(backend, config, norm, heads, heads);
        if (config.rope.dims == 0) return;
        const bool own = config.window_rope.dims != 0 && config.window_of(layer) != 0;
        ops::rope(backend, x, config.head_dim, config.rope.interleaved, (own ? work.window_cos : work.cos).view(),
                  (own ? work.window_sin : work.sin).view());
    }

    const LayerWeights* weights_;
    Linear<Backend> q_, k_, v_, output_, up_, down_;
    std::optional<Linear<Backend>> gate_;
};

}  // namespace adainfer::inline v0
