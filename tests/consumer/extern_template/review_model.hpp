#pragma once

// What the files of a large application include: no model is compiled there. The function templates that they call are named
// here with `extern` and compiled in review_model.cpp. Members of the model, load_weights() and tokenizers are inline, so they
// would be compiled again in every file that calls them: review_model.cpp does that for all.

#include <cstddef>
#include <span>
#include <string>

#include <adainfer/backend/simd.hpp>
#include <adainfer/early_exit/adainfer_policy.hpp>
#include <adainfer/early_exit/linear_svm.hpp>
#include <adainfer/generate/classify.hpp>
#include <adainfer/model/model.hpp>

using ReviewModel = adainfer::Model<adainfer::SimdBackend, adainfer::AdaInferPolicy<adainfer::LinearSvm>>;

extern template class adainfer::Model<adainfer::SimdBackend, adainfer::AdaInferPolicy<adainfer::LinearSvm>>;
extern template adainfer::Classification adainfer::classify(const ReviewModel&, adainfer::Session&,
                                                            std::span<const adainfer::TokenId>, const adainfer::LabelSet&,
                                                            const adainfer::RunOptions&);

ReviewModel load_review_model(const std::string& path);
adainfer::Session new_session(const ReviewModel& model);

/// The label that follows the prompt.
std::size_t most_likely(const ReviewModel& model, adainfer::Session& session, std::span<const adainfer::TokenId> prompt,
                        const adainfer::LabelSet& labels);
