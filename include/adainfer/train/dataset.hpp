#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"

namespace adainfer::inline v0 {

/// What a dense run says about one prompt, a step per checked layer.
struct Trace {
    std::size_t n_layers = 0;                ///< decoder layers of the model
    std::size_t n_features = 0;
    std::vector<std::size_t> layers;         ///< [steps], ascending: layers that have run at the check, 1 to n_layers - 1
    std::vector<float> features;             ///< [steps, n_features], row-major
    std::vector<TokenId> tokens;             ///< [steps], the layer's top-1 token
    std::vector<std::uint8_t> agrees;        ///< [steps], 1 where it is the last layer's top-1 token
    std::vector<std::uint8_t> matches_gold;  ///< [steps], 1 where it is the right answer; empty where none is known
    TokenId final_token = no_token;          ///< the last layer's top-1 token
    bool final_matches_gold = false;         ///< the same for the last layer
    bool final_reachable = true;             ///< false where a shortlist left final_token out: full depth misses it too
    int group = 0;                           ///< task the prompt belongs to

    [[nodiscard]] std::size_t steps() const noexcept { return layers.size(); }
};

/// Which answer counts as a good place to stop.
enum class Label {
    AgreesWithFinal,  ///< the layer's top-1 token is the last layer's
    MatchesGold,      ///< the layer's top-1 token is the right answer
};

/// What a classifier is trained on: one prompt, a step per checked layer.
struct Sequence {
    std::size_t n_features = 0;
    std::vector<float> features;       ///< [steps, n_features], row-major
    std::vector<std::uint8_t> labels;  ///< [steps], 1 = stopping here is right, 0 = it is not
    int group = 0;

    [[nodiscard]] std::size_t steps() const noexcept { return labels.size(); }
};

/// The chosen labels of a trace, [steps]. Throws InvalidArgument where the trace does not have them.
[[nodiscard]] inline const std::vector<std::uint8_t>& labels_of(const Trace& trace, Label label) {
    const auto& labels = label == Label::AgreesWithFinal ? trace.agrees : trace.matches_gold;
    if (labels.size() != trace.steps())
        fail(ErrorCode::InvalidArgument, label == Label::AgreesWithFinal ? "trace agrees" : "trace matches_gold",
             ": expected one label for each of ", trace.steps(), " steps, found ", labels.size());
    return labels;
}

/// Training sequences of traces, one a trace. Throws InvalidArgument where a trace lacks the labels.
[[nodiscard]] inline std::vector<Sequence> to_sequences(std::span<const Trace> traces,
                                                        Label label = Label::AgreesWithFinal) {
    std::vector<Sequence> sequences;
    sequences.reserve(traces.size());
    for (const Trace& trace : traces)
        sequences.push_back({trace.n_features, trace.features, labels_of(trace, label), trace.group});
    return sequences;
}

/// Indices of prompts to train on and of those kept back.
struct Split {
    std::vector<std::size_t> train, held_out;
};

/// Draws the share `held_out` of the prompts of every group at random (rounded down, at least one of a group of two or
/// more). Whole prompts: the layers of one prompt resemble each other too much to stand on both sides.
/// `items` are traces or sequences. The same seed gives the same split everywhere. Throws InvalidArgument unless 0 < held_out < 1.
template <class Item>
[[nodiscard]] Split split_by_prompt(const std::vector<Item>& items, double held_out, std::uint64_t seed = 0) {
    if (!(held_out > 0 && held_out < 1))
        fail(ErrorCode::InvalidArgument, "share of prompts held out must lie between 0 and 1, found ", held_out);
    std::map<int, std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < items.size(); ++i) groups[items[i].group].push_back(i);
    std::mt19937_64 random(seed);
    Split split;
    for (auto& [group, members] : groups) {
        const std::size_t n = members.size();
        // Not std::shuffle: standard libraries differ in how they draw.
        for (std::size_t i = n; i > 1; --i) std::swap(members[i - 1], members[random() % i]);
        auto count = static_cast<std::size_t>(held_out * static_cast<double>(n));
        if (count == 0 && n > 1) count = 1;
        for (std::size_t i = 0; i < n; ++i) (i < count ? split.held_out : split.train).push_back(members[i]);
    }
    std::sort(split.train.begin(), split.train.end());
    std::sort(split.held_out.begin(), split.held_out.end());
    return split;
}

/// The items at `indices`, in that order. Precondition: every index < items.size().
template <class Item>
[[nodiscard]] std::vector<Item> select_prompts(const std::vector<Item>& items, std::span<const std::size_t> indices) {
    std::vector<Item> chosen;
    chosen.reserve(indices.size());
    for (const std::size_t i : indices) chosen.push_back(items[i]);
    return chosen;
}

/// Checks that `sequences` can train a two-class model and returns their number of features. Throws Error
/// InvalidArgument: no steps, no features, a label other than 0 and 1, or one class only;
/// ShapeMismatch: sequences of different widths, or features that do not fill [steps, n_features];
/// NotFinite: a NaN or infinite feature. The message names sequence, step and feature.
[[nodiscard]] inline std::size_t validate_sequences(std::span<const Sequence> sequences) {
    std::size_t n_steps = 0, n_stop = 0;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
        const Sequence& sequence = sequences[s];
        const std::size_t width = sequences[0].n_features;
        if (width == 0) fail(ErrorCode::InvalidArgument, "training sequences have no features");
        if (sequence.n_features != width)
            fail(ErrorCode::ShapeMismatch, "training sequence ", s, ": expected ", width, " features a step, found ",
                 sequence.n_features);
        if (sequence.features.size() != sequence.steps() * width)
            fail(ErrorCode::ShapeMismatch, "training sequence ", s, ": expected ", sequence.steps(), " x ", width,
                 " feature values, found ", sequence.features.size());
        for (std::size_t t = 0; t < sequence.steps(); ++t) {
            if (sequence.labels[t] > 1)
                fail(ErrorCode::InvalidArgument, "training sequence ", s, ", step ", t, ": label must be 0 or 1, found ",
                     static_cast<int>(sequence.labels[t]));
            n_stop += sequence.labels[t];
            for (std::size_t i = 0; i < width; ++i)
                if (const float value = sequence.features[t * width + i]; !std::isfinite(value))
                    fail(ErrorCode::NotFinite, "training sequence ", s, ", step ", t, ", feature ", i, " is ", value);
        }
        n_steps += sequence.steps();
    }
    if (n_steps == 0) fail(ErrorCode::InvalidArgument, "no training data: ", sequences.size(), " sequences, 0 steps");
    if (n_stop == 0 || n_stop == n_steps)
        fail(ErrorCode::InvalidArgument, "training labels are of one class only: all ", n_steps, " steps are labelled ",
             n_stop == 0 ? 0 : 1, "; both 0 and 1 are needed");
    return sequences[0].n_features;
}

}  // namespace adainfer::inline v0
