#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "gguf_writer.hpp"
#include "temporary_files.hpp"

// Files as a stranger may send them. What llama.cpp's own reader refuses or loads in its tests, this one does too.

namespace test_gguf_hostile {

namespace {

using namespace adainfer;
using namespace std::string_literals;

constexpr auto minus_one = (std::numeric_limits<std::uint64_t>::max)();

/// Checks that the bytes are refused with this kind of error and a message that names the file and contains `part`.
void refused(std::span<const std::byte> bytes, ErrorCode code, std::string_view part) {
    try {
        (void)GgufFile::parse(bytes, "bad.gguf");
    } catch (const Error& error) {
        const std::string message = error.what();
        INFO(message);
        CHECK(error.code() == code);
        CHECK(message.find("bad.gguf") != std::string::npos);
        CHECK(message.find(part) != std::string::npos);
        CHECK(message.size() < 400);
        return;
    }
    FAIL_CHECK("loaded, expected an error with: ", part);
}

void corrupt(const GgufWriter& writer, std::string_view part) { refused(writer.build(), ErrorCode::CorruptFile, part); }

void unsupported(const GgufWriter& writer, std::string_view part) {
    refused(writer.build(), ErrorCode::Unsupported, part);
}

/// A tensor of `count` floats.
void add_floats(GgufWriter& writer, std::string_view name, std::size_t count) {
    writer.add_tensor(name, {count}, std::vector<float>(count, 1.0F));
}

/// A tensor with these dims and no bytes behind it.
GgufWriter announcing(std::uint32_t type, std::vector<std::uint64_t> dims) {
    GgufWriter writer;
    writer.add_tensor("t", type, std::move(dims), {});
    return writer;
}

std::vector<std::byte> payload(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

/// An array's type and length, with nothing behind them.
std::vector<std::byte> array_head(std::uint32_t type, std::uint64_t count) {
    std::vector<std::byte> bytes;
    GgufWriter::append(bytes, type);
    GgufWriter::append(bytes, count);
    return bytes;
}

double seconds(auto action) {
    const auto start = std::chrono::steady_clock::now();
    action();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

constexpr std::uint32_t f32 = 0, q8_0 = 8, q4_k = 12;
constexpr std::uint32_t value_bool = 7, value_string = 8, value_array = 9, value_type_count = 13;

}  // namespace

TEST_CASE("hostile gguf, header") {
    GgufWriter writer;
    SUBCASE("bad magic") {
        writer.magic = "GGUX";
        corrupt(writer, "not a GGUF file");
    }
    SUBCASE("version 0") {
        writer.version = 0;
        unsupported(writer, "version 0");
    }
    SUBCASE("version 1") {
        writer.version = 1;
        unsupported(writer, "version 1");
    }
    SUBCASE("a version to come") {
        writer.version = 4;
        unsupported(writer, "version 4");
    }
    SUBCASE("big-endian file") {
        writer.version = 0x03000000;
        unsupported(writer, "big-endian");
    }
    SUBCASE("-1 tensors") {
        writer.tensor_count = minus_one;
        corrupt(writer, "tensors are announced");
    }
    SUBCASE("-1 keys") {
        writer.entry_count = minus_one;
        corrupt(writer, "metadata keys are announced");
    }
    SUBCASE("one tensor too many is announced") {
        add_floats(writer, "t", 8);
        writer.tensor_count = 2;
        corrupt(writer, "a tensor name is empty");  // what is read is padding
    }
    SUBCASE("one key too many is announced") {
        writer.add("k", std::uint8_t{1});
        writer.entry_count = 2;
        corrupt(writer, "announced");
    }
    SUBCASE("no bytes at all") { refused({}, ErrorCode::CorruptFile, "cut short"); }
    SUBCASE("an empty file loads") {
        const auto bytes = writer.build();
        const GgufFile file = GgufFile::parse(bytes, "empty.gguf");
        CHECK(file.metadata().empty());
        CHECK(file.tensors().empty());
        CHECK_FALSE(file.has(""));
        CHECK(file.find_tensor("") == nullptr);
    }
}

TEST_CASE("hostile gguf, keys") {
    GgufWriter writer;
    SUBCASE("key length -1") {
        writer.add("k", std::uint32_t{1});
        writer.entries[0].key_length = minus_one;
        corrupt(writer, "cut short: metadata key needs 18446744073709551615 bytes");
    }
    SUBCASE("key length whose end wraps around") {
        writer.add("k", std::uint32_t{1});
        writer.entries[0].key_length = minus_one - 31;
        corrupt(writer, "cut short");
    }
    SUBCASE("empty key") {
        writer.add("", std::uint32_t{1});
        corrupt(writer, "a metadata key is empty");
    }
    SUBCASE("key longer than 65535 bytes") {
        writer.add(std::string(65536, 'k'), std::uint32_t{1});
        corrupt(writer, "65536 bytes");
    }
    SUBCASE("a key of 65535 bytes loads") {
        const std::string key(65535, 'k');
        const auto bytes = writer.add(key, std::uint32_t{1}).build();
        CHECK(GgufFile::parse(bytes, "x").get_uint(key) == 1);
    }
    SUBCASE("value type COUNT") {
        writer.add_raw("k", value_type_count, std::vector<std::byte>(8));
        corrupt(writer, "unknown value type 13");
    }
    SUBCASE("value type -1") {
        writer.add_raw("k", 0xFFFFFFFF, std::vector<std::byte>(8));
        corrupt(writer, "unknown value type 4294967295");
    }
    SUBCASE("duplicate key") {
        writer.add("k", std::uint32_t{1}).add("other", std::uint32_t{1}).add("k", "text");
        corrupt(writer, "'k' is there more than once");
    }
    SUBCASE("NUL in a key") {
        writer.add("a\0b"s, std::uint32_t{1});
        corrupt(writer, "'a?b' is not UTF-8 text without NUL");
    }
    SUBCASE("invalid UTF-8 in a key") {
        for (const std::string_view key :
             {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xC3(", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xE2\x82",
              "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "ok\xFE",
              "\xE2\x82\x41"}) {
            GgufWriter one;
            one.add(key, std::uint32_t{1});
            corrupt(one, "is not UTF-8 text");
        }
    }
    SUBCASE("valid UTF-8 in a key loads") {
        for (const std::string_view key : {"\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                                           "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "a\xC3\xA9z"}) {
            GgufWriter one;
            const auto bytes = one.add(key, std::uint32_t{1}).build();
            CHECK(GgufFile::parse(bytes, "x").get_uint(key) == 1);
        }
    }
    SUBCASE("control characters of a key do not reach the message") {
        writer.add("\x1B[31m'\n", std::uint32_t{1}).add("\x1B[31m'\n", std::uint32_t{1});
        corrupt(writer, "'?[31m?" "?'");  // two literals: three such characters in a row would be a trigraph
    }
}

TEST_CASE("hostile gguf, values") {
    GgufWriter writer;
    SUBCASE("huge string") {
        for (const std::uint64_t length : {minus_one, minus_one - 7, std::uint64_t{1} << 62, std::uint64_t{1} << 40}) {
            GgufWriter one;
            std::vector<std::byte> bytes;
            GgufWriter::append(bytes, "x", length);
            one.add_raw("k", value_string, bytes);
            corrupt(one, "cut short");
        }
    }
    SUBCASE("huge array of every element type") {
        for (const std::uint64_t count : {minus_one, std::uint64_t{1} << 61, std::uint64_t{1} << 40})
            for (std::uint32_t type = 0; type < value_type_count; ++type) {
                if (type == value_array) continue;
                GgufWriter one;
                one.add_raw("k", value_array, array_head(type, count));
                corrupt(one, "cut short: metadata key 'k'");
            }
    }
    SUBCASE("array one element too long") {
        writer.add_raw("k", value_array, array_head(4, 3)).entries[0].payload.resize(12 + 11);
        corrupt(writer, "has 3 elements at byte");
    }
    SUBCASE("array of strings whose last one is too long") {
        auto bytes = array_head(value_string, 2);
        GgufWriter::append(bytes, "fine");
        GgufWriter::append(bytes, "not fine", 9);
        corrupt(writer.add_raw("k", value_array, bytes), "cut short: a metadata value needs 9 bytes");
    }
    SUBCASE("array of arrays") {
        auto bytes = array_head(value_array, 1);
        const auto inner = array_head(4, 0);
        bytes.insert(bytes.end(), inner.begin(), inner.end());
        unsupported(writer.add_raw("k", value_array, bytes), "'k' is an array of arrays");
    }
    SUBCASE("array of element type COUNT and -1") {
        for (const std::uint32_t type : {value_type_count, 0xFFFFFFFFU}) {
            GgufWriter one;
            corrupt(one.add_raw("k", value_array, array_head(type, 0)), "unknown value type");
        }
    }
    SUBCASE("boolean 2 and 255") {
        for (const char value : {'\x02', '\xFF'}) {
            GgufWriter one;
            corrupt(one.add_raw("k", value_bool, payload({&value, 1})), "expected 0 or 1");
        }
    }
    SUBCASE("boolean 2 in an array") {
        auto bytes = array_head(value_bool, 3);
        for (const int flag : {0, 1, 2}) bytes.push_back(static_cast<std::byte>(flag));
        corrupt(writer.add_raw("k", value_array, bytes), "'k' has the boolean 2");
    }
    SUBCASE("NUL and invalid UTF-8 in string values are handed on as they are") {
        const std::vector<std::string> tokens{"\0"s, "a\0b"s, "\xFF\xFE", ""};
        const auto bytes = writer.add("tokens", tokens).add("text", "\0\xFF"s).build();
        const GgufFile file = GgufFile::parse(bytes, "x");
        CHECK(file.get_string_array("tokens") == tokens);
        CHECK(file.get_string("text") == "\0\xFF"s);
    }
}

TEST_CASE("hostile gguf, alignment") {
    GgufWriter writer;
    SUBCASE("13, without tensors, with one, and as the layout too") {
        writer.add("general.alignment", std::uint32_t{13});
        corrupt(writer, "general.alignment) is 13, expected a power of two");
        add_floats(writer, "t", 1);
        corrupt(writer, "is 13");
        writer.layout_alignment = 13;
        corrupt(writer, "is 13");
    }
    SUBCASE("0") { corrupt(writer.add("general.alignment", std::uint32_t{0}), "is 0, expected a power of two"); }
    SUBCASE("of type int32") {
        corrupt(writer.add("general.alignment", std::int32_t{32}), "is of type int32 32, expected uint32");
    }
    SUBCASE("of type uint64, float and array") {
        GgufWriter a, b, c;
        corrupt(a.add("general.alignment", std::uint64_t{32}), "expected uint32");
        corrupt(b.add("general.alignment", 32.0F), "expected uint32");
        corrupt(c.add("general.alignment", std::vector<std::uint32_t>{32}), "expected uint32");
    }
    SUBCASE("2^31 with a tensor that would begin there") {
        writer.add("general.alignment", std::uint32_t{1} << 31);
        add_floats(writer, "t", 8);
        corrupt(writer, "cut short: tensor 't' has 32 bytes at byte 2147483648");
    }
    SUBCASE("2^31 loads without tensors") {
        const auto bytes = writer.add("general.alignment", std::uint32_t{1} << 31).build();
        CHECK(GgufFile::parse(bytes, "x").alignment() == 2147483648);
    }
    SUBCASE("the offsets are of another alignment") {
        for (const std::uint64_t layout : {1U, 16U, 64U}) {
            GgufWriter one;
            one.layout_alignment = layout;
            for (const char* name : {"a", "b", "c"}) one.add_tensor(name, f32, {1}, std::vector<std::byte>(4));
            corrupt(one, layout < 32 ? "is not aligned" : "leaves a gap");
        }
    }
    SUBCASE("the key says 64, the layout 32") {
        writer.add("general.alignment", std::uint32_t{64});
        add_floats(writer, "a", 1);
        add_floats(writer, "b", 1);
        corrupt(writer, "tensor 'b' is not aligned");
    }
    SUBCASE("1 loads") {
        writer.alignment(1).add_tensor("a", 24, {3}, payload("abc")).add_tensor("b", 24, {1}, payload("d"));
        const auto bytes = writer.build();
        const GgufFile file = GgufFile::parse(bytes, "x");
        CHECK(file.alignment() == 1);
        CHECK(file.tensor("b").offset == 3);
        CHECK(*file.tensor("b").data == std::byte{'d'});
        CHECK(file.tensor("b").data + 1 == bytes.data() + bytes.size());
    }
    SUBCASE("128 loads") {
        writer.alignment(128);
        add_floats(writer, "a", 1);
        add_floats(writer, "b", 1);
        const auto bytes = writer.build();
        CHECK(GgufFile::parse(bytes, "x").tensor("b").offset == 128);
    }
}

TEST_CASE("hostile gguf, tensor table") {
    GgufWriter writer;
    SUBCASE("name of 64 bytes") {
        add_floats(writer, std::string(64, 'n'), 1);
        corrupt(writer, "has 64 bytes, at most 63");
    }
    SUBCASE("a name of 63 bytes loads") {
        add_floats(writer, std::string(63, 'n'), 1);
        const auto bytes = writer.build();
        CHECK(GgufFile::parse(bytes, "x").find_tensor(std::string(63, 'n')) != nullptr);
    }
    SUBCASE("name length -1") {
        add_floats(writer, "t", 1);
        writer.tensors[0].name_length = minus_one;
        corrupt(writer, "cut short");
    }
    SUBCASE("empty name") {
        add_floats(writer, "", 1);
        corrupt(writer, "a tensor name is empty");
    }
    SUBCASE("NUL and invalid UTF-8 in a name") {
        for (const std::string& name : {"a\0b"s, "\xFF"s}) {
            GgufWriter one;
            add_floats(one, name, 1);
            corrupt(one, "is not UTF-8 text without NUL");
        }
    }
    SUBCASE("duplicate name") {
        add_floats(writer, "t", 8);
        add_floats(writer, "u", 8);
        add_floats(writer, "t", 8);
        corrupt(writer, "tensor 't' is there more than once");
    }
    SUBCASE("5 dimensions") { corrupt(announcing(f32, {1, 1, 1, 1, 1}), "has 5 dimensions, at most 4"); }
    SUBCASE("2^32 - 1 dimensions") {
        add_floats(writer, "t", 1);
        writer.tensors[0].dim_count = 0xFFFFFFFF;
        corrupt(writer, "has 4294967295 dimensions");
    }
    SUBCASE("a dimension of -1") {
        corrupt(announcing(f32, {minus_one}), "more than 2^63 - 1 elements");
        corrupt(announcing(f32, {1, minus_one}), "more than 2^63 - 1 elements");
        corrupt(announcing(f32, {0, minus_one}), "more than 2^63 - 1 elements");
    }
    SUBCASE("too many elements") {
        const std::uint64_t big = std::uint64_t{1} << 32;
        corrupt(announcing(f32, {big, big}), "elements");
        corrupt(announcing(f32, {big, big, big, big}), "elements");
        corrupt(announcing(f32, {std::uint64_t{1} << 16, std::uint64_t{1} << 16, std::uint64_t{1} << 16, 1U << 15U}),
                "elements");
    }
    SUBCASE("too many bytes") {
        corrupt(announcing(f32, {std::uint64_t{1} << 61}), "more than 2^63 - 1 bytes");
        corrupt(announcing(28, {std::uint64_t{1} << 62}), "more than 2^63 - 1 bytes");
        corrupt(announcing(q8_0, {(std::uint64_t{1} << 63) - 32}), "more than 2^63 - 1 bytes");
    }
    SUBCASE("type COUNT, -1 and a removed one") {
        for (const std::uint32_t type : {42U, 0xFFFFFFFFU, 4U, 5U, 31U, 36U})
            unsupported(announcing(type, {32}), "tensor 't' is of the unknown type " + std::to_string(type));
    }
    SUBCASE("rows that are no multiple of the block") {
        corrupt(announcing(q8_0, {33}), "rows of 33 elements, expected a multiple of 32 for type q8_0");
        corrupt(announcing(q8_0, {16, 2}), "rows of 16 elements");
        corrupt(announcing(q4_k, {128}), "expected a multiple of 256 for type q4_k");
        corrupt(announcing(q8_0, {}), "rows of 1 elements");
    }
    SUBCASE("no dimensions load as a scalar") {
        writer.add_tensor("t", {}, std::vector{2.5F});
        const auto bytes = writer.build();
        const GgufFile file = GgufFile::parse(bytes, "x");
        CHECK(file.tensor("t").dims.empty());
        CHECK(file.tensor("t").bytes == 4);
        CHECK(file.weight(file.tensor("t")).bytes() == 4);
    }
    SUBCASE("a dimension of 0 loads") {
        writer.add_tensor("a", f32, {0}, {}).add_tensor("b", f32, {4, 0, 7}, {}).add_tensor("c", q8_0, {0, 5}, {});
        add_floats(writer, "d", 8);
        const auto bytes = writer.build();
        const GgufFile file = GgufFile::parse(bytes, "x");
        for (const char* name : {"a", "b", "c"}) {
            CHECK(file.tensor(name).bytes == 0);
            CHECK(file.tensor(name).data != nullptr);
            CHECK(file.weight(file.tensor(name)).bytes() == 0);
        }
        CHECK(file.tensor("d").offset == 0);
    }
    SUBCASE("only tensors without elements load, also where the file ends before the padding") {
        const auto bytes = writer.add_tensor("a", f32, {0}, {}).build();
        const std::size_t table_end = 24 + 8 + 1 + 4 + 8 + 4 + 8;
        REQUIRE(bytes.size() > table_end);
        const GgufFile file = GgufFile::parse(std::span(bytes).first(table_end), "x");
        CHECK(file.tensor("a").data == bytes.data() + table_end);
    }
}

TEST_CASE("hostile gguf, data") {
    GgufWriter writer;
    add_floats(writer, "a", 9);
    add_floats(writer, "b", 9);
    add_floats(writer, "c", 9);
    SUBCASE("one byte short") {
        writer.tensors[2].data.pop_back();
        writer.pad_end = false;
        corrupt(writer, "cut short: tensor 'c' has 36 bytes");
    }
    SUBCASE("the padding after the last tensor may be missing") {
        writer.pad_end = false;
        const auto bytes = writer.build();
        CHECK(GgufFile::parse(bytes, "x").tensor("c").data + 36 == bytes.data() + bytes.size());
    }
    SUBCASE("bytes after the last tensor are ignored") {
        auto bytes = writer.build();
        bytes.resize(bytes.size() + 1000);
        CHECK(GgufFile::parse(bytes, "x").tensors().size() == 3);
    }
    SUBCASE("offset -1") {
        for (std::size_t i = 0; i < 3; ++i) {
            GgufWriter one = writer;
            one.tensors[i].offset = minus_one;
            corrupt(one, "is not aligned");
            one.tensors[i].offset = minus_one - 31;
            corrupt(one, "leaves a gap");
        }
    }
    SUBCASE("gap of one alignment") {
        writer.tensors[1].offset = 96;
        corrupt(writer, "tensor 'b' leaves a gap to the tensor before it: its offset is 96, expected 64");
    }
    SUBCASE("gap before the first") {
        writer.tensors[0].offset = 32;
        corrupt(writer, "tensor 'a' leaves a gap");
    }
    SUBCASE("overlap") {
        writer.tensors[1].offset = 32;
        corrupt(writer, "tensor 'b' overlaps the tensor before it: its offset is 32, expected 64");
    }
    SUBCASE("all on the same bytes") {
        for (auto& tensor : writer.tensors) tensor.offset = 0;
        corrupt(writer, "tensor 'b' overlaps");
    }
    SUBCASE("in another order than the table") {
        writer.tensors[0].offset = 64;
        writer.tensors[1].offset = 0;
        corrupt(writer, "tensor 'a' leaves a gap");
    }
    SUBCASE("two tensors of 0x7FFFFFFFFFFFFFC0 bytes") {
        GgufWriter two = announcing(24, {0x7FFFFFFFFFFFFFC0});
        two.add_tensor("u", 24, {0x7FFFFFFFFFFFFFC0}, {});
        two.tensors[1].offset = 0x7FFFFFFFFFFFFFC0;
        corrupt(two, "cut short: tensor 't' has 9223372036854775744 bytes");
    }
    SUBCASE("three such tensors: their sum wraps") {
        GgufWriter three = announcing(24, {0x7FFFFFFFFFFFFFC0});
        three.add_tensor("u", 24, {0x7FFFFFFFFFFFFFC0}, {}).add_tensor("v", 24, {0x7FFFFFFFFFFFFFC0}, {});
        three.tensors[1].offset = 0x7FFFFFFFFFFFFFC0;
        three.tensors[2].offset = 0xFFFFFFFFFFFFFF80;
        corrupt(three, "2^64 bytes");
    }
    SUBCASE("a size whose round-up wraps") {
        GgufWriter two = announcing(24, {0x7FFFFFFFFFFFFFFF});
        two.add_tensor("u", 24, {0x7FFFFFFFFFFFFFFF}, {});
        two.tensors[1].offset = 0x8000000000000000;
        corrupt(two, "2^64 bytes");
    }
}

TEST_CASE("hostile gguf, cut at every byte") {
    GgufWriter writer;
    writer.add("text", "some text").add("flag", true).add("number", std::uint16_t{3});
    writer.add("strings", std::vector<std::string>{"a", "", "bc"}).add("ints", std::vector<std::int64_t>{1, 2});
    add_floats(writer, "first", 3);
    add_floats(writer, "last", 5);
    writer.pad_end = false;
    const auto bytes = writer.build();
    CHECK(GgufFile::parse(bytes, "x").tensors().size() == 2);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        // A copy of exactly that size, so that a sanitizer sees a read past the end.
        const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        refused(cut, ErrorCode::CorruptFile, "cut short");
    }
}

TEST_CASE("hostile gguf, every byte replaced: an error or a file, nothing else") {
    GgufWriter writer;
    writer.add("general.alignment", std::uint32_t{32}).add("flag", true);
    writer.add("strings", std::vector<std::string>{"a", "bc"});
    add_floats(writer, "first", 3);
    writer.add_tensor("last", q8_0, {32, 2}, std::vector<std::byte>(68));
    const auto bytes = writer.build();
    std::size_t loaded = 0, failed = 0;
    for (std::size_t i = 0; i < writer.data_start(); ++i)
        for (const unsigned value : {0x00U, 0x01U, 0x7FU, 0x80U, 0xFFU}) {
            auto changed = bytes;
            changed[i] = static_cast<std::byte>(value);
            try {
                const GgufFile file = GgufFile::parse(changed, "x");
                for (const GgufTensor& tensor : file.tensors())
                    if (tensor.bytes != 0) CHECK(tensor.data + tensor.bytes <= changed.data() + changed.size());
                ++loaded;
            } catch (const Error&) {
                ++failed;
            }
        }
    CHECK(loaded > 0);
    CHECK(failed > loaded);
}

TEST_CASE("hostile gguf, a million keys and a million tensors take a bounded time") {
    // A second or so each when optimised; the limits leave room for unoptimised and sanitised builds.
    constexpr std::size_t count = 1'000'000;
    constexpr double limit = 30;
    GgufWriter writer;
    SUBCASE("keys") {
        std::vector<std::byte> bytes = writer.build();
        bytes.resize(16);
        GgufWriter::append(bytes, std::uint64_t{count});
        for (std::size_t i = 0; i < count; ++i) {
            GgufWriter::append(bytes, std::to_string(i));
            GgufWriter::append(bytes, std::uint32_t{0});
            bytes.push_back(std::byte{1});
        }
        const double taken = seconds([&] {
            const GgufFile file = GgufFile::parse(bytes, "x");
            CHECK(file.metadata().size() == count);
            CHECK(file.get_uint("999999") == 1);
        });
        MESSAGE("10^6 keys: ", taken, " s");
        CHECK(taken < limit);
    }
    SUBCASE("tensors") {
        std::vector<std::byte> bytes = writer.build();
        bytes.resize(8);
        GgufWriter::append(bytes, std::uint64_t{count});
        GgufWriter::append(bytes, std::uint64_t{0});
        for (std::size_t i = 0; i < count; ++i) {
            GgufWriter::append(bytes, std::to_string(i));
            GgufWriter::append(bytes, std::uint32_t{1});
            GgufWriter::append(bytes, std::uint64_t{0});
            GgufWriter::append(bytes, f32);
            GgufWriter::append(bytes, std::uint64_t{0});
        }
        const double taken = seconds([&] {
            const GgufFile file = GgufFile::parse(bytes, "x");
            CHECK(file.tensors().size() == count);
            CHECK(file.find_tensor("999999") != nullptr);
        });
        MESSAGE("10^6 tensors: ", taken, " s");
        CHECK(taken < limit);
    }
    SUBCASE("the same key a million times") {
        std::vector<std::byte> bytes = writer.build();
        bytes.resize(16);
        GgufWriter::append(bytes, std::uint64_t{count});
        for (std::size_t i = 0; i < count; ++i) {
            GgufWriter::append(bytes, "k");
            GgufWriter::append(bytes, std::uint32_t{0});
            bytes.push_back(std::byte{1});
        }
        CHECK(seconds([&] { refused(bytes, ErrorCode::CorruptFile, "more than once"); }) < limit);
    }
}

TEST_CASE("split gguf") {
    const TemporaryFiles files;
    const auto part = [](std::uint16_t number, std::uint16_t count, std::string_view tensor) {
        GgufWriter writer;
        writer.add("split.no", number).add("split.count", count).add("split.tensors.count", std::int32_t{3});
        if (number == 0) writer.add("name", "whole");
        add_floats(writer, tensor, number + std::size_t{1});
        return writer.build();
    };
    const auto first = files.write("m-00001-of-00003.gguf", part(0, 3, "a"));
    const auto second = files.write("m-00002-of-00003.gguf", part(1, 3, "b"));
    files.write("m-00003-of-00003.gguf", part(2, 3, "c"));
    const auto open_refused = [](const std::filesystem::path& path, ErrorCode code, std::string_view text) {
        try {
            (void)GgufFile::open(path);
            FAIL_CHECK("loaded, expected an error with: ", text);
        } catch (const Error& error) {
            const std::string message = error.what();
            INFO(message);
            CHECK(error.code() == code);
            CHECK(message.find(text) != std::string::npos);
        }
    };

    SUBCASE("the first part opens all") {
        std::shared_ptr<const void> storage;
        const std::byte* last = nullptr;
        {
            const GgufFile file = GgufFile::open(first);
            CHECK(file.get_string("name") == "whole");
            REQUIRE(file.tensors().size() == 3);
            CHECK(file.tensor("b").bytes == 8);
            last = file.tensor("c").data;
            storage = file.storage();
        }
        CHECK(last[3] == std::byte{0x3F});  // of 1.0F, still mapped
    }
    SUBCASE("another part than the first") {
        open_refused(second, ErrorCode::Unsupported, "part number 1 of 3 of a split model");
    }
    SUBCASE("missing part") {
        std::filesystem::remove(second);
        open_refused(first, ErrorCode::Io, "m-00002-of-00003.gguf");
    }
    SUBCASE("repeated part") {
        files.write("m-00003-of-00003.gguf", part(1, 3, "c"));
        open_refused(first, ErrorCode::CorruptFile, "m-00003-of-00003.gguf': part number 1 of 3");
    }
    SUBCASE("part of a model split otherwise") {
        files.write("m-00003-of-00003.gguf", part(2, 4, "c"));
        open_refused(first, ErrorCode::CorruptFile, "part number 2 of 4");
    }
    SUBCASE("part that is no part") {
        GgufWriter writer;
        add_floats(writer, "c", 1);
        files.write("m-00003-of-00003.gguf", writer.build());
        open_refused(first, ErrorCode::CorruptFile, "no metadata key 'split.no'");
    }
    SUBCASE("a tensor in two parts") {
        files.write("m-00003-of-00003.gguf", part(2, 3, "a"));
        open_refused(first, ErrorCode::CorruptFile, "tensor 'a' is there more than once");
    }
    SUBCASE("a tensor too few") {
        GgufWriter writer;
        writer.add("split.no", std::uint16_t{2}).add("split.count", std::uint16_t{3});
        files.write("m-00003-of-00003.gguf", writer.build());
        open_refused(first, ErrorCode::CorruptFile, "have 2 tensors, expected 3");
    }
    SUBCASE("a name without the number") {
        const auto path = files.write("m.gguf", part(0, 3, "a"));
        open_refused(path, ErrorCode::Unsupported, "ending in -00001-of-00003.gguf");
    }
    SUBCASE("huge count") {
        GgufWriter writer;
        writer.add("split.no", std::uint16_t{0}).add("split.count", minus_one);
        open_refused(files.write("huge.gguf", writer.build()), ErrorCode::CorruptFile, "at most 65535");
    }
    SUBCASE("in memory") { refused(part(0, 3, "a"), ErrorCode::Unsupported, "one of 3 parts"); }
    SUBCASE("a split into one part is a file like any other") {
        GgufWriter writer;
        writer.add("split.no", std::uint16_t{0}).add("split.count", std::uint16_t{1});
        CHECK(GgufFile::open(files.write("one.gguf", writer.build())).tensors().empty());
    }
}

}  // namespace test_gguf_hostile
