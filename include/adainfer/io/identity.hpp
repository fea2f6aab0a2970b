#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// Incremental 64-bit FNV-1a, for telling files apart, not for security.
class Fingerprint {
  public:
    Fingerprint& add(std::span<const std::byte> bytes) noexcept {
        for (const std::byte byte : bytes) hash_ = (hash_ ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3U;
        return *this;
    }
    Fingerprint& add(std::string_view text) noexcept {
        return add(std::as_bytes(std::span(text.data(), text.size()))).add(std::uint64_t{text.size()});
    }
    Fingerprint& add(std::uint64_t number) noexcept { return add(std::as_bytes(std::span(&number, 1))); }

    /// The first and the last `most` bytes and the size: enough to tell weights apart without reading them all.
    Fingerprint& add_ends(std::span<const std::byte> bytes, std::size_t most = 256) noexcept {
        const std::size_t n = (std::min)(most, bytes.size());
        return add(std::uint64_t{bytes.size()}).add(bytes.first(n)).add(bytes.last(n));
    }

    /// 16 hexadecimal digits.
    [[nodiscard]] std::string text() const {
        constexpr std::string_view digits = "0123456789abcdef";
        std::string result(16, '0');
        for (std::size_t i = 0; i < 16; ++i) result[i] = digits[(hash_ >> (60 - 4 * i)) & 15U];
        return result;
    }

  private:
    std::uint64_t hash_ = 0xCBF29CE484222325U;
};

}  // namespace adainfer::inline v0
