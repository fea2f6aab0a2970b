#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "adainfer/early_exit/cost.hpp"
#include "adainfer/io/any_model.hpp"
#include "adainfer/io/model_inventory.hpp"
#include "adainfer/model/cost.hpp"
#include "command.hpp"
#include "cost_warning.hpp"

namespace cli {

namespace {

struct InspectOptions {
    ModelOptions model;
    std::string policy;
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
    std::size_t scratch_bytes = 0;
    std::map<adainfer::KvType, std::size_t> kv_bytes_per_token;  ///< without q8_0 where the heads are not of whole blocks
    adainfer::ModelCost cost;  ///< of one token
    double layer_bytes = 0;    ///< mean
};

Facts find_facts(const adainfer::ModelInventory& file, const adainfer::ModelWeights& weights) {
    const adainfer::ModelConfig& config = weights.config;
    Facts facts;
    for (const adainfer::StoredTensor& tensor : file.tensors) {
        Count& count = facts.by_type[tensor.type];
        ++count.tensors;
        count.bytes += tensor.bytes;
        facts.weight_bytes += tensor.bytes;
    }
    facts.file_bytes = file.file_bytes;
    // Of a prompt run 256 tokens at a time: see Workspace.
    constexpr std::size_t tokens = 256;
    const std::size_t row =
        3 * config.hidden + 2 * config.q_size() + 2 * config.kv_size() + 2 * config.feed_forward + config.rope.dims;
    facts.scratch_bytes = (tokens * row + 3 * config.hidden + config.vocabulary) * sizeof(float);
    for (const adainfer::KvType type : {adainfer::KvType::F32, adainfer::KvType::F16, adainfer::KvType::Q8_0}) {
        if (config.head_dim % adainfer::info(adainfer::dtype_of(type)).block_size != 0) continue;
        facts.kv_bytes_per_token[type] = 2 * config.layers * adainfer::row_bytes(type, config.kv_size());
    }

    facts.cost = adainfer::cost(weights);
    const auto all_layers = static_cast<double>(facts.cost.layers_between(0, config.layers).bytes);
    facts.layer_bytes = all_layers / static_cast<double>(config.layers);
    return facts;
}

Json to_json(const adainfer::Cost& cost) { return {{"bytes", cost.bytes}, {"multiply_adds", cost.multiply_adds}}; }

/// What a policy's checks cost and where its exits pay.
Json to_json(const std::string& name, const adainfer::PolicyCost& cost) {
    Json checks = Json::array();
    for (const adainfer::PolicyCost::Exit& exit : cost.exits) {
        checks.push_back({{"layer", exit.layer}, {"check", to_json(exit.check)}, {"exit", to_json(exit.total)}});
    }
    return {{"policy", name},
            {"dense", to_json(cost.dense)},
            {"full_depth", to_json(cost.full_depth)},
            {"checks", std::move(checks)},
            {"deepest_paying", cost.deepest_paying()},
            {"most_saved", cost.most_saved()},
            {"most_lost", cost.most_lost()},
            {"loses", cost.loses()}};
}

Json to_json(const adainfer::ModelInventory& file, const adainfer::ModelWeights& weights, const Facts& facts,
             const InspectOptions& options) {
    const adainfer::ModelConfig& config = weights.config;
    Json by_type = Json::object();
    for (const auto& [type, count] : facts.by_type) by_type[type] = {{"count", count.tensors}, {"bytes", count.bytes}};
    Json tokenizer = nullptr;
    if (file.tokenizer) {
        const adainfer::TokenizerData& data = *file.tokenizer;
        tokenizer = {{"model", data.model}, {"pre", data.pre}, {"tokens", data.tokens.size()}, {"merges", data.merges.size()},
                     {"chat_template", !data.chat_template.empty()}};
    }
    Json kv_bytes = Json::object();
    for (const auto& [type, bytes] : facts.kv_bytes_per_token) kv_bytes[std::string(to_string(type))] = bytes;
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
              {"tensors", {{"count", file.tensors.size()}, {"bytes", facts.weight_bytes}, {"by_type", std::move(by_type)}}},
              {"memory",
               {{"file_bytes", facts.file_bytes},
                {"weight_bytes", facts.weight_bytes},
                {"resident_bytes", facts.weight_bytes + facts.scratch_bytes},
                {"kv_bytes_per_token", facts.kv_bytes_per_token.at(adainfer::KvType::F32)},
                {"kv_bytes_at_context", facts.kv_bytes_per_token.at(adainfer::KvType::F32) * config.context},
                {"kv_bytes_per_token_of", std::move(kv_bytes)}}},
              {"head_bytes", facts.cost.head().bytes},
              {"layer_bytes", facts.layer_bytes},
              {"head_layer_ratio", facts.cost.head_to_layer()},
              {"break_even_layer", facts.cost.break_even()},
              {"token_cost",
               {{"dense", to_json(facts.cost.dense())},
                {"embedding", to_json(facts.cost.embedding)},
                {"layers", to_json(facts.cost.layers_between(0, config.layers))},
                {"kv", to_json(facts.cost.kv_after(0))},
                {"head", to_json(facts.cost.head())}}}};
    if (options.tensors) {
        Json list = Json::array();
        for (const adainfer::StoredTensor& tensor : file.tensors) {
            list.push_back({{"name", tensor.name},
                            {"type", tensor.type},
                            {"shape", tensor.shape},
                            {"bytes", tensor.bytes}});
        }
        json["tensors"]["list"] = std::move(list);
    }
    return json;
}

void print_policy(const Json& cost) {
    const auto bytes = [](const Json& part) { return as_bytes(part["bytes"].get<double>()); };
    const std::string dense = bytes(cost["dense"]);
    std::cout << "policy " << cost["policy"].get<std::string>() << ", a token: the dense model reads " << dense
              << ", without an exit it reads " << bytes(cost["full_depth"]) << '\n';
    for (const Json& exit : cost["checks"]) {
        const bool pays = exit["exit"]["bytes"] < cost["dense"]["bytes"];
        std::cout << "  after layer " << exit["layer"] << ": a check reads " << bytes(exit["check"]) << ", an exit "
                  << bytes(exit["exit"]) << " in all" << (pays ? "" : ": does not pay") << '\n';
    }
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
    std::string kv;
    for (const auto& [type, size] : memory["kv_bytes_per_token_of"].items()) {
        if (type != "f32") kv += ", " + bytes(size) + " as " + type;
    }
    line("KV cache", bytes(memory["kv_bytes_per_token"]) + " a token" + kv + "; " + bytes(memory["kv_bytes_at_context"]) +
                         " at full context");
    const adainfer::ModelCost& cost = facts.cost;
    const auto of = [](const adainfer::Cost& part) {
        return as_bytes(static_cast<double>(part.bytes)) + " read, " + fixed(static_cast<double>(part.multiply_adds) / 1e6, 1) +
               " million multiplications";
    };
    line("a token", of(cost.dense()));
    line("  layers", of(cost.layers_between(0, cost.layers.size())) + "; their K and V alone " + of(cost.kv_after(0)));
    line("  head", of(cost.head()));
    line("head/layer", fixed(cost.head_to_layer(), 2) + ": the head has " + as_bytes(static_cast<double>(cost.head().bytes)) +
                           " of weights, a layer " + as_bytes(facts.layer_bytes));
    line("break-even", "layer " + fixed(cost.break_even(), 1));
    std::cout << "With the whole head read after every layer, generation beats the dense model only where it exits before\n"
              << "layer " << fixed(cost.break_even(), 1) << " = (L + r) / (1 + r), with L = " << json["layers"]
              << " layers and r = " << fixed(cost.head_to_layer(), 2)
              << " = head/layer; checking fewer layers, or fewer tokens\n(head=candidates, head=shortlist), moves it up.\n";
    if (json.contains("policy_cost")) print_policy(json["policy_cost"]);
    if (!tensors.contains("list")) return;
    for (const Json& tensor : tensors["list"]) {
        std::cout << text(tensor["name"]) << '\t' << text(tensor["type"]) << '\t' << tensor["shape"].dump() << '\t'
                  << tensor["bytes"] << '\n';
    }
}

void inspect(const InspectOptions& options, const Context& context) {
    const std::string& path = options.model.path;
    const adainfer::ModelInventory file = reading(path, [&] { return adainfer::read_inventory(path); });
    const adainfer::ModelWeights weights = reading(path, [&] { return adainfer::load_any_weights(path, {{}, context.stop, options.model.access()}); });
    const Facts facts = find_facts(file, weights);
    Json json = to_json(file, weights, facts, options);
    if (!options.policy.empty()) {
        const adainfer::PolicyCost cost = adainfer::cost(weights, make_policy(options.policy, weights));
        json["policy_cost"] = to_json(options.policy, cost);
        warn_of_cost(options.policy, cost);
    }
    if (options.json) {
        print(json);
    } else {
        print_text(json, facts);
    }
}

}  // namespace

void add_inspect(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("inspect", "What a model file holds, what memory it takes and where early exit can pay");
    auto options = std::make_shared<InspectOptions>();
    options->model.add_to(*command);
    command->add_option("--policy", options->policy,
                        "and what its checks cost a generated token: " + std::string(adainfer::policy_spec_forms))
        ->type_name("SPEC");
    command->add_flag("--tensors", options->tensors, "list every tensor: name, type, shape, bytes");
    command->add_flag("--json", options->json,
                      "print JSON: architecture, sizes, tokenizer, tensors, memory, head_layer_ratio, break_even_layer, "
                      "token_cost, policy_cost ...");
    command->callback([options, &context] { inspect(*options, context); });
}

}  // namespace cli
