#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_config_fields.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/io/yarn.hpp"
#include "adainfer/model/config.hpp"

// Rotary positions of a config.json, in both spellings: `rope_theta` beside `rope_scaling`, and `rope_parameters` with
// everything in it (transformers 5). What a type of scaling means is transformers' modeling_rope_utils.py.

namespace adainfer::inline v0::detail::hf_config {

/// What stands outside the object that describes the scaling.
struct RopeDefaults {
    double base = 10000;
    double partial = 1;  ///< share of a head that is rotated
    std::size_t head_dim = 0;
    std::size_t context = 0;                      ///< max_position_embeddings
    std::optional<std::size_t> original_context;  ///< original_max_position_embeddings beside the object: it wins (Phi-3)
};

/// Llama 3's scaling as factors on the wavelengths: 1 below original / high, `factor` above original / low, smooth between.
inline std::vector<float> llama3_factors(const ConfigFields& scaling, const RopeConfig& rope, double original) {
    const auto required = [&](std::string_view key) {
        const auto value = scaling.find_number(key);
        if (!value) scaling.corrupt("rope type llama3 needs ", key);
        return *value;
    };
    const double factor = required("factor"), low = required("low_freq_factor"), high = required("high_freq_factor");
    std::vector<float> factors;
    for (std::size_t i = 0; i < rope.dims / 2; ++i) {
        const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(rope.dims);
        const double wavelength = 2.0 * std::numbers::pi * std::pow(rope.base, exponent);
        if (wavelength > original / low) {
            factors.push_back(static_cast<float>(factor));
        } else if (wavelength < original / high) {
            factors.push_back(1.0F);
        } else {
            const double smooth = (original / wavelength - low) / (high - low);
            factors.push_back(static_cast<float>(1.0 / ((1.0 - smooth) / factor + smooth)));
        }
    }
    return factors;
}

/// LongRoPE (arXiv 2402.13753): the factors for the original context, to which the context is cut: beyond it other factors
/// hold, with which every earlier key would have to be rotated anew. The attention factor belongs to both.
inline void read_longrope(const ConfigFields& scaling, std::size_t original, RopeConfig& rope, std::size_t& context) {
    const auto factors = scaling.find("short_factor");
    if (!factors || !scaling.find("long_factor")) scaling.corrupt("rope type longrope needs short_factor and long_factor");
    for (const json::Field& factor : factors->elements()) rope.frequency_factors.push_back(factor.real());
    const double wide = static_cast<double>(original);
    const double factor = scaling.find_number("factor").value_or(static_cast<double>(context) / wide);
    const double usual = factor <= 1 ? 1.0 : std::sqrt(1.0 + std::log(factor) / std::log(wide));
    rope.amplitude = scaling.find_number("attention_factor").value_or(usual);
    context = (std::min)(context, original);
}

inline void read_yarn(const ConfigFields& scaling, std::size_t original, RopeConfig& rope, std::size_t& context) {
    const auto factor = scaling.find_number("factor");
    const auto beta = [&](std::string_view key, double usual) {
        const double value = scaling.number(key, usual);
        return value == 0 ? usual : value;
    };
    const Yarn yarn{.factor = factor.value_or(static_cast<double>(context) / static_cast<double>(original)),
                    .original = static_cast<double>(original),
                    .beta_fast = beta("beta_fast", 32),
                    .beta_slow = beta("beta_slow", 1),
                    .truncate = scaling.flag("truncate", true)};
    rope.frequency_factors = yarn_factors(yarn, rope);
    const double slope = scaling.number("mscale", 0), all = scaling.number("mscale_all_dim", 0);
    const double usual = slope != 0 && all != 0 ? yarn_amplitude(yarn.factor, slope) / yarn_amplitude(yarn.factor, all)
                                                : yarn_amplitude(yarn.factor);
    rope.amplitude = scaling.find_number("attention_factor").value_or(usual);
    context = yarn_context(yarn, context);
}

/// Of the object that describes the positions, in the new or the old spelling.
[[nodiscard]] inline std::string rope_type(const ConfigFields& scaling) {
    return scaling.text("rope_type", scaling.text("type", "default"));
}

/// One kind of layer's rotary positions from the object that describes them, if there is one. LongRoPE and dynamic
/// scaling may lower `context`, YaRN raise it.
inline RopeConfig read_rope(const std::optional<json::Field>& object, const ConfigFields& outside, const RopeDefaults& defaults,
                            std::size_t& context) {
    const ConfigFields scaling(object, outside.file());
    RopeConfig rope;
    rope.base = scaling.number("rope_theta", defaults.base);
    const double partial = scaling.find_number("partial_rotary_factor").value_or(defaults.partial);
    if (!(partial >= 0 && partial <= 1)) scaling.corrupt("the rotated share of a head must lie in [0, 1], found ", partial);
    rope.dims = static_cast<std::size_t>(static_cast<double>(defaults.head_dim) * partial);
    const auto original = [&] {
        const std::size_t positions =
            defaults.original_context ? *defaults.original_context
                                      : scaling.count_or_null("original_max_position_embeddings").value_or(defaults.context);
        if (positions == 0) scaling.corrupt("original_max_position_embeddings is 0");
        return positions;
    };
    const std::string type = rope_type(scaling);
    if (type == "default") return rope;
    if (type == "linear") {
        const auto factor = scaling.find_number("factor");
        if (!factor) scaling.corrupt("rope type linear needs factor");
        rope.linear_factor = *factor;
    } else if (type == "llama3") {
        rope.frequency_factors = llama3_factors(scaling, rope, static_cast<double>(original()));
    } else if (type == "longrope" || type == "su") {
        read_longrope(scaling, original(), rope, context);
    } else if (type == "yarn") {
        read_yarn(scaling, original(), rope, context);
    } else if (type == "dynamic") {
        // Plain positions up to the original context. Beyond it the base would grow with every token, and every earlier key
        // would have to be rotated anew.
        context = (std::min)(context, original());
    } else {
        scaling.unsupported("rope type ", detail::quoted(type), "; supported: default, linear, llama3, longrope, yarn, dynamic");
    }
    return rope;
}

/// `rope_scaling` where it says anything, else `rope_parameters`. Throws Unsupported where it describes kinds of layers one
/// by one, which only Gemma 3 has.
inline std::optional<json::Field> rope_object(const ConfigFields& config) {
    auto object = config.find("rope_scaling");
    if (!object || object->members().empty()) object = config.find("rope_parameters");
    if (object && (object->find("full_attention") || object->find("sliding_attention"))) {
        config.unsupported("rotary positions that differ between layers, in another model than Gemma 3");
    }
    return object;
}

}  // namespace adainfer::inline v0::detail::hf_config
