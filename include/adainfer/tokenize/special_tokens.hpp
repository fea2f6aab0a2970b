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

namespace detail::tokenizing {

/// Finds tokens that are written out in a text, e.g. "<|im_start|>".
class SpecialTokens {
  public:
    struct Found {
        std::size_t first, length;
        TokenId token;
    };

    SpecialTokens() = default;

    struct Pattern {
        std::string text;  ///< not empty
        TokenId token;
    };

    /// Where two overlap in a text the longer one wins, then the one with the lower id.
    explicit SpecialTokens(std::vector<Pattern> patterns) {
        std::sort(patterns.begin(), patterns.end(), [](const Pattern& a, const Pattern& b) {
            return a.text.size() != b.text.size() ? a.text.size() > b.text.size() : a.token < b.token;
        });
        entries_.reserve(patterns.size());
        for (const Pattern& pattern : patterns) {
            add(pattern.text, static_cast<std::uint32_t>(entries_.size()));
            entries_.push_back({pattern.token, pattern.text.size()});
        }
        for (std::size_t i = 0; i < entries_.size(); ++i)
            entries_[i].shorter = longest_at(patterns[i].text, 0, entries_[i].length);
    }

    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }

    /// Non-overlapping finds from left to right. The longest token is placed first wherever it occurs, then the
    /// next longest in what is left, and so on. Time and memory are linear in the text for a given set of tokens.
    [[nodiscard]] std::vector<Found> find_in(std::string_view text) const {
        // For each rank the places where the token could still go. Only the longest token at a place waits there;
        // shorter ones get their turn when it does not fit.
        std::vector<std::vector<std::size_t>> waiting;
        for (std::size_t at = 0; at < text.size(); ++at) {
            if (starts_[utf8::byte_at(&text[at])] == none) continue;
            const std::uint32_t rank = longest_at(text, at);
            if (rank == none) continue;
            if (waiting.empty()) waiting.resize(entries_.size());
            waiting[rank].push_back(at);
        }
        std::vector<Found> found;
        if (waiting.empty()) return found;
        std::vector<bool> taken(text.size());
        for (std::size_t rank = 0; rank < waiting.size(); ++rank) {
            const Entry& entry = entries_[rank];
            std::sort(waiting[rank].begin(), waiting[rank].end());
            for (const std::size_t at : waiting[rank]) {
                // What is placed already is at least as long, so an overlap shows at one of the two ends.
                if (taken[at]) continue;
                if (taken[at + entry.length - 1]) {
                    if (entry.shorter != none) waiting[entry.shorter].push_back(at);
                    continue;
                }
                std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(at), entry.length, true);
                found.push_back({at, entry.length, entry.token});
            }
        }
        std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.first < b.first; });
        return found;
    }

    /// Non-overlapping finds from left to right, at each place the longest token: how `tokenizers` does it.
    [[nodiscard]] std::vector<Found> find_leftmost(std::string_view text) const {
        std::vector<Found> found;
        for (std::size_t at = 0; at < text.size();) {
            const std::uint32_t rank = starts_[utf8::byte_at(&text[at])] == none ? none : longest_at(text, at);
            if (rank != none) found.push_back({at, entries_[rank].length, entries_[rank].token});
            at += rank == none ? 1 : entries_[rank].length;
        }
        return found;
    }

  private:
    static constexpr std::uint32_t none = 0xFFFFFFFF;

    /// A token; its index is its rank.
    struct Entry {
        TokenId token;
        std::size_t length;
        std::uint32_t shorter = none;  ///< rank of the longest other token that this one starts with
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
        if (nodes_[node].rank == none) nodes_[node].rank = rank;
    }

    /// Rank of the longest token that starts at `at` and is shorter than `limit`, or none.
    [[nodiscard]] std::uint32_t longest_at(std::string_view text, std::size_t at,
                                           std::size_t limit = std::string_view::npos) const noexcept {
        std::uint32_t longest = none;
        std::uint32_t node = starts_[utf8::byte_at(&text[at])];
        for (std::size_t length = 1; node != none && length < limit; ++length) {
            if (nodes_[node].rank != none) longest = nodes_[node].rank;
            if (at + length == text.size()) break;
            const std::uint32_t byte = utf8::byte_at(&text[at + length]);
            node = nodes_[node].child;
            while (node != none && nodes_[node].byte != byte) node = nodes_[node].sibling;
        }
        return longest;
    }

    [[nodiscard]] static std::array<std::uint32_t, 256> no_starts() noexcept {
        std::array<std::uint32_t, 256> a{};
        a.fill(none);
        return a;
    }

    std::array<std::uint32_t, 256> starts_ = no_starts();
    std::vector<Node> nodes_;
    std::vector<Entry> entries_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
