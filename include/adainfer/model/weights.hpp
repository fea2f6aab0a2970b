#pragma once

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

struct LayerWeights {
    std::vector<float> attention_norm;  ///< [hidden]
    LinearWeights q;                    ///< [heads * head_dim, hidden]
    LinearWeights k, v;                 ///< [kv_heads * head_dim, hidden]
    LinearWeights attention_output;     ///< [hidden, heads * head_dim]
    std::vector<float> feed_forward_norm;
    LinearWeights gate, up;             ///< [feed_forward, hidden]
    LinearWeights down;                 ///< [hidden, feed_forward]
};

/// A model as a file holds it: configuration, and views into bytes that `storage` keeps alive.
struct ModelWeights {
    ModelConfig config;
    WeightView token_embedding;  ///< [vocabulary, hidden]
    std::vector<LayerWeights> layers;
    std::vector<float> final_norm;  ///< [hidden]
    LinearWeights head;             ///< [vocabulary, hidden]; the token embedding where the model ties them
    std::string identity;           ///< names this very set of weights; policies and lenses are bound to it
    std::shared_ptr<const void> storage;

    [[nodiscard]] bool tied() const noexcept { return head.weight.data == token_embedding.data; }

    /// Bytes of the matrices of one layer.
    [[nodiscard]] std::size_t layer_bytes(std::size_t layer) const noexcept {
        const LayerWeights& l = layers[layer];
        return l.q.weight.bytes() + l.k.weight.bytes() + l.v.weight.bytes() + l.attention_output.weight.bytes() +
               l.gate.weight.bytes() + l.up.weight.bytes() + l.down.weight.bytes();
    }
};

}  // namespace adainfer::inline v0
