#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "adainfer/tokenize/stream_decoder.hpp"
#include "tokenizer_vocabulary.hpp"

namespace test_tokenizer_stream {

using adainfer::StreamDecoder;
using adainfer::TokenId;
using adainfer::Tokenizer;

namespace {

/// The text of each byte pushed as a token of its own, with '|' between and the rest at the end.
std::string stream(std::string_view bytes) {
    const Tokenizer tokenizer(test_vocabulary::data());
    StreamDecoder decoder(tokenizer);
    std::string out;
    for (const char c : bytes) {
        out += decoder.push(static_cast<TokenId>(static_cast<unsigned char>(c)));
        out += '|';
    }
    return out + decoder.finish();
}

}  // namespace

TEST_CASE("stream decoder: whole characters only") {
    CHECK(stream("ab") == "a|b|");
    CHECK(stream("é") == "|é|");
    CHECK(stream("€x") == "||€|x|");
    CHECK(stream("😀") == "|||😀|");
}

TEST_CASE("stream decoder: one replacement for each part that cannot be a character") {
    CHECK(stream("\xFFx") == "\uFFFD|x|");
    CHECK(stream("\xE2\x82") == "||\uFFFD");
    CHECK(stream("\xE2\x82x") == "||\uFFFDx|");
    CHECK(stream("\xF0\x9F\x98\xC3\xA9") == "|||\uFFFD|é|");
    CHECK(stream("\xC0\x80") == "\uFFFD|\uFFFD|");
    CHECK(stream("\xED\xA0\x80") == "|\uFFFD\uFFFD|\uFFFD|");
    CHECK(stream("\xF4\x90\x80\x80") == "|\uFFFD\uFFFD|\uFFFD|\uFFFD|");
    CHECK(stream("\xE0\x80") == "|\uFFFD\uFFFD|");
    CHECK(stream("\x80") == "\uFFFD|");
}

TEST_CASE("stream decoder: longer tokens, control tokens and reuse") {
    const Tokenizer tokenizer(test_vocabulary::data());
    const TokenId end = test_vocabulary::id_of("<|im_end|>");
    StreamDecoder shown(tokenizer), hidden(tokenizer, true);
    CHECK(shown.push(test_vocabulary::id_of("Ġabc")) == " abc");
    CHECK(shown.push(end) == "<|im_end|>");
    CHECK(shown.push(0xC3).empty());
    CHECK_THROWS_AS((void)shown.push(-1), adainfer::Error);
    CHECK(shown.push(0xA9) == "é");
    CHECK(shown.finish().empty());

    CHECK(hidden.push(0xC3).empty());
    CHECK(hidden.push(end).empty());
    CHECK(hidden.push(0xA9) == "é");
    CHECK(hidden.push(0xE2).empty());
    CHECK(hidden.finish() == "\uFFFD");
    CHECK(hidden.push('a') == "a");
}

}  // namespace test_tokenizer_stream
