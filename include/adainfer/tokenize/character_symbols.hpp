#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Hash from a character, one to four bytes as first_character() cuts them, to the symbol that merging starts from.
class CharacterSymbols {
  public:
    CharacterSymbols() { ascii_.fill(no_token); }

    /// Requires that the character is not there yet and that it has at most four bytes.
    void insert(std::string_view character, TokenId symbol) {
        const std::uint32_t key = packed(character);
        if (key < ascii_.size()) {
            ascii_[key] = symbol;
            return;
        }
        if (++used_ * 2 > slots_.size()) grow();
        slots_[find_slot(key)] = {key, symbol};
    }

    /// The symbol, or no_token.
    [[nodiscard]] TokenId find(std::string_view character) const noexcept {
        const std::uint32_t key = packed(character);
        return key < ascii_.size() ? ascii_[key] : slots_[find_slot(key)].symbol;
    }

    [[nodiscard]] TokenId find_ascii(char c) const noexcept { return ascii_[utf8::byte_at(&c)]; }

  private:
    struct Slot {
        std::uint32_t key = 0;  ///< the bytes, the first one highest; 0: free
        TokenId symbol = no_token;
    };

    [[nodiscard]] static std::uint32_t packed(std::string_view character) noexcept {
        std::uint32_t key = 0;
        for (const char& c : character) key = (key << 8U) | utf8::byte_at(&c);
        return key;
    }

    [[nodiscard]] std::size_t find_slot(std::uint32_t key) const noexcept {
        const std::size_t mask = slots_.size() - 1;
        std::size_t slot = ((key * 0x9E3779B97F4A7C15ULL) >> 32U) & mask;
        while (slots_[slot].key != 0 && slots_[slot].key != key) slot = (slot + 1) & mask;
        return slot;
    }

    void grow() {
        std::vector<Slot> old(slots_.size() * 2);
        old.swap(slots_);
        for (const Slot& slot : old) {
            if (slot.key != 0) slots_[find_slot(slot.key)] = slot;
        }
    }

    std::array<TokenId, 128> ascii_{};
    std::vector<Slot> slots_ = std::vector<Slot>(64);
    std::size_t used_ = 0;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
