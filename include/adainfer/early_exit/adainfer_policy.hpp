#pragma once

#include <cstddef>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/exit_classifier.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/readout.hpp"

namespace adainfer::inline v0 {

/// AdaInfer (arXiv 2403.02181): after a layer, a classic classifier on a few numbers of the intermediate next-token
/// distribution decides whether to stop. With the defaults as in the paper: gap and top probability through the model's own
/// final norm and head.
template <class Classifier, class FeaturesList = PaperFeatures, class Lens = LogitLens, class Head = FullHead>
class AdaInferPolicy : public ReadsWith<Lens, Head> {
  public:
    using Features = FeaturesList;
    using State = typename Classifier::State;

    /// Throws InvalidArgument where the classifier was trained on another number of features.
    explicit AdaInferPolicy(Classifier classifier, Schedule schedule = {}, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)),
          classifier_(std::move(classifier)),
          schedule_(std::move(schedule)) {
        if (classifier_.feature_count() != Features::size) {
            fail(ErrorCode::InvalidArgument, "the classifier reads ", classifier_.feature_count(), " features, the policy has ",
                 Features::size);
        }
    }

    [[nodiscard]] const Classifier& classifier() const noexcept { return classifier_; }

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && ReadsWith<Lens, Head>::wants(layer); }

    [[nodiscard]] ExitDecision decide(std::size_t layer, const typename Features::Values& values, State& state) const {
        return adainfer::score_after(classifier_, layer, values.all(), state) > classifier_.threshold ? ExitDecision::Exit
                                                                                                      : ExitDecision::Continue;
    }

  private:
    Classifier classifier_;
    Schedule schedule_;
};

/// A classifier that does not fit: one readable line says why, and the compiler adds nothing to it.
template <class Classifier, class FeaturesList, class Lens, class Head>
    requires(!ExitClassifierOf<Classifier, FeaturesList>)
class AdaInferPolicy<Classifier, FeaturesList, Lens, Head>
    : public AdaInferPolicy<detail::StandInClassifier, FeaturesList, Lens, Head> {
    static_assert((require_classifier<Classifier, FeaturesList>(), true));

  public:
    template <class... Arguments>
    explicit AdaInferPolicy(Arguments&&...);
};

}  // namespace adainfer::inline v0
