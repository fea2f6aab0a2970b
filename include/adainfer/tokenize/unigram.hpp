#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/encode_options.hpp"
#include "adainfer/tokenize/piece_trie.hpp"
#include "adainfer/tokenize/score_merges.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/unknown_text.hpp"
#include "adainfer/tokenize/vocabulary.hpp"
#include "adainfer/tokenize/word_starts.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// The engine of "t5" vocabularies: of all ways to cut a text into tokens the one with the highest sum of scores (Kudo,
/// "Subword Regularization", 2018, section 3), found by Viterbi's algorithm; among equal ones the one whose last token is
/// longest, and so on backwards.
class Unigram {
  public:
    /// Throws as check_scores().
    Unigram(const TokenTable& table, const TokenizerData& data)
        : words_(table, data.split_words), unknown_(table, data), split_words_(data.split_words), scores_(data.scores) {
        check_scores(table, scores_);
        std::vector<std::string> texts(table.size());
        std::vector<PieceTrie::Piece> pieces;
        double lowest = (std::numeric_limits<double>::max)();
        for (std::size_t i = 0; i < table.size(); ++i) {
            const auto id = static_cast<TokenId>(i);
            const bool user_defined = table.type(id) == TokenType::UserDefined;
            if (data.hugging_face || table.type(id) == TokenType::Normal) lowest = (std::min)(lowest, scores_[i]);
            if (user_defined) scores_[i] = 0;
            const std::string& text = table.texts()[i];
            // In a text a space is a space, so a token with a blank in its spelling stands for none.
            const bool matches = table.is_ordinary(id) || (user_defined && text.size() <= max_scored_token);
            if (!matches || text.empty() || text.find(' ') != std::string::npos) continue;
            append_unescaped(texts[i], text);
            pieces.emplace_back(texts[i], id);
        }
        unknown_score_ = (pieces.empty() ? 0 : lowest) - unknown_penalty;
        trie_ = PieceTrie(std::move(pieces));
    }

    /// One call of Tokenizer::encode(). Keeps references to everything it is given.
    class Encoder {
      public:
        Encoder(const Unigram& engine, const TokenTable& table, const EncodeOptions& options, std::vector<TokenId>& ids)
            : engine_(engine), unknown_(engine.unknown_, table, options, ids) {}

        /// Appends the tokens of a text without recognised tokens in it; `space_first`: as if a space stood before it.
        void encode(std::string_view text, bool space_first) {
            if (space_first || text.find(escaped_space) != std::string_view::npos) {
                plain_.assign(space_first ? 1 : 0, ' ');
                append_unescaped(plain_, text);
                text = plain_;
            }
            unknown_.start();
            double score = 0;
            while (!text.empty()) {
                const std::string_view word = first_word(text);
                text.remove_prefix(word.size());
                score = find_best(word, score);
                write(word);
                if (engine_.split_words_) {
                    unknown_.start();
                    score = 0;
                }
            }
        }

      private:
        /// The best way to cut the text up to some place: what it scores and its last token.
        struct Best {
            double score;
            std::uint32_t length;  ///< of the last token, in bytes
            TokenId token;         ///< no_token: a character without one
        };

        [[nodiscard]] std::string_view first_word(std::string_view text) const {
            std::size_t end = 1;
            while (end < text.size() && (text[end] != ' ' || !engine_.words_.after(text[end - 1]))) ++end;
            if (end >= (std::numeric_limits<std::uint32_t>::max)()) {
                fail(ErrorCode::InvalidArgument, "a word of ", end, " bytes");
            }
            return text.substr(0, end);
        }

        /// Fills best_, with an entry for each place in the word. Scores go on from those of the text before, so that
        /// rounding, which decides between equal sums, is that of one pass over the whole text.
        double find_best(std::string_view word, double score) {
            best_.assign(word.size() + 1, {lowest, 0, no_token});
            best_[0].score = score;
            for (std::size_t at = 0; at < word.size();) {
                const std::size_t character = first_character(word.substr(at)).size();
                const double here = best_[at].score;
                bool whole_character = false;
                std::uint32_t node = engine_.trie_.start(word[at]);
                for (std::size_t end = at + 1; node != PieceTrie::nowhere; ++end) {
                    const TokenId token = engine_.trie_.token(node);
                    if (token != no_token) {
                        whole_character = whole_character || end - at == character;
                        offer(end, end - at, token, here + engine_.scores_[static_cast<std::size_t>(token)]);
                    }
                    if (end == word.size()) break;
                    node = engine_.trie_.next(node, word[end]);
                }
                if (!whole_character) offer(at + character, character, no_token, here + engine_.unknown_score_);
                at += character;
            }
            return best_.back().score;
        }

        void offer(std::size_t end, std::size_t length, TokenId token, double score) noexcept {
            if (score > best_[end].score) best_[end] = {score, static_cast<std::uint32_t>(length), token};
        }

        /// Writes the best tokens of the word.
        void write(std::string_view word) {
            path_.clear();
            for (std::size_t end = word.size(); end > 0; end -= best_[end].length) path_.push_back(end);
            while (!path_.empty()) {
                const std::size_t end = path_.back();
                const Best& best = best_[end];
                path_.pop_back();
                if (best.token != no_token) {
                    unknown_.emit(best.token);
                    continue;
                }
                const std::string_view character = word.substr(end - best.length, best.length);
                replaced_.clear();
                unknown_.append_to(replaced_, character == " " ? escaped_space : character);
                for (const TokenId id : replaced_) unknown_.emit(id);
            }
        }

        static constexpr double lowest = std::numeric_limits<double>::lowest();

        const Unigram& engine_;
        UnknownText::Writer unknown_;
        std::vector<Best> best_;
        std::vector<std::size_t> path_;
        std::vector<TokenId> replaced_;
        std::string plain_;
    };

  private:
    static constexpr double unknown_penalty = 10;  ///< below the lowest score: SentencePiece's

    WordStarts words_;
    UnknownText unknown_;
    bool split_words_;
    std::vector<double> scores_;
    double unknown_score_ = 0;
    PieceTrie trie_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
