// How fast text becomes tokens, on one thread: the small vocabularies of the tests, and where the environment names them those of
// SmolLM2 (byte-level BPE) and Gemma 3 (SentencePiece BPE, 262,144 tokens).
//
//     cmake --preset native && cmake --build build-native --target benchmark_bench_tokenizer
//     ADAINFER_SMOLLM2=... ADAINFER_GEMMA3=... ADAINFER_TEXT=text.txt build-native/tests/benchmarks/bench_tokenizer
//
// ADAINFER_VOCABULARY names a GGUF file of any other. ADAINFER_TEXT names the text, English being the case to look at; without it, it is the little text of the tests, repeated.
// bytes_per_second is what to compare. The same text through Hugging Face tokenizers, for comparison:
//     TOKENIZERS_PARALLELISM=false python3 tests/fixtures/time_tokenizers.py tokenizer.json text.txt
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"

namespace {

std::string fixtures() {
    const std::string here = __FILE__;
    return here.substr(0, here.find_last_of("/\\") + 1) + "../fixtures/";
}

std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string() : value;
}

std::string the_text() {
    const std::string named = environment("ADAINFER_TEXT");
    if (!named.empty()) return contents(named);
    const std::string little = contents(fixtures() + "smollm2_text.txt");
    std::string text;
    while (!little.empty() && text.size() < (std::size_t{1} << 20U)) text += little;
    return text;
}

void add(const std::string& name, const std::string& path, const std::string& text) {
    const auto encode = [path, text](benchmark::State& state) {
        const adainfer::Tokenizer tokenizer = adainfer::load_tokenizer(adainfer::GgufFile::open(path));
        std::size_t tokens = 0;
        for (auto _ : state) tokens = tokenizer.encode(text, {.parse_special = false}).size();
        state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
        state.counters["bytes/token"] = static_cast<double>(text.size()) / static_cast<double>(tokens);
    };
    const auto load = [path](benchmark::State& state) {
        const adainfer::GgufFile file = adainfer::GgufFile::open(path);
        for (auto _ : state) benchmark::DoNotOptimize(adainfer::load_tokenizer(file).vocab_size());
    };
    benchmark::RegisterBenchmark((name + "/encode").c_str(), encode)->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark((name + "/load").c_str(), load)->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    try {
        const std::string text = the_text();
        if (text.empty()) {
            std::fputs("bench_tokenizer: no text\n", stderr);
            return 1;
        }
        add("sentencepiece_1000", fixtures() + "tokenizer_sentencepiece.gguf", text);
        add("unigram_1000", fixtures() + "tokenizer_unigram.gguf", text);
        for (const auto& [name, variable] : {std::pair{"smollm2", "ADAINFER_SMOLLM2"}, std::pair{"gemma3", "ADAINFER_GEMMA3"},
                                             std::pair{"vocabulary", "ADAINFER_VOCABULARY"}}) {
            const std::string path = environment(variable);
            if (!path.empty()) add(name, path, text);
        }
        benchmark::AddCustomContext("text", std::to_string(text.size()) + " bytes");
        benchmark::RunSpecifiedBenchmarks();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
        return 1;
    }
    benchmark::Shutdown();
    return 0;
}
