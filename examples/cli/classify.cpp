#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/eval/prompt.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/generate/classify.hpp"
#include "command.hpp"
#include "progress_bar.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

struct ClassifyOptions {
    ModelOptions model;
    std::string template_text, labels, policy = "dense", task = "classify";
    std::vector<std::string> texts;
    bool json = false;
};

/// \n, \t and \\ as what they stand for, because shells pass them on as they are.
std::string unescaped(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
        if (next == 'n' || next == 't' || next == '\\') {
            result += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
            ++i;
        } else {
            result += text[i];
        }
    }
    return result;
}

std::vector<std::string> split(std::string_view list) {
    std::vector<std::string> parts;
    for (;;) {
        const std::size_t comma = list.find(',');
        parts.emplace_back(list.substr(0, comma));
        if (comma == std::string_view::npos) return parts;
        list.remove_prefix(comma + 1);
    }
}

/// The texts as the questions of a task without examples. Throws UsageError.
adainfer::Task make_task(const ClassifyOptions& options) {
    adainfer::Task task;
    task.name = options.task;
    task.template_text = unescaped(options.template_text);
    task.labels = split(options.labels);
    if (task.template_text.find("{output}") == std::string::npos) {
        // A label follows the template after one space, which belongs to the label's token.
        while (task.template_text.ends_with(' ')) task.template_text.pop_back();
        task.template_text += task.template_text.ends_with('\n') ? "{output}" : " {output}";
    }
    for (const std::string& text : options.texts) {
        task.test.push_back({text, task.labels.front()});  // a task file has answers; this one is not looked at
    }
    try {
        adainfer::validate(task);
    } catch (const adainfer::Error& error) {
        throw UsageError(error.what());
    }
    return task;
}

template <class Model>
std::vector<adainfer::Classification> classify_all(const Model& model, const adainfer::Tokenizer& tokenizer,
                                                   const adainfer::Task& task, adainfer::KvType kv, const Context& context) {
    std::vector<std::string> answers, questions;
    for (const std::string& label : task.labels) answers.push_back(adainfer::answer(task, label));
    for (const adainfer::Example& example : task.test) questions.push_back(adainfer::question(task, example.input));
    const adainfer::LabelSet labels(tokenizer, answers);
    const adainfer::EncodedPrompts prompts = adainfer::encode_prompts(tokenizer, "", questions);

    ProgressBar bar;
    const adainfer::RunOptions run{context.stop, {}};
    adainfer::Session session = model.new_session({.kv = kv, .rewindable = 0});
    if (!prompts.prefix.empty()) model.prefill(session, prompts.prefix, run);  // once for all
    std::vector<adainfer::Classification> results;
    for (const std::vector<adainfer::TokenId>& rest : prompts.rests) {
        results.push_back(adainfer::classify(model, session, rest, labels, run));
        bar.update("classify", results.size(), prompts.rests.size());
    }
    return results;
}

void classify(const ClassifyOptions& options, const Context& context) {
    const adainfer::Task task = make_task(options);
    std::vector<adainfer::Classification> results;
    with_model(options.model, context, [&](const DenseModel& dense, const adainfer::Tokenizer& tokenizer) {
        const auto model = dense.with_policy(make_policy(options.policy, dense.decoder().weights(), task.name));
        results = classify_all(model, tokenizer, task, options.model.kv_type(), context);
    });

    Json json = Json::array();
    for (std::size_t i = 0; i < results.size(); ++i) {
        const adainfer::Classification& result = results[i];
        Json probabilities = Json::object();
        std::string shares;
        for (std::size_t label = 0; label < task.labels.size(); ++label) {
            const double probability = static_cast<double>(result.probabilities[label]);
            probabilities[task.labels[label]] = probability;
            shares += (label == 0 ? "" : " ") + task.labels[label] + "=" + fixed(probability, 3);
        }
        if (options.json) {
            json.push_back({{"text", options.texts[i]},
                            {"label", task.labels[result.label]},
                            {"probabilities", std::move(probabilities)},
                            {"exit_layer", result.exit_layer},
                            {"layers", result.layers},
                            {"checks", result.checks}});
        } else {
            std::cout << task.labels[result.label] << '\t' << shares << "\tlayer " << result.exit_layer << '/' << result.layers
                      << '\t' << quote(options.texts[i]) << '\n';
        }
    }
    if (options.json) print(json);
}

}  // namespace

void add_classify(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("classify", "Say which of some labels fits a text");
    auto options = std::make_shared<ClassifyOptions>();
    options->model.add_to(*command);
    options->model.add_kv_to(*command);
    command
        ->add_option("--template", options->template_text,
                     "the prompt, with {input} where the text goes and, at the end if left out, {output} where the label goes, "
                     R"(e.g. "Review: {input}\nSentiment: {output}"; \n and \t are understood)")
        ->required()->type_name("T");
    command->add_option("--labels", options->labels, "the labels, e.g. negative,positive")->required()->type_name("A,B");
    add_policy_option(*command, options->policy);
    command->add_option("--task", options->task, "use the threshold that a policy file has for the task of this name")
        ->type_name("NAME");
    command->add_flag("--json", options->json,
                      "print a JSON array with an object a text: text, label, probabilities, exit_layer, layers, checks");
    command->add_option("TEXT", options->texts, "the texts")->required()->type_name("TEXT");
    command->callback([options, &context] { classify(*options, context); });
}

}  // namespace cli
