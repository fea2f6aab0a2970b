#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/family.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/yarn.hpp"
#include "adainfer/model/config.hpp"

namespace adainfer::inline v0::detail {

/// Throws Unsupported for an architecture of no known family.
[[nodiscard]] inline const Family& gguf_family(const GgufFile& file) {
    const std::string architecture = file.get_string("general.architecture");
    const Family* const family = find_family(architecture);
    if (family == nullptr) {
        fail(ErrorCode::Unsupported, "'", file.name(), "': architecture ", detail::quoted(architecture), "; supported: ",
             supported_families());
    }
    return *family;
}

/// The metadata of one architecture: keys stand after its name and a dot.
class GgufKeys {
  public:
    GgufKeys(const GgufFile& file, std::string_view architecture) : file_(file), prefix_(std::string(architecture) + ".") {}

    [[nodiscard]] std::string full(std::string_view name) const { return prefix_ + std::string(name); }
    [[nodiscard]] bool has(std::string_view name) const { return file_.has(full(name)); }
    [[nodiscard]] std::size_t number(std::string_view name) const { return static_cast<std::size_t>(file_.get_uint(full(name))); }
    [[nodiscard]] std::size_t number_or(std::string_view name, std::size_t otherwise) const {
        return static_cast<std::size_t>(file_.find_uint(full(name)).value_or(otherwise));
    }
    [[nodiscard]] double real(std::string_view name) const { return file_.get_float(full(name)); }
    [[nodiscard]] double real_or(std::string_view name, double otherwise) const {
        return file_.find_float(full(name)).value_or(otherwise);
    }
    [[nodiscard]] bool flag_or(std::string_view name, bool otherwise) const {
        return file_.find_bool(full(name)).value_or(otherwise);
    }
    [[nodiscard]] std::string text_or(std::string_view name, std::string otherwise) const {
        return file_.find_string(full(name)).value_or(std::move(otherwise));
    }
    /// Nothing where the key is absent or no array.
    [[nodiscard]] std::optional<std::vector<bool>> flags(std::string_view name) const {
        const GgufValue* const value = file_.find(full(name));
        if (value == nullptr || !value->is_array()) return std::nullopt;
        return file_.find_bool_array(full(name));
    }
    /// Throws, naming the file and the key.
    template <class... Parts>
    [[noreturn]] void wrong(ErrorCode code, std::string_view name, const Parts&... parts) const {
        fail(code, "'", file_.name(), "': ", full(name), " ", parts...);
    }

  private:
    const GgufFile& file_;
    std::string prefix_;
};

/// Layers, widths and heads; the vocabulary from the embedding itself.
inline void read_sizes(const GgufFile& file, const GgufKeys& keys, ModelConfig& config) {
    config.layers = keys.number("block_count");
    config.hidden = keys.number("embedding_length");
    config.heads = keys.number("attention.head_count");
    config.kv_heads = keys.number_or("attention.head_count_kv", config.heads);
    config.feed_forward = keys.number("feed_forward_length");
    config.context = keys.number("context_length");
    const bool divides = config.heads != 0 && config.hidden % config.heads == 0;
    if (!divides && !keys.has("attention.key_length")) {
        keys.wrong(ErrorCode::CorruptFile, "attention.head_count", "is ", config.heads, ", which does not divide the hidden size ",
                   config.hidden);
    }
    config.head_dim = keys.number_or("attention.key_length", divides ? config.hidden / config.heads : 0);
    if (keys.number_or("attention.value_length", config.head_dim) != config.head_dim) {
        keys.wrong(ErrorCode::Unsupported, "attention.value_length", "gives key and value heads of different sizes");
    }
    const GgufTensor& embedding = file.tensor("token_embd.weight");
    config.vocabulary = embedding.dims.size() == 2 ? static_cast<std::size_t>(embedding.dims[1]) : 0;
    if (keys.number_or("vocab_size", config.vocabulary) != config.vocabulary) {
        keys.wrong(ErrorCode::CorruptFile, "vocab_size", "is ", keys.number("vocab_size"), ", but token_embd.weight has ",
                   config.vocabulary, " rows");
    }
}

/// As llama.cpp computes it, for the extrapolation factor of 1 that it takes where a file gives none.
inline void read_yarn(const GgufKeys& keys, ModelConfig& config) {
    if (keys.real_or("rope.scaling.yarn_ext_factor", 1.0) != 1.0) {
        keys.wrong(ErrorCode::Unsupported, "rope.scaling.yarn_ext_factor", "is not 1");
    }
    const Yarn yarn{.factor = keys.real("rope.scaling.factor"),
                    .original = static_cast<double>(keys.number_or("rope.scaling.original_context_length", config.context)),
                    .beta_fast = keys.real_or("rope.scaling.yarn_beta_fast", 32.0),
                    .beta_slow = keys.real_or("rope.scaling.yarn_beta_slow", 1.0)};
    config.rope.frequency_factors = yarn_factors(yarn, config.rope);
    config.rope.amplitude = keys.real_or("rope.scaling.attn_factor", 1.0) * yarn_amplitude(yarn.factor);
    config.context = yarn_context(yarn, config.context);
}

inline void read_rope(const GgufKeys& keys, const Family& family, ModelConfig& config) {
    config.rope.dims = keys.number_or("rope.dimension_count", config.head_dim);
    if (config.rope.dims == 0 && config.head_dim != 0) {
        keys.wrong(ErrorCode::CorruptFile, "rope.dimension_count", "is 0, but the family has rotary positions");
    }
    constexpr std::size_t most = std::size_t{1} << 16U;  // YaRN makes a factor of each pair, before sizes are validated
    if (config.rope.dims > most) {
        keys.wrong(ErrorCode::CorruptFile, "rope.dimension_count", "is ", config.rope.dims, ", at most ", most, " are read");
    }
    config.rope.base = keys.real_or("rope.freq_base", 10000.0);
    config.rope.interleaved = family.interleaved;
    const std::string scaling = keys.text_or("rope.scaling.type", "none");
    if (scaling == "linear") {
        config.rope.linear_factor = keys.real("rope.scaling.factor");
    } else if (scaling == "yarn") {
        read_yarn(keys, config);
    } else if (scaling != "none" && scaling != "longrope") {
        keys.wrong(ErrorCode::Unsupported, "rope.scaling.type", "asks for rotary scaling ", detail::quoted(scaling),
                   "; supported: none, linear, longrope, yarn, and Llama 3's by its tensor rope_freqs.weight");
    }
}

/// Which layers are windowed: a flag for each, or all but each n-th.
[[nodiscard]] inline std::vector<bool> read_window_pattern(const GgufKeys& keys, std::size_t layers) {
    constexpr std::string_view key = "attention.sliding_window_pattern";
    if (auto flags = keys.flags(key)) {
        if (flags->size() != layers) {
            keys.wrong(ErrorCode::CorruptFile, key, "has ", flags->size(), " flags, the model has ", layers, " layers");
        }
        return *std::move(flags);
    }
    const std::size_t pattern = keys.number_or(key, 6);
    if (pattern == 0) keys.wrong(ErrorCode::CorruptFile, key, "is 0");
    std::vector<bool> windowed;
    for (std::size_t layer = 0; layer < (std::min)(layers, std::size_t{10'000}); ++layer) {
        windowed.push_back((layer + 1) % pattern != 0);
    }
    return windowed;
}

/// Sliding windows: of every layer, or, in Gemma 3, of all but each sixth, whose rotary positions have a base of their own
/// (Gemma 3 technical report, arXiv 2503.19786, section 2).
inline void read_windows(const GgufKeys& keys, ModelConfig& config) {
    config.window = keys.number_or("attention.sliding_window", 0);
    if (config.architecture != "gemma3" || config.window == 0) return;
    config.windowed = read_window_pattern(keys, config.layers);
    config.window_rope = config.rope;
    config.window_rope.base = keys.real_or("rope.freq_base_swa", 10000.0);
    config.window_rope.linear_factor = 1;
}

/// The configuration as the metadata give it, not yet validated. Throws CorruptFile (keys missing or of another type) and
/// Unsupported (a feature that this library would ignore).
[[nodiscard]] inline ModelConfig read_config(const GgufFile& file, const Family& family) {
    const GgufKeys keys(file, family.name);
    ModelConfig config;
    config.architecture = family.name;
    config.name = file.find_string("general.name").value_or(config.architecture);
    read_sizes(file, keys, config);
    config.norm = family.norm;
    config.norm_eps = static_cast<float>(
        keys.real(family.norm == NormKind::Rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"));
    config.activation = family.activation;
    config.attention_scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim));
    if (family.rotary) read_rope(keys, family, config);
    read_windows(keys, config);
    if (keys.real_or("final_logit_softcapping", 0.0) != 0.0) {
        keys.wrong(ErrorCode::Unsupported, "final_logit_softcapping", "is set");
    }

    if (family.name == "gemma3") {
        config.embedding_scale = std::sqrt(static_cast<float>(config.hidden));
        // The one size whose queries are not scaled by their length (its report, table 1); the file does not say so.
        if (config.layers == 62 && config.heads != 0) {
            config.attention_scale = 1.0F / std::sqrt(static_cast<float>(config.hidden / config.heads));
        }
    } else if (family.name == "gptneox") {
        config.parallel_blocks = keys.flag_or("use_parallel_residual", true);
    } else if (family.name == "opt") {
        config.position_offset = keys.number_or("position_offset", 2);
        config.norm_placement = keys.flag_or("norm_after", false) ? NormPlacement::After : NormPlacement::Before;
        const GgufTensor& embedding = file.tensor("token_embd.weight");
        if (file.find_tensor("token_embd_in.weight") != nullptr && !embedding.dims.empty()) {
            config.embedding = static_cast<std::size_t>(embedding.dims[0]);
        }
    }
    return config;
}

/// Rotary factors that a GGUF file keeps as tensors: Llama 3's, or LongRoPE's (arXiv 2402.13753), of which those for the
/// original context are taken and the context ends there: beyond it every earlier key would have to be rotated anew.
template <class Tensors>
void read_rope_factors(Tensors& tensors, const GgufFile& file, ModelConfig& config) {
    const std::size_t pairs = config.rope.dims / 2;
    if (tensors.has("rope_freqs.weight")) config.rope.frequency_factors = tensors.vector("rope_freqs.weight", pairs);
    const GgufKeys keys(file, config.architecture);
    if (!tensors.has("rope_factors_short.weight")) {
        if (keys.text_or("rope.scaling.type", "none") != "longrope") return;
        keys.wrong(ErrorCode::CorruptFile, "rope.scaling.type", "asks for rotary scaling 'longrope', but there is no tensor "
                   "rope_factors_short.weight");
    }
    config.rope.frequency_factors = tensors.vector("rope_factors_short.weight", pairs);
    static_cast<void>(tensors.vector("rope_factors_long.weight", pairs));
    config.rope.amplitude = keys.real_or("rope.scaling.attn_factor", 1.0);
    config.context = (std::min)(config.context, keys.number("rope.scaling.original_context_length"));
}

}  // namespace adainfer::inline v0::detail
