#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/byte_spelling.hpp"
#include "adainfer/tokenize/encode_options.hpp"
#include "adainfer/tokenize/merge_table.hpp"
#include "adainfer/tokenize/pre_tokenizer.hpp"
#include "adainfer/tokenize/read_merges.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/utf8.hpp"
#include "adainfer/tokenize/vocabulary.hpp"
#include "adainfer/tokenize/word_merger.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// The engine of "gpt2" vocabularies: text is cut into words, and inside each the bytes merge.
class ByteBpe {
  public:
    /// Throws Error(Unsupported) for an unknown pre-tokenizer and Error(CorruptFile) as read_merges().
    ByteBpe(const TokenTable& table, const TokenizerData& data)
        : splitters_(pre_tokenizer::find_all(data.pre, data.hugging_face)),
          whole_words_(splitters_.back().whole_words || data.ignore_merges),
          close_gaps_(data.hugging_face),
          merges_(read_merges(table, data.merges)) {}

    /// One call of Tokenizer::encode(). Keeps references to everything it is given.
    class Encoder {
      public:
        Encoder(const ByteBpe& engine, const TokenTable& table, const EncodeOptions& options, std::vector<TokenId>& ids)
            : engine_(engine), table_(table), options_(options), ids_(ids), merger_(engine.merges_) {}

        /// Appends the tokens of a text without recognised tokens in it; `space_first`: as if a space stood before it.
        void encode(std::string_view text, bool space_first) {
            if (space_first) text = spaced_.assign(1, ' ').append(text);
            pre_tokenizer::run(std::span(engine_.splitters_), text, [this](const char* first, const char* last) {
                word({first, static_cast<std::size_t>(last - first)});
            });
        }

      private:
        void word(std::string_view bytes) {
            if (engine_.whole_words_) {
                spelling_.clear();
                byte_spelling::append_spelled(spelling_, bytes);
                const TokenId whole = table_.find_unspecial(spelling_);
                if (whole != no_token) {
                    ids_.push_back(whole);
                    return;
                }
            }
            if (bytes.size() > max_word_symbols) {
                fail(ErrorCode::InvalidArgument, "a word of ", bytes.size(), " bytes");
            }
            if (symbols_.size() < bytes.size()) symbols_.resize(bytes.size());
            std::size_t count = 0;
            for (const char& byte : bytes) {
                const TokenId symbol = table_.byte_token(byte);
                if (symbol == no_token && options_.missing_byte == MissingByte::Throw) {
                    fail(ErrorCode::UnknownToken, "the vocabulary has no token for the byte ", utf8::byte_at(&byte));
                }
                if (symbol != no_token || !engine_.close_gaps_) symbols_[count++] = symbol;
            }
            merger_.apply(symbols_.data(), count, ids_);
        }

        const ByteBpe& engine_;
        const TokenTable& table_;
        const EncodeOptions& options_;
        std::vector<TokenId>& ids_;
        WordMerger<const MergeTable> merger_;
        std::vector<TokenId> symbols_;
        std::string spelling_, spaced_;
    };

  private:
    std::vector<pre_tokenizer::Name> splitters_;  ///< one after the other
    bool whole_words_;
    bool close_gaps_;  ///< bytes without a token are as not there
    MergeTable merges_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
