#pragma once

#include <cstddef>
#include <functional>
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
    double amplitude = 1;          ///< factor on cosines and sines (LongRoPE's attention factor, arXiv 2402.13753)
};

enum class NormKind {
    Rms,   ///< x / sqrt(mean(x^2) + eps) * gain
    Layer  ///< (x - mean) / sqrt(variance + eps) * gain + bias
};

/// Where a layer's two norms stand.
enum class NormPlacement {
    Before,  ///< on what a block reads; the residual stream is never normed
    After    ///< on the residual stream, after a block was added (OPT-350m)
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
    NormKind norm = NormKind::Rms;
    NormPlacement norm_placement = NormPlacement::Before;
    float norm_eps = 1e-5F;
    float attention_scale = 0;     ///< factor on q.k, usually 1 / sqrt(head_dim)
    Activation activation = Activation::Silu;
    bool parallel_blocks = false;  ///< attention and feed-forward read the same hidden state (GPT-NeoX)
    std::size_t embedding = 0;     ///< width of a token embedding; 0: hidden. Else there are projections in and out (OPT-350m)
    float embedding_scale = 1;     ///< factor on token embeddings (Gemma: sqrt(hidden))
    std::size_t position_offset = 0;     ///< row of position 0 among the learned positions, where a model has them (OPT: 2)
    std::size_t window = 0;              ///< a windowed layer's token sees the last `window` positions, its own included; 0: none
    std::vector<bool> windowed;          ///< [layers]; empty: every layer where window is not 0
    RopeConfig rope;
    RopeConfig window_rope;              ///< of the windowed layers, where they differ (Gemma 3); dims 0: the same

    /// Positions that a token of `layer` sees, its own included; 0: all.
    [[nodiscard]] std::size_t window_of(std::size_t layer) const noexcept {
        return windowed.empty() || windowed[layer] ? window : 0;
    }
    [[nodiscard]] std::size_t embedding_size() const noexcept { return embedding == 0 ? hidden : embedding; }
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
    for (const RopeConfig& rope : {std::cref(config.rope), std::cref(config.window_rope)}) {
        require(rope.dims % 2 == 0 && rope.dims <= config.head_dim,
                "the rotary dimension must be even and at most the head dimension", rope.dims);
        require(rope.base > 0 && rope.base < 1e30, "the rotary base must be positive", rope.base);
        require(rope.linear_factor > 0 && rope.linear_factor < 1e9, "the rotary scaling factor must be positive",
                rope.linear_factor);
        require(rope.amplitude > 0 && rope.amplitude < 1e3, "the rotary attention factor must be positive", rope.amplitude);
        require(rope.frequency_factors.empty() || rope.frequency_factors.size() == rope.dims / 2,
                "the rotary frequency factors must be half the rotary dimension", rope.frequency_factors.size());
        for (const float factor : rope.frequency_factors) {
            require(factor > 0 && factor < 1e9F, "rotary frequency factors must be positive", factor);
        }
    }
    require(config.window_rope.dims == 0 || config.window_rope.dims == config.rope.dims,
            "both kinds of layer must rotate as many elements", config.window_rope.dims);
    require(config.windowed.empty() || config.windowed.size() == config.layers, "window flags must be one a layer",
            config.windowed.size());
    require(config.embedding <= most, "the embedding size is too large", config.embedding);
    require(config.position_offset <= most, "the position offset is too large", config.position_offset);
    require(config.embedding_scale > 0 && config.embedding_scale < 1e9F, "the embedding scale must be positive",
            config.embedding_scale);
    require(config.attention_scale > 0 && config.attention_scale < 1e9F, "the attention scale must be positive",
            config.attention_scale);
}

}  // namespace adainfer::inline v0
