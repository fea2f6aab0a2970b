#include "review_model.hpp"

std::size_t most_likely(const ReviewModel& model, adainfer::Session& session, std::span<const adainfer::TokenId> prompt,
                        const adainfer::LabelSet& labels) {
    return adainfer::classify(model, session, prompt, labels).label;
}
