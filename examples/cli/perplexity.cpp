#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/generate/score.hpp"
#include "command.hpp"
#include "progress_bar.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

struct PerplexityOptions {
    ModelOptions model;
    std::string file;
    std::size_t chunk = 0;
    bool json = false;
};

/// Of a text in chunks that are scored each by itself: the first token of a chunk is given, not scored.
struct PerplexityReport {
    std::size_t chunk = 0, chunks = 0, tokens = 0;
    double nats = 0, seconds = 0;
};

template <class Model>
PerplexityReport measure(const Model& model, const adainfer::Tokenizer& tokenizer, const PerplexityOptions& options,
                         const Context& context) {
    const std::size_t longest = model.config().context;
    if (options.chunk > longest) {
        throw UsageError("--chunk " + std::to_string(options.chunk) + " exceeds the model's context of " +
                         std::to_string(longest));
    }
    const std::vector<adainfer::TokenId> ids =
        tokenizer.encode(read_text(options.file), {.parse_special = false, .add_bos = tokenizer.adds_bos()});
    if (ids.size() < 2) {
        adainfer::fail(adainfer::ErrorCode::InvalidArgument, "'", options.file, "' is too short: ", ids.size(),
                       " tokens, 2 are needed");
    }
    PerplexityReport report;
    report.chunk = options.chunk == 0 ? longest : options.chunk;
    const std::size_t capacity = (std::min)(report.chunk, ids.size());
    adainfer::Session session = model.new_session({.capacity = capacity, .kv = options.model.kv_type(), .rewindable = 0});
    ProgressBar bar;
    const Stopwatch watch;
    for (std::size_t done = 0; done + 1 < ids.size(); done += report.chunk) {
        const std::span<const adainfer::TokenId> part = std::span(ids).subspan(done, (std::min)(report.chunk, ids.size() - done));
        const auto progress = [&](const adainfer::ProgressEvent& event) {
            bar.update("perplexity", done + event.done, ids.size());
        };
        const adainfer::Score score = adainfer::log_likelihood(model, session, part, {context.stop, progress});
        report.nats -= score.log_probability;
        report.tokens += score.token_log_probabilities.size();
        ++report.chunks;
    }
    report.seconds = watch.seconds();
    return report;
}

void perplexity(const PerplexityOptions& options, const Context& context) {
    PerplexityReport report;
    with_model(options.model, context, [&](const DenseModel& model, const adainfer::Tokenizer& tokenizer) {
        report = measure(model, tokenizer, options, context);
    });
    const double mean = report.nats / static_cast<double>(report.tokens);
    if (options.json) {
        print({{"perplexity", std::exp(mean)},
               {"tokens", report.tokens},
               {"nats", report.nats},
               {"nats_per_token", mean},
               {"chunk", report.chunk},
               {"chunks", report.chunks},
               {"seconds", report.seconds}});
        return;
    }
    std::cout << "perplexity " << fixed(std::exp(mean), 4) << ", " << report.tokens << " tokens, " << fixed(report.nats, 2)
              << " nats (" << fixed(mean, 4) << " a token)\n";
    std::cerr << report.chunks << " chunks of at most " << report.chunk << " tokens, "
              << fixed(static_cast<double>(report.tokens) / report.seconds, 1) << " tokens/s\n";
}

}  // namespace

void add_perplexity(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("perplexity", "How well the model, at full depth, predicts a text");
    auto options = std::make_shared<PerplexityOptions>();
    options->model.add_to(*command);
    options->model.add_kv_to(*command);
    command->add_option("--file", options->file, "the text; - for standard input")->required()->type_name("F");
    command->add_option("--chunk", options->chunk, "tokens scored at a time, each chunk by itself (default: the model's context)")
        ->check(CLI::Range(2, 1 << 24))->type_name("N");
    command->add_flag("--json", options->json,
                      "print JSON: perplexity, tokens (scored), nats (of all), nats_per_token, chunk, chunks, seconds");
    command->callback([options, &context] { perplexity(*options, context); });
}

}  // namespace cli
