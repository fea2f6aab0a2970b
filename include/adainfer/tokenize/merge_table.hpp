#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "adainfer/core/types.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

inline constexpr std::uint32_t no_rank = (std::numeric_limits<std::uint32_t>::max)();

/// What two neighbours merge to, and how early. `rank` is no_rank where they do not merge.
struct Merge {
    std::uint32_t rank = no_rank;
    TokenId token = no_token;
};

/// A pair of token ids and their merge; no_token twice: none yet.
struct MergeSlot {
    TokenId left = no_token, right = no_token;
    Merge merge;
};

/// Multiplicative hashing of a pair: the high bits depend on both ids.
[[nodiscard]] inline std::uint64_t merge_hash(TokenId left, TokenId right) noexcept {
    const std::uint64_t high = static_cast<std::uint32_t>(left);
    const std::uint64_t key = (high << 32U) | static_cast<std::uint32_t>(right);
    return (key ^ (key >> 29U)) * 0x9E3779B97F4A7C15ULL;
}

/// Hash from a pair of token ids to their merge.
class MergeTable {
  public:
    MergeTable() = default;

    explicit MergeTable(std::size_t merges)
        : slots_(std::bit_ceil(merges * 3 / 2 + 2)), shift_(64 - std::countr_zero(slots_.size())) {}

    /// False, and nothing changed, where the pair is there already.
    bool insert(TokenId left, TokenId right, Merge merge) noexcept {
        MergeSlot& slot = slots_[find_slot(left, right)];
        if (slot.left != no_token) return false;
        slot = {left, right, merge};
        return true;
    }

    /// Ids outside the vocabulary, no_token among them, merge with nothing.
    [[nodiscard]] Merge find(TokenId left, TokenId right) const noexcept {
        return slots_[find_slot(left, right)].merge;
    }

  private:
    [[nodiscard]] std::size_t find_slot(TokenId left, TokenId right) const noexcept {
        const std::size_t mask = slots_.size() - 1;
        std::size_t slot = static_cast<std::size_t>(merge_hash(left, right) >> shift_);
        while (slots_[slot].left != no_token && (slots_[slot].left != left || slots_[slot].right != right)) {
            slot = (slot + 1) & mask;
        }
        return slot;
    }

    std::vector<MergeSlot> slots_ = std::vector<MergeSlot>(2);
    int shift_ = 63;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
