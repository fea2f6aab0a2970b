#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

#include "adainfer/generate/conversation.hpp"
#include "command.hpp"
#include "cost_warning.hpp"
#include "progress_bar.hpp"
#include "sampling_arguments.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

constexpr std::size_t usual_context = 4096;

struct ChatOptions {
    ModelOptions model;
    std::string system, policy = "dense";
    bool json = false;
    std::size_t tokens = 512, context = 0;
    SamplingArguments sampling;
};

bool stdin_is_terminal() {
#if defined(_WIN32)
    return _isatty(_fileno(stdin)) != 0;
#else
    return isatty(STDIN_FILENO) != 0;
#endif
}

std::atomic<bool> answer_interrupted{false};  // all that a signal handler may touch

extern "C" void on_answer_interrupt(int signal) {
    answer_interrupted.store(true);
    std::signal(signal, SIG_DFL);  // the second Ctrl-C ends the process at once
}

/// While it lives, Ctrl-C ends the answer; between answers it ends the process.
class AnswerInterrupts {
  public:
    AnswerInterrupts() {
        answer_interrupted.store(false);
        std::signal(SIGINT, on_answer_interrupt);
    }
    AnswerInterrupts(const AnswerInterrupts&) = delete;
    AnswerInterrupts& operator=(const AnswerInterrupts&) = delete;
    ~AnswerInterrupts() { std::signal(SIGINT, SIG_DFL); }
};

/// One turn: the answer to standard output as it comes, or one JSON object when it is there.
template <class Model>
void take_turn(adainfer::Conversation<Model>& conversation, const std::string& line, const ChatOptions& options,
               const Context& context, bool terminal, std::size_t layers) {
    std::optional<AnswerInterrupts> interrupts;
    if (terminal) interrupts.emplace();
    std::stop_source stop;
    ProgressBar bar;
    adainfer::GenerateOptions how;
    how.max_new_tokens = options.tokens;
    how.sampling = options.sampling.options;
    how.seed = options.sampling.seed;
    how.run.stop = terminal ? stop.get_token() : context.stop;
    how.run.progress = [&, show = bar.callback()](const adainfer::ProgressEvent& event) {
        if (answer_interrupted.load()) stop.request_stop();
        if (show) show(event);
    };

    const Stopwatch watch;
    std::optional<double> first;
    bool shown = false;
    adainfer::ChatReply reply;
    try {
        reply = conversation.say(line, how, [&](std::string_view text) {
            if (!first) {
                first = watch.seconds();
                bar.clear();
            }
            if (!options.json) std::cout << text << std::flush;
            shown = !options.json;
            return answer_interrupted.load() ? adainfer::Flow::Stop : adainfer::Flow::Continue;
        });
    } catch (...) {
        if (shown) std::cout << std::endl;  // the message begins on a line of its own
        throw;
    }
    bar.clear();
    const double seconds = watch.seconds();
    if (options.json) {
        print({{"prompt_tokens", reply.prompt_tokens},
               {"reused_tokens", reply.reused_tokens},
               {"text", reply.text},
               {"exit_layers", reply.exit_layers},
               {"layers", layers},
               {"mean_layers", reply.result.mean_layers},
               {"prompt_seconds", first.value_or(seconds)},
               {"seconds", seconds},
               {"finish_reason", std::string(to_string(reply.result.reason))}});
        std::cout.flush();
    } else {
        std::cout << std::endl;
    }
    if (reply.result.reason == adainfer::FinishReason::ContextFull) {
        std::cerr << "The context of " << conversation.session().capacity() << " tokens is full. /reset begins anew.\n";
    } else if (reply.result.reason == adainfer::FinishReason::MaxTokens && !options.json) {
        std::cerr << "The answer was cut after " << options.tokens << " tokens (-n).\n";
    }
}

/// The system message changes what the model reads. Throws Failure where the template takes none.
void check_system(const adainfer::ChatTemplate& chat_template, const std::string& system) {
    const std::vector<adainfer::ChatMessage> with{{"system", system}, {"user", "x"}}, without{{"user", "x"}};
    try {
        if (chat_template.render(with) != chat_template.render(without)) return;
    } catch (const adainfer::Error& error) {
        throw Failure(error.what(), "leave out --system");
    }
    throw Failure("this model's " + std::string(chat_template.family()) + " template leaves the system message out",
                  "leave out --system");
}

template <class Model>
void converse(const Model& model, const adainfer::Tokenizer& tokenizer, const ChatOptions& options, const Context& context) {
    if (options.context > model.config().context) {
        throw UsageError("--context is " + std::to_string(options.context) + ", the model was made for " +
                         std::to_string(model.config().context) + " tokens");
    }
    const std::size_t capacity = options.context != 0 ? options.context : (std::min)(model.config().context, usual_context);
    const adainfer::SessionOptions session{.capacity = capacity, .kv = options.model.kv_type()};
    adainfer::Conversation<Model> conversation(model, tokenizer, options.system, session);
    if (!options.system.empty()) check_system(conversation.chat_template(), options.system);

    const bool terminal = stdin_is_terminal();
    const std::string advice = "the conversation is too long for --context " + std::to_string(capacity) +
                               ": /reset begins anew, a larger --context holds more (the model takes " +
                               std::to_string(model.config().context) + ")";
    if (terminal) {
        std::cerr << "A line is what you say. /reset begins anew, /exit ends; Ctrl-C ends an answer.\n";
        std::signal(SIGINT, SIG_DFL);
    }
    for (std::string line;;) {
        if (terminal) std::cerr << "> " << std::flush;
        if (!std::getline(std::cin, line)) break;
        if (line.ends_with('\r')) line.pop_back();
        if (line.find_first_not_of(" \t") == std::string::npos) continue;
        if (line == "/exit") return;
        if (line == "/reset") {
            conversation.reset();
            continue;
        }
        try {
            take_turn(conversation, line, options, context, terminal, model.config().layers);
        } catch (const adainfer::Error& error) {
            const bool full = error.code() == adainfer::ErrorCode::ContextOverflow;
            if (!terminal && full) throw Failure(error.what(), advice);
            if (!terminal || (!full && error.code() != adainfer::ErrorCode::Cancelled)) throw;
            std::cerr << (full ? std::string(error.what()) + "\n  " + advice : "Not answered.") << '\n';
        }
    }
    if (terminal) std::cerr << '\n';
}

void chat(const ChatOptions& options, const Context& context) {
    options.sampling.validate();
    with_model(options.model, context, [&](const DenseModel& dense, const adainfer::Tokenizer& tokenizer) {
        try {
            static_cast<void>(adainfer::ChatTemplate(tokenizer));
        } catch (const adainfer::Error& error) {
            throw Failure(error.what(), "continue text instead: adainfer run MODEL --prompt S");
        }
        const auto model = dense.with_policy(make_policy(options.policy, dense.decoder().weights()));
        warn_of_cost(options.policy, dense.decoder().weights(), model.policy());
        converse(model, tokenizer, options, context);
    });
}

}  // namespace

void add_chat(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("chat", "Talk with a model: a line of standard input is a turn, the answer follows");
    auto options = std::make_shared<ChatOptions>();
    options->model.add_to(*command);
    options->model.add_kv_to(*command);
    command->add_option("--system", options->system, "a system message in front of the conversation")->type_name("S");
    command->add_option("-n,--tokens", options->tokens, "most tokens of an answer")
        ->check(CLI::Range(1, 1'000'000))->type_name("N")->capture_default_str();
    command->add_option("--context", options->context,
                        "most tokens of the conversation; default: what the model was made for, at most " +
                            std::to_string(usual_context))
        ->check(CLI::Range(1, 1'000'000'000))->type_name("N");
    add_policy_option(*command, options->policy);
    options->sampling.add_to(*command);
    command->add_flag("--json", options->json,
                      "print one JSON object a turn: prompt_tokens (of the conversation up to the answer), reused_tokens (of "
                      "these, not run again), text, exit_layers (one a token), layers, mean_layers, prompt_seconds (until the "
                      "first text), seconds, finish_reason");
    command->footer("A line /reset begins a new conversation, /exit or the end of input ends. Empty lines are left out.");
    command->callback([options, &context] { chat(*options, context); });
}

}  // namespace cli
