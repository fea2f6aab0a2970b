#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/tokenize/stream_decoder.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "errors.hpp"
#include "tokenizer_pieces.hpp"

namespace test_tokenizer_sentencepiece {

using adainfer::AddedToken;
using adainfer::DecodeFrom;
using adainfer::EncodeOptions;
using adainfer::Error;
using adainfer::ErrorCode;
using adainfer::InvalidUtf8;
using adainfer::MissingByte;
using adainfer::PrefixScheme;
using adainfer::StreamDecoder;
using adainfer::TokenId;
using adainfer::Tokenizer;
using adainfer::TokenizerData;
using adainfer::TokenType;
using test_pieces::id_of;
using test_pieces::spelled;

namespace {

/// Merges that are worked out by hand: the higher score first, and from the left.
TokenizerData data() {
    TokenizerData d = test_pieces::with_bytes("llama");
    for (const char* piece : {"▁", "a", "b", "c", "d", "x", "\n"}) test_pieces::add(d, piece, -100);
    test_pieces::add(d, "ab", -1);
    test_pieces::add(d, "bc", -2);
    test_pieces::add(d, "abc", -3);
    test_pieces::add(d, "▁a", -4);
    test_pieces::add(d, "▁ab", -5);
    test_pieces::add(d, "aa", -6);
    test_pieces::add(d, "aaa", -6);
    test_pieces::add(d, "▁▁", -7);
    test_pieces::add(d, "x▁", -8);
    return d;
}

TokenizerData ranked() {
    TokenizerData d = data();
    d.scores.clear();
    d.merges = {"b c", "a bc", "▁ abc", "a b"};
    test_pieces::add(d, "▁abc", 0);
    d.scores.clear();
    return d;
}

}  // namespace

TEST_CASE("SentencePiece BPE: merges go by score, then from the left") {
    const Tokenizer tokenizer(data());
    CHECK(spelled(tokenizer, "abc") == "abc");
    CHECK(spelled(tokenizer, "bcab") == "bc|ab");
    CHECK(spelled(tokenizer, "aaaa") == "aaa|a");  // aa of the first two, then aaa, as good a score, is further left than aa
    CHECK(spelled(tokenizer, " ab") == " ab");
    CHECK(spelled(tokenizer, "a a") == "a| a");
    CHECK(spelled(tokenizer, "a  b") == "a|  |b");
    CHECK(spelled(tokenizer, "x  a") == "x | a");  // the better "▁a" takes one space
    CHECK(spelled(tokenizer, "x b") == "x |b");  // over the start of a word
    CHECK(tokenizer.encode("").empty());
    CHECK(spelled(tokenizer, "▁ab") == " ab");  // the same as a space
    CHECK(tokenizer.find("▁ab").has_value());
}

TEST_CASE("SentencePiece BPE: merges by rank, where the vocabulary has them") {
    const Tokenizer tokenizer(ranked());
    CHECK(spelled(tokenizer, "abc") == "abc");
    CHECK(spelled(tokenizer, " abc ab") == " abc| |ab");
    CHECK(spelled(tokenizer, "aa") == "a|a");
    TokenizerData whole = ranked();
    whole.ignore_merges = true;
    CHECK(spelled(Tokenizer(whole), "aa aab") == "aa| |a|ab");
}

TEST_CASE("SentencePiece BPE: characters without a token are spelled in bytes, or unknown") {
    const Tokenizer tokenizer(data());
    CHECK(spelled(tokenizer, "aé") == "a|\xC3|\xA9");
    CHECK(tokenizer.encode("é") == std::vector<TokenId>{id_of(data(), "<0xC3>"), id_of(data(), "<0xA9>")});
    CHECK(tokenizer.decode(tokenizer.encode("aé☃")) == "aé☃");

    TokenizerData unknown = data();
    unknown.byte_fallback = false;
    CHECK(spelled(Tokenizer(unknown), "aéé☃b") == "a|<unk>|b");
    unknown.fuse_unknown = false;
    CHECK(spelled(Tokenizer(unknown), "aéé☃b") == "a|<unk>|<unk>|<unk>|b");
    unknown.unknown.reset();
    const Tokenizer none(unknown);
    CHECK(spelled(none, "aéb") == "a|b");
    CHECK_THROWS_AS((void)none.encode("aéb", {.missing_byte = MissingByte::Throw}), Error);

    TokenizerData without = data();  // "z" is in a token, but is none
    test_pieces::add(without, "bz", -1);
    CHECK(spelled(Tokenizer(without), "bzzb") == "bz|z|b");
    without.byte_fallback = false;
    CHECK(spelled(Tokenizer(without), "bzzzb") == "bz|<unk>|b");
}

TEST_CASE("SentencePiece BPE: invalid UTF-8") {
    const Tokenizer tokenizer(data());
    CHECK(tokenizer.decode(tokenizer.encode("a\xFF")) == "a\xEF\xBF\xBD");
    const EncodeOptions keep{.invalid_utf8 = InvalidUtf8::Keep};
    for (const std::string text : {"a\xFF", "\xE2\x82", "\xC0\xAF x", "\xF4\x90\x80\x80", "\xED\xA0\x80", "\xC3 a"}) {
        CHECK(tokenizer.decode(tokenizer.encode(text, keep)) == text);
    }
}

TEST_CASE("SentencePiece BPE: the space in front") {
    TokenizerData prefixed = data();
    prefixed.add_space_prefix = true;
    SUBCASE("of every part") {
        const Tokenizer tokenizer(prefixed);
        CHECK(spelled(tokenizer, "ab") == " ab");
        CHECK(spelled(tokenizer, " ab") == " | ab");
        CHECK(spelled(tokenizer, "ab<s>ab") == " ab|<s>| ab");
        CHECK(tokenizer.encode("").empty());
    }
    SUBCASE("of every part that has none") {
        prefixed.prefix_scheme = PrefixScheme::EveryPartUnlessSpace;
        const Tokenizer tokenizer(prefixed);
        CHECK(spelled(tokenizer, " ab") == " ab");
        CHECK(spelled(tokenizer, "▁ab") == " ab");
        CHECK(spelled(tokenizer, "ab<s>ab") == " ab|<s>| ab");
    }
    SUBCASE("of the text") {
        prefixed.prefix_scheme = PrefixScheme::StartUnlessSpace;
        const Tokenizer tokenizer(prefixed);
        CHECK(spelled(tokenizer, "ab<s>ab") == " ab|<s>|ab");
        CHECK(spelled(tokenizer, "<s>ab") == "<s>|ab");
        CHECK(spelled(tokenizer, " ab") == " ab");
    }
    SUBCASE("but not of text that goes on") {
        const Tokenizer tokenizer(prefixed);
        CHECK(spelled(tokenizer, "ab", {.space_prefix = false}) == "ab");
        CHECK(spelled(tokenizer, " ab<s>ab", {.space_prefix = false}) == " ab|<s>| ab");
    }
    SUBCASE("and back") {
        const Tokenizer tokenizer(prefixed);
        for (const std::string text : {"ab", " ab", "  ab", "", "☃ a"}) {
            const std::vector<TokenId> ids = tokenizer.encode(text);
            CHECK(tokenizer.decode(ids) == text);
            StreamDecoder decoder(tokenizer, false, DecodeFrom::Start);
            for (int again = 0; again < 2; ++again) {
                std::string streamed;
                for (const TokenId id : ids) streamed += decoder.push(id);
                CHECK(streamed + decoder.finish() == text);
            }
        }
        CHECK(tokenizer.decode(tokenizer.encode("<s>ab"), true) == "ab");
        CHECK(tokenizer.decode(tokenizer.encode("<s>ab")) == "<s> ab");  // only at the very start, as `tokenizers`
        CHECK(tokenizer.decode(tokenizer.encode("ab"), false, DecodeFrom::Middle) == " ab");
        StreamDecoder middle(tokenizer);
        CHECK(middle.push(id_of(prefixed, "▁ab")) == " ab");
    }
}

TEST_CASE("SentencePiece BPE: extra white space, words apart, normal form C") {
    TokenizerData d = data();
    SUBCASE("extra white space") {
        d.remove_extra_whitespace = true;
        CHECK(spelled(Tokenizer(d), "  a   b  ") == "a| |b");
        CHECK(Tokenizer(d).encode("   ").empty());
    }
    SUBCASE("words apart") {
        d.split_words = true;
        CHECK(spelled(Tokenizer(d), "x b  a") == "x| |b| | a");
    }
    SUBCASE("normal form C") {
        test_pieces::add(d, "é", -1);
        CHECK(spelled(Tokenizer(d), "e\u0301") == "e|\xCC|\x81");
        d.nfc = true;
        CHECK(spelled(Tokenizer(d), "e\u0301") == "é");
    }
}

TEST_CASE("SentencePiece BPE: special tokens never come out of ordinary text") {
    TokenizerData d = data();
    test_pieces::add(d, "<", -90);
    test_pieces::add(d, "s>", -10);
    for (const char* c : {"s", ">"}) test_pieces::add(d, c, -90);
    const Tokenizer tokenizer(d);
    CHECK(spelled(tokenizer, "a<s>") == "a|<s>");
    CHECK(tokenizer.encode("a<s>", {.parse_special = false}).size() == 3);
    CHECK(tokenizer.encode("<0x41>", {.parse_special = false}).size() == 6);
}

TEST_CASE("SentencePiece BPE: added tokens and what stands around them") {
    TokenizerData d = data();
    d.add_space_prefix = true;
    SUBCASE("white space goes along") {
        d.added = {{.id = id_of(d, "<s>"), .strip_left = true, .strip_right = true}};
        const Tokenizer tokenizer(d);
        CHECK(spelled(tokenizer, "a \n<s>\u00A0 <s>\tab") == " a|<s>|<s>| ab");
    }
    SUBCASE("words only") {
        d.added = {{.id = id_of(d, "<s>"), .single_word = true}};
        const Tokenizer tokenizer(d);
        CHECK(spelled(tokenizer, "a <s> b") == " a| |<s>|  |b");
        CHECK(tokenizer.encode("a<s>").size() == 4);
        CHECK(tokenizer.encode("<s>é").size() == 6);
        const auto recognised = [&](const std::string& around) {
            const auto found = [&](const std::string& text) {
                const std::vector<TokenId> ids = tokenizer.encode(text);
                return std::find(ids.begin(), ids.end(), id_of(d, "<s>")) != ids.end();
            };
            CHECK(found(around + "<s>") == found("<s>" + around));
            return found("<s>" + around);
        };
        // As `tokenizers` 0.23 has it: no letters are fractions, superscripts, numbers in circles, ...
        for (const char* other : {"\u00B2", "\u00BD", "\u09F4", "\u2070", "\u2460", "\u3220", "\U00010107", "\U0001F100"}) {
            CAPTURE(other);
            CHECK(recognised(other));
        }
        for (const char* other : {"-", "\u203E", "\u2041", "\u200B", "\u200E", "\u24EA", "\U0001F14A", "\U0001F18A", "\xFF"}) {
            CAPTURE(other);
            CHECK(recognised(other));
        }
        // ... letters, digits of any script, Roman numerals, marks, what joins, and letters in circles are.
        for (const char* part : {"_", "7", "\u0663", "\u2167", "\u3007", "\u0301", "\u20DD", "\u203F", "\u2054", "\uFE33",
                                 "\uFE4F", "\uFF3F", "\u200C", "\u200D", "\u24B6", "\u24E9", "\U0001F130", "\U0001F189",
                                 "\U0001D7CE", "\U00012400"}) {
            CAPTURE(part);
            CHECK_FALSE(recognised(part));
        }
    }
    SUBCASE("in the normalised text") {
        d.added = {{.id = id_of(d, "<s>"), .normalized = true}};
        const Tokenizer tokenizer(d);
        CHECK(spelled(tokenizer, "ab <s>ab") == " ab|<s>|ab");  // its text is "▁<s>" there
        CHECK(spelled(tokenizer, "<s>ab") == "<s>|ab");
        CHECK(tokenizer.encode("ab<s>").size() == 4);
    }
    SUBCASE("outside the vocabulary") {
        d.added = {AddedToken{.id = 100000}};
        (void)error_of(ErrorCode::CorruptFile, [&] { Tokenizer{d}; });
    }
}

TEST_CASE("SentencePiece BPE: bos and eos") {
    TokenizerData d = data();
    d.add_eos = true;
    const Tokenizer tokenizer(d);
    CHECK(tokenizer.adds_eos());
    CHECK(tokenizer.encode("a", {.add_bos = true, .add_eos = true}) ==
          std::vector<TokenId>{id_of(d, "<s>"), id_of(d, "a"), id_of(d, "</s>")});
    d.eos.reset();
    CHECK_THROWS_AS((void)Tokenizer(d).encode("a", {.add_eos = true}), Error);
}

TEST_CASE("SentencePiece BPE: what stands for no text merges with nothing") {
    TokenizerData d = data();
    test_pieces::add(d, "<0x80>b", 0);
    test_pieces::add(d, "</s>b", 0);
    test_pieces::add(d, "q!", -1, TokenType::UserDefined);  // recognised, never merged to
    test_pieces::add(d, "qa", -1);  // of a character that is no token
    const Tokenizer tokenizer(d);
    const TokenId b = id_of(d, "b");
    CHECK(tokenizer.encode("\x80" "b", {.invalid_utf8 = InvalidUtf8::Keep}) == std::vector<TokenId>{id_of(d, "<0x80>"), b});
    CHECK(tokenizer.encode("</s>b") == std::vector<TokenId>{id_of(d, "</s>"), b});
    CHECK(spelled(tokenizer, "aqab") == "a|qa|b");
}

TEST_CASE("SentencePiece BPE: a text of many different pairs merges as its words do alone") {
    TokenizerData d = test_pieces::with_bytes("llama");
    std::mt19937 random(7);
    const auto letter = [&] { return static_cast<char>('a' + random() % 26); };
    test_pieces::add(d, "▁", -1e6);
    for (char c = 'a'; c <= 'z'; ++c) test_pieces::add(d, {&c, 1}, -1e6);
    std::set<std::string> pieces;
    while (pieces.size() < 500) pieces.insert({letter(), letter()});
    while (pieces.size() < 4000) pieces.insert({letter(), letter(), letter()});
    while (pieces.size() < 12000) pieces.insert({letter(), letter(), letter(), letter()});
    for (const std::string& piece : pieces) test_pieces::add(d, piece, -static_cast<double>(random() % 1000));
    const Tokenizer tokenizer(d);
    std::string text;
    std::vector<TokenId> expected;
    for (int i = 0; i < 40000; ++i) {
        std::string word = " ";
        for (std::size_t length = 1 + random() % 9; length > 0; --length) word += letter();
        text += word;
        const std::vector<TokenId> ids = tokenizer.encode(word);
        expected.insert(expected.end(), ids.begin(), ids.end());
    }
    CHECK(tokenizer.encode(text) == expected);
}

TEST_CASE("SentencePiece BPE: a broken vocabulary") {
    TokenizerData bad = data();
    SUBCASE("scores missing") {
        bad.scores.pop_back();
        (void)error_of(ErrorCode::CorruptFile, [&] { Tokenizer{bad}; });
        bad.scores.clear();
        CHECK(contains(error_of(ErrorCode::CorruptFile, [&] { Tokenizer{bad}; }), "0 scores"));
    }
    SUBCASE("a score that is none") {
        bad.scores[3] = std::numeric_limits<double>::quiet_NaN();
        CHECK(contains(error_of(ErrorCode::CorruptFile, [&] { Tokenizer{bad}; }), "token 3"));
    }
    SUBCASE("an endless token") {
        test_pieces::add(bad, std::string(5000, 'a'), -1);
        (void)error_of(ErrorCode::Unsupported, [&] { Tokenizer{bad}; });
    }
    SUBCASE("a byte token that is none") {
        bad.tokens[10] = "<0xZZ>";
        (void)error_of(ErrorCode::CorruptFile, [&] { Tokenizer{bad}; });
    }
}

TEST_CASE("SentencePiece BPE: long words take the same merges as short ones, and not much time") {
    const Tokenizer tokenizer(data());
    for (std::size_t length = 1; length < 80; ++length) {
        CHECK(tokenizer.encode(std::string(length, 'a')).size() == length / 3 + length % 3 - (length % 3 == 2 ? 1 : 0));
    }
    // Quadratic would take hours, and ctest waits for minutes.
    CHECK(tokenizer.encode(std::string(1'000'000, 'a')).size() == 333'334);
    CHECK(tokenizer.encode(std::string(1'000'000, ' ')).size() == 500'000);
    CHECK(tokenizer.encode(std::string(1'000'000, '\xFF')).size() == 3'000'000);
}

}  // namespace test_tokenizer_sentencepiece
