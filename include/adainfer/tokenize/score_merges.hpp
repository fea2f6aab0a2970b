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
#include "adainfer/tokenize/character_symbols.hpp"
#include "adainfer/tokenize/merge_table.hpp"
#include "adainfer/tokenize/space_escape.hpp"
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
/// those of the highest score first, those of equal score from left to right. Ids are those of tokens, and of characters as
/// `characters` has them. Throws as check_scores().
[[nodiscard]] inline MergeTable score_merges(const TokenTable& table, const std::vector<double>& scores,
                                             const CharacterSymbols& characters) {
    check_scores(table, scores);
    struct Pair {
        TokenId left, right, merged;
    };
    std::vector<Pair> pairs;
    std::vector<TokenId> order;
    // Tokens wait until there are some hundred pieces to look for: where each can be cut in two, left piece and right piece.
    std::vector<TokenId> cut_tokens, symbols;
    std::vector<std::string_view> pieces;
    const auto is_character = [](std::string_view text) { return first_character(text).size() == text.size(); };
    const auto symbol_of = [&](std::size_t piece) {
        if (is_character(pieces[piece])) return characters.find(pieces[piece]);
        const TokenId id = symbols[piece];
        return id != no_token && table.is_ordinary(id) ? id : no_token;
    };
    const auto add_pairs = [&] {
        symbols.resize(pieces.size());
        table.find(pieces, symbols);
        for (std::size_t i = 0; i < cut_tokens.size(); ++i) {
            const TokenId left = symbol_of(2 * i);
            if (left == no_token) continue;
            const TokenId right = symbol_of(2 * i + 1);
            if (right != no_token) pairs.push_back({left, right, cut_tokens[i]});
        }
        cut_tokens.clear();
        pieces.clear();
    };
    for (std::size_t i = 0; i < table.size(); ++i) {
        const auto id = static_cast<TokenId>(i);
        const std::string_view text = table.texts()[i];
        if (text.empty() || !table.is_ordinary(id) || is_character(text)) continue;
        order.push_back(id);
        for (std::size_t cut = first_character(text).size(); cut < text.size();
             cut += first_character(text.substr(cut)).size()) {
            cut_tokens.push_back(id);
            pieces.push_back(text.substr(0, cut));
            pieces.push_back(text.substr(cut));
        }
        if (pieces.size() >= 256) add_pairs();
    }
    add_pairs();
    const auto score_of = [&](TokenId id) { return scores[static_cast<std::size_t>(id)]; };
    const auto before = [&](TokenId a, TokenId b) { return score_of(a) > score_of(b); };
    // Most vocabularies are written in that order.
    if (!std::is_sorted(order.begin(), order.end(), before)) std::sort(order.begin(), order.end(), before);
    std::vector<std::uint32_t> ranks(table.size());
    for (std::size_t i = 0, rank = 0; i < order.size(); ++i) {
        if (i > 0 && score_of(order[i]) < score_of(order[i - 1])) ++rank;
        ranks[static_cast<std::size_t>(order[i])] = static_cast<std::uint32_t>(rank);
    }
    MergeTable result(pairs.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
        if (i + 16 < pairs.size()) result.ask(pairs[i + 16].left, pairs[i + 16].right);
        const Pair& pair = pairs[i];
        result.insert(pair.left, pair.right, {ranks[static_cast<std::size_t>(pair.merged)], pair.merged});
    }
    return result;
}

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
