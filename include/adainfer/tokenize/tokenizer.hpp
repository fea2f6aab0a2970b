#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tokenize/byte_bpe.hpp"
#include "adainfer/tokenize/encode_options.hpp"
#include "adainfer/tokenize/normalizer.hpp"
#include "adainfer/tokenize/recognized_tokens.hpp"
#include "adainfer/tokenize/sentencepiece_bpe.hpp"
#include "adainfer/tokenize/space_escape.hpp"
#include "adainfer/tokenize/token_table.hpp"
#include "adainfer/tokenize/unigram.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

/// Whether tokens to decode stand at the start of a text, where the space that encode() put in front has to go again.
enum class DecodeFrom { Start, Middle };

/// Between text and token ids: byte-level BPE, SentencePiece BPE or unigram, as the vocabulary says. Immutable: const members
/// may be called from many threads at once.
class Tokenizer {
  public:
    /// Checks and indexes the vocabulary. Throws Error(Unsupported) for a model or pre-tokenizer that is not known, and
    /// Error(CorruptFile), with the offender's name, for a vocabulary without tokens, equal tokens, ids out of range, missing
    /// byte tokens, scores that do not fit, and merges that are malformed, repeated or name a token that is not there.
    explicit Tokenizer(TokenizerData data)
        : normalizer_(data),
          table_(std::move(data.tokens), data.token_types, spelling_of(data.model), data.hugging_face),
          bos_(checked_id(data.bos, "bos")),
          eos_(checked_id(data.eos, "eos")),
          eot_(checked_id(data.eot, "eot")),
          unknown_(checked_id(data.unknown, "unknown")),
          padding_(checked_id(data.padding, "padding")),
          adds_bos_(data.add_bos),
          adds_eos_(data.add_eos),
          space_prefix_(data.add_space_prefix),
          byte_level_(data.model == "gpt2"),
          prefix_scheme_(data.model == "gpt2" ? PrefixScheme::EveryPartUnlessSpace : data.prefix_scheme),
          engine_(make_engine(table_, data)),
          user_defined_(table_, data, false),
          all_(table_, data, true),
          chat_template_(std::move(data.chat_template)) {
        if (eos_) table_.mark_end(*eos_);
        if (eot_) table_.mark_end(*eot_);
        for (const TokenId id : data.ends) table_.mark_end(*checked_id(id, "end"));
    }

    /// Throws Error(InvalidArgument) for add_bos or add_eos without such a token, and Error(UnknownToken) as MissingByte says.
    [[nodiscard]] std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const {
        std::vector<TokenId> ids;
        ids.reserve(text.size() / 3 + 2);
        if (options.add_bos) ids.push_back(required(bos_, "add_bos", "bos"));
        std::visit(
            [&](const auto& engine) {
                typename std::remove_cvref_t<decltype(engine)>::Encoder encoder(engine, table_, options, ids);
                encode_parts(text, options, ids, encoder);
            },
            engine_);
        if (options.add_eos) ids.push_back(required(eos_, "add_eos", "eos"));
        return ids;
    }

    /// The bytes of the tokens; not always UTF-8 as a whole, see StreamDecoder for that. Throws Error(UnknownToken) for an id
    /// outside the vocabulary.
    [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool skip_special = false,
                                     DecodeFrom from = DecodeFrom::Start) const {
        std::string text;
        bool at_start = from == DecodeFrom::Start;
        for (const TokenId id : ids) {
            const std::string_view bytes = token_bytes(id);
            if (skip_special && is_special(id)) continue;
            text.append(bytes.substr(at_start ? prefix_length(id) : 0));
            at_start = false;
        }
        return text;
    }

    /// What the token stands for, valid as long as this object is neither moved nor destroyed. Throws
    /// Error(UnknownToken) for an id outside the vocabulary.
    [[nodiscard]] std::string_view token_bytes(TokenId id) const {
        if (!table_.contains(id)) {
            fail(ErrorCode::UnknownToken, "token ", id, " in a vocabulary of ", table_.size());
        }
        return table_.bytes(id);
    }

    /// 1 for a token that starts with a space, where encode() puts one in front of a text and decode() takes it away; else 0. For
    /// the first token of a text: the number of bytes to leave out.
    [[nodiscard]] std::size_t prefix_length(TokenId id) const noexcept {
        const bool strips = space_prefix_ && !byte_level_;
        return strips && table_.contains(id) && table_.is_ordinary(id) && table_.bytes(id).starts_with(' ') ? 1 : 0;
    }

    /// The token of this text in the spelling of the vocabulary, where "Ġ" (byte-level) or "▁" (SentencePiece) is a space.
    [[nodiscard]] std::optional<TokenId> find(std::string_view token) const noexcept {
        const TokenId id = table_.find(token);
        return id == no_token ? std::nullopt : std::optional<TokenId>(id);
    }

    [[nodiscard]] std::size_t vocab_size() const noexcept { return table_.size(); }

    /// A control or unknown token, which stands for no text. False for ids outside the vocabulary.
    [[nodiscard]] bool is_special(TokenId id) const noexcept {
        return table_.contains(id) && table_.is_special(id);
    }

    /// eos, eot and tokens whose name says that a turn or a text ends. False for ids outside the vocabulary.
    [[nodiscard]] bool is_end_of_generation(TokenId id) const noexcept {
        return table_.contains(id) && table_.is_end(id);
    }

    [[nodiscard]] std::optional<TokenId> bos() const noexcept { return bos_; }
    [[nodiscard]] std::optional<TokenId> eos() const noexcept { return eos_; }
    [[nodiscard]] std::optional<TokenId> eot() const noexcept { return eot_; }
    [[nodiscard]] std::optional<TokenId> unknown() const noexcept { return unknown_; }
    [[nodiscard]] std::optional<TokenId> padding() const noexcept { return padding_; }

    /// Whether the model expects bos in front of a text, and eos behind it.
    [[nodiscard]] bool adds_bos() const noexcept { return adds_bos_; }
    [[nodiscard]] bool adds_eos() const noexcept { return adds_eos_; }

    /// The model's own template source; empty where the file has none.
    [[nodiscard]] const std::string& chat_template() const noexcept { return chat_template_; }

  private:
    using Engine = std::variant<detail::tokenizing::ByteBpe, detail::tokenizing::SentencePieceBpe, detail::tokenizing::Unigram>;

    /// The text between tokens that are written out in it goes to the engine, and the tokens between.
    template <class Encoder>
    void encode_parts(std::string_view text, const EncodeOptions& options, std::vector<TokenId>& ids, Encoder& encoder) const {
        const detail::tokenizing::RecognizedTokens& recognized = options.parse_special ? all_ : user_defined_;
        std::string scratch, marked;
        recognized.for_each_part(text, ids, [&](std::string_view raw, bool at_start) {
            const std::string_view part = normalizer_.apply(raw, options.invalid_utf8, scratch);
            if (part.empty()) return;
            const bool wanted = space_prefix_ && (options.space_prefix || !at_start);
            const bool every = wanted && prefix_scheme_ == PrefixScheme::EveryPart;
            if (!recognized.has_normalized()) {
                encoder.encode(part, every || (wanted && takes_space(part, at_start)));
                return;
            }
            if (every) {  // the space is then part of what the tokens are looked for in
                marked.clear();
                detail::tokenizing::append_escaped(marked, " ");
                detail::tokenizing::append_escaped(marked, part);
            }
            const std::string_view searched = every ? std::string_view(marked) : part;
            recognized.for_each_normalized_part(searched, ids, [&](std::string_view inner, bool first) {
                encoder.encode(inner, wanted && !every && takes_space(inner, at_start && first));
            });
        });
    }

    /// Whether a space goes before what is left of a text between tokens, where that depends on it.
    [[nodiscard]] bool takes_space(std::string_view part, bool at_start) const noexcept {
        if (prefix_scheme_ == PrefixScheme::StartUnlessSpace && !at_start) return false;
        return byte_level_ ? !part.starts_with(' ') : !detail::tokenizing::starts_with_space(part);
    }

    [[nodiscard]] static detail::tokenizing::Spelling spelling_of(std::string_view model) {
        if (model == "gpt2") return detail::tokenizing::Spelling::ByteLevel;
        if (model == "llama" || model == "gemma4" || model == "t5") return detail::tokenizing::Spelling::Plain;
        fail(ErrorCode::Unsupported, "tokenizer model ", detail::quoted(model),
             "; supported: gpt2 (byte-level BPE), llama and gemma4 (SentencePiece BPE), t5 (unigram)");
    }

    [[nodiscard]] static Engine make_engine(const detail::tokenizing::TokenTable& table, const TokenizerData& data) {
        if (data.model == "gpt2") return detail::tokenizing::ByteBpe(table, data);
        if (data.model == "t5") return detail::tokenizing::Unigram(table, data);
        return detail::tokenizing::SentencePieceBpe(table, data);
    }

    [[nodiscard]] std::optional<TokenId> checked_id(std::optional<TokenId> id, std::string_view what) const {
        if (id && !table_.contains(*id)) {
            fail(ErrorCode::CorruptFile, "the ", what, " token is ", *id, " in a vocabulary of ", table_.size());
        }
        return id;
    }

    [[nodiscard]] static TokenId required(std::optional<TokenId> id, std::string_view option, std::string_view what) {
        if (!id) fail(ErrorCode::InvalidArgument, option, ", but the vocabulary has no ", what, " token");
        return *id;
    }

    detail::tokenizing::Normalizer normalizer_;
    detail::tokenizing::TokenTable table_;
    std::optional<TokenId> bos_, eos_, eot_, unknown_, padding_;
    bool adds_bos_, adds_eos_;
    bool space_prefix_, byte_level_;
    PrefixScheme prefix_scheme_;
    Engine engine_;
    detail::tokenizing::RecognizedTokens user_defined_;  ///< recognised always
    detail::tokenizing::RecognizedTokens all_;           ///< recognised where parse_special is on: those and the special ones
    std::string chat_template_;
};

}  // namespace adainfer::inline v0
