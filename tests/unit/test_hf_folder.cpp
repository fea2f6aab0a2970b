#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/any_model.hpp"
#include "adainfer/io/hf_folder.hpp"
#include "adainfer/io/hf_shards.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/io/safetensors.hpp"
#include "adainfer/tensor/half.hpp"
#include "errors.hpp"
#include "temporary_files.hpp"

// Folders made here, good ones and hostile ones; whole models are in golden/test_hf_folders.cpp.

namespace test_hf_folder {

using namespace adainfer;

namespace {

struct Tensor {
    std::vector<std::uint64_t> shape;
    std::vector<float> values{};  ///< empty: a ramp of its own
    std::string dtype = "F32";
};
using Tensors = std::map<std::string, Tensor>;

/// A folder with a config.json and tensors, which tests change before it is written.
class Folder {
  public:
    std::string config;
    Tensors tensors;

    [[nodiscard]] std::filesystem::path path() const { return files_->directory(); }
    void write_text(std::string_view name, std::string_view text) const {
        files_->write(name, std::as_bytes(std::span(text.data(), text.size())));
    }
    void write_shard(const std::string& name, const Tensors& part) const {
        std::vector<std::vector<std::byte>> bytes;
        std::vector<SafetensorsTensor> list;
        float next = 0.25F;
        for (const auto& [tensor_name, tensor] : part) {
            std::size_t count = 1;
            for (const std::uint64_t size : tensor.shape) count *= static_cast<std::size_t>(size);
            std::vector<float> values = tensor.values;
            while (values.size() < count) values.push_back(next = std::fmod(next + 0.375F, 2.0F) - 0.5F);
            const std::size_t width = detail::safetensors::dtype_bits(tensor.dtype) / 8;
            bytes.emplace_back(count * width);
            for (std::size_t i = 0; i < count; ++i) {
                if (tensor.dtype == "F32") {
                    std::memcpy(&bytes.back()[4 * i], &values[i], 4);
                } else if (tensor.dtype == "BF16") {
                    std::memcpy(&bytes.back()[2 * i], reinterpret_cast<const char*>(&values[i]) + 2, 2);
                }
            }
            list.push_back({tensor_name, detail::safetensors::find_dtype(tensor.dtype)->name, tensor.shape, bytes.back()});
        }
        write_safetensors(path() / name, list);
    }
    void write() const {
        write_text("config.json", config);
        write_shard("model.safetensors", tensors);
    }

  private:
    std::unique_ptr<const TemporaryFiles> files_ = std::make_unique<const TemporaryFiles>();
};

constexpr std::string_view sizes = R"("hidden_size":4,"num_attention_heads":2,"num_hidden_layers":1,"vocab_size":5,)";

Folder llama() {
    Folder folder;
    folder.config = "{\"model_type\":\"llama\"," + std::string(sizes) + R"("intermediate_size":6,"num_key_value_heads":1})";
    const std::string layer = "model.layers.0.";
    folder.tensors = {{"model.embed_tokens.weight", {{5, 4}}},
                      {"model.norm.weight", {{4}}},
                      {"lm_head.weight", {{5, 4}}},
                      {layer + "input_layernorm.weight", {{4}}},
                      {layer + "post_attention_layernorm.weight", {{4}}},
                      {layer + "self_attn.q_proj.weight", {{4, 4}}},
                      {layer + "self_attn.k_proj.weight", {{2, 4}}},
                      {layer + "self_attn.v_proj.weight", {{2, 4}}},
                      {layer + "self_attn.o_proj.weight", {{4, 4}}},
                      {layer + "mlp.gate_proj.weight", {{6, 4}}},
                      {layer + "mlp.up_proj.weight", {{6, 4}}},
                      {layer + "mlp.down_proj.weight", {{4, 6}}}};
    return folder;
}

/// As OpenAI's checkpoint: the names lack "transformer.".
Folder gpt2() {
    Folder folder;
    folder.config = R"({"model_type":"gpt2","n_embd":4,"n_head":2,"n_layer":1,"n_positions":8,"vocab_size":5})";
    folder.tensors = {{"wte.weight", {{5, 4}}},
                      {"wpe.weight", {{8, 4}}},
                      {"h.0.attn.bias", {{1, 1, 8, 8}, {}, "BOOL"}},
                      {"h.0.attn.masked_bias", {{}}}};
    for (const std::string norm : {"ln_f", "h.0.ln_1", "h.0.ln_2"}) {
        folder.tensors[norm + ".weight"] = {{4}};
        folder.tensors[norm + ".bias"] = {{4}};
    }
    const auto linear = [&](const std::string& name, std::uint64_t in, std::uint64_t out) {
        folder.tensors["h.0." + name + ".weight"] = {{in, out}};
        folder.tensors["h.0." + name + ".bias"] = {{out}};
    };
    linear("attn.c_attn", 4, 12);
    linear("attn.c_proj", 4, 4);
    linear("mlp.c_fc", 4, 16);
    linear("mlp.c_proj", 16, 4);
    return folder;
}

std::vector<float> values(const WeightView& weight) {
    std::vector<float> result(weight.rows * weight.cols);
    for (std::size_t i = 0; i < weight.rows; ++i)
        dequantize_row(weight.dtype, weight.row(i), weight.cols, &result[i * weight.cols]);
    return result;
}

std::string refused(const Folder& folder, ErrorCode code) {
    return error_of(code, [&] { static_cast<void>(load_hf_weights(folder.path())); });
}

/// A llama after a change to its tensors or configuration.
std::string changed(ErrorCode code, const std::function<void(Folder&)>& change) {
    Folder folder = llama();
    change(folder);
    folder.write();
    return refused(folder, code);
}

constexpr std::string_view q = "model.layers.0.self_attn.q_proj.weight";

}  // namespace

TEST_CASE("Hugging Face folder: weights are views of the file, in its own type") {
    Folder folder = llama();
    folder.tensors[std::string(q)].dtype = "BF16";
    folder.tensors[std::string(q)].values = std::vector<float>(16, 1.5F);
    folder.tensors["model.norm.weight"].values = {1, 2, 3, 4};
    folder.write();
    const ModelWeights model = load_hf_weights(folder.path());
    CHECK(model.config.name == folder.path().filename().string());
    CHECK(model.layers[0].q.weight.dtype == DType::BF16);
    CHECK(values(model.layers[0].q.weight) == std::vector<float>(16, 1.5F));
    CHECK(model.token_embedding.dtype == DType::F32);
    CHECK(model.final_norm.gain == std::vector<float>{1, 2, 3, 4});
    CHECK(model.final_norm.bias.empty());
    CHECK_FALSE(model.tied());
    CHECK(model.identity.starts_with("llama-1x4-"));
    CHECK(load_hf_weights(folder.path() / "").identity == model.identity);
    CHECK(load_hf_config(folder.path() / "").model.name == model.config.name);
}

TEST_CASE("Hugging Face folder: shards give the same model, with the same identity") {
    const Folder whole = llama();
    whole.write();
    Folder parts = llama();
    Tensors first, second;
    std::string map;
    // As the file of the whole, the shards number their ramps by name; so the values are given.
    const HfShards all = HfShards::open(whole.path());
    for (auto& [name, tensor] : parts.tensors) {
        tensor.values = all.files()[0].to_f32(all.files()[0].get(name));
        const bool one = name < "model.layers.0.mlp";
        (one ? first : second)[name] = tensor;
        map += (map.empty() ? "\"" : ",\"") + name + "\":\"model-0000" + (one ? "1" : "2") + "-of-00002.safetensors\"";
    }
    parts.write_text("config.json", parts.config);
    parts.write_text("model.safetensors.index.json", R"({"metadata":{"total_size":1},"weight_map":{)" + map + "}}");
    parts.write_shard("model-00001-of-00002.safetensors", first);
    parts.write_shard("model-00002-of-00002.safetensors", second);
    const ModelWeights a = load_hf_weights(whole.path()), b = load_hf_weights(parts.path());
    CHECK(a.identity == b.identity);
    CHECK(values(a.layers[0].down.weight) == values(b.layers[0].down.weight));
    CHECK(values(a.head.weight) == values(b.head.weight));

    // The entries of the folder may be links, as in the cache of huggingface_hub.
    std::filesystem::rename(parts.path() / "model-00001-of-00002.safetensors", parts.path() / "blob");
    std::filesystem::create_symlink("blob", parts.path() / "model-00001-of-00002.safetensors");
    CHECK(load_hf_weights(parts.path()).identity == a.identity);
}

TEST_CASE("Hugging Face folder: a head and an embedding that are tied") {
    const auto tied = [](const std::function<void(Folder&)>& change) {
        Folder folder = llama();
        folder.config = replaced(folder.config, "{", R"({"tie_word_embeddings":true,)");
        change(folder);
        folder.write();
        return load_hf_weights(folder.path());
    };
    const std::vector<float> same(20, 0.5F);
    CHECK(tied([](Folder& f) { f.tensors.erase("lm_head.weight"); }).tied());
    // transformers ties the other way round where only the head is there, and not at all where they differ.
    const ModelWeights head_only = tied([&](Folder& f) {
        f.tensors.erase("model.embed_tokens.weight");
        f.tensors["lm_head.weight"].values = same;
    });
    CHECK(head_only.tied());
    CHECK(values(head_only.token_embedding) == same);
    CHECK_FALSE(tied([](Folder&) {}).tied());
    CHECK(tied([&](Folder& f) {
              f.tensors["lm_head.weight"].values = f.tensors["model.embed_tokens.weight"].values = same;
          }).tied());
    CHECK(contains(changed(ErrorCode::CorruptFile, [](Folder& f) { f.tensors.erase("lm_head.weight"); }),
                   "'lm_head.weight' is missing, and config.json does not tie it"));
}

TEST_CASE("Hugging Face folder: GPT-2's projections are transposed, its masks and missing prefix no matter") {
    Folder folder = gpt2();
    std::vector<float> stored;
    for (int i = 0; i < 48; ++i) stored.push_back(static_cast<float>(i));  // [in 4, out 12]: element (i, o) is 12 i + o
    folder.tensors["h.0.attn.c_attn.weight"].values = stored;
    folder.tensors["h.0.attn.c_attn.bias"].values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    folder.write();
    const ModelWeights model = load_hf_weights(folder.path());
    CHECK(values(model.layers[0].q.weight) == std::vector<float>{0, 12, 24, 36, 1, 13, 25, 37, 2, 14, 26, 38, 3, 15, 27, 39});
    CHECK(values(model.layers[0].v.weight) == std::vector<float>{8, 20, 32, 44, 9, 21, 33, 45, 10, 22, 34, 46, 11, 23, 35, 47});
    CHECK(model.layers[0].k.bias == std::vector<float>{4, 5, 6, 7});
    CHECK(model.tied());
    CHECK(model.position_embedding.rows == 8);
}

TEST_CASE("Hugging Face folder: GPT-NeoX's heads are put in order") {
    // Rows of query_key_value [heads 2, (q, k, v), width 1]: q0 k0 v0 q1 k1 v1, after names with lm_head as transformers 5 has
    // it.
    Folder folder;
    folder.config = R"({"model_type":"gpt_neox","hidden_size":2,"num_attention_heads":2,"num_hidden_layers":1,"vocab_size":3,)"
                    R"("intermediate_size":2,"rotary_pct":0})";
    const std::string layer = "gpt_neox.layers.0.";
    folder.tensors = {{"gpt_neox.embed_in.weight", {{3, 2}}},
                      {"lm_head.weight", {{3, 2}}},
                      {layer + "attention.bias", {{1, 1, 2, 2}, {}, "BOOL"}},
                      {layer + "attention.masked_bias", {{}}},
                      {layer + "attention.rotary_emb.inv_freq", {{1}}},
                      {layer + "attention.query_key_value.weight", {{6, 2}, {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5}}},
                      {layer + "attention.query_key_value.bias", {{6}, {0, 1, 2, 3, 4, 5}}}};
    for (const std::string name : {"attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"}) {
        folder.tensors[layer + name + ".weight"] = {{2, 2}};
        folder.tensors[layer + name + ".bias"] = {{2}};
    }
    for (const std::string& name :
         {layer + "input_layernorm", layer + "post_attention_layernorm", std::string("gpt_neox.final_layer_norm")}) {
        folder.tensors[name + ".weight"] = {{2}};
        folder.tensors[name + ".bias"] = {{2}};
    }
    folder.write();
    const ModelWeights model = load_hf_weights(folder.path());
    CHECK(values(model.layers[0].q.weight) == std::vector<float>{0, 0, 3, 3});
    CHECK(values(model.layers[0].k.weight) == std::vector<float>{1, 1, 4, 4});
    CHECK(values(model.layers[0].v.weight) == std::vector<float>{2, 2, 5, 5});
    CHECK(model.layers[0].k.bias == std::vector<float>{1, 4});
    CHECK_FALSE(model.tied());
}

TEST_CASE("Hugging Face folder: Gemma 3 beside a vision tower, its gains plus one") {
    for (const bool old_names : {true, false}) {
        const std::string prefix = old_names ? "language_model.model." : "model.language_model.";
        const std::string head = old_names ? "language_model.lm_head" : "lm_head";
        CAPTURE(prefix);
        Folder folder;
        folder.config = "{\"model_type\":\"gemma3\",\"vision_config\":{},\"text_config\":{" + std::string(sizes) +
                        R"("intermediate_size":6,"num_key_value_heads":1,"head_dim":2}})";
        const std::string layer = prefix + "layers.0.";
        folder.tensors = {{prefix + "embed_tokens.weight", {{5, 4}}},
                          {head + ".weight", {{5, 4}}},
                          {prefix + "norm.weight", {{4}, {0, 0.5F, -1, 2}}},
                          {layer + "self_attn.q_proj.weight", {{4, 4}}},
                          {layer + "self_attn.k_proj.weight", {{2, 4}}},
                          {layer + "self_attn.v_proj.weight", {{2, 4}}},
                          {layer + "self_attn.o_proj.weight", {{4, 4}}},
                          {layer + "self_attn.q_norm.weight", {{2}, {3, 4}}},
                          {layer + "self_attn.k_norm.weight", {{2}}},
                          {layer + "mlp.gate_proj.weight", {{6, 4}}},
                          {layer + "mlp.up_proj.weight", {{6, 4}}},
                          {layer + "mlp.down_proj.weight", {{4, 6}}},
                          {"vision_tower.x.weight", {{2, 2, 2}}},
                          {"multi_modal_projector.y", {{2}}}};
        for (const std::string norm : {"input", "post_attention", "pre_feedforward", "post_feedforward"}) {
            folder.tensors[layer + norm + "_layernorm.weight"] = {{4}};
        }
        folder.write();
        const ModelWeights model = load_hf_weights(folder.path());
        CHECK(model.final_norm.gain == std::vector<float>{1, 1.5F, 0, 3});
        CHECK(model.layers[0].q_norm.gain == std::vector<float>{4, 5});
        CHECK(model.config.embedding_scale == 2);
    }
}

TEST_CASE("Hugging Face folder: tensors that do not fit") {
    const std::string name(q);
    CHECK(
        contains(changed(ErrorCode::CorruptFile, [&](Folder& f) { f.tensors.erase(name); }), "tensor '" + name + "' is missing"));
    CHECK(contains(changed(ErrorCode::CorruptFile, [](Folder& f) { f.tensors.erase("model.norm.weight"); }),
                   "tensor 'model.norm.weight' is missing"));
    CHECK(contains(changed(ErrorCode::CorruptFile, [](Folder& f) { f.tensors.clear(); }), "is missing"));
    CHECK(contains(changed(ErrorCode::ShapeMismatch, [&](Folder& f) { f.tensors[name].shape = {4, 5}; }),
                   "is [4, 5], expected [4, 4]"));
    CHECK(contains(changed(ErrorCode::ShapeMismatch, [&](Folder& f) { f.tensors[name].shape = {16}; }),
                   "is [16], expected [4, 4]"));
    CHECK(contains(changed(ErrorCode::ShapeMismatch, [&](Folder& f) { f.tensors[name].shape = {1, 4, 4}; }), "is [1, 4, 4]"));
    CHECK(contains(changed(ErrorCode::ShapeMismatch, [](Folder& f) { f.tensors["model.norm.weight"].shape = {1, 4}; }),
                   "is [1, 4], expected [4]"));
    CHECK(contains(changed(ErrorCode::ShapeMismatch, [](Folder& f) { f.tensors["model.embed_tokens.weight"].shape = {6, 4}; }),
                   "is [6, 4], expected [5, 4]"));
    CHECK(contains(changed(ErrorCode::ShapeMismatch,
                           [](Folder& f) { f.config = replaced(f.config, "\"hidden_size\":4", "\"hidden_size\":8"); }),
                   "expected [5, 8]"));
    // A size that nobody could allocate is compared, not asked for.
    CHECK(contains(
        changed(ErrorCode::ShapeMismatch,
                [](Folder& f) { f.config = replaced(f.config, "\"hidden_size\":4", "\"hidden_size\":16777216,\"head_dim\":2"); }),
        "expected [5, 16777216]"));
    for (const std::string dtype : {"I8", "U8", "F8_E4M3", "F64", "I32", "BOOL"}) {
        CHECK(contains(changed(ErrorCode::Unsupported, [&](Folder& f) { f.tensors[name].dtype = dtype; }),
                       "is of type " + dtype + "; supported: F32, F16, BF16"));
    }
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        CHECK(contains(changed(ErrorCode::NotFinite, [&](Folder& f) { f.tensors["model.norm.weight"].values = {1, bad, 1, 1}; }),
                       "'model.norm.weight' holds NaN or infinity"));
    }
    CHECK(contains(changed(ErrorCode::Unsupported, [](Folder& f) { f.tensors["model.layers.1.mlp.up_proj.weight"] = {{6, 4}}; }),
                   "'model.layers.1.mlp.up_proj.weight' is not part of a llama model of 1 layers"));
    CHECK(contains(changed(ErrorCode::Unsupported, [](Folder& f) { f.tensors["score.weight"] = {{2, 4}}; }),
                   "'score.weight' is not part"));
    CHECK(contains(changed(ErrorCode::CorruptFile,
                           [](Folder& f) { f.config = replaced(f.config, "num_hidden_layers\":1", "num_hidden_layers\":2"); }),
                   "'model.layers.1.input_layernorm.weight' is missing"));
    CHECK(changed(ErrorCode::Unsupported, [](Folder& f) { f.tensors["x\n'\x7F"] = {{1}}; }).find('\n') == std::string::npos);
}

TEST_CASE("Hugging Face folder: biases are there exactly where config.json says") {
    const std::string bias = "model.layers.0.self_attn.q_proj.bias";
    CHECK(contains(changed(ErrorCode::Unsupported, [&](Folder& f) { f.tensors[bias] = {{4}}; }),
                   "attention of layer 0 has a bias, which config.json rules out"));
    CHECK(contains(
        changed(ErrorCode::CorruptFile, [](Folder& f) { f.config = replaced(f.config, "{", R"({"attention_bias":true,)"); }),
        "attention of layer 0 has no bias, which config.json asks for"));
    CHECK(contains(changed(ErrorCode::CorruptFile, [](Folder& f) { f.config = replaced(f.config, "{", R"({"mlp_bias":true,)"); }),
                   "the feed-forward network of layer 0 has no bias"));
    for (const std::string missing :
         {"h.0.attn.c_attn.bias", "h.0.attn.c_proj.bias", "h.0.mlp.c_proj.bias", "h.0.ln_1.bias", "ln_f.bias"}) {
        CAPTURE(missing);
        Folder folder = gpt2();
        folder.tensors.erase(missing);
        folder.write();
        CHECK(contains(refused(folder, ErrorCode::CorruptFile), "no bias"));
    }
}

TEST_CASE("Hugging Face folder: one part under two names") {
    Folder folder = gpt2();
    folder.tensors["transformer.wte.weight"] = {{5, 4}};
    folder.write();  // a prefix here means that names without it are other tensors
    CHECK(contains(refused(folder, ErrorCode::CorruptFile), "is missing"));
    Folder gemma;
    gemma.config = R"({"model_type":"gemma3","text_config":{}})";
    gemma.tensors = {{"language_model.model.norm.weight", {{1}}}, {"model.language_model.norm.weight", {{1}}}};
    gemma.write();
    CHECK(contains(refused(gemma, ErrorCode::CorruptFile), "are the same part of the model"));
}

TEST_CASE("Hugging Face folder: files that are missing or broken") {
    Folder folder = llama();
    CHECK(contains(refused(folder, ErrorCode::Io), "config.json': No such file"));
    folder.write_text("config.json", folder.config);
    CHECK(contains(refused(folder, ErrorCode::Io), "neither model.safetensors nor model.safetensors.index.json"));
    folder.write_text("pytorch_model.bin", "x");
    CHECK(contains(refused(folder, ErrorCode::Io), "pytorch_model.bin is not read"));
    folder.write_text("model.safetensors", "");
    CHECK(contains(refused(folder, ErrorCode::CorruptFile), "model.safetensors': cut short"));
    folder.write_text("config.json", "{");
    CHECK(contains(refused(folder, ErrorCode::CorruptFile), "config.json': not valid JSON"));
    std::filesystem::remove(folder.path() / "config.json");
    std::filesystem::create_directory(folder.path() / "config.json");
    CHECK(contains(refused(folder, ErrorCode::Io), "not a regular file"));

    const Folder whole = llama();
    whole.write();
    std::string bytes;
    {
        const FileBytes file = FileBytes::open(whole.path() / "model.safetensors");
        bytes.assign(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    }
    for (std::size_t size = 0; size < bytes.size(); size += 37) {
        CAPTURE(size);
        whole.write_text("model.safetensors", std::string_view(bytes).substr(0, size));
        refused(whole, ErrorCode::CorruptFile);
    }
}

TEST_CASE("Hugging Face folder: an index that lies") {
    const auto with_index = [](std::string_view index, const Tensors& a, const Tensors& b,
                               ErrorCode code = ErrorCode::CorruptFile) {
        Folder folder = llama();
        folder.write_text("config.json", folder.config);
        folder.write_text("model.safetensors.index.json", index);
        folder.write_shard("a.safetensors", a);
        folder.write_shard("b.safetensors", b);
        return refused(folder, code);
    };
    const Tensors x{{"x", {{1}}}}, y{{"y", {{1}}}}, both{{"x", {{1}}}, {"y", {{1}}}};
    CHECK(contains(with_index(R"({"weight_map":{"x":"a.safetensors","y":"a.safetensors"}})", x, y),
                   "tensor 'y' is not in 'a.safetensors'"));
    CHECK(
        contains(with_index(R"({"weight_map":{"x":"a.safetensors"}})", both, y), "does not list tensor 'y' of 'a.safetensors'"));
    CHECK(contains(with_index(R"({"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})", both, y),
                   "puts tensor 'y' into 'b.safetensors', but it is in 'a.safetensors' too"));
    CHECK(contains(with_index(R"({"weight_map":{"x":"c.safetensors"}})", x, y, ErrorCode::Io), "c.safetensors': No such file"));
    CHECK(contains(with_index(R"({"weight_map":{"x":"a.safetensors","x":"b.safetensors"}})", x, y), "'x' stands twice"));
    CHECK(contains(with_index(R"({"weight_map":{"x":3}})", x, y), "must be a string"));
    CHECK(contains(with_index(R"({"weight_map":[]})", x, y), "must be an object"));
    CHECK(contains(with_index(R"({"weight_map":{}})", x, y), "is missing"));
    CHECK(contains(with_index("{}", x, y), "'weight_map' is missing"));
    CHECK(contains(with_index("", x, y), "not valid JSON"));
    CHECK(contains(with_index(R"({"weight_map":{"x":"config.json"}})", x, y), "config.json"));  // a file, but no safetensors
    for (const std::string_view name : {"../a.safetensors", "/etc/passwd", "..", ".", "", "sub/a.safetensors", "a\\\\b", "c:a",
                                        "a.safetensors\\u0000", "\\u00e9", "a b", "sub/../a.safetensors"}) {
        CAPTURE(name);
        CHECK(contains(with_index("{\"weight_map\":{\"x\":\"" + std::string(name) + "\"}}", x, y),
                       "which is not the name of a file in the folder"));
    }
    CHECK(contains(with_index("{\"weight_map\":{\"x\":\"" + std::string(300, 'a') + "\"}}", x, y), "is not the name of a file"));
}

TEST_CASE("Hugging Face folder: loading is cancelled and reports progress") {
    const Folder folder = llama();
    folder.write();
    std::stop_source source;
    source.request_stop();
    CHECK(contains(
        error_of(ErrorCode::Cancelled, [&] { static_cast<void>(load_hf_weights(folder.path(), {{}, source.get_token()})); }),
        "was cancelled"));
    std::vector<std::size_t> done;
    static_cast<void>(load_hf_weights(folder.path(), {[&](const ProgressEvent& event) { done.push_back(event.done); }, {}}));
    CHECK(done == std::vector<std::size_t>{1});
}

TEST_CASE("a model is told by what it is, not by its name") {
    const Folder folder = llama();
    folder.write();
    CHECK(model_format(folder.path()) == ModelFormat::HuggingFaceFolder);
    folder.write_text("model.txt", "GGUF....");
    CHECK(model_format(folder.path() / "model.txt") == ModelFormat::Gguf);
    const auto message = [&](std::string_view name, ErrorCode code = ErrorCode::Unsupported) {
        return error_of(code, [&] { static_cast<void>(load_any_model(folder.path() / name)); });
    };
    CHECK(contains(message("model.safetensors"), "is a safetensors file"));
    CHECK(contains(message("model.safetensors"), "name the folder"));
    std::filesystem::copy(folder.path() / "model.safetensors", folder.path() / "model.gguf");
    CHECK(contains(message("model.gguf"), "is a safetensors file"));
    CHECK(contains(message("config.json"), "name the folder that it is in"));
    folder.write_text("text.gguf", "not a model at all");
    CHECK(contains(message("text.gguf", ErrorCode::CorruptFile), "neither a GGUF file"));
    CHECK(contains(error_of(ErrorCode::Unsupported, [&] { static_cast<void>(load_model(folder.path())); }), "load_any_model()"));
    CHECK(contains(message("absent", ErrorCode::Io), "No such file"));
    CHECK(contains(error_of(ErrorCode::Io, [&] { static_cast<void>(load_any_model(folder.path())); }), "tokenizer.json"));
}

TEST_CASE("a folder's embedding may be padded, its tokenizer not") {
    const auto tokenizer = [](int tokens) {
        std::string vocabulary = R"("ab":0)";
        for (int i = 1; i < tokens; ++i) {
            vocabulary += ",\"" + std::string(1, static_cast<char>('`' + i)) + "\":" + std::to_string(i);
        }
        const std::string spaces = R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":false})";
        return R"({"version":"1.0","added_tokens":[],"normalizer":null,"post_processor":null,"pre_tokenizer":)" + spaces +
               R"(,"decoder":)" + spaces +
               R"(,"model":{"type":"BPE","unk_token":"a","fuse_unk":false,"byte_fallback":false,"vocab":{)" + vocabulary +
               R"(},"merges":[["a","b"]]}})";
    };
    const Folder folder = llama();
    folder.write();
    folder.write_text("tokenizer.json", tokenizer(3));
    const ModelFile file = load_any_model(folder.path());
    CHECK(file.tokenizer.vocab_size() == 3);
    CHECK(file.weights.config.vocabulary == 5);
    folder.write_text("tokenizer.json", tokenizer(6));
    CHECK(contains(error_of(ErrorCode::CorruptFile, [&] { static_cast<void>(load_any_model(folder.path())); }),
                   "the tokenizer has 6 tokens, the embedding 5"));
}

}  // namespace test_hf_folder
