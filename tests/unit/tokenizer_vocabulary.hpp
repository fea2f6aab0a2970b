#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "adainfer/tokenize/byte_spelling.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

/// A vocabulary small enough to merge by hand: the 256 bytes in order, then a few longer tokens.
namespace test_vocabulary {

inline adainfer::TokenizerData data() {
    adainfer::TokenizerData d;
    d.model = "gpt2";
    d.pre = "gpt-2";
    for (int byte = 0; byte < 256; ++byte) {
        const char c = static_cast<char>(static_cast<unsigned char>(byte));
        d.tokens.push_back(adainfer::detail::byte_spelling::spelled({&c, 1}));
    }
    for (const char* token : {"ab", "bc", "abc", "Ġab", "Ġabc", "aa", "aaaa", "12"}) d.tokens.emplace_back(token);
    d.token_types.assign(d.tokens.size(), 1);
    for (const char* token : {"<s>", "</s>", "<|im_end|>", "@@@"}) d.tokens.emplace_back(token);
    d.token_types.resize(d.tokens.size(), 3);
    for (const char* token : {"<tool>", "<tool>s>", "##@", "#@@@"}) d.tokens.emplace_back(token);
    d.token_types.resize(d.tokens.size(), 4);
    d.merges = {"a b", "b c", "Ġ ab", "ab c", "Ġab c", "a a", "aa aa"};
    const auto id = [&d](std::string_view token) {
        return static_cast<adainfer::TokenId>(std::find(d.tokens.begin(), d.tokens.end(), token) - d.tokens.begin());
    };
    d.bos = id("<s>");
    d.eos = id("</s>");
    d.padding = d.eos;
    d.add_bos = true;
    d.chat_template = "{{ messages }}";
    return d;
}

inline adainfer::TokenId id_of(std::string_view token) {
    const adainfer::TokenizerData d = data();
    return static_cast<adainfer::TokenId>(std::find(d.tokens.begin(), d.tokens.end(), token) - d.tokens.begin());
}

}  // namespace test_vocabulary
