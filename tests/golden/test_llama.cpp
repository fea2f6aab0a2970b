#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/model/model.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

// Tiny Llama models with the logits that transformers computes after every layer (fixtures/make_llama_fixture.py).

using namespace adainfer;

namespace {

const std::vector<std::string> variants{"mha", "gqa", "odd", "linear_rope", "llama3_rope", "bias", "head_dim", "q8", "q4_1"};

struct Golden {
    GgufFile file;
    std::vector<TokenId> tokens;
    std::vector<float> logits;  // [layers, tokens, vocabulary]

    explicit Golden(const std::string& variant)
        : file(GgufFile::open(std::string(ADAINFER_FIXTURES) + "/llama_" + variant + ".gguf")),
          logits(file.get_float_array("adainfer.golden.logits")) {
        for (const auto token : file.get_int_array("adainfer.golden.tokens")) tokens.push_back(static_cast<TokenId>(token));
    }

    [[nodiscard]] std::span<const float> row(std::size_t layer, std::size_t t, std::size_t vocabulary) const {
        return std::span(logits).subspan((layer * tokens.size() + t) * vocabulary, vocabulary);
    }
};

/// Largest difference, relative to the largest |expected|; infinity for NaN.
double difference(std::span<const float> found, std::span<const float> expected) {
    double off = 0, largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double d = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
        if (std::isnan(d)) return HUGE_VAL;
        off = std::max(off, d);
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    }
    return off / largest;
}

/// Runs the tokens in chunks and compares the logits of every position after every layer; returns the largest difference.
template <class Backend>
double worst(const Model<Backend>& model, const Golden& golden, const std::vector<std::size_t>& chunks) {
    const Decoder<Backend>& decoder = model.decoder();
    const ModelConfig& config = model.config();
    Session session = model.new_session();
    std::vector<float> normed(config.hidden), logits(config.vocabulary);
    double result = 0;
    std::size_t done = 0;
    for (const std::size_t chunk : chunks) {
        decoder.begin(session, std::span(golden.tokens).subspan(done, chunk));
        for (std::size_t layer = 0; layer < config.layers; ++layer) {
            decoder.run_layer(session, layer);
            for (std::size_t t = 0; t < chunk; ++t) {
                decoder.final_norm(session.work.hidden.row(t), normed);
                decoder.logits(normed, logits);
                result = std::max(result, difference(logits, golden.row(layer, done + t, config.vocabulary)));
            }
        }
        done += chunk;
        session.cache.set_length(done);
    }
    CHECK(done == golden.tokens.size());
    return result;
}

template <class Backend>
void check_variant(const std::string& variant, const Backend& backend) {
    CAPTURE(variant);
    const Golden golden(variant);
    const Model<Backend> model(load_weights(golden.file), NeverExit{}, backend);
    const std::size_t n = golden.tokens.size(), vocabulary = model.config().vocabulary, layers = model.config().layers;
    REQUIRE(n == 23);
    REQUIRE(golden.logits.size() == layers * n * vocabulary);

    CHECK(worst(model, golden, {n}) < 1e-4);
    CHECK(worst(model, golden, std::vector<std::size_t>(n, 1)) < 1e-4);
    CHECK(worst(model, golden, {7, 1, 15}) < 1e-4);

    // The same through the calls that programs use.
    Session session = model.new_session();
    double off = 0;
    model.for_each_logits(session, golden.tokens, [&](std::size_t t, std::span<const float> logits) {
        off = std::max(off, difference(logits, golden.row(layers - 1, t, vocabulary)));
    });
    CHECK(off < 1e-4);
    for (std::size_t layer = 1; layer <= layers; ++layer) {
        const auto fixed = model.with_policy(ExitAtLayer<>(layer));
        CHECK(difference(fixed.predict(session, golden.tokens).logits, golden.row(layer - 1, n - 1, vocabulary)) < 1e-4);
    }
    const Prediction after_nine = model.prefill_and_predict(session, std::span(golden.tokens).first(9));
    off = difference(after_nine.logits, golden.row(layers - 1, 8, vocabulary));
    for (std::size_t t = 9; t < n; ++t) {
        off = std::max(off, difference(model.decode(session, golden.tokens[t]).logits, golden.row(layers - 1, t, vocabulary)));
    }
    CHECK(off < 1e-4);
}

}  // namespace

TEST_CASE("every variant of the fixtures is tested") {
    std::size_t found = 0;
    for (const auto& entry : std::filesystem::directory_iterator(ADAINFER_FIXTURES)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with("llama_") || entry.path().extension() != ".gguf") continue;
        ++found;
        CAPTURE(name);
        CHECK(std::find(variants.begin(), variants.end(), name.substr(6, name.size() - 11)) != variants.end());
    }
    CHECK(found == variants.size());
}

TEST_CASE("reference") {
    for (const std::string& variant : variants) check_variant(variant, ReferenceBackend{});
}

TEST_CASE("Eigen, one thread and two") {
    for (const std::string& variant : variants) {
        check_variant(variant, EigenBackend(1));
        check_variant(variant, EigenBackend(2));
    }
}

TEST_CASE("xtensor") {
    for (const std::string& variant : variants) check_variant(variant, XtensorBackend(2));
}
