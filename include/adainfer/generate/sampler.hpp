#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/kernels/vector_math.hpp"

namespace adainfer::inline v0 {

/// How a token is drawn from logits. The steps run in this order, which is that of Hugging Face's `generate`: temperature,
/// top_k, top_p, min_p. (llama.cpp applies the temperature last: there top_p and min_p see unscaled probabilities.)
struct SamplingOptions {
    float temperature = 0;  ///< logits are divided by it; 0: greedy, the largest logit, and the rest is ignored
    std::size_t top_k = 0;  ///< only the k largest logits; 0: all
    float top_p = 1;        ///< only the likeliest tokens that together reach this probability, (0, 1]
    float min_p = 0;        ///< only tokens at least this fraction as likely as the likeliest, [0, 1]
};

/// Throws InvalidArgument, naming the option that is out of range.
inline void validate(const SamplingOptions& options) {
    if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
        fail(ErrorCode::InvalidArgument, "temperature must be finite and at least 0, found ", options.temperature);
    }
    if (!(options.top_p > 0 && options.top_p <= 1)) {
        fail(ErrorCode::InvalidArgument, "top_p must be in (0, 1], found ", options.top_p);
    }
    if (!(options.min_p >= 0 && options.min_p <= 1)) {
        fail(ErrorCode::InvalidArgument, "min_p must be in [0, 1], found ", options.min_p);
    }
}

namespace detail {
/// A number in [0, 1) from as many draws as give 53 bits. The distributions of <random> differ between standard libraries;
/// this does not.
template <std::uniform_random_bit_generator G>
[[nodiscard]] double uniform(G& generator) {
    constexpr double range = static_cast<double>((G::max)() - (G::min)()) + 1.0;
    double value = 0, scale = 1;
    do {
        value += static_cast<double>(generator() - (G::min)()) * scale;
        scale *= range;
    } while (scale < 0x1p53);
    return (std::min)(value / scale, 1.0 - 0x1p-53);
}
}  // namespace detail

/// Draws tokens and keeps its scratch, so that the second draw from a row of the same size allocates nothing. For one thread
/// at a time.
///
/// Equal logits and an equal state of the generator give an equal token, whatever the standard library. (Logits themselves
/// differ in their last bits between backends and compilers.)
class Sampler {
  public:
    /// Throws InvalidArgument as validate() does.
    explicit Sampler(const SamplingOptions& options = {}) : options_(options) { validate(options); }

    [[nodiscard]] const SamplingOptions& options() const noexcept { return options_; }

    /// The index of the drawn logit; of equal logits the lower index is the likelier to stay. Greedy draws nothing from the
    /// generator. Throws NotFinite (NaN or +infinity; -infinity is a logit that is never drawn), InvalidArgument (empty row).
    template <std::uniform_random_bit_generator G>
    [[nodiscard]] TokenId operator()(std::span<const float> logits, G& generator) {
        const std::size_t top = top_index(logits);
        if (options_.temperature == 0) return static_cast<TokenId>(top);

        scale(logits, logits[top]);
        if (options_.top_k != 0 && options_.top_k < items_.size()) {
            const auto kept = static_cast<std::ptrdiff_t>(options_.top_k);
            std::partial_sort(items_.begin(), items_.begin() + kept, items_.end(), likelier);
            items_.resize(options_.top_k);
        }
        const double enough = options_.top_p < 1 ? static_cast<double>(options_.top_p) * total() : 0;
        // The tokens that pass min_p are the first ones in order of likelihood, as are those that pass top_p: dropping them
        // first leaves less to order.
        std::erase_if(items_, [&](const Item& item) { return item.weight < options_.min_p; });
        if (options_.top_p < 1) keep_top(enough);

        const double target = detail::uniform(generator) * total();
        double sum = 0;
        for (const Item& item : items_) {
            sum += static_cast<double>(item.weight);
            if (sum > target) return item.index;
        }
        return items_.back().index;  // the sum of all may round to the target
    }

  private:
    struct Item {
        float weight;  // probability relative to the likeliest token's
        TokenId index;
    };

    static bool likelier(const Item& a, const Item& b) noexcept {
        return a.weight != b.weight ? a.weight > b.weight : a.index < b.index;
    }

    void scale(std::span<const float> logits, float largest) {
        items_.resize(logits.size());
        for (std::size_t i = 0; i < logits.size(); ++i) {
            items_[i] = {exp_approx((logits[i] - largest) / options_.temperature), static_cast<TokenId>(i)};
        }
    }

    [[nodiscard]] double total() const noexcept {
        double sum = 0;
        for (const Item& item : items_) sum += static_cast<double>(item.weight);
        return sum;
    }

    /// Keeps the likeliest items, in order, until their weights reach `enough`. A heap, because few are wanted of many.
    void keep_top(double enough) {
        const auto less_likely = [](const Item& a, const Item& b) { return likelier(b, a); };
        std::make_heap(items_.begin(), items_.end(), less_likely);
        auto end = items_.end();
        for (double sum = 0; end != items_.begin() && sum < enough; --end) {
            sum += static_cast<double>(items_.front().weight);
            std::pop_heap(items_.begin(), end, less_likely);
        }
        std::reverse(end, items_.end());  // popped from the back: likeliest last
        items_.erase(items_.begin(), end);
    }

    SamplingOptions options_;
    std::vector<Item> items_;
};

/// One draw. Throws as Sampler does. To draw many, keep a Sampler: it reuses its memory.
template <std::uniform_random_bit_generator G>
[[nodiscard]] TokenId sample(std::span<const float> logits, const SamplingOptions& options, G& generator) {
    return Sampler(options)(logits, generator);
}

}  // namespace adainfer::inline v0
