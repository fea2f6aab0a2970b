#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/readout.hpp"

namespace adainfer::inline v0 {

/// The depth of each token of a generation, falling linearly from `most` layers at step 0 to `fewest` at step `length`, and
/// no further.
struct DepthSchedule {
    std::size_t fewest = 1, most = 1;  ///< layers run, 1 to the model's
    std::size_t length = 128;          ///< steps, 1 or more

    [[nodiscard]] std::size_t at(std::size_t step) const noexcept {
        return most - (most - fewest) * (std::min)(step, length) / length;
    }
};

/// Exits at a depth that depends on nothing but the step of the generation and never grows, so that a token finds the K/V of
/// every earlier one computed at least as deep as it goes itself, and a batch of sequences in step exits together. Computes
/// no features.
///
/// The schedule is that of SkipDecode (arXiv 2307.02628, section 3); the layers left out here are the last ones, as in
/// every policy of this library, where SkipDecode leaves out earlier ones.
template <class Lens = LogitLens, class Head = CandidateHead>
class SkipDecode : public ReadsWith<Lens, Head> {
  public:
    struct State {
        std::size_t step = 0;
    };
    struct Features {
        struct Values {};
    };

    /// Throws InvalidArgument unless 1 <= fewest <= most <= 10000 and 1 <= length <= 2^32.
    explicit SkipDecode(DepthSchedule depth, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), depth_(depth) {
        if (depth.fewest == 0 || depth.fewest > depth.most || depth.most > 10'000) {
            fail(ErrorCode::InvalidArgument, "the depths of SkipDecode must be 1 <= fewest <= most <= 10000, found ",
                 depth.fewest, " and ", depth.most);
        }
        if (depth.length == 0 || depth.length > (std::size_t{1} << 32U)) {
            fail(ErrorCode::InvalidArgument, "the length of SkipDecode must be 1 to 2^32 steps, found ", depth.length);
        }
    }

    /// Throws InvalidArgument where the model has fewer layers than the first step runs, or the lens cannot read the
    /// shallowest exit; else as the lens does.
    template <class Weights>
    void check_model(const Weights& weights) const {
        ReadsWith<Lens, Head>::check_model(weights);
        const std::size_t layers = weights.config.layers;
        if (depth_.most > layers) {
            fail(ErrorCode::InvalidArgument, "SkipDecode begins with ", depth_.most, " layers, the model has ", layers);
        }
        if (depth_.fewest < layers && !this->lens().reads(depth_.fewest)) {
            fail(ErrorCode::InvalidArgument, "SkipDecode ends with ", depth_.fewest,
                 " layers: the lens cannot read the state there");
        }
    }

    [[nodiscard]] const DepthSchedule& depth() const noexcept { return depth_; }

    [[nodiscard]] State start(std::size_t step) const noexcept { return {step}; }

    [[nodiscard]] bool wants(std::size_t layer) const { return layer >= depth_.fewest && ReadsWith<Lens, Head>::wants(layer); }

    /// At the depth of this step, or at the next one that the lens reads.
    [[nodiscard]] ExitDecision decide(std::size_t layer, const typename Features::Values&, State& state) const noexcept {
        return layer >= depth_.at(state.step) ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    DepthSchedule depth_;
};

}  // namespace adainfer::inline v0
