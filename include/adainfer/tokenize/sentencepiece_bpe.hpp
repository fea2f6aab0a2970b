#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/character_symbols.hpp"
#include "adainfer/tokenize/encode_options.hpp"
#include "adainfer/tokenize/merge_table.hpp"
#include "adainfer/tokenize/read_merges.hpp"
#include "adainfer/tokenize/recent_merges.hpp"
#include "adainfer/tokenize/score_merges.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/unknown_text.hpp"
#include "adainfer/tokenize/vocabulary.hpp"
#include "adainfer/tokenize/word_merger.hpp"
#include "adainfer/tokenize/word_starts.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// The engine of "llama" vocabularies: the characters of a text merge, by score or by rank. In principle they do so over the
/// whole text at once; it is done word by word where that cannot be told apart.
class SentencePieceBpe {
  public:
    /// Throws as check_scores() or read_merges().
    SentencePieceBpe(const TokenTable& table, const TokenizerData& data)
        : words_(table, data.split_words),
          unknown_(table, data),
          split_words_(data.split_words),
          split_lines_(data.model == "gemma4"),
          whole_words_(data.ignore_merges) {
        add_characters(table);
        if (data.merges.empty()) {
            merges_ = ScoreMerges(table, data.scores, others_);
        } else {
            merges_ = read_merges(table, data.merges);
        }
    }

    /// One call of Tokenizer::encode(). Keeps references to everything it is given.
    class Encoder {
      public:
        Encoder(const SentencePieceBpe& engine, const TokenTable& table, const EncodeOptions& options,
                std::vector<TokenId>& ids)
            : engine_(engine), table_(table), ids_(ids), merges_{engine, table, {}}, merger_(merges_),
              unknown_(engine.unknown_, table, options, ids) {}

        Encoder(const Encoder&) = delete;  // the merger refers to merges_
        Encoder& operator=(const Encoder&) = delete;

        /// Appends the tokens of a text without recognised tokens in it; `space_first`: as if a space stood before it.
        void encode(std::string_view text, bool space_first) {
            unknown_.start();
            char left = '\0';
            if (space_first) take(escaped_space, left = ' ');
            while (!text.empty()) {
                const std::string_view read = first_character(text);
                text.remove_prefix(read.size());
                const bool space = read == " " || read == escaped_space;
                const std::string_view character = space ? escaped_space : read;
                const char last = space ? ' ' : read.back();
                if (!symbols_.empty() && starts_word(left, last, space)) word();
                take(character, last);
                left = last;
            }
            word();
        }

      private:
        /// What two symbols merge to.
        struct Merges {
            const SentencePieceBpe& engine;
            const TokenTable& table;
            RecentMerges recent;

            [[nodiscard]] Merge find(TokenId left, TokenId right) {
                const auto* const scored = std::get_if<ScoreMerges>(&engine.merges_);
                if (scored == nullptr) return std::get<MergeTable>(engine.merges_).find(left, right);
                return recent.find(left, right, [&] { return scored->find(table, engine.others_, left, right); });
            }
        };

        [[nodiscard]] bool starts_word(char left, char last, bool space) const noexcept {
            return (space && engine_.words_.after(left)) || (engine_.split_lines_ && (left == '\n') != (last == '\n'));
        }

        /// Adds a character to the word.
        void take(std::string_view character, char last) {
            const bool ascii = character.size() == 1 && utf8::byte_at(character.data()) < 0x80U;
            const TokenId symbol = ascii ? engine_.characters_.find_ascii(last) : engine_.characters_.find(character);
            if (engine_.whole_words_ || engine_.split_lines_) spelling_.append(character);
            if (symbol == no_token) {
                unknown_.append_to(symbols_, character);
            } else {
                symbols_.push_back(symbol);
            }
        }

        /// Ends the word.
        void word() {
            if (!take_whole()) {
                if (symbols_.size() > max_word_symbols) {
                    fail(ErrorCode::InvalidArgument, "a word of ", symbols_.size(), " characters");
                }
                merge();
            }
            symbols_.clear();
            spelling_.clear();
            if (engine_.split_words_) unknown_.start();
        }

        void merge() {
            if (!engine_.can_be_unknown()) {
                merger_.apply(symbols_.data(), symbols_.size(), ids_);
                return;
            }
            merged_.clear();
            merger_.apply(symbols_.data(), symbols_.size(), merged_);
            for (const TokenId id : merged_) {
                const auto tokens = static_cast<TokenId>(table_.size());
                if (id < tokens) {
                    unknown_.emit(id);
                } else {  // a character that merged with nothing and is not a token
                    replaced_.clear();
                    unknown_.append_to(replaced_, engine_.others_[static_cast<std::size_t>(id - tokens)]);
                    for (const TokenId other : replaced_) unknown_.emit(other);
                }
            }
        }

        /// Takes the word as one token where there is a rule for it.
        bool take_whole() {
            const bool line_ends = engine_.split_lines_ && spelling_.find_first_not_of('\n') == std::string::npos;
            if (!engine_.whole_words_ && !line_ends) return false;
            const TokenId whole = table_.find_unspecial(spelling_);
            if (whole == no_token) return false;
            unknown_.emit(whole);
            return true;
        }

        const SentencePieceBpe& engine_;
        const TokenTable& table_;
        std::vector<TokenId>& ids_;
        Merges merges_;
        WordMerger<Merges> merger_;
        UnknownText::Writer unknown_;
        std::vector<TokenId> symbols_, merged_, replaced_;
        std::string spelling_;
    };

  private:
    /// Gives a symbol to every character that occurs in a token: the token of that character, or, where there is none, a
    /// number above all tokens.
    void add_characters(const TokenTable& table) {
        for (std::size_t i = 0; i < table.size(); ++i) {
            const TokenType type = table.type(static_cast<TokenId>(i));
            if (type != TokenType::UserDefined && !table.is_ordinary(static_cast<TokenId>(i))) continue;
            std::string_view text = table.texts()[i];
            while (!text.empty()) {
                const std::string_view character = first_character(text);
                text.remove_prefix(character.size());
                if (characters_.find(character) != no_token) continue;
                TokenId symbol = table.find(character);
                const bool usable = symbol != no_token && (table.is_ordinary(symbol) ||
                                                           table.type(symbol) == TokenType::UserDefined);
                if (!usable) {
                    const std::size_t next = table.size() + others_.size();
                    if (next >= static_cast<std::size_t>((std::numeric_limits<TokenId>::max)())) {
                        fail(ErrorCode::CorruptFile, "more tokens and characters than ids can number");
                    }
                    symbol = static_cast<TokenId>(next);
                    others_.emplace_back(character);
                }
                characters_.insert(character, symbol);
            }
        }
    }

    /// Whether what merging leaves needs another look.
    [[nodiscard]] bool can_be_unknown() const noexcept { return !others_.empty() || unknown_.writes_token(); }

    WordStarts words_;
    UnknownText unknown_;
    bool split_words_, split_lines_, whole_words_;
    CharacterSymbols characters_;
    std::vector<std::string> others_;  ///< characters of tokens that are no token themselves; symbol: table size + index
    std::variant<ScoreMerges, MergeTable> merges_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
