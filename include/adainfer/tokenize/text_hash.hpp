#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// A polynomial in the bytes of a text, modulo 2^64: the hash of two texts joined follows from those of the two.
class TextHash {
  public:
    TextHash() = default;

    explicit TextHash(std::string_view text) noexcept {
        for (const char& byte : text) add(byte);
    }

    /// Appends a byte to the text.
    void add(const char& byte) noexcept { value_ = value_ * multiplier + utf8::byte_at(&byte) + 1; }

    /// Of a text with another behind it; `power`: powers() at the number of bytes of that one.
    [[nodiscard]] TextHash joined(TextHash behind, std::uint64_t power) const noexcept {
        TextHash both;
        both.value_ = value_ * power + behind.value_;
        return both;
    }

    /// What joined() asks for, for 0 to `most` bytes.
    [[nodiscard]] static std::vector<std::uint64_t> powers(std::size_t most) {
        std::vector<std::uint64_t> result(most + 1, 1);
        for (std::size_t i = 0; i < most; ++i) result[i + 1] = result[i] * multiplier;
        return result;
    }

    /// The hash with every bit dependent on all of the text.
    [[nodiscard]] std::uint64_t scattered() const noexcept {
        const std::uint64_t mixed = (value_ ^ (value_ >> 32U)) * 0xD6E8FEB86659FD93ULL;
        return mixed ^ (mixed >> 32U);
    }

  private:
    static constexpr std::uint64_t multiplier = 0x9E3779B97F4A7C15ULL;

    std::uint64_t value_ = 0;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
