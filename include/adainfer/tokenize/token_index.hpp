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

namespace detail::bpe {

/// Hash from a token's text to its id. Keeps ids only and is given the texts at every call, so an object that
/// holds both can be copied and moved.
class TokenIndex {
  public:
    TokenIndex() = default;

    explicit TokenIndex(std::size_t tokens) : slots_(std::bit_ceil(tokens * 2 + 2), no_token) {}

    /// Puts in token `id` of `texts`; returns the id that already has this text, or no_token.
    TokenId insert(const std::vector<std::string>& texts, TokenId id) {
        const std::size_t slot = find_slot(texts, texts[static_cast<std::size_t>(id)]);
        if (slots_[slot] != no_token) return slots_[slot];
        slots_[slot] = id;
        return no_token;
    }

    [[nodiscard]] TokenId find(const std::vector<std::string>& texts, std::string_view text) const noexcept {
        return slots_[find_slot(texts, text)];
    }

  private:
    [[nodiscard]] std::size_t find_slot(const std::vector<std::string>& texts, std::string_view text) const noexcept {
        const std::size_t mask = slots_.size() - 1;
        std::size_t slot = std::hash<std::string_view>{}(text) & mask;
        while (slots_[slot] != no_token && texts[static_cast<std::size_t>(slots_[slot])] != text) {
            slot = (slot + 1) & mask;
        }
        return slot;
    }

    std::vector<TokenId> slots_ = std::vector<TokenId>(2, no_token);
};

}  // namespace detail::bpe

}  // namespace adainfer::inline v0
