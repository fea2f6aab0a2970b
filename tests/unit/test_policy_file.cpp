#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/any_readout.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/per_layer.hpp"
#include "adainfer/early_exit/random_fourier.hpp"
#include "adainfer/early_exit/rbf_svm.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/io/load_policy.hpp"
#include "adainfer/io/policy_file.hpp"
#include "adainfer/model/readout.hpp"
#include "adainfer/model/weights.hpp"
#include "errors.hpp"
#include "file_text.hpp"
#include "temporary_files.hpp"

namespace test_policy_file {

namespace {

using namespace adainfer;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::size_t width = 4;

using PaperSvm = AdaInferPolicy<LinearSvm>;
using PaperCrf = AdaInferPolicy<LinearChainCrf>;
using LayersSvm = AdaInferPolicy<PerLayer<LinearSvm>>;
using PaperRbf = AdaInferPolicy<RbfSvm>;
using LensSvm = AdaInferPolicy<LinearSvm, PaperFeatures, LinearLens, CandidateHead>;

LinearSvm svm_of(std::size_t n) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    LinearSvm svm;
    for (std::size_t i = 0; i < n; ++i) {
        svm.mean.push_back(normal(random));
        svm.scale.push_back(std::abs(normal(random)) + 0.1F);
        svm.weights.push_back(normal(random));
    }
    svm.bias = normal(random);
    return svm;
}

LinearChainCrf crf_of(std::size_t n) {
    const LinearSvm svm = svm_of(2 * n);
    LinearChainCrf crf;
    crf.mean.assign(svm.mean.begin(), svm.mean.begin() + static_cast<std::ptrdiff_t>(n));
    crf.scale.assign(svm.scale.begin(), svm.scale.begin() + static_cast<std::ptrdiff_t>(n));
    crf.weights = svm.weights;
    crf.bias = {0.1F, -1.0F / 3.0F};
    crf.transitions = {1, 2, 3e-20F, -4};
    return crf;
}

/// The layers of file_of(), but for one.
PerLayer<LinearSvm> layers_of(std::size_t n) {
    PerLayer<LinearSvm> classifiers;
    classifiers.shared = svm_of(n);
    classifiers.layers = {20, 29};
    classifiers.own = {svm_of(n), svm_of(n)};
    classifiers.own[1].bias = 0.75F;
    return classifiers;
}

RbfSvm rbf_of(std::size_t n) {
    const LinearSvm svm = svm_of(n);
    RbfSvm rbf;
    rbf.mean = svm.mean;
    rbf.scale = svm.scale;
    rbf.map = RandomFourier(n, 5, 0.3, (std::numeric_limits<std::uint64_t>::max)());
    rbf.weights = {0.5F, -0.25F, 1.0F / 3.0F, 0, 2};
    rbf.bias = -0.1F;
    return rbf;
}

template <class Policy>
PolicyFile file_of(typename detail::policy::Parts<Policy>::Classifier classifier) {
    PolicyFile policy = policy_file_for<Policy>(std::move(classifier));
    policy.layers = {20, 22, 29};
    policy.threshold = 0.1F;
    policy.task_thresholds = {{"topic", -2.5F}, {"plural", infinity}, {"always", -infinity}};
    policy.label_rule = "gold";
    policy.agreement = 0.99;
    policy.model_identity = "0123456789abcdef";
    policy.model_name = "Sm\xC3\xB6ll";
    policy.training = {{"prompts", "1400"}, {"tasks", "topic, \"plural\""}};
    return policy;
}

ModelWeights model(std::string identity = "0123456789abcdef") {
    ModelWeights weights;
    weights.identity = std::move(identity);
    weights.config.layers = 30;
    weights.config.hidden = width;
    return weights;
}

LinearLens lens_for(std::initializer_list<std::size_t> layers, std::string identity = "0123456789abcdef") {
    std::vector<LinearLens::Map> maps;
    for (const std::size_t layer : layers) maps.push_back({layer, std::vector<float>((width + 1) * width, 0.5F)});
    return LinearLens(std::move(identity), width, std::move(maps));
}

template <class Classifier>
void check_same(const Classifier& a, const Classifier& b);

void check_same(const PerLayer<LinearSvm>& a, const PerLayer<LinearSvm>& b) {
    check_same(a.shared, b.shared);
    REQUIRE(a.layers == b.layers);
    REQUIRE(a.own.size() == b.own.size());
    for (std::size_t i = 0; i < a.own.size(); ++i) check_same(a.own[i], b.own[i]);
}

template <class Classifier>
void check_same(const Classifier& a, const Classifier& b) {
    CHECK(a.mean == b.mean);
    CHECK(a.scale == b.scale);
    CHECK(a.weights == b.weights);
    CHECK(a.bias == b.bias);
    if constexpr (std::is_same_v<Classifier, LinearChainCrf>) CHECK(a.transitions == b.transitions);
    if constexpr (std::is_same_v<Classifier, RbfSvm>) {
        CHECK(a.map.gamma() == b.map.gamma());
        CHECK(a.map.seed() == b.map.seed());
        for (std::size_t i = 0; i < a.map.size(); ++i) CHECK(a.map.feature(i, a.mean.data()) == b.map.feature(i, a.mean.data()));
    }
}

void check_same(const PolicyFile& a, const PolicyFile& b) {
    CHECK(a.kind == b.kind);
    REQUIRE(a.classifier.index() == b.classifier.index());
    std::visit(
        [&](const auto& classifier) {
            check_same(classifier, std::get<std::remove_cvref_t<decltype(classifier)>>(b.classifier));
        },
        a.classifier);
    CHECK(a.features == b.features);
    CHECK(a.lens == b.lens);
    CHECK(a.lens_hash == b.lens_hash);
    CHECK(a.lens_file == b.lens_file);
    CHECK(a.head == b.head);
    CHECK(a.layers == b.layers);
    CHECK(a.threshold == b.threshold);
    CHECK(a.task_thresholds == b.task_thresholds);
    CHECK(a.label_rule == b.label_rule);
    CHECK(a.agreement == b.agreement);
    CHECK(a.model_identity == b.model_identity);
    CHECK(a.model_name == b.model_name);
    CHECK(a.training == b.training);
}

std::string text_of(const PolicyFile& policy) {
    const TemporaryFiles files;
    save_policy(files.directory() / "policy.json", policy);
    return file_text(files.directory() / "policy.json");
}

/// Replaces something in the file of a valid policy and checks that it is refused.
void check_refused(std::string_view from, std::string_view to, std::string_view reason,
                   ErrorCode code = ErrorCode::CorruptFile) {
    const std::string text = replaced(text_of(file_of<PaperSvm>(svm_of(2))), from, to);
    const std::string message = error_of(code, [&] { static_cast<void>(parse_policy_file(text, "p.json")); });
    CAPTURE(message);
    CHECK(contains(message, "'p.json': "));
    CHECK(contains(message, reason));
}

}  // namespace

TEST_CASE("policy file: everything comes back, exactly") {
    const TemporaryFiles files;
    const auto path = files.directory() / "policy.json";
    PolicyFile svm = file_of<PaperSvm>(svm_of(2)), crf = file_of<PaperCrf>(crf_of(2)), lens = file_of<LensSvm>(svm_of(2));
    lens.lens_hash = "00ff00ff00ff00ff";
    lens.lens_file = "../lens.safetensors";
    svm.threshold = infinity;
    crf.task_thresholds.clear();
    crf.training.clear();
    crf.agreement = 1;
    for (const PolicyFile& policy : {svm, crf, lens, file_of<LayersSvm>(layers_of(2)), file_of<PaperRbf>(rbf_of(2))}) {
        save_policy(path, policy);
        const PolicyFile loaded = load_policy_file(path);
        check_same(loaded, policy);
        CHECK(std::visit([](const auto& c) { return c.threshold; }, loaded.classifier) == policy.threshold);
        CHECK(text_of(loaded) == file_text(path));  // deterministic
    }
    CHECK(lens.threshold_for("topic") == -2.5F);
    CHECK(lens.threshold_for("plural") == infinity);
    CHECK(lens.threshold_for("sentiment") == 0.1F);
}

TEST_CASE("policy file: it reads well") {
    PolicyFile policy = file_of<PaperSvm>({{0.25F, 0.5F}, {0.1F, 1}, {1.0F / 3.0F, -2e-7F}, 16777216, 0});
    policy.layers = {20};
    policy.task_thresholds = {{"plural", infinity}};
    policy.training = {{"prompts", "1400"}};
    CHECK(text_of(policy) == R"({
  "format": "adainfer-policy-1",
  "model": {
    "name": "Smöll",
    "identity": "0123456789abcdef"
  },
  "lens": {
    "kind": "logit"
  },
  "head": "full",
  "layers": [
    20
  ],
  "features": [
    "gap",
    "top_prob"
  ],
  "kind": "svm",
  "classifier": {
    "mean": [
      0.25,
      0.5
    ],
    "scale": [
      0.1,
      1.0
    ],
    "weights": [
      0.33333334,
      -2e-07
    ],
    "bias": 16777216.0
  },
  "label_rule": "gold",
  "agreement": 0.99,
  "threshold": 0.1,
  "task_thresholds": {
    "plural": "never"
  },
  "training": {
    "prompts": "1400"
  }
}
)");
}

TEST_CASE("policy file: any float survives") {
    std::mt19937 random(3);
    PolicyFile policy = file_of<PaperSvm>(svm_of(2));
    for (int i = 0; i < 2000; ++i) {
        auto& svm = std::get<LinearSvm>(policy.classifier);
        const auto bits = static_cast<std::uint32_t>(random());
        const float value = std::bit_cast<float>(bits);
        if (!std::isfinite(value)) continue;
        svm.weights[0] = value;
        CHECK(std::get<LinearSvm>(parse_policy_file(detail::policy::to_json(policy).dump(), "p").classifier).weights[0] ==
              value);
    }
    for (const float value : {std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
                              std::numeric_limits<float>::denorm_min(), 0.0F}) {
        std::get<LinearSvm>(policy.classifier).bias = value;
        CHECK(std::get<LinearSvm>(parse_policy_file(detail::policy::to_json(policy).dump(), "p").classifier).bias == value);
    }
}

TEST_CASE("policy file: loaded into a policy of its type") {
    const TemporaryFiles files;
    const auto path = files.directory() / "policy.json";
    save_policy(path, file_of<PaperSvm>(svm_of(2)));
    const auto policy = load_policy<PaperSvm>(path, model());
    CHECK(policy.classifier().threshold == 0.1F);
    check_same(policy.classifier(), svm_of(2));
    CHECK(policy.wants(20));
    CHECK(policy.wants(29));
    CHECK_FALSE(policy.wants(21));
    CHECK(load_policy<PaperSvm>(path, model(), "topic").classifier().threshold == -2.5F);
    CHECK(load_policy<PaperSvm>(path, model(), "plural").classifier().threshold == infinity);
    CHECK(load_policy<PaperSvm>(path, model(), "unheard of").classifier().threshold == 0.1F);
    save_policy(path, file_of<PaperCrf>(crf_of(2)));
    check_same(load_policy<PaperCrf>(path, model()).classifier(), crf_of(2));
    save_policy(path, file_of<LayersSvm>(layers_of(2)));
    check_same(load_policy<LayersSvm>(path, model()).classifier(), layers_of(2));
    save_policy(path, file_of<PaperRbf>(rbf_of(2)));
    check_same(load_policy<PaperRbf>(path, model()).classifier(), rbf_of(2));
    CHECK(contains(error_of(ErrorCode::IdentityMismatch, [&] { static_cast<void>(load_policy<LayersSvm>(path, model())); }),
                   "classifier 'rbf', it is loaded into one with classifier 'per_layer_svm'"));
}

TEST_CASE("policy file: a linear lens is found, shared and told from others") {
    const TemporaryFiles files;
    std::filesystem::create_directory(files.directory() / "policies");
    const auto path = files.directory() / "policies" / "policy.json", lens = files.directory() / "my.lens";
    save_lens(lens, lens_for({20, 22, 29}));
    PolicyFile file = file_of<LensSvm>(svm_of(2));
    file.lens_file = lens_reference(path, lens);
    file.lens_hash = lens_hash(lens);
    CHECK(file.lens_file == "../my.lens");
    CHECK(std::filesystem::equivalent(lens_path(path, file), lens));
    save_policy(path, file);
    const auto policy = load_policy<LensSvm>(path, model());
    CHECK(policy.lens().maps().size() == 3);
    CHECK(policy.wants(22));

    const LensFile shared = load_lens_file(lens);
    const auto first = load_policy<LensSvm>(path, model(), shared),
               second = load_policy<LensSvm>(path, model(), shared, "topic");
    CHECK(&first.lens().maps() == &second.lens().maps());
    CHECK(second.classifier().threshold == -2.5F);

    LensFile other = shared;
    other.hash = "ffffffffffffffff";
    std::string message =
        error_of(ErrorCode::IdentityMismatch, [&] { static_cast<void>(load_policy<LensSvm>(path, model(), other)); });
    CHECK(contains(message, file.lens_hash));
    CHECK(contains(message, "ffffffffffffffff"));

    save_lens(lens, lens_for({20, 22, 29}), {{{"tokens", "2"}}});  // changed since
    message = error_of(ErrorCode::IdentityMismatch, [&] { static_cast<void>(load_policy<LensSvm>(path, model())); });
    CHECK(contains(message, file.lens_hash));
    CHECK(contains(message, lens_hash(lens)));

    std::filesystem::remove(lens);
    CHECK(contains(error_of(ErrorCode::Io, [&] { static_cast<void>(load_policy<LensSvm>(path, model())); }), "my.lens"));
}

TEST_CASE("policy file: a lens of another model, or without the layers of the schedule") {
    const PolicyFile file = [] {
        PolicyFile f = file_of<LensSvm>(svm_of(2));
        f.lens_file = "lens";
        f.lens_hash = "0000000000000000";
        return f;
    }();
    CHECK(make_policy<LensSvm>(file, model(), lens_for({20, 22, 29})).wants(29));
    std::string message = error_of(ErrorCode::IdentityMismatch, [&] {
        static_cast<void>(make_policy<LensSvm>(file, model(), lens_for({20, 22, 29}, "other")));
    });
    CHECK(contains(message, "other"));
    message = error_of(ErrorCode::IdentityMismatch,
                       [&] { static_cast<void>(make_policy<LensSvm>(file, model(), lens_for({20, 29}))); });
    CHECK(contains(message, "after layer 22, the lens has no map"));
    CHECK(contains(error_of(ErrorCode::IdentityMismatch, [&] { static_cast<void>(make_policy<LensSvm>(file, model())); }),
                   "empty"));
}

TEST_CASE("policy file: a policy of another kind is refused, naming both sides") {
    const TemporaryFiles files;
    const auto path = files.directory() / "policy.json";
    save_policy(path, file_of<PaperSvm>(svm_of(2)));
    const auto refused = [&](auto load, std::string_view found, std::string_view expected) {
        const std::string message = error_of(ErrorCode::IdentityMismatch, load);
        CAPTURE(message);
        CHECK(contains(message, path.string()));
        CHECK(contains(message, found));
        CHECK(contains(message, expected));
    };
    refused([&] { static_cast<void>(load_policy<PaperCrf>(path, model())); }, "classifier 'svm'", "classifier 'crf'");
    refused([&] { static_cast<void>(load_policy<AdaInferPolicy<LinearSvm, FeatureList<TopProb, Gap>>>(path, model())); },
            "features 'gap', 'top_prob'", "features 'top_prob', 'gap'");
    refused([&] { static_cast<void>(load_policy<AdaInferPolicy<LinearSvm, WideFeatures>>(path, model())); },
            "features 'gap', 'top_prob'", "'lens_shift'");
    refused([&] { static_cast<void>(load_policy<AdaInferPolicy<LinearSvm, PaperFeatures, LinearLens>>(path, model())); },
            "lens 'logit'", "lens 'linear'");
    refused(
        [&] {
            static_cast<void>(load_policy<AdaInferPolicy<LinearSvm, PaperFeatures, LogitLens, CandidateHead>>(path, model()));
        },
        "head 'full'", "head 'candidates'");
    refused([&] { static_cast<void>(load_policy<PaperSvm>(path, model("fedcba9876543210"))); }, "'0123456789abcdef'",
            "'fedcba9876543210'");
    ModelWeights shallow = model();
    shallow.config.layers = 29;
    refused([&] { static_cast<void>(load_policy<PaperSvm>(path, shallow)); }, "after layer 29", "the model has 29");
}

TEST_CASE("a policy file names the size of a shortlist and whether it confirms, for a typed policy too") {
    using Listed = AdaInferPolicy<LinearSvm, PaperFeatures, LogitLens, ShortlistHead>;
    const TemporaryFiles files;
    const auto path = files.directory() / "policy.json";
    for (const ShortlistHead& head : {ShortlistHead(), ShortlistHead(64), ShortlistHead(256, Confirm::Yes), ShortlistHead(4096, Confirm::Yes)}) {
        PolicyFile policy = file_of<Listed>(svm_of(2));
        policy.head = policy_file_for<Listed>(svm_of(2), head).head;
        CHECK(policy.head == AnyHead(head).name());
        save_policy(path, policy);
        const auto loaded = load_policy<Listed>(path, model());
        CHECK(loaded.head().size() == head.size());
        CHECK(loaded.head().confirms() == head.confirms());
    }
    PolicyFile policy = file_of<Listed>(svm_of(2));
    policy.head = "shortlist:1";
    save_policy(path, policy);
    CHECK(contains(error_of(ErrorCode::IdentityMismatch, [&] { static_cast<void>(load_policy<Listed>(path, model())); }),
                   "head 'shortlist:1'"));
}

TEST_CASE("policy file: fields that are missing, unknown or of the wrong type") {
    check_refused("\"format\"", "\"form\"", "not a policy file");
    check_refused("policy-1", "policy-2", "'adainfer-policy-2', this version reads adainfer-policy-1",
                  ErrorCode::Unsupported);
    check_refused("adainfer-policy-1", "other", "not a policy file");
    check_refused("\"head\"", "\"heads\"", "unknown field 'heads'");
    check_refused("\"head\": \"full\",", "", "field 'head' is missing");
    check_refused("\"identity\"", "\"id\"", "unknown field 'model.id'");
    check_refused("\"kind\": \"logit\"", "\"kind\": \"logit\", \"file\": \"x\"", "unknown field 'lens.file'");
    check_refused("\"kind\": \"logit\"", "\"kind\": \"linear\"", "field 'lens.file' is missing");
    check_refused("\"kind\": \"logit\"", "\"kind\": \"linear\", \"file\": \"x\", \"hash\": \"0123456789abcdeg\"",
                  "16 hexadecimal digits");
    check_refused("\"kind\": \"logit\"", "\"kind\": \"linear\", \"file\": \"/x\", \"hash\": \"0123456789abcdef\"",
                  "relative to the policy file");
    check_refused("\"kind\": \"svm\"", "\"kind\": \"tree\"", "'tree'; known: svm, crf, per_layer_svm, rbf",
                  ErrorCode::Unsupported);
    check_refused("\"kind\": \"svm\"", "\"kind\": \"crf\"", "field 'classifier.bias' must be an array");
    check_refused("\"mean\": [", "\"mean\": [null,", "field 'classifier.mean[0]' must be a number, found null");
    check_refused("\"mean\": [", "\"mean\": [1e39,", "in the range of a float");
    check_refused("\"mean\": [", "\"mean\": [1e999,", "not valid JSON");
    check_refused("\"mean\": [", "\"mean\": [NaN,", "not valid JSON");
    check_refused("\"bias\"", "\"transitions\": [], \"bias\"", "unknown field 'classifier.transitions'");
    check_refused("\"threshold\": 0.1", "\"threshold\": \"often\"",
                  "field 'threshold' must be a number, \"never\" or \"always\", found 'often'");
    check_refused("\"threshold\": 0.1", "\"threshold\": null", "found null");
    check_refused("\"prompts\": \"1400\"", "\"prompts\": 1400", "field 'training.prompts' must be a string, found 1400");
    check_refused("\"agreement\": 0.99", "\"agreement\": \"high\"", "field 'agreement' must be a number");
    check_refused("\"topic\": -2.5", "\"topic\": []", "field 'task_thresholds.topic' must be a number");
    check_refused("20,", "20.0,", "field 'layers[0]' must be a whole number, 0 or more, found 20.0");
    check_refused("20,", "-20,", "found -20");
    check_refused("20,", "99999999999,", "at most 100000 is allowed");
}

TEST_CASE("policy file: fields that do not hold together") {
    check_refused("20,", "22,", "layers[1] is 22");
    check_refused("20,", "0,", "layers[0] is 0");
    check_refused("\"gap\"", "\"top_prob\"", "'top_prob' stands twice");
    check_refused("\"gap\"", "\"\"", "a name is empty");
    check_refused("\"gap\",", "", "expected 1 values, found 2", ErrorCode::ShapeMismatch);
    check_refused("\"scale\": [", "\"scale\": [1,", "svm scale: expected 2 values, found 3", ErrorCode::ShapeMismatch);
    check_refused("\"agreement\": 0.99", "\"agreement\": 1.01", "must lie in 0 to 1, found 1.01");
    check_refused("\"gold\"", "\"guess\"", "must be 'agrees' or 'gold', found 'guess'");
    check_refused("\"0123456789abcdef\"", "\"\"", "model identity: empty");
    const std::string text = text_of(file_of<PaperSvm>(svm_of(2)));
    const std::size_t scale = text.find("\"scale\": [") + 10;
    const std::string negative = std::string(text).insert(text.find_first_of("0123456789", scale), "-");
    CHECK(contains(error_of(ErrorCode::InvalidArgument, [&] { static_cast<void>(parse_policy_file(negative, "p")); }),
                   "scale[0] must be > 0"));
    const std::string crf = text_of(file_of<PaperCrf>(crf_of(2)));
    CHECK(contains(
        error_of(
            ErrorCode::CorruptFile,
            [&] { static_cast<void>(parse_policy_file(replaced(crf, "\"transitions\": [", "\"transitions\": [0,"), "p")); }),
        "'classifier.transitions' must be an array of 4 numbers"));
}

TEST_CASE("policy file: classifiers of layers and kernel classifiers that do not hold together") {
    const auto refused = [](const std::string& text, std::string_view from, std::string_view to, ErrorCode code,
                            std::string_view reason) {
        const std::string changed = replaced(text, from, to);
        const std::string message = error_of(code, [&] { static_cast<void>(parse_policy_file(changed, "p.json")); });
        CAPTURE(message);
        CHECK(contains(message, "'p.json': "));
        CHECK(contains(message, reason));
    };
    const std::string layers = text_of(file_of<LayersSvm>(layers_of(2)));
    refused(layers, "\"layer\": 20", "\"layer\": 29", ErrorCode::InvalidArgument,
            "layers must ascend from 1 or more, found 29 at place 1");
    refused(layers, "\"layer\": 20", "\"layer\": 0", ErrorCode::InvalidArgument, "found 0 at place 0");
    refused(layers, "\"layer\": 20", "\"layer\": 100001", ErrorCode::CorruptFile, "'classifier.layers[0].layer' is 100001");
    refused(layers, "\"layer\": 20,", "", ErrorCode::CorruptFile, "'classifier.layers[0].layer' is missing");
    refused(layers, "\"layer\": 20,", "\"layer\": 20, \"depth\": 1,", ErrorCode::CorruptFile,
            "unknown field 'classifier.layers[0].depth'");
    refused(layers, "\"shared\": {", "\"shared\": {\"layer\": 1,", ErrorCode::CorruptFile,
            "unknown field 'classifier.shared.layer'");
    refused(layers, "\"shared\"", "\"common\"", ErrorCode::CorruptFile, "unknown field 'classifier.common'");
    refused(layers, "\"mean\": [", "\"mean\": [1,", ErrorCode::ShapeMismatch, "svm mean: expected 2 values, found 3");
    const std::string rbf = text_of(file_of<PaperRbf>(rbf_of(2)));
    refused(rbf, "\"gamma\": 0.3", "\"gamma\": 0", ErrorCode::InvalidArgument, "gamma must be above 0");
    refused(rbf, "\"gamma\": 0.3", "\"gamma\": 1e300", ErrorCode::InvalidArgument, "gamma must be above 0");
    refused(rbf, "\"gamma\": 0.3", "\"gamma\": \"0.3\"", ErrorCode::CorruptFile, "'classifier.gamma' must be a number");
    refused(rbf, "\"seed\": 1", "\"seed\": -1", ErrorCode::CorruptFile, "'classifier.seed' must be a whole number");
    refused(rbf, "\"mean\": [", "\"mean\": [1,", ErrorCode::ShapeMismatch, "expected 2 inputs, found 3");
    refused(rbf, "\"scale\": [", "\"scale\": [1,", ErrorCode::ShapeMismatch, "rbf scale: expected 2 values, found 3");
    std::string many;
    for (int i = 0; i < 70'000; ++i) many += "0,";
    refused(rbf, "\"weights\": [", "\"weights\": [" + many, ErrorCode::InvalidArgument, "70005 of 2 inputs");
    refused(rbf, "\"mean\": [", "\"mean\": [" + many, ErrorCode::InvalidArgument, "5 of 70002 inputs");
}

TEST_CASE("policy file: text that is no JSON, or JSON that is too much") {
    const std::string text = text_of(file_of<PaperSvm>(svm_of(2)));
    const auto refused = [](const std::string& bad, std::string_view reason) {
        CHECK(
            contains(error_of(ErrorCode::CorruptFile, [&] { static_cast<void>(parse_policy_file(bad, "p.json")); }), reason));
    };
    for (std::size_t cut = 0; cut + 1 < text.size(); ++cut) {  // without its last line break it is whole
        CHECK_THROWS_AS(static_cast<void>(parse_policy_file(text.substr(0, cut), "p.json")), Error);
    }
    refused("", "not valid JSON");
    refused("[]", "must be an object, found array");
    refused(replaced(text, "\"topic\"", "\"plural\""), "the key 'plural' stands twice");
    refused(replaced(text, "\"prompts\"", "\"tasks\""), "the key 'tasks' stands twice");
    refused(replaced(text, "svm", "\xFFvm"), "not valid JSON");
    refused("\xEF\xBB\xBF" + text, "byte order mark");
    refused(text + '\0', "NUL");
    refused(std::string(1'000'000, '['), "nested deeper than 32 levels");
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
    refused(deep, "nested deeper than 32 levels");
    const TemporaryFiles files;
    const auto path = files.directory() / "huge.json";
    { std::ofstream(path) << text; }
    std::filesystem::resize_file(path, (std::size_t{16} << 20U) + 1);
    CHECK(contains(error_of(ErrorCode::Unsupported, [&] { static_cast<void>(load_policy_file(path)); }), "at most 16777216"));
    CHECK(contains(error_of(ErrorCode::Io, [&] { static_cast<void>(load_policy_file(files.directory())); }),
                   "not a regular file"));
}

TEST_CASE("policy file: what cannot be saved") {
    const TemporaryFiles files;
    const auto path = files.directory() / "policy.json";
    const auto refused = [&](ErrorCode code, std::string_view reason, const std::function<void(PolicyFile&)>& break_it) {
        PolicyFile policy = file_of<PaperSvm>(svm_of(2));
        break_it(policy);
        const std::string message = error_of(code, [&] { save_policy(path, policy); });
        CAPTURE(message);
        CHECK(contains(message, reason));
        CHECK_FALSE(std::filesystem::exists(path));
    };
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    refused(ErrorCode::InvalidArgument, "kind is 'crf'", [](PolicyFile& p) { p.kind = "crf"; });
    refused(ErrorCode::InvalidArgument, "layers: none", [](PolicyFile& p) { p.layers.clear(); });
    refused(ErrorCode::InvalidArgument, "features: none", [](PolicyFile& p) { p.features.clear(); });
    refused(ErrorCode::InvalidArgument, "lens: no name", [](PolicyFile& p) { p.lens.clear(); });
    refused(ErrorCode::InvalidArgument, "head: no name", [](PolicyFile& p) { p.head.clear(); });
    refused(ErrorCode::InvalidArgument, "lens hash", [](PolicyFile& p) { p.lens = "linear"; });
    refused(ErrorCode::InvalidArgument, "only a linear lens", [](PolicyFile& p) { p.lens_file = "x"; });
    refused(ErrorCode::InvalidArgument, "a task has no name", [](PolicyFile& p) { p.task_thresholds[""] = 1; });
    refused(ErrorCode::InvalidArgument, "not UTF-8", [](PolicyFile& p) { p.model_name = "\xFF"; });
    refused(ErrorCode::InvalidArgument, "not UTF-8", [](PolicyFile& p) { p.training["\xFF"] = "x"; });
    refused(ErrorCode::InvalidArgument, "agreement", [](PolicyFile& p) { p.agreement = std::nan(""); });
    refused(ErrorCode::NotFinite, "threshold is not a number", [=](PolicyFile& p) { p.threshold = nan; });
    refused(ErrorCode::NotFinite, "task 'topic'", [=](PolicyFile& p) { p.task_thresholds["topic"] = nan; });
    refused(ErrorCode::NotFinite, "svm weights[1]",
            [](PolicyFile& p) { std::get<LinearSvm>(p.classifier).weights[1] = infinity; });
    refused(ErrorCode::ShapeMismatch, "svm mean", [](PolicyFile& p) { std::get<LinearSvm>(p.classifier).mean.pop_back(); });
}

}  // namespace test_policy_file
