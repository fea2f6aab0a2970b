#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/types.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Hash from a token's text to its id. Keeps ids only and is given the texts at every call, so an object that
/// holds both can be copied and moved.
class TokenIndex {
  public:
    TokenIndex() = default;

    explicit TokenIndex(std::size_t tokens) : slots_(std::bit_ceil(tokens * 2 + 2)) {}

    /// Puts in token `id` of `texts`; returns the id that already has this text, or no_token.
    TokenId insert(const std::vector<std::string>& texts, TokenId id) {
        const std::size_t hash = hash_of(texts[static_cast<std::size_t>(id)]);
        Slot& slot = slots_[find_slot(texts, texts[static_cast<std::size_t>(id)], hash)];
        if (slot.id != no_token) return slot.id;
        slot = {id, tag_of(hash)};
        return no_token;
    }

    [[nodiscard]] TokenId find(const std::vector<std::string>& texts, std::string_view text) const noexcept {
        return slots_[find_slot(texts, text, hash_of(text))].id;
    }

  private:
    struct Slot {
        TokenId id = no_token;
        std::uint32_t tag = 0;  ///< of the text's hash: most other texts need not be looked at
    };

    [[nodiscard]] static std::size_t hash_of(std::string_view text) noexcept { return std::hash<std::string_view>{}(text); }

    /// Bits of the hash that do not choose the slot, where std::size_t has as many.
    [[nodiscard]] static std::uint32_t tag_of(std::size_t hash) noexcept {
        return static_cast<std::uint32_t>(std::uint64_t{hash} >> 32U);
    }

    [[nodiscard]] std::size_t find_slot(const std::vector<std::string>& texts, std::string_view text,
                                        std::size_t hash) const noexcept {
        const std::size_t mask = slots_.size() - 1;
        std::size_t at = hash & mask;
        for (;; at = (at + 1) & mask) {
            const Slot& slot = slots_[at];
            if (slot.id == no_token) return at;
            if (slot.tag == tag_of(hash) && texts[static_cast<std::size_t>(slot.id)] == text) return at;
        }
    }

    std::vector<Slot> slots_ = std::vector<Slot>(2);
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
