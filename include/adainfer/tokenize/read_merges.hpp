#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/merge_table.hpp"
#include "adainfer/tokenize/token_table.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Merges written "left right", the most important first; those to a special token are left out. Throws Error(CorruptFile), with
/// the merge, where one is malformed, there twice, or names a token that is not in the table.
[[nodiscard]] inline MergeTable read_merges(const TokenTable& table, const std::vector<std::string>& merges) {
    if (merges.size() >= no_rank) fail(ErrorCode::CorruptFile, merges.size(), " merges");
    MergeTable result(merges.size());
    std::string joined;
    for (std::size_t i = 0; i < merges.size(); ++i) {
        const std::string_view merge = merges[i];
        const std::size_t blank = merge.find(' ');
        if (blank == 0 || blank == std::string_view::npos || blank + 1 == merge.size() ||
            merge.find(' ', blank + 1) != std::string_view::npos) {
            fail(ErrorCode::CorruptFile, "merge ", i, " ", detail::quoted(merge), " is not two tokens with a space between");
        }
        const auto id_of = [&](std::string_view text) {
            const TokenId id = table.find(text);
            if (id == no_token) {
                fail(ErrorCode::CorruptFile, "merge ", i, " ", detail::quoted(merge), " names ", detail::quoted(text),
                     ", not a token");
            }
            return id;
        };
        const TokenId left = id_of(merge.substr(0, blank)), right = id_of(merge.substr(blank + 1));
        joined.assign(merge.substr(0, blank)).append(merge.substr(blank + 1));
        const TokenId merged = id_of(joined);
        if (table.is_special(merged)) continue;
        if (!result.insert(left, right, {static_cast<std::uint32_t>(i), merged})) {
            fail(ErrorCode::CorruptFile, "merge ", i, " ", detail::quoted(merge), " is there twice");
        }
    }
    return result;
}

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
