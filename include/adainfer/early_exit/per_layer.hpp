#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// A classifier for each layer, and a shared one for the layers that have none of their own. One threshold holds for all.
/// Trained by train_per_layer_svm().
///
/// Satisfies the classifier interface described at LinearSvm with one difference: score() is told the layer.
template <class Classifier>
struct PerLayer {
  private:
    static constexpr std::string_view prefix = "per_layer_";
    static constexpr auto kind_text = [] {
        std::array<char, prefix.size() + Classifier::kind.size()> text{};
        std::copy(prefix.begin(), prefix.end(), text.begin());
        std::copy(Classifier::kind.begin(), Classifier::kind.end(), text.begin() + prefix.size());
        return text;
    }();

  public:
    static constexpr std::string_view kind{kind_text.data(), kind_text.size()};  ///< e.g. "per_layer_svm"

    using State = typename Classifier::State;

    Classifier shared;
    std::vector<std::size_t> layers;  ///< that have a classifier of their own; ascending, from 1
    std::vector<Classifier> own;      ///< [layers.size()]; their thresholds and that of `shared` count for nothing
    float threshold = 0;

    [[nodiscard]] std::size_t feature_count() const noexcept { return shared.feature_count(); }
    [[nodiscard]] State begin() const noexcept { return shared.begin(); }

    /// The classifier that speaks after `layer` layers.
    [[nodiscard]] const Classifier& at(std::size_t layer) const noexcept {
        const auto found = std::lower_bound(layers.begin(), layers.end(), layer);
        return found == layers.end() || *found != layer ? shared : own[static_cast<std::size_t>(found - layers.begin())];
    }

    /// Score of the features after `layer` layers. Precondition: features.size() == feature_count() and validate() passed.
    [[nodiscard]] float score(std::size_t layer, std::span<const float> features, State& state) const noexcept {
        return at(layer).score(features, state);
    }

    /// Throws Error (ShapeMismatch, NotFinite, InvalidArgument) unless every classifier fits `n_features` features and the layers
    /// ascend, one a classifier. An infinite threshold is valid.
    void validate(std::size_t n_features) const {
        shared.validate(n_features);
        if (layers.size() != own.size()) {
            fail(ErrorCode::ShapeMismatch, kind, ": ", layers.size(), " layers, but ", own.size(), " classifiers of their own");
        }
        for (std::size_t i = 0; i < layers.size(); ++i) {
            if (layers[i] <= (i == 0 ? 0 : layers[i - 1])) {
                fail(ErrorCode::InvalidArgument, kind, ": layers must ascend from 1 or more, found ", layers[i], " at place ", i);
            }
            own[i].validate(n_features);
        }
        if (std::isnan(threshold)) fail(ErrorCode::NotFinite, kind, " threshold is ", threshold);
    }
};

}  // namespace adainfer::inline v0
