#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/tokenize/pre_tokenizer.hpp"
#include "adainfer/tokenize/unicode.hpp"

namespace test_tokenizer_split {

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

std::string fixture_path(const std::string& name) { return ADAINFER_FIXTURES "/" + name; }

std::vector<std::string> fields_of(const std::string& line) {
    std::istringstream stream(line);
    std::vector<std::string> fields;
    for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
    return fields;
}

std::string from_hex(std::string_view text) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        bytes += static_cast<char>(static_cast<unsigned char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
    return bytes;
}

/// Bytes of each piece, as split_pieces.txt has them.
std::string lengths(std::string_view name, std::string_view text) {
    namespace pre = adainfer::detail::pre_tokenizer;
    std::string out;
    pre::run(pre::find_all(name, true), text, [&out](const char* first, const char* last) {
        out += (out.empty() ? "" : " ") + std::to_string(last - first);
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

TEST_CASE("split: gpt-4o and tekken cut words by case") {
    CHECK(split("gpt-4o", "camelCase HTTPServer ABC") == "camel|Case| HTTPServer| ABC");
    CHECK(split("gpt-4o", "iPhone's WE'LL don'T 'tis") == "i|Phone's| WE'LL| don'T| '|tis");
    CHECK(split("tekken", "it's WE'LL") == "it|'s| WE|'LL");
    CHECK(split("gpt-4o", "1234567 12") == "123|456|7| |12");
    CHECK(split("tekken", "123 12") == "1|2|3| |1|2");
    CHECK(split("gpt-4o", "中文ABC") == "中文|ABC");
    CHECK(split("gpt-4o", "e\xCC\x81té") == "e\xCC\x81té");
    CHECK(split("gpt-4o", "a//\n/\n b") == "a|//\n/\n| b");
    CHECK(split("tekken", "a \n\n  b   ") == "a| \n\n| | b|   ");
    for (const char* name : {"llama4", "kanana2", "talkie", "minimax-m2"}) CHECK(split(name, "aB's 1234") == "a|B's| |123|4");
    CHECK(adainfer::pre_tokenizer_adds_bos("tekken"));
    CHECK_FALSE(adainfer::pre_tokenizer_adds_bos("gpt-4o"));
}

TEST_CASE("split: deepseek-v3") {
    CHECK(split("deepseek-v3", "f(x, 12345)") == "f|(x|,| |123|45|)");
    CHECK(split("deepseek-v3", "(été) ((a") == "(|été|)| ((|a");
    CHECK(split("deepseek-v3", "日本語のテキスト。abc中x") == "日本語のテキスト|。|abc|中|x");
    CHECK(split("deepseek-v3", "a !?\n\n  b  1") == "a| !?\n\n| | b|  |1");
    CHECK(split("hunyuan-dense", "'s 1234") == "'s| |123|4");
    const std::string controls("\0\0\1a", 4);  // in no alternative, but for the one before a letter
    CHECK(split("deepseek-v3", controls) == std::string("\0\0|\1a", 5));
    CHECK(split("deepseek-r1-qwen", "(été 12") == split("qwen2", "(été 12"));
}

TEST_CASE("split: 400 texts are cut as `tokenizers` cuts them") {
    std::ifstream file(fixture_path("split_pieces.txt"), std::ios::binary);
    std::string line;
    REQUIRE(std::getline(file, line));
    const std::vector<std::string> names = fields_of(line);
    REQUIRE(names == std::vector<std::string>{"text", "gpt-4o", "tekken", "deepseek-v3"});
    std::size_t texts = 0;
    for (; std::getline(file, line); ++texts) {
        const std::vector<std::string> fields = fields_of(line);
        REQUIRE(fields.size() == names.size());
        const std::string text = from_hex(fields[0]);
        CAPTURE(fields[0]);
        for (std::size_t i = 1; i < names.size(); ++i) CHECK(lengths(names[i], text) == fields[i]);
        CHECK(lengths("number-groups+han-kana+deepseek-v3-words", text) == fields[3]);
    }
    CHECK(texts == 400);
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
    CHECK(unicode::flags_of('a') == (unicode::letter | unicode::lower));
    CHECK(unicode::flags_of('Z') == (unicode::letter | unicode::upper));
    // Upper and lower case in turn, odd code points first and even ones first.
    for (std::uint32_t code : {0x139U, 0x147U, 0x100U, 0x1E94U}) {
        CHECK(unicode::flags_of(code) == (unicode::letter | unicode::upper));
        CHECK(unicode::flags_of(code + 1) == (unicode::letter | unicode::lower));
    }
    CHECK(unicode::flags_of(0x01C5) == (unicode::letter | unicode::upper));  // title case
    CHECK(unicode::flags_of(0x02B0) == unicode::letter);                     // a modifier
    CHECK(unicode::flags_of(0x00BD) == unicode::number);
    CHECK(unicode::flags_of(0x0301) == unicode::mark);
    CHECK((unicode::flags_of(0x3000) & unicode::space) != 0);
    CHECK(unicode::flags_of(0x4E00) == unicode::letter);
    CHECK(unicode::flags_of(0x2EBF0) == unicode::letter);  // since Unicode 15.1
    CHECK(unicode::flags_of(0x0378) == 0);
    CHECK(unicode::flags_of(0x10FFFF) == 0);
}

}  // namespace test_tokenizer_split
