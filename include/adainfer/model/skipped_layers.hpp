#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// The layers that a model never runs, so that its sessions hold no K/V for them (ExitPolicy: skips). Here layers count from 0.
class SkippedLayers {
  public:
    SkippedLayers() = default;

    /// [layers]: true for each that is skipped. Throws InvalidArgument where none is left.
    explicit SkippedLayers(std::vector<bool> skipped) {
        const auto count = static_cast<std::size_t>(std::count(skipped.begin(), skipped.end(), true));
        if (count == skipped.size()) fail(ErrorCode::InvalidArgument, "the exit policy skips every layer of the model");
        if (count != 0) skipped_ = std::move(skipped);
    }

    [[nodiscard]] bool contains(std::size_t layer) const noexcept { return !skipped_.empty() && skipped_[layer]; }

    /// How many of the first `depth` layers run.
    [[nodiscard]] std::size_t run_of(std::size_t depth) const noexcept {
        std::size_t run = depth;
        for (std::size_t layer = 0; layer < depth; ++layer) run -= contains(layer) ? 1U : 0U;
        return run;
    }

    /// How many of the first `depth` layers there are up to the last that runs.
    [[nodiscard]] std::size_t last_of(std::size_t depth) const noexcept {
        while (depth != 0 && contains(depth - 1)) --depth;
        return depth;
    }

    /// For messages, counted from 1: "layers 3, 4", or "no layer".
    [[nodiscard]] std::string describe() const {
        std::string text;
        for (std::size_t layer = 0; layer < skipped_.size(); ++layer) {
            if (skipped_[layer]) text += (text.empty() ? "" : ", ") + std::to_string(layer + 1);
        }
        if (text.empty()) return "no layer";
        return (text.find(',') == std::string::npos ? "layer " : "layers ") + text;
    }

    friend bool operator==(const SkippedLayers&, const SkippedLayers&) = default;

  private:
    std::vector<bool> skipped_;  // [layers], or empty for none
};

}  // namespace adainfer::inline v0
