#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace adainfer::inline v0 {

namespace detail::bpe {

/// Finds tokens that are written out in a text, e.g. "<|im_start|>".
class SpecialTokens {
  public:
    struct Found {
        std::size_t first, length;
        TokenId token;
    };

    SpecialTokens() = default;

    /// Takes the tokens `ids` of `texts`, which are not empty and all different. Where two overlap in a text the
    /// longer one wins, then the one with the lower id.
    SpecialTokens(const std::vector<std::string>& texts, std::vector<TokenId> ids) : tokens_(std::move(ids)) {
        const auto text = [&](TokenId id) -> const std::string& { return texts[static_cast<std::size_t>(id)]; };
        std::sort(tokens_.begin(), tokens_.end(), [&](TokenId a, TokenId b) {
            return text(a).size() != text(b).size() ? text(a).size() > text(b).size() : a < b;
        });
        for (std::size_t i = 0; i < tokens_.size(); ++i) add(text(tokens_[i]), static_cast<std::uint32_t>(i));
    }

    [[nodiscard]] bool empty() const noexcept { return tokens_.empty(); }

    /// Non-overlapping finds from left to right. The longest token is placed first wherever it occurs, then the
    /// next longest in what is left, and so on. Time is linear in the text for a given set of tokens.
    [[nodiscard]] std::vector<Found> find_in(std::string_view text) const {
        std::vector<Occurrence> all;
        for (std::size_t i = 0; i < text.size(); ++i) {
            if (starts_[utf8::byte_at(&text[i])] != none) collect(text, i, all);
        }
        std::vector<Found> found;
        if (all.empty()) return found;
        std::sort(all.begin(), all.end(), [](const Occurrence& a, const Occurrence& b) {
            return a.rank != b.rank ? a.rank < b.rank : a.first < b.first;
        });
        // What is placed already is at least as long, so an overlap shows at one of the two ends.
        std::vector<bool> taken(text.size());
        for (const Occurrence& o : all) {
            if (taken[o.first] || taken[o.first + o.length - 1]) continue;
            std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(o.first), o.length, true);
            found.push_back({o.first, o.length, tokens_[o.rank]});
        }
        std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.first < b.first; });
        return found;
    }

  private:
    static constexpr std::uint32_t none = 0xFFFFFFFF;

    struct Occurrence {
        std::size_t first, length;
        std::uint32_t rank;
    };

    struct Node {
        std::uint32_t byte;
        std::uint32_t child = none, sibling = none;
        std::uint32_t rank = none;  ///< of the token that ends here
    };

    void add(std::string_view text, std::uint32_t rank) {
        std::uint32_t* link = &starts_[utf8::byte_at(text.data())];
        std::uint32_t node = none;
        for (const char& c : text) {
            const std::uint32_t byte = utf8::byte_at(&c);
            while (*link != none && nodes_[*link].byte != byte) link = &nodes_[*link].sibling;
            if (*link == none) {
                *link = static_cast<std::uint32_t>(nodes_.size());
                node = *link;
                nodes_.push_back({byte});
            } else {
                node = *link;
            }
            link = &nodes_[node].child;
        }
        nodes_[node].rank = rank;
    }

    void collect(std::string_view text, std::size_t first, std::vector<Occurrence>& all) const {
        std::uint32_t node = starts_[utf8::byte_at(&text[first])];
        for (std::size_t at = first;;) {
            const std::uint32_t rank = nodes_[node].rank;
            ++at;
            if (rank != none) all.push_back({first, at - first, rank});
            if (at == text.size()) return;
            const std::uint32_t byte = utf8::byte_at(&text[at]);
            node = nodes_[node].child;
            while (node != none && nodes_[node].byte != byte) node = nodes_[node].sibling;
            if (node == none) return;
        }
    }

    [[nodiscard]] static std::array<std::uint32_t, 256> no_starts() noexcept {
        std::array<std::uint32_t, 256> a{};
        a.fill(none);
        return a;
    }

    std::array<std::uint32_t, 256> starts_ = no_starts();
    std::vector<Node> nodes_;
    std::vector<TokenId> tokens_;
};

}  // namespace detail::bpe

}  // namespace adainfer::inline v0
