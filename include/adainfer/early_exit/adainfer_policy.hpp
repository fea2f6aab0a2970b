#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/readout.hpp"

namespace adainfer::inline v0 {

/// What stands in the middle of AdaInferPolicy: a score from the features of one check, higher for "stop", and the threshold
/// above which it stops. State is what it remembers of the earlier checks of one inference.
template <class C>
concept ExitClassifier = requires(const C& classifier, std::span<const float> features, typename C::State& state) {
    { classifier.score(features, state) } -> std::convertible_to<float>;
    { classifier.threshold } -> std::convertible_to<float>;
    { classifier.feature_count() } -> std::convertible_to<std::size_t>;
};

/// AdaInfer (arXiv 2403.02181): after a layer, a classic classifier on a few numbers of the intermediate next-token
/// distribution decides whether to stop. With the defaults as in the paper: gap and top probability through the model's own
/// final norm and head.
template <class Classifier, class FeaturesList = PaperFeatures, class Lens = LogitLens, class Head = FullHead>
class AdaInferPolicy : public ReadsWith<Lens, Head> {
    static_assert(ExitClassifier<Classifier>,
                  "adainfer: the classifier of AdaInferPolicy lacks score(features, State&), threshold or feature_count()");

  public:
    using Features = FeaturesList;
    using State = typename Classifier::State;

    /// Throws InvalidArgument where the classifier was trained on another number of features.
    explicit AdaInferPolicy(Classifier classifier, Schedule schedule = {}, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), classifier_(std::move(classifier)), schedule_(std::move(schedule)) {
        if (classifier_.feature_count() != Features::size) {
            fail(ErrorCode::InvalidArgument, "the classifier reads ", classifier_.feature_count(), " features, the policy has ", Features::size);
        }
    }

    [[nodiscard]] const Classifier& classifier() const noexcept { return classifier_; }

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && ReadsWith<Lens, Head>::wants(layer); }

    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values& values, State& state) const {
        return classifier_.score(values.all(), state) > classifier_.threshold ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    Classifier classifier_;
    Schedule schedule_;
};

}  // namespace adainfer::inline v0
