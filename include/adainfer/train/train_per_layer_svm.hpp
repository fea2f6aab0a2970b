#pragma once

#include <cstddef>
#include <map>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/per_layer.hpp"
#include "adainfer/train/dataset.hpp"
#include "adainfer/train/train_svm.hpp"

namespace adainfer::inline v0 {

struct PerLayerSvmFit {
    PerLayer<LinearSvm> model;  ///< threshold 0
    bool converged = false;     ///< every one of the classifiers
};

/// Trains a linear SVM on the checks after each layer and a shared one on all of them, which speaks for the layers whose checks
/// all have the same label. Throws as train_svm() and to_sequences() do.
[[nodiscard]] inline PerLayerSvmFit train_per_layer_svm(std::span<const Trace> traces, Label label = Label::AgreesWithFinal,
                                                        const SvmOptions& options = {}) {
    const std::vector<Sequence> all = to_sequences(traces, label);
    const SvmFit shared = train_svm(all, options);
    PerLayerSvmFit fit;
    fit.model.shared = shared.model;
    fit.converged = shared.converged;

    std::map<std::size_t, Sequence> rows;  // by layer: its checks in all traces
    for (std::size_t i = 0; i < traces.size(); ++i) {
        const std::size_t width = all[i].n_features;
        for (std::size_t t = 0; t < all[i].steps(); ++t) {
            Sequence& layer = rows[traces[i].layers[t]];
            const auto first = all[i].features.begin() + static_cast<std::ptrdiff_t>(t * width);
            layer.n_features = width;
            layer.features.insert(layer.features.end(), first, first + static_cast<std::ptrdiff_t>(width));
            layer.labels.push_back(all[i].labels[t]);
        }
    }
    for (const auto& [layer, sequence] : rows) {
        const std::size_t stops = std::accumulate(sequence.labels.begin(), sequence.labels.end(), std::size_t{0});
        if (stops == 0 || stops == sequence.steps()) continue;
        SvmFit own = train_svm({&sequence, 1}, options);
        fit.converged = fit.converged && own.converged;
        fit.model.layers.push_back(layer);
        fit.model.own.push_back(std::move(own.model));
    }
    fit.model.validate(fit.model.feature_count());
    return fit;
}

}  // namespace adainfer::inline v0
