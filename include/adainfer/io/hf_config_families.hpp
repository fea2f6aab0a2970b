#pragma once

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/io/family.hpp"
#include "adainfer/io/hf_config_fields.hpp"
#include "adainfer/io/hf_config_rope.hpp"
#include "adainfer/io/hf_config_sizes.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/model/config.hpp"

namespace adainfer::inline v0 {

/// What a config.json says.
struct HfConfig {
    ModelConfig model;
    const Family* family = nullptr;
    std::string model_type;  ///< as in the file
    bool tied = false;       ///< the head is the token embedding where the checkpoint has no head
    bool qkv_bias = false, output_bias = false, feed_forward_bias = false;
};

namespace detail::hf_config {

inline void read_llama(const ConfigFields& config, HfConfig& result) {
    ModelConfig& model = result.model;
    const bool mistral = result.model_type == "mistral";
    const bool qwen2 = result.model_type == "qwen2", qwen3 = result.model_type == "qwen3";
    const Sizes sizes = mistral          ? Sizes{32000, 4096, 32, 32, 14336, 131072}
                        : qwen2 || qwen3 ? Sizes{151936, 4096, 32, 32, 22016, 32768}
                                         : Sizes{32000, 4096, 32, 32, 11008, 2048};
    read_sizes(config, {}, sizes, model);
    const std::optional<std::size_t> kv_heads = qwen2 || qwen3 ? std::optional<std::size_t>(32) : std::nullopt;
    model.kv_heads = mistral ? config.count("num_key_value_heads", 8)
                             : config.count_or_null("num_key_value_heads", kv_heads).value_or(model.heads);
    read_head_dim(config, qwen3 ? config.count("head_dim", 128) : config.count_or_null("head_dim"), model);
    model.norm_eps = config.real("rms_norm_eps", 1e-6F);
    model.activation = activation_named(config, "hidden_act", "silu");
    read_full_rope(config, model);
    result.tied = config.flag("tie_word_embeddings", false);
    result.qkv_bias = qwen2 || (!mistral && config.flag("attention_bias", false));
    result.output_bias = !qwen2 && result.qkv_bias;
    result.feed_forward_bias = result.model_type == "llama" && config.flag("mlp_bias", false);
    if (mistral) read_window(config, config.count_or_null("sliding_window", 4096), model);
    if (qwen2 || qwen3) {
        std::optional<std::size_t> window = config.count_or_null("sliding_window", 4096);
        if (!config.flag("use_sliding_window", false)) window.reset();
        const std::size_t first = config.count("max_window_layers", 28);
        read_windows(config, window, [&](std::size_t layer) { return window && layer >= first; }, model);
    }
}

inline void read_phi3(const ConfigFields& config, HfConfig& result) {
    ModelConfig& model = result.model;
    read_sizes(config, {}, {32064, 3072, 32, 32, 8192, 4096}, model);
    model.kv_heads = config.count_or_null("num_key_value_heads").value_or(model.heads);
    read_head_dim(config, config.count_or_null("head_dim"), model);
    model.norm_eps = config.real("rms_norm_eps", 1e-5F);
    model.activation = activation_named(config, "hidden_act", "silu");
    RopeDefaults defaults = rope_defaults(config, model);
    defaults.original_context = config.count("original_max_position_embeddings", 4096);
    const auto object = rope_object(config);
    const std::string type = rope_type(ConfigFields(object, config.file()));
    if (type != "default" && type != "longrope" && type != "su") {
        config.unsupported("rope type ", detail::quoted(type), " in a phi3; supported: default, longrope");
    }
    model.rope = read_rope(object, config, defaults, model.context);
    read_window(config, config.count_or_null("sliding_window"), model);
    result.tied = config.flag("tie_word_embeddings", false);
}

/// Gemma 3's layers with a window have rotary positions of their own (its report, arXiv 2503.19786, section 2).
inline void read_gemma3(const ConfigFields& config, HfConfig& result) {
    ModelConfig& model = result.model;
    read_sizes(config, {}, {262208, 2304, 26, 8, 9216, 131072}, model);
    model.kv_heads = config.count("num_key_value_heads", 4);
    read_head_dim(config, config.count("head_dim", 256), model);
    model.norm_eps = config.real("rms_norm_eps", 1e-6F);
    model.activation = activation_named(config, "hidden_activation", "gelu_pytorch_tanh");
    model.embedding_scale = std::sqrt(static_cast<float>(model.hidden));
    model.attention_scale = 1.0F / std::sqrt(static_cast<float>(config.count("query_pre_attn_scalar", 256)));
    for (const std::string_view key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
        if (config.find(key)) config.unsupported(key, " is set");
    }
    if (config.find("use_bidirectional_attention") && config.flag("use_bidirectional_attention", false)) {
        config.unsupported("use_bidirectional_attention is set");
    }

    const std::size_t pattern = config.find("layer_types") ? 1 : config.count("sliding_window_pattern", 6);
    if (pattern == 0) config.corrupt("sliding_window_pattern is 0");
    read_windows(
        config, config.count_or_null("sliding_window", 4096), [&](std::size_t layer) { return (layer + 1) % pattern != 0; },
        model);

    std::optional<json::Field> full, windowed;
    if (const auto parameters = config.find("rope_parameters")) {
        const ConfigFields kinds(*parameters, config.file());
        full = kinds.find("full_attention");
        windowed = kinds.find("sliding_attention");
    }
    RopeDefaults defaults = rope_defaults(config, model);
    defaults.base = config.number("rope_theta", 1e6);
    if (const auto old = config.find("rope_scaling")) {  // the old spelling wins, member by member
        defaults.base = ConfigFields(full, config.file()).number("rope_theta", defaults.base);
        full = old;
    }
    model.rope = read_rope(full, config, defaults, model.context);
    defaults.base = config.number("rope_local_base_freq", 1e4);
    const RopeConfig local = read_rope(windowed, config, defaults, model.context);
    if (model.rope.dims != model.head_dim || local.dims != model.head_dim) {
        config.unsupported("a partial_rotary_factor other than 1 in a gemma3");
    }
    if (!model.windowed.empty()) model.window_rope = local;
    result.tied = config.flag("tie_word_embeddings", true);
    result.qkv_bias = result.output_bias = config.flag("attention_bias", false);
}

inline void read_gpt_neox(const ConfigFields& config, HfConfig& result) {
    ModelConfig& model = result.model;
    read_sizes(config, {}, {50432, 6144, 44, 64, 24576, 2048}, model);
    read_head_dim(config, std::nullopt, model);
    model.norm_eps = config.real("layer_norm_eps", 1e-5F);
    model.activation = activation_named(config, "hidden_act", "gelu");
    model.parallel_blocks = config.flag("use_parallel_residual", true);
    model.rope = read_rope(rope_object(config), config, rope_defaults(config, model, "rotary_emb_base", "rotary_pct", 0.25),
                           model.context);
    result.tied = config.flag("tie_word_embeddings", false);
    result.qkv_bias = result.output_bias = config.flag("attention_bias", true);
    result.feed_forward_bias = true;
}

inline void read_gpt2(const ConfigFields& config, HfConfig& result) {
    ModelConfig& model = result.model;
    read_sizes(config, {"n_embd", "n_layer", "n_head", "", "n_positions"}, {50257, 768, 12, 12, 0, 1024}, model);
    model.feed_forward = config.count_or_null("n_inner").value_or(4 * model.hidden);
    read_head_dim(config, std::nullopt, model);
    if (!config.flag("scale_attn_weights", true)) model.attention_scale = 1;
    if (config.flag("scale_attn_by_inverse_layer_idx", false)) config.unsupported("scale_attn_by_inverse_layer_idx is set");
    if (config.flag("add_cross_attention", false)) config.unsupported("add_cross_attention is set");
    model.norm_eps = config.real("layer_norm_epsilon", 1e-5F);
    model.activation = activation_named(config, "activation_function", "gelu_new");
    result.tied = config.flag("tie_word_embeddings", true);
    result.qkv_bias = result.output_bias = result.feed_forward_bias = true;
}

inline void read_opt(const ConfigFields& config, HfConfig& result) {
    ModelConfig& model = result.model;
    read_sizes(config, {.feed_forward = "ffn_dim"}, {50272, 768, 12, 12, 3072, 2048}, model);
    read_head_dim(config, std::nullopt, model);
    const std::size_t embedding = config.count_or_null("word_embed_proj_dim").value_or(model.hidden);
    if (embedding == 0) config.corrupt("word_embed_proj_dim is 0");
    if (embedding != model.hidden) model.embedding = embedding;
    model.position_offset = 2;
    model.norm_eps = 1e-5F;  // that of torch.nn.LayerNorm; the file has none
    const bool before = config.flag("do_layer_norm_before", true);
    model.norm_placement = before ? NormPlacement::Before : NormPlacement::After;
    if (before && config.flag("_remove_final_layer_norm", false)) config.unsupported("_remove_final_layer_norm is set");
    if (!config.flag("layer_norm_elementwise_affine", true)) config.unsupported("layer_norm_elementwise_affine is false");
    model.activation = activation_named(config, "activation_function", "relu");
    result.tied = config.flag("tie_word_embeddings", true);
    result.qkv_bias = result.output_bias = result.feed_forward_bias = config.flag("enable_bias", true);
}

}  // namespace detail::hf_config

}  // namespace adainfer::inline v0
