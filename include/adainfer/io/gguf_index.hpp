#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace adainfer::inline v0::detail::gguf {

/// From names to their positions in a list that is kept elsewhere: name_of(i) returns the name at position i. Hashes
/// in sorted order rather than a hash table: names that were made to collide cost n log n, not n^2.
class NameIndex {
  public:
    /// Indexes positions [0, count). Returns the position of a name that is there twice, if one is.
    template <class NameOf>
    std::optional<std::size_t> build(std::size_t count, const NameOf& name_of) {
        slots_.resize(count);
        for (std::size_t i = 0; i < count; ++i) slots_[i] = {hash(name_of(i)), i};
        std::sort(slots_.begin(), slots_.end(), [&](const Slot& a, const Slot& b) {
            return a.hash != b.hash ? a.hash < b.hash : name_of(a.position) < name_of(b.position);
        });
        const auto twice = std::adjacent_find(slots_.begin(), slots_.end(), [&](const Slot& a, const Slot& b) {
            return a.hash == b.hash && name_of(a.position) == name_of(b.position);
        });
        return twice == slots_.end() ? std::nullopt : std::optional<std::size_t>(twice->position);
    }

    template <class NameOf>
    [[nodiscard]] std::optional<std::size_t> find(std::string_view name, const NameOf& name_of) const noexcept {
        const std::uint64_t wanted = hash(name);
        auto slot = std::lower_bound(slots_.begin(), slots_.end(), wanted, [&](const Slot& a, std::uint64_t value) {
            return a.hash != value ? a.hash < value : name_of(a.position) < name;
        });
        if (slot == slots_.end() || slot->hash != wanted || name_of(slot->position) != name) return std::nullopt;
        return slot->position;
    }

  private:
    struct Slot {
        std::uint64_t hash;
        std::size_t position;
    };

    /// FNV-1a.
    static std::uint64_t hash(std::string_view name) noexcept {
        std::uint64_t value = 0xCBF29CE484222325U;
        for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
        return value;
    }

    std::vector<Slot> slots_;
};

}  // namespace adainfer::inline v0::detail::gguf
