#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/safetensors.hpp"
#include "errors.hpp"
#include "file_text.hpp"
#include "memory_limit.hpp"
#include "sanitized.hpp"
#include "temporary_files.hpp"

namespace test_safetensors {

namespace {

using namespace adainfer;
using namespace std::string_literals;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

/// A file with this header and this data section.
std::string file_of(std::string_view header, std::string_view data = {}) {
    const std::uint64_t length = header.size();
    std::string file(sizeof length, '\0');
    std::memcpy(file.data(), &length, sizeof length);
    return file.append(header).append(data);
}

/// The result owns a copy of exactly these bytes.
SafetensorsFile parse(std::string_view file) {
    const auto kept = std::make_shared<const std::vector<char>>(file.begin(), file.end());
    return SafetensorsFile::parse(std::as_bytes(std::span(*kept)), "test.safetensors", kept);
}

/// The message of the error that parsing ends with; empty where it is accepted.
std::string error_of(std::string_view file, ErrorCode code = ErrorCode::CorruptFile) {
    try {
        static_cast<void>(parse(file));
    } catch (const Error& error) {
        CHECK(error.code() == code);
        CHECK(std::string_view(error.what()).find("'test.safetensors': ") != std::string_view::npos);
        return error.what();
    }
    return {};
}

void check_refused(std::string_view file, std::string_view reason, ErrorCode code = ErrorCode::CorruptFile) {
    const std::string message = error_of(file, code);
    CAPTURE(message);
    CHECK(contains(message, reason));
}

/// A header of one F32 scalar with four bytes of data; `field` may replace one of its fields.
std::string with(std::string_view dtype = "\"F32\"", std::string_view shape = "[]", std::string_view offsets = "[0,4]") {
    return file_of("{\"a\":{\"dtype\":" + std::string(dtype) + ",\"shape\":" + std::string(shape) + ",\"data_offsets\":" +
                       std::string(offsets) + "}}",
                   "\0\0\0\0"s);
}

/// Written by safetensors 0.8.0 for Python.
const std::string official =
    "H\x01\0\0\0\0\0\0{\"__metadata__\":{\"\xC3\xA9\":\"\\\"q\\\"\\n\"},"
    "\"none\":{\"dtype\":\"F32\",\"shape\":[2,0],\"data_offsets\":[0,0]},\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_"
    "offsets\":[0,4]},"
    "\"wide\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[4,20]},\"half\":{\"dtype\":\"F16\",\"shape\":[3],\"data_"
    "offsets\":[20,26]},"
    "\"bytes\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[26,29]}}     "
    "\0\0\xE0@\0\0\x80?\0\0\0\xC0\0\0\0?\0\xE0\x7FG\0<\0A\0\xC2\x80\0\x7F"s;

}  // namespace

TEST_CASE("safetensors: a file of the official writer is read") {
    const SafetensorsFile file = parse(official);
    REQUIRE(file.tensors().size() == 5);
    CHECK(file.metadata() == std::map<std::string, std::string>{{"\xC3\xA9", "\"q\"\n"}});
    CHECK(file.get_metadata("\xC3\xA9") == "\"q\"\n");
    CHECK(file.get("wide").shape == std::vector<std::uint64_t>{2, 2});
    CHECK(file.to_f32(file.get("wide")) == std::vector<float>{1, -2, 0.5F, 65504});
    CHECK(file.to_f32(file.get("half")) == std::vector<float>{1, 2.5F, -3});
    CHECK(file.to_f32(file.get("scalar")) == std::vector<float>{7});
    CHECK(file.get("scalar").shape.empty());
    CHECK(file.get("none").shape == std::vector<std::uint64_t>{2, 0});
    CHECK(file.to_f32(file.get("none")).empty());
    CHECK(file.get("bytes").dtype == "I8");
    CHECK(file.get("bytes").data.size() == 3);
    CHECK(file.find("absent") == nullptr);
    CHECK_THROWS_AS(static_cast<void>(file.get("absent")), Error);
    CHECK_THROWS_AS(static_cast<void>(file.get_metadata("absent")), Error);
    try {
        static_cast<void>(file.to_f32(file.get("bytes")));
        FAIL("an I8 tensor was read as floats");
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::Unsupported);
        CHECK(contains(error.what(), "'bytes' is of type I8"));
    }
}

TEST_CASE("safetensors: what is read is written again, byte for byte as the official writer does") {
    const TemporaryFiles files;
    const auto path = files.directory() / "again.safetensors";
    const SafetensorsFile file = parse(official);
    std::vector<SafetensorsTensor> tensors(file.tensors().rbegin(),
                                           file.tensors().rend());  // the order given does not matter
    write_safetensors(path, tensors, file.metadata());
    CHECK(file_text(path) == official);
    const SafetensorsFile again = SafetensorsFile::open(path);
    CHECK(again.name() == path.string());
    CHECK(again.tensors().size() == 5);
}

TEST_CASE("safetensors: bf16 is read, and data need no alignment") {
    const SafetensorsFile file =
        parse(file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"BF16","shape":[2],)"
                      R"("data_offsets":[1,5]},"c":{"dtype":"F32","shape":[1],"data_offsets":[5,9]}})",
                      "\xFF\x80\x3F\x00\xC0\0\0\x80\x3F"s));
    CHECK(file.to_f32(file.get("b")) == std::vector<float>{1, -2});
    CHECK(file.to_f32(file.get("c")) == std::vector<float>{1});
}

TEST_CASE("safetensors: legal oddities are accepted, as by the official reader") {
    CHECK(error_of(file_of("{}")).empty());
    CHECK(error_of(file_of("{\"__metadata__\":{}}")).empty());
    CHECK(error_of(file_of("{\"__metadata__\":null}")).empty());
    CHECK(error_of(file_of(" \n\t\r{} \n\t\r ")).empty());
    CHECK(error_of(with("\"F32\"", "[1]")).empty());
    CHECK(error_of(with("\"F32\"", "[1,1,1,1]")).empty());
    // In any order, also with empty tensors in between, and with names that are odd.
    CHECK(
        error_of(
            file_of(
                R"({"":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                R"("e":{"dtype":"F64","shape":[0,9223372036854775807,4],"data_offsets":[1,1]}})",
                "xy"))
            .empty());
    // Members of a tensor that this version does not know.
    CHECK(error_of(
              file_of(
                  R"({"a":{"new":[1,-2,3.5,true,null,"s",{"x":1}],"dtype":"U8","more":-1,"shape":[],"data_offsets":[0,1]}})",
                  "x"))
              .empty());
    CHECK(error_of(file_of(R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", "abc")).empty());
    // Not a number is none of the format's business.
    const SafetensorsFile file = parse(file_of(R"({"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]}})", "\x00\x7E"s));
    CHECK(std::isnan(file.to_f32(file.get("a")).front()));
}

TEST_CASE("safetensors: every type has the size that the official reader gives it") {
    const std::map<std::string, std::size_t> bits{
        {"BOOL", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
        {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},
        {"I32", 32}, {"U32", 32}, {"F32", 32}, {"C64", 64}, {"F64", 64}, {"I64", 64}, {"U64", 64}};
    for (const auto& entry : bits) {
        const std::string& name = entry.first;
        const std::size_t size = entry.second;
        CAPTURE(name);
        const std::string header =
            "{\"a\":{\"dtype\":\"" + name + "\",\"shape\":[8],\"data_offsets\":[0," + std::to_string(size) + "]}}";
        CHECK(error_of(file_of(header, std::string(size, 'x'))).empty());
        CHECK_FALSE(error_of(file_of(header, std::string(size + 1, 'x'))).empty());
    }
}

TEST_CASE("safetensors: the reject cases of the official tests") {
    std::string overlapping = "{";
    for (int i = 0; i < 10; ++i) {
        overlapping += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
    }
    check_refused(file_of(overlapping + "}", "\0\0\0\0"s), "expected to start at 4");
    check_refused(with() + "trailing bytes", "the tensors cover 4 bytes");
    check_refused(with().substr(0, with().size() - 2), "ends at byte 4 of the data, which has 2");
    check_refused("\x3C\x3C\x3C\x3C\0\0\0\0"s + "hello", "at most 100000000 are allowed");
    check_refused("", "cut short");
    check_refused("\x3C\0\0\0\0\0\0\0"s, "cut short");
    check_refused(file_of("\xFF"), "not UTF-8");
    check_refused(file_of("{"), "not valid JSON");
    check_refused(with("\"F32\"", "[2,2]"), "take 16 bytes, data_offsets span 4");
    check_refused(with("\"F32\"", "[2,18446744073709551614]"), "overflows 64 bits");
    check_refused(with("\"F32\"", "[2,9223372036854775807]"), "overflows 64 bits");
    check_refused(with("\"F32\"", "[9223372036854775807,4,0]"), "overflows 64 bits");
    check_refused(with("\"F32\"", "[576460752303423488]"), "overflows 64 bits");  // the bits, not the bytes
}

TEST_CASE("safetensors: lengths that lie") {
    check_refused(std::string(7, '\0'), "cut short");
    check_refused(std::string(8, '\0'), "not valid JSON");
    check_refused(std::string(8, '\xFF') + "{}", "at most 100000000");
    check_refused("\x01\xE1\xF5\x05\0\0\0\0{}"s, "a header of 100000001 bytes");
    check_refused("\x03\0\0\0\0\0\0\0{}"s, "cut short");
    check_refused("\x01\0\0\0\0\0\0\0{}"s, "not valid JSON");
    for (std::size_t size = 0; size < official.size(); ++size) {
        CAPTURE(size);
        CHECK_FALSE(error_of(std::string_view(official).substr(0, size)).empty());
    }
}

TEST_CASE("safetensors: holes, overlaps and offsets out of range") {
    const auto two = [](std::string_view a, std::string_view b) {
        return R"({"a":{"dtype":"U8","shape":[1],"data_offsets":)" + std::string(a) +
               R"(},"b":{"dtype":"U8","shape":[1],"data_offsets":)" + std::string(b) + "}}";
    };
    CHECK(error_of(file_of(two("[0,1]", "[1,2]"), "xy")).empty());
    check_refused(file_of(two("[1,2]", "[2,3]"), "xyz"), "tensor 'a': bytes 1 to 2, expected to start at 0");
    check_refused(file_of(two("[0,1]", "[2,3]"), "xyz"), "tensor 'b': bytes 2 to 3, expected to start at 1");
    check_refused(file_of(two("[0,1]", "[0,1]"), "x"), "tensor 'b': bytes 0 to 1, expected to start at 1");
    check_refused(file_of(two("[0,2]", "[1,2]"), "xy"), "span 2");
    check_refused(file_of(two("[0,1]", "[1,0]"), "x"), "tensor 'b': bytes 1 to 0");
    check_refused(file_of(two("[0,1]", "[1,2]"), "x"), "ends at byte 2 of the data, which has 1");
    check_refused(file_of(two("[0,1]", "[1,18446744073709551615]"), "x"), "span 18446744073709551614");
    check_refused(
        file_of(
            R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"z":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
            "xy"),
        "tensor 'z': bytes 1 to 1");
    check_refused(file_of(R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", "x"), "no whole number of bytes");
}

TEST_CASE("safetensors: headers of the wrong make") {
    for (const std::string_view document : {"[]", "null", "\"text\"", "3", "-3", "1.5", "true"}) {
        check_refused(file_of(document), "the header must be an object");
    }
    check_refused(file_of(R"({"a":null})"), "the value of 'a' must be an object, found null");
    check_refused(file_of(R"({"a":["F32",[],[0,4]]})", "\0\0\0\0"s), "must be an object, found an array");
    check_refused(file_of(R"({"a":{}})"), "dtype is missing");
    check_refused(file_of(R"({"a":{"dtype":"U8","data_offsets":[0,0]}})"), "shape is missing");
    check_refused(file_of(R"({"a":{"dtype":"U8","shape":[0]}})"), "data_offsets is missing");
    check_refused(with("\"F32\"", "[-1]"), "bad shape: found a negative number");
    check_refused(with("\"F32\"", "[-0]"), "bad shape: found a negative number");
    check_refused(with("\"F32\"", "[1.0]"), "bad shape: found a fraction");
    check_refused(with("\"F32\"", "[1e0]"), "bad shape: found a fraction");
    check_refused(with("\"F32\"", "[18446744073709551616]"), "beyond 64 bits");
    check_refused(with("\"F32\"", "[[1]]"), "bad shape: found an array");
    check_refused(with("\"F32\"", "[\"1\"]"), "bad shape: found a string");
    check_refused(with("\"F32\"", "null"), "bad shape: found null");
    check_refused(with("\"F32\"", "1"), "bad shape: found a number");
    check_refused(with("\"F32\"", "[]", "[-4,0]"), "bad data_offsets: found a negative number");
    check_refused(with("\"F32\"", "[]", "[0,4,4]"), "more than two data_offsets");
    check_refused(with("\"F32\"", "[]", "[4]"), "expected two data_offsets, found 1");
    check_refused(with("\"F32\"", "[]", "{\"0\":0}"), "bad data_offsets: found an object");
    check_refused(with("32"), "bad dtype: found a number");
    check_refused(with("\"f32\""), "unknown type 'f32'", ErrorCode::Unsupported);
    check_refused(with("\"Q4_0\""), "unknown type 'Q4_0'", ErrorCode::Unsupported);
    std::string many = "[1";
    for (int i = 0; i < 64; ++i) many += ",1";
    check_refused(with("\"F32\"", many + "]"), "more than 64 dimensions");
}

TEST_CASE("safetensors: metadata map strings to strings") {
    check_refused(file_of(R"({"__metadata__":[]})"), "must be an object, found an array");
    check_refused(file_of(R"({"__metadata__":"x"})"), "must be an object, found a string");
    check_refused(file_of(R"({"__metadata__":{"a":1}})"), "the metadata value of 'a' must be a string, found a number");
    check_refused(file_of(R"({"__metadata__":{"a":null}})"), "must be a string, found null");
    check_refused(file_of(R"({"__metadata__":{"a":{"b":"c"}}})"), "must be a string, found an object");
}

TEST_CASE("safetensors: keys that stand twice") {
    const std::string one = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    check_refused(file_of("{\"a\":" + one + ",\"a\":" + one + "}"), "the tensor 'a' stands twice");
    check_refused(file_of("{\"a\":" + one + ",\"\\u0061\":" + one + "}"), "the tensor 'a' stands twice");
    check_refused(file_of(R"({"__metadata__":{},"__metadata__":{}})"), "'__metadata__' stands twice");
    check_refused(file_of(R"({"__metadata__":{"a":"b","a":"b"}})"), "the metadata key 'a' stands twice");
    check_refused(file_of(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})"), "dtype stands twice");
    check_refused(file_of(R"({"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}})"), "shape stands twice");
    check_refused(file_of(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})"),
                  "data_offsets stands twice");
}

// fixtures/compare_safetensors.py compares the verdicts of both readers; here is every difference that it knows.
TEST_CASE("safetensors: refused though the official reader takes it") {
    const std::string empty = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    check_refused(file_of("{\"a\":" + empty + ",\"a\":" + empty + "}"), "the tensor 'a' stands twice");  // it takes the last
    check_refused(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":)"
                          R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                          "\0\0\0\0\0\0\0\0"s),
                  "the tensor 'a' stands twice");
    check_refused(file_of(R"({"__metadata__":{"a":"b","a":"c"}})"), "the metadata key 'a' stands twice");
    check_refused(file_of(R"({"a":["F32",[1],[0,4]]})", "\0\0\0\0"s), "must be an object, found an array");
    check_refused(with("{\"F32\":null}"), "bad dtype: found an object");
    std::string ones = "[1";
    for (int i = 0; i < 64; ++i) ones += ",1";
    check_refused(with("\"F32\"", ones + "]"), "more than 64 dimensions");
}

TEST_CASE("safetensors: verdicts that the comparison with the official reader looked at") {
    const std::string empty = R"("dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    check_refused(file_of("{\"a\":{\"x\":" + std::string(400, '9') + "," + empty + "}"), "not valid JSON");  // beyond a double
    CHECK(error_of(file_of("{\"a\":{\"x\":1." + std::string(4000, '1') + "," + empty + "}")).empty());
    CHECK(error_of(file_of("{\"a\":{\"x\":1,\"x\":2," + empty + "}")).empty());  // unknown members may stand twice
    CHECK(error_of(file_of("{\"\x7F\":{" + empty + "}")).empty());
    CHECK(error_of(file_of("{\"\\ud83d\\ude00\":{" + empty + "}")).empty());
    check_refused(file_of("{\"\\udc00\":{" + empty + "}"), "not valid JSON");
    CHECK(error_of(file_of(R"({"a":{"\u0064type":"U8","shape":[0],"data_offsets":[0,0]}})")).empty());
    for (const std::string_view space : {"\v", "\f", "\xC2\xA0"}) {
        check_refused(file_of(std::string(space) + "{}"), "not valid JSON");
    }
    check_refused(with("\"F32\"", "[+1]"), "not valid JSON");
    // An empty tensor inside the data of another one.
    check_refused(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                          R"("b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
                          "\0\0\0\0"s),
                  "tensor 'b'");
}

TEST_CASE("safetensors: text that is not quite JSON") {
    check_refused(file_of("\xEF\xBB\xBF{}"), "byte order mark");
    check_refused(file_of("{}\0"s), "a NUL byte at byte 2");
    check_refused(file_of("{}\0garbage"s), "a NUL byte");
    for (const std::string_view text :
         {"{}}", "{} {}", "/**/{}", "{,}", "{\"a\"}", "{'a':{}}", "\"", "{\"\\ud800\":{}}", "{\"\x01\":{}}", "nul"}) {
        CAPTURE(text);
        check_refused(file_of(text), "not valid JSON");
    }
    check_refused(file_of("{\"\xED\xA0\x80\":{}}"), "not UTF-8");
    check_refused(file_of("{\"\xC0\xAF\":{}}"), "not UTF-8");
    check_refused(file_of(R"({"a":{"x":1e999,"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"), "not valid JSON");
    check_refused(with("\"F32\"", "[01]"), "not valid JSON");
}

TEST_CASE("safetensors: deep nesting ends in an error, at the depth of the official reader") {
    const auto nested = [](std::size_t depth) {
        return file_of("{\"a\":{\"x\":" + std::string(depth, '[') + std::string(depth, ']') +
                       R"(,"dtype":"U8","shape":[0],"data_offsets":[0,0]}})");
    };
    CHECK(error_of(nested(125)).empty());
    check_refused(nested(126), "nests deeper than 127 levels");
    check_refused(nested(10'000'000), "nests deeper than 127 levels");
    check_refused(file_of(std::string(10'000'000, '[')), "the header must be an object");
}

TEST_CASE("safetensors: many tensors cost time and memory in proportion") {
    std::string header = "{";
    for (int i = 0; i < 100'000; ++i) {
        header +=
            (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"F32","shape":[200,200],"data_offsets":[0,160000]})";
    }
    const std::clock_t start = std::clock();  // of the processor: others may be busy beside
    check_refused(file_of(header + "}", std::string(160'000, 'x')), "expected to start at 160000");
    CHECK((std::clock() - start) / CLOCKS_PER_SEC < 20);
    std::string good = "{";
    for (int i = 0; i < 100'000; ++i) {
        good += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    }
    const SafetensorsFile file = parse(file_of(good + "}"));
    CHECK(file.tensors().size() == 100'000);
    CHECK(file.get("99999").name == "99999");
}

TEST_CASE("safetensors: a header as large as one may be") {
#ifdef TESTS_SANITIZED
    constexpr std::size_t limit = 2'000'000;  // the sanitizers take ten times the time
#else
    constexpr std::size_t limit = 100'000'000;
#endif
    // As many items as fit between the two ends; the official reader accepts each of these, in two to five times the memory.
    const auto filled = [](std::string_view front, auto append_item, std::string_view back, std::size_t& count) {
        std::string header(front);
        header.reserve(limit);
        std::string item;
        for (count = 0;; ++count) {
            item = count == 0 ? "" : ",";
            append_item(item, count);
            if (header.size() + item.size() + back.size() > limit) break;
            header += item;
        }
        return file_of(header.append(back));
    };
    const auto check_accepted = [](const std::string& file, auto&& check) {
        const std::clock_t start = std::clock();
        const MemoryLimit limited(std::size_t{14} * limit);
        check(SafetensorsFile::parse(bytes_of(file), "test.safetensors"));
        CHECK((std::clock() - start) / CLOCKS_PER_SEC < 30);  // it takes 1 to 4 seconds
    };
    const std::string empty = R"("dtype":"U8","shape":[0],"data_offsets":[0,0]}})";
    std::size_t count = 0;
    SUBCASE("nine million values of a member that is not known") {
        const std::string file =
            filled(R"({"a":{"x":[)", [](std::string& item, std::size_t) { item += R"("1234567")"; }, "]," + empty, count);
        CHECK(count >= limit / 11 - 10);
        check_accepted(file, [](const SafetensorsFile& read) { CHECK(read.tensors().size() == 1); });
    }
    SUBCASE("seven million entries of metadata") {
        const std::string file = filled(
            R"({"__metadata__":{)",
            [](std::string& item, std::size_t i) { item.append(1, '"').append(std::to_string(i)).append(R"(":"")"); }, "}}", count);
        CHECK(count > limit / 14);
        check_accepted(file, [&](const SafetensorsFile& read) {
            CHECK(read.metadata().size() == count);
            CHECK(read.get_metadata(std::to_string(count - 1)).empty());
        });
    }
    SUBCASE("well over a million empty tensors") {
        const std::string file = filled(
            "{",
            [](std::string& item, std::size_t i) {
                item.append(1, '"').append(std::to_string(i)).append(R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
            },
            "}", count);
        CHECK(count > limit / 60);
        check_accepted(file, [&](const SafetensorsFile& read) {
            CHECK(read.tensors().size() == count);
            CHECK(read.find(std::to_string(count - 1)) != nullptr);
        });
    }
    SUBCASE("a byte more") {
        check_refused(file_of("{}" + std::string(99'999'999, ' ')), "a header of 100000001 bytes, at most 100000000 are allowed");
    }
}

TEST_CASE("safetensors: the writer refuses what the reader would") {
    const TemporaryFiles files;
    const auto path = files.directory() / "x.safetensors";
    const std::string four = "\0\0\0\0"s;
    const auto refused = [&](std::vector<SafetensorsTensor> tensors, std::map<std::string, std::string> metadata,
                             std::string_view reason, ErrorCode code = ErrorCode::InvalidArgument) {
        try {
            write_safetensors(path, tensors, metadata);
            FAIL_CHECK("it was written");
        } catch (const Error& error) {
            CHECK(error.code() == code);
            CAPTURE(error.what());
            CHECK(contains(error.what(), reason));
        }
        CHECK(std::filesystem::is_empty(files.directory()));
    };
    refused({{"a", "F32", {2}, bytes_of(four)}}, {}, "'a' has 4 bytes");
    refused({{"a", "F32", {1ULL << 62U}, bytes_of(four)}}, {}, "'a' has 4 bytes");
    refused({{"a", "F4", {7}, bytes_of(four)}}, {}, "'a' has 4 bytes");  // an odd number of half bytes
    refused({{"a", "F4", {6}, bytes_of(four)}}, {}, "'a' has 4 bytes");
    refused({{"a", "F33", {1}, bytes_of(four)}}, {}, "unknown type 'F33'", ErrorCode::Unsupported);
    refused({{"a", "F32", {1}, bytes_of(four)}, {"a", "U8", {4}, bytes_of(four)}}, {}, "two tensors have the name 'a'");
    refused({{"__metadata__", "F32", {1}, bytes_of(four)}}, {}, "no tensor may have the name");
    refused({{"\xFF", "F32", {1}, bytes_of(four)}}, {}, "not UTF-8");
    refused({}, {{"a", "\xFF"}}, "not UTF-8");
    refused({}, {{"a", std::string(100'000'000, 'x')}}, "at most 100000000");
}

TEST_CASE("safetensors: files are written whole or not at all") {
    const TemporaryFiles files;
    const auto path = files.directory() / "x.safetensors";
    write_safetensors(path, {}, {{"version", "1"}});
    write_safetensors(path, {}, {{"version", "2"}});
    CHECK(SafetensorsFile::open(path).get_metadata("version") == "2");
    CHECK_THROWS_AS(write_safetensors(path, {}, {{"version", "\xFF"}}), Error);
    CHECK(SafetensorsFile::open(path).get_metadata("version") == "2");

    const auto link = files.directory() / "link.safetensors";
    std::filesystem::create_symlink(path, link);
    write_safetensors(link, {}, {{"version", "3"}});
    CHECK(std::filesystem::is_symlink(link));
    CHECK(SafetensorsFile::open(path).get_metadata("version") == "3");

    const auto io_error = [](const std::filesystem::path& target) {
        try {
            write_safetensors(target, {});
            FAIL_CHECK("it was written");
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::Io);
            CHECK(contains(error.what(), target.string()));
        }
    };
    io_error(files.directory());  // a folder
    io_error(files.directory() / "no such folder" / "x.safetensors");
    io_error(path / "x.safetensors");
    io_error("/dev/null");
    std::size_t left = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(files.directory())) ++left;
    CHECK(left == 2);
    CHECK_THROWS_AS(static_cast<void>(SafetensorsFile::open(files.directory() / "absent")), Error);
}

}  // namespace test_safetensors
