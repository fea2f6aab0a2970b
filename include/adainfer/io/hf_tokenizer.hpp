#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/io/hf_decoder.hpp"
#include "adainfer/io/hf_pre_tokenizer.hpp"
#include "adainfer/io/hf_tokenizer_json.hpp"
#include "adainfer/io/hf_vocabulary.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/io/text_file.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

namespace detail::hf {

/// The largest in use, with 262,144 tokens, has 33 MB.
inline constexpr std::size_t max_tokenizer_bytes = std::size_t{512} << 20U;
inline constexpr std::size_t max_config_bytes = std::size_t{64} << 20U;

/// A JSON file of a model folder, or nothing where there is no such file.
struct OptionalJson {
    std::string name;
    std::optional<json::Document> document;

    OptionalJson(const std::filesystem::path& folder, std::string_view file) : name((folder / file).string()) {
        std::error_code ignored;
        if (std::filesystem::exists(folder / file, ignored)) document = json::parse_file(folder / file, max_config_bytes);
    }

    /// A member that is there and not null.
    [[nodiscard]] std::optional<json::Field> find(std::string_view key) const {
        if (!document) return std::nullopt;
        const auto field = json::Field(document->root(), name).find(key);
        return field && !field->is_null() ? field : std::nullopt;
    }
};

/// Reads the settings that stand beside tokenizer.json in the folder.
class TokenizerSettings {
  public:
    /// `template_says`: tokenizer.json itself tells which tokens go around a text, so add_bos_token does not count (newer
    /// versions of transformers do the same). The others must outlive this object.
    TokenizerSettings(const std::filesystem::path& folder, const VocabularyReader& vocabulary, bool template_says,
                      TokenizerData& data)
        : folder_(folder),
          template_says_(template_says),
          tokenizer_(folder, "tokenizer_config.json"),
          special_(folder, "special_tokens_map.json"),
          generation_(folder, "generation_config.json"),
          model_(folder, "config.json"),
          vocabulary_(vocabulary),
          data_(data) {}

    /// Sets the special tokens, add_bos, add_eos and chat_template. Throws Error (CorruptFile) for fields of a wrong type, tokens
    /// that are not in the vocabulary and ids beyond it.
    void read() {
        const auto begin = token("bos_token"), end = token("eos_token");
        data_.padding = token("pad_token");
        if (const auto unknown = token("unk_token"); unknown && !data_.unknown) data_.unknown = unknown;
        if (!data_.bos) data_.bos = begin;
        for (const OptionalJson* file : {&generation_, &model_}) {
            if (const auto field = file->find("bos_token_id"); field && !data_.bos) data_.bos = id(*field);
        }
        const auto add_bos = tokenizer_.find("add_bos_token"), add_eos = tokenizer_.find("add_eos_token");
        const bool wants_bos = add_bos && add_bos->boolean(), wants_eos = add_eos && add_eos->boolean();
        if (!template_says_) {
            data_.add_bos = wants_bos && data_.bos;
            data_.add_eos = wants_eos && end;
        }
        if (end) data_.ends.push_back(*end);
        for (const OptionalJson* file : {&generation_, &model_}) {
            const auto field = file->find("eos_token_id");
            if (!field) continue;
            for (const json::Field& one : field->is_array() ? field->elements() : std::vector{*field})
                data_.ends.push_back(id(one));
        }
        if (!data_.eos && !data_.ends.empty()) data_.eos = data_.ends.front();
        const auto other = std::find_if(data_.ends.begin(), data_.ends.end(), [this](TokenId e) { return e != data_.eos; });
        if (other != data_.ends.end()) data_.eot = *other;
        read_template();
    }

  private:
    /// The token that a role names, as text or as an object with "content". One that is not in the vocabulary is as none for
    /// padding, which generation does not need.
    [[nodiscard]] std::optional<TokenId> token(std::string_view role) const {
        for (const OptionalJson* file : {&tokenizer_, &special_}) {
            const auto field = file->find(role);
            if (!field) continue;
            const std::string& text = field->is_string() ? field->text() : field->at("content").text();
            const auto found = vocabulary_.find(text);
            if (!found && role != "pad_token")
                fail(ErrorCode::CorruptFile, "'", file->name, "': ", role, ' ', detail::quoted(text), " is not in the vocabulary");
            return found;
        }
        return std::nullopt;
    }

    [[nodiscard]] TokenId id(const json::Field& field) const {
        return static_cast<TokenId>(field.count(data_.tokens.size() - 1));
    }

    void read_template() {
        std::error_code ignored;
        if (const auto path = folder_ / "chat_template.jinja"; std::filesystem::exists(path, ignored)) {
            data_.chat_template = TextFile(path, max_config_bytes).text();
            return;
        }
        const auto field = tokenizer_.find("chat_template");
        if (!field) return;
        if (!field->is_array()) {
            data_.chat_template = field->text();
            return;
        }
        for (const json::Field& one : field->elements()) {  // several, by name
            if (one.at("name").text() == "default") data_.chat_template = one.at("template").text();
        }
    }

    const std::filesystem::path& folder_;
    bool template_says_;
    OptionalJson tokenizer_, special_, generation_, model_;
    const VocabularyReader& vocabulary_;
    TokenizerData& data_;
};

/// Reads the text of a tokenizer.json and, where `folder` is given, what stands beside it. Throws as read_hf_tokenizer_data().
[[nodiscard]] inline TokenizerData read_tokenizer_json(std::string_view text, std::string_view name,
                                                       const std::filesystem::path* folder = nullptr) {
    const TokenizerJson file = parse_tokenizer_json(text, name);
    TokenizerData data;
    const json::Field document(file.rest.root(), name);
    if (!file.has_vocabulary) fail(ErrorCode::CorruptFile, "'", name, "': field 'model.vocab' is missing");
    const TextReader text_reader(document, name, data);
    check_decoder(document, name, text_reader.byte_level(), data);
    const bool template_says = read_post_processor(document, name, data);
    const VocabularyReader vocabulary(file, name, data);
    read_model(file, name, vocabulary, text_reader.byte_level(), data);
    data.merges = file.merges;
    for (const auto& id : {data.bos, data.eos}) {
        if (id && static_cast<std::size_t>(*id) >= data.tokens.size())
            fail(ErrorCode::CorruptFile, "'", name, "': post_processor names the token ", *id, " of ", data.tokens.size());
    }
    if (folder != nullptr) TokenizerSettings(*folder, vocabulary, template_says, data).read();
    return data;
}

}  // namespace detail::hf

/// The tokenizer of a Hugging Face folder: tokenizer.json, and where they are there tokenizer_config.json (or
/// special_tokens_map.json: special tokens; add_bos_token, where tokenizer.json has no TemplateProcessing; chat template, which
/// may also be chat_template.jinja), generation_config.json and config.json (every eos_token_id ends a generation). Text, ids
/// and merges mean what they mean to the library `tokenizers`; what Tokenizer checks is not checked here.
/// Throws Error (Io) where tokenizer.json cannot be read, (CorruptFile) where a file breaks the rules of its format, and
/// (Unsupported), quoting it, for a model, normalizer, pre-tokenizer, regular expression, decoder or post-processor that
/// Tokenizer does not have.
[[nodiscard]] inline TokenizerData read_hf_tokenizer_data(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder / "tokenizer.json";
    const detail::TextFile file(path, detail::hf::max_tokenizer_bytes);
    return detail::hf::read_tokenizer_json(file.text(), path.string(), &folder);
}

/// The tokenizer of a Hugging Face folder, ready for use. Throws as read_hf_tokenizer_data() and Tokenizer.
[[nodiscard]] inline Tokenizer load_hf_tokenizer(const std::filesystem::path& folder) {
    TokenizerData data = read_hf_tokenizer_data(folder);
    try {
        return Tokenizer(std::move(data));
    } catch (const Error& error) {
        fail(error.code(), "'", (folder / "tokenizer.json").string(), "': ", detail::json::message_of(error));
    }
}

}  // namespace adainfer::inline v0
