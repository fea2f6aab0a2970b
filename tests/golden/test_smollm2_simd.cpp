#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/generate/score.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/half.hpp"
#include "../unit/file_text.hpp"
#include "real_model.hpp"

// What rounding does to a real model, at every level that this machine has: nothing to 16 bits, little to bfloat16 or 8 bits.

namespace test_smollm2_simd {

using namespace adainfer;

namespace {

/// 20 KB of English where there is a folder of test material, else the 2 KB that stand beside the fixtures.
std::string some_text() {
    const char* const shared = std::getenv("ADAINFER_SHARED");
    const bool set = shared != nullptr && *shared != '\0';
    const std::string corpus = set ? shared + std::string("/corpora/wikitext2_valid.txt") : ADAINFER_FIXTURES "/smollm2_text.txt";
    std::string text = file_text(corpus);
    text.resize(std::min(text.size(), std::size_t{20'000}));
    REQUIRE(text.size() > 1000);
    return text;
}

/// A model whose matrices are f16.
struct HalfWeights {
    ModelWeights weights;
    std::deque<std::vector<std::uint16_t>> matrices;

    explicit HalfWeights(const ModelWeights& from) : weights(from) {
        for (LayerWeights& layer : weights.layers) {
            for (LinearWeights* matrix : {&layer.q, &layer.k, &layer.v, &layer.attention_output, &layer.gate, &layer.up, &layer.down}) {
                convert(matrix->weight);
            }
        }
        convert(weights.token_embedding);
        if (from.tied()) weights.head.weight = weights.token_embedding;
        else convert(weights.head.weight);
    }

  private:
    void convert(WeightView& weight) {
        std::vector<float> row(weight.cols);
        std::vector<std::uint16_t>& halves = matrices.emplace_back();
        for (std::size_t r = 0; r < weight.rows; ++r) {
            dequantize_row(weight.dtype, weight.row(r), weight.cols, row.data());
            for (const float value : row) halves.push_back(f32_to_f16(value));
        }
        weight = {DType::F16, weight.rows, weight.cols, reinterpret_cast<const std::byte*>(halves.data())};
    }
};

/// Mean negative log likelihood of the text, in chunks of 256 tokens.
template <class Backend>
double nats_per_token(const Model<Backend>& model, std::span<const TokenId> text, KvType kv = KvType::F32) {
    Session session = model.new_session({.capacity = 256, .kv = kv});
    double nats = 0;
    std::size_t tokens = 0;
    for (std::size_t at = 0; at + 1 < text.size(); at += 256) {
        const Score score = log_likelihood(model, session, text.subspan(at, std::min(text.size() - at, std::size_t{256})));
        nats -= score.log_probability;
        tokens += score.token_log_probabilities.size();
    }
    return nats / static_cast<double>(tokens);
}

/// The gap (AdaInfer's first feature) after every layer, at the last of the tokens.
template <class Backend>
std::vector<double> gaps(const Model<Backend>& model, std::span<const TokenId> tokens) {
    const Decoder<Backend>& decoder = model.decoder();
    Session session = model.new_session(tokens.size());
    std::vector<float> normed(model.config().hidden), logits(model.config().vocabulary);
    std::vector<double> result;
    decoder.begin(session, tokens);
    for (std::size_t layer = 0; layer < model.config().layers; ++layer) {
        decoder.run_layer(session, layer);
        decoder.final_norm(session.work.hidden.row(tokens.size() - 1), normed);
        decoder.logits(normed, logits);
        const float largest = *std::max_element(logits.begin(), logits.end());
        double sum = 0;
        for (const float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
        std::nth_element(logits.begin(), logits.begin() + 1, logits.end(), std::greater<>{});
        result.push_back((1.0 - std::exp(static_cast<double>(logits[1] - largest))) / sum);
    }
    return result;
}

}  // namespace

TEST_CASE("SmolLM2 on SimdBackend: perplexity within 0.5 %, the features of exit policies as in float") {
    const auto path = real_model("ADAINFER_SMOLLM2");
    if (!path) return;
    const ModelFile file = load_model(*path);
    const std::vector<TokenId> text = file.tokenizer.encode(some_text());
    const Model<EigenBackend> in_float(file.weights, NeverExit{}, EigenBackend(2));
    const double expected = nats_per_token(in_float, text);
    const std::vector<double> expected_gaps = gaps(in_float, std::span(text).first(40));
    using enum SimdBackend::Products;
    const bool bfloat16 = has_fast_bfloat16() || has_level(CpuLevel::Amx);
    const auto standard = bfloat16 ? Bfloat16 : best_cpu_level() >= CpuLevel::Avx2 ? Bits12 : Exact;
    CHECK(SimdBackend(1, best_cpu_level()).products() == standard);  // the default is one of these
    const HalfWeights halves(file.weights);
    struct Case {
        CpuLevel level;
        SimdBackend::Products products;
        double ratio, gap;  // allowed differences
        const ModelWeights& weights;
    };
    const ModelWeights &codes = file.weights, &floats = halves.weights;
    for (const Case& c : {Case{CpuLevel::Neon, Exact, 0.0005, 0.003, codes}, Case{CpuLevel::Avx2, Exact, 0.0005, 0.003, codes},
                          Case{CpuLevel::Avx512, Exact, 0.0005, 0.003, codes}, Case{CpuLevel::Avx512, Bfloat16, 0.005, 0.05, codes},
                          Case{CpuLevel::Amx, Bfloat16, 0.005, 0.05, codes}, Case{CpuLevel::Avx2, Bits12, 0.0005, 0.003, codes},
                          Case{CpuLevel::Avx2, Bits12, 0.0005, 0.01, floats}, Case{CpuLevel::Avx512, Bits12, 0.0005, 0.003, codes},
                          Case{CpuLevel::Avx512, Bits12, 0.0005, 0.01, floats}, Case{CpuLevel::Avx512, Bits8, 0.005, 0.2, codes}}) {
        if (!has_level(c.level)) {
            MESSAGE("skipped: this machine has no " << to_string(c.level));
            continue;
        }
        CAPTURE(to_string(c.level));
        CAPTURE(c.ratio);
        const Model<SimdBackend> model(c.weights, NeverExit{}, SimdBackend(2, c.level, c.products));
        const double ratio = std::exp(nats_per_token(model, text) - expected);
        CHECK(ratio == doctest::Approx(1.0).epsilon(c.ratio));
        const std::vector<double> found = gaps(model, std::span(text).first(40));
        double off = 0;
        for (std::size_t layer = 0; layer < found.size(); ++layer) {
            off = std::max(off, std::abs(found[layer] - expected_gaps[layer]));
            CHECK(std::abs(found[layer] - expected_gaps[layer]) < c.gap);  // NaN fails too
        }
        MESSAGE(to_string(c.level) << ", " << to_string(model.decoder().backend().products()) << ": perplexity / that in float "
                                   << ratio << ", a gap is off by " << off << " at most");
    }
}

TEST_CASE("SmolLM2 with a KV cache of f16 or q8_0: perplexity within 0.5 % of f32") {
    const auto path = real_model("ADAINFER_SMOLLM2");
    if (!path) return;
    const ModelFile file = load_model(*path);
    const std::vector<TokenId> text = file.tokenizer.encode(some_text());
    const Model<SimdBackend> model(file.weights, NeverExit{}, SimdBackend(2));
    const double expected = nats_per_token(model, text);
    const double f16 = std::exp(nats_per_token(model, text, KvType::F16) - expected);
    const double q8_0 = std::exp(nats_per_token(model, text, KvType::Q8_0) - expected);
    MESSAGE("perplexity / that of f32: f16 " << f16 << ", q8_0 " << q8_0);
    CHECK(f16 == doctest::Approx(1.0).epsilon(0.005));
    CHECK(q8_0 == doctest::Approx(1.0).epsilon(0.005));
    CHECK(f16 != 1.0);  // it was another cache
}

}  // namespace test_smollm2_simd
