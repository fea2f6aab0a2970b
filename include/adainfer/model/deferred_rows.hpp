#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// The positions of a session whose K/V rows DeferredExact has left out above some depth, with the hidden state from which each
/// goes on: the ledger of how deep every position is valid.
///
/// To run a token at a layer, all positions before it must have passed that layer. So depth never rises with the position, and
/// the rows are always the last ones of the session. Memory: [capacity, hidden] floats, reserved at the first row and touched as
/// far as there ever are rows.
class DeferredRows {
  public:
    [[nodiscard]] bool empty() const noexcept { return depths_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return depths_.size(); }

    /// The first of the positions.
    [[nodiscard]] std::size_t first() const noexcept { return first_; }

    /// Layers that the position has run, counted from the first layer of the model. Precondition: it is one of the rows.
    [[nodiscard]] std::size_t depth(std::size_t position) const noexcept { return depths_[position - first_]; }

    /// Its hidden state [hidden] after those layers.
    [[nodiscard]] std::span<const float> state(std::size_t position) const noexcept {
        return {states_.data() + (position - first_) * hidden_, hidden_};
    }

    /// Adds the position after the last one, at most as deep as that one; `capacity` is the session's. Where it throws
    /// (bad_alloc), nothing has changed.
    void push(std::size_t position, std::size_t depth, std::span<const float> state, std::size_t capacity) {
        depths_.reserve(capacity);
        states_.reserve(capacity * state.size());
        if (empty()) first_ = position;
        hidden_ = state.size();
        depths_.push_back(depth);
        states_.insert(states_.end(), state.begin(), state.end());
    }

    /// The positions from `position` to `position + states.rows() - 1` have run `depth` layers and stand at these states
    /// [rows, hidden]. Precondition: they are rows.
    void raise(std::size_t position, std::size_t depth, MatrixView<const float> states) noexcept {
        for (std::size_t t = 0; t < states.rows(); ++t) {
            const std::size_t row = position - first_ + t;
            depths_[row] = depth;
            std::copy_n(states.row(t).data(), hidden_, states_.data() + row * hidden_);
        }
    }

    /// Forgets the positions from `length` on.
    void truncate(std::size_t length) noexcept {
        const std::size_t kept = length > first_ ? (std::min)(length - first_, size()) : 0;
        depths_.resize(kept);
        states_.resize(kept * hidden_);
    }

  private:
    std::size_t first_ = 0, hidden_ = 0;
    std::vector<std::size_t> depths_;
    std::vector<float> states_;
};

}  // namespace adainfer::inline v0
