#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/backend/simd.hpp"
#include "adainfer/model/cost.hpp"
#include "command.hpp"
#include "machine.hpp"
#include "with_model.hpp"

namespace cli {

namespace {

struct BenchOptions {
    ModelOptions model;
    std::vector<std::size_t> prompts{64, 256}, threads;
    std::size_t generated = 64, after = 256, repetitions = 5;
    bool machine = false, json = false;
};

/// One line of the table.
struct BenchRow {
    std::string model, backend, products, test;
    std::size_t threads = 0;
    double tokens_per_second = 0, spread = 0;  ///< median, and half the distance of the quartiles
    adainfer::Cost each{};                     ///< of one token
    std::size_t repacked_bytes = 0;            ///< of the model
    double repack_seconds = 0;
    double load_seconds = 0;                   ///< from the path to a model that can run, repacking included
    double share = 0;                          ///< of the measured bandwidth (tg) or peak of products (pp); 0: not asked for
};

double quantile(const std::vector<double>& sorted, double q) {
    const double at = q * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = (std::min)(below + 1, sorted.size() - 1);
    return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

/// The figures of `repetitions` runs of f, which returns its seconds for `tokens` tokens; one run before them is not counted.
template <class F>
void time(BenchRow& row, std::size_t tokens, std::size_t repetitions, F&& f) {
    static_cast<void>(f());
    std::vector<double> speeds;
    for (std::size_t i = 0; i < repetitions; ++i) speeds.push_back(static_cast<double>(tokens) / f());
    std::sort(speeds.begin(), speeds.end());
    row.tokens_per_second = quantile(speeds, 0.5);
    row.spread = (quantile(speeds, 0.75) - quantile(speeds, 0.25)) / 2;
}

/// Ordinary tokens without a pattern: what they say does not change what they cost.
std::vector<adainfer::TokenId> some_tokens(std::size_t n, std::size_t vocabulary) {
    std::vector<adainfer::TokenId> tokens;
    for (std::size_t i = 0; i < n; ++i) tokens.push_back(static_cast<adainfer::TokenId>((i * 7919 + 104'729) % vocabulary));
    return tokens;
}

std::vector<BenchRow> measure(const DenseModel& model, const BenchOptions& options, std::size_t threads, const Context& context) {
    const std::size_t vocabulary = model.config().vocabulary;
    const adainfer::KvType kv = options.model.kv_type();
    BenchRow common{model.config().name, options.model.backend, "exact", {}, threads};
    if (const auto* simd = model.decoder().backend().target<adainfer::SimdBackend>()) {
        common.products = to_string(simd->products());
        common.repacked_bytes = simd->repacked_bytes();
        common.repack_seconds = simd->repack_seconds();
    }
    std::vector<BenchRow> rows;
    for (const std::size_t n : options.prompts) {
        BenchRow row = common;
        row.test = "pp" + std::to_string(n);
        const adainfer::Cost all = adainfer::cost(model.decoder().weights(), {.tokens = n, .kv = kv}).dense();
        row.each = {all.bytes / n, all.multiply_adds / n};
        const std::vector<adainfer::TokenId> tokens = some_tokens(n, vocabulary);
        adainfer::Session session = model.new_session({.capacity = n, .kv = kv});
        time(row, n, options.repetitions, [&] {
            session.rewind(0);
            const Stopwatch watch;
            static_cast<void>(model.prefill_and_predict(session, tokens, {context.stop, {}}));
            return watch.seconds();
        });
        rows.push_back(row);
    }
    if (options.generated != 0) {
        BenchRow row = common;
        row.test = "tg" + std::to_string(options.generated);
        row.each = adainfer::cost(model.decoder().weights(), {.tokens = 1, .context = options.after + options.generated / 2, .kv = kv}).dense();
        adainfer::Session session = model.new_session({.capacity = options.after + options.generated, .kv = kv});
        if (options.after != 0) model.prefill(session, some_tokens(options.after, vocabulary), {context.stop, {}});
        const std::vector<adainfer::TokenId> tokens = some_tokens(options.generated, vocabulary);
        time(row, options.generated, options.repetitions, [&] {
            session.rewind(options.after);
            const Stopwatch watch;
            for (const adainfer::TokenId token : tokens) static_cast<void>(model.decode(session, token, {context.stop, {}}));
            return watch.seconds();
        });
        rows.push_back(row);
    }
    return rows;
}

Json to_json(const Machine& machine) {
    return {{"threads", machine.threads},
            {"cpu_level", to_string(machine.level)},
            {"read_bytes_per_second", machine.read_bytes_per_second},
            {"float_multiply_adds_per_second", machine.float_multiply_adds},
            {"bfloat16_multiply_adds_per_second", machine.bfloat16_multiply_adds},
            {"int8_multiply_adds_per_second", machine.int8_multiply_adds}};
}

void print_machine(const Machine& machine) {
    std::cout << machine.threads << (machine.threads == 1 ? " thread, " : " threads, ") << to_string(machine.level) << ": reads "
              << fixed(machine.read_bytes_per_second / 1e9, 1) << " GB/s, float products "
              << fixed(2e-9 * machine.float_multiply_adds, 0) << " GFLOP/s";
    if (machine.bfloat16_multiply_adds > 0) std::cout << ", bfloat16 products " << fixed(2e-9 * machine.bfloat16_multiply_adds, 0) << " GFLOP/s";
    if (machine.int8_multiply_adds > 0) std::cout << ", 8-bit products " << fixed(2e-9 * machine.int8_multiply_adds, 0) << " GOP/s";
    std::cout << '\n';
}

void bench(BenchOptions options, const Context& context) {
    if (options.threads.empty()) options.threads = {options.model.threads};
    Json json = Json::array();
    if (options.model.path.empty() && !options.machine) throw UsageError("name a MODEL, or ask for --machine");
    if (!options.json && !options.model.path.empty()) {
        std::cout << "| model | backend | products | threads | test | tokens/s | spread |" << (options.machine ? " of peak |" : "") << '\n'
                  << "|---|---|---|---|---|---|---|" << (options.machine ? "---|" : "") << '\n';
    }
    std::vector<Machine> machines;
    for (const std::size_t threads : options.threads) {
        if (options.machine) machines.push_back(measure_machine(threads));
        if (options.model.path.empty()) continue;
        options.model.threads = threads;
        std::vector<BenchRow> rows;
        const Stopwatch loading;
        with_model(options.model, context, [&](const DenseModel& model, const adainfer::Tokenizer&) {
            const double load_seconds = loading.seconds();
            rows = measure(model, options, threads, context);
            for (BenchRow& row : rows) row.load_seconds = load_seconds;
        });
        if (!options.json && !rows.empty()) {
            std::cerr << "loaded in " << fixed(rows[0].load_seconds, 2) << " s";
            if (rows[0].repacked_bytes != 0) {
                std::cerr << ", " << fixed(rows[0].repack_seconds, 2) << " s of it for repacking "
                          << as_bytes(static_cast<double>(rows[0].repacked_bytes)) << " of weights";
            }
            std::cerr << '\n';
        }
        for (BenchRow& row : rows) {
            if (options.machine) {
                const bool decode = row.test.starts_with("tg");
                const auto each = static_cast<double>(decode ? row.each.bytes : row.each.multiply_adds);
                const double most = decode ? machines.back().read_bytes_per_second : machines.back().multiply_adds(row.products);
                row.share = row.tokens_per_second * each / most;
            }
            if (options.json) {
                json.push_back({{"model", row.model}, {"backend", row.backend}, {"products", row.products}, {"threads", row.threads}, {"kv", options.model.kv}, {"test", row.test},
                                {"tokens_per_second", row.tokens_per_second}, {"spread", row.spread}, {"load_seconds", row.load_seconds}});
                if (options.machine) json.back()["share_of_peak"] = row.share;
                if (row.repacked_bytes != 0) {
                    json.back()["repacked_bytes"] = row.repacked_bytes;
                    json.back()["repack_seconds"] = row.repack_seconds;
                }
                continue;
            }
            std::cout << "| " << row.model << " | " << row.backend << " | " << row.products << " | " << row.threads << " | " << row.test
                      << (options.model.kv == "f32" ? "" : ", " + options.model.kv + " KV") << " | "
                      << fixed(row.tokens_per_second, 1) << " | " << fixed(row.spread, 1) << " |"
                      << (options.machine ? " " + fixed(100 * row.share, 0) + " % |" : "") << std::endl;
        }
    }
    for (const Machine& machine : machines) {
        if (options.json) json.push_back(to_json(machine));
        else print_machine(machine);
    }
    if (options.json) print(json);
}

}  // namespace

void add_bench(CLI::App& app, const Context& context) {
    auto* command = app.add_subcommand("bench", "How fast a model runs, dense, on this machine");
    auto options = std::make_shared<BenchOptions>();
    options->model.add_to(*command);
    options->model.add_kv_to(*command);
    command->get_option("MODEL")->required(false);
    command->remove_option(command->get_option("--threads"));
    command->add_option("--threads", options->threads, "thread counts to measure, e.g. 1,2 (default: all)")
        ->delimiter(',')->check(CLI::Range(1, 1024))->type_name("N,...");
    command->add_option("-p", options->prompts, "prompt lengths, each a row ppN")
        ->delimiter(',')->check(CLI::Range(1, 1 << 20))->type_name("N,...")->capture_default_str();
    command->add_option("-n", options->generated, "tokens to decode, a row tgN; 0: none")->type_name("N")->capture_default_str();
    command->add_option("--after", options->after, "positions in the session before the decoded tokens")->type_name("N")->capture_default_str();
    command->add_option("-r", options->repetitions, "runs of each; the median counts")->check(CLI::Range(1, 1000))->type_name("N")->capture_default_str();
    command->add_flag("--machine", options->machine,
                      "measure memory bandwidth and product peak too; rows then say what share of the bandwidth (tg) or of the peak of their products (pp) they reach");
    command->add_flag("--json", options->json, "print JSON: an array of {model, backend, products, threads, kv, test, tokens_per_second, spread, load_seconds}");
    command->callback([options, &context] { bench(*options, context); });
}

}  // namespace cli
