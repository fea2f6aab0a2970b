// libFuzzer target: any bytes are either a policy, which can be written and read again and whose classifier judges layers, or an
// Error.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/any_classifier.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/per_layer.hpp"
#include "adainfer/early_exit/rbf_svm.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/io/load_policy.hpp"
#include "adainfer/io/policy_file.hpp"
#include "adainfer/model/readout.hpp"
#include "adainfer/model/weights.hpp"
#include "checks.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

/// Scores of one inference that is asked after every layer of the file.
std::vector<float> scores(const PolicyFile& policy) {
    const AnyClassifier classifier(policy.classifier);
    classifier.validate(policy.features.size());
    require(classifier.kind() == policy.kind && classifier.feature_count() == policy.features.size());
    const std::vector<float> features(policy.features.size(), 0.5F);
    AnyClassifier::State state = classifier.begin();
    std::vector<float> result;
    for (const std::size_t layer : policy.layers) result.push_back(classifier.score(layer, features, state));
    return result;
}

/// The policy as this type, or an Error that says which other it was trained for.
template <class Classifier, class Head = FullHead>
void load_as(const PolicyFile& policy, const ModelWeights& weights) {
    try {
        const auto loaded = make_policy<AdaInferPolicy<Classifier, PaperFeatures, LogitLens, Head>>(policy, weights);
        require(policy.kind == Classifier::kind && policy.features == PaperFeatures::names());
        for (const std::size_t layer : policy.layers) require(loaded.wants(layer));
    } catch (const Error& error) {
        require(error.code() == ErrorCode::IdentityMismatch);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    PolicyFile policy;
    try {
        policy = parse_policy_file(text, "fuzzed");
    } catch (const Error& error) {
        fuzzing::check_printable(error);
        return 0;
    }
    const std::string written = detail::policy::to_json(policy).dump(2);
    require(detail::policy::to_json(parse_policy_file(written, "written")).dump(2) == written);
    static_cast<void>(scores(policy));
    ModelWeights weights;
    weights.identity = policy.model_identity;
    weights.config.layers = 30;
    load_as<LinearSvm>(policy, weights);
    load_as<LinearSvm, ShortlistHead>(policy, weights);
    load_as<LinearChainCrf>(policy, weights);
    load_as<PerLayer<LinearSvm>>(policy, weights);
    load_as<RbfSvm>(policy, weights);
    return 0;
}
