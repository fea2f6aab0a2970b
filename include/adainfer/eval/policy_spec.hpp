#pragma once

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/any_classifier.hpp"
#include "adainfer/early_exit/any_policy.hpp"
#include "adainfer/early_exit/any_readout.hpp"
#include "adainfer/early_exit/calm_threshold.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/skip_decode.hpp"
#include "adainfer/early_exit/skip_layers.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/io/policy_file.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0 {

/// A policy that a user named, for programs that find out at run time which one it is.
struct NamedPolicy {
    std::string name;
    std::function<Scheduled<AnyPolicy>(const std::string& task)> make;  ///< for a task of that name; empty: none in particular
    bool chooses_fixed_layer = false;  ///< "fixed:best": evaluate() picks the layer for each task, then calls make_fixed
    std::function<Scheduled<AnyPolicy>(std::size_t layer)> make_fixed{};
    AnyLens lens{};                    ///< through which it reads
};

/// The forms that parse_policy_spec() takes, for messages and help texts.
inline constexpr std::string_view policy_spec_forms =
    "dense, fixed:N, fixed:best, gap:T, top:T, entropy:T, patience:K, saturation:T, calm:T[,decay=TAU,length=N], "
    "skipdecode:FEWEST-MOST[,length=N], skip:LAYER[+LAYER...], oracle, each with ,lens=FILE "
    ",head=full|candidates|shortlist[:K][+confirm] "
    ",layers=FIRST-LAST or FIRST-LAST/STRIDE; or the path of a policy file; or foreign:FILE, the classifier of another model's "
    "policy "
    "file, with these options";

namespace detail::spec {

struct Parts {
    std::string kind, value, lens, head, layers, decay, length;
};

[[noreturn]] inline void wrong(std::string_view spec, std::string_view why) {
    fail(ErrorCode::InvalidArgument, "policy '", spec, "': ", why, "; known are ", policy_spec_forms);
}

template <class Number>
[[nodiscard]] Number number(std::string_view spec, std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        wrong(spec, std::string("'").append(text).append("' is not a number that fits here"));
    }
    return value;
}

[[nodiscard]] inline Parts split(std::string_view spec) {
    Parts parts;
    std::string_view rest = spec;
    for (bool first = true; first || !rest.empty(); first = false) {
        const std::size_t comma = rest.find(',');
        const std::string_view item = rest.substr(0, comma);
        rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
        if (first) {
            const std::size_t colon = item.find(':');
            parts.kind = item.substr(0, colon);
            if (colon != std::string_view::npos) parts.value = item.substr(colon + 1);
            continue;
        }
        const std::size_t equals = item.find('=');
        const std::string_view key = item.substr(0, equals);
        const bool generation = parts.kind == "calm" || parts.kind == "skipdecode";  // depends on how far it is
        std::string* field = key == "lens" ? &parts.lens : key == "head" ? &parts.head : key == "layers" ? &parts.layers : nullptr;
        if (key == "length" && generation) field = &parts.length;
        if (key == "decay" && parts.kind == "calm") field = &parts.decay;
        if (field == nullptr || equals == std::string_view::npos) {
            wrong(spec, std::string("unknown option '").append(item).append("'"));
        }
        *field = item.substr(equals + 1);
    }
    return parts;
}

[[nodiscard]] inline Schedule schedule(std::string_view spec, std::string_view text) {
    if (text.empty()) return {};
    const std::size_t slash = text.find('/'), dash = text.find('-');
    if (dash == std::string_view::npos) wrong(spec, "layers must be FIRST-LAST or FIRST-LAST/STRIDE");
    const auto first = number<std::size_t>(spec, text.substr(0, dash));
    const auto last = number<std::size_t>(spec, text.substr(dash + 1, slash == std::string_view::npos ? slash : slash - dash - 1));
    const auto stride = slash == std::string_view::npos ? std::size_t{1} : number<std::size_t>(spec, text.substr(slash + 1));
    if (first == 0 || last < first || last > 10'000 || stride == 0) wrong(spec, "layers must ascend from 1");
    if (stride > last) wrong(spec, "the stride is larger than the last layer");
    std::vector<std::size_t> layers;
    for (std::size_t layer = first; layer <= last; layer += stride) layers.push_back(layer);
    return Schedule::only(std::move(layers));
}

template <template <class, class> class Policy, class... Values>
[[nodiscard]] NamedPolicy simple(std::string name, Schedule when, AnyLens lens, AnyHead head, Values... values) {
    NamedPolicy result{std::move(name), {}};
    result.lens = lens;
    const Policy<AnyLens, AnyHead> policy(values..., lens, head);
    result.make = [=](const std::string&) { return Scheduled<AnyPolicy>(when, AnyPolicy(policy)); };
    return result;
}

[[nodiscard]] inline NamedPolicy calm(std::string_view spec, const Parts& parts, Schedule when, AnyLens lens, AnyHead head) {
    ThresholdDecay decay;
    if (!parts.decay.empty()) decay.decay = number<float>(spec, parts.decay);
    if (!parts.length.empty()) decay.length = number<std::size_t>(spec, parts.length);
    return simple<CalmThreshold>(std::string(spec), std::move(when), std::move(lens), head, number<float>(spec, parts.value),
                                 decay);
}

[[nodiscard]] inline NamedPolicy skip_decode(std::string_view spec, const Parts& parts, Schedule when, AnyLens lens, AnyHead head,
                                             const ModelWeights& weights) {
    const std::size_t dash = parts.value.find('-');
    if (dash == std::string::npos) wrong(spec, "the depths must be FEWEST-MOST");
    const std::string_view value = parts.value;
    DepthSchedule depth{number<std::size_t>(spec, value.substr(0, dash)), number<std::size_t>(spec, value.substr(dash + 1))};
    if (!parts.length.empty()) depth.length = number<std::size_t>(spec, parts.length);
    SkipDecode<AnyLens, AnyHead>(depth, lens, head).check_model(weights);
    return simple<SkipDecode>(std::string(spec), std::move(when), std::move(lens), head, depth);
}

[[nodiscard]] inline NamedPolicy skip_layers(std::string_view spec, std::string_view value, const ModelWeights& weights) {
    std::vector<std::size_t> layers;
    for (std::size_t begin = 0, end = 0; end != std::string_view::npos; begin = end + 1) {
        end = value.find('+', begin);
        layers.push_back(number<std::size_t>(spec, value.substr(begin, end == std::string_view::npos ? end : end - begin)));
    }
    const SkipLayers<> policy(std::move(layers));
    policy.check_model(weights);
    return {std::string(spec), [=](const std::string&) { return Scheduled<AnyPolicy>(Schedule{}, AnyPolicy(policy)); }};
}

[[nodiscard]] inline std::string printable(std::vector<std::string> names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

/// An AdaInferPolicy over whichever list has these names; nothing where no list that AnyPolicy knows has.
template <class Features>
[[nodiscard]] std::optional<AnyPolicy> with_features(const std::vector<std::string>& names, const AnyClassifier& classifier,
                                                     const Schedule& when, const AnyLens& lens, const AnyHead& head) {
    if (names != Features::names()) return std::nullopt;
    return AnyPolicy(AdaInferPolicy<AnyClassifier, Features, AnyLens, AnyHead>(classifier, when, lens, head));
}

/// A policy file as AnyPolicy.
[[nodiscard]] inline NamedPolicy from_file(const std::filesystem::path& path, const ModelWeights& weights) {
    auto file = std::make_shared<PolicyFile>(load_policy_file(path));
    const std::string where = "'" + path.string() + "'";
    if (file->model_identity != weights.identity) {
        fail(ErrorCode::IdentityMismatch, where, ": the policy was trained on model ", file->model_identity, " (", file->model_name,
             "), the model at hand is ", weights.identity);
    }
    AnyLens lens;
    if (file->lens == LinearLens::name) {
        const LensFile loaded = load_lens_file(lens_path(path, *file));
        if (loaded.hash != file->lens_hash) {
            fail(ErrorCode::IdentityMismatch, where, ": the policy was trained through a lens with hash ", file->lens_hash, ", '",
                 file->lens_file, "' has hash ", loaded.hash);
        }
        lens = AnyLens(loaded.lens);
    } else if (file->lens != LogitLens::name) {
        fail(ErrorCode::Unsupported, where, ": lens '", file->lens, "'; known: logit, linear");
    }
    lens.check_model(weights);
    const AnyHead head = AnyHead::named(file->head);
    if (file->features != PaperFeatures::names() && file->features != DepthFeatures::names() &&
        file->features != WideFeatures::names()) {
        fail(ErrorCode::Unsupported, where, ": features ", printable(file->features), "; at run time the lists known are (",
             printable(PaperFeatures::names()), "), (", printable(DepthFeatures::names()), ") and (",
             printable(WideFeatures::names()), ")");
    }
    NamedPolicy result{path.stem().string(), {}};
    result.lens = lens;
    result.make = [=](const std::string& task) {
        const Schedule when = Schedule::only(file->layers_for(task));
        AnyClassifier classifier(file->classifier);
        classifier.threshold = file->threshold_for(task);
        auto policy = with_features<PaperFeatures>(file->features, classifier, when, lens, head);
        if (!policy) policy = with_features<DepthFeatures>(file->features, classifier, when, lens, head);
        if (!policy) policy = with_features<WideFeatures>(file->features, classifier, when, lens, head);
        return Scheduled<AnyPolicy>(when, *std::move(policy));
    };
    return result;
}

/// The classifier of another model's policy file, scaler and shared threshold included, to see how well it generalises (AdaInfer,
/// arXiv 2403.02181, section 4). Lens and layers of the file belong to that model, so the spec names those of this one. Throws
/// Unsupported for other features than the paper's two, which mean the same in every model, and for a classifier by layer.
[[nodiscard]] inline NamedPolicy foreign(std::string_view spec, const Parts& parts, const Schedule& when, const AnyLens& lens,
                                         const AnyHead& head) {
    const PolicyFile file = load_policy_file(parts.value);
    if (file.features != PaperFeatures::names() || file.kind == PerLayer<LinearSvm>::kind) {
        fail(ErrorCode::Unsupported, "'", parts.value, "': classifier ", file.kind, " of ", printable(file.features),
             "; only one of (", printable(PaperFeatures::names()), ") that is not by layer can go to another model");
    }
    AnyClassifier classifier(file.classifier);
    classifier.threshold = file.threshold;
    const AdaInferPolicy<AnyClassifier, PaperFeatures, AnyLens, AnyHead> policy(classifier, when, lens, head);
    NamedPolicy result{std::string(spec), [=](const std::string&) { return Scheduled<AnyPolicy>(when, AnyPolicy(policy)); }};
    result.lens = lens;
    return result;
}

}  // namespace detail::spec

/// The policy that a user named. Throws InvalidArgument, listing the forms, where it is none, and what load_policy_file() and
/// load_lens_file() throw, and IdentityMismatch where policy or lens belong to another model.
[[nodiscard]] inline NamedPolicy parse_policy_spec(std::string_view spec, const ModelWeights& weights) {
    namespace s = detail::spec;
    if (std::filesystem::path path(spec); std::filesystem::is_regular_file(path)) return s::from_file(path, weights);
    const s::Parts parts = s::split(spec);
    AnyLens lens;
    if (!parts.lens.empty() && parts.lens != LogitLens::name) lens = AnyLens(load_lens(parts.lens));
    lens.check_model(weights);
    const Schedule when = s::schedule(spec, parts.layers);
    const AnyHead head = AnyHead::named(parts.head.empty() ? FullHead::name : std::string_view(parts.head));
    const AnyHead label_head = AnyHead::named(parts.head.empty() ? CandidateHead::name : std::string_view(parts.head));
    const std::string name(spec);
    const auto threshold = [&] { return s::number<float>(spec, parts.value); };
    const auto count = [&] {
        const auto value = s::number<std::size_t>(spec, parts.value);
        if (value == 0) s::wrong(spec, "the number must be at least 1");
        return value;
    };
    const auto fixed = [=](std::size_t layer) {
        return Scheduled<AnyPolicy>(Schedule{}, AnyPolicy(ExitAtLayer<AnyLens, AnyHead>(layer, lens, label_head)));
    };
    if (parts.kind == "dense") {
        return {name, [](const std::string&) { return Scheduled<AnyPolicy>(Schedule::only({}), AnyPolicy(NeverExit{})); }};
    }
    if (parts.kind == "fixed" && parts.value == "best") return {name, {}, true, fixed, lens};
    if (parts.kind == "fixed") {
        const std::size_t layer = count();
        if (layer > weights.config.layers) {
            s::wrong(spec, std::string("the model has ").append(std::to_string(weights.config.layers)).append(" layers"));
        }
        if (layer < weights.config.layers && !lens.reads(layer)) {
            s::wrong(spec, std::string("the lens has no map for layer ").append(std::to_string(layer)));
        }
        NamedPolicy result{name, [=](const std::string&) { return fixed(layer); }};
        result.lens = lens;
        return result;
    }
    if (parts.kind == "gap") return s::simple<GapThreshold>(name, when, lens, head, threshold());
    if (parts.kind == "top") return s::simple<TopProbThreshold>(name, when, lens, head, threshold());
    if (parts.kind == "entropy") return s::simple<EntropyThreshold>(name, when, lens, head, threshold());
    if (parts.kind == "saturation") return s::simple<HiddenSaturation>(name, when, lens, label_head, threshold());
    if (parts.kind == "patience") return s::simple<Patience>(name, when, lens, head, count());
    if (parts.kind == "calm") return s::calm(spec, parts, when, lens, head);
    if (parts.kind == "skipdecode") return s::skip_decode(spec, parts, when, lens, label_head, weights);
    if (parts.kind == "foreign") return s::foreign(spec, parts, when, lens, head);
    if (parts.kind == "skip") return s::skip_layers(spec, parts.value, weights);
    if (parts.kind == "oracle") {
        NamedPolicy result{name, [=](const std::string&) {
                               return Scheduled<AnyPolicy>(when, AnyPolicy(Oracle<AnyLens, AnyHead>(lens, label_head)));
                           }};
        result.lens = lens;
        return result;
    }
    s::wrong(spec, "no such policy, and no such file");
}

}  // namespace adainfer::inline v0
