#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_config_fields.hpp"
#include "adainfer/io/hf_config_rope.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/model/config.hpp"

// What several families share of their config.json.

namespace adainfer::inline v0::detail::hf_config {

/// Sizes, under the names and with the defaults of one configuration class.
struct SizeKeys {
    std::string_view hidden = "hidden_size", layers = "num_hidden_layers", heads = "num_attention_heads",
                     feed_forward = "intermediate_size", context = "max_position_embeddings";
};
struct Sizes {
    std::size_t vocabulary, hidden, layers, heads, feed_forward, context;
};

[[nodiscard]] inline Activation activation_named(const ConfigFields& config, std::string_view key, std::string_view otherwise) {
    constexpr std::array<std::pair<std::string_view, Activation>, 10> names{{{"silu", Activation::Silu},
                                                                             {"swish", Activation::Silu},
                                                                             {"gelu", Activation::Gelu},
                                                                             {"gelu_python", Activation::Gelu},
                                                                             {"gelu_new", Activation::GeluTanh},
                                                                             {"gelu_pytorch_tanh", Activation::GeluTanh},
                                                                             {"gelu_python_tanh", Activation::GeluTanh},
                                                                             {"gelu_fast", Activation::GeluTanh},
                                                                             {"gelu_accurate", Activation::GeluTanh},
                                                                             {"relu", Activation::Relu}}};
    const std::string name = config.text(key, otherwise);
    for (const auto& [known, activation] : names) {
        if (known == name) return activation;
    }
    std::string list;
    for (const auto& entry : names) list.append(list.empty() ? "" : ", ").append(entry.first);
    config.unsupported(key, " ", detail::quoted(name), "; supported: ", list);
}

/// Widths and heads; `head_dim` is looked at where the class has it.
inline void read_sizes(const ConfigFields& config, const SizeKeys& keys, const Sizes& defaults, ModelConfig& model) {
    model.vocabulary = config.count("vocab_size", defaults.vocabulary);
    model.hidden = config.count(keys.hidden, defaults.hidden);
    model.layers = config.count(keys.layers, defaults.layers);
    model.heads = model.kv_heads = config.count(keys.heads, defaults.heads);
    model.feed_forward = config.count(keys.feed_forward, defaults.feed_forward);
    model.context = config.count(keys.context, defaults.context);
    if (model.heads == 0) config.corrupt(keys.heads, " is 0");
}

/// The width of a head: its own number, or what the heads share evenly.
inline void read_head_dim(const ConfigFields& config, std::optional<std::size_t> own, ModelConfig& model) {
    if (!own && model.hidden % model.heads != 0) {
        config.corrupt("the hidden size ", model.hidden, " is not a multiple of the ", model.heads, " attention heads");
    }
    model.head_dim = own.value_or(model.hidden / model.heads);
    if (model.head_dim > std::size_t{1} << 16U) config.corrupt("heads of width ", model.head_dim, ", at most 65536 are read");
    model.attention_scale = 1.0F / std::sqrt(static_cast<float>(model.head_dim));
}

[[nodiscard]] inline RopeDefaults rope_defaults(const ConfigFields& config, const ModelConfig& model,
                                                std::string_view base_key = "rope_theta",
                                                std::string_view partial_key = "partial_rotary_factor", double partial = 1) {
    RopeDefaults defaults;
    defaults.base = config.number(base_key, 10000);
    defaults.partial = config.find_number(partial_key).value_or(partial);
    defaults.head_dim = model.head_dim;
    defaults.context = model.context;
    defaults.original_context = config.count_or_null("original_max_position_embeddings");
    return defaults;
}

/// Reads the positions of a family that rotates whole heads.
inline void read_full_rope(const ConfigFields& config, ModelConfig& model) {
    model.rope = read_rope(rope_object(config), config, rope_defaults(config, model), model.context);
    if (model.rope.dims != model.head_dim) config.unsupported("a partial_rotary_factor other than 1 in a ", model.architecture);
}

/// `sliding_window` for the layers that `layer_types` names. `usual(layer)` says it where that list is missing.
template <class Usual>
void read_windows(const ConfigFields& config, std::optional<std::size_t> window, const Usual& usual, ModelConfig& model) {
    if (model.layers > 10'000) return;  // validate() says so
    if (const auto types = config.find("layer_types")) {
        for (const json::Field& type : types->elements()) {
            if (type.text() != "full_attention" && type.text() != "sliding_attention") {
                config.unsupported("layer type ", detail::quoted(type.text()), "; supported: full_attention, sliding_attention");
            }
            model.windowed.push_back(type.text() == "sliding_attention");
        }
        if (model.windowed.size() != model.layers) {
            config.corrupt("layer_types has ", model.windowed.size(), " entries for ", model.layers, " layers");
        }
    } else {
        for (std::size_t layer = 0; layer < model.layers; ++layer) model.windowed.push_back(usual(layer));
    }
    if (std::find(model.windowed.begin(), model.windowed.end(), true) == model.windowed.end()) {
        model.windowed.clear();
        return;
    }
    if (!window || *window == 0) config.corrupt("layers with sliding_attention need a sliding_window of 1 or more");
    model.window = *window;
}

/// `sliding_window` of every layer; null is none.
inline void read_window(const ConfigFields& config, std::optional<std::size_t> window, ModelConfig& model) {
    if (window && *window == 0) config.corrupt("sliding_window is 0");
    model.window = window.value_or(0);
}

}  // namespace adainfer::inline v0::detail::hf_config
