#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// All tokens that a text starts with, found in one walk. Nodes are numbered level by level, so the children of a node stand
/// side by side: node n's are first_child_[n] to first_child_[n + 1].
class PieceTrie {
  public:
    using Piece = std::pair<std::string_view, TokenId>;
    static constexpr std::uint32_t root = 0;
    static constexpr std::uint32_t nowhere = 0;  ///< the root is nobody's child

    PieceTrie() : PieceTrie(std::vector<Piece>{}) {}

    /// Requires texts that are not empty; of two equal ones the lower id counts. The texts are not kept.
    explicit PieceTrie(std::vector<Piece> pieces) {
        std::sort(pieces.begin(), pieces.end());
        struct Range {
            std::size_t first, last, depth;
        };
        // The pieces below node n are level[n]; what stands in `token_` and `label_` of a node is written when it is made.
        std::vector<Range> level{{0, pieces.size(), 0}};
        label_.push_back('\0');
        token_.push_back(no_token);
        for (std::size_t node = 0; node < level.size(); ++node) {
            auto [at, last, depth] = level[node];
            while (at < last && pieces[at].first.size() == depth) ++at;  // ends here
            if (level.size() > max_nodes) fail(ErrorCode::Unsupported, "a vocabulary of more than ", max_nodes, " prefixes");
            first_child_.push_back(static_cast<std::uint32_t>(level.size()));
            while (at < last) {
                const char byte = pieces[at].first[depth];
                const std::size_t first = at;
                while (at < last && pieces[at].first[depth] == byte) ++at;
                level.push_back({first, at, depth + 1});
                label_.push_back(byte);
                token_.push_back(pieces[first].first.size() == depth + 1 ? pieces[first].second : no_token);
            }
        }
        first_child_.push_back(static_cast<std::uint32_t>(level.size()));
        for (std::uint32_t child = first_child_[root]; child < first_child_[root + 1]; ++child) {
            starts_[utf8::byte_at(&label_[child])] = child;
        }
    }

    /// The child of the root, or nowhere.
    [[nodiscard]] std::uint32_t start(char byte) const noexcept { return starts_[utf8::byte_at(&byte)]; }

    /// The child of a node, or nowhere.
    [[nodiscard]] std::uint32_t next(std::uint32_t node, char byte) const noexcept {
        const std::uint32_t first = first_child_[node], last = first_child_[node + 1];
        if (last - first > few) {
            const void* const found = std::memchr(&label_[first], utf8_byte(byte), last - first);
            return found == nullptr ? nowhere : static_cast<std::uint32_t>(static_cast<const char*>(found) - label_.data());
        }
        for (std::uint32_t child = first; child < last; ++child) {
            if (label_[child] == byte) return child;
        }
        return nowhere;
    }

    /// The token that ends at a node, or no_token.
    [[nodiscard]] TokenId token(std::uint32_t node) const noexcept { return token_[node]; }

  private:
    static constexpr std::uint32_t few = 6;
    static constexpr std::size_t max_nodes = 0xFFFFFF00;

    [[nodiscard]] static int utf8_byte(char byte) noexcept { return static_cast<int>(utf8::byte_at(&byte)); }

    std::vector<std::uint32_t> first_child_;
    std::vector<char> label_;      ///< the byte that leads to the node
    std::vector<TokenId> token_;
    std::array<std::uint32_t, 256> starts_{};
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
