#include "command.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <system_error>
#include <thread>

#include "adainfer/generate/chat.hpp"
#include "adainfer/io/any_model.hpp"
#include "progress_bar.hpp"

namespace cli {

using adainfer::Error;
using adainfer::ErrorCode;

void ModelOptions::add_to(CLI::App& command) {
    threads = (std::max)(std::thread::hardware_concurrency(), 1U);
    command.add_option("MODEL", path, "model: a GGUF file, or a folder from Hugging Face")->required()->type_name("MODEL");
    command.add_option("--backend", backend, "what computes: simd (own kernels), eigen, xtensor or reference (slow and plain)")
        ->check(CLI::IsMember({"simd", "eigen", "xtensor", "reference"}))
        ->type_name("NAME")
        ->capture_default_str();
    command.add_option("--products", products,
                       "how simd multiplies prompts: exact (as it does single tokens), bfloat16, bits12 (activations rounded to 16 "
                       "bits, weights of floats to 12), bits8 (activations rounded to 8 bits), or fast (bfloat16 where the CPU is "
                       "fast at it, else bits12)")
        ->check(CLI::IsMember({"fast", "exact", "bfloat16", "bits12", "bits8"}))
        ->type_name("HOW")
        ->capture_default_str();
    command.add_flag("--no-repack", no_repack,
                     "leave quantised weights as the file has them: simd then starts at once and decodes slower");
    command.add_flag("--no-mmap", no_mmap,
                     "read the model file instead of mapping it: for one that others may change while it is in use");
    command.add_option("--threads", threads, "threads to compute with")
        ->check(CLI::Range(1, 1024))
        ->type_name("N")
        ->capture_default_str();
}

void ModelOptions::add_kv_to(CLI::App& command) {
    command.add_option("--kv", kv, "how a session keeps keys and values: f32, f16 (half the memory) or q8_0 (a quarter)")
        ->check(CLI::IsMember({"f32", "f16", "q8_0"}))
        ->type_name("TYPE")
        ->capture_default_str();
}

adainfer::KvType ModelOptions::kv_type() const {
    if (kv == "f16") return adainfer::KvType::F16;
    return kv == "q8_0" ? adainfer::KvType::Q8_0 : adainfer::KvType::F32;
}

void throw_with_advice(const Error& error, const std::string& path) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) throw Failure(error.what(), "fetch a model with: examples/get_model.sh smollm2");
    if (std::filesystem::is_directory(path, ignored)) {
        throw Failure(error.what(), "a folder needs config.json, tokenizer.json and model.safetensors (or its index and shards)");
    }
    if (error.code() == ErrorCode::CorruptFile) {
        throw Failure(error.what(), "is the file complete? fetch a good one with: examples/get_model.sh smollm2");
    }
    throw error;
}

adainfer::ModelFile load(const ModelOptions& model, const Context& context) {
    ProgressBar bar;
    return reading(model.path, [&] { return adainfer::load_any_model(model.path, {bar.callback(), context.stop, model.access()}); });
}

adainfer::NamedPolicy name_policy(const std::string& spec, const adainfer::ModelWeights& weights) {
    try {
        return adainfer::parse_policy_spec(spec, weights);
    } catch (const Error& error) {
        if (error.code() == ErrorCode::InvalidArgument) throw UsageError(error.what());
        throw;
    }
}

Policy make_policy(const std::string& spec, const adainfer::ModelWeights& weights, const std::string& task) {
    const adainfer::NamedPolicy named = name_policy(spec, weights);
    if (!named.make) throw UsageError("policy '" + spec + "' is found by trying, which only `adainfer evaluate` does");
    return named.make(task);
}

CLI::Option* add_policy_option(CLI::App& command, std::string& spec) {
    return command.add_option("--policy", spec, "when to exit: " + std::string(adainfer::policy_spec_forms))
        ->type_name("SPEC")
        ->capture_default_str();
}

std::vector<adainfer::TokenId> encode_prompt(const adainfer::Tokenizer& tokenizer, const std::string& prompt, bool chat,
                                             const std::string& system) {
    if (prompt.empty()) throw UsageError("the prompt is empty");
    if (chat) {
        std::vector<adainfer::ChatMessage> messages;
        if (!system.empty()) messages.push_back({"system", system});
        messages.push_back({"user", prompt});
        return adainfer::encode_chat(tokenizer, adainfer::render_chat(tokenizer, messages));
    }
    return tokenizer.encode(prompt, {.parse_special = true, .add_bos = tokenizer.adds_bos()});
}

std::string read_text(const std::string& path) {
    if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
    std::error_code problem;
    if (std::filesystem::is_directory(path, problem)) adainfer::fail(ErrorCode::Io, "cannot read '", path, "': it is a folder");
    errno = 0;
    std::ifstream file(path, std::ios::binary);  // not mapped: pipes are welcome
    if (!file) adainfer::fail(ErrorCode::Io, "cannot read '", path, "': ", std::generic_category().message(errno));
    return {std::istreambuf_iterator<char>(file), {}};
}

namespace {
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }
}  // namespace

std::string quote(std::string_view text) { return dump(Json(text)); }

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
