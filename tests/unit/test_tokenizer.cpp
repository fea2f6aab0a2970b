#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "adainfer/tokenize/tokenizer.hpp"
#include "errors.hpp"
#include "tokenizer_vocabulary.hpp"

namespace test_tokenizer {

using adainfer::EncodeOptions;
using adainfer::Error;
using adainfer::ErrorCode;
using adainfer::InvalidUtf8;
using adainfer::MissingByte;
using adainfer::TokenId;
using adainfer::Tokenizer;
using adainfer::TokenizerData;
using test_vocabulary::data;
using test_vocabulary::id_of;

namespace {

/// Ids as the texts of their tokens with '|' between.
std::string spelled(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options = {}) {
    std::string out;
    for (const TokenId id : tokenizer.encode(text, options)) {
        if (!out.empty()) out += '|';
        out += tokenizer.token_bytes(id);
    }
    return out;
}

/// The message of the error that the constructor throws.
std::string refusal(TokenizerData bad, ErrorCode code) {
    try {
        const Tokenizer tokenizer(std::move(bad));
    } catch (const Error& error) {
        CHECK(error.code() == code);
        return error.what();
    }
    return "accepted";
}

}  // namespace

TEST_CASE("tokenizer: merges go by rank, then from the left") {
    const Tokenizer tokenizer(data());
    CHECK(spelled(tokenizer, "abc") == "abc");
    CHECK(spelled(tokenizer, "bcab") == "bc|ab");
    CHECK(spelled(tokenizer, "aaa") == "aa|a");
    CHECK(spelled(tokenizer, "aaaaa") == "aaaa|a");
    CHECK(spelled(tokenizer, " abc abc") == " abc| abc");
    CHECK(spelled(tokenizer, "ab12") == "ab|1|2");
    CHECK(tokenizer.encode("").empty());
}

TEST_CASE("tokenizer: special tokens in the text") {
    const Tokenizer tokenizer(data());
    const EncodeOptions plain{.parse_special = false};
    CHECK(spelled(tokenizer, "ab<|im_end|>c") == "ab|<|im_end|>|c");
    CHECK(spelled(tokenizer, "<|im_end|><|im_end|>") == "<|im_end|>|<|im_end|>");
    CHECK(tokenizer.encode("<|im_end|>", plain).size() == 10);
    CHECK(spelled(tokenizer, "<|im_end") == "<|||i|m|_|e|n|d");

    SUBCASE("user-defined ones always") {
        CHECK(spelled(tokenizer, "a<tool>b") == "a|<tool>|b");
        CHECK(spelled(tokenizer, "a<tool>b", plain) == "a|<tool>|b");
    }
    SUBCASE("the longest first, even where a shorter one begins earlier") {
        CHECK(spelled(tokenizer, "<tool>s>") == "<tool>s>");
        CHECK(spelled(tokenizer, "x<tool>s> <tool>s") == "x|<tool>s>| |<tool>|s");
        CHECK(spelled(tokenizer, "##@@@") == "#|#@@@");
    }
}

TEST_CASE("tokenizer: bos, ends and the other accessors") {
    const Tokenizer tokenizer(data());
    CHECK(tokenizer.vocab_size() == data().tokens.size());
    CHECK(tokenizer.bos() == id_of("<s>"));
    CHECK(tokenizer.eos() == id_of("</s>"));
    CHECK_FALSE(tokenizer.eot().has_value());
    CHECK_FALSE(tokenizer.unknown().has_value());
    CHECK(tokenizer.padding() == id_of("</s>"));
    CHECK(tokenizer.adds_bos());
    CHECK(tokenizer.chat_template() == "{{ messages }}");
    CHECK(tokenizer.encode("a", {.add_bos = true}) == std::vector<TokenId>{id_of("<s>"), id_of("a")});
    CHECK(tokenizer.encode("", {.add_bos = true}) == std::vector<TokenId>{id_of("<s>")});

    CHECK(tokenizer.is_end_of_generation(id_of("</s>")));
    CHECK(tokenizer.is_end_of_generation(id_of("<|im_end|>")));
    CHECK_FALSE(tokenizer.is_end_of_generation(id_of("<s>")));
    CHECK_FALSE(tokenizer.is_end_of_generation(-1));
    CHECK(tokenizer.is_special(id_of("<s>")));
    CHECK_FALSE(tokenizer.is_special(id_of("<tool>")));
    CHECK_FALSE(tokenizer.is_special(static_cast<TokenId>(tokenizer.vocab_size())));

    TokenizerData no_bos = data();
    no_bos.bos.reset();
    CHECK_THROWS_AS((void)Tokenizer(no_bos).encode("a", {.add_bos = true}), Error);
}

TEST_CASE("tokenizer: a name that ends a turn makes a control token of any type") {
    TokenizerData unmarked = data();
    for (auto& type : unmarked.token_types) type = 1;
    const Tokenizer tokenizer(std::move(unmarked));
    CHECK(tokenizer.is_special(id_of("<|im_end|>")));
    CHECK(tokenizer.encode("<|im_end|>").size() == 1);
    CHECK(tokenizer.encode("<|im_end|>", {.parse_special = false}).size() == 10);
}

TEST_CASE("tokenizer: tokens and bytes") {
    const Tokenizer tokenizer(data());
    CHECK(tokenizer.find("Ġabc") == id_of("Ġabc"));
    CHECK_FALSE(tokenizer.find(" abc").has_value());
    CHECK_FALSE(tokenizer.find("").has_value());
    CHECK(tokenizer.token_bytes(id_of("Ġabc")) == " abc");
    CHECK(tokenizer.token_bytes(id_of("<|im_end|>")) == "<|im_end|>");

    const std::vector<TokenId> ids = tokenizer.encode("ab<|im_end|> abc<tool>");
    CHECK(tokenizer.decode(ids) == "ab<|im_end|> abc<tool>");
    CHECK(tokenizer.decode(ids, true) == "ab abc<tool>");
    const std::vector<TokenId> beyond{0, static_cast<TokenId>(tokenizer.vocab_size())};
    CHECK_THROWS_WITH_AS((void)tokenizer.decode(beyond), "unknown token: token 272 in a vocabulary of 272", Error);
    CHECK_THROWS_AS((void)tokenizer.token_bytes(-1), Error);
}

TEST_CASE("tokenizer: invalid UTF-8 and bytes without a token") {
    const Tokenizer tokenizer(data());
    CHECK(spelled(tokenizer, "a\xFF") == "a|\xEF|\xBF|\xBD");
    CHECK(tokenizer.decode(tokenizer.encode("\xE2\x82")) == "\xEF\xBF\xBD\xEF\xBF\xBD");
    CHECK(tokenizer.decode(tokenizer.encode("\xC0\xAF")) == "/");
    CHECK(tokenizer.decode(tokenizer.encode("\xF4\x90\x80\x80")).size() == 12);
    const EncodeOptions keep{.invalid_utf8 = InvalidUtf8::Keep};
    for (const std::string text : {"a\xFF", "\xE2\x82", "\xC0\xAF x", "\xF4\x90\x80\x80", "\xED\xA0\x80"}) {
        CHECK(tokenizer.decode(tokenizer.encode(text, keep)) == text);
    }

    TokenizerData fewer = data();
    fewer.tokens[4] = "a hole";
    const Tokenizer holed(std::move(fewer));
    CHECK(spelled(holed, "a\x04z") == "a|z");
    CHECK(spelled(holed, "a\x04", {.missing_byte = MissingByte::Drop}) == "a");
    CHECK_THROWS_WITH_AS((void)holed.encode("a\x04", {.missing_byte = MissingByte::Throw}),
                         "unknown token: the vocabulary has no token for the byte 4", Error);
}

TEST_CASE("tokenizer: a word that is a token is taken whole where the pre-tokenizer says so") {
    TokenizerData whole = data();
    whole.merges.clear();
    whole.pre = "llama-bpe";
    CHECK(spelled(Tokenizer(whole), "abc") == "abc");
    whole.pre = "dbrx";
    CHECK(spelled(Tokenizer(whole), "abc") == "a|b|c");
}

TEST_CASE("tokenizer: refuses a broken vocabulary and says what is wrong") {
    TokenizerData bad = data();
    const ErrorCode corrupt = ErrorCode::CorruptFile;
    SUBCASE("empty") {
        CHECK(contains(refusal({.model = "gpt2", .pre = "gpt-2"}, corrupt), "no tokens"));
    }
    SUBCASE("equal tokens") {
        bad.tokens.back() = "abc";
        CHECK(contains(refusal(bad, corrupt), "'abc'"));
    }
    SUBCASE("types that do not fit") {
        bad.token_types.pop_back();
        CHECK(contains(refusal(bad, corrupt), "271 types"));
        bad.token_types.push_back(7);
        CHECK(contains(refusal(bad, corrupt), "token 271 has the unknown type 7"));
    }
    SUBCASE("no token for a byte") {
        bad.tokens['A'] = "no A";
        CHECK(contains(refusal(bad, corrupt), "byte 0x41"));
    }
    SUBCASE("malformed merges") {
        for (const std::string merge : {"ab", "", " ab", "ab ", "a b c", "a  b"}) {
            bad.merges.back() = merge;
            CHECK(contains(refusal(bad, corrupt), "'" + merge + "'"));
        }
    }
    SUBCASE("merges of tokens that are not there") {
        bad.merges.back() = "a xyz";
        CHECK(contains(refusal(bad, corrupt), "names 'xyz'"));
        bad.merges.back() = "x y";
        CHECK(contains(refusal(bad, corrupt), "names 'xy'"));
    }
    SUBCASE("a merge twice") {
        bad.merges.push_back(bad.merges.front());
        CHECK(contains(refusal(bad, corrupt), "twice"));
    }
    SUBCASE("special ids out of range") {
        bad.eos = 272;
        CHECK(contains(refusal(bad, corrupt), "the eos token is 272"));
        bad.eos = -1;
        CHECK(contains(refusal(bad, corrupt), "the eos token is -1"));
    }
    SUBCASE("another kind of vocabulary") {
        bad.model = "bert";
        const std::string message = refusal(bad, ErrorCode::Unsupported);
        CHECK(contains(message, "'bert'"));
        CHECK(contains(message, "gpt2"));
        CHECK(contains(message, "llama"));
    }
    SUBCASE("an unknown pre-tokenizer") {
        bad.pre = "quantum";
        const std::string message = refusal(bad, ErrorCode::Unsupported);
        CHECK(contains(message, "'quantum'"));
        CHECK(contains(message, "smollm"));
        CHECK_THROWS_AS((void)adainfer::pre_tokenizer_adds_bos("quantum"), Error);
    }
}

TEST_CASE("tokenizer: long words take the same merges as short ones, and not much time") {
    const Tokenizer tokenizer(data());
    for (std::size_t length = 1; length < 80; ++length) {
        const std::string expected(length / 4, 'Q');  // a quadruple for each token "aaaa"
        std::string got;
        for (const TokenId id : tokenizer.encode(std::string(length, 'a'))) got += id == id_of("aaaa") ? "Q" : "";
        CHECK(got == expected);
    }
    std::string mixed;
    for (int i = 0; i < 50; ++i) mixed += "abcbca";
    // "a" before "abc" is not merged: "aa" ranks after "ab".
    std::string expected = "abc|bc";
    for (int i = 1; i < 50; ++i) expected += "|a|abc|bc";
    CHECK(spelled(tokenizer, mixed) == expected + "|a");

    // Quadratic would take hours, and ctest waits for minutes.
    CHECK(tokenizer.encode(std::string(1'000'000, 'a')).size() == 250'000);
    CHECK(tokenizer.encode(std::string(1'000'000, ' ') + "x").size() > 1);
}

TEST_CASE("tokenizer: copies, moves and threads") {
    Tokenizer first(data());
    const std::vector<TokenId> expected = first.encode(" abc<|im_end|>");
    const Tokenizer copy = first;
    const Tokenizer moved = std::move(first);
    CHECK(copy.encode(" abc<|im_end|>") == expected);
    CHECK(moved.encode(" abc<|im_end|>") == expected);
    CHECK(moved.find("abc") == id_of("abc"));

    std::vector<std::vector<TokenId>> results(4);
    std::vector<std::thread> threads;
    for (auto& result : results) threads.emplace_back([&] { result = copy.encode(" abc<|im_end|>"); });
    for (std::thread& thread : threads) thread.join();
    for (const auto& result : results) CHECK(result == expected);
}

}  // namespace test_tokenizer
