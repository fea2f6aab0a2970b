#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/core/checked.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/dtype.hpp"

namespace adainfer::inline v0 {

/// Shape of a random model. The defaults make one of 42,000 parameters.
struct RandomModelOptions {
    std::size_t layers = 4;
    std::size_t hidden = 32;
    std::size_t heads = 4;
    std::size_t kv_heads = 2;
    std::size_t head_dim = 8;
    std::size_t feed_forward = 64;
    std::size_t vocabulary = 96;
    std::size_t context = 64;
    bool tied = false;         ///< the head is the token embedding; random models then tend to repeat their input
    bool biases = false;       ///< on every projection
    bool interleaved = true;   ///< layout of the rotated pairs, see RopeConfig
    std::uint64_t seed = 1;
};

/// A Llama-shaped model of random f32 weights, for examples, tests and benchmarks: it computes what a real one computes and
/// says nothing sensible. Equal options give equal weights everywhere. Throws CorruptFile where the options describe no model.
[[nodiscard]] inline ModelWeights make_random_model(const RandomModelOptions& options = {}) {
    ModelWeights model;
    ModelConfig& config = model.config;
    config.architecture = "llama";
    config.name = "random";
    config.layers = options.layers;
    config.hidden = options.hidden;
    config.heads = options.heads;
    config.kv_heads = options.kv_heads;
    config.head_dim = options.head_dim;
    config.feed_forward = options.feed_forward;
    config.vocabulary = options.vocabulary;
    config.context = options.context;
    config.attention_scale = 1.0F / std::sqrt(static_cast<float>(options.head_dim));
    config.rope.dims = options.head_dim;
    config.rope.interleaved = options.interleaved;
    validate(config, "random model");

    std::uint64_t state = options.seed;
    const auto uniform = [&state](float spread) {  // in [-spread, spread)
        state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's MMIX
        return (static_cast<float>(state >> 40U) * 0x1p-23F - 1.0F) * spread;
    };
    const auto fill = [&uniform](float* values, std::size_t n, float spread, float middle) {
        for (std::size_t i = 0; i < n; ++i) values[i] = middle + uniform(spread);
    };
    const auto vector = [&](std::size_t n, float spread, float middle) {
        std::vector<float> values(n);
        fill(values.data(), n, spread, middle);
        return values;
    };

    using Storage = std::vector<std::unique_ptr<float[]>>;
    auto storage = std::make_shared<Storage>();
    const auto matrix = [&](std::size_t rows, std::size_t cols, float spread) {
        const auto size = static_cast<std::size_t>(*checked_mul(rows, cols));  // validate() bounds both
        storage->push_back(std::make_unique_for_overwrite<float[]>(size));
        float* const values = storage->back().get();
        fill(values, size, spread, 0.0F);
        return WeightView{DType::F32, rows, cols, reinterpret_cast<const std::byte*>(values)};
    };
    const auto linear = [&](std::size_t out, std::size_t in, float gain = 1.0F) {
        // Variance 1 / in keeps the size of what passes through; a uniform number's variance is spread^2 / 3.
        LinearWeights result{matrix(out, in, gain * std::sqrt(3.0F / static_cast<float>(in))), {}};
        if (options.biases) result.bias = vector(out, 0.3F, 0.0F);
        return result;
    };

    model.token_embedding = matrix(config.vocabulary, config.hidden, 1.0F);
    for (std::size_t i = 0; i < config.layers; ++i) {
        LayerWeights layer;
        layer.attention_norm.gain = vector(config.hidden, 0.3F, 1.0F);
        layer.q = linear(config.q_size(), config.hidden);
        layer.k = linear(config.kv_size(), config.hidden);
        layer.v = linear(config.kv_size(), config.hidden);
        layer.attention_output = linear(config.hidden, config.q_size());
        layer.feed_forward_norm.gain = vector(config.hidden, 0.3F, 1.0F);
        layer.gate = linear(config.feed_forward, config.hidden);
        layer.up = linear(config.feed_forward, config.hidden);
        layer.down = linear(config.hidden, config.feed_forward);
        model.layers.push_back(std::move(layer));
    }
    model.final_norm.gain = vector(config.hidden, 0.3F, 1.0F);
    // A gain on the head, because real models are sure of some tokens: without it every distribution is nearly flat.
    model.head = options.tied ? LinearWeights{model.token_embedding, {}} : linear(config.vocabulary, config.hidden, 4.0F);
    model.identity = "random-" + std::to_string(config.layers) + "x" + std::to_string(config.hidden) + "-" +
                     std::to_string(options.seed);
    model.storage = std::move(storage);
    return model;
}

}  // namespace adainfer::inline v0
