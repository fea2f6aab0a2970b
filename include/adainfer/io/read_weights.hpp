#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/family.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0::detail {

/// Puts the tensors of a file where the decoder looks for them. A Source has
///
///     bool has(const std::string& name);
///     WeightView matrix(const std::string& name, std::size_t rows, std::size_t cols);      // throws: missing, shape, type
///     std::vector<float> vector(const std::string& name, std::size_t size);               // throws likewise, and NotFinite
///     WeightView projection(const std::string& name, std::size_t out, std::size_t in);    // a matrix of a layer
///     std::vector<float> gain(const std::string& name, std::size_t size);                 // of a norm
///     LinearWeights qkv(LinearWeights stored);                                            // rows of q, then k, then v
///     std::string describe();                                                             // the file, for messages
///
/// where projection, gain and qkv undo what a format stores in its own way.
template <class Source>
class WeightReader {
  public:
    WeightReader(Source& source, const Family& family, const TensorNames& names)
        : source_(source), family_(family), names_(names) {}

    /// Everything of the model but its identity and storage; `model.config` is there and validated.
    void read(ModelWeights& model, const BuildOptions& options) {
        const ModelConfig& config = model.config;
        const std::size_t width = config.embedding_size();
        model.token_embedding = source_.matrix(weight(names_.token_embedding), config.vocabulary, width);
        if (family_.learned_positions) {
            model.position_embedding = source_.matrix(weight(names_.position_embedding), config.context + config.position_offset,
                                                      config.hidden);
        }
        if (config.embedding != 0) {
            model.embedding_in = linear(names_.embedding_in, config.hidden, width);
            model.embedding_out = linear(names_.embedding_out, width, config.hidden);
        }
        model.layers.reserve(config.layers);
        for (layer_ = 0; layer_ < config.layers; ++layer_) {
            if (options.stop.stop_requested()) fail(ErrorCode::Cancelled, "loading ", source_.describe(), " was cancelled");
            model.layers.push_back(layer(config));
            if (options.progress) options.progress({"read layers", layer_ + 1, config.layers});
        }
        // OPT-350m, whose norms stand after the blocks, ends with one already.
        if (config.norm_placement == NormPlacement::Before) model.final_norm = norm(names_.final_norm, config.hidden);
        model.head = source_.has(weight(names_.head)) ? LinearWeights{source_.matrix(weight(names_.head), config.vocabulary, width),
                                                                      bias(names_.head, config.vocabulary)}
                                                      : LinearWeights{model.token_embedding, {}};
    }

  private:
    LayerWeights layer(const ModelConfig& config) {
        LayerWeights result;
        result.attention_norm = norm(names_.attention_norm, config.hidden);
        if (family_.fused_qkv) {
            const std::size_t rows = config.q_size() + 2 * config.kv_size();
            const LinearWeights fused = source_.qkv(linear(names_.qkv, rows, config.hidden));
            result.q = slice(fused, 0, config.q_size());
            result.k = slice(fused, config.q_size(), config.kv_size());
            result.v = slice(fused, config.q_size() + config.kv_size(), config.kv_size());
        } else {
            result.q = linear(names_.q, config.q_size(), config.hidden);
            result.k = linear(names_.k, config.kv_size(), config.hidden);
            result.v = linear(names_.v, config.kv_size(), config.hidden);
        }
        if (family_.head_norms) {
            result.q_norm = norm(names_.q_norm, config.head_dim);
            result.k_norm = norm(names_.k_norm, config.head_dim);
        }
        result.attention_output = linear(names_.attention_output, config.hidden, config.q_size());
        if (family_.post_norms) {
            result.attention_post_norm = norm(names_.attention_post_norm, config.hidden);
            result.feed_forward_post_norm = norm(names_.feed_forward_post_norm, config.hidden);
        }
        result.feed_forward_norm = norm(names_.feed_forward_norm, config.hidden);
        if (family_.fused_gate_up) {
            const LinearWeights fused = linear(names_.gate_up, 2 * config.feed_forward, config.hidden);
            result.gate = slice(fused, 0, config.feed_forward);
            result.up = slice(fused, config.feed_forward, config.feed_forward);
        } else {
            if (family_.gated) result.gate = linear(names_.gate, config.feed_forward, config.hidden);
            result.up = linear(names_.up, config.feed_forward, config.hidden);
        }
        result.down = linear(names_.down, config.hidden, config.feed_forward);
        return result;
    }

    LinearWeights linear(std::string_view pattern, std::size_t out, std::size_t in) {
        return {source_.projection(weight(pattern), out, in), bias(pattern, out)};
    }

    /// A LayerNorm may be stored without its bias: zero.
    NormWeights norm(std::string_view pattern, std::size_t size) {
        NormWeights result{source_.gain(weight(pattern), size), {}};
        if (family_.norm == NormKind::Layer) result.bias = bias(pattern, size);
        return result;
    }

    std::vector<float> bias(std::string_view pattern, std::size_t size) {
        const std::string full = name(pattern) + ".bias";
        return source_.has(full) ? source_.vector(full, size) : std::vector<float>{};
    }

    /// Rows [first, first + count), which a format keeps together.
    static LinearWeights slice(const LinearWeights& fused, std::size_t first, std::size_t count) {
        LinearWeights part{{fused.weight.dtype, count, fused.weight.cols, fused.weight.row(first)}, {}};
        if (!fused.bias.empty()) {
            const auto begin = fused.bias.begin() + static_cast<std::ptrdiff_t>(first);
            part.bias.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
        }
        return part;
    }

    /// The pattern with this layer's number.
    [[nodiscard]] std::string name(std::string_view pattern) const {
        std::string result(pattern);
        const std::size_t at = result.find("{}");
        if (at != std::string::npos) result.replace(at, 2, std::to_string(layer_));
        return result;
    }
    [[nodiscard]] std::string weight(std::string_view pattern) const { return name(pattern) + ".weight"; }

    Source& source_;
    const Family& family_;
    const TensorNames& names_;
    std::size_t layer_ = 0;
};

}  // namespace adainfer::inline v0::detail
