#pragma once

#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/io/family.hpp"
#include "adainfer/io/hf_config_families.hpp"
#include "adainfer/io/hf_config_fields.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/model/config.hpp"

namespace adainfer::inline v0 {

/// Reads the text of a config.json as transformers 5 does, with the defaults of its configuration classes; `file` is for
/// messages. Sizes are validated. Throws Error: CorruptFile (no JSON, a value of another type or out of range), Unsupported
/// (a model_type that is not in the table of families, or a feature that the decoder lacks and would leave out).
[[nodiscard]] inline HfConfig parse_hf_config(std::string_view text, const std::string& file) {
    using namespace detail;
    using namespace detail::hf_config;
    const json::Document document = json::parse(text, file);
    const json::Field root(document.root(), file);
    const ConfigFields outer(root, file);
    HfConfig result;
    result.model_type = outer.text("model_type", "");
    // Gemma 3 with a vision tower keeps the language model's configuration inside; the tower is left out.
    const bool multimodal = result.model_type == "gemma3";
    result.family = find_family(multimodal ? "gemma3_text" : std::string_view(result.model_type), &Family::hf_type);
    if (result.family == nullptr) {
        outer.unsupported("model_type ", detail::quoted(result.model_type), "; supported: ", supported_families(&Family::hf_type),
                          ", gemma3");
    }
    if (const auto quantization = outer.find("quantization_config")) {
        const auto method = quantization->find("quant_method");
        outer.unsupported("the weights are quantised (quantization_config",
                          method && method->is_string() ? ", " + detail::quoted(method->text()) : "",
                          "); f32, f16 and bf16 are read, or a GGUF file of a quantised type");
    }
    const auto inner = multimodal ? outer.find("text_config") : std::nullopt;
    if (multimodal && !inner) outer.corrupt("text_config is missing");
    const ConfigFields config(inner ? *inner : root, file);

    result.model.architecture = result.family->name;
    result.model.norm = result.family->norm;
    const std::string_view type = result.family->hf_type;
    if (type == "gemma3_text")
        read_gemma3(config, result);
    else if (type == "phi3")
        read_phi3(config, result);
    else if (type == "gpt_neox")
        read_gpt_neox(config, result);
    else if (type == "gpt2")
        read_gpt2(config, result);
    else if (type == "opt")
        read_opt(config, result);
    else
        read_llama(config, result);
    if (multimodal) result.tied = outer.flag("tie_word_embeddings", true);
    validate(result.model, "'" + file + "'");
    return result;
}

}  // namespace adainfer::inline v0
