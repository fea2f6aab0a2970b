#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/file_bytes.hpp"
#include "adainfer/io/gguf.hpp"
#include "errors.hpp"
#include "gguf_writer.hpp"
#include "temporary_files.hpp"

namespace test_gguf {

namespace {

using namespace adainfer;
using namespace std::string_literals;

GgufFile parse(const std::vector<std::byte>& bytes) { return GgufFile::parse(bytes, "test.gguf"); }

std::vector<std::byte> some_bytes(std::size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
    return bytes;
}

}  // namespace

TEST_CASE("gguf: values of every type come back, through every getter that may read them") {
    GgufWriter writer;
    writer.add("u8", std::uint8_t{255}).add("i8", std::int8_t{-128}).add("u16", std::uint16_t{65535});
    writer.add("i16", std::int16_t{-32768}).add("u32", std::uint32_t{4294967295}).add("i32", std::int32_t{7});
    writer.add("u64", (std::numeric_limits<std::uint64_t>::max)()).add("i64", std::int64_t{-1});
    writer.add("f32", 1.25F).add("f64", 0.1).add("yes", true).add("no", false).add("text", "h\xC3\xA9");
    writer.add("strings", std::vector<std::string>{"a", "", "b\0c"s}).add("no strings", std::vector<std::string>{});
    writer.add("ints", std::vector<std::int32_t>{1, -2, 3}).add("bytes", std::vector<std::uint8_t>{0, 255});
    writer.add("longs", std::vector<std::uint64_t>{1, std::uint64_t{1} << 63});
    writer.add("floats", std::vector<float>{0.5F, -1.0F}).add("doubles", std::vector<double>{0.5, 1e300, -1e300});
    writer.add("flags", std::vector<bool>{true, false});
    const auto bytes = writer.build();
    const GgufFile file = parse(bytes);

    CHECK(file.version() == 3);
    CHECK(file.alignment() == 32);
    CHECK(file.tensors().empty());
    CHECK(file.metadata().size() == 21);
    CHECK(file.metadata()[0].key == "u8");
    CHECK(file.has("u8"));
    CHECK_FALSE(file.has("u9"));
    CHECK(file.get_uint("u8") == 255);
    CHECK(file.get_int("i8") == -128);
    CHECK(file.get_uint("u16") == 65535);
    CHECK(file.get_int("i16") == -32768);
    CHECK(file.get_uint("u32") == 4294967295);
    CHECK(file.get_uint("i32") == 7);
    CHECK(file.get_uint("u64") == (std::numeric_limits<std::uint64_t>::max)());
    CHECK(file.get_int("i64") == -1);
    CHECK(file.get_float("f32") == 1.25);
    CHECK(file.get_float("f64") == 0.1);
    CHECK(file.get_bool("yes"));
    CHECK_FALSE(file.get_bool("no"));
    CHECK(file.get_string("text") == "h\xC3\xA9");
    CHECK(file.get_string_array("strings") == std::vector<std::string>{"a", "", "b\0c"s});
    CHECK(file.get_string_array("no strings").empty());
    CHECK(file.get_int_array("ints") == std::vector<std::int64_t>{1, -2, 3});
    CHECK(file.get_int_array("bytes") == std::vector<std::int64_t>{0, 255});
    CHECK(file.get_float_array("floats") == std::vector<float>{0.5F, -1.0F});
    constexpr float infinity = std::numeric_limits<float>::infinity();
    CHECK(file.get_float_array("doubles") == std::vector<float>{0.5F, infinity, -infinity});
    CHECK(file.find("flags")->type_name() == "array of bool");
    CHECK(file.find("flags")->size() == 2);
    CHECK(file.find_bool_array("flags") == std::vector<bool>{true, false});

    CHECK_FALSE(file.find_uint("absent"));
    CHECK_FALSE(file.find_int("absent"));
    CHECK_FALSE(file.find_float("absent"));
    CHECK_FALSE(file.find_bool("absent"));
    CHECK_FALSE(file.find_string("absent"));
    CHECK_FALSE(file.find_string_array("absent"));
    CHECK_FALSE(file.find_int_array("absent"));
    CHECK_FALSE(file.find_float_array("absent"));
    CHECK_FALSE(file.find_bool_array("absent"));
}

TEST_CASE("gguf: a missing key or one of another type is an error that names file, key, expected and found type") {
    GgufWriter writer;
    writer.add("negative", std::int32_t{-3}).add("text", "x").add("number", std::uint32_t{5});
    writer.add("ints", std::vector<std::int32_t>{1}).add("big", std::vector<std::uint64_t>{std::uint64_t{1} << 63});
    writer.add("huge", (std::numeric_limits<std::uint64_t>::max)());
    const auto bytes = writer.build();
    const GgufFile file = parse(bytes);
    const auto message = [&](auto get) { return error_of(ErrorCode::CorruptFile, [&] { get(); }); };

    CHECK(message([&] { (void)file.get_uint("absent"); }) == "corrupt file: 'test.gguf': no metadata key 'absent'");
    CHECK(message([&] { (void)file.get_uint("negative"); }) ==
          "corrupt file: 'test.gguf': metadata key 'negative' is of type int32 -3, expected a non-negative integer");
    CHECK(message([&] { (void)file.find_uint("text"); }) ==
          "corrupt file: 'test.gguf': metadata key 'text' is of type string, expected a non-negative integer");
    CHECK(contains(message([&] { (void)file.find_int("huge"); }), "uint64 18446744073709551615, expected an integer"));
    CHECK(contains(message([&] { (void)file.get_float("number"); }), "uint32 5, expected a floating-point number"));
    CHECK(contains(message([&] { (void)file.get_bool("number"); }), "expected a boolean"));
    CHECK(contains(message([&] { (void)file.get_string("number"); }), "expected a string"));
    CHECK(contains(message([&] { (void)file.get_uint("ints"); }), "array of int32, expected"));
    CHECK(contains(message([&] { (void)file.get_string_array("ints"); }), "int32, expected an array of strings"));
    CHECK(contains(message([&] { (void)file.get_float_array("ints"); }), "int32, expected an array of floating-point"));
    CHECK(contains(message([&] { (void)file.get_int_array("text"); }), "string, expected an array of integers"));
    CHECK(contains(message([&] { (void)file.get_int_array("big"); }), "uint64, expected an array of integers"));
}

TEST_CASE("gguf: tensors come back with their bytes, shapes and types") {
    const auto q8 = some_bytes(2 * 3 * 34), f16 = some_bytes(10), odd = some_bytes(1);
    GgufWriter writer;
    const std::vector<float> floats{1.0F, 2.0F, 3.0F};
    writer.add_tensor("f", {3}, floats).add_tensor("q", DType::Q8_0, {64, 3}, q8);
    writer.add_tensor("h", DType::F16, {1, 5}, f16).add_tensor("i", 24, {1, 1, 1}, odd);
    writer.add_tensor("cube", DType::F16, {2, 3, 4}, some_bytes(48)).add_tensor("scalar", {}, std::vector{4.0F});
    const auto bytes = writer.build();
    const GgufFile file = parse(bytes);

    REQUIRE(file.tensors().size() == 6);
    CHECK(file.tensors()[1].name == "q");
    const GgufTensor& q = file.tensor("q");
    CHECK(q.type == 8);
    CHECK(q.type_name == "q8_0");
    CHECK(q.dims == std::vector<std::uint64_t>{64, 3});
    CHECK(q.offset == 32);
    CHECK(q.bytes == q8.size());
    CHECK(std::memcmp(q.data, q8.data(), q8.size()) == 0);
    const WeightView weight = file.weight(q);
    CHECK(weight.dtype == DType::Q8_0);
    CHECK(weight.rows == 3);
    CHECK(weight.cols == 64);
    CHECK(weight.data == q.data);
    CHECK(weight.bytes() == q.bytes);

    CHECK(file.weight(file.tensor("f")).rows == 1);
    CHECK(file.weight(file.tensor("f")).cols == 3);
    CHECK(std::memcmp(file.tensor("f").data, floats.data(), 12) == 0);
    CHECK(file.weight(file.tensor("cube")).rows == 12);
    CHECK(file.weight(file.tensor("cube")).cols == 2);
    CHECK(file.weight(file.tensor("scalar")).rows == 1);
    CHECK(file.weight(file.tensor("scalar")).cols == 1);

    CHECK(file.find_tensor("absent") == nullptr);
    CHECK(error_of(ErrorCode::CorruptFile, [&] { (void)file.tensor("absent"); }) ==
          "corrupt file: 'test.gguf': no tensor 'absent'");
    CHECK(error_of(ErrorCode::Unsupported, [&] { (void)file.weight(file.tensor("i")); }) ==
          "unsupported: 'test.gguf': tensor 'i' is of type i8; supported are f32, f16, q4_0, q4_1, q5_0, q5_1, q8_0, "
          "q4_k, q5_k, q6_k, bf16");
}

TEST_CASE("gguf: version 2 is read as version 3, a copy is a file of its own") {
    GgufWriter writer;
    writer.version = 2;
    writer.add("k", "v").add_tensor("t", {1}, std::vector{1.0F});
    const auto bytes = writer.build();
    const GgufFile file = parse(bytes);
    const GgufFile copy = file;  // NOLINT(performance-unnecessary-copy-initialization)
    CHECK(copy.version() == 2);
    CHECK(copy.get_string("k") == "v");
    CHECK(copy.find_tensor("t") != file.find_tensor("t"));
    CHECK(copy.tensor("t").data == file.tensor("t").data);
}

TEST_CASE("gguf: the file keeps its storage alive, and so does whoever holds storage()") {
    GgufWriter writer;
    writer.add("k", "v").add_tensor("t", {1}, std::vector{1.0F});
    auto bytes = std::make_shared<const std::vector<std::byte>>(writer.build());
    const std::weak_ptr<const void> watch = bytes;
    std::shared_ptr<const void> kept;
    {
        const std::span<const std::byte> view = *bytes;
        const GgufFile file = GgufFile::parse(view, "x", std::move(bytes));
        CHECK(file.get_string("k") == "v");
        kept = file.storage();
    }
    CHECK_FALSE(watch.expired());
    kept.reset();
    CHECK(watch.expired());
}

TEST_CASE("gguf: 256 random keys and 256 random tensors come back, from memory at any address and from a file") {
    std::mt19937_64 random(7);
    GgufWriter writer;
    std::vector<std::string> texts;
    for (int i = 0; i < 256; ++i) {
        texts.emplace_back(random() % 50, static_cast<char>('a' + random() % 26));
        writer.add("key." + std::to_string(random() % 1000) + "." + std::to_string(i), texts.back());
    }
    for (int i = 0; i < 256; ++i) {
        const std::vector<std::uint64_t> dims{random() % 9, 1 + random() % 5};
        std::vector<float> values(dims[0] * dims[1]);
        for (float& value : values) value = static_cast<float>(random() % 1000);
        writer.add_tensor("tensor." + std::to_string(i), dims, values);
    }
    const auto bytes = writer.build();
    const TemporaryFiles files;
    const auto path = files.write("random.gguf", bytes);
    std::vector<std::byte> behind_prefix(7);
    behind_prefix.insert(behind_prefix.end(), bytes.begin(), bytes.end());
    for (const GgufFile& file : {parse(bytes), GgufFile::parse(std::span(behind_prefix).subspan(7), "x"),
                                 GgufFile::open(path)}) {
        for (std::size_t i = 0; i < 256; ++i) {
            CHECK(file.get_string(writer.entries[i].key) == texts[i]);
            const GgufTensor& tensor = file.tensor(writer.tensors[i].name);
            CHECK(tensor.dims == writer.tensors[i].dims);
            REQUIRE(tensor.bytes == writer.tensors[i].data.size());
            CHECK((tensor.bytes == 0 || std::memcmp(tensor.data, writer.tensors[i].data.data(), tensor.bytes) == 0));
        }
    }
}

TEST_CASE("bytes of a file, mapped or read: an empty file, moves, and errors that name the path") {
    const TemporaryFiles files;
    const auto bytes = some_bytes(10000);
    const auto path = files.write("some", bytes);
    for (const FileAccess access : {FileAccess::Map, FileAccess::Read}) {
        FileBytes file = FileBytes::open(path, access);
        REQUIRE(file.bytes().size() == bytes.size());
        CHECK(std::memcmp(file.bytes().data(), bytes.data(), bytes.size()) == 0);

        const std::byte* const at = file.bytes().data();
        FileBytes moved = std::move(file);
        CHECK(moved.bytes().data() == at);
        CHECK(file.bytes().empty());  // NOLINT(bugprone-use-after-move)

        const auto empty = files.write("empty", {});
        CHECK(FileBytes::open(empty, access).bytes().empty());
        moved = FileBytes::open(empty, access);
        CHECK(moved.bytes().empty());

        const auto absent = files.directory() / "absent";
        CHECK(contains(error_of(ErrorCode::Io, [&] { (void)FileBytes::open(absent, access); }), absent.string()));
        CHECK(contains(error_of(ErrorCode::Io, [&] { (void)GgufFile::open(absent, access); }), absent.string()));
        CHECK(contains(error_of(ErrorCode::Io, [&] { (void)FileBytes::open(files.directory(), access); }),
                       files.directory().string()));
    }
}

// A mapped file that somebody cuts short ends the process when it is read beyond its new end; one that was read does not care.
TEST_CASE("a file that was read may be cut short or written over while it is in use") {
    const TemporaryFiles files;
    const auto bytes = some_bytes(100'000);
    const auto path = files.write("some", bytes);
    const FileBytes cut = FileBytes::open(path, FileAccess::Read);
    CHECK(!cut.mapped());
    std::filesystem::resize_file(path, 10);
    CHECK(std::memcmp(cut.bytes().data(), bytes.data(), bytes.size()) == 0);

    files.write("some", some_bytes(50));
    CHECK(std::memcmp(cut.bytes().data(), bytes.data(), bytes.size()) == 0);
}

}  // namespace test_gguf
