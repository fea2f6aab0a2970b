#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/any_policy.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/eval/policy_spec.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/tensor/kv_type.hpp"
#include "adainfer/tokenize/tokenizer.hpp"

// What the commands of `adainfer` share. A command is one file, one function declared at the end of this header, and one line
// in main.cpp:
//
//     #include "with_model.hpp"
//     namespace cli {
//     namespace {
//     struct CountOptions { ModelOptions model; std::string prompt; bool json = false; };
//
//     void count(const CountOptions& options, const Context& context) {
//         with_model(options.model, context, [&](const auto& model, const adainfer::Tokenizer& tokenizer) {
//             ... results to std::cout, everything else to std::cerr, problems as adainfer::Error or UsageError ...
//         });
//     }
//     }  // namespace
//
//     void add_count(CLI::App& app, const Context& context) {
//         auto* command = app.add_subcommand("count", "what it does, in one line");
//         auto options = std::make_shared<CountOptions>();
//         options->model.add_to(*command);
//         command->add_option("--prompt", options->prompt, "...")->required();
//         command->add_flag("--json", options->json, "print JSON");
//         command->callback([options, &context] { count(*options, context); });
//     }
//     }  // namespace cli
//
// Exit codes are main.cpp's business: 0; 1 for any exception; 2 for UsageError and what CLI11 refuses.

namespace cli {

using Json = nlohmann::ordered_json;

/// What every command is given.
struct Context {
    std::stop_token stop;  ///< requested by Ctrl-C; hand it to every call that takes one
};

/// The command line itself is wrong.
class UsageError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Something failed and there is something to do about it.
class Failure : public std::runtime_error {
  public:
    Failure(const std::string& message, std::string advice) : std::runtime_error(message), advice_(std::move(advice)) {}
    [[nodiscard]] const std::string& advice() const noexcept { return advice_; }

  private:
    std::string advice_;
};

/// MODEL, --backend, --products, --no-repack and --threads; --kv where a command keeps sessions for its user.
struct ModelOptions {
    std::string path;
    std::string backend = "simd";
    std::string products = "fast";  ///< of SimdBackend
    bool no_repack = false;         ///< of SimdBackend
    bool no_mmap = false;
    std::size_t threads = 0;  ///< set by add_to() to what the machine has
    std::string kv = "f32";

    void add_to(CLI::App& command);
    void add_kv_to(CLI::App& command);

    /// What --no-mmap says.
    [[nodiscard]] adainfer::FileAccess access() const noexcept {
        return no_mmap ? adainfer::FileAccess::Read : adainfer::FileAccess::Map;
    }

    /// What --kv says.
    [[nodiscard]] adainfer::KvType kv_type() const;
};

/// Throws the error of reading the model file `path` again, as a Failure where it is missing or broken.
[[noreturn]] void throw_with_advice(const adainfer::Error& error, const std::string& path);

/// f(), which reads the model file `path`.
template <class F>
auto reading(const std::string& path, F&& f) {
    try {
        return f();
    } catch (const adainfer::Error& error) {
        throw_with_advice(error, path);
    }
}

/// Reads a model file, with progress.
[[nodiscard]] adainfer::ModelFile load(const ModelOptions& model, const Context& context);

/// What parse_policy_spec() makes.
using Policy = adainfer::Scheduled<adainfer::AnyPolicy>;

/// parse_policy_spec(), which throws UsageError here where `spec` is none.
[[nodiscard]] adainfer::NamedPolicy name_policy(const std::string& spec, const adainfer::ModelWeights& weights);

/// The policy itself, for commands that run one. `task` chooses among the thresholds of a policy file.
[[nodiscard]] Policy make_policy(const std::string& spec, const adainfer::ModelWeights& weights, const std::string& task = {});

/// --policy with its help.
CLI::Option* add_policy_option(CLI::App& command, std::string& spec);

/// The tokens of a prompt: as it is, or as the user's turn of the model's chat template (after a system turn, if there is one).
/// Special tokens written out in it are recognised. Throws UsageError where it is empty.
[[nodiscard]] std::vector<adainfer::TokenId> encode_prompt(const adainfer::Tokenizer& tokenizer, const std::string& prompt,
                                                           bool chat = false, const std::string& system = {});

/// The bytes of a file, or of standard input for "-". Throws Error (Io).
[[nodiscard]] std::string read_text(const std::string& path);

/// Text between quotes, with control characters and quotes escaped; U+FFFD for what is not UTF-8.
[[nodiscard]] std::string quote(std::string_view text);

/// A number with so many digits after the point.
[[nodiscard]] std::string fixed(double value, int digits);

/// 1234567 as "1.2 MB".
[[nodiscard]] std::string as_bytes(double bytes);

/// One line on standard output. What is not UTF-8 becomes U+FFFD.
void print(const Json& json);

/// Seconds since it was made.
class Stopwatch {
  public:
    [[nodiscard]] double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void add_inspect(CLI::App& app, const Context& context);
void add_tokenize(CLI::App& app, const Context& context);
void add_run(CLI::App& app, const Context& context);
void add_chat(CLI::App& app, const Context& context);
void add_perplexity(CLI::App& app, const Context& context);
void add_classify(CLI::App& app, const Context& context);
void add_trace(CLI::App& app, const Context& context);
void add_lens(CLI::App& app, const Context& context);
void add_train(CLI::App& app, const Context& context);
void add_evaluate(CLI::App& app, const Context& context);
void add_influence(CLI::App& app, const Context& context);
void add_bench(CLI::App& app, const Context& context);
void add_plot(CLI::App& app, const Context& context);

}  // namespace cli
