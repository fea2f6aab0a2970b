#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/io/hf_tokenizer_json.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0::detail::hf {

/// Numbers the tokens of a tokenizer.json: its vocabulary, then its added tokens.
class VocabularyReader {
  public:
    /// All must outlive this object. Sets tokens, token_types, scores, added and hugging_face of `data`. Throws Error
    /// (CorruptFile) for no tokens, ids out of range or taken twice, tokens that are there twice, and added tokens that have
    /// another id than the library `tokenizers` would give them.
    VocabularyReader(const TokenizerJson& file, std::string_view name, TokenizerData& data)
        : vocabulary_(file.vocabulary), name_(name), data_(data) {
        if (vocabulary_.empty()) corrupt("model.vocab has no tokens");
        std::size_t last = 0;
        for (const TokenizerJson::Piece& piece : vocabulary_) last = (std::max)(last, checked(piece));
        grow(last + 1, file.unigram);
        ids_.reserve(vocabulary_.size());
        for (const TokenizerJson::Piece& piece : vocabulary_) {
            place(piece.text, piece.id);
            if (file.unigram) data_.scores[piece.id] = piece.score;
        }
        data_.hugging_face = true;
        const json::Field document(file.rest.root(), name);
        if (const auto added = document.find("added_tokens"); added && !added->is_null()) {
            for (const json::Field& token : added->elements()) add(token, file.unigram);
        }
    }

    [[nodiscard]] std::optional<TokenId> find(std::string_view text) const {
        const auto found = ids_.find(text);
        return found == ids_.end() ? std::nullopt : std::optional(static_cast<TokenId>(found->second));
    }

  private:
    template <class... Parts>
    [[noreturn]] void corrupt(const Parts&... parts) const {
        fail(ErrorCode::CorruptFile, "'", name_, "': ", parts...);
    }

    /// The id of a piece. Ids may be left out, but not so many that a small file takes much memory.
    [[nodiscard]] std::size_t checked(const TokenizerJson::Piece& piece) const {
        const std::uint64_t most = std::uint64_t{vocabulary_.size()} * 2 + 65536;
        if (piece.id < most && piece.id < 0x7FFFFFFF) return static_cast<std::size_t>(piece.id);
        corrupt("the token ", detail::quoted(piece.text), " has the id ", piece.id, " among ", vocabulary_.size(), " tokens");
    }

    void grow(std::size_t count, bool scores) {
        data_.tokens.resize(count);
        data_.token_types.resize(count, static_cast<std::int32_t>(TokenType::Normal));
        if (scores) data_.scores.resize(count);
        taken_.resize(count);
    }

    /// `text` stays in place: it is the file's.
    void place(std::string_view text, std::size_t id) {
        if (taken_[id])
            corrupt("the tokens ", detail::quoted(data_.tokens[id]), " and ", detail::quoted(text), " both have the id ", id);
        if (!ids_.emplace(text, id).second) corrupt("the token ", detail::quoted(text), " is there twice");
        taken_[id] = true;
        data_.tokens[id] = text;
    }

    void add(const json::Field& token, bool scores) {
        const std::string& text = token.at("content").text();
        const std::size_t id = token.at("id").count(0x7FFFFFFE);
        if (text.empty()) corrupt("the added token ", id, " has no text");
        if (const auto known = find(text)) {
            if (static_cast<std::size_t>(*known) != id)
                corrupt("the added token ", detail::quoted(text), " has the id ", id, ", in the vocabulary it is ", *known);
        } else {
            // The library goes by the text and numbers new ones on from the end, whatever the file says.
            if (id != (std::max)(vocabulary_.size(), after_added_))
                corrupt("the added token ", detail::quoted(text), " has the id ", id, ", its place in the list makes it ",
                        (std::max)(vocabulary_.size(), after_added_));
            if (id >= data_.tokens.size()) grow(id + 1, scores);
            place(text, id);
        }
        if (!added_.insert(id).second) corrupt("the added token ", detail::quoted(text), " is there twice");
        after_added_ = (std::max)(after_added_, id + 1);
        const auto flag = [&token](std::string_view key) {
            const auto field = token.find(key);
            return field && field->boolean();
        };
        const TokenType type = flag("special") ? TokenType::Control : TokenType::UserDefined;
        data_.token_types[id] = static_cast<std::int32_t>(type);
        AddedToken& added = data_.added.emplace_back();
        added.id = static_cast<TokenId>(id);
        added.strip_left = flag("lstrip");
        added.strip_right = flag("rstrip");
        added.single_word = flag("single_word");
        added.normalized = flag("normalized");
    }

    const std::vector<TokenizerJson::Piece>& vocabulary_;
    std::string_view name_;
    TokenizerData& data_;
    std::unordered_map<std::string_view, std::size_t> ids_;
    std::vector<bool> taken_;
    std::unordered_set<std::size_t> added_;
    std::size_t after_added_ = 0;
};

/// Reads the switches of "model". Sets model, unknown and what the two kinds of model have of their own. Throws Error
/// (CorruptFile) for fields of a wrong type and an unknown token that is not in the vocabulary, and (Unsupported) for another
/// type of model, dropout, and prefixes or suffixes of word parts.
inline void read_model(const TokenizerJson& file, std::string_view name, const VocabularyReader& vocabulary, bool byte_level,
                       TokenizerData& data) {
    const json::Field model = json::Field(file.rest.root(), name).at("model");
    const auto given = [&model](std::string_view key) {
        const auto field = model.find(key);
        return field && !field->is_null() ? field : std::nullopt;
    };
    const auto flag = [&given](std::string_view key) {
        const auto field = given(key);
        return field && field->boolean();
    };
    const auto unsupported = [name](const auto&... parts) { fail(ErrorCode::Unsupported, "'", name, "': ", parts...); };

    const auto type = given("type");
    const std::string kind = type ? type->text() : file.unigram ? "Unigram" : file.has_merges ? "BPE" : "";
    if (kind != "BPE" && kind != "Unigram") unsupported("model.type is ", detail::quoted(kind), "; supported: BPE, Unigram");
    if (file.unigram != (kind == "Unigram"))
        fail(ErrorCode::CorruptFile, "'", name, "': model.vocab is that of another model than ", kind);
    data.byte_fallback = flag("byte_fallback");
    if (kind == "Unigram") {
        if (byte_level) unsupported("a Unigram model that spells bytes (ByteLevel)");
        data.model = "t5";
        if (const auto unknown = given("unk_id")) data.unknown = static_cast<TokenId>(unknown->count(data.tokens.size() - 1));
        return;
    }
    if (!file.has_merges) fail(ErrorCode::CorruptFile, "'", name, "': field 'model.merges' is missing");
    if (const auto dropout = given("dropout"); dropout && dropout->number() != 0.0) unsupported("model.dropout");
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        if (const auto text = given(key); text && !text->text().empty())
            unsupported("model.", key, ' ', detail::quoted(text->text()));
    }
    data.model = byte_level ? "gpt2" : "llama";
    data.fuse_unknown = flag("fuse_unk");
    data.ignore_merges = flag("ignore_merges");
    if (const auto unknown = given("unk_token")) {
        const std::string& text = unknown->text();
        data.unknown = vocabulary.find(text);
        if (!data.unknown) fail(ErrorCode::CorruptFile, "'", name, "': model.unk_token ", detail::quoted(text), " is not a token");
    }
}

}  // namespace adainfer::inline v0::detail::hf
