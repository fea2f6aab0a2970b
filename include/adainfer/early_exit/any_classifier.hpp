#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "adainfer/early_exit/exit_classifier.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/per_layer.hpp"
#include "adainfer/early_exit/rbf_svm.hpp"

namespace adainfer::inline v0 {

/// A classifier chosen at run time, for programs whose user names the file of one; a program that knows it uses the type itself.
/// Satisfies the classifier interface described at LinearSvm, score() being told the layer.
class AnyClassifier {
    template <class... Cs>
    struct Of {
        using Variant = std::variant<Cs...>;
        template <class C>
        struct Slot {
            typename C::State state{};
        };
        using State = std::tuple<Slot<Cs>...>;
    };
    using All = Of<LinearSvm, LinearChainCrf, PerLayer<LinearSvm>, RbfSvm>;

  public:
    using Variant = All::Variant;
    using State = All::State;

    explicit AnyClassifier(Variant classifier)
        : threshold(std::visit([](const auto& c) { return c.threshold; }, classifier)), classifier_(std::move(classifier)) {}

    [[nodiscard]] std::string_view kind() const noexcept {
        return std::visit([](const auto& c) { return std::remove_cvref_t<decltype(c)>::kind; }, classifier_);
    }
    [[nodiscard]] std::size_t feature_count() const noexcept {
        return std::visit([](const auto& c) { return c.feature_count(); }, classifier_);
    }
    [[nodiscard]] State begin() const noexcept { return {}; }

    [[nodiscard]] float score(std::size_t layer, std::span<const float> features, State& state) const noexcept {
        return std::visit(
            [&]<class C>(const C& c) {
                return adainfer::score_after(c, layer, features, std::get<typename All::template Slot<C>>(state).state);
            },
            classifier_);
    }

    /// Throws as the classifier does.
    void validate(std::size_t n_features) const {
        std::visit([&](const auto& c) { c.validate(n_features); }, classifier_);
    }

    float threshold;

  private:
    Variant classifier_;
};

}  // namespace adainfer::inline v0
