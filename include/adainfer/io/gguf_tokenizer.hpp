#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

namespace detail {

/// Calls what knows the vocabulary but not the file, and puts the file's name in front of the message of its Error.
template <class Call>
auto naming_file(const GgufFile& file, Call&& call) {
    try {
        return call();
    } catch (const Error& error) {
        const std::size_t prefix = to_string(error.code()).size() + 2;  // "corrupt file: "
        fail(error.code(), "'", file.name(), "': ", std::string_view(error.what()).substr(prefix));
    }
}

}  // namespace detail

namespace detail {

/// Model kinds differ in what holds where a file is silent; this is llama.cpp's table, whose converter leaves out what it
/// takes for granted.
inline void fill_tokenizer_defaults(const GgufFile& file, TokenizerData& data) {
    const auto usual = [&data](std::optional<TokenId>& id, std::size_t value) {
        if (!id && value < data.tokens.size()) id = static_cast<TokenId>(value);
    };
    if (data.model == "gpt2") {
        data.add_bos = naming_file(file, [&] { return pre_tokenizer_adds_bos(data.pre); });
    } else if (data.model == "llama") {
        data.add_bos = data.add_space_prefix = true;
        usual(data.bos, 1);
        usual(data.eos, 2);
        usual(data.unknown, 0);
    } else if (data.model == "gemma4") {
        data.add_bos = true;
    } else if (data.model == "t5") {
        data.add_eos = true;
        usual(data.eos, 1);
        usual(data.unknown, 2);
        usual(data.padding, 0);
    }
}

/// What the special tokens of Phi-3 do with white space behind them; GGUF has no key for that, llama.cpp goes by the name.
inline void add_phi3_rules(const GgufFile& file, TokenizerData& data) {
    std::string name = file.find_string("general.name").value_or("");
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return;
    for (std::size_t i = 0; i < data.token_types.size() && i < data.tokens.size(); ++i) {
        const auto type = static_cast<TokenType>(data.token_types[i]);
        const std::string& text = data.tokens[i];
        const bool special = type == TokenType::Control || type == TokenType::Unknown || type == TokenType::UserDefined;
        if (!special || text == "<unk>" || text == "<s>" || text == "<|endoftext|>") continue;
        data.added.push_back({.id = static_cast<TokenId>(i), .strip_right = true});
    }
}

}  // namespace detail

/// The tokenizer keys of a GGUF file, unchecked beyond their types and ids. Throws CorruptFile where the file has none, and
/// Unsupported (pre-tokenizer).
[[nodiscard]] inline TokenizerData read_tokenizer_data(const GgufFile& file) {
    if (!file.has("tokenizer.ggml.model")) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': the file holds no tokenizer (no key tokenizer.ggml.model)");
    }
    const auto key = [](std::string_view name) { return std::string("tokenizer.ggml.").append(name); };
    TokenizerData data;
    data.model = file.get_string(key("model"));
    data.pre = file.find_string(key("pre")).value_or("");
    data.tokens = file.get_string_array(key("tokens"));
    if (data.model == "gpt2" || data.model == "gemma4") {
        data.merges = file.find_string_array(key("merges")).value_or(std::vector<std::string>{});
    } else if (const auto scores = file.find_float_array(key("scores"))) {
        data.scores.assign(scores->begin(), scores->end());
    }
    if (const auto types = file.find_int_array(key("token_type"))) {
        for (const std::int64_t type : *types) {
            if (type < 0 || type > static_cast<std::int64_t>(TokenType::Byte)) {
                fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("token_type"), " of token ", data.token_types.size(),
                     " is ", type);
            }
            data.token_types.push_back(static_cast<std::int32_t>(type));
        }
    }
    const auto id = [&](std::string_view name) -> std::optional<TokenId> {
        const auto value = file.find_uint(key(name));
        if (!value || *value == 0xFFFFFFFFU) return std::nullopt;  // some writers say "none" so
        if (*value >= data.tokens.size()) {
            fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key(name), " is ", *value, ", the vocabulary has ",
                 data.tokens.size());
        }
        return static_cast<TokenId>(*value);
    };
    data.bos = id("bos_token_id");
    data.eos = id("eos_token_id");
    data.eot = id("eot_token_id");
    data.unknown = id("unknown_token_id");
    data.padding = id("padding_token_id");
    detail::fill_tokenizer_defaults(file, data);
    data.add_bos = file.find_bool(key("add_bos_token")).value_or(data.add_bos) || data.model == "gemma4";
    data.add_eos = file.find_bool(key("add_eos_token")).value_or(data.add_eos);
    if (data.model != "gpt2") {  // llama.cpp puts no space in front there, whatever the file says
        data.add_space_prefix = file.find_bool(key("add_space_prefix")).value_or(data.add_space_prefix);
    }
    if (data.model == "t5") {
        data.remove_extra_whitespace = file.find_bool(key("remove_extra_whitespaces")).value_or(false);
        if (const auto map = file.find_int_array(key("precompiled_charsmap"))) {
            for (const std::int64_t byte : *map) data.charsmap.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
        }
    }
    detail::add_phi3_rules(file, data);
    data.chat_template = file.find_string("tokenizer.chat_template").value_or("");
    return data;
}

/// The tokenizer of a GGUF file. Throws CorruptFile (none there, or inconsistent) and Unsupported.
[[nodiscard]] inline Tokenizer load_tokenizer(const GgufFile& file) {
    TokenizerData data = read_tokenizer_data(file);
    return detail::naming_file(file, [&] { return Tokenizer(std::move(data)); });
}

}  // namespace adainfer::inline v0
