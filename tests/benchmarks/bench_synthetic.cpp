// Prefill and decode of Llama shapes larger than the real model, with random weights: no file is needed.
//
//     cmake --preset native && cmake --build build-native --target benchmark_bench_synthetic
//     build-native/tests/benchmarks/bench_synthetic [--benchmark_filter=110M]
//
// The shapes: 110 million parameters (12 layers of width 768, tied head) and 1.1 billion (TinyLlama's: 22 layers of width 2048,
// 4 K/V heads), the latter not in f32, which would take 4.4 GB. One model is in memory at a time, 1.2 GB at most. Half a minute.
// tokens/s is what to compare; bytes_per_second, of decode, counts each weight once a token.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>

#include "random_weights.hpp"
#include "workloads.hpp"

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    try {
        using namespace adainfer_benchmarks;
        using adainfer::DType;
        constexpr std::size_t prompt_size = 64, decoded = 8;
        const adainfer::RandomModelOptions small{.layers = 12, .hidden = 768, .heads = 12, .kv_heads = 12, .head_dim = 64,
                                                 .feed_forward = 2048, .vocabulary = 32000, .context = 2048, .tied = true};
        const adainfer::RandomModelOptions large{.layers = 22, .hidden = 2048, .heads = 32, .kv_heads = 4, .head_dim = 64,
                                                 .feed_forward = 5632, .vocabulary = 32000, .context = 2048};
        struct Case {
            const char* name;
            adainfer::RandomModelOptions shape;
            DType dtype;
        };
        Stage stage(prompt_size + decoded);
        for (const Case& each : {Case{"llama-110M-f32", small, DType::F32}, Case{"llama-110M-q8_0", small, DType::Q8_0},
                                 Case{"llama-1.1B-q8_0", large, DType::Q8_0}, Case{"llama-1.1B-q4_0", large, DType::Q4_0}}) {
            for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
                const auto running = [&stage, each, threads]() -> Running& {
                    return stage.get(each.name, threads, [&] { return random_model(each.shape, each.dtype); });
                };
                const std::string name = each.name;
                add(name + "/prefill64", threads,
                    [running](benchmark::State& state) { prefill(state, running(), prompt_size); });
                add(name + "/decode8_after64", threads,
                    [running](benchmark::State& state) { decode(state, running(), prompt_size, decoded); });
            }
        }
        benchmark::RunSpecifiedBenchmarks();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_synthetic: %s\n", error.what());
        return 1;
    }
    benchmark::Shutdown();
    return 0;
}
