#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/eval/train_policy.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/io/policy_file.hpp"
#include "command.hpp"
#include "progress_bar.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

struct TrainOptions {
    ModelOptions model;
    std::vector<std::string> tasks, classifiers, outputs;
    std::vector<std::size_t> layers;
    std::string lens, head = "full", features = "paper", label_rule = "agrees";
    double agreement = 0.99, max_accuracy_loss = -1, accuracy_price = -1, confidence = 0;
    std::size_t examples = 0, prefixes = 3;
    std::uint64_t seed = 0;
    bool per_task = false, per_layer = false;
};

/// What is wrong with a --head, for CLI11: nothing where the text is empty.
std::string known_head(const std::string& name) {
    try {
        static_cast<void>(adainfer::AnyHead::named(name));
        return {};
    } catch (const adainfer::Error& error) {
        return error.what();
    }
}

void report(const std::string& name, const adainfer::Calibration& c) {
    std::cout << name << ": saves " << fixed(100 * c.pruning_ratio(), 1) << " % of the layers at agreement " << fixed(c.agreement, 3)
              << ", accuracy " << (c.accuracy_change < 0 ? "" : "+") << fixed(100 * c.accuracy_change, 1) << " points, on " << c.prompts
              << " held-out prompts";
    if (c.lower_bound > 0) std::cout << ", at least " << fixed(c.lower_bound, 3) << " at the confidence asked for";
    std::cout << (c.met ? "\n" : "; no threshold meets the target, so it never exits\n");
}

void train(const TrainOptions& options, const Context& context) {
    std::vector<adainfer::Task> tasks;
    for (const std::string& path : options.tasks) tasks.push_back(adainfer::load_task(path));
    if (options.per_layer && options.classifiers != std::vector<std::string>{"svm"}) throw UsageError("--per-layer needs --classifier svm");
    if (options.classifiers.size() != options.outputs.size()) throw UsageError("name one -o for each --classifier");
    for (auto output = options.outputs.begin(); output != options.outputs.end(); ++output) {
        if (std::find(options.outputs.begin(), output, *output) != output) throw UsageError("two classifiers would be written to " + *output);
    }
    with_model(options.model, context, [&](const DenseModel& model, const adainfer::Tokenizer& tokenizer) {
        const Stopwatch watch;
        ProgressBar bar;
        adainfer::TrainPolicyOptions training;
        if (options.features == "depth") training.features = adainfer::DepthFeatures::names();
        if (options.features == "wide") training.features = adainfer::WideFeatures::names();
        training.head = adainfer::AnyHead::named(options.head);
        training.label = options.label_rule == "gold" ? adainfer::Label::MatchesGold : adainfer::Label::AgreesWithFinal;
        training.per_layer = options.per_layer;
        training.calibration.target = options.agreement;
        training.calibration.confidence = options.confidence;
        if (options.max_accuracy_loss >= 0) training.calibration.max_accuracy_loss = options.max_accuracy_loss;
        if (options.accuracy_price >= 0) training.calibration.accuracy_price = options.accuracy_price;
        training.per_task = options.per_task;
        training.examples = options.examples;
        training.prefixes = options.prefixes;
        training.seed = options.seed;
        training.run = {context.stop, bar.callback()};
        if (!options.layers.empty()) training.schedule = adainfer::Schedule::only(options.layers);
        adainfer::LensFile lens;
        if (!options.lens.empty()) {
            lens = adainfer::load_lens_file(options.lens);
            lens.lens.check_model(model.decoder().weights());
            training.lens = adainfer::AnyLens(lens.lens);
        }
        const adainfer::PolicyTraces traces = adainfer::collect_policy_traces(model, tokenizer, tasks, training);
        bar.clear();
        for (std::size_t i = 0; i < options.classifiers.size(); ++i) {
            const std::string& output = options.outputs[i];
            training.classifier = options.classifiers[i];
            adainfer::TrainedPolicy trained = adainfer::train_policy(model, tasks, traces, training);
            if (!options.lens.empty()) {
                trained.file.lens_hash = lens.hash;
                trained.file.lens_file = adainfer::lens_reference(output, options.lens);
            }
            adainfer::save_policy(output, trained.file);
            report("all tasks, one threshold", trained.shared);
            for (const auto& [name, calibration] : trained.tasks) report(name, calibration);
            std::cout << "wrote " << output << "\n";
        }
        std::cerr << "trained in " << fixed(watch.seconds(), 1) << " s\n";
    });
}

}  // namespace

void add_train(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("train", "Train an exit policy on the train examples of task files");
    auto options = std::make_shared<TrainOptions>();
    options->model.add_to(*command);
    command->add_option("--task", options->tasks, "task files")->required()->check(CLI::ExistingFile)->type_name("F");
    command->add_option("--classifier", options->classifiers,
                        "svm (linear), crf (over the sequence of layers) or rbf (svm with an RBF kernel); more than once: each is trained "
                        "on the same runs of the model")
        ->required()->check(CLI::IsMember({"svm", "crf", "rbf"}));
    command->add_flag("--per-layer", options->per_layer, "of svm: one for each layer, beside a shared one");
    command->add_option("--lens", options->lens, "read through this lens (default: the logit lens, as in the paper)")->type_name("LENS");
    command->add_option("--features", options->features, "paper (gap, top probability), depth (and the layer), wide (all)")
        ->check(CLI::IsMember({"paper", "depth", "wide"}))->capture_default_str();
    command->add_option("--head", options->head, "full, candidates, shortlist or shortlist:K for K tokens; shortlists also with +confirm")
        ->check([](const std::string& name) { return known_head(name); })->type_name("H")->capture_default_str();
    command->add_option("--layers", options->layers, "layers after which it is asked (default: all that the lens reads)")->delimiter(',')->type_name("N,N");
    command->add_option("--label-rule", options->label_rule, "a good place to stop: agrees (with the last layer) or gold (right answer)")
        ->check(CLI::IsMember({"agrees", "gold"}))->capture_default_str();
    command->add_option("--agreement", options->agreement, "least share of good answers on held-out prompts")->check(CLI::Range(0.0, 1.0))->capture_default_str();
    command->add_option("--confidence", options->confidence,
                        "ask the lower confidence bound of that share to reach --agreement, e.g. 0.95 (few prompts then allow "
                        "little); 0: the share itself")
        ->check(CLI::Range(0.0, 0.9999))->capture_default_str();
    command->add_option("--max-accuracy-loss", options->max_accuracy_loss, "and at most this much accuracy lost there, e.g. 0.01")->check(CLI::Range(0.0, 1.0));
    command->add_option("--accuracy-price", options->accuracy_price,
                        "weigh accuracy against layers: with 5, a point of accuracy for more than five points of the layers (default: as "
                        "few layers as the conditions allow)")
        ->check(CLI::NonNegativeNumber)->type_name("P");
    command->add_flag("--per-task", options->per_task, "calibrate a threshold for each task");
    command->add_option("--examples", options->examples, "of a task at most (default: half of its train examples)")
        ->check(CLI::Range(4, 1'000'000))->type_name("N");
    command->add_option("--prefixes", options->prefixes, "few-shot prefixes each example is asked behind")->check(CLI::Range(1, 100))->capture_default_str();
    command->add_option("--seed", options->seed, "of the shots")->capture_default_str();
    command->add_option("-o,--output", options->outputs, "the policy file; one for each --classifier")->required()->type_name("POLICY");
    command->callback([options, &context] { train(*options, context); });
}

}  // namespace cli
