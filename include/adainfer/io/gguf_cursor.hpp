#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0::detail::gguf {

static_assert(std::endian::native == std::endian::little, "files are read as little-endian bytes");

/// Whether the text is well-formed UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF.
[[nodiscard]] inline bool is_utf8(std::string_view text) noexcept {
    const auto byte_at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    std::size_t i = 0;
    while (i < text.size()) {
        const unsigned lead = byte_at(i);
        if (lead < 0x80) {
            ++i;
            continue;
        }
        const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
        if (lead < 0xC2 || lead > 0xF4 || text.size() - i < length) return false;
        // Only the second byte has bounds that depend on the first.
        const unsigned lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        const unsigned highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (byte_at(i + 1) < lowest || byte_at(i + 1) > highest) return false;
        for (std::size_t k = 2; k < length; ++k)
            if (byte_at(i + k) < 0x80 || byte_at(i + k) > 0xBF) return false;
        i += length;
    }
    return true;
}

/// A little-endian number at an address without alignment.
template <class T>
[[nodiscard]] T load_number(const std::byte* bytes) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    T number;
    std::memcpy(&number, bytes, sizeof number);
    return number;
}

/// Reads a file's header front to back and never past its end. Does not own the bytes or the name.
class Cursor {
  public:
    Cursor(std::span<const std::byte> bytes, std::string_view name) noexcept : bytes_(bytes), name_(name) {}

    [[nodiscard]] std::size_t position() const noexcept { return position_; }
    [[nodiscard]] std::size_t left() const noexcept { return bytes_.size() - position_; }

    template <class T>
    [[nodiscard]] T number(std::string_view what) {
        return load_number<T>(take(sizeof(T), what));
    }

    /// A 64-bit length and that many bytes. The view is into the file.
    [[nodiscard]] std::string_view string(std::string_view what) {
        const auto length = number<std::uint64_t>(what);
        return {reinterpret_cast<const char*>(take(length, what)), static_cast<std::size_t>(length)};
    }

    /// Steps over `count` bytes and returns where they begin. Throws Error (CorruptFile) where fewer are left.
    const std::byte* take(std::uint64_t count, std::string_view what) {
        if (count > left())
            corrupt("cut short: ", what, " needs ", count, " bytes at byte ", position_, ", ", left(), " are left");
        const std::byte* const begin = bytes_.data() + position_;
        position_ += static_cast<std::size_t>(count);
        return begin;
    }

    template <class... Parts>
    [[noreturn]] void corrupt(const Parts&... parts) const {
        fail(ErrorCode::CorruptFile, "'", name_, "': ", parts...);
    }

    template <class... Parts>
    [[noreturn]] void unsupported(const Parts&... parts) const {
        fail(ErrorCode::Unsupported, "'", name_, "': ", parts...);
    }

  private:
    std::span<const std::byte> bytes_;
    std::string_view name_;
    std::size_t position_ = 0;
};

}  // namespace adainfer::inline v0::detail::gguf
