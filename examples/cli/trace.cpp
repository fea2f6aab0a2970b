#include <algorithm>
#include <cstddef>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "command.hpp"
#include "trace_tasks.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

struct TraceOptions {
    ModelOptions model;
    std::string prompt, policy = "dense", lens;
    std::vector<std::string> tasks;
    std::size_t limit = 0;
    bool chat = false, json = false;
};

/// What the whole head says after a layer.
struct TraceRow {
    std::size_t layer = 0;
    adainfer::TokenId token = adainfer::no_token;
    float gap = 0, top_probability = 0;
};

/// Never exits; writes a row for each layer that the lens reads.
class Witness : public adainfer::ReadsWith<adainfer::AnyLens, adainfer::FullHead> {
  public:
    using Features = adainfer::FeatureList<adainfer::Gap, adainfer::TopProb, adainfer::TopToken>;
    struct State {};

    Witness(adainfer::AnyLens lens, std::vector<TraceRow>& rows) : ReadsWith(std::move(lens)), rows_(&rows) {}

    [[nodiscard]] adainfer::ExitDecision decide(std::size_t layer, const Features::Values& values, State&) const {
        rows_->push_back({layer, static_cast<adainfer::TokenId>(values.get<adainfer::TopToken>()), values.get<adainfer::Gap>(),
                          values.get<adainfer::TopProb>()});
        return adainfer::ExitDecision::Continue;
    }

  private:
    std::vector<TraceRow>* rows_;
};

/// The policy itself; what it decides after a layer is written down.
class Overheard {
  public:
    using State = Policy::State;

    Overheard(Policy policy, std::map<std::size_t, adainfer::ExitDecision>& decisions)
        : policy_(std::move(policy)), decisions_(&decisions) {}

    [[nodiscard]] bool wants(std::size_t layer) const { return policy_.wants(layer); }

    template <class Ask>
    adainfer::ExitDecision consult(std::size_t layer, Ask&& ask, State& state) const {
        return (*decisions_)[layer] = ask(policy_, state);
    }

    [[nodiscard]] std::size_t hindsight(const State& state, adainfer::TokenId token, std::size_t layer) const {
        return policy_.hindsight(state, token, layer);
    }
    [[nodiscard]] adainfer::AnyLens lens() const { return policy_.lens(); }
    [[nodiscard]] adainfer::AnyHead head() const { return policy_.head(); }

  private:
    Policy policy_;
    std::map<std::size_t, adainfer::ExitDecision>* decisions_;
};

struct TraceReport {
    std::vector<TraceRow> rows;  ///< the last one is the model's own answer
    std::map<std::size_t, adainfer::ExitDecision> decisions;
    std::size_t prompt_tokens = 0, exit_layer = 0, layers = 0;
    adainfer::TokenId answer = adainfer::no_token;  ///< of the policy
    std::string lens;
    std::map<adainfer::TokenId, std::string> names;  ///< of the tokens above
};

template <class Model>
TraceReport trace(const Model& dense, const adainfer::Tokenizer& tokenizer, const TraceOptions& options, const Context& context) {
    const adainfer::ModelWeights& weights = dense.decoder().weights();
    const Policy policy = make_policy(options.policy, weights);
    const adainfer::AnyLens lens = options.lens.empty() ? policy.lens() : adainfer::AnyLens(adainfer::load_lens(options.lens));
    const std::vector<adainfer::TokenId> prompt = encode_prompt(tokenizer, options.prompt, options.chat);
    adainfer::Session session = dense.new_session();
    const adainfer::RunOptions run{context.stop, {}};

    TraceReport report;
    report.lens = lens.kind();
    report.prompt_tokens = prompt.size();
    report.layers = dense.config().layers;
    const adainfer::Prediction final = dense.with_policy(Witness(lens, report.rows)).predict(session, prompt, {}, run);
    const adainfer::TopTwo top = adainfer::top_two(final.logits);
    report.rows.push_back({report.layers, final.token, top.top_probability - top.second_probability, top.top_probability});

    const adainfer::Prediction chosen = dense.with_policy(Overheard(policy, report.decisions)).predict(session, prompt, {}, run);
    report.exit_layer = chosen.exit_layer;
    report.answer = chosen.token;
    report.names[chosen.token] = tokenizer.token_bytes(chosen.token);
    for (const TraceRow& row : report.rows) report.names[row.token] = tokenizer.token_bytes(row.token);
    return report;
}

/// "exit", "continue", "not asked" (by the policy's schedule), "not run" (the policy exited before), "end" (the last layer).
std::string decision_after(const TraceReport& report, std::size_t layer) {
    if (layer == report.exit_layer && layer < report.layers) return "exit";
    const bool exited = !report.decisions.empty() && report.decisions.rbegin()->second == adainfer::ExitDecision::Exit;
    if (exited && layer > report.exit_layer) return "not run";
    if (layer == report.layers) return "end";
    return report.decisions.contains(layer) ? "continue" : "not asked";
}

void print_text(const TraceReport& report, const TraceOptions& options) {
    std::size_t width = 9;
    for (const auto& [token, name] : report.names) width = (std::max)(width, quote(name).size());
    const auto blanks = [](std::size_t size, std::size_t to) { return std::string(size < to ? to - size : 0, ' '); };
    std::cout << "layer  top token" << blanks(9, width) << "    gap   top prob  decision\n";
    const TraceRow& last = report.rows.back();
    for (const TraceRow& row : report.rows) {
        const std::string layer = std::to_string(row.layer), token = quote(report.names.at(row.token));
        const std::string decision = decision_after(report, row.layer);
        std::cout << blanks(layer.size(), 5) << layer << "  " << token << blanks(token.size(), width) << "  "
                  << fixed(static_cast<double>(row.gap), 4) << "  "
                  << fixed(static_cast<double>(row.top_probability), 4) << "    "
                  << (decision == "exit" ? "exit  <--" : decision)
                  << (row.layer < report.layers && row.token == last.token ? "  =" : "") << '\n';
    }
    std::cout << "lens " << report.lens << ", policy " << options.policy << ": " << quote(report.names.at(report.answer))
              << " after " << report.exit_layer << " of " << report.layers << " layers; the dense model says "
              << quote(report.names.at(last.token)) << " (layers marked = say so too)\n";
}

void print_json(const TraceReport& report, const TraceOptions& options) {
    Json rows = Json::array();
    const TraceRow& last = report.rows.back();
    for (const TraceRow& row : report.rows) {
        rows.push_back({{"layer", row.layer},
                        {"token", row.token},
                        {"text", report.names.at(row.token)},
                        {"gap", row.gap},
                        {"top_prob", row.top_probability},
                        {"agrees", row.token == last.token},
                        {"decision", decision_after(report, row.layer)}});
    }
    print({{"prompt_tokens", report.prompt_tokens},
           {"lens", report.lens},
           {"policy", options.policy},
           {"layers", report.layers},
           {"exit_layer", report.exit_layer},
           {"answer", {{"token", report.answer}, {"text", report.names.at(report.answer)}}},
           {"dense", {{"token", last.token}, {"text", report.names.at(last.token)}}},
           {"rows", std::move(rows)}});
}

void print_tasks(const std::vector<TaskTrace>& traces, std::string_view lens, std::size_t layers, bool json) {
    if (!json) {
        for (const TaskTrace& trace : traces) {
            std::cout << trace.task << ", mean of " << trace.prompts << " prompts, lens " << lens
                      << "\nlayer     gap   top prob  agreement\n";
            for (const TaskRow& row : trace.rows) {
                const std::string layer = std::to_string(row.layer);
                std::cout << std::string(5 - (std::min)(layer.size(), std::size_t{5}), ' ') << layer << "  " << fixed(row.gap, 4)
                          << "    " << fixed(row.top_probability, 4) << "     " << fixed(row.agreement, 3) << '\n';
            }
        }
        return;
    }
    Json list = Json::array();
    for (const TaskTrace& trace : traces) {
        Json rows = Json::array();
        for (const TaskRow& row : trace.rows) {
            rows.push_back(
                {{"layer", row.layer}, {"gap", row.gap}, {"top_prob", row.top_probability}, {"agreement", row.agreement}});
        }
        list.push_back({{"task", trace.task}, {"prompts", trace.prompts}, {"rows", std::move(rows)}});
    }
    print({{"lens", lens}, {"layers", layers}, {"tasks", std::move(list)}});
}

template <class Model>
void trace_tasks(const Model& model, const adainfer::Tokenizer& tokenizer, const TraceOptions& options, const Context& context) {
    adainfer::AnyLens lens;
    if (!options.lens.empty()) lens = adainfer::AnyLens(adainfer::load_lens(options.lens));
    lens.check_model(model.decoder().weights());
    std::vector<TaskTrace> traces;
    for (const std::string& path : options.tasks) {
        traces.push_back(trace_task(model, tokenizer, adainfer::load_task(path), lens, options.limit, context));
    }
    print_tasks(traces, lens.kind(), model.config().layers, options.json);
}

}  // namespace

void add_trace(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("trace", "What the model would say after each layer, and what the policy decides there");
    auto options = std::make_shared<TraceOptions>();
    options->model.add_to(*command);
    auto* source = command->add_option_group("source");
    source->require_option(1);
    source->add_option("--prompt", options->prompt, "what the model reads")->type_name("S");
    auto* tasks =
        source
            ->add_option("--task", options->tasks, "in place of one prompt: task files; prints the mean over their test prompts")
            ->check(CLI::ExistingFile)
            ->type_name("F");
    command->add_option("--limit", options->limit, "test prompts a task at most")->type_name("N")->needs(tasks);
    command->add_flag("--chat", options->chat, "put the prompt into the model's chat template, as the user's turn")
        ->excludes(tasks);
    add_policy_option(*command, options->policy)->excludes(tasks);
    command->add_option("--lens", options->lens, "read the layers through this linear lens (default: the policy's lens)")
        ->type_name("LENS");
    command->add_flag(
        "--json", options->json,
        "print JSON: lens, policy, layers, exit_layer, answer, dense, and rows of layer, token, text, gap, "
        "top_prob, agrees, decision; with --task: lens, layers, and tasks of task, prompts, and rows of layer, gap, "
        "top_prob, agreement");
    command->callback([options, &context] {
        if (!options->tasks.empty()) {
            with_model(options->model, context, [&](const DenseModel& model, const adainfer::Tokenizer& tokenizer) {
                trace_tasks(model, tokenizer, *options, context);
            });
            return;
        }
        TraceReport report;
        with_model(options->model, context, [&](const DenseModel& model, const adainfer::Tokenizer& tokenizer) {
            report = trace(model, tokenizer, *options, context);
        });
        options->json ? print_json(report, *options) : print_text(report, *options);
    });
}

}  // namespace cli
