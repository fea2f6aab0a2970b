#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/model/exit_policy.hpp"

namespace adainfer::inline v0 {

namespace detail {
/// Hands on that a policy never exits.
template <class Policy>
struct ExitsLike {};
template <class Policy>
    requires requires { Policy::never_exits; }
struct ExitsLike<Policy> {
    static constexpr bool never_exits = true;
};
}  // namespace detail

/// Never runs some layers, in prompt and decode alike: the hidden state passes them by (ShortGPT, arXiv 2403.03853, section 3,
/// which removes those of least block influence; see block_influence()). In the layers that are left, `policy` may exit. Layers
/// count from 1 and keep their numbers.
///
/// K/V of other layers are other K/V: sessions are shared only between models that skip the same layers.
template <class Policy = NeverExit>
class SkipLayers : public detail::ReadsLike<Policy>, public detail::ExitsLike<Policy> {
  public:
    using State = typename Policy::State;
    using Readout = detail::ReadsThrough<Policy>;

    explicit SkipLayers(std::vector<std::size_t> layers, Policy policy = {})
        : detail::ReadsLike<Policy>(std::move(policy)), layers_(std::move(layers)) {
        std::sort(layers_.begin(), layers_.end());
    }

    /// Ascending.
    [[nodiscard]] const std::vector<std::size_t>& layers() const noexcept { return layers_; }

    [[nodiscard]] bool skips(std::size_t layer) const {
        return std::binary_search(layers_.begin(), layers_.end(), layer) || detail::ReadsLike<Policy>::skips(layer);
    }

    /// Throws InvalidArgument where the model has no such layer, else as the policy does.
    template <class Weights>
    void check_model(const Weights& weights) const {
        const std::size_t count = weights.config.layers;
        for (const std::size_t layer : layers_) {
            if (layer == 0 || layer > count) {
                fail(ErrorCode::InvalidArgument, "cannot skip layer ", layer, " of a model of ", count, " layers");
            }
        }
        detail::ReadsLike<Policy>::check_model(weights);
    }

    [[nodiscard]] bool wants(std::size_t layer) const { return this->part_.wants(layer); }
    [[nodiscard]] State start(std::size_t step) const { return adainfer::start_of(this->part_, step); }

    template <class Ask>
    ExitDecision consult(std::size_t, Ask&& ask, State& state) const {
        return ask(this->part_, state);
    }

    /// Passes the policy's own hindsight on.
    [[nodiscard]] std::size_t hindsight(const State& state, TokenId final_token, std::size_t layers) const
        requires requires(const Policy& p) { p.hindsight(state, final_token, layers); }
    {
        return this->part_.hindsight(state, final_token, layers);
    }

  private:
    std::vector<std::size_t> layers_;
};

}  // namespace adainfer::inline v0
