#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/merge_table.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Longest piece of text that merges, in symbols.
inline constexpr std::size_t max_word_symbols = 0xFFFFFFFE;

/// Merges the symbols of one piece of text: always the pair of lowest rank, among equal ones the leftmost.
/// Holds the scratch memory, so one object serves many pieces; not shared between threads. Merges: has find(left, right),
/// which returns a Merge.
template <class Merges>
class WordMerger {
  public:
    explicit WordMerger(Merges& merges) noexcept : merges_(merges) {}

    /// Appends what `count` symbols, at most max_word_symbols, merge to. A no_token among them merges with nothing and is left out.
    void apply(const TokenId* symbols, std::size_t count, std::vector<TokenId>& out) {
        if (count <= short_word) {
            apply_short(symbols, count, out);
        } else {
            apply_long(symbols, count, out);
        }
    }

  private:
    // Up to here, looking at every pair for each merge is faster than a heap.
    static constexpr std::size_t short_word = 32;
    static constexpr std::uint32_t nowhere = 0xFFFFFFFF;

    struct Symbol {
        TokenId token;
        std::uint32_t previous, next;
    };

    struct Candidate {
        std::uint64_t order;  ///< rank, then position of the left symbol
        TokenId left, right, merged;
    };

    struct Later {
        bool operator()(const Candidate& a, const Candidate& b) const noexcept { return a.order > b.order; }
    };

    static void emit(TokenId token, std::vector<TokenId>& out) {
        if (token != no_token) out.push_back(token);
    }

    void apply_short(const TokenId* symbols, std::size_t count, std::vector<TokenId>& out) {
        std::array<TokenId, short_word> tokens;
        std::array<Merge, short_word> pairs;  // pairs[i]: tokens i and i + 1
        std::copy(symbols, symbols + count, tokens.begin());
        for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = merges_.find(tokens[i], tokens[i + 1]);
        while (count > 1) {
            std::size_t best = 0;
            for (std::size_t i = 1; i + 1 < count; ++i) {
                if (pairs[i].rank < pairs[best].rank) best = i;
            }
            if (pairs[best].rank == no_rank) break;
            tokens[best] = pairs[best].token;
            --count;
            for (std::size_t i = best + 1; i < count; ++i) {
                tokens[i] = tokens[i + 1];
                pairs[i - 1] = pairs[i];
            }
            if (best + 1 < count) pairs[best] = merges_.find(tokens[best], tokens[best + 1]);
            if (best > 0) pairs[best - 1] = merges_.find(tokens[best - 1], tokens[best]);
        }
        for (std::size_t i = 0; i < count; ++i) emit(tokens[i], out);
    }

    void apply_long(const TokenId* symbols, std::size_t count, std::vector<TokenId>& out) {
        list_.resize(count);
        heap_.clear();
        for (std::size_t i = 0; i < count; ++i) {
            const auto at = static_cast<std::uint32_t>(i);
            list_[i] = {symbols[i], i == 0 ? nowhere : at - 1, i + 1 == count ? nowhere : at + 1};
            if (i > 0) add_candidate(at - 1, false);
        }
        std::make_heap(heap_.begin(), heap_.end(), Later{});
        while (!heap_.empty()) {
            std::pop_heap(heap_.begin(), heap_.end(), Later{});
            const Candidate best = heap_.back();
            heap_.pop_back();
            merge(best);
        }
        for (std::uint32_t i = 0; i != nowhere; i = list_[i].next) emit(list_[i].token, out);
    }

    void merge(const Candidate& candidate) {
        const auto at = static_cast<std::uint32_t>(candidate.order & 0xFFFFFFFFU);
        Symbol& left = list_[at];
        if (left.token != candidate.left || left.next == nowhere) return;
        Symbol& right = list_[left.next];
        if (right.token != candidate.right) return;
        left.token = candidate.merged;
        right.token = no_token;
        left.next = right.next;
        if (left.next != nowhere) list_[left.next].previous = at;
        add_candidate(at, true);
        if (left.previous != nowhere) add_candidate(left.previous, true);
    }

    void add_candidate(std::uint32_t at, bool keep_heap) {
        const Symbol& left = list_[at];
        if (left.next == nowhere) return;
        const TokenId right = list_[left.next].token;
        const Merge merge = merges_.find(left.token, right);
        if (merge.rank == no_rank) return;
        heap_.push_back({(std::uint64_t{merge.rank} << 32U) | at, left.token, right, merge.token});
        if (keep_heap) std::push_heap(heap_.begin(), heap_.end(), Later{});
    }

    Merges& merges_;
    std::vector<Symbol> list_;
    std::vector<Candidate> heap_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
