#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace adainfer::inline v0 {

/// Tokens whose name says what they are for. Many files mark them as ordinary or user-defined, and then text
/// typed by a user could end a turn; they count as control tokens whatever the file says.
namespace detail::special_names {

/// Generation ends here.
inline constexpr std::array<std::string_view, 9> ends = {
    "<|im_end|>",     "<|endoftext|>", "<|eot_id|>",        "<|end|>",
    "<end_of_turn>",  "<|eom_id|>",    "<|end_of_text|>",   "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};

/// Parts of a fill-in-the-middle prompt.
inline constexpr std::array<std::string_view, 18> infill = {
    "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>",       "<|repo_name|>",    "<|file_sep|>",
    "<fim_prefix>",   "<fim_suffix>",   "<fim_middle>",   "<fim_pad>",         "<reponame>",       "<fim-prefix>",
    "<fim-suffix>",   "<fim-middle>",   "<fim-pad>",      "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>",
};

/// Most tokens of a vocabulary are told from all of them by their first byte.
template <std::size_t n>
[[nodiscard]] constexpr bool is_among(const std::array<std::string_view, n>& names, std::string_view token) noexcept {
    return token.starts_with('<') && std::find(names.begin(), names.end(), token) != names.end();
}

[[nodiscard]] constexpr bool is_end(std::string_view token) noexcept { return is_among(ends, token); }

[[nodiscard]] constexpr bool is_control(std::string_view token) noexcept {
    return is_end(token) || is_among(infill, token);
}

}  // namespace detail::special_names

}  // namespace adainfer::inline v0
