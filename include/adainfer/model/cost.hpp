#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/kv_type.hpp"

// What a forward pass reads and computes, counted from the shapes of the weights: matrices and their biases, and attention
// over the K/V cache. Norms, rotations, activations and softmax are left out: they are below a hundredth of a layer.

namespace adainfer::inline v0 {

/// Bytes read from memory, and multiplications with their additions.
struct Cost {
    std::uint64_t bytes = 0;
    std::uint64_t multiply_adds = 0;

    constexpr Cost& operator+=(const Cost& other) noexcept {
        bytes += other.bytes;
        multiply_adds += other.multiply_adds;
        return *this;
    }
    [[nodiscard]] friend constexpr Cost operator+(Cost a, const Cost& b) noexcept { return a += b; }
    [[nodiscard]] friend constexpr bool operator==(const Cost&, const Cost&) = default;
};

/// The parts of a forward pass.
struct ModelCost {
    Cost embedding;             ///< of the tokens
    std::vector<Cost> layers;   ///< of each decoder layer
    std::vector<Cost> kv;       ///< of each layer's K and V projections alone: its share where a token exits before it
    Cost head_input;            ///< what the head reads is projected, where the model has a projection there
    std::uint64_t head_row_bytes = 0, head_row_multiply_adds = 0, vocabulary = 0;

    /// The logits of so many tokens of the vocabulary, for one position.
    [[nodiscard]] Cost head_rows(std::uint64_t rows) const noexcept {
        return head_input + Cost{rows * head_row_bytes, rows * head_row_multiply_adds};
    }
    [[nodiscard]] Cost head() const noexcept { return head_rows(vocabulary); }

    /// Layers first + 1 to last.
    [[nodiscard]] Cost layers_between(std::size_t first, std::size_t last) const noexcept {
        Cost sum;
        for (std::size_t i = first; i < last; ++i) sum += layers[i];
        return sum;
    }
    /// The K and V projections of layers first + 1 to the last.
    [[nodiscard]] Cost kv_after(std::size_t first) const noexcept {
        Cost sum;
        for (std::size_t i = first; i < kv.size(); ++i) sum += kv[i];
        return sum;
    }

    /// A pass through every layer, with the logits of the whole vocabulary at its end.
    [[nodiscard]] Cost dense() const noexcept { return embedding + layers_between(0, layers.size()) + head(); }

    /// r: bytes of the head to bytes of the mean layer.
    [[nodiscard]] double head_to_layer() const noexcept {
        const auto sum = static_cast<double>(layers_between(0, layers.size()).bytes);
        return sum > 0 ? static_cast<double>(head().bytes) * static_cast<double>(layers.size()) / sum : 0.0;
    }

    /// Where the whole head is read after every layer, an exit after this many layers reads as much as the dense model, and an
    /// earlier one less: x (1 + r) = L + r. K/V of the layers not run are left out, which a decode() must still write.
    [[nodiscard]] double break_even() const noexcept {
        const double r = head_to_layer();
        return (static_cast<double>(layers.size()) + r) / (1 + r);
    }
};

/// What runs.
struct CostOptions {
    std::size_t tokens = 1;   ///< that a pass runs at once: weights are read once for all, logits computed for the last
    std::size_t context = 0;  ///< positions in the K/V cache before them
    KvType kv = KvType::F32;  ///< of the cache
};

/// Counts what a pass reads and computes. A weight that the model does not have counts nothing.
[[nodiscard]] inline ModelCost cost(const ModelWeights& weights, const CostOptions& options = {}) {
    const std::uint64_t tokens = options.tokens;
    const auto linear = [](const LinearWeights& w, std::uint64_t times) {
        if (w.weight.empty()) return Cost{};
        return Cost{w.weight.bytes() + w.bias.size() * sizeof(float), times * w.weight.rows * w.weight.cols};
    };
    const ModelConfig& config = weights.config;
    ModelCost result;
    result.embedding = {tokens * weights.token_embedding.row_bytes(), 0};
    if (!weights.position_embedding.empty()) result.embedding.bytes += tokens * weights.position_embedding.row_bytes();
    result.embedding += linear(weights.embedding_in, tokens);

    for (std::size_t i = 0; i < weights.layers.size(); ++i) {
        const LayerWeights& layer = weights.layers[i];
        result.kv.push_back(linear(layer.k, tokens) + linear(layer.v, tokens));
        Cost all = result.kv.back();
        for (const LinearWeights* w : {&layer.q, &layer.attention_output, &layer.gate, &layer.up, &layer.down}) {
            all += linear(*w, tokens);
        }
        // Each token sees what is in the cache and the tokens up to itself, as far as the window reaches.
        const std::uint64_t window = config.window_of(i), context = options.context;
        std::uint64_t seen = 0;
        for (std::uint64_t t = 1; t <= tokens; ++t) seen += window == 0 ? context + t : (std::min)(window, context + t);
        const std::uint64_t cached = window == 0 ? context : (std::min)(window - 1, context);
        all += {2 * cached * row_bytes(options.kv, config.kv_size()), 2 * seen * config.q_size()};
        result.layers.push_back(all);
    }

    result.head_input = linear(weights.embedding_out, 1);
    result.head_row_bytes = weights.head.weight.row_bytes() + (weights.head.bias.empty() ? 0 : sizeof(float));
    result.head_row_multiply_adds = weights.head.weight.cols;
    result.vocabulary = weights.head.weight.rows;
    return result;
}

}  // namespace adainfer::inline v0
