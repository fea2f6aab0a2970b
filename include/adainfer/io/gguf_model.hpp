#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/identity.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0 {

/// Architectures that load_weights() reads.
inline constexpr std::string_view supported_architectures = "llama";

namespace detail {

/// Reads the tensors of one file by name and remembers which, so that a tensor nobody asked for is noticed.
class TensorReader {
  public:
    explicit TensorReader(const GgufFile& file) : file_(file) {}

    [[nodiscard]] bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

    /// A matrix [rows, cols]. Throws CorruptFile (missing), ShapeMismatch, Unsupported (storage type).
    [[nodiscard]] WeightView matrix(const std::string& name, std::size_t rows, std::size_t cols) {
        const GgufTensor& tensor = file_.tensor(name);
        const WeightView weight = file_.weight(tensor);
        if (tensor.dims.size() > 2) {
            fail(ErrorCode::ShapeMismatch, "'", file_.name(), "': tensor '", name, "' has ", tensor.dims.size(),
                 " dimensions, expected [", rows, ", ", cols, "]");
        }
        if (weight.rows != rows || weight.cols != cols) {
            fail(ErrorCode::ShapeMismatch, "'", file_.name(), "': tensor '", name, "' is [", weight.rows, ", ", weight.cols,
                 "], expected [", rows, ", ", cols, "]");
        }
        read_.insert(name);
        return weight;
    }

    /// A vector [size] as floats. Throws as matrix() does, and NotFinite.
    [[nodiscard]] std::vector<float> vector(const std::string& name, std::size_t size) {
        const WeightView weight = matrix(name, 1, size);
        std::vector<float> values(size);
        dequantize_row(weight.dtype, weight.data, size, values.data());
        if (!all_finite(values.data(), size)) {
            fail(ErrorCode::NotFinite, "'", file_.name(), "': tensor '", name, "' holds NaN or infinity");
        }
        return values;
    }

    [[nodiscard]] LinearWeights linear(const std::string& name, std::size_t out, std::size_t in) {
        LinearWeights result{matrix(name + ".weight", out, in), {}};
        if (has(name + ".bias")) result.bias = vector(name + ".bias", out);
        return result;
    }

    /// Throws Unsupported for the first tensor that nobody read: a model that needs it would be silently wrong.
    void require_all_read(const ModelConfig& config) const {
        for (const GgufTensor& tensor : file_.tensors()) {
            if (read_.contains(tensor.name)) continue;
            fail(ErrorCode::Unsupported, "'", file_.name(), "': tensor '", tensor.name, "' is not part of a ",
                 config.architecture, " model of ", config.layers, " layers as this library runs it");
        }
    }

  private:
    const GgufFile& file_;
    std::set<std::string, std::less<>> read_;
};

inline ModelConfig read_config(const GgufFile& file) {
    ModelConfig config;
    config.architecture = file.get_string("general.architecture");
    if (config.architecture != "llama") {
        fail(ErrorCode::Unsupported, "'", file.name(), "': architecture '", config.architecture, "'; supported: ",
             supported_architectures);
    }
    config.name = file.find_string("general.name").value_or(config.architecture);
    const auto key = [&](std::string_view name) { return config.architecture + "." + std::string(name); };
    const auto number = [&](std::string_view name) { return static_cast<std::size_t>(file.get_uint(key(name))); };
    const auto number_or = [&](std::string_view name, std::size_t otherwise) {
        return static_cast<std::size_t>(file.find_uint(key(name)).value_or(otherwise));
    };

    config.layers = number("block_count");
    config.hidden = number("embedding_length");
    config.heads = number("attention.head_count");
    config.kv_heads = number_or("attention.head_count_kv", config.heads);
    config.feed_forward = number("feed_forward_length");
    config.context = number("context_length");
    const bool divides = config.heads != 0 && config.hidden % config.heads == 0;
    if (!divides && !file.has(key("attention.key_length"))) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("attention.head_count"), " is ", config.heads,
             ", which does not divide the hidden size ", config.hidden);
    }
    config.head_dim = number_or("attention.key_length", divides ? config.hidden / config.heads : 0);
    if (number_or("attention.value_length", config.head_dim) != config.head_dim) {
        fail(ErrorCode::Unsupported, "'", file.name(), "': key and value heads of different sizes");
    }
    const GgufTensor& embedding = file.tensor("token_embd.weight");
    config.vocabulary = embedding.dims.size() == 2 ? static_cast<std::size_t>(embedding.dims[1]) : 0;
    if (number_or("vocab_size", config.vocabulary) != config.vocabulary) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("vocab_size"), " is ", number("vocab_size"),
             ", but token_embd.weight has ", config.vocabulary, " rows");
    }
    config.norm_eps = static_cast<float>(file.get_float(key("attention.layer_norm_rms_epsilon")));
    config.attention_scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim));

    config.rope.dims = number_or("rope.dimension_count", config.head_dim);
    if (config.rope.dims == 0 && config.head_dim != 0) {  // a model without rotary positions is something else than a llama
        fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("rope.dimension_count"), " is 0");
    }
    config.rope.base = file.find_float(key("rope.freq_base")).value_or(10000.0);
    config.rope.interleaved = true;
    const std::string scaling = file.find_string(key("rope.scaling.type")).value_or("none");
    if (scaling == "linear") {
        config.rope.linear_factor = file.get_float(key("rope.scaling.factor"));
    } else if (scaling != "none") {
        fail(ErrorCode::Unsupported, "'", file.name(), "': rotary scaling '", scaling,
             "'; supported: none, linear, and Llama 3's by its tensor rope_freqs.weight");
    }
    return config;
}

inline std::string identity_of(const GgufFile& file, const ModelConfig& config) {
    Fingerprint fingerprint;
    for (const GgufTensor& tensor : file.tensors()) {
        fingerprint.add(tensor.name).add(std::uint64_t{tensor.type});
        for (const std::uint64_t dim : tensor.dims) fingerprint.add(dim);
        fingerprint.add_ends({tensor.data, static_cast<std::size_t>(tensor.bytes)});
    }
    return config.architecture + "-" + std::to_string(config.layers) + "x" + std::to_string(config.hidden) + "-" + fingerprint.text();
}

}  // namespace detail

/// The decoder of a GGUF file; matrices stay in the file's format, over the file's own bytes. Throws Unsupported
/// (architecture, storage type, a tensor that the library would ignore), CorruptFile, ShapeMismatch, NotFinite, Cancelled.
[[nodiscard]] inline ModelWeights load_weights(const GgufFile& file, const BuildOptions& options = {}) {
    ModelWeights model;
    model.config = detail::read_config(file);
    ModelConfig& config = model.config;
    detail::TensorReader tensors(file);
    if (tensors.has("rope_freqs.weight")) {
        config.rope.frequency_factors = tensors.vector("rope_freqs.weight", config.rope.dims / 2);
    }
    validate(config, "'" + file.name() + "'");

    model.token_embedding = tensors.matrix("token_embd.weight", config.vocabulary, config.hidden);
    for (std::size_t i = 0; i < config.layers; ++i) {
        if (options.stop.stop_requested()) fail(ErrorCode::Cancelled, "loading '", file.name(), "' was cancelled");
        const std::string prefix = std::string("blk.").append(std::to_string(i)).append(".");
        LayerWeights layer;
        layer.attention_norm = tensors.vector(prefix + "attn_norm.weight", config.hidden);
        layer.q = tensors.linear(prefix + "attn_q", config.q_size(), config.hidden);
        layer.k = tensors.linear(prefix + "attn_k", config.kv_size(), config.hidden);
        layer.v = tensors.linear(prefix + "attn_v", config.kv_size(), config.hidden);
        layer.attention_output = tensors.linear(prefix + "attn_output", config.hidden, config.q_size());
        layer.feed_forward_norm = tensors.vector(prefix + "ffn_norm.weight", config.hidden);
        layer.gate = tensors.linear(prefix + "ffn_gate", config.feed_forward, config.hidden);
        layer.up = tensors.linear(prefix + "ffn_up", config.feed_forward, config.hidden);
        layer.down = tensors.linear(prefix + "ffn_down", config.hidden, config.feed_forward);
        model.layers.push_back(std::move(layer));
        if (options.progress) options.progress({"read layers", i + 1, config.layers});
    }
    model.final_norm = tensors.vector("output_norm.weight", config.hidden);
    model.head = tensors.has("output.weight") ? tensors.linear("output", config.vocabulary, config.hidden)
                                              : LinearWeights{model.token_embedding, {}};
    tensors.require_all_read(config);
    model.identity = detail::identity_of(file, config);
    model.storage = file.storage();
    return model;
}

}  // namespace adainfer::inline v0
