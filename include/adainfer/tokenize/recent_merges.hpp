#pragma once

#include <cstddef>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/merge_table.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// What pairs merged to when they were asked for last: a text asks for the same ones again and again.
class RecentMerges {
  public:
    /// The merge of a pair, from `find()` where it is not known.
    template <class Find>
    [[nodiscard]] Merge find(TokenId left, TokenId right, Find&& find) {
        if (const MergeSlot& slot = slot_of(left, right); slot.left == left && slot.right == right) return slot.merge;
        if (++missed_ > slots_.size() && slots_.size() < most) grow();
        return (slot_of(left, right) = {left, right, find()}).merge;
    }

  private:
    static constexpr std::size_t most = 65536;

    [[nodiscard]] MergeSlot& slot_of(TokenId left, TokenId right) noexcept {
        return slots_[static_cast<std::size_t>(merge_hash(left, right) >> shift_)];
    }

    /// A short text shall not wait for memory that only a long one needs.
    void grow() {
        std::vector<MergeSlot> old(slots_.size() * 4);
        old.swap(slots_);
        shift_ -= 2;
        for (const MergeSlot& slot : old) slot_of(slot.left, slot.right) = slot;
        missed_ = 0;
    }

    std::vector<MergeSlot> slots_ = std::vector<MergeSlot>(64);
    int shift_ = 58;
    std::size_t missed_ = 0;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
