#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/model/model.hpp"
#include "errors.hpp"
#include "gguf_writer.hpp"
#include "memory_limit.hpp"
#include "temporary_files.hpp"
#include "tiny_model.hpp"
#include "tokenizer_vocabulary.hpp"

// Well-formed GGUF files whose content is no model, and what a loaded model has to survive.

namespace test_model_file_hostile {

namespace {

using namespace adainfer;
using Parts = std::vector<std::string_view>;
using Dims = std::vector<std::uint64_t>;

constexpr std::uint32_t none_32 = 0xFFFFFFFFU;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::size_t hidden = 8, layers = 2, context = 64;

/// A file of a Llama of two layers that loads, to spoil: width 8, 4 heads, 2 K/V heads, feed-forward 12, the tokens of
/// tokenizer_vocabulary.hpp.
struct LlamaFile {
    GgufWriter writer;
    TokenizerData vocabulary = test_vocabulary::data();

    explicit LlamaFile(std::uint32_t seed = 1) : random_(seed) {
        writer.add("general.architecture", "llama").add("llama.block_count", std::uint32_t{layers});
        writer.add("llama.embedding_length", std::uint32_t{hidden}).add("llama.attention.head_count", std::uint32_t{4});
        writer.add("llama.attention.head_count_kv", std::uint32_t{2}).add("llama.feed_forward_length", std::uint32_t{12});
        writer.add("llama.context_length", std::uint32_t{context}).add("llama.rope.dimension_count", std::uint32_t{2});
        writer.add("llama.attention.layer_norm_rms_epsilon", 1e-5F).add("llama.rope.freq_base", 10000.0F);
        writer.add("llama.vocab_size", static_cast<std::uint32_t>(vocabulary.tokens.size()));
        writer.add("tokenizer.ggml.model", vocabulary.model).add("tokenizer.ggml.pre", vocabulary.pre);
        writer.add("tokenizer.ggml.tokens", vocabulary.tokens).add("tokenizer.ggml.merges", vocabulary.merges);
        writer.add("tokenizer.ggml.token_type", vocabulary.token_types);
        writer.add("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(*vocabulary.bos));

        const std::uint64_t rows = vocabulary.tokens.size();
        matrix("token_embd.weight", {hidden, rows});
        for (std::size_t i = 0; i < layers; ++i) {
            const auto name = [&](std::string_view part) { return std::string("blk.").append(std::to_string(i)).append(part); };
            norm(name(".attn_norm.weight"));
            matrix(name(".attn_q.weight"), {hidden, 8});
            matrix(name(".attn_k.weight"), {hidden, 4});
            matrix(name(".attn_v.weight"), {hidden, 4});
            matrix(name(".attn_output.weight"), {8, hidden});
            norm(name(".ffn_norm.weight"));
            matrix(name(".ffn_gate.weight"), {hidden, 12});
            matrix(name(".ffn_up.weight"), {hidden, 12});
            matrix(name(".ffn_down.weight"), {12, hidden});
        }
        norm("output_norm.weight");
        matrix("output.weight", {hidden, rows});
    }

    LlamaFile& remove(std::string_view key) {
        REQUIRE(std::erase_if(writer.entries, [&](const auto& entry) { return entry.key == key; }) == 1);
        return *this;
    }

    /// Replaces or adds a key.
    template <class T>
    LlamaFile& set(std::string_view key, const T& value) {
        std::erase_if(writer.entries, [&](const auto& entry) { return entry.key == key; });
        writer.add(key, value);
        return *this;
    }

    LlamaFile& remove_tensor(std::string_view name) {
        REQUIRE(std::erase_if(writer.tensors, [&](const auto& tensor) { return tensor.name == name; }) == 1);
        return *this;
    }

    /// Replaces or adds a float tensor of these dims, innermost first; every element is 0.25.
    LlamaFile& set_tensor(std::string_view name, Dims dims) {
        std::uint64_t count = 1;
        for (const std::uint64_t dim : dims) count *= dim;
        const std::vector<float> values(static_cast<std::size_t>(count), 0.25F);
        const auto bytes = std::as_bytes(std::span(values));
        const auto at = std::find_if(writer.tensors.begin(), writer.tensors.end(), [&](const auto& t) { return t.name == name; });
        if (at == writer.tensors.end()) {
            writer.add_tensor(name, std::move(dims), values);
        } else {
            at->dims = std::move(dims);
            at->data.assign(bytes.begin(), bytes.end());
        }
        return *this;
    }

    GgufWriter::Tensor& tensor(std::string_view name) {
        const auto at = std::find_if(writer.tensors.begin(), writer.tensors.end(), [&](const auto& t) { return t.name == name; });
        REQUIRE(at != writer.tensors.end());
        return *at;
    }

    /// Element `i` of a float tensor.
    LlamaFile& set_element(std::string_view name, std::size_t i, float value) {
        std::memcpy(tensor(name).data.data() + i * sizeof value, &value, sizeof value);
        return *this;
    }

    /// All names, in the order of the file.
    std::vector<std::string> names() const {
        std::vector<std::string> result;
        for (const auto& tensor : writer.tensors) result.push_back(tensor.name);
        return result;
    }

    std::filesystem::path write() const { return files_.write("hostile.gguf", writer.build()); }

    ModelWeights load() const { return load_model(write()).weights; }

  private:
    void norm(const std::string& name) { writer.add_tensor(name, {hidden}, std::vector<float>(hidden, 1.0F)); }

    void matrix(const std::string& name, Dims dims) {
        std::vector<float> values(static_cast<std::size_t>(dims[0] * dims[1]));
        for (float& value : values) {
            random_ = random_ * 1664525U + 1013904223U;
            value = static_cast<float>(random_ >> 8U) / 16777216.0F - 0.5F;
        }
        writer.add_tensor(name, std::move(dims), values);
    }

    TemporaryFiles files_;
    std::uint32_t random_;
};

/// Checks that the file is refused: the kind of error, and a message that names the file, contains all parts and is printable.
/// Neither much time nor much memory may go by before.
void refused(const LlamaFile& file, ErrorCode code, const Parts& parts) {
    const std::filesystem::path path = file.write();
    const auto start = std::chrono::steady_clock::now();
    try {
        const MemoryLimit limit(std::size_t{32} << 20U);
        static_cast<void>(load_model(path));
    } catch (const Error& error) {
        const std::string message = error.what();
        INFO(message);
        CHECK(to_string(error.code()) == to_string(code));
        CHECK(contains(message, path.string()));
        CHECK(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }));
        for (const std::string_view part : parts) {
            INFO("expected: ", part);
            CHECK(message.find(part) != std::string::npos);
        }
        CHECK(message.size() < 800 + path.string().size());
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
        return;
    }
    FAIL_CHECK("loaded, expected an error with: ", parts.front());
}

void corrupt(const LlamaFile& file, const Parts& parts) { refused(file, ErrorCode::CorruptFile, parts); }
void unsupported(const LlamaFile& file, const Parts& parts) { refused(file, ErrorCode::Unsupported, parts); }

/// An integer key of the architecture, and how a message about its value calls it.
struct Number {
    std::string_view key, called;
};

const std::vector<Number> numbers{
    {"llama.block_count", "number of layers"},
    {"llama.embedding_length", "hidden size"},
    {"llama.attention.head_count", "head_count"},
    {"llama.attention.head_count_kv", "number of key/value heads"},
    {"llama.feed_forward_length", "feed-forward size"},
    {"llama.context_length", "context length"},
    {"llama.rope.dimension_count", "dimension"},
    {"llama.attention.key_length", "head dimension"},
    {"llama.attention.value_length", "key and value heads of different sizes"},
    {"llama.vocab_size", "vocab_size"},
};

ErrorCode code_of(const Number& number) {
    return number.key == "llama.attention.value_length" ? ErrorCode::Unsupported : ErrorCode::CorruptFile;
}

bool is_layer_matrix(const std::string& name) {
    return name.starts_with("blk.") && name.find("norm") == std::string::npos;
}

}  // namespace

TEST_CASE("hostile model file: the sound one loads") {
    const LlamaFile file;
    const ModelFile loaded = load_model(file.write());
    CHECK(loaded.weights.config.layers == layers);
    CHECK(loaded.weights.config.head_dim == 2);
    CHECK(loaded.tokenizer.vocab_size() == loaded.weights.config.vocabulary);
    const Model<EigenBackend> model(file.load());
    Session session = model.new_session();
    CHECK(model.predict(session, loaded.tokenizer.encode("abc 12")).token >= 0);

    LlamaFile least;  // what has a default may be missing
    for (const char* key : {"llama.rope.dimension_count", "llama.rope.freq_base", "llama.vocab_size", "tokenizer.ggml.merges",
                            "tokenizer.ggml.token_type", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.pre"}) {
        least.remove(key);
    }
    least.remove_tensor("output.weight");
    const ModelFile small = load_model(least.write());
    CHECK(small.weights.config.rope.dims == 2);
    CHECK(small.weights.tied());
}

TEST_CASE("hostile model file: a hyperparameter is missing") {
    for (const char* key : {"general.architecture", "llama.block_count", "llama.embedding_length", "llama.attention.head_count",
                            "llama.feed_forward_length", "llama.context_length", "llama.attention.layer_norm_rms_epsilon"}) {
        corrupt(LlamaFile().remove(key), {"no metadata key", key});
    }
    // Without it every head has keys and values of its own.
    refused(LlamaFile().remove("llama.attention.head_count_kv"), ErrorCode::ShapeMismatch,
            {"blk.0.attn_k.weight", "[4, 8]", "[8, 8]"});
    corrupt(LlamaFile().set("llama.rope.scaling.type", "linear"), {"no metadata key", "llama.rope.scaling.factor"});
}

TEST_CASE("hostile model file: a hyperparameter of the wrong type") {
    for (const Number& number : numbers) {
        CAPTURE(number.key);
        corrupt(LlamaFile().set(number.key, "2"), {number.key, "string", "expected a non-negative integer"});
        corrupt(LlamaFile().set(number.key, 2.0F), {number.key, "float32", "expected a non-negative integer"});
        corrupt(LlamaFile().set(number.key, true), {number.key, "bool", "expected a non-negative integer"});
        corrupt(LlamaFile().set(number.key, std::vector<std::uint32_t>{2, 2}),
                {number.key, "array", "expected a non-negative integer"});
    }
    for (const char* key : {"llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"}) {
        corrupt(LlamaFile().set(key, std::uint32_t{1}), {key, "uint32", "expected a floating-point number"});
        corrupt(LlamaFile().set(key, "1"), {key, "string", "expected a floating-point number"});
    }
    corrupt(LlamaFile().set("general.architecture", std::uint32_t{1}), {"general.architecture", "expected a string"});
    corrupt(LlamaFile().set("general.name", std::uint32_t{1}), {"general.name", "expected a string"});
    corrupt(LlamaFile().set("llama.rope.scaling.type", std::uint32_t{1}), {"llama.rope.scaling.type", "expected a string"});
}

TEST_CASE("hostile model file: a hyperparameter is 0") {
    for (const Number& number : numbers) {
        CAPTURE(number.key);
        refused(LlamaFile().set(number.key, std::uint32_t{0}), code_of(number), {number.called});
    }
    corrupt(LlamaFile().set("llama.attention.head_count", std::uint32_t{0}).set("llama.attention.key_length", std::uint32_t{2}),
            {"number of attention heads", "found 0"});
}

TEST_CASE("hostile model file: a hyperparameter is negative") {
    for (const Number& number : numbers) {
        CAPTURE(number.key);
        corrupt(LlamaFile().set(number.key, std::int32_t{-1}), {number.key, "int32 -1", "expected a non-negative integer"});
        corrupt(LlamaFile().set(number.key, (std::numeric_limits<std::int64_t>::min)()), {number.key, "-9223372036854775808"});
    }
}

TEST_CASE("hostile model file: a hyperparameter that nobody could allocate") {
    for (const Number& number : numbers) {
        CAPTURE(number.key);
        refused(LlamaFile().set(number.key, none_32), code_of(number), {number.called});
        refused(LlamaFile().set(number.key, none_32 - 1), code_of(number), {number.called});
        refused(LlamaFile().set(number.key, std::uint64_t{1} << 32U), code_of(number), {number.called});
        refused(LlamaFile().set(number.key, (std::numeric_limits<std::uint64_t>::max)()), code_of(number), {number.called});
    }
    corrupt(LlamaFile().set("llama.block_count", none_32), {"number of layers", "4294967295"});
    corrupt(LlamaFile().set("llama.block_count", std::uint32_t{10'001}), {"number of layers must be at most 10000", "10001"});
    corrupt(LlamaFile().set("llama.block_count", std::uint32_t{10'000}), {"no tensor", "blk.2.attn_norm.weight"});
    refused(LlamaFile().set("llama.feed_forward_length", std::uint32_t{1} << 24U), ErrorCode::ShapeMismatch,
            {"blk.0.ffn_gate.weight", "16777216"});
}

TEST_CASE("hostile model file: floating-point hyperparameters out of range") {
    for (const float value : {-1e-5F, 1.0F, tiny::nan, infinity}) {
        corrupt(LlamaFile().set("llama.attention.layer_norm_rms_epsilon", value), {"norm epsilon"});
    }
    for (const float value : {0.0F, -1.0F, tiny::nan, infinity}) {
        corrupt(LlamaFile().set("llama.rope.freq_base", value), {"rotary base"});
        corrupt(LlamaFile().set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", value),
                {"rotary scaling factor"});
    }
}

TEST_CASE("hostile model file: head counts that do not divide") {
    corrupt(LlamaFile().set("llama.attention.head_count", std::uint32_t{3}),
            {"llama.attention.head_count is 3", "hidden size 8"});
    corrupt(LlamaFile().set("llama.attention.head_count", std::uint32_t{16}), {"llama.attention.head_count is 16"});
    corrupt(LlamaFile().set("llama.attention.head_count_kv", std::uint32_t{3}), {"multiple of the key/value heads", "4 and 3"});
    corrupt(LlamaFile().set("llama.attention.head_count_kv", std::uint32_t{8}), {"multiple of the key/value heads", "4 and 8"});
    corrupt(LlamaFile().set("llama.rope.dimension_count", std::uint32_t{1}), {"rotary dimension must be even", "found 1"});
    corrupt(LlamaFile().set("llama.rope.dimension_count", std::uint32_t{4}), {"at most the head dimension", "found 4"});
    // With a head size of its own any number of heads is possible, and other tensors are expected.
    refused(LlamaFile().set("llama.attention.head_count", std::uint32_t{6}).set("llama.attention.key_length", std::uint32_t{2}),
            ErrorCode::ShapeMismatch, {"blk.0.attn_q.weight", "[8, 8]", "expected [12, 8]"});
}

TEST_CASE("hostile model file: a layer or tensor is missing") {
    corrupt(LlamaFile().set("llama.block_count", std::uint32_t{3}), {"no tensor", "blk.2.attn_norm.weight"});
    const LlamaFile sound;
    for (const std::string& name : sound.names()) {
        if (name != "output.weight") corrupt(LlamaFile().remove_tensor(name), {"no tensor", name});
    }
}

TEST_CASE("hostile model file: tensors that nobody reads") {
    unsupported(LlamaFile().set("llama.block_count", std::uint32_t{1}), {"blk.1.attn_norm.weight", "not part of", "1 layers"});
    for (const char* name : {"blk.2.attn_norm.weight", "blk.0.attn_q_norm.weight", "blk.1.ffn_gate_exps.weight",
                             "blk.0.attn_norm.bias",
                             "position_embd.weight", "output_norm.bias", "blk.00.attn_norm.weight", "blk.0.attn_q"}) {
        unsupported(LlamaFile().set_tensor(name, {hidden}),
                    {std::string("'").append(name).append("' is not part of"), "2 layers"});
    }
}

TEST_CASE("hostile model file: shapes that disagree with the hyperparameters") {
    const LlamaFile sound;
    for (const std::string& name : sound.names()) {
        if (name == "token_embd.weight") continue;  // below
        CAPTURE(name);
        const Dims dims = LlamaFile().tensor(name).dims;
        const auto mismatch = [&](const Dims& other) {
            refused(LlamaFile().set_tensor(name, other), ErrorCode::ShapeMismatch, {name, "expected ["});
        };
        const std::uint64_t rows = dims.size() == 2 ? dims[1] : 1;
        mismatch({dims[0] + 1, rows});
        mismatch({dims[0] - 1, rows});
        mismatch({dims[0], rows + 1});
        mismatch({dims[0], rows - 1});
        mismatch({dims[0], 0});
        mismatch({0, rows});
        mismatch({dims[0], rows, 1});
        mismatch({dims[0] * rows + 1});
        mismatch({});
        if (rows != dims[0]) mismatch({rows, dims[0]});
    }
    for (const char* name : {"blk.0.attn_q.bias", "blk.1.attn_k.bias", "blk.1.ffn_down.bias", "output.bias"}) {
        refused(LlamaFile().set_tensor(name, {3}), ErrorCode::ShapeMismatch, {name, "[1, 3]", "expected [1, "});
    }
    refused(LlamaFile().set_tensor("rope_freqs.weight", {3}), ErrorCode::ShapeMismatch, {"rope_freqs.weight", "expected [1, 1]"});

    refused(LlamaFile().set("llama.embedding_length", std::uint32_t{16}), ErrorCode::ShapeMismatch,
            {"token_embd.weight", "expected [272, 16]"});
    refused(LlamaFile().set("llama.feed_forward_length", std::uint32_t{13}), ErrorCode::ShapeMismatch,
            {"ffn_gate.weight", "expected [13, 8]"});
    refused(LlamaFile().set("llama.attention.head_count_kv", std::uint32_t{1}), ErrorCode::ShapeMismatch,
            {"attn_k.weight", "expected [2, 8]"});
}

TEST_CASE("hostile model file: an embedding that disagrees") {
    const std::uint64_t rows = LlamaFile().vocabulary.tokens.size();
    for (const std::uint64_t other : {rows + 1, rows - 1, std::uint64_t{0}}) {
        corrupt(LlamaFile().set_tensor("token_embd.weight", {hidden, other}),
                {"llama.vocab_size is 272", "token_embd.weight has"});
    }
    refused(LlamaFile().remove("llama.vocab_size").set_tensor("token_embd.weight", {hidden, rows + 1}), ErrorCode::ShapeMismatch,
            {"output.weight", "[272, 8]", "expected [273, 8]"});
    refused(LlamaFile().set_tensor("token_embd.weight", {hidden + 1, rows}), ErrorCode::ShapeMismatch,
            {"token_embd.weight", "[272, 9]", "expected [272, 8]"});
    for (const Dims& dims : {Dims{}, Dims{hidden * rows}, Dims{hidden, rows, 1}, Dims{hidden, 0}}) {
        corrupt(LlamaFile().remove("llama.vocab_size").set_tensor("token_embd.weight", dims), {"vocabulary size", "found 0"});
    }
    corrupt(LlamaFile().set("llama.vocab_size", std::uint32_t{271}), {"llama.vocab_size is 271", "272 rows"});
    corrupt(LlamaFile().set("llama.vocab_size", std::uint32_t{273}), {"llama.vocab_size is 273", "272 rows"});
}

TEST_CASE("hostile model file: an architecture, a rotary scaling or a storage type that is not supported") {
    for (const char* architecture : {"falcon", "Llama", "llama ", ""}) {
        unsupported(LlamaFile().set("general.architecture", architecture),
                    {std::string("architecture '").append(architecture).append("'"), "supported: llama"});
    }
    for (const char* scaling : {"dynamic", "llama3", ""}) {
        unsupported(LlamaFile().set("llama.rope.scaling.type", scaling),
                    {"rotary scaling '", scaling, "supported: none, linear"});
    }
    corrupt(LlamaFile().set("llama.rope.scaling.type", "yarn"), {"llama.rope.scaling.factor"});
    corrupt(LlamaFile().set("llama.rope.scaling.type", "longrope"), {"rotary scaling 'longrope'", "rope_factors_short.weight"});
    CHECK(LlamaFile().set("llama.rope.scaling.type", "none").load().config.rope.linear_factor == 1);

    constexpr std::uint32_t i32 = 26;  // of four bytes, as the floats it replaces
    const LlamaFile sound;
    for (const std::string& name : sound.names()) {
        LlamaFile file;
        file.tensor(name).type = i32;
        unsupported(file, {name, "is of type i32", "supported are f32, f16"});
    }
}

TEST_CASE("hostile model file: NaN or infinity in a norm, a bias or the rotary factors") {
    const LlamaFile sound;
    std::size_t norms = 0;
    for (const std::string& name : sound.names()) {
        if (name.find("norm") == std::string::npos) continue;
        ++norms;
        for (const float value : {tiny::nan, infinity, -infinity}) {
            refused(LlamaFile().set_element(name, hidden - 1, value), ErrorCode::NotFinite, {name, "holds NaN or infinity"});
        }
    }
    CHECK(norms == 2 * layers + 1);
    LlamaFile half;
    GgufWriter::Tensor& norm = half.tensor("blk.1.ffn_norm.weight");
    norm.type = ggml_type_id(DType::F16);
    norm.data.assign(hidden * 2, std::byte{0});
    norm.data[7] = std::byte{0x7C};  // infinity
    refused(half, ErrorCode::NotFinite, {"blk.1.ffn_norm.weight"});

    refused(LlamaFile().set_tensor("blk.0.attn_v.bias", {4}).set_element("blk.0.attn_v.bias", 2, tiny::nan), ErrorCode::NotFinite,
            {"blk.0.attn_v.bias"});
    refused(LlamaFile().set_tensor("rope_freqs.weight", {1}).set_element("rope_freqs.weight", 0, tiny::nan), ErrorCode::NotFinite,
            {"rope_freqs.weight"});
    for (const float value : {0.0F, -1.0F}) {
        corrupt(LlamaFile().set_tensor("rope_freqs.weight", {1}).set_element("rope_freqs.weight", 0, value),
                {"frequency factors"});
    }
}

TEST_CASE("hostile model file: a tokenizer of another size than the embedding") {
    LlamaFile shorter, longer;
    shorter.vocabulary.tokens.pop_back();
    shorter.set("tokenizer.ggml.tokens", shorter.vocabulary.tokens).remove("tokenizer.ggml.token_type");
    corrupt(shorter, {"the tokenizer has 271 tokens, the embedding 272"});
    longer.vocabulary.tokens.emplace_back("one more");
    longer.set("tokenizer.ggml.tokens", longer.vocabulary.tokens).remove("tokenizer.ggml.token_type");
    corrupt(longer, {"the tokenizer has 273 tokens, the embedding 272"});
    CHECK(load_weights(GgufFile::open(longer.write())).config.vocabulary == 272);
}

TEST_CASE("hostile model file: no tokenizer, or one that is not supported") {
    LlamaFile none;
    std::erase_if(none.writer.entries, [](const auto& entry) { return entry.key.starts_with("tokenizer."); });
    corrupt(none, {"holds no tokenizer", "tokenizer.ggml.model"});
    CHECK(load_weights(GgufFile::open(none.write())).layers.size() == layers);
    corrupt(LlamaFile().remove("tokenizer.ggml.tokens"), {"no metadata key", "tokenizer.ggml.tokens"});
    unsupported(LlamaFile().set("tokenizer.ggml.model", "bert"), {"tokenizer model 'bert'", "supported: gpt2"});
    corrupt(LlamaFile().set("tokenizer.ggml.model", "llama"), {"272 tokens but 0 scores"});
    unsupported(LlamaFile().set("tokenizer.ggml.model", ""), {"tokenizer model ''", "supported: gpt2"});
    unsupported(LlamaFile().set("tokenizer.ggml.pre", "no-such"), {"pre-tokenizer 'no-such'", "supported: ", "smollm"});
    for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.chat_template"}) {
        corrupt(LlamaFile().set(key, std::uint32_t{1}), {key, "uint32", "expected a string"});
    }
    for (const char* key : {"tokenizer.ggml.add_bos_token"}) {
        corrupt(LlamaFile().set(key, std::uint32_t{1}), {key, "uint32", "expected a boolean"});
    }
}

TEST_CASE("hostile model file: tokens") {
    const auto with = [](auto change) {
        LlamaFile file;
        change(file.vocabulary.tokens);
        file.set("tokenizer.ggml.tokens", file.vocabulary.tokens);
        return file.writer;
    };
    const auto check = [](GgufWriter writer, const Parts& parts) {
        LlamaFile file;
        file.writer = std::move(writer);
        corrupt(file, parts);
    };
    check(with([](auto& tokens) { tokens[270] = tokens[100]; }), {"tokens 100 and 270 are both"});
    check(with([](auto& tokens) { tokens['a'] = "another"; }), {"no token for the byte 0x61"});
    corrupt(LlamaFile().set("tokenizer.ggml.tokens", std::vector<std::string>{}),
            {"tokenizer.ggml.bos_token_id is 264", "vocabulary has 0"});
    corrupt(LlamaFile().set("tokenizer.ggml.tokens", std::vector<std::string>{}).remove("tokenizer.ggml.bos_token_id"),
            {"no tokens"});
    corrupt(LlamaFile().set("tokenizer.ggml.tokens", std::vector<std::uint32_t>(272)),
            {"tokenizer.ggml.tokens", "expected an array of strings"});
    corrupt(LlamaFile().set("tokenizer.ggml.tokens", "a"), {"tokenizer.ggml.tokens", "expected an array of strings"});

    corrupt(LlamaFile().set("tokenizer.ggml.token_type", std::vector<std::int32_t>(271, 1)), {"272 tokens but 271 types"});
    corrupt(LlamaFile().set("tokenizer.ggml.token_type", std::vector<std::string>(272, "1")),
            {"tokenizer.ggml.token_type", "expected an array of integers"});
    for (const std::int64_t type : {std::int64_t{-1}, std::int64_t{7}, (std::int64_t{1} << 32) + 1}) {
        std::vector<std::int64_t> types(272, 1);
        types[5] = type;
        corrupt(LlamaFile().set("tokenizer.ggml.token_type", types), {"tokenizer.ggml.token_type of token 5 is"});
    }
}

TEST_CASE("hostile model file: tokens with NUL bytes, control characters and invalid UTF-8") {
    // Each text stands for token 270 of 272; as it is no byte spelling, the token stands for the text itself.
    const std::vector<std::string> odd{std::string(1, '\0'), std::string("a\0b", 3), std::string(300, '\0'), "\x1B[31m", "\x7F",
                                       "\n", "\x80", "\xFF\xFE", "\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                       "\xE2\x80\xAE", "a\xE2\x96", std::string("\xC4\xA0\0", 3)};
    struct OddFile : LlamaFile {
        OddFile(const std::string& text, TokenType type, bool twice = false) {
            vocabulary.tokens[270] = text;
            if (twice) vocabulary.tokens[271] = text;
            vocabulary.token_types[270] = static_cast<std::int32_t>(type);
            set("tokenizer.ggml.tokens", vocabulary.tokens).set("tokenizer.ggml.token_type", vocabulary.token_types);
        }
    };
    for (const std::string& text : odd) {
        CAPTURE(text);
        for (const TokenType type : {TokenType::Normal, TokenType::UserDefined, TokenType::Control}) {
            CAPTURE(static_cast<int>(type));
            const ModelFile loaded = load_model(OddFile(text, type).write());
            const std::vector<TokenId> ids{270};
            CHECK(loaded.tokenizer.decode(ids) == text);
            CHECK(loaded.tokenizer.find(text) == 270);
            const EncodeOptions keep{.invalid_utf8 = InvalidUtf8::Keep};
            if (type != TokenType::Normal) {
                CHECK(loaded.tokenizer.encode("c" + text + "c", keep) ==
                      std::vector<TokenId>{*loaded.tokenizer.find("c"), 270, *loaded.tokenizer.find("c")});
            }
            CHECK(loaded.tokenizer.decode(loaded.tokenizer.encode("c" + text + "c", keep)) == "c" + text + "c");
        }
        // The same text twice, as a byte token, and in merges: refused, with a message fit for a terminal.
        corrupt(OddFile(text, TokenType::Normal, true), {"tokens 270 and 271 are both '"});
        corrupt(OddFile(text, TokenType::Byte), {"byte token '", "is not of the form <0xHH>"});
        corrupt(LlamaFile().set("tokenizer.ggml.merges", std::vector<std::string>{text}), {"merge 0 '", "is not two tokens"});
        corrupt(LlamaFile().set("tokenizer.ggml.merges", std::vector<std::string>{"c " + text}), {"merge 0 'c ", "not a token"});
        unsupported(LlamaFile().set("tokenizer.ggml.model", text), {"tokenizer model '", "supported: gpt2"});
        unsupported(LlamaFile().set("tokenizer.ggml.pre", text), {"pre-tokenizer '", "supported: "});
    }
    // A SentencePiece vocabulary: every text is its own bytes, U+2581 a space.
    for (const std::string& text : odd) {
        CAPTURE(text);
        LlamaFile file;
        for (std::string& token : file.vocabulary.tokens) token = "t" + token;
        file.vocabulary.tokens[270] = text;
        file.set("tokenizer.ggml.model", "llama").set("tokenizer.ggml.tokens", file.vocabulary.tokens);
        file.set("tokenizer.ggml.scores", std::vector<float>(272, -1.0F)).set("tokenizer.ggml.add_space_prefix", false);
        file.remove("tokenizer.ggml.token_type");
        const ModelFile loaded = load_model(file.write());
        CHECK(loaded.tokenizer.decode(std::vector<TokenId>{270}) == text);
    }
}

TEST_CASE("hostile model file: merges") {
    using Merges = std::vector<std::string>;
    const auto with = [](const Merges& merges, const Parts& parts) {
        corrupt(LlamaFile().set("tokenizer.ggml.merges", merges), parts);
    };
    with({"a b", "b c", "a b"}, {"merge 2 'a b' is there twice"});
    with({"a b", "a zz"}, {"merge 1 'a zz' names 'zz', not a token"});
    with({"zz a"}, {"merge 0 'zz a' names 'zz', not a token"});
    with({"a c"}, {"merge 0 'a c' names 'ac', not a token"});
    for (const char* malformed : {"ab", "a b c", " ab", "ab ", " ", ""}) {
        with({"a b", malformed}, {"merge 1 '", malformed, "is not two tokens"});
    }
    // What a terminal would obey stays in the file, and so does what would fill it.
    with({"a b", "a \x1B[2Jz"}, {"merge 1 'a ?[2Jz' names '?[2Jz', not a token"});
    with({"a b", "a " + std::string(1000, 'z')}, {"zzz...', not a token"});
    corrupt(LlamaFile().set("tokenizer.ggml.merges", std::vector<std::uint32_t>{1}),
            {"tokenizer.ggml.merges", "expected an array of strings"});
    corrupt(LlamaFile().set("tokenizer.ggml.merges", "a b"), {"tokenizer.ggml.merges", "expected an array of strings"});
    // A merge is longer than its parts, so merges that feed each other come to an end.
    const ModelFile feeding = load_model(LlamaFile().set("tokenizer.ggml.merges", Merges{"aa aa", "a a"}).write());
    CHECK(feeding.tokenizer.encode(std::string(10'000, 'a')).size() == 2500);
}

TEST_CASE("hostile model file: special token ids") {
    for (const char* name : {"bos", "eos", "eot", "unknown", "padding"}) {
        const std::string key = std::string("tokenizer.ggml.").append(name).append("_token_id");
        corrupt(LlamaFile().set(key, std::uint32_t{272}), {key, "is 272", "the vocabulary has 272"});
        corrupt(LlamaFile().set(key, none_32 - 1), {key, "is 4294967294"});
        corrupt(LlamaFile().set(key, (std::numeric_limits<std::uint64_t>::max)()), {key, "is 18446744073709551615"});
        corrupt(LlamaFile().set(key, std::int32_t{-1}), {key, "int32 -1"});
        corrupt(LlamaFile().set(key, "1"), {key, "string"});
        corrupt(LlamaFile().set(key, 1.0F), {key, "float32"});
        CHECK(LlamaFile().set(key, std::uint32_t{271}).load().layers.size() == layers);
    }
    // How some writers say "none".
    CHECK_FALSE(load_model(LlamaFile().set("tokenizer.ggml.bos_token_id", none_32).write()).tokenizer.bos());
}

TEST_CASE("loading reports progress and can be cancelled before and in the middle") {
    const std::filesystem::path missing = TemporaryFiles().directory() / "gone.gguf";
    CHECK(tiny::code_of([&] { return load_model(missing); }) == ErrorCode::Io);

    const LlamaFile file;
    const std::filesystem::path path = file.write();
    std::vector<std::size_t> done;
    LoadOptions options;
    options.progress = [&](const ProgressEvent& event) {
        CHECK(event.stage == "read layers");
        CHECK(event.total == layers);
        done.push_back(event.done);
    };
    CHECK(load_model(path, options).weights.layers.size() == layers);
    CHECK(done == std::vector<std::size_t>{1, 2});

    std::stop_source before;
    before.request_stop();
    done.clear();
    options.stop = before.get_token();
    const std::string message = tiny::message_of([&] { return load_model(path, options); });
    CHECK(contains(message, "cancelled"));
    CHECK(contains(message, path.string()));
    CHECK(done.empty());
    CHECK(tiny::code_of([&] { return load_model(path, options); }) == ErrorCode::Cancelled);

    std::stop_source middle;
    options.stop = middle.get_token();
    std::size_t reports = 0;
    options.progress = [&](const ProgressEvent&) {
        ++reports;
        middle.request_stop();
    };
    CHECK(tiny::code_of([&] { return load_model(path, options); }) == ErrorCode::Cancelled);
    CHECK(reports == 1);
    // An exception of the callback comes out as it is.
    options = {};
    options.progress = [](const ProgressEvent&) { throw std::logic_error("the caller's own"); };
    CHECK_THROWS_AS(static_cast<void>(load_model(path, options)), std::logic_error);
    CHECK(load_model(path).weights.layers.size() == layers);
}

TEST_CASE("a prompt of length 0, of exactly the context, one over") {
    const Model<EigenBackend> model(LlamaFile().load());
    const auto fits = tiny::tokens(context, 272), over = tiny::tokens(context + 1, 272);
    Session session = model.new_session();
    REQUIRE(session.capacity() == context);
    const std::vector<TokenId> none;
    CHECK(tiny::code_of([&] { model.prefill(session, none); }) == ErrorCode::InvalidArgument);
    CHECK(tiny::code_of([&] { return model.predict(session, none); }) == ErrorCode::InvalidArgument);
    CHECK(tiny::code_of([&] { model.prefill(session, over); }) == ErrorCode::ContextOverflow);
    CHECK(tiny::code_of([&] { return model.predict(session, over); }) == ErrorCode::ContextOverflow);
    CHECK(tiny::code_of([&] { return model.prefill_and_predict(session, over); }) == ErrorCode::ContextOverflow);
    CHECK(session.length() == 0);

    const auto predicted = tiny::copy(model.predict(session, fits).logits);
    CHECK(session.length() == 0);
    CHECK(tiny::copy(model.prefill_and_predict(session, fits).logits) == predicted);
    CHECK(session.length() == context);
    CHECK(tiny::code_of([&] { return model.decode(session, 1); }) == ErrorCode::ContextOverflow);
    CHECK(session.length() == context);
}

TEST_CASE("a context of one position") {
    const Model<EigenBackend> model(LlamaFile().set("llama.context_length", std::uint32_t{1}).load());
    Session session = model.new_session();
    CHECK(session.capacity() == 1);
    CHECK(tiny::code_of([&] { return model.predict(session, {{1, 2}}); }) == ErrorCode::ContextOverflow);
    const auto predicted = tiny::copy(model.predict(session, {{1}}).logits);
    CHECK(tiny::copy(model.decode(session, 1).logits) == predicted);
    CHECK(session.length() == 1);
    CHECK(tiny::code_of([&] { return model.decode(session, 1); }) == ErrorCode::ContextOverflow);
    CHECK(tiny::code_of([&] { return model.predict(session, {{1}}); }) == ErrorCode::ContextOverflow);
    session.rewind(0);
    CHECK(tiny::copy(model.prefill_and_predict(session, {{1}}).logits) == predicted);
    session.rewind(0);
    const GenerateResult result = generate(model, session, {{1}}, {.max_new_tokens = 5}, [](const GeneratedToken&) {});
    CHECK(result.tokens == 1);
    CHECK(result.reason == FinishReason::ContextFull);
}

TEST_CASE("two models in two threads, from the files on") {
    const LlamaFile first(1), second(2);
    const std::filesystem::path paths[2] = {first.write(), second.write()};
    const auto run = [&](std::size_t which) {
        const Model<EigenBackend, GapThreshold<>> model(load_model(paths[which]).weights, GapThreshold<>(0.02F), EigenBackend(2));
        Session session = model.new_session();
        std::vector<float> all;
        TokenId next = model.prefill_and_predict(session, tiny::tokens(5 + which, 272)).token;
        for (int i = 0; i < 20; ++i) {
            const Prediction p = model.decode(session, next);
            all.insert(all.end(), p.logits.begin(), p.logits.end());
            all.push_back(static_cast<float>(p.exit_layer));
            next = p.token;
        }
        return all;
    };
    const std::vector<float> alone[2] = {run(0), run(1)};
    CHECK(alone[0] != alone[1]);
    for (int round = 0; round < 5; ++round) {
        std::vector<float> together[2];
        std::thread other([&] { together[1] = run(1); });
        together[0] = run(0);
        other.join();
        CHECK(together[0] == alone[0]);
        CHECK(together[1] == alone[1]);
    }
}

namespace {

/// Exits as soon as it is asked, whatever it is told; remembers where that was.
struct ExitsAtOnce {
    std::vector<std::size_t>* asked;
    struct State {};
    using Features = FeatureList<Gap, TopProb>;
    [[nodiscard]] bool wants(std::size_t) const { return true; }
    [[nodiscard]] ExitDecision decide(std::size_t layer, const Features::Values&, State&) const {
        asked->push_back(layer);
        return ExitDecision::Exit;
    }
};

/// What every way to run the model with this policy does: the code of the error, or nothing.
template <class Model>
void all_fail(const Model& model, const Parts& parts) {
    Session session = model.new_session();
    const auto prompt = tiny::tokens(4, 272);
    const std::string predicted = tiny::message_of([&] { return model.predict(session, prompt); });
    const std::string decoded = tiny::message_of([&] { return model.decode(session, 1); });
    for (const std::string& message : {predicted, decoded}) {
        INFO(message);
        CHECK(contains(message, "not finite: "));
        for (const std::string_view part : parts) CHECK(message.find(part) != std::string::npos);
    }
    CHECK(session.length() == 0);
}

}  // namespace

TEST_CASE("NaN or infinity in a matrix of a layer: an error with layer and position under every policy") {
    const LlamaFile sound;
    for (const std::string& name : sound.names()) {
        if (!is_layer_matrix(name)) continue;
        CAPTURE(name);
        const std::string layer = name.starts_with("blk.0.") ? "layer 1 at position 0" : "layer 2 at position 0";
        for (const float value : {tiny::nan, infinity}) {
            const Model<EigenBackend> model(LlamaFile().set_element(name, 9, value).load());
            all_fail(model, {layer});
            all_fail(model.with_policy(Oracle<>()), {layer});
            if (name.starts_with("blk.1.")) continue;
            std::vector<std::size_t> asked;
            all_fail(model.with_policy(ExitsAtOnce{&asked}), {layer});
            CHECK(asked.empty());
            all_fail(model.with_policy(ExitAtLayer<>(1)), {layer});
            all_fail(model.with_policy(GapThreshold<>(-1.0F)), {layer});
            all_fail(model.with_policy(HiddenSaturation<>(-2.0F)), {layer});
            all_fail(model.with_policy(Patience<>(1)), {layer});
        }
    }
}

TEST_CASE("NaN in a layer that an exit leaves out") {
    const std::vector<TokenId> prompt = tiny::tokens(4, 272);
    SUBCASE("spoils nothing where only its K/V are needed, and they are sound") {
        const Model<EigenBackend, ExitAtLayer<>> model(LlamaFile().set_element("blk.1.ffn_up.weight", 0, tiny::nan).load(),
                                                       ExitAtLayer<>(1));
        Session session = model.new_session();
        CHECK(model.predict(session, prompt).exit_layer == 1);
        CHECK(model.decode(session, 1).exit_layer == 1);
        CHECK(session.length() == 1);
    }
    for (const char* name : {"blk.1.attn_k.weight", "blk.1.attn_v.weight"}) {
        SUBCASE(name) {
            const Model<EigenBackend, ExitAtLayer<>> model(LlamaFile().set_element(name, 0, tiny::nan).load(), ExitAtLayer<>(1));
            Session session = model.new_session();
            CHECK(model.predict(session, prompt).exit_layer == 1);
            const std::string message = tiny::message_of([&] { return model.decode(session, 1); });
            CHECK(contains(message, "keys or values of layer 2 at position 0"));
            CHECK(session.length() == 0);
        }
    }
}

TEST_CASE("NaN or infinity in the head: never an exit decision on it") {
    std::vector<std::size_t> asked;
    for (const float value : {tiny::nan, infinity}) {
        LlamaFile file;
        // Of either sign of the state's element, so that infinity comes out with both signs or as NaN.
        for (std::size_t row = 0; row < 272; row += 3) file.set_element("output.weight", row * hidden + row % hidden, value);
        const Model<EigenBackend> model(file.load());
        const Parts parts{"logits hold NaN or infinity"};
        all_fail(model, parts);
        all_fail(model.with_policy(ExitsAtOnce{&asked}), parts);
        all_fail(model.with_policy(ExitAtLayer<>(1)), parts);
        all_fail(model.with_policy(GapThreshold<>(-1.0F)), parts);
        all_fail(model.with_policy(TopProbThreshold<>(-1.0F)), parts);
        all_fail(model.with_policy(EntropyThreshold<>(1e9F)), parts);
        all_fail(model.with_policy(HiddenSaturation<>(-2.0F)), parts);
        all_fail(model.with_policy(Patience<>(1)), parts);
        all_fail(model.with_policy(Oracle<>()), parts);
        const auto shortlisted = model.with_policy(GapThreshold<LogitLens, ShortlistHead>(-1.0F, {}, ShortlistHead(8)));
        all_fail(shortlisted, parts);
        Session session = shortlisted.new_session();
        CHECK(tiny::code_of([&] { return shortlisted.decode(session, 1); }) == ErrorCode::NotFinite);
        CHECK(session.work.shortlist.empty());  // nothing was chosen by comparing NaN
    }
    CHECK(asked.empty());
}

TEST_CASE_TEMPLATE("the position in the message is that of the first bad token", Backend, ReferenceBackend, EigenBackend) {
    constexpr TokenId bad = 5;
    const auto check = [&](const LlamaFile& file, const char* where) {
        const Model<Backend> model(file.load());
        for (const std::size_t position : std::vector<std::size_t>{0, 1, 20, 31, 32, 45}) {
            std::vector<TokenId> prompt(50, 7);
            prompt[position] = prompt[48] = bad;
            std::string expected(where);
            expected.append(" at position ").append(std::to_string(position)).append(" hold");
            Session session = model.new_session();
            const std::string message = tiny::message_of([&] { model.prefill(session, prompt); });
            INFO(message);
            CHECK(contains(message, expected));
            CHECK(session.length() == 0);
            // The same in two passes.
            const std::span<const TokenId> all(prompt);
            if (position < 2) continue;
            model.prefill(session, all.first(position - 1));
            CHECK(contains(tiny::message_of([&] { model.prefill(session, all.subspan(position - 1)); }), expected));
            CHECK(session.length() == position - 1);
        }
    };
    SUBCASE("an embedding") {
        check(LlamaFile().set_element("token_embd.weight", static_cast<std::size_t>(bad) * hidden, infinity), "layer 1");
    }
    SUBCASE("a value that overflows") {
        LlamaFile file;
        for (std::size_t i = 0; i < hidden; ++i) {
            file.set_element("token_embd.weight", static_cast<std::size_t>(bad) * hidden + i, i == 0 ? 1.0F : 0.0F);
        }
        file.set_element("token_embd.weight", 7 * hidden, 0.0F);
        file.set_element("blk.0.attn_v.weight", 0, 3e38F);
        check(file, "keys or values of layer 1");
    }
}

#ifdef TESTS_LIMIT_MEMORY
TEST_CASE("a team of threads that cannot all start throws, and leaves none behind") {
    const auto start = [](std::size_t threads) {
        const MemoryLimit limit(std::size_t{32} << 20U);  // for the stacks of a few
        const ThreadPool pool(threads);
        return pool.threads();
    };
    CHECK_THROWS_AS(start(1000), std::system_error);
    ThreadPool sound(3);
    std::atomic<std::size_t> sum{0};
    sound.parallel_for(100, 1, [&](std::size_t begin, std::size_t end) { sum += end - begin; });
    CHECK(sum == 100);
}
#endif

}  // namespace test_model_file_hostile
