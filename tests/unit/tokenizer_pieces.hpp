#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "adainfer/tokenize/tokenizer.hpp"

/// Small vocabularies of SentencePiece's kinds, worked with by hand.
namespace test_pieces {

inline void add(adainfer::TokenizerData& data, std::string_view piece, double score,
                adainfer::TokenType type = adainfer::TokenType::Normal) {
    data.tokens.emplace_back(piece);
    data.scores.push_back(score);
    data.token_types.push_back(static_cast<int>(type));
}

/// <unk>, <s>, </s>: the first three tokens of every vocabulary here.
inline adainfer::TokenizerData with_specials(std::string_view model) {
    adainfer::TokenizerData data;
    data.model = model;
    add(data, "<unk>", 0, adainfer::TokenType::Unknown);
    add(data, "<s>", 0, adainfer::TokenType::Control);
    add(data, "</s>", 0, adainfer::TokenType::Control);
    data.unknown = 0;
    data.bos = 1;
    data.eos = 2;
    return data;
}

/// The same with the 256 byte tokens.
inline adainfer::TokenizerData with_bytes(std::string_view model) {
    adainfer::TokenizerData data = with_specials(model);
    constexpr std::string_view hex = "0123456789ABCDEF";
    for (std::size_t byte = 0; byte < 256; ++byte) {
        add(data, std::string("<0x") + hex[byte / 16] + hex[byte % 16] + ">", 0, adainfer::TokenType::Byte);
    }
    return data;
}

inline adainfer::TokenId id_of(const adainfer::TokenizerData& data, std::string_view piece) {
    return static_cast<adainfer::TokenId>(std::find(data.tokens.begin(), data.tokens.end(), piece) - data.tokens.begin());
}

/// The tokens of a text as what they stand for, with '|' between.
inline std::string spelled(const adainfer::Tokenizer& tokenizer, std::string_view text,
                           const adainfer::EncodeOptions& options = {}) {
    std::string out;
    for (const adainfer::TokenId id : tokenizer.encode(text, options)) {
        if (!out.empty()) out += '|';
        out += tokenizer.token_bytes(id);
    }
    return out;
}

}  // namespace test_pieces
