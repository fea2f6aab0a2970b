#include <algorithm>
#include <cstddef>
#include <iostream>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "adainfer/eval/task.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "adainfer/train/block_influence.hpp"
#include "command.hpp"
#include "progress_bar.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

constexpr std::size_t influence_chunk = 512;  // tokens of a text that are read together

struct InfluenceOptions {
    ModelOptions model;
    std::string file;
    std::vector<std::string> tasks;
    std::size_t tokens = 20'000, prompts = 16, skip = 0;
    bool json = false;
};

using Sequences = std::vector<std::vector<adainfer::TokenId>>;

Sequences read_file(const adainfer::Tokenizer& tokenizer, const InfluenceOptions& options) {
    std::vector<adainfer::TokenId> text = tokenizer.encode(read_text(options.file), {.parse_special = false});
    if (text.size() > options.tokens) text.resize(options.tokens);
    Sequences sequences;
    for (std::size_t at = 0; at < text.size(); at += influence_chunk) {
        const auto part = std::span(text).subspan(at, (std::min)(influence_chunk, text.size() - at));
        sequences.emplace_back(part.begin(), part.end());
    }
    return sequences;
}

/// Few-shot prompts that ask for train examples: nothing of the test examples is seen.
void add_task(Sequences& sequences, const adainfer::Tokenizer& tokenizer, const adainfer::Task& task, std::size_t most) {
    std::vector<adainfer::Example> examples = adainfer::train_half(task, adainfer::TrainHalf::Policy);
    if (examples.size() > most) examples.resize(most);
    const adainfer::TaskPrompts prompts = adainfer::make_prompts(tokenizer, task, adainfer::default_shots(task), examples);
    for (const auto& prompt : prompts.prompts) {
        std::vector<adainfer::TokenId> whole = prompts.prefix;
        whole.insert(whole.end(), prompt.begin(), prompt.end());
        sequences.push_back(std::move(whole));
    }
}

void print_text(const std::vector<double>& influence, const std::vector<std::size_t>& order, std::size_t skip) {
    std::vector<std::size_t> rank(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) rank[order[i] - 1] = i + 1;
    std::cout << "layer  influence  rank (1: the least)\n";
    for (std::size_t layer = 1; layer <= influence.size(); ++layer) {
        const std::string name = std::to_string(layer), place = std::to_string(rank[layer - 1]);
        std::cout << std::string(5 - (std::min)(name.size(), std::size_t{5}), ' ') << name << "     "
                  << fixed(influence[layer - 1], 4) << "  " << std::string(4 - (std::min)(place.size(), std::size_t{4}), ' ')
                  << place << '\n';
    }
    if (skip == 0) return;
    std::string spec;
    for (const std::size_t layer : adainfer::least_influential(influence, skip))
        spec += (spec.empty() ? "skip:" : "+") + std::to_string(layer);
    std::cout << "without the least influential: --policy " << spec << '\n';
}

void influence(const InfluenceOptions& options, const Context& context) {
    if (options.file.empty() && options.tasks.empty()) throw UsageError("influence needs text: --file F or --task F");
    with_model(options.model, context, [&](const DenseModel& model, const adainfer::Tokenizer& tokenizer) {
        const std::size_t layers = model.config().layers;
        if (options.skip >= layers) throw UsageError("--skip: the model has " + std::to_string(layers) + " layers");
        Sequences sequences;
        if (!options.file.empty()) sequences = read_file(tokenizer, options);
        for (const std::string& path : options.tasks) add_task(sequences, tokenizer, adainfer::load_task(path), options.prompts);
        ProgressBar bar;
        const std::vector<double> values = adainfer::block_influence(
            model, std::span<const std::vector<adainfer::TokenId>>(sequences), {context.stop, bar.callback()});
        bar.clear();
        std::vector<std::size_t> order(layers);
        std::iota(order.begin(), order.end(), std::size_t{1});
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a - 1] < values[b - 1]; });
        if (!options.json) return print_text(values, order, options.skip);
        Json json{{"layers", layers}, {"sequences", sequences.size()}, {"influence", values}, {"order", order}};
        if (options.skip > 0) json["skip"] = adainfer::least_influential(values, options.skip);
        print(json);
    });
}

}  // namespace

void add_influence(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand(
        "influence", "How much each layer turns the hidden state (block influence, ShortGPT), for --policy skip:...");
    auto options = std::make_shared<InfluenceOptions>();
    options->model.add_to(*command);
    command->add_option("--file", options->file, "text to measure it on")->type_name("F");
    command->add_option("--tokens", options->tokens, "tokens of the file at most")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->type_name("N");
    command->add_option("--task", options->tasks, "or few-shot prompts of these task files (their train examples)")
        ->check(CLI::ExistingFile)
        ->type_name("F");
    command->add_option("--prompts", options->prompts, "prompts a task")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->type_name("N");
    command->add_option("--skip", options->skip, "name the N layers of least influence as a policy")
        ->check(CLI::PositiveNumber)
        ->type_name("N");
    command->add_flag(
        "--json", options->json,
        "print JSON: layers, sequences, influence (a number a layer), order (layers, the least influential first), skip");
    command->callback([options, &context] { influence(*options, context); });
}

}  // namespace cli
