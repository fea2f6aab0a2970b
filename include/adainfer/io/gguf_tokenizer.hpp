#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/tokenize/bpe_tokenizer.hpp"
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
    data.merges = file.find_string_array(key("merges")).value_or(std::vector<std::string>{});
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
    const bool usual = detail::naming_file(file, [&] { return pre_tokenizer_adds_bos(data.pre); });
    data.add_bos = file.find_bool(key("add_bos_token")).value_or(usual);
    data.add_space_prefix = file.find_bool(key("add_space_prefix")).value_or(false);
    data.chat_template = file.find_string("tokenizer.chat_template").value_or("");
    return data;
}

/// The tokenizer of a GGUF file. Throws CorruptFile (none there, or inconsistent) and Unsupported.
[[nodiscard]] inline Tokenizer load_tokenizer(const GgufFile& file) {
    TokenizerData data = read_tokenizer_data(file);
    return detail::naming_file(file, [&] { return Tokenizer(std::move(data)); });
}

}  // namespace adainfer::inline v0
