#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

namespace adainfer::inline v0 {

namespace detail {
template <class C>
concept ScoresAlike = requires(const C& classifier, std::span<const float> features, typename C::State& state) {
    { classifier.score(features, state) } -> std::convertible_to<float>;
};

template <class C>
concept ScoresByLayer = requires(const C& classifier, std::size_t layer, std::span<const float> features,
                                 typename C::State& state) {
    { classifier.score(layer, features, state) } -> std::convertible_to<float>;
};
}  // namespace detail

/// What stands in the middle of AdaInferPolicy: a score from the features of one check, higher for "stop", and the threshold
/// above which it stops. State is what it remembers of the earlier checks of one inference. A classifier that judges layers
/// differently takes the number of layers that have run as the first argument of score(), see PerLayer. OPTIONAL: a nested type
/// Features, the FeatureList that it was made for; then it goes into no policy that reads others.
template <class C>
concept ExitClassifier = (detail::ScoresAlike<C> || detail::ScoresByLayer<C>) && requires(const C& classifier) {
    { classifier.threshold } -> std::convertible_to<float>;
    { classifier.feature_count() } -> std::convertible_to<std::size_t>;
};

namespace detail {
/// False where the classifier names the features that it was made for, and they are others.
template <class C, class Features>
inline constexpr bool reads_these = true;
template <class C, class Features>
    requires requires { typename C::Features; }
inline constexpr bool reads_these<C, Features> = std::is_same_v<typename C::Features, Features>;

/// Takes the place of a classifier that lacks something, so that the compiler has nothing to say beyond that.
struct StandInClassifier {
    struct State {};
    float threshold = 0;
    float score(std::span<const float>, State&) const noexcept { return 0; }
    std::size_t feature_count() const noexcept { return 0; }
};
}  // namespace detail

/// A classifier for a policy that reads these features.
template <class C, class Features>
concept ExitClassifierOf = ExitClassifier<C> && detail::reads_these<C, Features>;

/// Turns what a classifier lacks into one readable line.
template <class C, class Features>
consteval void require_classifier() {
    constexpr bool has_state = requires { typename C::State; };
    static_assert(has_state, "adainfer: the exit classifier lacks a nested type State (see ExitClassifier)");
    constexpr bool has_threshold = requires(const C& classifier) { { classifier.threshold } -> std::convertible_to<float>; };
    constexpr bool has_count = requires(const C& classifier) {
        { classifier.feature_count() } -> std::convertible_to<std::size_t>;
    };
    static_assert(!has_state || detail::ScoresAlike<C> || detail::ScoresByLayer<C>,
                  "adainfer: the exit classifier lacks 'float score(std::span<const float> features, State&) const' "
                  "(see ExitClassifier)");
    static_assert(has_threshold, "adainfer: the exit classifier lacks 'float threshold' (see ExitClassifier)");
    static_assert(has_count, "adainfer: the exit classifier lacks 'std::size_t feature_count() const' (see ExitClassifier)");
    static_assert(detail::reads_these<C, Features>,
                  "adainfer: the exit classifier was made for other features than the policy reads (its nested type Features)");
}

/// The score of the features of a check after `layer` layers.
template <class C>
[[nodiscard]] float score_after(const C& classifier, std::size_t layer, std::span<const float> features,
                                typename C::State& state) noexcept {
    if constexpr (detail::ScoresByLayer<C>) {
        return classifier.score(layer, features, state);
    } else {
        return classifier.score(features, state);
    }
}

}  // namespace adainfer::inline v0
