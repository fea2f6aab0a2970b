#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/io/policy_file.hpp"

// From a policy file to a typed AdaInferPolicy, and back.

namespace adainfer::inline v0 {

namespace detail::policy {

/// The parts of a policy type that a file can be loaded into.
template <class Policy>
struct Parts;

template <class C, class F, class L, class H>
struct Parts<AdaInferPolicy<C, F, L, H>> {
    using Classifier = C;
    using Features = F;
    using Lens = L;
    using Head = H;
};

[[nodiscard]] inline std::string joined(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + detail::quoted(name);
    return list;
}

/// The head that a file names, where type Head can be it: a shortlist's size and confirmation stand in its name.
template <class Head>
[[nodiscard]] std::optional<Head> head_of(const PolicyFile& policy) {
    if constexpr (requires { Head::from_spec(policy.head); }) {
        return Head::from_spec(policy.head);
    } else {
        return policy.head == Head::name ? std::optional<Head>(Head{}) : std::nullopt;
    }
}

/// Throws IdentityMismatch where the file was trained for another policy type or model.
template <class Policy, class Weights>
void check_fits(const PolicyFile& policy, const Weights& weights, const std::string& where) {
    using P = Parts<Policy>;
    const auto compare = [&](std::string_view what, const std::vector<std::string>& found,
                             const std::vector<std::string>& expected) {
        if (found == expected) return;
        fail(ErrorCode::IdentityMismatch, where, "the policy was trained with ", what, ' ', joined(found),
             ", it is loaded into one with ", what, ' ', joined(expected));
    };
    compare("classifier", {policy.kind}, {std::string(P::Classifier::kind)});
    compare("features", policy.features, P::Features::names());
    compare("lens", {policy.lens}, {std::string(P::Lens::name)});
    if (!head_of<typename P::Head>(policy)) compare("head", {policy.head}, {std::string(P::Head::name)});
    if (policy.model_identity != weights.identity) {
        fail(ErrorCode::IdentityMismatch, where, "the policy was trained on model ", detail::quoted(policy.model_identity),
             " (", detail::quoted(policy.model_name), "), the model at hand is ", detail::quoted(weights.identity));
    }
    if (policy.layers.back() >= weights.config.layers) {
        fail(ErrorCode::IdentityMismatch, where, "the policy is asked after layer ", policy.layers.back(), ", the model has ",
             weights.config.layers);
    }
}

}  // namespace detail::policy

/// A policy file with what the policy's type says filled in: kind, features, lens, head. The rest is the caller's.
template <class Policy>
[[nodiscard]] PolicyFile policy_file_for(typename detail::policy::Parts<Policy>::Classifier classifier,
                                         const typename detail::policy::Parts<Policy>::Head& head =
                                             typename detail::policy::Parts<Policy>::Head{}) {
    using P = detail::policy::Parts<Policy>;
    PolicyFile policy;
    policy.kind = P::Classifier::kind;
    policy.threshold = classifier.threshold;
    policy.classifier = std::move(classifier);
    policy.features = P::Features::names();
    policy.lens = P::Lens::name;
    if constexpr (requires { head.spec(); }) policy.head = head.spec();
    else policy.head = P::Head::name;
    return policy;
}

/// The policy that a file describes, as type Policy, an AdaInferPolicy<...>: with the threshold of `task` where the file has
/// one, else the shared one. `weights` are a ModelWeights. Throws Error (IdentityMismatch, naming both sides) where the
/// file was trained for another classifier, feature list, lens type, head or model, or the lens was fitted on another model.
/// Whether it is the right linear lens of that model only its file tells: load_policy() checks the hash too.
template <class Policy, class Weights>
[[nodiscard]] Policy make_policy(const PolicyFile& file, const Weights& weights,
                                 typename detail::policy::Parts<Policy>::Lens lens = {}, const std::string& task = {},
                                 const std::string& name = "policy") {
    using P = detail::policy::Parts<Policy>;
    detail::policy::check(file, name + ": ", ErrorCode::InvalidArgument);
    detail::policy::check_fits<Policy>(file, weights, name + ": ");
    if constexpr (requires { lens.check_model(weights); }) lens.check_model(weights);
    for (const std::size_t layer : file.layers) {
        if (!lens.reads(layer))
            fail(ErrorCode::IdentityMismatch, name, ": the policy is asked after layer ", layer,
                 ", the lens has no map for it");
    }
    auto classifier = std::get<typename P::Classifier>(file.classifier);
    classifier.threshold = file.threshold_for(task);
    return Policy(std::move(classifier), Schedule::only(file.layers_for(task)), std::move(lens),
                  *detail::policy::head_of<typename P::Head>(file));
}

namespace detail::policy {
template <class Policy, class Weights>
[[nodiscard]] Policy make_through(const PolicyFile& file, const Weights& weights, const LensFile& lens,
                                  const std::string& task, const std::string& name) {
    check_fits<Policy>(file, weights, name + ": ");
    if (file.lens_hash != lens.hash) {
        fail(ErrorCode::IdentityMismatch, name, ": the policy was trained through the lens '", file.lens_file, "' with hash ",
             file.lens_hash, ", the lens at hand has hash ", lens.hash);
    }
    return make_policy<Policy>(file, weights, lens.lens, task, name);
}
}  // namespace detail::policy

/// The same from a file and a linear lens that is loaded already, so that many policies can share one.
template <class Policy, class Weights>
[[nodiscard]] Policy load_policy(const std::filesystem::path& path, const Weights& weights, const LensFile& lens,
                                 const std::string& task = {}) {
    return detail::policy::make_through<Policy>(load_policy_file(path), weights, lens, task, "'" + path.string() + "'");
}

/// The same from a file alone; a linear lens is loaded from where the policy file says. Throws what load_policy_file(),
/// load_lens_file() and make_policy() throw.
template <class Policy, class Weights>
[[nodiscard]] Policy load_policy(const std::filesystem::path& path, const Weights& weights, const std::string& task = {}) {
    const PolicyFile file = load_policy_file(path);
    const std::string name = "'" + path.string() + "'";
    if constexpr (std::is_same_v<typename detail::policy::Parts<Policy>::Lens, LinearLens>) {
        detail::policy::check_fits<Policy>(file, weights, name + ": ");  // before a lens is read that belongs to nothing here
        return detail::policy::make_through<Policy>(file, weights, load_lens_file(lens_path(path, file)), task, name);
    } else {
        return make_policy<Policy>(file, weights, {}, task, name);
    }
}

}  // namespace adainfer::inline v0
