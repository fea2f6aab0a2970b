#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/model/config.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// y = x w^T + bias; the bias may be empty.
struct LinearWeights {
    WeightView weight;        ///< [out, in]
    std::vector<float> bias;  ///< [out] or empty
};

/// Gain and, for a LayerNorm, bias; both empty where the model has no such norm.
struct NormWeights {
    std::vector<float> gain;
    std::vector<float> bias;

    [[nodiscard]] bool present() const noexcept { return !gain.empty(); }
};

/// A weight without rows, or a norm without a gain, is one that the family does not have.
struct LayerWeights {
    NormWeights attention_norm;           ///< [hidden]
    LinearWeights q;                      ///< [heads * head_dim, hidden]
    LinearWeights k, v;                   ///< [kv_heads * head_dim, hidden]
    NormWeights q_norm, k_norm;           ///< optional [head_dim]: on each head of q and k before they are rotated
    LinearWeights attention_output;       ///< [hidden, heads * head_dim]
    NormWeights attention_post_norm;      ///< optional [hidden]: on what attention adds to the residual stream
    NormWeights feed_forward_norm;        ///< [hidden]
    LinearWeights gate;                   ///< optional [feed_forward, hidden]: activation(gate) * up, else activation(up)
    LinearWeights up;                     ///< [feed_forward, hidden]
    LinearWeights down;                   ///< [hidden, feed_forward]
    NormWeights feed_forward_post_norm;   ///< optional [hidden]

    /// All of its matrices, also those that the family does not have.
    [[nodiscard]] std::array<const LinearWeights*, 7> matrices() const noexcept {
        return {&q, &k, &v, &attention_output, &gate, &up, &down};
    }
};

/// A model as a file holds it: configuration, and views into bytes that `storage` keeps alive.
struct ModelWeights {
    ModelConfig config;
    WeightView token_embedding;     ///< [vocabulary, embedding_size]
    WeightView position_embedding;  ///< optional [positions, hidden]: learned positions, added to the token embedding
    LinearWeights embedding_in;     ///< optional [hidden, embedding_size]
    LinearWeights embedding_out;    ///< optional [embedding_size, hidden]: on what the head reads
    std::vector<LayerWeights> layers;
    NormWeights final_norm;         ///< [hidden]; OPT-350m has none
    LinearWeights head;             ///< [vocabulary, embedding_size]; the token embedding where the model ties them
    std::string identity;           ///< names this very set of weights; policies and lenses are bound to it
    std::shared_ptr<const void> storage;
    /// Whether quantised matrices are views into a mapped file: a backend that copies them lets the system have their pages back.
    bool mapped = false;

    [[nodiscard]] bool tied() const noexcept { return head.weight.data == token_embedding.data; }

    /// Bytes of the matrices of one layer.
    [[nodiscard]] std::size_t layer_bytes(std::size_t layer) const noexcept {
        std::size_t bytes = 0;
        for (const LinearWeights* matrix : layers[layer].matrices()) bytes += matrix->weight.bytes();
        return bytes;
    }
};

}  // namespace adainfer::inline v0
