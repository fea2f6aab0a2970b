#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace adainfer::inline v0::detail::gguf {

/// The metadata keys of a model that is split over several files, and the most parts that their names can count.
inline constexpr std::string_view split_count_key = "split.count";
inline constexpr std::string_view split_number_key = "split.no";  // from 0
inline constexpr std::string_view split_tensors_key = "split.tensors.count";
inline constexpr std::uint64_t most_split_parts = 65535;

/// "-00002-of-00003.gguf" for number 1 of 3.
[[nodiscard]] inline std::string split_suffix(std::uint64_t number, std::uint64_t count) {
    const auto five_digits = [](std::uint64_t value) {
        const std::string digits = std::to_string(value);
        return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
    };
    return "-" + five_digits(number + 1) + "-of-" + five_digits(count) + ".gguf";
}

/// Where part `number` of a split model is, given where its first part is. Nothing if the first part's name does not
/// end as it must.
[[nodiscard]] inline std::optional<std::filesystem::path> split_part_path(const std::filesystem::path& first,
                                                                          std::uint64_t number, std::uint64_t count) {
    const std::string name = first.filename().string(), suffix = split_suffix(0, count);
    if (!name.ends_with(suffix)) return std::nullopt;
    return first.parent_path() / (name.substr(0, name.size() - suffix.size()) + split_suffix(number, count));
}

}  // namespace adainfer::inline v0::detail::gguf
