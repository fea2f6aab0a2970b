#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// How positions turn into rotation angles: position / linear_factor * base^(-2i / dims) / frequency_factors[i].
struct RopeConfig {
    std::size_t dims = 0;          ///< rotated elements of a head, even; 0: no rotary positions
    double base = 10000;
    double linear_factor = 1;      ///< linear position scaling (Chen et al., arXiv 2306.15595)
    bool interleaved = false;      ///< pairs are neighbours (GGUF's llama); else halves of the head
    std::vector<float> frequency_factors;  ///< [dims / 2], or empty: all 1 (Llama 3's scaling is stored so)
};

/// Everything the decoder must know beside the weights. One instantiation of the code serves all of them.
struct ModelConfig {
    std::string architecture;  ///< as in the file, e.g. "llama"
    std::string name;
    std::size_t layers = 0;
    std::size_t hidden = 0;        ///< width of the hidden state
    std::size_t heads = 0;         ///< query heads
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t feed_forward = 0;  ///< inner width of the feed-forward network
    std::size_t vocabulary = 0;
    std::size_t context = 0;       ///< most positions the model was made for
    float norm_eps = 1e-5F;
    float attention_scale = 0;     ///< factor on q.k, usually 1 / sqrt(head_dim)
    Activation activation = Activation::Silu;
    RopeConfig rope;

    [[nodiscard]] std::size_t q_size() const noexcept { return heads * head_dim; }
    [[nodiscard]] std::size_t kv_size() const noexcept { return kv_heads * head_dim; }
};

/// Throws CorruptFile where the numbers cannot describe a model; `source` names the file in the message.
inline void validate(const ModelConfig& config, const std::string& source) {
    const auto require = [&](bool ok, const char* what, auto found) {
        if (!ok) fail(ErrorCode::CorruptFile, source, ": ", what, ", found ", found);
    };
    constexpr std::size_t most = std::size_t{1} << 24U;  // far above any model, far below what could overflow a product
    const auto in_range = [&](std::size_t value, const char* what) {
        if (value == 0 || value > most) fail(ErrorCode::CorruptFile, source, ": ", what, " must be 1 to ", most, ", found ", value);
    };
    in_range(config.layers, "the number of layers");
    in_range(config.hidden, "the hidden size");
    in_range(config.heads, "the number of attention heads");
    in_range(config.kv_heads, "the number of key/value heads");
    in_range(config.head_dim, "the head dimension");
    in_range(config.feed_forward, "the feed-forward size");
    in_range(config.vocabulary, "the vocabulary size");
    in_range(config.context, "the context length");
    require(config.layers <= 10'000, "the number of layers must be at most 10000", config.layers);
    require(config.heads % config.kv_heads == 0, "the number of attention heads must be a multiple of the key/value heads",
            std::to_string(config.heads) + " and " + std::to_string(config.kv_heads));
    require(config.norm_eps >= 0 && config.norm_eps < 1, "the norm epsilon must lie in [0, 1)", config.norm_eps);
    require(config.rope.dims % 2 == 0 && config.rope.dims <= config.head_dim,
            "the rotary dimension must be even and at most the head dimension", config.rope.dims);
    require(config.rope.base > 0 && config.rope.base < 1e30, "the rotary base must be positive", config.rope.base);
    require(config.rope.linear_factor > 0 && config.rope.linear_factor < 1e9, "the rotary scaling factor must be positive",
            config.rope.linear_factor);
    require(config.rope.frequency_factors.empty() || config.rope.frequency_factors.size() == config.rope.dims / 2,
            "the rotary frequency factors must be half the rotary dimension", config.rope.frequency_factors.size());
    for (const float factor : config.rope.frequency_factors) {
        require(factor > 0 && factor < 1e9F, "rotary frequency factors must be positive", factor);
    }
    require(config.attention_scale > 0 && config.attention_scale < 1e9F, "the attention scale must be positive",
            config.attention_scale);
}

}  // namespace adainfer::inline v0
