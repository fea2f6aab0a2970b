#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// SentencePiece's precompiled_charsmap: byte strings and what they are replaced with, the longest first. Four bytes tell the
/// size of a double array in the layout of the library Darts-clone (32-bit units, little-endian); the replacements follow,
/// each ended by a zero byte, and the array's values are their places.
class Charsmap {
  public:
    Charsmap() = default;

    /// Throws Error(CorruptFile) where the sizes do not fit. Empty bytes are a map of nothing.
    explicit Charsmap(std::string bytes) : bytes_(std::move(bytes)) {
        if (bytes_.empty()) return;
        const std::size_t size = bytes_.size() < 4 ? 0 : word_at(0);
        if (size < 4 || size % 4 != 0 || size > bytes_.size() - 4 || (size < bytes_.size() - 4 && bytes_.back() != '\0')) {
            fail(ErrorCode::CorruptFile, "a precompiled_charsmap of ", bytes_.size(), " bytes with an array of ", size);
        }
        units_ = size / 4;
    }

    [[nodiscard]] bool empty() const noexcept { return units_ == 0; }

    /// Appends the text with everything replaced.
    void apply(std::string_view text, std::string& out) const {
        while (!text.empty()) {
            std::size_t length = 0;
            std::string_view replacement;
            find(text, length, replacement);
            if (length == 0) {
                length = first_character(text).size();
                replacement = text.substr(0, length);
            }
            out.append(replacement);
            text.remove_prefix(length);
        }
    }

  private:
    [[nodiscard]] std::uint32_t word_at(std::size_t at) const noexcept {
        std::uint32_t word = 0;
        for (std::size_t i = 4; i-- > 0;) word = (word << 8U) | utf8::byte_at(&bytes_[at + i]);
        return word;
    }

    /// A unit of the array; 0, which is nobody's child, outside it.
    [[nodiscard]] std::uint32_t unit(std::size_t index) const noexcept {
        return index < units_ ? word_at(4 + index * 4) : 0;
    }

    /// How far a node's children are from it, by exclusive or.
    [[nodiscard]] static std::uint32_t offset(std::uint32_t unit) noexcept {
        return (unit >> 10U) << ((unit & (1U << 9U)) >> 6U);
    }

    /// The longest entry that the text starts with; length stays 0 where there is none.
    void find(std::string_view text, std::size_t& length, std::string_view& replacement) const noexcept {
        std::size_t node = offset(unit(0));
        for (std::size_t i = 0; i < text.size(); ++i) {
            const std::uint32_t byte = utf8::byte_at(&text[i]);
            node ^= byte;
            const std::uint32_t here = unit(node);
            if (byte == 0 || (here & 0x800000FFU) != byte) return;
            node ^= offset(here);
            if ((here & 0x100U) == 0) continue;
            const std::size_t at = 4 + units_ * 4 + (unit(node) & 0x7FFFFFFFU);
            if (at >= bytes_.size()) return;  // points outside: as if it were not there
            length = i + 1;
            replacement = bytes_.c_str() + at;
        }
    }

    std::string bytes_;
    std::size_t units_ = 0;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
