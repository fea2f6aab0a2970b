#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "adainfer/tokenize/tokenizer.hpp"
#include "errors.hpp"
#include "tokenizer_pieces.hpp"

namespace test_tokenizer_unigram {

using adainfer::Error;
using adainfer::ErrorCode;
using adainfer::MissingByte;
using adainfer::TokenId;
using adainfer::Tokenizer;
using adainfer::TokenizerData;
using test_pieces::spelled;

namespace {

/// Cuts that are worked out by hand.
TokenizerData data(TokenizerData d = test_pieces::with_specials("t5")) {
    for (const char* piece : {"▁", "a", "b", "c"}) test_pieces::add(d, piece, -4);
    test_pieces::add(d, "ab", -5);
    test_pieces::add(d, "bc", -3);
    test_pieces::add(d, "abc", -7.5);
    test_pieces::add(d, "▁a", -4.5);
    test_pieces::add(d, "a▁b", -6);
    return d;
}

/// A unit of a precompiled_charsmap, little-endian.
void append_word(std::string& out, unsigned long word) {
    for (unsigned i = 0; i < 4; ++i) out.push_back(static_cast<char>(static_cast<unsigned char>(word >> (8 * i))));
}

}  // namespace

TEST_CASE("unigram: the cut with the highest sum of scores") {
    const Tokenizer tokenizer(data());
    CHECK(spelled(tokenizer, "abc") == "a|bc");    // -4 - 3 against -7.5 and -5 - 4
    CHECK(spelled(tokenizer, " abc") == " a|bc");  // -4.5 - 3 against -4 - 7
    CHECK(spelled(tokenizer, "ab") == "ab");
    CHECK(spelled(tokenizer, "aba") == "ab|a");
    CHECK(spelled(tokenizer, "a b") == "a b");     // -6 against -4 - 4 - 4
    CHECK(spelled(tokenizer, "a▁b") == "a b");
    CHECK(tokenizer.encode("").empty());
    TokenizerData apart = data();
    apart.split_words = true;
    CHECK(spelled(Tokenizer(apart), "a b") == "a| |b");
}

TEST_CASE("unigram: unknown characters, once for a run") {
    const Tokenizer tokenizer(data());
    CHECK(spelled(tokenizer, "aéé☃b") == "a|<unk>|b");
    CHECK(spelled(tokenizer, "é a é") == "<unk>| a| |<unk>");
    TokenizerData every = data();
    every.fuse_unknown = false;
    CHECK(spelled(Tokenizer(every), "aéé☃b") == "a|<unk>|<unk>|<unk>|b");
    TokenizerData none = data();
    none.unknown.reset();
    CHECK(spelled(Tokenizer(none), "aéb") == "a|b");
    CHECK_THROWS_AS((void)Tokenizer(none).encode("é", {.missing_byte = MissingByte::Throw}), Error);
    const Tokenizer bytes(data(test_pieces::with_bytes("t5")));
    CHECK(spelled(bytes, "aé") == "a|\xC3|\xA9");
    CHECK(bytes.decode(bytes.encode("aé☃ b")) == "aé☃ b");
}

TEST_CASE("unigram: extra white space and the space in front") {
    TokenizerData d = data();
    d.remove_extra_whitespace = d.add_space_prefix = true;
    const Tokenizer tokenizer(d);
    CHECK(spelled(tokenizer, "  a  bc ") == " a| |bc");
    CHECK(tokenizer.encode("   ").empty());
    CHECK(tokenizer.decode(tokenizer.encode("a bc")) == "a bc");
}

TEST_CASE("unigram: a charsmap") {
    // The array for one entry, "z": node 0 has its children at 1, so "z" (0x7A) is unit 1 ^ 0x7A = 0x7B; its own children
    // are at 0x7B ^ 1 = 0x7A, and that unit holds the place of the replacement.
    std::string map;
    append_word(map, 4 * 128);
    for (unsigned long unit = 0; unit < 128; ++unit) {
        append_word(map, unit == 0 ? 1UL << 10U : unit == 0x7B ? (1UL << 10U | 0x100U | 0x7AU) : unit == 0x7A ? 0x80000002UL : 0);
    }
    map += std::string("x\0bc\0", 5);
    TokenizerData d = data();
    d.charsmap = map;
    CHECK(spelled(Tokenizer(d), "az z") == "a|bc| |bc");
    SUBCASE("with a replacement outside") {
        d.charsmap[4 + 4 * 0x7A] = '\x50';
        CHECK(spelled(Tokenizer(d), "az") == "a|<unk>");
    }
    SUBCASE("with sizes that do not fit") {
        for (const std::size_t size : {std::size_t{1}, std::size_t{4}, std::size_t{100}, map.size() - 1}) {
            d.charsmap = map.substr(0, size);
            (void)error_of(ErrorCode::CorruptFile, [&] { Tokenizer{d}; });
        }
    }
}

TEST_CASE("unigram: scores that do not fit") {
    TokenizerData bad = data();
    bad.scores.pop_back();
    (void)error_of(ErrorCode::CorruptFile, [&] { Tokenizer{bad}; });
}

TEST_CASE("unigram: long words take not much time") {
    TokenizerData d = data();
    test_pieces::add(d, std::string(1000, 'a'), -4);
    const Tokenizer tokenizer(d);
    // Quadratic would take hours, and ctest waits for minutes.
    CHECK(tokenizer.encode(std::string(300'000, 'a')).size() == 300);
    CHECK(tokenizer.encode(std::string(1'000'000, 'b')).size() == 1'000'000);
    CHECK(tokenizer.encode(std::string(1'000'000, '\xFF')).size() == 1);
}

}  // namespace test_tokenizer_unigram
