// The small steps that a pass is made of, at SmolLM2's sizes, and the tokenizer.
//
//     cmake --preset native && cmake --build build-native --target benchmark_bench_kernels
//     ADAINFER_SMOLLM2=models/SmolLM2-135M-Instruct.Q4_1.gguf build-native/tests/benchmarks/bench_kernels
//         [--benchmark_filter='dequantize|matmul']
//
// Only the tokenizer needs the model file; without it, it is left out with a message. bytes_per_second counts the stored bytes
// of weights and text, FLOP/s two operations a product. Unless a name says otherwise the data stay in the processor's cache.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "random_weights.hpp"

namespace {

using namespace adainfer;

constexpr std::size_t hidden_size = 576, kv_size = 192, feed_forward_size = 1536, vocabulary_size = 49152, layer_count = 30;

/// Normally distributed numbers, the same ones every time.
std::vector<float> normal_numbers(std::size_t n, float deviation = 1.0F) {
    std::mt19937 random(1);
    std::normal_distribution<float> distribution(0.0F, deviation);
    std::vector<float> values(n);
    for (float& value : values) value = distribution(random);
    return values;
}

void count_bytes(benchmark::State& state, std::size_t bytes) {
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

void count_items(benchmark::State& state, std::size_t items) {
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(items));
}

/// 16 rows of 1536 elements; items are elements.
void dequantize(benchmark::State& state, DType dtype) {
    constexpr std::size_t rows = 16, cols = 1536;
    adainfer_benchmarks::RandomWeights random;
    const WeightView weight = random.matrix(dtype, rows, cols, 0.04F);
    std::vector<float> row(cols);
    for (auto _ : state) {
        for (std::size_t i = 0; i < rows; ++i) {
            dequantize_row(dtype, weight.row(i), cols, row.data());
            benchmark::DoNotOptimize(row.data());
            benchmark::ClobberMemory();
        }
    }
    count_items(state, rows * cols);
    count_bytes(state, weight.bytes());
}

void dot_product(benchmark::State& state) {
    const auto n = static_cast<std::size_t>(state.range(0));
    std::vector<float> a = normal_numbers(n), b = a;
    for (auto _ : state) {
        benchmark::DoNotOptimize(a.data());
        benchmark::ClobberMemory();
        benchmark::DoNotOptimize(dot(a.data(), b.data(), n));
    }
    count_items(state, n);
}

void softmax_row(benchmark::State& state) {
    const auto n = static_cast<std::size_t>(state.range(0));
    const std::vector<float> logits = normal_numbers(n, 3.0F);
    std::vector<float> row(n);
    for (auto _ : state) {
        row = logits;  // softmax works in place; the copy is a small part of the time
        benchmark::DoNotOptimize(softmax(row.data(), n));
        benchmark::ClobberMemory();
    }
    count_items(state, n);
}

/// What a check reads from the logits of the whole vocabulary.
void top_two_row(benchmark::State& state, bool with_entropy) {
    const std::vector<float> logits = normal_numbers(vocabulary_size, 3.0F);
    for (auto _ : state) benchmark::DoNotOptimize(top_two(logits, with_entropy).top);
    count_items(state, vocabulary_size);
}

/// Y [tokens, out] = X [tokens, in] W^T.
void matmul(benchmark::State& state, DType dtype, std::size_t out, std::size_t in, std::size_t tokens, std::size_t threads) {
    adainfer_benchmarks::RandomWeights random;
    const EigenBackend backend(threads);
    const WeightView weight = backend.prepare(random.matrix(dtype, out, in, 0.04F));
    std::vector<float> x = normal_numbers(tokens * in), y(tokens * out);
    for (auto _ : state) {
        backend.matmul(weight, {x.data(), tokens, in}, {y.data(), tokens, out});
        benchmark::DoNotOptimize(y.data());
        benchmark::ClobberMemory();
    }
    count_bytes(state, weight.bytes());
    const auto operations = static_cast<double>(2 * tokens * out * in);
    state.counters["FLOP/s"] = benchmark::Counter(operations, benchmark::Counter::kIsIterationInvariantRate);
}

/// The maps of all layers in turn, as the checks of one inference read them: 40 MB, more than most caches hold.
void linear_lens(benchmark::State& state) {
    std::vector<LinearLens::Map> maps;
    const float spread = 1.0F / std::sqrt(static_cast<float>(hidden_size));
    for (std::size_t layer = 1; layer <= layer_count; ++layer) {
        maps.push_back({layer, normal_numbers((hidden_size + 1) * hidden_size, spread)});
    }
    const LinearLens lens("benchmark", hidden_size, std::move(maps));
    const std::vector<float> hidden = normal_numbers(hidden_size);
    std::vector<float> out(hidden_size);
    const int no_decoder = 0;  // a linear lens looks at none
    std::size_t layer = 0;
    for (auto _ : state) {
        layer = layer % layer_count + 1;
        lens.apply(no_decoder, layer, hidden, out);
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
    count_bytes(state, (hidden_size + 1) * hidden_size * sizeof(float));
}

/// English in its letters, word lengths and punctuation: common words, rarer ones made of syllables, names and numbers.
std::string english_like(std::size_t bytes) {
    constexpr std::string_view common[] = {
        "the", "of", "and", "to", "a", "in", "that", "it", "is", "was", "he", "for", "on", "with", "as", "his",
        "they", "at", "be", "this", "from", "have", "or", "by", "one", "had", "not", "but", "what", "all", "were",
        "when", "we", "there", "can", "an", "your", "which", "their", "said", "if", "will", "each", "about", "how",
        "up", "out", "them", "then", "she", "many", "some", "these", "would", "other", "into", "has", "more", "two",
        "like", "him", "see", "time", "could", "no", "make", "than", "first", "been", "its", "who", "now", "people",
        "my", "made", "over", "did", "down", "only", "way", "find", "use", "may", "water", "long", "little", "very",
        "after", "words", "called", "just", "where", "most", "know", "country", "house", "letter", "morning",
        "question", "because", "nothing", "government", "children", "together", "important", "different", "sometimes",
        "mountain", "weather", "thought", "winter", "story"};
    constexpr std::string_view onsets[] = {
        "b", "br", "c", "ch", "d", "f", "fl", "g", "gr", "h", "j", "l", "m", "n", "p", "pr", "qu", "r", "s", "sh",
        "st", "t", "tr", "v", "w"};
    constexpr std::string_view rhymes[] = {
        "a", "an", "ar", "ate", "e", "ed", "el", "en", "er", "ess", "i", "in", "ing", "ion", "ist", "o", "on", "or",
        "ous", "u", "um", "un", "y"};
    std::mt19937 random(1);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
    const auto pick = [&](const auto& list) { return list[below(std::size(list))]; };
    std::string text;
    while (text.size() < bytes) {
        const std::size_t words = 6 + below(16);
        for (std::size_t i = 0; i < words; ++i) {
            std::string word;
            if (const std::size_t kind = below(100); kind < 65) {
                word = pick(common);
            } else if (kind < 97) {
                for (std::size_t left = 2 + below(3); left > 0; --left) word.append(pick(onsets)).append(pick(rhymes));
            } else {
                word = std::to_string(below(3000));
            }
            const bool capital = i == 0 || below(25) == 0;
            if (capital && word[0] >= 'a') word[0] = static_cast<char>(word[0] - 'a' + 'A');
            text += word;
            if (i + 1 < words) text += below(10) == 0 ? ", " : " ";
        }
        text += below(12) == 0 ? ".\n\n" : below(9) == 0 ? "? " : ". ";
    }
    text.resize(bytes);
    return text;
}

void encode(benchmark::State& state, const Tokenizer& tokenizer) {
    const std::string text = english_like(static_cast<std::size_t>(state.range(0)));
    std::size_t tokens = 0;
    for (auto _ : state) {
        const std::vector<TokenId> ids = tokenizer.encode(text);
        benchmark::DoNotOptimize(ids.data());
        tokens = ids.size();
    }
    count_bytes(state, text.size());
    state.counters["bytes/token"] = static_cast<double>(text.size()) / static_cast<double>(tokens);
}

void add_kernels() {
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0,
                              DType::Q5_1, DType::Q4_K, DType::Q5_K, DType::Q6_K}) {
        benchmark::RegisterBenchmark(("dequantize_row/" + std::string(info(dtype).name)).c_str(),
                                     [dtype](benchmark::State& state) { dequantize(state, dtype); });
    }
    benchmark::RegisterBenchmark("dot", dot_product)->Arg(64)->Arg(hidden_size)->Arg(feed_forward_size);
    benchmark::RegisterBenchmark("softmax", softmax_row)->Arg(256)->Arg(vocabulary_size);
    benchmark::RegisterBenchmark("top_two/49152", top_two_row, false);
    benchmark::RegisterBenchmark("top_two/49152/entropy", top_two_row, true);
    benchmark::RegisterBenchmark("linear_lens/576/from_memory", linear_lens);
}

void add_matmul() {
    struct Shape {
        const char* name;
        DType dtype;
        std::size_t out, in;
    };
    for (const Shape& shape : {Shape{"q", DType::Q4_1, hidden_size, hidden_size}, Shape{"k", DType::Q4_1, kv_size, hidden_size},
                               Shape{"gate", DType::Q4_1, feed_forward_size, hidden_size},
                               Shape{"down", DType::Q4_1, hidden_size, feed_forward_size},
                               Shape{"head", DType::Q8_0, vocabulary_size, hidden_size}}) {
        for (const std::size_t tokens : {std::size_t{1}, std::size_t{30}, std::size_t{256}}) {
            if (tokens > 1 && shape.out == vocabulary_size) continue;  // the head runs on one position
            for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
                const std::string weight = std::string(shape.name) + "/" + std::string(info(shape.dtype).name) + "/" +
                                           std::to_string(shape.out) + "x" + std::to_string(shape.in);
                const std::string name = (tokens == 1 ? "matvec/" : "matmul/") + weight + "/tokens:" + std::to_string(tokens) +
                                         "/threads:" + std::to_string(threads);
                benchmark::RegisterBenchmark(name.c_str(), [shape, tokens, threads](benchmark::State& state) {
                    matmul(state, shape.dtype, shape.out, shape.in, tokens, threads);
                })->UseRealTime()->Unit(benchmark::kMicrosecond);
            }
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    try {
        add_kernels();
        add_matmul();
        const char* const path = std::getenv("ADAINFER_SMOLLM2");
        if (path != nullptr && std::filesystem::exists(path)) {
            const auto tokenizer = std::make_shared<const Tokenizer>(load_tokenizer(GgufFile::open(path)));
            benchmark::RegisterBenchmark("encode", [tokenizer](benchmark::State& state) { encode(state, *tokenizer); })
                ->Arg(200)
                ->Arg(1 << 20);
        } else {
            std::fputs("bench_kernels: no tokenizer benchmark, ADAINFER_SMOLLM2 does not name the model file\n", stderr);
        }
        benchmark::RunSpecifiedBenchmarks();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_kernels: %s\n", error.what());
        return 1;
    }
    benchmark::Shutdown();
    return 0;
}
