#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/readout.hpp"

namespace adainfer::inline v0 {

/// How a threshold falls over a generation: clip(0.9 threshold + 0.1 exp(-decay * step / length), 0, 1) at the step-th token
/// (CALM, arXiv 2207.07061, section 3.3). A wrong token near the start disturbs all that follows, so the start is the stricter.
struct ThresholdDecay {
    float decay = 4;           ///< tau of the paper, 0 or more; 0: constant
    std::size_t length = 128;  ///< N of the paper: tokens that a generation may have, 1 or more

    [[nodiscard]] float at(float threshold, std::size_t step) const noexcept {
        const float done = static_cast<float>(step) / static_cast<float>(length);
        return std::clamp(0.9F * threshold + 0.1F * std::exp(-decay * done), 0.0F, 1.0F);
    }
};

/// Exits where a feature lies above a threshold that falls from token to token of a generation. A prediction that belongs
/// to no generation is its first step.
template <class Feature, class Lens = LogitLens, class Head = FullHead>
class DecayingThreshold : public ReadsWith<Lens, Head> {
  public:
    using Features = FeatureList<Feature>;
    struct State {
        std::size_t step = 0;
    };

    /// Throws InvalidArgument unless `threshold` lies in [0, 1] and the decay is finite, 0 or more, over a length of at least 1.
    explicit DecayingThreshold(float threshold, ThresholdDecay decay = {}, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), threshold_(threshold), decay_(decay) {
        if (!(threshold >= 0 && threshold <= 1)) {
            fail(ErrorCode::InvalidArgument, "a decaying threshold must lie in [0, 1], found ", threshold);
        }
        if (!(decay.decay >= 0) || !std::isfinite(decay.decay)) {
            fail(ErrorCode::InvalidArgument, "the decay of a threshold must be 0 or more, found ", decay.decay);
        }
        if (decay.length == 0) fail(ErrorCode::InvalidArgument, "the length over which a threshold decays must be 1 or more");
    }

    [[nodiscard]] State start(std::size_t step) const noexcept { return {step}; }

    [[nodiscard]] float threshold(std::size_t step) const noexcept { return decay_.at(threshold_, step); }

    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values& values, State& state) const noexcept {
        return values.template get<Feature>() > threshold(state.step) ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    float threshold_;
    ThresholdDecay decay_;
};

/// CALM's softmax response, the difference of the two largest probabilities, against its decaying threshold (sections 3.3, 3.4).
template <class Lens = LogitLens, class Head = FullHead>
using CalmThreshold = DecayingThreshold<Gap, Lens, Head>;

}  // namespace adainfer::inline v0
