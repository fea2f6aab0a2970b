// Parts of AdaInferPolicy that do not fit, in a program that uses it as users do.
#include "adainfer/early_exit/adainfer_policy.hpp"

#include "adainfer/backend/reference.hpp"
#include "adainfer/generate/generate.hpp"

struct Classifier {
#if defined(OTHER_FEATURES)
    using Features = adainfer::DepthFeatures;
#else
    using Features = adainfer::PaperFeatures;
#endif
#if !defined(NO_STATE)
    struct State {};
#endif
#if !defined(NO_SCORE)
    template <class S>
    float score(std::span<const float>, S&) const noexcept {
        return 1;
    }
#endif
#if !defined(NO_THRESHOLD)
    float threshold = 0;
#endif
#if !defined(NO_FEATURE_COUNT)
    std::size_t feature_count() const noexcept { return 2; }
#endif
};

struct Lens {
    bool reads(std::size_t) const { return true; }
#if !defined(NO_APPLY)
    template <class Decoder>
    void apply(const Decoder& decoder, std::size_t, std::span<const float> hidden, std::span<float> out) const {
        decoder.final_norm(hidden, out);
    }
#endif
};

struct Head {
#if defined(WRONG_RUN)
    template <class Decoder>
    void run(const Decoder&, std::span<const float>, std::span<const adainfer::TokenId>, adainfer::Workspace&) const {}
#elif !defined(NO_RUN)
    template <class Decoder>
    std::span<const adainfer::TokenId> run(const Decoder& decoder, std::span<const float> state,
                                           std::span<const adainfer::TokenId> candidates, adainfer::Workspace& work) const {
        return adainfer::FullHead{}.run(decoder, state, candidates, work);
    }
#endif
};

void run(adainfer::ModelWeights weights) {
    using Policy = adainfer::AdaInferPolicy<Classifier, adainfer::PaperFeatures, Lens, Head>;
    const adainfer::Model<adainfer::ReferenceBackend, Policy> model(std::move(weights), Policy(Classifier{}));
    adainfer::Session session = model.new_session();
    const std::vector<adainfer::TokenId> prompt{1};
    adainfer::generate(model, session, prompt, {}, [](const adainfer::GeneratedToken&) {});
}
