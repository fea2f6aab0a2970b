#include "command.hpp"

#include <array>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <system_error>
#include <thread>

#include "adainfer/eval/policy_spec.hpp"
#include "adainfer/generate/chat.hpp"
#include "adainfer/io/mapped_file.hpp"

namespace cli {

using adainfer::Error;
using adainfer::ErrorCode;

void ModelOptions::add_to(CLI::App& command) {
    threads = (std::max)(std::thread::hardware_concurrency(), 1U);
    command.add_option("model", path, "model file (GGUF)")->required()->type_name("MODEL");
    command.add_option("--backend", backend, "what computes: eigen, xtensor or reference (slow and plain)")
        ->check(CLI::IsMember({"eigen", "xtensor", "reference"}))
        ->type_name("NAME")
        ->capture_default_str();
    command.add_option("--threads", threads, "threads to compute with")
        ->check(CLI::Range(1, 1024))
        ->type_name("N")
        ->capture_default_str();
}

adainfer::ModelFile load(const std::string& path, const Context& context) {
    ProgressBar bar;
    try {
        return adainfer::load_model(path, {bar.callback(), context.stop});
    } catch (const Error& error) {
        std::error_code ignored;
        if (!std::filesystem::exists(path, ignored)) {
            throw Failure(error.what(), "fetch a model with: examples/get_model.sh smollm2");
        }
        if (error.code() == ErrorCode::CorruptFile) {
            throw Failure(error.what(), "the file may be incomplete: fetch it again, e.g. with examples/get_model.sh smollm2");
        }
        throw;
    }
}

adainfer::AnyPolicy make_policy(const std::string& spec, const adainfer::ModelWeights& weights, const adainfer::Task* task) {
    try {
        adainfer::AnyPolicy policy = adainfer::parse_policy_spec(spec, weights).make(task);
        policy.check_model(weights);
        return policy;
    } catch (const Error& error) {
        if (error.code() == ErrorCode::InvalidArgument) throw UsageError(error.what());
        throw;
    }
}

CLI::Option* add_policy_option(CLI::App& command, std::string& spec) {
    return command
        .add_option("--policy", spec,
                    "when to exit: dense, fixed:N (after N layers), gap:T, top:T (where gap or top probability exceed T), "
                    "entropy:T (below T nats), patience:K (K checks of one mind), saturation:T (hidden state turned less than "
                    "cosine T), oracle, each with ,lens=LENS ,head=full|candidates|shortlist ,layers=A-B/S if wanted; or a policy "
                    "file")
        ->type_name("SPEC")
        ->capture_default_str();
}

std::vector<adainfer::TokenId> encode_prompt(const adainfer::Tokenizer& tokenizer, const std::string& prompt, bool chat,
                                             const std::string& system) {
    if (prompt.empty()) throw UsageError("the prompt is empty");
    std::string text = prompt;
    if (chat) {
        std::vector<adainfer::ChatMessage> messages;
        if (!system.empty()) messages.push_back({"system", system});
        messages.push_back({"user", prompt});
        text = adainfer::render_chat(tokenizer, messages);
    }
    return tokenizer.encode(text, {.parse_special = true, .add_bos = tokenizer.adds_bos()});
}

std::string read_text(const std::string& path) {
    if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
    const adainfer::MappedFile file = adainfer::MappedFile::open(path);
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

namespace {
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
}  // namespace

std::string quoted(std::string_view text) { return dump(Json(text)); }

std::string fixed(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string as_bytes(double bytes) {
    constexpr std::array units{"bytes", "kB", "MB", "GB", "TB"};
    std::size_t unit = 0;
    for (; bytes >= 1000 && unit + 1 < units.size(); ++unit) bytes /= 1000;
    return fixed(bytes, unit == 0 ? 0 : 1) + " " + units[unit];
}

void print(const Json& json) { std::cout << dump(json) << '\n'; }

}  // namespace cli
