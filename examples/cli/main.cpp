#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <iostream>
#include <mutex>
#include <new>
#include <stop_token>
#include <string>
#include <thread>

#include "adainfer/core/version.hpp"
#include "command.hpp"

namespace {

constexpr int ok = 0, failed = 1, usage = 2;

std::atomic<bool> interrupted{false};  // all that a signal handler may touch
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_interrupt(int signal) {
    interrupted.store(true);
    std::signal(signal, SIG_DFL);  // the second Ctrl-C ends the process at once
}

/// Turns Ctrl-C into a stop request. A thread passes it on, because a signal handler must not.
class Interrupts {
  public:
    Interrupts() { std::signal(SIGINT, on_interrupt); }

    [[nodiscard]] std::stop_token token() const { return source_.get_token(); }

  private:
    std::stop_source source_;
    std::mutex mutex_;
    std::condition_variable_any wake_;
    std::jthread watcher_{[this](const std::stop_token& end) {
        std::unique_lock lock(mutex_);
        while (!end.stop_requested()) {
            if (wake_.wait_for(lock, end, std::chrono::milliseconds(20), [] { return interrupted.load(); })) {
                source_.request_stop();
                return;
            }
        }
    }};
};

int report(int code, const std::string& message, const std::string& advice = {}) {
    std::cout.flush();
    std::cerr << "adainfer: " << message << '\n';
    if (!advice.empty()) std::cerr << "  " << advice << '\n';
    return code;
}

int run(int argc, char** argv) {
    CLI::App app("Early-exit inference of language models on the CPU", "adainfer");
    const auto [major, minor, patch] = adainfer::version;
    app.set_version_flag("--version", std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch));
    app.require_subcommand(1);
    app.footer("Results go to standard output, everything else to standard error. Exit codes: 0, 1 (failed), 2 (usage).");

    Interrupts interrupts;
    const cli::Context context{interrupts.token()};
    cli::add_inspect(app, context);
    cli::add_tokenize(app, context);
    cli::add_run(app, context);
    cli::add_chat(app, context);
    cli::add_perplexity(app, context);
    cli::add_classify(app, context);
    cli::add_trace(app, context);
    cli::add_lens(app, context);
    cli::add_train(app, context);
    cli::add_evaluate(app, context);
    cli::add_influence(app, context);
    cli::add_bench(app, context);
    cli::add_plot(app, context);

    const auto help_of = [&app] {
        std::string command = "adainfer";
        for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
        return "for help: " + command + " --help";
    };
    try {
        app.parse(argc, argv);
        if (!std::cout.flush()) return report(failed, "cannot write to standard output");
        return ok;
    } catch (const CLI::Success& asked) {  // --help, --version
        return app.exit(asked);
    } catch (const CLI::ParseError& error) {
        if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-') {
            return report(usage, "there is no command '" + std::string(argv[1]) + "'", help_of());
        }
        return report(usage, error.what(), help_of());
    } catch (const cli::UsageError& error) {
        return report(usage, error.what(), help_of());
    } catch (const cli::Failure& error) {
        return report(failed, error.what(), error.advice());
    } catch (const adainfer::Error& error) {
        return report(failed, error.code() == adainfer::ErrorCode::Cancelled ? "cancelled" : error.what());
    } catch (const std::bad_alloc&) {
        return report(failed, "out of memory", "try a smaller model, fewer tokens (-n, --chunk) or a shorter prompt");
    } catch (const std::exception& error) {
        return report(failed, error.what());
    }
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv); }
