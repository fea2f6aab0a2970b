#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/reading.hpp"

// A feature is a struct of three members: its name in policy files, what it needs, and how it is read. Add your own so.

namespace adainfer::inline v0 {

/// P(top) - P(second) (AdaInfer, arXiv 2403.02181, section 3.2).
struct Gap {
    static constexpr std::string_view name = "gap";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return r.top.top_probability - r.top.second_probability; }
};

/// P(top) (AdaInfer, section 3.2).
struct TopProb {
    static constexpr std::string_view name = "top_prob";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return r.top.top_probability; }
};

/// Entropy of the distribution, nats.
struct Entropy {
    static constexpr std::string_view name = "entropy";
    static constexpr Needs needs = Needs::Entropy;
    static float read(const Reading& r) noexcept { return r.top.entropy; }
};

/// 1 where the top token is that of the check before, else 0.
struct SameTopAsPrevious {
    static constexpr std::string_view name = "same_top";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return r.token == r.previous_token ? 1.0F : 0.0F; }
};

/// Share of the layers that have run.
struct LayerFraction {
    static constexpr std::string_view name = "layer_fraction";
    static constexpr Needs needs = Needs::Hidden;
    static float read(const Reading& r) noexcept { return static_cast<float>(r.layer) / static_cast<float>(r.layers); }
};

/// Cosine of the hidden states before and after the layer just run.
struct HiddenCosine {
    static constexpr std::string_view name = "hidden_cosine";
    static constexpr Needs needs = Needs::Hidden;
    static float read(const Reading& r) noexcept { return cosine(r.hidden.data(), r.previous_hidden.data(), r.hidden.size()); }
};

/// Root mean square of the lens output. A linear lens predicts the final state by regression, so its output shrinks where
/// it is unsure.
struct LensNorm {
    static constexpr std::string_view name = "lens_norm";
    static constexpr Needs needs = Needs::Lens;
    static float read(const Reading& r) noexcept {
        return std::sqrt(dot(r.lens.data(), r.lens.data(), r.lens.size()) / static_cast<float>(r.lens.size()));
    }
};

/// Cosine of the lens output with that of the check before; 0 at the first check.
struct LensShift {
    static constexpr std::string_view name = "lens_shift";
    static constexpr Needs needs = Needs::Lens;
    static float read(const Reading& r) noexcept {
        return r.previous_lens.empty() ? 0.0F : cosine(r.lens.data(), r.previous_lens.data(), r.lens.size());
    }
};

/// The top token's id, for policies that compare answers (exact up to 2^24).
struct TopToken {
    static constexpr std::string_view name = "top_token";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return static_cast<float>(r.token); }
};

/// What a policy reads at a check, in this order.
template <class... Fs>
struct FeatureList {
    static_assert(sizeof...(Fs) > 0, "adainfer: a feature list needs at least one feature");

    static constexpr std::size_t size = sizeof...(Fs);
    static constexpr Needs needs = (std::max)({Fs::needs...});

    /// One number a feature.
    class Values {
      public:
        explicit Values(const std::array<float, size>& values) noexcept : values_(values) {}

        /// The value of feature F of the list.
        template <class F>
        [[nodiscard]] float get() const noexcept {
            static_assert((std::is_same_v<F, Fs> || ...), "adainfer: the feature is not in the policy's FeatureList");
            std::size_t i = 0;
            static_cast<void>(((std::is_same_v<F, Fs> ? true : (++i, false)) || ...));
            return values_[i];
        }

        /// All values, in the order of the list.
        [[nodiscard]] const std::array<float, size>& all() const noexcept { return values_; }

      private:
        std::array<float, size> values_;
    };

    [[nodiscard]] static Values read(const Reading& reading) noexcept { return Values({Fs::read(reading)...}); }

    [[nodiscard]] static std::vector<std::string> names() { return {std::string(Fs::name)...}; }
};

/// The two numbers of the paper.
using PaperFeatures = FeatureList<Gap, TopProb>;

/// The paper's two and the depth: the share that helped most, see README, "What helped".
using DepthFeatures = FeatureList<Gap, TopProb, LayerFraction>;

/// Every built-in number that a check through a linear lens can give.
using WideFeatures = FeatureList<Gap, TopProb, Entropy, SameTopAsPrevious, LayerFraction, LensNorm, LensShift>;

}  // namespace adainfer::inline v0
