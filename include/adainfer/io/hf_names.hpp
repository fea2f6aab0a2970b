#pragma once

#include <array>
#include <string>
#include <string_view>

#include "adainfer/io/family.hpp"
#include "adainfer/io/hf_config.hpp"

// From the names of a checkpoint to those of the table of families.

namespace adainfer::inline v0::detail {

/// Tensors of checkpoints that are no weights of the decoder: masks and angles that the code computes itself, and the other
/// half of a model that also sees.
struct IgnoredTensors {
    std::string_view model_type;  ///< empty: of every one
    std::string_view prefix, suffix;
};
inline constexpr std::array ignored_tensors{
    IgnoredTensors{"", "", ".rotary_emb.inv_freq"},
    IgnoredTensors{"", "", ".position_ids"},
    IgnoredTensors{"gpt2", "", ".attn.bias"},
    IgnoredTensors{"gpt2", "", ".attn.masked_bias"},
    IgnoredTensors{"gpt_neox", "", ".attention.bias"},
    IgnoredTensors{"gpt_neox", "", ".attention.masked_bias"},
    IgnoredTensors{"gemma3", "vision_tower.", ""},
    IgnoredTensors{"gemma3", "model.vision_tower.", ""},
    IgnoredTensors{"gemma3", "multi_modal_projector.", ""},
    IgnoredTensors{"gemma3", "model.multi_modal_projector.", ""},
};

[[nodiscard]] constexpr bool is_ignored(std::string_view name, std::string_view model_type) noexcept {
    for (const IgnoredTensors& ignored : ignored_tensors) {
        if ((ignored.model_type.empty() || ignored.model_type == model_type) && name.starts_with(ignored.prefix) &&
            name.ends_with(ignored.suffix)) {
            return true;
        }
    }
    return false;
}

/// The name that the table of families uses for a tensor of a checkpoint. `bare`: the checkpoint holds the inner model alone
/// (saved without its head), whose names lack the first part, e.g. "model.".
[[nodiscard]] inline std::string table_name(std::string_view name, const HfConfig& config, bool bare) {
    const std::string_view embedding = config.family->hf_names.token_embedding, head = config.family->hf_names.head;
    if (config.model_type == "gemma3") {  // language_model.model.*, language_model.lm_head; since 2025 model.language_model.*
        constexpr std::string_view outer = "language_model.", inner = "model.language_model.";
        if (name.starts_with(outer)) return std::string(name.substr(outer.size()));
        if (name.starts_with(inner)) return "model." + std::string(name.substr(inner.size()));
    }
    if (name == "lm_head.weight" || name == "lm_head.bias") return std::string(head) + std::string(name.substr(7));
    const bool is_head = name.starts_with(head);
    return (bare && !is_head ? std::string(embedding.substr(0, embedding.find('.') + 1)) : std::string()) + std::string(name);
}

}  // namespace adainfer::inline v0::detail
