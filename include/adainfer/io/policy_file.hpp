#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/any_classifier.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/io/atomic_file.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/io/policy_classifier.hpp"

namespace adainfer::inline v0 {

/// Everything that the file of a trained policy records.
struct PolicyFile {
    std::string kind;  ///< of the classifier: "svm", "crf", "per_layer_svm" or "rbf"
    AnyClassifier::Variant classifier;  ///< its own threshold counts for nothing: the file has those below
    std::vector<std::string> features;             ///< FeatureList::names()
    std::string lens = "logit";                    ///< name of the lens type
    std::string lens_hash;                         ///< of a linear lens: lens_hash(); else empty
    std::string lens_file;                         ///< of a linear lens: relative to the policy file's folder; else empty
    std::string head = "full";                     ///< name of the head type
    std::vector<std::size_t> layers;               ///< asked when so many layers have run; ascending, from 1
    float threshold = 0;                           ///< shared by all tasks; infinity: never stop
    std::map<std::string, float> task_thresholds;  ///< by task, where calibrated so
    std::map<std::string, std::size_t> task_first_layers;  ///< by task: not asked before so many layers have run
    std::string label_rule = "agrees";             ///< "agrees" (with the last layer) or "gold"
    double agreement = 0;                          ///< share that it was calibrated to, 0 to 1
    std::string model_identity;                    ///< ModelWeights::identity
    std::string model_name;                        ///< for people
    std::map<std::string, std::string> training;   ///< how it was trained, free text by key

    /// The threshold of a task, or the shared one where the task has none.
    [[nodiscard]] float threshold_for(const std::string& task) const {
        const auto found = task_thresholds.find(task);
        return found == task_thresholds.end() ? threshold : found->second;
    }

    /// The layers after which the policy is asked for a task.
    [[nodiscard]] std::vector<std::size_t> layers_for(const std::string& task) const {
        const auto found = task_first_layers.find(task);
        const std::size_t first = found == task_first_layers.end() ? 0 : found->second;
        return {std::lower_bound(layers.begin(), layers.end(), first), layers.end()};
    }
};

namespace detail::policy {

inline constexpr std::string_view format = "adainfer-policy-1";
inline constexpr std::string_view format_family = "adainfer-policy-";
inline constexpr std::size_t max_bytes = std::size_t{16} << 20U;

/// Throws what is wrong with a policy; `where` starts the message.
inline void check(const PolicyFile& policy, const std::string& where, ErrorCode code) {
    const auto refuse = [&](const auto&... parts) { fail(code, where, parts...); };
    const std::string_view kind =
        std::visit([](const auto& c) { return std::remove_cvref_t<decltype(c)>::kind; }, policy.classifier);
    if (policy.kind != kind) refuse("kind is ", detail::quoted(policy.kind), ", the classifier is of kind ", kind);
    if (policy.features.empty()) refuse("features: none");
    std::set<std::string> features;
    for (const std::string& feature : policy.features) {
        if (feature.empty()) refuse("features: a name is empty");
        if (!features.insert(feature).second) refuse("features: ", detail::quoted(feature), " stands twice");
    }
    try {
        std::visit([&](const auto& c) { c.validate(policy.features.size()); }, policy.classifier);
    } catch (const Error& error) {
        fail(error.code(), where, json::message_of(error));
    }
    if (policy.lens.empty()) refuse("lens: no name");
    if (policy.head.empty()) refuse("head: no name");
    if (policy.lens == LinearLens::name) {
        const auto hexadecimal = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
        if (policy.lens_hash.size() != 16 || !std::all_of(policy.lens_hash.begin(), policy.lens_hash.end(), hexadecimal)) {
            refuse("lens hash: expected 16 hexadecimal digits, found ", detail::quoted(policy.lens_hash));
        }
        if (policy.lens_file.empty() || std::filesystem::path(policy.lens_file).is_absolute()) {
            refuse("lens file: expected a path relative to the policy file, found ", detail::quoted(policy.lens_file));
        }
    } else if (!policy.lens_hash.empty() || !policy.lens_file.empty()) {
        refuse("lens: only a linear lens has a file and a hash, this one is ", detail::quoted(policy.lens));
    }
    if (policy.layers.empty()) refuse("layers: none");
    for (std::size_t i = 0; i < policy.layers.size(); ++i) {
        if (policy.layers[i] <= (i == 0 ? 0 : policy.layers[i - 1]) || policy.layers[i] > max_layer) {
            refuse("layers[", i, "] is ", policy.layers[i], "; they must ascend from 1 or more to at most ", max_layer);
        }
    }
    if (std::isnan(policy.threshold)) fail(ErrorCode::NotFinite, where, "threshold is not a number");
    for (const auto& [task, threshold] : policy.task_thresholds) {
        if (task.empty()) refuse("task_thresholds: a task has no name");
        if (std::isnan(threshold))
            fail(ErrorCode::NotFinite, where, "the threshold of task ", detail::quoted(task), " is not a number");
    }
    for (const auto& [task, layer] : policy.task_first_layers) {
        if (task.empty()) refuse("task_first_layers: a task has no name");
        if (layer > policy.layers.back()) {
            refuse("task_first_layers: task ", detail::quoted(task), " starts at layer ", layer, ", the last check is after ",
                   policy.layers.back());
        }
    }
    if (policy.label_rule != "agrees" && policy.label_rule != "gold") {
        refuse("label_rule must be 'agrees' or 'gold', found ", detail::quoted(policy.label_rule));
    }
    if (!(policy.agreement >= 0 && policy.agreement <= 1)) refuse("agreement must lie in 0 to 1, found ", policy.agreement);
    if (policy.model_identity.empty()) refuse("model identity: empty");
}

inline constexpr std::string_view never = "never", always = "always";

[[nodiscard]] inline nlohmann::ordered_json threshold_to_json(float threshold) {
    if (std::isinf(threshold)) return threshold > 0 ? never : always;
    return brief(threshold);
}

[[nodiscard]] inline nlohmann::ordered_json to_json(const PolicyFile& policy) {
    nlohmann::ordered_json classifier;
    std::visit([&](const auto& c) { write(c, classifier); }, policy.classifier);
    nlohmann::ordered_json thresholds = nlohmann::ordered_json::object(), training = thresholds, json;
    for (const auto& [task, threshold] : policy.task_thresholds) thresholds[task] = threshold_to_json(threshold);
    for (const auto& [key, value] : policy.training) training[key] = value;
    json["format"] = format;
    json["model"] = {{"name", policy.model_name}, {"identity", policy.model_identity}};
    json["lens"] = {{"kind", policy.lens}};
    if (policy.lens == LinearLens::name) json["lens"].update({{"file", policy.lens_file}, {"hash", policy.lens_hash}});
    json["head"] = policy.head;
    json["layers"] = policy.layers;
    json["features"] = policy.features;
    json["kind"] = policy.kind;
    json["classifier"] = std::move(classifier);
    json["label_rule"] = policy.label_rule;
    json["agreement"] = policy.agreement;
    json["threshold"] = threshold_to_json(policy.threshold);
    json["task_thresholds"] = std::move(thresholds);
    if (!policy.task_first_layers.empty()) json["task_first_layers"] = policy.task_first_layers;
    json["training"] = std::move(training);
    return json;
}

[[nodiscard]] inline float read_threshold(const json::Field& field) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    if (!field.is_string()) return field.real();
    if (field.text() == never) return infinity;
    if (field.text() == always) return -infinity;
    field.wrong("a number, \"never\" or \"always\"");
}

[[nodiscard]] inline PolicyFile read(const json::Value& document, const std::string& file) {
    const json::Field root(document, file);
    const auto format_field = root.find("format");
    if (!format_field || !format_field->is_string() || !format_field->text().starts_with(format_family)) {
        fail(ErrorCode::CorruptFile, "'", file, "': not a policy file: it does not say \"format\": \"", format, "\"");
    }
    if (format_field->text() != format) {
        fail(ErrorCode::Unsupported, "'", file, "': format ", detail::quoted(format_field->text()), ", this version reads ",
             format);
    }
    root.only({"format", "model", "lens", "head", "layers", "features", "kind", "classifier", "label_rule", "agreement",
               "threshold", "task_thresholds", "task_first_layers", "training"});
    PolicyFile policy;
    const json::Field model = root.at("model"), lens = root.at("lens"), classifier = root.at("classifier");
    model.only({"name", "identity"});
    policy.model_name = model.at("name").text();
    policy.model_identity = model.at("identity").text();
    policy.lens = lens.at("kind").text();
    if (policy.lens == LinearLens::name) {
        lens.only({"kind", "file", "hash"});
        policy.lens_file = lens.at("file").text();
        policy.lens_hash = lens.at("hash").text();
    } else {
        lens.only({"kind"});
    }
    policy.head = root.at("head").text();
    for (const json::Field& layer : root.at("layers").elements()) policy.layers.push_back(layer.count(max_layer));
    for (const json::Field& feature : root.at("features").elements()) policy.features.push_back(feature.text());
    policy.kind = root.at("kind").text();
    policy.threshold = read_threshold(root.at("threshold"));
    policy.classifier = read_classifier(classifier, policy.kind, policy.threshold, file);
    for (const auto& [task, threshold] : root.at("task_thresholds").members())
        policy.task_thresholds.emplace(task, read_threshold(threshold));
    if (const auto first_layers = root.find("task_first_layers")) {
        for (const auto& [task, layer] : first_layers->members()) policy.task_first_layers.emplace(task, layer.count(max_layer));
    }
    policy.label_rule = root.at("label_rule").text();
    policy.agreement = root.at("agreement").number();
    for (const auto& [key, value] : root.at("training").members()) policy.training.emplace(key, value.text());
    check(policy, "'" + file + "': ", ErrorCode::CorruptFile);
    return policy;
}

}  // namespace detail::policy

/// Writes a policy, whole or not at all; equal policies give equal bytes. Throws Error: InvalidArgument (a field that
/// load_policy_file() would refuse, a text that is not UTF-8), ShapeMismatch and NotFinite (classifier), Io.
inline void save_policy(const std::filesystem::path& path, const PolicyFile& policy) {
    detail::policy::check(policy, "policy: ", ErrorCode::InvalidArgument);
    std::string text;
    try {
        text = detail::policy::to_json(policy).dump(2) + '\n';
    } catch (const nlohmann::json::exception& error) {  // the one thing that cannot be written
        fail(ErrorCode::InvalidArgument, "policy: a text is not UTF-8: ", detail::json::reason(error));
    }
    write_file_atomically(path, text);
}

/// Reads a policy from text; `name` is for messages. Throws as load_policy_file().
[[nodiscard]] inline PolicyFile parse_policy_file(std::string_view text, const std::string& name) {
    return detail::policy::read(detail::json::parse(text, name).root(), name);
}

/// Reads a policy without looking at its lens or at a model. Throws Error: Io, CorruptFile (not JSON, fields missing,
/// unknown, of the wrong type or inconsistent), Unsupported (format version, kind, size), and ShapeMismatch, NotFinite,
/// InvalidArgument for the classifier.
[[nodiscard]] inline PolicyFile load_policy_file(const std::filesystem::path& path) {
    return detail::policy::read(detail::json::parse_file(path, detail::policy::max_bytes).root(), path.string());
}

/// How a policy file names a lens file: relative to its own folder, with forward slashes. Both paths may be relative to the
/// current folder; neither needs to exist.
[[nodiscard]] inline std::string lens_reference(const std::filesystem::path& policy_path,
                                                const std::filesystem::path& lens_path) {
    return std::filesystem::relative(lens_path, std::filesystem::absolute(policy_path).parent_path()).generic_string();
}

/// Where the lens of a policy file lies.
[[nodiscard]] inline std::filesystem::path lens_path(const std::filesystem::path& policy_path, const PolicyFile& policy) {
    return policy_path.parent_path() / std::filesystem::path(policy.lens_file);
}

}  // namespace adainfer::inline v0
