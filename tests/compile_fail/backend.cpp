// A backend that lacks one operation, in a program that uses it as users do.
#include "adainfer/generate/generate.hpp"

struct Backend {
#if defined(NOT_COPYABLE)
    Backend() = default;
    Backend(Backend&&) = default;
#endif
#if !defined(NO_WEIGHT)
    using Weight = adainfer::WeightView;
#if defined(WRONG_PREPARE)
    int prepare(adainfer::WeightView) const { return 0; }
#elif !defined(NO_PREPARE)
    Weight prepare(adainfer::WeightView weight) const { return weight; }
#endif
#if defined(MUTABLE_MATMUL)
    void matmul(const Weight&, adainfer::MatrixView<const float>, adainfer::MatrixView<float>) {}
#elif !defined(NO_MATMUL)
    void matmul(const Weight&, adainfer::MatrixView<const float>, adainfer::MatrixView<float>) const {}
#endif
#endif
};

void run(adainfer::ModelWeights weights) {
    const adainfer::Model<Backend> model(std::move(weights));
    adainfer::Session session = model.new_session();
    const std::vector<adainfer::TokenId> prompt{1};
    adainfer::generate(model, session, prompt, {}, [](const adainfer::GeneratedToken&) {});
}
