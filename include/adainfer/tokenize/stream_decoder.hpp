#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

/// Turns tokens into text one at a time. A character may be spread over several tokens; what comes out is always
/// whole characters, with U+FFFD for bytes that cannot be part of one. For one thread; keeps a pointer to the
/// tokenizer, which must outlive it and stay in place.
class StreamDecoder {
  public:
    /// `from` as in Tokenizer::decode(): what a model generates goes on from its prompt, so its first space counts.
    explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false,
                           DecodeFrom from = DecodeFrom::Middle) noexcept
        : tokenizer_(&tokenizer), skip_special_(skip_special), from_(from), at_start_(from == DecodeFrom::Start) {}
    explicit StreamDecoder(Tokenizer&&, bool = false, DecodeFrom = DecodeFrom::Middle) = delete;

    /// The text that is complete with this token; often empty. Throws Error(UnknownToken) for an id outside the
    /// vocabulary, and then nothing has changed.
    [[nodiscard]] std::string push(TokenId id) {
        const std::string_view bytes = tokenizer_->token_bytes(id);
        if (skip_special_ && tokenizer_->is_special(id)) return {};
        tail_.append(bytes.substr(at_start_ ? tokenizer_->prefix_length(id) : 0));
        at_start_ = false;
        return take(false);
    }

    /// The rest, with U+FFFD for an incomplete character. The decoder is then as new.
    [[nodiscard]] std::string finish() {
        at_start_ = from_ == DecodeFrom::Start;
        return take(true);
    }

  private:
    /// Bytes of the sequence at `p` that fit the definition of UTF-8 so far.
    struct Prefix {
        std::size_t length;
        bool complete;
        bool cut_off;  ///< the text ends inside the sequence
    };

    [[nodiscard]] static Prefix prefix_at(const char* p, const char* end) noexcept {
        const std::uint32_t lead = detail::utf8::byte_at(p);
        const std::size_t length = detail::utf8::announced_length(lead);
        if (length == 1) return {1, true, false};
        if (length == 0 || lead < 0xC2U || lead > 0xF4U) return {1, false, false};
        for (std::size_t i = 1; i < length; ++i) {
            if (p + i == end) return {i, false, true};
            const std::uint32_t byte = detail::utf8::byte_at(p + i);
            // The second byte tells overlong forms, surrogates and what is beyond U+10FFFF.
            const bool narrow = i == 1 && ((lead == 0xE0U && byte < 0xA0U) || (lead == 0xEDU && byte > 0x9FU) ||
                                           (lead == 0xF0U && byte < 0x90U) || (lead == 0xF4U && byte > 0x8FU));
            if (narrow || !detail::utf8::is_continuation(byte)) return {i, false, false};
        }
        return {length, true, false};
    }

    std::string take(bool all) {
        std::string text;
        const char* p = tail_.data();
        const char* const end = p + tail_.size();
        while (p < end) {
            const Prefix prefix = prefix_at(p, end);
            if (prefix.cut_off && !all) break;
            if (prefix.complete) {
                text.append(p, prefix.length);
            } else {
                detail::utf8::append(text, detail::utf8::replacement);
            }
            p += prefix.length;
        }
        tail_.erase(0, static_cast<std::size_t>(p - tail_.data()));
        return text;
    }

    const Tokenizer* tokenizer_;
    bool skip_special_;
    DecodeFrom from_;
    bool at_start_;     ///< no text yet, and a space in front is not part of it
    std::string tail_;  ///< at most three bytes between calls
};

}  // namespace adainfer::inline v0
