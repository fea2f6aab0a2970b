// The one file that compiles the model.
#include "review_model.hpp"

#include <adainfer/io/gguf_model.hpp>

template class adainfer::Model<adainfer::SimdBackend, adainfer::AdaInferPolicy<adainfer::LinearSvm>>;
template adainfer::Classification adainfer::classify(const ReviewModel&, adainfer::Session&, std::span<const adainfer::TokenId>,
                                                     const adainfer::LabelSet&, const adainfer::RunOptions&);

ReviewModel load_review_model(const std::string& path) {
    const adainfer::LinearSvm svm{.mean = {0.0F, 0.0F}, .scale = {1.0F, 1.0F}, .weights = {1.0F, 1.0F}, .bias = -0.5F,
                                  .threshold = 0.0F};
    const adainfer::AdaInferPolicy<adainfer::LinearSvm> policy(svm);
    return ReviewModel(adainfer::load_weights(adainfer::GgufFile::open(path)), policy);
}

adainfer::Session new_session(const ReviewModel& model) { return model.new_session(); }
