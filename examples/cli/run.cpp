#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/generate/chat.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/model/kv_completion.hpp"
#include "adainfer/tokenize/stream_decoder.hpp"
#include "command.hpp"
#include "cost_warning.hpp"
#include "progress_bar.hpp"
#include "sampling_arguments.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

struct RunOptions {
    ModelOptions model;
    std::string prompt, system, policy = "dense";
    bool chat = false, exact_kv = false, json = false;
    std::size_t tokens = 128;
    SamplingArguments sampling;
};

struct RunReport {
    std::vector<adainfer::TokenId> ids;
    std::vector<std::size_t> exit_layers;
    std::string text;
    adainfer::GenerateResult result;
    std::size_t prompt_tokens = 0, layers = 0;
    double seconds = 0;         ///< of all
    double prompt_seconds = 0;  ///< until the first token was there

    [[nodiscard]] double tokens_per_second() const {
        const double decoded = static_cast<double>(ids.size()) - 1;  // the first token is the prompt's
        return decoded > 0 && seconds > prompt_seconds ? decoded / (seconds - prompt_seconds) : 0;
    }
};

template <class Model>
void generate(const Model& model, const adainfer::Tokenizer& tokenizer, const RunOptions& options, const Context& context,
              RunReport& report) {
    const std::vector<adainfer::TokenId> prompt = encode_prompt(tokenizer, options.prompt, options.chat, options.system);
    const std::size_t context_length = model.config().context;
    // The last token is not put into the session; a prompt that does not fit is refused by generate().
    const std::size_t capacity = (std::min)(context_length, prompt.size() + options.tokens - 1);
    adainfer::Session session = model.new_session({.capacity = capacity, .kv = options.model.kv_type(), .rewindable = 0});

    ProgressBar bar;
    adainfer::GenerateOptions how;
    how.max_new_tokens = options.tokens;
    how.sampling = options.sampling.options;
    how.seed = options.sampling.seed;
    how.is_end = [&](adainfer::TokenId id) { return tokenizer.is_end_of_generation(id); };
    if (options.chat) how.is_end = adainfer::chat_end(tokenizer, adainfer::ChatTemplate(tokenizer));
    how.run = {context.stop, bar.callback()};

    report.prompt_tokens = prompt.size();
    report.layers = model.config().layers;
    adainfer::StreamDecoder decoder(tokenizer, true);
    const auto deliver = [&](const std::string& text) {
        report.text += text;
        if (!options.json) std::cout << text << std::flush;
    };
    const Stopwatch watch;
    report.result = adainfer::generate(model, session, prompt, how, [&](const adainfer::GeneratedToken& token) {
        if (report.ids.empty()) {
            bar.clear();
            report.prompt_seconds = watch.seconds();
        }
        report.ids.push_back(token.token);
        report.exit_layers.push_back(token.exit_layer);
        deliver(decoder.push(token.token));
    });
    report.seconds = watch.seconds();
    bar.clear();
    deliver(decoder.finish());
}

void run(const RunOptions& options, const Context& context) {
    options.sampling.validate();
    RunReport report;
    try {
        with_model(options.model, context, [&](const DenseModel& dense, const adainfer::Tokenizer& tokenizer) {
            const auto model = dense.with_policy(make_policy(options.policy, dense.decoder().weights()));
            warn_of_cost(options.policy, dense.decoder().weights(), model.policy());
            if (options.exact_kv) {
                generate(model.with_completion<adainfer::DeferredExact>(), tokenizer, options, context, report);
            } else {
                generate(model, tokenizer, options, context, report);
            }
        });
    } catch (...) {
        if (!options.json && !report.ids.empty()) std::cout << '\n';  // the message begins on a line of its own
        throw;
    }
    if (options.json) {
        print({{"ids", report.ids},
               {"text", report.text},
               {"exit_layers", report.exit_layers},
               {"layers", report.layers},
               {"mean_layers", report.result.mean_layers},
               {"policy", options.policy},
               {"prompt_tokens", report.prompt_tokens},
               {"prompt_seconds", report.prompt_seconds},
               {"seconds", report.seconds},
               {"tokens_per_second", report.tokens_per_second()},
               {"finish_reason", std::string(to_string(report.result.reason))}});
        return;
    }
    std::cout << '\n' << std::flush;
    std::cerr << report.ids.size() << " tokens (" << to_string(report.result.reason) << "), mean exit layer "
              << fixed(report.result.mean_layers, 1) << " of " << report.layers << ", " << fixed(report.tokens_per_second(), 1)
              << " tokens/s after " << report.prompt_tokens << " prompt tokens in " << fixed(report.prompt_seconds, 2) << " s\n";
}

}  // namespace

void add_run(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("run", "Continue a prompt, each token as deep as the exit policy lets it run");
    auto options = std::make_shared<RunOptions>();
    options->model.add_to(*command);
    options->model.add_kv_to(*command);
    command->add_option("--prompt", options->prompt, "what the model reads")->required()->type_name("S");
    command->add_option("-n,--tokens", options->tokens, "most tokens to generate")
        ->check(CLI::Range(1, 1'000'000))->type_name("N")->capture_default_str();
    command->add_flag("--chat", options->chat, "put the prompt into the model's chat template, as the user's turn");
    command->add_option("--system", options->system, "with --chat: a system turn before it")->type_name("S")->needs("--chat");
    add_policy_option(*command, options->policy);
    command->add_flag("--exact-kv", options->exact_kv,
                      "of layers that a token did not run, compute its keys and values when a later token runs them (default: from "
                      "the hidden state at which it left)");
    options->sampling.add_to(*command);
    command->add_flag("--json", options->json,
                      "print JSON when done: ids, text, exit_layers (one a token), layers, mean_layers, policy, prompt_tokens, "
                      "prompt_seconds (until the first token), seconds (of all), tokens_per_second (after the first token), "
                      "finish_reason");
    command->callback([options, &context] { run(*options, context); });
}

}  // namespace cli
