#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/text_hash.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Hash from a token's text to its id. Keeps ids only and is given the texts at every call, so an object that
/// holds both can be copied and moved.
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
        // A look-up waits for memory: those of a block wait together.
        constexpr std::size_t block = 64;
        std::array<TextHash, block> hashes;
        for (std::size_t start = 0; start < texts.size(); start += block) {
            const std::size_t n = (std::min)(block, texts.size() - start);
            for (std::size_t i = 0; i < n; ++i) {
                hashes[i] = TextHash(texts[start + i]);
                __builtin_prefetch(&slots_[first_slot(hashes[i])]);
            }
            for (std::size_t i = 0; i < n; ++i) {
                const std::string& text = texts[start + i];
                if (text.empty()) continue;
                const auto id = static_cast<TokenId>(start + i);
                const auto same = [&](TokenId other) { return texts[static_cast<std::size_t>(other)] == text; };
                Slot& slot = slots_[find_slot(hashes[i], same)];
                if (slot.id != no_token) return Twins{slot.id, id};
                slot = {id, tag_of(hashes[i])};
            }
        }
        return std::nullopt;
    }

    /// The token whose text has this hash and for which `same(id)` says that it is the one looked for, or no_token.
    template <class Same>
    [[nodiscard]] TokenId find(TextHash hash, Same&& same) const {
        return slots_[find_slot(hash, same)].id;
    }

  private:
    struct Slot {
        TokenId id = no_token;
        std::uint32_t tag = 0;  ///< of the text's hash: most other texts need not be looked at
    };

    /// Bits of the hash that do not choose the slot.
    [[nodiscard]] static std::uint32_t tag_of(TextHash hash) noexcept {
        return static_cast<std::uint32_t>(hash.scattered() >> 32U);
    }

    [[nodiscard]] std::size_t first_slot(TextHash hash) const noexcept {
        return static_cast<std::size_t>(hash.scattered()) & (slots_.size() - 1);
    }

    template <class Same>
    [[nodiscard]] std::size_t find_slot(TextHash hash, Same&& same) const {
        std::size_t at = first_slot(hash);
        for (;; at = (at + 1) & (slots_.size() - 1)) {
            const Slot& slot = slots_[at];
            if (slot.id == no_token || (slot.tag == tag_of(hash) && same(slot.id))) return at;
        }
    }

    std::vector<Slot> slots_ = std::vector<Slot>(2);
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
