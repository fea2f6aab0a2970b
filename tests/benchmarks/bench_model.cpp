// The real model, dense, on one and on two threads: prefill, decode, and a prediction behind a cached prefix.
//
//     cmake --preset native && cmake --build build-native --target benchmark_bench_model
//     ADAINFER_SMOLLM2=models/SmolLM2-135M-Instruct.Q4_1.gguf build-native/tests/benchmarks/bench_model
//
// `bash examples/get_model.sh smollm2` fetches the model. --benchmark_filter=decode runs a part, and
// --benchmark_repetitions=5 --benchmark_report_aggregates_only=true shows how far the numbers can be trusted.
// tokens/s is what to compare; bytes_per_second, of decode, counts each weight once a token.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>

#include "workloads.hpp"

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    const char* const path = std::getenv("ADAINFER_SMOLLM2");
    if (path == nullptr || !std::filesystem::exists(path)) {
        std::fputs("bench_model: skipped, ADAINFER_SMOLLM2 does not name the model file\n", stderr);
        return 0;
    }
    try {
        using namespace adainfer_benchmarks;
        constexpr std::size_t after = 256, decoded = 32, prefix = 200, rest = 30;
        const std::string model_file = path;
        Stage stage(after + decoded);
        for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
            const auto running = [&stage, model_file, threads]() -> Running& {
                return stage.get("smollm2", threads, [&] { return adainfer::load_model(model_file).weights; });
            };
            for (const std::size_t tokens : {std::size_t{64}, std::size_t{256}}) {
                add("smollm2/prefill" + std::to_string(tokens), threads,
                    [running, tokens](benchmark::State& state) { prefill(state, running(), tokens); });
            }
            add("smollm2/decode32_after256", threads,
                [running](benchmark::State& state) { decode(state, running(), after, decoded); });
            add("smollm2/predict30_after200", threads,
                [running](benchmark::State& state) { predict(state, running(), prefix, rest); });
        }
        benchmark::AddCustomContext("model", model_file);
        benchmark::RunSpecifiedBenchmarks();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_model: %s\n", error.what());
        return 1;
    }
    benchmark::Shutdown();
    return 0;
}
