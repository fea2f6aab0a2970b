#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "adainfer/eval/task_lens.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/train/fit_lens.hpp"
#include "adainfer/train/refine_lens.hpp"
#include "command.hpp"
#include "progress_bar.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

constexpr std::size_t lens_chunk = 512;  // tokens of text a pass

struct LensOptions {
    ModelOptions model;
    std::string file, output, precision = "f16";
    std::vector<std::string> tasks;
    std::vector<std::size_t> layers;
    std::size_t self = 0, tokens = 50'000, task_prompts = 60, refine = 0;
    std::uint64_t seed = 0;
    double ridge = 1e-4, answer_weight = 10;
};

/// Text that the model writes itself, sampled at temperature 1 from nothing but the token that ends a text.
template <class Model>
std::vector<adainfer::TokenId> sample_text(const Model& model, const adainfer::Tokenizer& tokenizer, const LensOptions& options,
                                           const Context& context) {
    constexpr std::size_t length = 256;
    const adainfer::TokenId start = tokenizer.bos().value_or(tokenizer.eos().value_or(0));
    std::vector<adainfer::TokenId> text;
    std::mt19937_64 random(options.seed);
    ProgressBar bar;
    while (text.size() < options.self) {
        adainfer::Session session = model.new_session(length);
        text.push_back(start);
        adainfer::GenerateOptions generation;
        generation.max_new_tokens = length - 1;
        generation.sampling.temperature = 1;
        generation.run.stop = context.stop;
        const std::vector<adainfer::TokenId> prompt{start};
        adainfer::generate(model, session, prompt, generation, random, [&](const adainfer::GeneratedToken& token) {
            text.push_back(token.token);
            bar.update("sample text", text.size(), options.self);
            return tokenizer.is_end_of_generation(token.token) ? adainfer::Flow::Stop : adainfer::Flow::Continue;
        });
    }
    text.resize(options.self);
    return text;
}

void fit(const DenseModel& model, const adainfer::Tokenizer& tokenizer, const LensOptions& options, const Context& context) {
    std::vector<adainfer::TokenId> text;
    if (options.self > 0) {
        text = sample_text(model, tokenizer, options, context);
    } else if (!options.file.empty()) {
        text = tokenizer.encode(read_text(options.file), {.parse_special = false});
        if (text.size() > options.tokens) text.resize(options.tokens);
    }
    const Stopwatch watch;
    ProgressBar bar;
    adainfer::LensOptions lens_options;
    if (!options.layers.empty()) lens_options.schedule = adainfer::Schedule::only(options.layers);
    lens_options.ridge = options.ridge;
    lens_options.chunk = lens_chunk;
    lens_options.run = {context.stop, bar.callback()};
    adainfer::LensFitter fitter(model.decoder(), lens_options);
    adainfer::LensSamples samples;
    // Refined on the positions of the tasks, or on the start of the text where there are none.
    const std::size_t refined = options.refine > 0 && options.tasks.empty() ? (std::min)(text.size(), 16 * lens_chunk) : 0;
    if (refined > 0) fitter.keep_samples(&samples);
    fitter.add_text(std::span(text).first(refined));
    fitter.keep_samples(nullptr);
    fitter.add_text(std::span(text).subspan(refined));
    if (options.refine > 0 && !options.tasks.empty()) fitter.keep_samples(&samples);
    for (const std::string& path : options.tasks) {
        const adainfer::Task task = adainfer::load_task(path);
        bar.update("prompts of " + task.name, 0, 0);
        adainfer::add_task(fitter, tokenizer, task,
                           {.prompts = options.task_prompts, .answer_weight = static_cast<float>(options.answer_weight), .seed = options.seed});
    }
    adainfer::LinearLens lens = fitter.solve();
    if (options.refine > 0) {
        adainfer::RefineOptions refine;
        refine.steps = options.refine;
        refine.seed = options.seed;
        refine.run = lens_options.run;
        lens = adainfer::refine_lens(model.decoder(), lens, samples, refine);
    }
    bar.clear();

    adainfer::LensInfo info;
    info.training = {{"text", options.self > 0 ? "sampled by the model" : options.file.empty() ? "none" : "a file"},
                     {"text_tokens", std::to_string(text.size())},
                     {"positions", std::to_string(fitter.positions())},
                     {"ridge", std::to_string(options.ridge)},
                     {"refine_steps", std::to_string(options.refine)},
                     {"tasks", std::to_string(options.tasks.size())}};
    adainfer::save_lens(options.output, lens, info, options.precision == "i8" ? adainfer::LensPrecision::I8 : adainfer::LensPrecision::F16);
    std::cout << options.output << ": maps for " << lens.maps().size() << " layers from " << fitter.positions() << " positions\n";
    std::cerr << "fitted in " << fixed(watch.seconds(), 1) << " s\n";
}

void lens(const LensOptions& options, const Context& context) {
    if (options.file.empty() && options.self == 0 && options.tasks.empty()) throw UsageError("lens needs text: --file F, --self N or --task F");
    with_model(options.model, context, [&](const DenseModel& model, const adainfer::Tokenizer& tokenizer) { fit(model, tokenizer, options, context); });
}

}  // namespace

void add_lens(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("lens", "Fit a linear lens: a matrix a layer that reads the hidden state there");
    auto options = std::make_shared<LensOptions>();
    options->model.add_to(*command);
    auto* file = command->add_option("--file", options->file, "text to fit it on")->type_name("F");
    command->add_option("--self", options->self, "fit it on N tokens that the model samples itself")->type_name("N")->excludes(file);
    command->add_option("--tokens", options->tokens, "tokens of the file at most")->capture_default_str()->type_name("N");
    command->add_option("--task", options->tasks, "also on few-shot prompts of these task files (their train examples)")->type_name("F");
    command->add_option("--task-prompts", options->task_prompts, "prompts a task")->capture_default_str()->type_name("N");
    command->add_option("--answer-weight", options->answer_weight, "weight of a position where a task's answer is read")->capture_default_str();
    command->add_option("--layers", options->layers, "layers to fit (default: all)")->delimiter(',')->type_name("N,N");
    command->add_option("--ridge", options->ridge, "penalty on the weights")->capture_default_str();
    command->add_option("--refine", options->refine, "then so many Adam steps a layer towards the final distribution")->type_name("STEPS");
    command->add_option("--seed", options->seed, "of the sampling and of the shots")->capture_default_str();
    command->add_option("--precision", options->precision, "f16, or i8 for half the size")->check(CLI::IsMember({"f16", "i8"}))->capture_default_str();
    command->add_option("-o,--output", options->output, "the lens file (safetensors)")->required()->type_name("LENS");
    command->callback([options, &context] { lens(*options, context); });
}

}  // namespace cli
