#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/exit_classifier.hpp"
#include "adainfer/train/binomial.hpp"
#include "adainfer/train/dataset.hpp"

namespace adainfer::inline v0 {

/// The scores of one held-out prompt, a step per checked layer. The inference stops after the first step whose
/// score > threshold, and after the last layer where there is none.
struct ScoredPrompt {
    std::size_t n_layers = 0;         ///< decoder layers of the model
    std::vector<std::size_t> layers;  ///< [steps], ascending: layers that have run at the check, 1 to n_layers - 1
    std::vector<float> scores;        ///< [steps]
    std::vector<std::uint8_t> good;   ///< [steps], 1 where stopping there gives an acceptable answer
    bool good_at_end = true;          ///< the same for the last layer
    int group = 0;                    ///< task the prompt belongs to
    std::vector<std::uint8_t> right{};  ///< [steps], 1 where the answer there is the right one; empty where that is not known
    bool right_at_end = false;          ///< the same for the last layer
};

struct CalibrateOptions {
    /// Least share of prompts with an acceptable answer. Where `good` means "agrees with the dense model" this is the
    /// agreement; where it means "right answer", take full_depth_share(prompts) minus the accuracy one may lose.
    double target = 0.99;

    /// 0: the share counted on the given prompts must reach the target. The threshold is picked on the very prompts it is
    /// judged by, so on few of them the share is optimistic. A confidence such as 0.95 asks instead that the one-sided
    /// Clopper-Pearson lower bound of the share reach it, which takes 299 prompts without a miss for 0.99 at 0.95. The bound
    /// holds for one threshold fixed in advance; choosing among many uses up a part of it, so measure on fresh prompts.
    double confidence = 0;

    /// Where set, a second condition: the share of right answers may fall below that of the last layer by at most this much
    /// (0.01 = one point). It lets a prompt go early whose answers all are wrong, or equally right. Needs ScoredPrompt::right.
    std::optional<double> max_accuracy_loss{};

    /// What accuracy is worth in layers. Where set, the threshold of least
    ///     mean share of layers run + accuracy_price (share right at the last layer - share right)
    /// is taken among those that meet the conditions, not the one of least depth alone: 5 gives up one point of accuracy only for
    /// more than five points of the layers, and spends layers where they cost accuracy. Each task that meets a condition goes to
    /// its very edge, and beyond it on other prompts; a price has no edge, and the same one for all tasks loses accuracy where it
    /// saves most. Needs ScoredPrompt::right.
    std::optional<double> accuracy_price{};
};

struct Calibration {
    float threshold = std::numeric_limits<float>::infinity();  ///< stop where score > threshold; +infinity = never stop
    double agreement = 1;        ///< share of prompts with an acceptable answer at this threshold
    double accuracy_change = 0;  ///< share of right answers less that of the last layer; 0 where it is not known
    double lower_bound = 0;      ///< of that share, at CalibrateOptions::confidence; 0 where that is off
    double mean_layers = 0;      ///< layers run, mean over the prompts
    double mean_full_layers = 0; ///< layers of the model, mean over the prompts
    double exit_rate = 0;        ///< share of prompts stopped before the last layer
    std::size_t prompts = 0;
    bool met = false;            ///< the target holds; where no threshold meets it, the threshold is +infinity

    /// Share of layers not run.
    [[nodiscard]] double pruning_ratio() const noexcept { return 1 - mean_layers / mean_full_layers; }
};

/// Runs `classifier` over every trace as at inference time and pairs its scores with the chosen label.
/// Throws Error where classifier or labels do not fit the traces.
template <class Classifier>
[[nodiscard]] std::vector<ScoredPrompt> score_traces(const Classifier& classifier, std::span<const Trace> traces,
                                                     Label good = Label::AgreesWithFinal) {
    std::vector<ScoredPrompt> prompts;
    prompts.reserve(traces.size());
    for (const Trace& trace : traces) {
        classifier.validate(trace.n_features);
        if (trace.features.size() != trace.steps() * trace.n_features)
            fail(ErrorCode::ShapeMismatch, "trace ", prompts.size(), ": expected ", trace.steps(), " x ", trace.n_features,
                 " feature values, found ", trace.features.size());
        ScoredPrompt prompt{.n_layers = trace.n_layers, .layers = trace.layers, .scores = {}, .good = labels_of(trace, good),
                            .good_at_end = trace.final_reachable && (good == Label::AgreesWithFinal || trace.final_matches_gold),
                            .group = trace.group, .right = trace.matches_gold, .right_at_end = trace.final_matches_gold};
        auto state = classifier.begin();
        for (std::size_t t = 0; t < trace.steps(); ++t) {
            const auto features = std::span(trace.features).subspan(t * trace.n_features, trace.n_features);
            prompt.scores.push_back(adainfer::score_after(classifier, trace.layers[t], features, state));
        }
        prompts.push_back(std::move(prompt));
    }
    return prompts;
}

namespace detail::calibrate {

using Prompts = std::vector<const ScoredPrompt*>;

[[nodiscard]] inline bool needs_right(const CalibrateOptions& options) noexcept {
    return options.max_accuracy_loss.has_value() || options.accuracy_price.has_value();
}

/// Pointers to `prompts`, checked.
[[nodiscard]] inline Prompts checked(std::span<const ScoredPrompt> prompts, const CalibrateOptions& options = {}) {
    if (prompts.empty()) fail(ErrorCode::InvalidArgument, "calibration: no prompts");
    Prompts pointers;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
        const ScoredPrompt& prompt = prompts[p];
        const std::size_t steps = prompt.layers.size();
        if (prompt.n_layers == 0) fail(ErrorCode::InvalidArgument, "calibration prompt ", p, ": n_layers must be >= 1, found 0");
        if (prompt.scores.size() != steps || prompt.good.size() != steps)
            fail(ErrorCode::ShapeMismatch, "calibration prompt ", p, ": ", steps, " layers, ", prompt.scores.size(), " scores, ",
                 prompt.good.size(), " good");
        if (needs_right(options) && prompt.right.size() != steps)
            fail(ErrorCode::InvalidArgument, "calibration prompt ", p,
                 ": an accuracy loss is limited or priced, but it is not known which answers are right");
        for (std::size_t t = 0; t < steps; ++t) {
            if (prompt.layers[t] == 0 || prompt.layers[t] >= prompt.n_layers || (t > 0 && prompt.layers[t] <= prompt.layers[t - 1]))
                fail(ErrorCode::InvalidArgument, "calibration prompt ", p, ", step ", t, ": layers must ascend and stay below ",
                     prompt.n_layers, ", found ", prompt.layers[t]);
            if (!std::isfinite(prompt.scores[t]))
                fail(ErrorCode::NotFinite, "calibration prompt ", p, ", step ", t, ": score is ", prompt.scores[t]);
        }
        pointers.push_back(&prompt);
    }
    return pointers;
}

inline void check(const CalibrateOptions& options) {
    if (!(options.target >= 0 && options.target <= 1))
        fail(ErrorCode::InvalidArgument, "calibration target must lie in [0, 1], found ", options.target);
    if (!(options.confidence >= 0 && options.confidence < 1))
        fail(ErrorCode::InvalidArgument, "calibration confidence must lie in [0, 1), found ", options.confidence);
    if (options.max_accuracy_loss && !(*options.max_accuracy_loss >= 0 && *options.max_accuracy_loss <= 1))
        fail(ErrorCode::InvalidArgument, "calibration max_accuracy_loss must lie in [0, 1], found ", *options.max_accuracy_loss);
    if (options.accuracy_price && !(*options.accuracy_price >= 0 && std::isfinite(*options.accuracy_price)))
        fail(ErrorCode::InvalidArgument, "calibration accuracy_price must be finite and >= 0, found ", *options.accuracy_price);
}

/// Least number of acceptable answers among n prompts that meets the target; n + 1 where not even n do.
[[nodiscard]] inline std::size_t required_good(std::size_t n, const CalibrateOptions& options) {
    if (options.confidence > 0) return least_successes(n, options.target, options.confidence);
    // The slack forgives the rounding of e.g. 0.99 * 100.
    return static_cast<std::size_t>(std::ceil((std::max)(0.0, options.target * static_cast<double>(n) - 1e-9)));
}

/// What happens at a given threshold.
[[nodiscard]] inline Calibration measure(const Prompts& prompts, float threshold, const CalibrateOptions& options) {
    std::size_t good = 0, layers = 0, full = 0, early = 0, right = 0, right_at_end = 0;
    for (const ScoredPrompt* prompt : prompts) {
        std::size_t t = 0;
        while (t < prompt->scores.size() && !(prompt->scores[t] > threshold)) ++t;
        const bool stopped = t < prompt->scores.size();
        const std::size_t depth = stopped ? prompt->layers[t] : prompt->n_layers;
        good += (stopped ? prompt->good[t] != 0 : prompt->good_at_end) ? 1U : 0U;
        if (prompt->right.size() == prompt->scores.size()) {
            right += (stopped ? prompt->right[t] != 0 : prompt->right_at_end) ? 1U : 0U;
            right_at_end += prompt->right_at_end ? 1U : 0U;
        }
        layers += depth;
        full += prompt->n_layers;
        early += depth < prompt->n_layers ? 1U : 0U;
    }
    const double n = static_cast<double>(prompts.size());
    Calibration result;
    result.threshold = threshold;
    result.agreement = static_cast<double>(good) / n;
    result.accuracy_change = (static_cast<double>(right) - static_cast<double>(right_at_end)) / n;
    if (options.confidence > 0) result.lower_bound = success_lower_bound(good, prompts.size(), options.confidence);
    result.mean_layers = static_cast<double>(layers) / n;
    result.mean_full_layers = static_cast<double>(full) / n;
    result.exit_rate = static_cast<double>(early) / n;
    result.prompts = prompts.size();
    result.met = good >= required_good(prompts.size(), options);
    return result;
}

/// Lowering the threshold below `score` moves the exit of `prompt` forward to `step`.
struct Event {
    float score;
    std::size_t prompt, step;
};

/// Only a score above all earlier ones of its prompt can ever be the first above a threshold.
[[nodiscard]] inline std::vector<Event> exit_events(const Prompts& prompts) {
    std::vector<Event> events;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
        float highest = -std::numeric_limits<float>::infinity();
        for (std::size_t t = 0; t < prompts[p]->scores.size(); ++t)
            if (const float score = prompts[p]->scores[t]; score > highest) {
                events.push_back({score, p, t});
                highest = score;
            }
    }
    std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.score > b.score; });
    return events;
}

/// A threshold with lower <= threshold < upper, in the middle where floats allow.
[[nodiscard]] inline float between(float lower, float upper) noexcept {
    const auto middle = static_cast<float>(0.5 * (static_cast<double>(lower) + static_cast<double>(upper)));
    return middle >= lower && middle < upper ? middle : lower;
}

/// Sweeps the threshold from +infinity down over every value at which a prompt's exit moves. Depth only falls on the way,
/// but the share of acceptable answers can rise again, so the sweep goes to the end.
[[nodiscard]] inline Calibration run(const Prompts& prompts, const CalibrateOptions& options) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const std::vector<Event> events = exit_events(prompts);
    const std::size_t required = required_good(prompts.size(), options);
    std::size_t n_good = 0, n_right = 0, layers = 0;
    std::vector<std::uint8_t> good, right;
    std::vector<std::size_t> depth;
    for (const ScoredPrompt* prompt : prompts) {
        good.push_back(prompt->good_at_end ? 1 : 0);
        right.push_back(prompt->right_at_end ? 1 : 0);
        depth.push_back(prompt->n_layers);
        n_good += good.back();
        n_right += right.back();
        layers += depth.back();
    }
    const double loss = options.max_accuracy_loss.value_or(1.0) * static_cast<double>(prompts.size());
    const double required_right = static_cast<double>(n_right) - loss - 1e-9;
    // In layers of all prompts: a right answer is worth `price` times the mean depth of the model.
    const double price = options.accuracy_price.value_or(0) * static_cast<double>(layers) / static_cast<double>(prompts.size());
    const auto cost = [&] { return static_cast<double>(layers) - price * static_cast<double>(n_right); };
    float best = infinity;
    std::size_t best_good = n_good;
    double best_cost = cost();
    bool met = n_good >= required;
    for (std::size_t e = 0; e < events.size();) {
        const float score = events[e].score;
        for (; e < events.size() && !(events[e].score < score); ++e) {  // equal scores move together
            const auto [unused, p, t] = events[e];
            const std::uint8_t now = prompts[p]->good[t] != 0 ? 1 : 0;
            n_good = n_good + now - good[p];
            layers = layers + prompts[p]->layers[t] - depth[p];
            good[p] = now;
            if (needs_right(options)) {
                const std::uint8_t right_now = prompts[p]->right[t] != 0 ? 1 : 0;
                n_right = n_right + right_now - right[p];
                right[p] = right_now;
            }
            depth[p] = prompts[p]->layers[t];
        }
        if (n_good < required || static_cast<double>(n_right) < required_right) continue;
        // At equal cost the higher threshold stays, unless more answers are acceptable at the lower one.
        if (met && (cost() > best_cost || (cost() == best_cost && n_good <= best_good))) continue;
        met = true;
        best_good = n_good;
        best_cost = cost();
        best = e < events.size() ? between(events[e].score, score) : std::nextafter(score, -infinity);
    }
    return measure(prompts, best, options);
}

}  // namespace detail::calibrate

/// Share of prompts whose answer is acceptable at full depth: the accuracy of the dense model where `good` means right.
/// Throws Error like calibrate().
[[nodiscard]] inline double full_depth_share(std::span<const ScoredPrompt> prompts) {
    return detail::calibrate::measure(detail::calibrate::checked(prompts), std::numeric_limits<float>::infinity(), {}).agreement;
}

/// Share of acceptable answers, depth and exit rate of `prompts` at a given threshold; to report on prompts that were used
/// neither for training nor for calibration. Throws Error like calibrate().
[[nodiscard]] inline Calibration measure_threshold(std::span<const ScoredPrompt> prompts, float threshold,
                                                   const CalibrateOptions& options = {}) {
    detail::calibrate::check(options);
    if (std::isnan(threshold)) fail(ErrorCode::NotFinite, "calibration threshold is ", threshold);
    return detail::calibrate::measure(detail::calibrate::checked(prompts), threshold, options);
}

/// The threshold of least mean depth (or of least depth and accuracy lost, see CalibrateOptions::accuracy_price) among all that
/// meet the target on `prompts`, which must be held out from training.
/// Exact: every distinct outcome is looked at, in O(steps log steps); the threshold lies midway between the neighbouring
/// scores that change an outcome. +infinity where none meets the target.
/// Throws Error: InvalidArgument (no prompts, an option out of range, layers not ascending),
/// ShapeMismatch (layers, scores and good of different lengths), NotFinite (a score).
[[nodiscard]] inline Calibration calibrate(std::span<const ScoredPrompt> prompts, const CalibrateOptions& options = {}) {
    detail::calibrate::check(options);
    return detail::calibrate::run(detail::calibrate::checked(prompts, options), options);
}

/// calibrate() for the prompts of each group on their own: group -> calibration.
[[nodiscard]] inline std::map<int, Calibration> calibrate_per_group(std::span<const ScoredPrompt> prompts,
                                                                    const CalibrateOptions& options = {}) {
    detail::calibrate::check(options);
    std::map<int, detail::calibrate::Prompts> groups;
    for (const ScoredPrompt* prompt : detail::calibrate::checked(prompts, options)) groups[prompt->group].push_back(prompt);
    std::map<int, Calibration> calibrations;
    for (const auto& [group, members] : groups) calibrations[group] = detail::calibrate::run(members, options);
    return calibrations;
}

}  // namespace adainfer::inline v0
