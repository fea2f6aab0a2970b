#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/any_classifier.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/per_layer.hpp"
#include "adainfer/early_exit/random_fourier.hpp"
#include "adainfer/early_exit/rbf_svm.hpp"
#include "adainfer/io/json_reader.hpp"

// The field "classifier" of a policy file: one write() and one read() for each kind. Thresholds stand elsewhere in the file.

namespace adainfer::inline v0::detail::policy {

inline constexpr std::size_t max_layer = 100'000;

/// The double that prints as briefly as the float does and reads back as it.
[[nodiscard]] inline double brief(float value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value).ptr;
    double wide = 0;
    std::from_chars(text, end, wide);
    // The shortest text of the largest float spells a little more than that float.
    const bool in_range = std::abs(wide) <= static_cast<double>((std::numeric_limits<float>::max)());
    return in_range && static_cast<float>(wide) == value ? wide : static_cast<double>(value);
}

template <class Floats>
[[nodiscard]] nlohmann::ordered_json to_json(const Floats& values) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const float value : values) list.push_back(brief(value));
    return list;
}

[[nodiscard]] inline std::vector<float> read_floats(const json::Field& field) {
    std::vector<float> values;
    for (const json::Field& element : field.elements()) values.push_back(element.real());
    return values;
}

template <std::size_t N>
void read_floats(const json::Field& field, std::array<float, N>& values) {
    const std::vector<float> found = read_floats(field);
    if (found.size() != N) field.wrong("an array of " + std::to_string(N) + " numbers");
    std::copy(found.begin(), found.end(), values.begin());
}

template <class Classifier>
void write_common(const Classifier& c, nlohmann::ordered_json& json) {
    json["mean"] = to_json(c.mean);
    json["scale"] = to_json(c.scale);
    json["weights"] = to_json(c.weights);
}

template <class Classifier>
void read_common(const json::Field& field, Classifier& c) {
    c.mean = read_floats(field.at("mean"));
    c.scale = read_floats(field.at("scale"));
    c.weights = read_floats(field.at("weights"));
}

inline void write(const LinearSvm& svm, nlohmann::ordered_json& json) {
    write_common(svm, json);
    json["bias"] = brief(svm.bias);
}

inline void read(const json::Field& field, LinearSvm& svm, bool in_layer = false) {
    in_layer ? field.only({"layer", "mean", "scale", "weights", "bias"}) : field.only({"mean", "scale", "weights", "bias"});
    read_common(field, svm);
    svm.bias = field.at("bias").real();
}

inline void write(const LinearChainCrf& crf, nlohmann::ordered_json& json) {
    write_common(crf, json);
    json["bias"] = to_json(crf.bias);
    json["transitions"] = to_json(crf.transitions);
}

inline void read(const json::Field& field, LinearChainCrf& crf) {
    field.only({"mean", "scale", "weights", "bias", "transitions"});
    read_common(field, crf);
    read_floats(field.at("bias"), crf.bias);
    read_floats(field.at("transitions"), crf.transitions);
}

inline void write(const PerLayer<LinearSvm>& classifiers, nlohmann::ordered_json& json) {
    write(classifiers.shared, json["shared"]);
    json["layers"] = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < classifiers.layers.size(); ++i) {
        nlohmann::ordered_json layer = {{"layer", classifiers.layers[i]}};
        write(classifiers.own[i], layer);
        json["layers"].push_back(std::move(layer));
    }
}

inline void read(const json::Field& field, PerLayer<LinearSvm>& classifiers) {
    field.only({"shared", "layers"});
    read(field.at("shared"), classifiers.shared);
    for (const json::Field& layer : field.at("layers").elements()) {
        classifiers.layers.push_back(layer.at("layer").count(max_layer));
        read(layer, classifiers.own.emplace_back(), true);
    }
}

inline void write(const RbfSvm& rbf, nlohmann::ordered_json& json) {
    json["gamma"] = rbf.map.gamma();
    json["seed"] = rbf.map.seed();
    write_common(rbf, json);
    json["bias"] = brief(rbf.bias);
}

/// The random features are made again from what the file says; there are as many as weights, so a small file makes a small map.
inline void read(const json::Field& field, RbfSvm& rbf) {
    field.only({"gamma", "seed", "mean", "scale", "weights", "bias"});
    read_common(field, rbf);
    rbf.bias = field.at("bias").real();
    const std::size_t seed = field.at("seed").count((std::numeric_limits<std::size_t>::max)());
    rbf.map = RandomFourier(rbf.mean.size(), rbf.weights.size(), field.at("gamma").number(), seed);
}

/// A classifier by the name of its kind. Throws Unsupported, listing the kinds; CorruptFile; and as RandomFourier does.
[[nodiscard]] inline AnyClassifier::Variant read_classifier(const json::Field& field, std::string_view kind, float threshold,
                                                            const std::string& file) {
    const auto made = [&]<class Classifier>(Classifier classifier) -> AnyClassifier::Variant {
        try {
            read(field, classifier);
        } catch (const Error& error) {
            if (error.code() == ErrorCode::CorruptFile) throw;  // names the file already
            fail(error.code(), "'", file, "': ", json::message_of(error));
        }
        classifier.threshold = threshold;
        return classifier;
    };
    if (kind == LinearSvm::kind) return made(LinearSvm{});
    if (kind == LinearChainCrf::kind) return made(LinearChainCrf{});
    if (kind == PerLayer<LinearSvm>::kind) return made(PerLayer<LinearSvm>{});
    if (kind == RbfSvm::kind) return made(RbfSvm{});
    fail(ErrorCode::Unsupported, "'", file, "': classifiers of kind ", detail::quoted(kind), "; known: ", LinearSvm::kind, ", ",
         LinearChainCrf::kind, ", ", PerLayer<LinearSvm>::kind, ", ", RbfSvm::kind);
}

}  // namespace adainfer::inline v0::detail::policy
