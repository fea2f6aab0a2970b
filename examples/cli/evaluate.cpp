#include <algorithm>
#include <cstddef>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "adainfer/eval/evaluate.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "command.hpp"
#include "cost_warning.hpp"
#include "progress_bar.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

struct Options {
    ModelOptions model;
    std::vector<std::string> tasks, policies, names;
    std::size_t limit = 0;
    bool json = false, summary = false;
};

Json to_json(const adainfer::Evaluation& row) {
    return {{"task", row.task},
            {"policy", row.policy},
            {"accuracy", row.accuracy},
            {"accuracy_dense", row.accuracy_dense},
            {"agreement", row.agreement},
            {"mean_layers", row.mean_layers},
            {"sd_layers", row.sd_layers},
            {"layers", row.layers},
            {"pruning_ratio", row.pruning_ratio},
            {"seconds_per_prompt", row.seconds_per_prompt},
            {"speedup_vs_dense", row.speedup_vs_dense},
            {"checks_per_prompt", row.checks_per_prompt},
            {"prompts", row.prompts}};
}

void print_header() {
    std::cout << std::left << std::setw(24) << "task" << std::setw(30) << "policy" << std::right << std::setw(9) << "accuracy" << std::setw(8) << "dense"
              << std::setw(11) << "agreement" << std::setw(14) << "layers (sd)" << std::setw(9) << "saved" << std::setw(10) << "ms" << std::setw(10)
              << "speed-up" << std::setw(8) << "checks" << "\n";
}

void print_row(const adainfer::Evaluation& row) {
    std::cout << std::left << std::setw(24) << row.task << std::setw(30) << row.policy << std::right << std::setw(9) << fixed(100 * row.accuracy, 1)
              << std::setw(8) << fixed(100 * row.accuracy_dense, 1) << std::setw(11) << fixed(100 * row.agreement, 1) << std::setw(14)
              << fixed(row.mean_layers, 1) + " (" + fixed(row.sd_layers, 1) + ")" << std::setw(9) << fixed(100 * row.pruning_ratio, 1) + " %" << std::setw(10)
              << fixed(1000 * row.seconds_per_prompt, 1) << std::setw(10) << fixed(row.speedup_vs_dense, 2) << std::setw(8)
              << fixed(row.checks_per_prompt, 1) << std::endl;
}

/// The plain mean over tasks, a row a policy; the speed-up is that of the summed seconds.
std::vector<adainfer::Evaluation> means(const std::vector<adainfer::Evaluation>& rows) {
    std::vector<std::string> order;
    std::map<std::string, std::vector<adainfer::Evaluation>> by_policy;
    for (const adainfer::Evaluation& row : rows) {
        if (by_policy[row.policy].empty()) order.push_back(row.policy);
        by_policy[row.policy].push_back(row);
    }
    std::vector<adainfer::Evaluation> result;
    for (const std::string& policy : order) {
        const auto& members = by_policy[policy];
        adainfer::Evaluation mean{.task = "mean of " + std::to_string(members.size()), .policy = policy, .layers = members.front().layers};
        const double n = static_cast<double>(members.size());
        double dense_seconds = 0;
        for (const adainfer::Evaluation& row : members) {
            mean.accuracy += row.accuracy / n;
            mean.accuracy_dense += row.accuracy_dense / n;
            mean.agreement += row.agreement / n;
            mean.mean_layers += row.mean_layers / n;
            mean.sd_layers += row.sd_layers / n;
            mean.pruning_ratio += row.pruning_ratio / n;
            mean.seconds_per_prompt += row.seconds_per_prompt / n;
            mean.checks_per_prompt += row.checks_per_prompt / n;
            dense_seconds += row.seconds_per_prompt * row.speedup_vs_dense / n;
            mean.prompts += row.prompts;
        }
        mean.speedup_vs_dense = dense_seconds / mean.seconds_per_prompt;
        result.push_back(mean);
    }
    return result;
}

/// Warns of policies whose checks cost more than they can save on the prompts of a task; of each once.
void warn_of_costs(const adainfer::ModelWeights& weights, const adainfer::Tokenizer& tokenizer, const adainfer::Task& task,
                   const std::vector<adainfer::NamedPolicy>& policies, std::set<std::string>& warned) {
    const std::size_t some = (std::min)(task.test.size(), std::size_t{8});  // their mean length stands for all
    const adainfer::TaskPrompts prompts =
        adainfer::make_prompts(tokenizer, task, adainfer::default_shots(task), std::span(task.test).first(some));
    std::size_t tokens = 0;
    for (const auto& prompt : prompts.prompts) tokens += prompt.size();
    for (const adainfer::NamedPolicy& policy : policies) {
        if (policy.chooses_fixed_layer || warned.contains(policy.name)) continue;
        const bool warns = warn_of_cost(policy.name, weights, policy.make(task.name), tokens / some, prompts.candidates.size());
        if (warns) warned.insert(policy.name);
    }
}

void evaluate(const Options& options, const Context& context) {
    std::vector<adainfer::Task> tasks;
    for (const std::string& path : options.tasks) tasks.push_back(adainfer::load_task(path));
    if (!options.names.empty() && options.names.size() != options.policies.size()) throw UsageError("--name must be given once a --policy, or not at all");
    with_model(options.model, context, [&](const auto& model, const adainfer::Tokenizer& tokenizer) {
        std::vector<adainfer::NamedPolicy> policies;
        for (const std::string& spec : options.policies) policies.push_back(name_policy(spec, model.decoder().weights()));
        for (std::size_t i = 0; i < options.names.size(); ++i) policies[i].name = options.names[i];
        if (policies.empty()) policies.push_back(name_policy("dense", model.decoder().weights()));
        std::vector<adainfer::Evaluation> all;
        if (!options.json) print_header();
        std::set<std::string> warned;
        for (const adainfer::Task& task : tasks) {
            warn_of_costs(model.decoder().weights(), tokenizer, task, policies, warned);
            ProgressBar bar;
            const auto rows = adainfer::evaluate(model, tokenizer, task, policies, {options.limit, {context.stop, bar.callback()}});
            bar.clear();
            if (!options.json && !options.summary) {
                for (const adainfer::Evaluation& row : rows) print_row(row);
            }
            all.insert(all.end(), rows.begin(), rows.end());
        }
        if (options.json) {
            Json json = Json::array();
            for (const adainfer::Evaluation& row : all) json.push_back(to_json(row));
            print(json);
        } else if (tasks.size() > 1 || options.summary) {
            for (const adainfer::Evaluation& row : means(all)) print_row(row);
        }
    });
}

}  // namespace

void add_evaluate(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("evaluate", "Accuracy, depth and wall clock of exit policies on task files, beside the dense model");
    auto options = std::make_shared<Options>();
    options->model.add_to(*command);
    command->add_option("--task", options->tasks, "task files")->required()->check(CLI::ExistingFile)->type_name("F");
    command->add_option("--policy", options->policies, "policies (default: dense): " + std::string(adainfer::policy_spec_forms))->type_name("SPEC");
    command->add_option("--name", options->names, "what to call each policy in the table")->type_name("NAME");
    command->add_option("--limit", options->limit, "test prompts a task at most")->type_name("N");
    command->add_flag("--summary", options->summary, "only the mean over the tasks");
    command->add_flag("--json", options->json, "print a JSON array with an object for each task and policy");
    command->callback([options, &context] { evaluate(*options, context); });
}

}  // namespace cli
