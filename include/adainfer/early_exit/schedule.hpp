#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// After which layers a policy is asked. By default after each.
class Schedule {
  public:
    Schedule() = default;

    /// After layers first, first + stride, ...; stride 0 counts as 1.
    static Schedule every(std::size_t stride, std::size_t first = 1) {
        Schedule schedule;
        schedule.first_ = first;
        schedule.stride_ = (std::max)(stride, std::size_t{1});
        return schedule;
    }

    /// After these layers only.
    static Schedule only(std::vector<std::size_t> layers) {
        Schedule schedule;
        schedule.listed_ = true;
        std::sort(layers.begin(), layers.end());
        schedule.layers_ = std::move(layers);
        return schedule;
    }

    [[nodiscard]] bool contains(std::size_t layer) const noexcept {
        if (listed_) return std::binary_search(layers_.begin(), layers_.end(), layer);
        return layer >= first_ && (layer - first_) % stride_ == 0;
    }

    /// The layers below `layers` that the schedule contains.
    [[nodiscard]] std::vector<std::size_t> layers(std::size_t layers) const {
        std::vector<std::size_t> result;
        for (std::size_t layer = 1; layer < layers; ++layer) {
            if (contains(layer)) result.push_back(layer);
        }
        return result;
    }

  private:
    std::size_t first_ = 1, stride_ = 1;
    bool listed_ = false;
    std::vector<std::size_t> layers_;
};

}  // namespace adainfer::inline v0
