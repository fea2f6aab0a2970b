#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/types.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Hash from a token's text to its id. Keeps ids only and is given the texts at every call, so an object that
/// holds both can be copied and moved. A look-up waits for memory twice, for the slot and for the text; many are done in
/// blocks, so that they wait together.
class TokenIndex {
  public:
    TokenIndex() = default;

    /// Two tokens of one text.
    struct Twins {
        TokenId first = no_token, second = no_token;
    };

    /// Puts in all texts but the empty ones. Stops at a text that is there already and returns the two.
    std::optional<Twins> fill(const std::vector<std::string>& texts) {
        slots_.assign(std::bit_ceil((std::max)(texts.size(), std::size_t{1}) * 2), {});
        std::array<std::size_t, block> hashes{};
        for (std::size_t start = 0; start < texts.size(); start += block) {
            const std::size_t n = (std::min)(block, texts.size() - start);
            for (std::size_t i = 0; i < n; ++i) hashes[i] = ask(texts[start + i]);
            for (std::size_t i = 0; i < n; ++i) {
                const std::string& text = texts[start + i];
                if (text.empty()) continue;
                const auto id = static_cast<TokenId>(start + i);
                Slot& slot = slots_[find_slot(texts, text, hashes[i])];
                if (slot.id != no_token) return Twins{slot.id, id};
                slot = {id, tag_of(hashes[i])};
            }
        }
        return std::nullopt;
    }

    /// The token of this text, or no_token.
    [[nodiscard]] TokenId find(const std::vector<std::string>& texts, std::string_view text) const noexcept {
        return slots_[find_slot(texts, text, hash_of(text))].id;
    }

    /// The same for every text of `wanted`. `ids` has as many elements.
    void find(const std::vector<std::string>& texts, std::span<const std::string_view> wanted,
              std::span<TokenId> ids) const noexcept {
        std::array<std::size_t, block> hashes{};
        for (std::size_t start = 0; start < wanted.size(); start += block) {
            const std::size_t n = (std::min)(block, wanted.size() - start);
            for (std::size_t i = 0; i < n; ++i) hashes[i] = ask(wanted[start + i]);
            for (std::size_t i = 0; i < n; ++i) {
                const Slot& slot = slots_[hashes[i] & mask()];
                if (slot.tag == tag_of(hashes[i]) && slot.id != no_token) __builtin_prefetch(&texts[static_cast<std::size_t>(slot.id)]);
            }
            for (std::size_t i = 0; i < n; ++i) ids[start + i] = slots_[find_slot(texts, wanted[start + i], hashes[i])].id;
        }
    }

  private:
    struct Slot {
        TokenId id = no_token;
        std::uint32_t tag = 0;  ///< of the text's hash: most other texts need not be looked at
    };

    static constexpr std::size_t block = 64;

    [[nodiscard]] static std::size_t hash_of(std::string_view text) noexcept { return std::hash<std::string_view>{}(text); }

    /// Bits of the hash that do not choose the slot, where std::size_t has as many.
    [[nodiscard]] static std::uint32_t tag_of(std::size_t hash) noexcept {
        return static_cast<std::uint32_t>(std::uint64_t{hash} >> 32U);
    }

    [[nodiscard]] std::size_t mask() const noexcept { return slots_.size() - 1; }

    /// The hash of a text; its slot is on its way from memory.
    [[nodiscard]] std::size_t ask(std::string_view text) const noexcept {
        const std::size_t hash = hash_of(text);
        __builtin_prefetch(&slots_[hash & mask()]);
        return hash;
    }

    [[nodiscard]] std::size_t find_slot(const std::vector<std::string>& texts, std::string_view text,
                                        std::size_t hash) const noexcept {
        std::size_t at = hash & mask();
        for (;; at = (at + 1) & mask()) {
            const Slot& slot = slots_[at];
            if (slot.id == no_token) return at;
            if (slot.tag == tag_of(hash) && texts[static_cast<std::size_t>(slot.id)] == text) return at;
        }
    }

    std::vector<Slot> slots_ = std::vector<Slot>(2);
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
