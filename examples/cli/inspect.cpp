#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <system_error>

#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "command.hpp"

namespace cli {

namespace {

struct Options {
    ModelOptions model;
    bool tensors = false, json = false;
};

struct Count {
    std::size_t tensors = 0;
    std::uint64_t bytes = 0;
};

/// What stands in the file and what follows from it.
struct Facts {
    std::map<std::string, Count> by_type;
    std::uint64_t file_bytes = 0, weight_bytes = 0;
    std::size_t scratch_bytes = 0, kv_bytes_per_token = 0, head_bytes = 0;
    double layer_bytes = 0;  ///< mean
    double ratio = 0;        ///< of head to layer
    double break_even = 0;   ///< layers
};

Facts find_facts(const adainfer::GgufFile& file, const adainfer::ModelWeights& weights, const std::string& path) {
    const adainfer::ModelConfig& config = weights.config;
    Facts facts;
    for (const adainfer::GgufTensor& tensor : file.tensors()) {
        Count& count = facts.by_type[std::string(tensor.type_name)];
        ++count.tensors;
        count.bytes += tensor.bytes;
        facts.weight_bytes += tensor.bytes;
    }
    std::error_code ignored;
    facts.file_bytes = std::filesystem::file_size(path, ignored);
    // Of a prompt run 256 tokens at a time: see Workspace.
    constexpr std::size_t tokens = 256;
    const std::size_t row =
        3 * config.hidden + 2 * config.q_size() + 2 * config.kv_size() + 2 * config.feed_forward + config.rope.dims;
    facts.scratch_bytes = (tokens * row + 3 * config.hidden + config.vocabulary) * sizeof(float);
    facts.kv_bytes_per_token = 2 * config.layers * config.kv_size() * sizeof(float);

    const auto layers = static_cast<double>(config.layers);
    for (std::size_t i = 0; i < config.layers; ++i) facts.layer_bytes += static_cast<double>(weights.layer_bytes(i)) / layers;
    facts.head_bytes = weights.head.weight.bytes();
    facts.ratio = static_cast<double>(facts.head_bytes) / facts.layer_bytes;
    facts.break_even = (layers + facts.ratio) / (1 + facts.ratio);
    return facts;
}

/// dims of a tensor as rows first, e.g. [49152, 576].
std::vector<std::uint64_t> shape(const adainfer::GgufTensor& tensor) { return {tensor.dims.rbegin(), tensor.dims.rend()}; }

Json to_json(const adainfer::GgufFile& file, const adainfer::ModelWeights& weights, const Facts& facts, const Options& options) {
    const adainfer::ModelConfig& config = weights.config;
    Json by_type = Json::object();
    for (const auto& [type, count] : facts.by_type) by_type[type] = {{"count", count.tensors}, {"bytes", count.bytes}};
    Json tokenizer = nullptr;
    if (file.has("tokenizer.ggml.model")) {
        const adainfer::TokenizerData data = adainfer::read_tokenizer_data(file);
        tokenizer = {{"model", data.model}, {"pre", data.pre}, {"tokens", data.tokens.size()}, {"merges", data.merges.size()},
                     {"chat_template", !data.chat_template.empty()}};
    }
    Json json{{"file", options.model.path},
              {"architecture", config.architecture},
              {"name", config.name},
              {"identity", weights.identity},
              {"layers", config.layers},
              {"hidden", config.hidden},
              {"heads", config.heads},
              {"kv_heads", config.kv_heads},
              {"head_dim", config.head_dim},
              {"feed_forward", config.feed_forward},
              {"vocabulary", config.vocabulary},
              {"context", config.context},
              {"tied", weights.tied()},
              {"tokenizer", std::move(tokenizer)},
              {"tensors", {{"count", file.tensors().size()}, {"bytes", facts.weight_bytes}, {"by_type", std::move(by_type)}}},
              {"memory",
               {{"file_bytes", facts.file_bytes},
                {"weight_bytes", facts.weight_bytes},
                {"resident_bytes", facts.weight_bytes + facts.scratch_bytes},
                {"kv_bytes_per_token", facts.kv_bytes_per_token},
                {"kv_bytes_at_context", facts.kv_bytes_per_token * config.context}}},
              {"head_bytes", facts.head_bytes},
              {"layer_bytes", facts.layer_bytes},
              {"head_layer_ratio", facts.ratio},
              {"break_even_layer", facts.break_even}};
    if (options.tensors) {
        Json list = Json::array();
        for (const adainfer::GgufTensor& tensor : file.tensors()) {
            list.push_back({{"name", tensor.name},
                            {"type", std::string(tensor.type_name)},
                            {"shape", shape(tensor)},
                            {"bytes", tensor.bytes}});
        }
        json["tensors"]["list"] = std::move(list);
    }
    return json;
}

void print_text(const Json& json, const Facts& facts) {
    const auto line = [](const std::string& name, const std::string& value) {
        std::cout << name << std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') << value << '\n';
    };
    const auto number = [&](const char* key) { return json[key].dump(); };
    const auto text = [](const Json& value) { return value.get<std::string>(); };
    const auto bytes = [](const Json& value) { return as_bytes(value.get<double>()); };
    const Json &tokenizer = json["tokenizer"], &tensors = json["tensors"], &memory = json["memory"];

    line("architecture", text(json["architecture"]) + " (" + text(json["name"]) + ")");
    line("identity", text(json["identity"]));
    line("layers", number("layers"));
    line("hidden", number("hidden") + ", feed-forward " + number("feed_forward"));
    line("heads", number("heads") + " query, " + number("kv_heads") + " key and value heads, " + number("head_dim") + " wide");
    const bool tied = json["tied"].get<bool>();
    line("vocabulary", number("vocabulary") + (tied ? ", the head is the token embedding" : ", the head has weights of its own"));
    line("context", number("context"));
    if (tokenizer.is_null()) {
        line("tokenizer", "none in the file");
    } else {
        line("tokenizer", text(tokenizer["model"]) + ", pre-tokenizer " + quote(text(tokenizer["pre"])) + ", " +
                              tokenizer["merges"].dump() + " merges, " +
                              (tokenizer["chat_template"].get<bool>() ? "with" : "without") + " a chat template");
    }
    std::string types;
    for (const auto& [type, count] : tensors["by_type"].items()) {
        types += (types.empty() ? "" : ", ") + count["count"].dump() + " " + type + " (" + bytes(count["bytes"]) + ")";
    }
    line("tensors", tensors["count"].dump() + ": " + types);
    line("memory", "file " + bytes(memory["file_bytes"]) + ", about " + bytes(memory["resident_bytes"]) + " loaded");
    line("KV cache", bytes(memory["kv_bytes_per_token"]) + " a token, " +
                         bytes(memory["kv_bytes_at_context"]) + " at full context");
    line("head/layer", fixed(facts.ratio, 2) + ": the head has " + as_bytes(static_cast<double>(facts.head_bytes)) +
                           " of weights, a layer " + as_bytes(facts.layer_bytes));
    line("break-even", "layer " + fixed(facts.break_even, 1));
    std::cout << "With the whole head read after every layer, generation beats the dense model only where it exits before\n"
              << "layer " << fixed(facts.break_even, 1) << " = (L + r) / (1 + r), with L = " << json["layers"]
              << " layers and r = " << fixed(facts.ratio, 2)
              << " = head/layer; checking fewer layers, or fewer tokens\n(head=candidates, head=shortlist), moves it up.\n";
    if (!tensors.contains("list")) return;
    for (const Json& tensor : tensors["list"]) {
        std::cout << text(tensor["name"]) << '\t' << text(tensor["type"]) << '\t' << tensor["shape"].dump() << '\t'
                  << tensor["bytes"] << '\n';
    }
}

void inspect(const Options& options, const Context& context) {
    const std::string& path = options.model.path;
    const adainfer::GgufFile file = reading(path, [&] { return adainfer::GgufFile::open(path); });
    const adainfer::ModelWeights weights = reading(path, [&] { return adainfer::load_weights(file, {{}, context.stop}); });
    const Facts facts = find_facts(file, weights, path);
    const Json json = to_json(file, weights, facts, options);
    if (options.json) {
        print(json);
    } else {
        print_text(json, facts);
    }
}

}  // namespace

void add_inspect(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("inspect", "What a model file holds, what memory it takes and where early exit can pay");
    auto options = std::make_shared<Options>();
    options->model.add_to(*command);
    command->add_flag("--tensors", options->tensors, "list every tensor: name, type, shape, bytes");
    command->add_flag("--json", options->json,
                      "print JSON: architecture, sizes, tokenizer, tensors, memory, head_layer_ratio, break_even_layer ...");
    command->callback([options, &context] { inspect(*options, context); });
}

}  // namespace cli
