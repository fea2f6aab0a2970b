#include "adainfer/io/gguf_config.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "errors.hpp"
#include "gguf_writer.hpp"

namespace test_gguf_config {

using namespace adainfer;

namespace {

constexpr const char* key = "gemma3.attention.sliding_window_pattern";

/// The metadata of a Gemma 3 of `layers` layers with windows of 4.
GgufWriter gemma3(std::uint32_t layers) {
    GgufWriter writer;
    writer.add("general.architecture", "gemma3").add("gemma3.block_count", layers);
    writer.add("gemma3.embedding_length", std::uint32_t{8}).add("gemma3.attention.head_count", std::uint32_t{2});
    writer.add("gemma3.feed_forward_length", std::uint32_t{12}).add("gemma3.context_length", std::uint32_t{64});
    writer.add("gemma3.attention.layer_norm_rms_epsilon", 1e-6F).add("gemma3.rope.freq_base", 1e6F);
    writer.add("gemma3.attention.sliding_window", std::uint32_t{4});
    writer.add_tensor("token_embd.weight", {8, 5}, std::vector<float>(40));
    return writer;
}

ModelConfig read(const GgufWriter& writer) {
    const std::vector<std::byte> bytes = writer.build();
    const GgufFile file = GgufFile::parse(bytes, "gemma.gguf");
    return detail::read_config(file, detail::gguf_family(file));
}

std::string refused(const GgufWriter& writer) {
    return error_of(ErrorCode::CorruptFile, [&] { static_cast<void>(read(writer)); });
}

}  // namespace

TEST_CASE("the windowed layers of a GGUF file: a period, a flag a layer, or every sixth full") {
    using Flags = std::vector<bool>;
    CHECK(read(gemma3(7)).windowed == Flags{true, true, true, true, true, false, true});
    CHECK(read(gemma3(5).add(key, std::uint32_t{2})).windowed == Flags{true, false, true, false, true});
    const Flags uneven{false, true, true, false, false};
    const ModelConfig config = read(gemma3(5).add(key, uneven));
    CHECK(config.windowed == uneven);
    CHECK(config.window_of(0) == 0);
    CHECK(config.window_of(1) == 4);
    CHECK(config.window_rope.base == 10000);
    CHECK(config.rope.base == 1e6);
    CHECK(read(gemma3(3).add(key, Flags{true, true, true})).windowed == Flags{true, true, true});
    // llama.cpp saves a model that it has loaded with numbers.
    CHECK(read(gemma3(3).add(key, std::vector<std::uint32_t>{1, 0, 1})).windowed == Flags{true, false, true});
    CHECK(read(gemma3(3).add(key, std::vector<std::int32_t>{0, 0, 1})).windowed == Flags{false, false, true});

    GgufWriter unwindowed = gemma3(2);
    unwindowed.entries.pop_back();
    CHECK(read(unwindowed.add(key, Flags{true, false})).windowed.empty());
}

TEST_CASE("flags of windowed layers that do not fit") {
    const std::string file = "'gemma.gguf': ";
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{4}, std::size_t{100'000}}) {
        CHECK(contains(refused(gemma3(3).add(key, std::vector<bool>(count, true))),
                       file + key + " has " + std::to_string(count) + " flags, the model has 3 layers"));
    }
    const std::string wanted = ", expected an array of booleans", is = std::string("metadata key '") + key + "' is of type ";
    CHECK(contains(refused(gemma3(3).add(key, std::vector<std::uint32_t>{1, 0, 2})), is + "array of uint32" + wanted));
    CHECK(contains(refused(gemma3(3).add(key, std::vector<std::int32_t>{-1, 0, 1})), is + "array of int32" + wanted));
    CHECK(contains(refused(gemma3(3).add(key, std::vector<float>{1, 0, 1})), is + "array of float32" + wanted));
    CHECK(contains(refused(gemma3(3).add(key, std::vector<std::string>{"a", "b", "c"})), is + "array of string" + wanted));
    CHECK(contains(refused(gemma3(3).add(key, true)), "bool, expected a non-negative integer"));
    CHECK(contains(refused(gemma3(3).add(key, "LLG")), "string, expected a non-negative integer"));
    CHECK(contains(refused(gemma3(3).add(key, std::uint32_t{0})), std::string(key) + " is 0"));

    GgufWriter neither = gemma3(2).add(key, std::vector<bool>{true, false});
    neither.entries.back().payload.back() = std::byte{2};
    CHECK(contains(refused(neither), "has the boolean 2, expected 0 or 1"));
}

TEST_CASE("a rotary dimension that no head has is refused before a factor of each of its pairs is made") {
    GgufWriter writer = gemma3(1);
    writer.add("gemma3.rope.scaling.type", "yarn").add("gemma3.rope.scaling.factor", 4.0F);
    CHECK(read(writer).rope.frequency_factors.size() == 2);
    GgufWriter named = writer;
    named.add("gemma3.rope.dimension_count", std::uint64_t{1} << 62U);
    CHECK(contains(refused(named), "gemma3.rope.dimension_count is 4611686018427387904, at most 65536 are read"));
    writer.add("gemma3.attention.key_length", std::uint64_t{1} << 40U);
    CHECK(contains(refused(writer), "gemma3.rope.dimension_count is 1099511627776, at most 65536 are read"));
}

TEST_CASE("an OPT whose token embedding is a scalar") {
    GgufWriter writer;
    writer.add("general.architecture", "opt").add("opt.block_count", std::uint32_t{1});
    writer.add("opt.embedding_length", std::uint32_t{8}).add("opt.attention.head_count", std::uint32_t{2});
    writer.add("opt.feed_forward_length", std::uint32_t{12}).add("opt.context_length", std::uint32_t{16});
    writer.add("opt.attention.layer_norm_epsilon", 1e-5F);
    writer.add_tensor("token_embd.weight", {}, std::vector<float>(1));
    writer.add_tensor("token_embd_in.weight", {4, 8}, std::vector<float>(32));
    const std::vector<std::byte> bytes = writer.build();
    const GgufFile file = GgufFile::parse(bytes, "opt.gguf");
    const std::string message = error_of(ErrorCode::CorruptFile, [&] { static_cast<void>(load_weights(file)); });
    CHECK(contains(message, "'opt.gguf': the vocabulary size must be 1 to 16777216, found 0"));
}

}  // namespace test_gguf_config
