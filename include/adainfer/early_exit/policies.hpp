#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/readout.hpp"

namespace adainfer::inline v0 {

/// Gives a policy its lens and head.
template <class Lens, class Head>
class ReadsWith {
  public:
    explicit ReadsWith(Lens lens = Lens{}, Head head = Head{}) : lens_(std::move(lens)), head_(std::move(head)) {}

    [[nodiscard]] const Lens& lens() const noexcept { return lens_; }
    [[nodiscard]] const Head& head() const noexcept { return head_; }

    /// False where the lens has no map for the layer, so that nobody asks for it.
    [[nodiscard]] bool wants(std::size_t layer) const { return lens_.reads(layer); }

    /// Throws IdentityMismatch where the lens was fitted on other weights.
    template <class Weights>
    void check_model(const Weights& weights) const {
        if constexpr (requires { lens_.check_model(weights); }) lens_.check_model(weights);
    }

  private:
    [[no_unique_address]] Lens lens_;
    [[no_unique_address]] Head head_;
};

/// Exits after a fixed number of layers, whatever the state; the answer is read through the lens. As many layers as the model
/// has is the dense model.
template <class Lens = LogitLens, class Head = CandidateHead>
class ExitAtLayer : public ReadsWith<Lens, Head> {
  public:
    struct State {};
    struct Features {
        struct Values {};
    };

    explicit ExitAtLayer(std::size_t layer, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), layer_(layer) {}

    /// Throws InvalidArgument where the model has no such layer or the lens no map for it, else as the lens does.
    template <class Weights>
    void check_model(const Weights& weights) const {
        ReadsWith<Lens, Head>::check_model(weights);
        const std::size_t layers = weights.config.layers;
        if (layer_ == 0 || layer_ > layers) {
            fail(ErrorCode::InvalidArgument, "cannot exit after layer ", layer_, " of a model of ", layers, " layers");
        }
        if (layer_ < layers && !this->lens().reads(layer_)) {
            fail(ErrorCode::InvalidArgument, "cannot exit after layer ", layer_, ": the lens cannot read it");
        }
    }

    [[nodiscard]] bool wants(std::size_t layer) const noexcept { return layer == layer_; }
    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values&, State&) const noexcept {
        return ExitDecision::Exit;
    }

  private:
    std::size_t layer_;
};

enum class Exits { Above, Below };

/// Exits where one feature passes a threshold.
template <class Feature, Exits Side, class Lens = LogitLens, class Head = FullHead>
class FeatureThreshold : public ReadsWith<Lens, Head> {
  public:
    using Features = FeatureList<Feature>;
    struct State {};

    explicit FeatureThreshold(float threshold, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), threshold_(threshold) {}

    [[nodiscard]] float threshold() const noexcept { return threshold_; }

    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values& values, State&) const noexcept {
        const float value = values.template get<Feature>();
        const bool exits = Side == Exits::Above ? value > threshold_ : value < threshold_;
        return exits ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    float threshold_;
};

/// Exits where the gap is large: the simplest rule on the paper's first feature.
template <class Lens = LogitLens, class Head = FullHead>
using GapThreshold = FeatureThreshold<Gap, Exits::Above, Lens, Head>;

/// Exits where the top probability is large (softmax response of CALM, arXiv 2207.07061, section 3.4, without the second).
template <class Lens = LogitLens, class Head = FullHead>
using TopProbThreshold = FeatureThreshold<TopProb, Exits::Above, Lens, Head>;

/// Exits where the entropy, nats, is small (BranchyNet, arXiv 1709.01686, section III).
template <class Lens = LogitLens, class Head = FullHead>
using EntropyThreshold = FeatureThreshold<Entropy, Exits::Below, Lens, Head>;

/// Exits where a layer hardly turned the hidden state (hidden-state saturation of CALM, section 3.4). Computes no logits.
template <class Lens = LogitLens, class Head = CandidateHead>
using HiddenSaturation = FeatureThreshold<HiddenCosine, Exits::Above, Lens, Head>;

/// Exits where `patience` checks in a row repeat the top token of the check before (PABEE, arXiv 2006.04152, section 3.2).
template <class Lens = LogitLens, class Head = FullHead>
class Patience : public ReadsWith<Lens, Head> {
  public:
    using Features = FeatureList<SameTopAsPrevious>;
    struct State {
        std::size_t repeats = 0;
    };

    explicit Patience(std::size_t patience, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), patience_(patience) {}

    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values& values, State& state) const noexcept {
        state.repeats = values.template get<SameTopAsPrevious>() > 0.5F ? state.repeats + 1 : 0;
        return state.repeats >= patience_ && patience_ > 0 ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    std::size_t patience_;
};

/// Runs every layer and reports in hindsight the earliest check whose top token was the final one: the bound for every
/// policy with that lens and head.
template <class Lens = LogitLens, class Head = CandidateHead>
class Oracle : public ReadsWith<Lens, Head> {
  public:
    static constexpr bool needs_dense_answer = true;
    using Features = FeatureList<TopToken>;
    struct State {
        std::vector<std::pair<std::size_t, TokenId>> tops;
    };

    explicit Oracle(Lens lens = Lens{}, Head head = Head{}) : ReadsWith<Lens, Head>(std::move(lens), std::move(head)) {}

    [[nodiscard]] ExitDecision decide(std::size_t layer, const typename Features::Values& values, State& state) const {
        state.tops.emplace_back(layer, static_cast<TokenId>(values.template get<TopToken>()));
        return ExitDecision::Continue;
    }

    [[nodiscard]] std::size_t hindsight(const State& state, TokenId final_token, std::size_t layers) const noexcept {
        for (const auto& [layer, token] : state.tops) {
            if (token == final_token) return layer;
        }
        return layers;
    }
};

}  // namespace adainfer::inline v0
