#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "adainfer/model/config.hpp"

// What sets the model families apart, one row each. A family that needs nothing new is a row in `families` and a row of
// tensor names for Hugging Face; numbers that stand in a file's metadata are read by gguf_config.hpp and hf_config.hpp.

namespace adainfer::inline v0 {

/// How a format names the tensors; ".weight" and ".bias" follow, "{}" stands for the number of the layer. An empty name: the
/// format has no such tensor.
struct TensorNames {
    std::string_view token_embedding{}, position_embedding{}, embedding_in{}, embedding_out{}, final_norm{}, head{};
    std::string_view attention_norm{}, qkv{}, q{}, k{}, v{}, q_norm{}, k_norm{}, attention_output{}, attention_post_norm{};
    std::string_view feed_forward_norm{}, gate_up{}, gate{}, up{}, down{}, feed_forward_post_norm{};
};

/// GGUF has one set of names for all families.
inline constexpr TensorNames gguf_names{
    .token_embedding = "token_embd", .position_embedding = "position_embd", .embedding_in = "token_embd_in",
    .embedding_out = "token_embd_out", .final_norm = "output_norm", .head = "output",
    .attention_norm = "blk.{}.attn_norm", .qkv = "blk.{}.attn_qkv", .q = "blk.{}.attn_q", .k = "blk.{}.attn_k",
    .v = "blk.{}.attn_v", .q_norm = "blk.{}.attn_q_norm", .k_norm = "blk.{}.attn_k_norm",
    .attention_output = "blk.{}.attn_output", .attention_post_norm = "blk.{}.post_attention_norm",
    .feed_forward_norm = "blk.{}.ffn_norm", .gate_up = "blk.{}.ffn_up", .gate = "blk.{}.ffn_gate", .up = "blk.{}.ffn_up",
    .down = "blk.{}.ffn_down", .feed_forward_post_norm = "blk.{}.post_ffw_norm"};

namespace hf {

/// Llama, and with head norms or without: Mistral, Qwen2, Qwen3.
inline constexpr TensorNames llama_names{
    .token_embedding = "model.embed_tokens", .final_norm = "model.norm", .head = "lm_head",
    .attention_norm = "model.layers.{}.input_layernorm", .q = "model.layers.{}.self_attn.q_proj",
    .k = "model.layers.{}.self_attn.k_proj", .v = "model.layers.{}.self_attn.v_proj",
    .q_norm = "model.layers.{}.self_attn.q_norm", .k_norm = "model.layers.{}.self_attn.k_norm",
    .attention_output = "model.layers.{}.self_attn.o_proj", .feed_forward_norm = "model.layers.{}.post_attention_layernorm",
    .gate = "model.layers.{}.mlp.gate_proj", .up = "model.layers.{}.mlp.up_proj", .down = "model.layers.{}.mlp.down_proj"};

inline constexpr TensorNames gemma3_names = [] {
    TensorNames names = llama_names;
    names.attention_post_norm = "model.layers.{}.post_attention_layernorm";
    names.feed_forward_norm = "model.layers.{}.pre_feedforward_layernorm";
    names.feed_forward_post_norm = "model.layers.{}.post_feedforward_layernorm";
    return names;
}();

inline constexpr TensorNames phi3_names = [] {
    TensorNames names = llama_names;
    names.qkv = "model.layers.{}.self_attn.qkv_proj";
    names.gate_up = "model.layers.{}.mlp.gate_up_proj";
    return names;
}();

inline constexpr TensorNames gpt2_names{
    .token_embedding = "transformer.wte", .position_embedding = "transformer.wpe", .final_norm = "transformer.ln_f",
    .head = "lm_head", .attention_norm = "transformer.h.{}.ln_1", .qkv = "transformer.h.{}.attn.c_attn",
    .attention_output = "transformer.h.{}.attn.c_proj", .feed_forward_norm = "transformer.h.{}.ln_2",
    .up = "transformer.h.{}.mlp.c_fc", .down = "transformer.h.{}.mlp.c_proj"};

inline constexpr TensorNames gpt_neox_names{
    .token_embedding = "gpt_neox.embed_in", .final_norm = "gpt_neox.final_layer_norm", .head = "embed_out",
    .attention_norm = "gpt_neox.layers.{}.input_layernorm", .qkv = "gpt_neox.layers.{}.attention.query_key_value",
    .attention_output = "gpt_neox.layers.{}.attention.dense",
    .feed_forward_norm = "gpt_neox.layers.{}.post_attention_layernorm", .up = "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    .down = "gpt_neox.layers.{}.mlp.dense_4h_to_h"};

inline constexpr TensorNames opt_names{
    .token_embedding = "model.decoder.embed_tokens", .position_embedding = "model.decoder.embed_positions",
    .embedding_in = "model.decoder.project_in", .embedding_out = "model.decoder.project_out",
    .final_norm = "model.decoder.final_layer_norm", .head = "lm_head",
    .attention_norm = "model.decoder.layers.{}.self_attn_layer_norm", .q = "model.decoder.layers.{}.self_attn.q_proj",
    .k = "model.decoder.layers.{}.self_attn.k_proj", .v = "model.decoder.layers.{}.self_attn.v_proj",
    .attention_output = "model.decoder.layers.{}.self_attn.out_proj",
    .feed_forward_norm = "model.decoder.layers.{}.final_layer_norm", .up = "model.decoder.layers.{}.fc1",
    .down = "model.decoder.layers.{}.fc2"};

/// How a Hugging Face checkpoint stores what others store plainly.
struct Storage {
    bool transposed = false;       ///< projections of the layers are [in, out] (GPT-2)
    bool heads_interleaved = false;  ///< fused rows go q, k, v of head 0, q, k, v of head 1, ... (GPT-NeoX)
    bool gain_less_one = false;    ///< norms hold gain - 1 (Gemma)
};

}  // namespace hf

/// One family. The flags say which parts a layer has; the parts' biases are taken where the file has them.
struct Family {
    std::string_view name;          ///< general.architecture of a GGUF file
    std::string_view hf_type;       ///< model_type of a config.json
    NormKind norm = NormKind::Rms;
    Activation activation = Activation::Silu;  ///< where the metadata do not say
    bool rotary = true;
    bool interleaved = false;       ///< rotated pairs of a GGUF file are neighbours; in Hugging Face's they never are
    bool learned_positions = false;
    bool gated = true;              ///< the feed-forward network has a gate
    bool fused_qkv = false;
    bool fused_gate_up = false;     ///< rows of the gate, then rows of up
    bool head_norms = false;        ///< norms on each head of q and k
    bool post_norms = false;        ///< norms on what a block adds
    TensorNames hf_names{};
    hf::Storage storage{};
};

inline constexpr std::array families{
    Family{.name = "llama", .hf_type = "llama", .interleaved = true, .hf_names = hf::llama_names},
    Family{.name = "llama", .hf_type = "mistral", .interleaved = true, .hf_names = hf::llama_names},
    Family{.name = "qwen2", .hf_type = "qwen2", .hf_names = hf::llama_names},
    Family{.name = "qwen3", .hf_type = "qwen3", .head_norms = true, .hf_names = hf::llama_names},
    Family{.name = "gemma3", .hf_type = "gemma3_text", .activation = Activation::GeluTanh, .head_norms = true,
           .post_norms = true, .hf_names = hf::gemma3_names, .storage = {.gain_less_one = true}},
    Family{.name = "phi3", .hf_type = "phi3", .fused_qkv = true, .fused_gate_up = true, .hf_names = hf::phi3_names},
    Family{.name = "gpt2", .hf_type = "gpt2", .norm = NormKind::Layer, .activation = Activation::GeluTanh, .rotary = false,
           .learned_positions = true, .gated = false, .fused_qkv = true, .hf_names = hf::gpt2_names,
           .storage = {.transposed = true}},
    Family{.name = "gptneox", .hf_type = "gpt_neox", .norm = NormKind::Layer, .activation = Activation::Gelu, .gated = false,
           .fused_qkv = true, .hf_names = hf::gpt_neox_names, .storage = {.heads_interleaved = true}},
    Family{.name = "opt", .hf_type = "opt", .norm = NormKind::Layer, .activation = Activation::Relu, .rotary = false,
           .learned_positions = true, .gated = false, .hf_names = hf::opt_names},
};

/// The family of a GGUF architecture name or, with member = &Family::hf_type, of a model_type; nullptr where there is none.
[[nodiscard]] constexpr const Family* find_family(std::string_view name,
                                                  std::string_view Family::*member = &Family::name) noexcept {
    for (const Family& family : families) {
        if (family.*member == name) return &family;
    }
    return nullptr;
}

/// The names of all families, each once, for messages.
[[nodiscard]] inline std::string supported_families(std::string_view Family::*member = &Family::name) {
    std::string list;
    std::string_view previous;
    for (const Family& family : families) {
        if (family.*member == previous) continue;
        previous = family.*member;
        list.append(list.empty() ? "" : ", ").append(previous);
    }
    return list;
}

}  // namespace adainfer::inline v0
