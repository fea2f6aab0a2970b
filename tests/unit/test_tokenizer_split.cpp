#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "adainfer/tokenize/pre_tokenizer.hpp"
#include "adainfer/tokenize/unicode.hpp"

namespace {

std::string split(std::string_view name, std::string_view text) {
    std::string out;
    adainfer::detail::pre_tokenizer::run(adainfer::detail::pre_tokenizer::find(name).kind, text,
                                         [&out](const char* first, const char* last) {
                                             if (!out.empty()) out += '|';
                                             out.append(first, last);
                                         });
    return out;
}

}  // namespace

TEST_CASE("split: gpt-2") {
    CHECK(split("gpt-2", "Hello world") == "Hello| world");
    CHECK(split("gpt-2", "I'm they've we'll she'd it's don't you're") ==
          "I|'m| they|'ve| we|'ll| she|'d| it|'s| don|'t| you|'re");
    CHECK(split("gpt-2", "IT'S") == "IT|'|S");
    CHECK(split("gpt-2", "a  b   ") == "a| | b|   ");
    CHECK(split("gpt-2", "a \n b") == "a| \n| b");
    CHECK(split("gpt-2", "x=12345 !?") == "x|=|12345| !?");
    CHECK(split("gpt-2", "été 中文") == "été| 中文");
    CHECK(split("gpt-2", "e\xCC\x81") == "e|\xCC\x81");
    CHECK(split("gpt-2", "'") == "'");
    CHECK(split("gpt-2", " ") == " ");
    CHECK(split("gpt-2", "").empty());
    CHECK(split("mpt", "a 12") == "a| 12");
}

TEST_CASE("split: smollm and its relatives cut out every number") {
    for (const char* name : {"smollm", "starcoder", "refact", "command-r"}) {
        CHECK(split(name, "ab 12½ c") == "ab| |1|2|½| c");
        CHECK(split(name, "  5") == "  |5");
    }
}

TEST_CASE("split: llama-bpe and qwen2") {
    CHECK(split("llama-bpe", "IT'S 1234567") == "IT|'S| |123|456|7");
    CHECK(split("qwen2", "IT'S 123") == "IT|'S| |1|2|3");
    CHECK(split("llama-bpe", "(foo) bar.\n\n  baz") == "(foo|)| bar|.\n\n| | baz");
    CHECK(split("llama-bpe", "a \n\n \n  b") == "a| \n\n \n| | b");
    CHECK(split("llama-bpe", "a   ") == "a|   ");
    CHECK(split("llama-bpe", "\tint x") == "\tint| x");
    CHECK(split("llama-bpe", "a\n") == "a|\n");
    CHECK(split("qwen2", "e\xCC\x81") == "e|\xCC\x81");
    CHECK(split("qwen35", "e\xCC\x81") == "e\xCC\x81");
}

TEST_CASE("split: falcon and the default") {
    CHECK(split("falcon", "a 12345!!b") == "a| |123|45|!!|b");
    CHECK(split("falcon", "`x`") == "`|x|`");
    CHECK(split("default", "x `+ 1234") == "x| `|+| |123|4");
    CHECK(split("", "1234") == split("default", "1234"));
}

TEST_CASE("split: deepseek") {
    CHECK(split("deepseek-llm", "Hi there\n\n你好 123") == "Hi| there|\n|\n|你好| |123");
    CHECK(split("deepseek-llm", "a.b ，c") == "a|.|b| ，|c");
    CHECK(split("deepseek-llm", "a?  ") == "a|?|  ");
    CHECK(split("deepseek-coder", "Hi there\n12 + x") == "Hi| there|\n|1|2| +| x");
    CHECK(split("deepseek-coder", "f(x);") == "f|(|x|);");
}

TEST_CASE("split: every byte string is covered by its pieces") {
    std::uint32_t state = 1;
    for (int round = 0; round < 300; ++round) {
        std::string text;
        for (int i = 0; i < 40; ++i) {
            state = state * 1664525U + 1013904223U;
            const auto byte = static_cast<unsigned char>(state >> 24U);
            text += (state & 0x10000U) != 0 ? static_cast<char>(byte) : " \n'a1.\xE4\xB8"[byte % 8];
        }
        for (const auto& name : adainfer::detail::pre_tokenizer::names) {
            std::string whole;
            bool empty_piece = false;
            adainfer::detail::pre_tokenizer::run(name.kind, text, [&](const char* first, const char* last) {
                empty_piece = empty_piece || first == last;
                whole.append(first, last);
            });
            REQUIRE(whole == text);
            REQUIRE_FALSE(empty_piece);
        }
    }
}

TEST_CASE("split: Unicode classes") {
    namespace unicode = adainfer::detail::unicode;
    CHECK(unicode::flags_of('a') == unicode::letter);
    CHECK(unicode::flags_of(0x00BD) == unicode::number);
    CHECK(unicode::flags_of(0x0301) == unicode::mark);
    CHECK((unicode::flags_of(0x3000) & unicode::space) != 0);
    CHECK(unicode::flags_of(0x4E00) == unicode::letter);
    CHECK(unicode::flags_of(0x2EBF0) == unicode::letter);  // since Unicode 15.1
    CHECK(unicode::flags_of(0x0378) == 0);
    CHECK(unicode::flags_of(0x10FFFF) == 0);
}
