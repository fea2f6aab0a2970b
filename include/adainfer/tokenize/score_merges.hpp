#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/merge_table.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/text_hash.hpp"
#include "adainfer/tokenize/token_table.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// Longest ordinary token of a vocabulary with scores, in bytes; SentencePiece's own are a tenth of it at most. Bounds the
/// work that a hostile file can ask for.
inline constexpr std::size_t max_scored_token = 1024;

/// Throws Error(CorruptFile) where there is not one finite score for each token, and Error(Unsupported) for an endless token.
inline void check_scores(const TokenTable& table, const std::vector<double>& scores) {
    if (scores.size() != table.size()) {
        fail(ErrorCode::CorruptFile, "the vocabulary has ", table.size(), " tokens but ", scores.size(), " scores");
    }
    const auto bad = std::find_if_not(scores.begin(), scores.end(), [](double score) { return std::isfinite(score); });
    if (bad != scores.end()) fail(ErrorCode::CorruptFile, "the score of token ", bad - scores.begin(), " is ", *bad);
    for (std::size_t i = 0; i < table.size(); ++i) {
        const std::size_t length = table.texts()[i].size();
        if (length > max_scored_token && table.is_ordinary(static_cast<TokenId>(i))) {
            fail(ErrorCode::Unsupported, "token ", i, " has ", length, " bytes; supported: ", max_scored_token);
        }
    }
}

/// The merges of a vocabulary with scores (SentencePiece BPE): any two neighbours whose texts together are an ordinary token,
/// those of the highest score first, those of equal score from left to right. They are found in the vocabulary when a text asks for
/// them: Gemma 3 has half a million, of which a prompt needs some hundred.
class ScoreMerges {
  public:
    ScoreMerges() = default;

    /// `others`: characters that occur in tokens and are none; they have the ids from the table's size on. Throws as
    /// check_scores().
    ScoreMerges(const TokenTable& table, const std::vector<double>& scores, const std::vector<std::string>& others)
        : powers_(TextHash::powers(max_scored_token)) {
        check_scores(table, scores);
        symbols_.resize(table.size() + others.size());
        std::vector<TokenId> order;
        order.reserve(table.size());
        for (std::size_t i = 0; i < symbols_.size(); ++i) {
            const auto id = static_cast<TokenId>(i);
            const std::string_view text = text_of(table, others, id);
            const bool token = i < table.size() && table.is_ordinary(id);
            const bool merges = token || (!text.empty() && first_character(text).size() == text.size());
            if (merges) symbols_[i] = {TextHash(text), static_cast<std::uint32_t>(text.size()), no_rank};
            if (token) order.push_back(id);
        }
        const auto score_of = [&](TokenId id) { return scores[static_cast<std::size_t>(id)]; };
        const auto before = [&](TokenId a, TokenId b) { return score_of(a) > score_of(b); };
        // Most vocabularies are written in that order.
        if (!std::is_sorted(order.begin(), order.end(), before)) std::sort(order.begin(), order.end(), before);
        for (std::size_t i = 0, rank = 0; i < order.size(); ++i) {
            if (i > 0 && score_of(order[i]) < score_of(order[i - 1])) ++rank;
            symbols_[static_cast<std::size_t>(order[i])].rank = static_cast<std::uint32_t>(rank);
        }
    }

    /// `table` and `others` are those of the constructor. Negative ids merge with nothing.
    [[nodiscard]] Merge find(const TokenTable& table, const std::vector<std::string>& others, TokenId left,
                             TokenId right) const noexcept {
        if (left < 0 || right < 0) return {};
        const Symbol &a = symbols_[static_cast<std::size_t>(left)], &b = symbols_[static_cast<std::size_t>(right)];
        if (a.bytes == 0 || b.bytes == 0) return {};
        const TextHash joined = a.hash.joined(b.hash, powers_[b.bytes]);
        const TokenId merged = table.find(text_of(table, others, left), text_of(table, others, right), joined);
        if (merged == no_token) return {};
        const std::uint32_t rank = symbols_[static_cast<std::size_t>(merged)].rank;
        return rank == no_rank ? Merge{} : Merge{rank, merged};
    }

  private:
    struct Symbol {
        TextHash hash;
        std::uint32_t bytes = 0;  ///< 0: merges with nothing
        std::uint32_t rank = no_rank;
    };

    [[nodiscard]] static std::string_view text_of(const TokenTable& table, const std::vector<std::string>& others,
                                                  TokenId id) noexcept {
        const auto i = static_cast<std::size_t>(id);
        return i < table.size() ? table.texts()[i] : others[i - table.size()];
    }

    std::vector<Symbol> symbols_;
    std::vector<std::uint64_t> powers_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
