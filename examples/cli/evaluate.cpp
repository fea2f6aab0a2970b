#include <algorithm>
#include <array>
#include <cstddef>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>
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

struct EvaluateOptions {
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
            {"check_cost", row.check_cost},
            {"break_even_layer", row.break_even_layer},
            {"prompts", row.prompts}};
}

/// The table: as wide as its names ask for, and 84 columns of figures.
class Table {
  public:
    Table(const std::vector<std::string>& tasks, const std::vector<adainfer::NamedPolicy>& policies) {
        for (const std::string& task : tasks) task_ = (std::max)(task_, static_cast<int>(task.size()) + 2);
        for (const adainfer::NamedPolicy& p : policies) policy_ = (std::max)(policy_, static_cast<int>(p.name.size()) + 1);
        line("task", "policy",
             {"accuracy", "dense", "agreement", "layers (sd)", "saved", "ms", "speed-up", "checks", "cost", "pays"});
    }

    void row(const adainfer::Evaluation& r) const {
        line(r.task, r.policy,
             {fixed(100 * r.accuracy, 1), fixed(100 * r.accuracy_dense, 1), fixed(100 * r.agreement, 1),
              fixed(r.mean_layers, 1) + " (" + fixed(r.sd_layers, 1) + ")", fixed(100 * r.pruning_ratio, 1) + " %",
              fixed(1000 * r.seconds_per_prompt, 1), fixed(r.speedup_vs_dense, 2), fixed(r.checks_per_prompt, 1),
              fixed(100 * r.check_cost, 1) + " %", r.break_even_layer == 0 ? "-" : std::to_string(r.break_even_layer)});
    }

  private:
    void line(const std::string& task, const std::string& policy, const std::array<std::string, 10>& cells) const {
        constexpr std::array widths{9, 7, 10, 13, 8, 8, 9, 7, 8, 5};
        std::cout << std::left << std::setw(task_) << task << std::setw(policy_) << policy << std::right;
        for (std::size_t i = 0; i < cells.size(); ++i) std::cout << std::setw(widths[i]) << cells[i];
        std::cout << std::endl;
    }

    int task_ = 12, policy_ = 12;
};

/// The plain mean over tasks, a row a policy; the speed-up is that of the summed seconds, the break-even layer that of the task
/// where it is smallest.
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
        adainfer::Evaluation mean{.task = "mean of " + std::to_string(members.size()), .policy = policy, .layers = members.front().layers,
                                  .break_even_layer = members.front().break_even_layer};
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
            mean.check_cost += row.check_cost / n;
            mean.break_even_layer = (std::min)(mean.break_even_layer, row.break_even_layer);
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
                   const std::vector<adainfer::NamedPolicy>& policies, const EvaluateOptions& options,
                   std::set<std::string>& warned) {
    const adainfer::TaskPrompts prompts = adainfer::test_prompts(tokenizer, task, options.limit);
    for (const adainfer::NamedPolicy& policy : policies) {
        if (policy.chooses_fixed_layer || warned.contains(policy.name)) continue;
        const adainfer::PolicyCost cost = adainfer::cost_of_task(weights, policy.make(task.name), prompts, options.model.kv_type());
        if (warn_of_cost(policy.name, cost)) warned.insert(policy.name);
    }
}

void evaluate(const EvaluateOptions& options, const Context& context) {
    std::vector<adainfer::Task> tasks;
    for (const std::string& path : options.tasks) tasks.push_back(adainfer::load_task(path));
    if (!options.names.empty() && options.names.size() != options.policies.size()) throw UsageError("--name must be given once a --policy, or not at all");
    with_model(options.model, context, [&](const DenseModel& model, const adainfer::Tokenizer& tokenizer) {
        std::vector<adainfer::NamedPolicy> policies;
        for (const std::string& spec : options.policies) policies.push_back(name_policy(spec, model.decoder().weights()));
        for (std::size_t i = 0; i < options.names.size(); ++i) policies[i].name = options.names[i];
        if (policies.empty()) policies.push_back(name_policy("dense", model.decoder().weights()));
        std::vector<adainfer::Evaluation> all;
        std::vector<std::string> names{"mean of " + std::to_string(tasks.size())};
        for (const adainfer::Task& task : tasks) {
            if (!options.summary) names.push_back(task.name);
        }
        std::optional<Table> table;
        if (!options.json) table.emplace(names, policies);
        std::set<std::string> warned;
        for (const adainfer::Task& task : tasks) {
            warn_of_costs(model.decoder().weights(), tokenizer, task, policies, options, warned);
            ProgressBar bar;
            const auto rows = adainfer::evaluate(model, tokenizer, task, policies, {options.limit, {context.stop, bar.callback()}, options.model.kv_type()});
            bar.clear();
            if (table && !options.summary) {
                for (const adainfer::Evaluation& row : rows) table->row(row);
            }
            all.insert(all.end(), rows.begin(), rows.end());
        }
        if (options.json) {
            Json json = Json::array();
            for (const adainfer::Evaluation& row : all) json.push_back(to_json(row));
            print(json);
        } else if (tasks.size() > 1 || options.summary) {
            for (const adainfer::Evaluation& row : means(all)) table->row(row);
        }
    });
}

}  // namespace

void add_evaluate(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("evaluate", "Accuracy, depth and wall clock of exit policies on task files, beside the dense model");
    command->footer(
        "dense: the dense model's accuracy; ms: of a prompt after the cached few-shot prefix; checks: of a prompt; cost: what the\n"
        "checks of a prompt that exits nowhere cost, in per cent of the dense pass, by the cost model; pays: the deepest exit that\n"
        "costs less than the dense pass; the last two are per task, in a mean row their mean and the least.");
    auto options = std::make_shared<EvaluateOptions>();
    options->model.add_to(*command);
    options->model.add_kv_to(*command);
    command->add_option("--task", options->tasks, "task files")->required()->check(CLI::ExistingFile)->type_name("F");
    command->add_option("--policy", options->policies, "policies (default: dense): " + std::string(adainfer::policy_spec_forms))->type_name("SPEC");
    command->add_option("--name", options->names, "what to call each policy in the table")->type_name("NAME");
    command->add_option("--limit", options->limit, "test prompts a task at most")->type_name("N");
    command->add_flag("--summary", options->summary, "only the mean over the tasks");
    command->add_flag("--json", options->json, "print a JSON array with an object for each task and policy");
    command->callback([options, &context] { evaluate(*options, context); });
}

}  // namespace cli
