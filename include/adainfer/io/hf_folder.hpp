#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "adainfer/core/error.hpp"
#include "adainfer/io/family.hpp"
#include "adainfer/io/hf_config.hpp"
#include "adainfer/io/hf_shards.hpp"
#include "adainfer/io/hf_tensors.hpp"
#include "adainfer/io/identity.hpp"
#include "adainfer/io/load_options.hpp"
#include "adainfer/io/read_weights.hpp"
#include "adainfer/io/text_file.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0 {

namespace detail {

/// WeightReader takes biases and a head where there are any; here they must be there exactly where config.json says so.
inline void check_parts(const ModelWeights& model, const HfConfig& config, const HfTensors& tensors) {
    const auto bias = [&](std::size_t layer, const char* part, bool found, bool expected) {
        if (found == expected) return;
        fail(found ? ErrorCode::Unsupported : ErrorCode::CorruptFile, tensors.describe(), ": ", part, " of layer ", layer,
             " has ", found ? "a bias, which config.json rules out" : "no bias, which config.json asks for");
    };
    const bool norms = config.model.norm == NormKind::Layer;
    for (std::size_t i = 0; i < model.layers.size(); ++i) {
        const LayerWeights& layer = model.layers[i];
        for (const LinearWeights* part : {&layer.q, &layer.k, &layer.v}) {
            bias(i, "attention", !part->bias.empty(), config.qkv_bias);
        }
        bias(i, "the output of attention", !layer.attention_output.bias.empty(), config.output_bias);
        for (const LinearWeights* part : {&layer.gate, &layer.up, &layer.down}) {
            if (!part->weight.empty()) bias(i, "the feed-forward network", !part->bias.empty(), config.feed_forward_bias);
        }
        bias(i, "the norm before or after attention", !layer.attention_norm.bias.empty(), norms);
        bias(i, "the feed-forward network's norm", !layer.feed_forward_norm.bias.empty(), norms);
    }
    if (model.final_norm.present() && model.final_norm.bias.empty() == norms) {
        fail(ErrorCode::CorruptFile, tensors.describe(), ": the final norm has no bias");
    }
    if (model.tied() && !config.tied) {
        fail(ErrorCode::CorruptFile, tensors.describe(), ": tensor '", config.family->hf_names.head,
             ".weight' is missing, and config.json does not tie it to the embedding");
    }
}

/// Independent of how the tensors are spread over files.
[[nodiscard]] inline std::string identity_of(const HfShards& shards, const ModelConfig& config) {
    Fingerprint fingerprint;
    for (const SafetensorsTensor* const tensor : shards.tensors()) {
        fingerprint.add(tensor->name).add(tensor->dtype);
        for (const std::uint64_t size : tensor->shape) fingerprint.add(size);
        fingerprint.add_ends(tensor->data);
    }
    return config.architecture + "-" + std::to_string(config.layers) + "x" + std::to_string(config.hidden) + "-" +
           fingerprint.text();
}

}  // namespace detail

/// config.json of a Hugging Face folder; see parse_hf_config(). Throws also Io.
[[nodiscard]] inline HfConfig load_hf_config(const std::filesystem::path& folder) {
    constexpr std::size_t largest = 16'000'000;
    const std::filesystem::path path = folder / "config.json";
    HfConfig config = parse_hf_config(detail::TextFile(path, largest).text(), path.string());
    const std::filesystem::path base = folder.has_filename() ? folder.filename() : folder.parent_path().filename();
    config.model.name = base.string();
    return config;
}

/// The decoder of a Hugging Face folder (config.json and safetensors in F32, F16 or BF16). Matrices stay in the files' bytes;
/// only those that a family stores in another order are copied. Throws Error: Io (a file is missing), CorruptFile (also: a
/// tensor is missing, the index is wrong), Unsupported (model type, feature, data type, a tensor that the library would
/// ignore), ShapeMismatch, NotFinite, Cancelled.
[[nodiscard]] inline ModelWeights load_hf_weights(const std::filesystem::path& folder, const LoadOptions& options = {}) {
    const HfConfig config = load_hf_config(folder);
    const HfShards shards = HfShards::open(folder, options.access);
    detail::HfTensors tensors(shards, config);
    ModelWeights model;
    model.config = config.model;
    detail::WeightReader(tensors, *config.family, config.family->hf_names).read(model, {options.progress, options.stop});
    tensors.require_all_read();
    detail::check_parts(model, config, tensors);
    model.identity = detail::identity_of(shards, model.config);
    model.storage = tensors.storage();
    return model;
}

}  // namespace adainfer::inline v0
