// Prefill, decode and prediction behind a cached prefix, in tokens/s: the real model and synthetic Llama shapes.
//
//     ADAINFER_SMOLLM2=models/SmolLM2-135M-Instruct.Q4_1.gguf build/tests/benchmarks/bench_model
//         [--benchmark_filter=smollm2] [--benchmark_repetitions=5 --benchmark_report_aggregates_only=true]
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/adainfer.hpp"

namespace {

using namespace adainfer;

/// A Llama shape whose matrices are random q8_0 blocks: fast to make, and as many bytes as a real file.
ModelWeights synthetic(std::size_t layers, std::size_t hidden, std::size_t heads, std::size_t kv_heads, std::size_t feed_forward) {
    ModelWeights model;
    model.config.architecture = "llama";
    model.config.name = "synthetic";
    model.config.layers = layers;
    model.config.hidden = hidden;
    model.config.heads = heads;
    model.config.kv_heads = kv_heads;
    model.config.head_dim = hidden / heads;
    model.config.feed_forward = feed_forward;
    model.config.vocabulary = 32000;
    model.config.context = 2048;
    model.config.attention_scale = 0.125F;
    model.config.rope.dims = model.config.head_dim;
    auto storage = std::make_shared<std::vector<std::vector<std::byte>>>();
    std::uint64_t state = 1;
    const auto matrix = [&](std::size_t rows, std::size_t cols) {
        std::vector<std::byte> bytes(rows * row_bytes(DType::Q8_0, cols));
        for (std::byte& byte : bytes) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            byte = static_cast<std::byte>(state >> 56U);
        }
        const std::uint16_t scale = f32_to_f16(0.02F / 127);
        for (std::size_t block = 0; block < bytes.size(); block += 34) std::memcpy(bytes.data() + block, &scale, 2);
        storage->push_back(std::move(bytes));
        return LinearWeights{{DType::Q8_0, rows, cols, storage->back().data()}, {}};
    };
    const ModelConfig& c = model.config;
    model.head = matrix(c.vocabulary, hidden);
    model.token_embedding = model.head.weight;
    const std::vector<float> ones(hidden, 1.0F);
    for (std::size_t i = 0; i < layers; ++i) {
        model.layers.push_back({ones, matrix(c.q_size(), hidden), matrix(c.kv_size(), hidden), matrix(c.kv_size(), hidden), matrix(hidden, c.q_size()),
                                ones, matrix(feed_forward, hidden), matrix(feed_forward, hidden), matrix(hidden, feed_forward)});
    }
    model.final_norm = ones;
    model.identity = "synthetic";
    model.storage = storage;
    return model;
}

std::vector<TokenId> prompt(std::size_t n) {
    std::vector<TokenId> tokens(n);
    for (std::size_t i = 0; i < n; ++i) tokens[i] = static_cast<TokenId>(100 + 37 * i % 20000);
    return tokens;
}

void rate(benchmark::State& state, std::size_t tokens) {
    state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsIterationInvariantRate);
}

void prefill(benchmark::State& state, const ModelWeights& weights, std::size_t threads, std::size_t tokens) {
    const Model<EigenBackend> model(weights, {}, EigenBackend(threads));
    Session session = model.new_session(tokens);
    const std::vector<TokenId> ids = prompt(tokens);
    for (auto _ : state) {
        session.rewind(0);
        model.prefill(session, ids);
    }
    rate(state, tokens);
}

void decode(benchmark::State& state, const ModelWeights& weights, std::size_t threads, std::size_t after) {
    constexpr std::size_t tokens = 16;
    const Model<EigenBackend> model(weights, {}, EigenBackend(threads));
    Session session = model.new_session(after + tokens);
    model.prefill(session, prompt(after));
    for (auto _ : state) {
        session.rewind(after);
        for (std::size_t i = 0; i < tokens; ++i) benchmark::DoNotOptimize(model.decode(session, static_cast<TokenId>(100 + i)).token);
    }
    rate(state, tokens);
}

void predict(benchmark::State& state, const ModelWeights& weights, std::size_t threads) {
    constexpr std::size_t prefix = 200, tokens = 30;
    const Model<EigenBackend> model(weights, {}, EigenBackend(threads));
    Session session = model.new_session(prefix + tokens);
    model.prefill(session, prompt(prefix));
    const std::vector<TokenId> rest = prompt(tokens), labels{100, 200};
    for (auto _ : state) benchmark::DoNotOptimize(model.predict(session, rest, labels).token);
    rate(state, tokens);
}

void add(const std::string& name, std::shared_ptr<const ModelWeights> weights) {
    for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
        const std::string suffix = "/threads:" + std::to_string(threads);
        for (const std::size_t tokens : {std::size_t{64}, std::size_t{256}}) {
            benchmark::RegisterBenchmark((name + "/prefill" + std::to_string(tokens) + suffix).c_str(),
                                         [=](benchmark::State& state) { prefill(state, *weights, threads, tokens); })->UseRealTime()->Unit(benchmark::kMillisecond);
        }
        benchmark::RegisterBenchmark((name + "/decode16after256" + suffix).c_str(),
                                     [=](benchmark::State& state) { decode(state, *weights, threads, 256); })->UseRealTime()->Unit(benchmark::kMillisecond);
        benchmark::RegisterBenchmark((name + "/predict30after200" + suffix).c_str(),
                                     [=](benchmark::State& state) { predict(state, *weights, threads); })->UseRealTime()->Unit(benchmark::kMillisecond);
    }
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (const char* path = std::getenv("ADAINFER_SMOLLM2"); path != nullptr && *path != '\0') {
        add("smollm2", std::make_shared<const ModelWeights>(load_weights(GgufFile::open(path))));
    } else {
        std::puts("ADAINFER_SMOLLM2 is not set: no benchmark of the real model");
    }
    add("llama-110M-q8_0", std::make_shared<const ModelWeights>(synthetic(12, 768, 12, 12, 2048)));
    add("llama-1.1B-q8_0", std::make_shared<const ModelWeights>(synthetic(22, 2048, 32, 4, 5632)));
    benchmark::RunSpecifiedBenchmarks();
}
