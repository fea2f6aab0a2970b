#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adainfer/backend/simd.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/safetensors.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/model/model.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

/// Tokens and the logits that the reference library computes for them: of every position, after every layer.
struct Golden {
    std::vector<adainfer::TokenId> tokens;
    std::vector<float> logits;  // [layers, tokens, vocabulary]

    [[nodiscard]] std::span<const float> row(std::size_t layer, std::size_t t, std::size_t vocabulary) const {
        return std::span(logits).subspan((layer * tokens.size() + t) * vocabulary, vocabulary);
    }
};

/// As the keys adainfer.golden.* of a GGUF file hold them.
inline Golden read_golden(const adainfer::GgufFile& file) {
    Golden golden{{}, file.get_float_array("adainfer.golden.logits")};
    for (const auto token : file.get_int_array("adainfer.golden.tokens")) {
        golden.tokens.push_back(static_cast<adainfer::TokenId>(token));
    }
    return golden;
}

/// As golden.safetensors in a model's folder holds them.
inline Golden read_golden(const std::filesystem::path& folder) {
    const auto file = adainfer::SafetensorsFile::open(folder / "golden.safetensors");
    const adainfer::SafetensorsTensor& tokens = file.get("tokens");
    REQUIRE(tokens.dtype == "I32");
    std::vector<std::int32_t> ids(tokens.data.size() / sizeof(std::int32_t));
    std::memcpy(ids.data(), tokens.data.data(), tokens.data.size());
    return {{ids.begin(), ids.end()}, file.to_f32(file.get("logits"))};
}

/// Largest difference, relative to the largest |expected|; infinity for NaN.
inline double difference(std::span<const float> found, std::span<const float> expected) {
    REQUIRE(found.size() == expected.size());
    double off = 0, largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double d = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
        if (std::isnan(d)) return HUGE_VAL;
        off = std::max(off, d);
        largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    }
    return off / largest;
}

/// Runs the tokens in chunks and returns the logits of every position after every layer, as Golden has them.
template <class Backend>
std::vector<float> run_in_chunks(const adainfer::Model<Backend>& model, std::span<const adainfer::TokenId> tokens,
                                 const std::vector<std::size_t>& chunks, adainfer::KvType kv = adainfer::KvType::F32) {
    const adainfer::Decoder<Backend>& decoder = model.decoder();
    const adainfer::ModelConfig& config = model.config();
    adainfer::Session session = model.new_session({.capacity = tokens.size(), .kv = kv});
    std::vector<float> normed(config.hidden), result(config.layers * tokens.size() * config.vocabulary);
    std::size_t done = 0;
    for (const std::size_t chunk : chunks) {
        decoder.begin(session, tokens.subspan(done, chunk));
        for (std::size_t layer = 0; layer < config.layers; ++layer) {
            decoder.run_layer(session, layer);
            for (std::size_t t = 0; t < chunk; ++t) {
                decoder.final_norm(session.work.hidden.row(t), normed);
                decoder.logits(normed, std::span(result).subspan((layer * tokens.size() + done + t) * config.vocabulary,
                                                                 config.vocabulary));
            }
        }
        done += chunk;
        session.cache.set_length(done);
    }
    REQUIRE(done == tokens.size());
    return result;
}

/// The largest difference() over positions of one layer, which counts from 0.
inline double worst_of_layer(std::span<const float> found, const Golden& golden, std::size_t layer, std::size_t vocabulary) {
    double result = 0;
    for (std::size_t t = 0; t < golden.tokens.size(); ++t) {
        const std::span<const float> expected = golden.row(layer, t, vocabulary);
        const auto at = static_cast<std::size_t>(expected.data() - golden.logits.data());
        result = std::max(result, difference(found.subspan(at, vocabulary), expected));
    }
    return result;
}

/// What logits may be off by, of the largest. With AMX even Exact products are each off by up to 2^-15 of themselves.
template <class Backend>
double tolerance_of([[maybe_unused]] const Backend& backend) {
    if constexpr (std::same_as<Backend, adainfer::SimdBackend>) return backend.level() == adainfer::CpuLevel::Amx ? 2e-4 : 1e-4;
    else return 1e-4;
}

/// Checks that the model gives the golden logits, to `given` or tolerance_of() of the largest: of every position after every layer as one prompt,
/// token by token and in mixed chunks, and through the calls that programs use.
template <class Backend>
void check_golden(const adainfer::ModelWeights& weights, const Golden& golden, const Backend& backend,
                  adainfer::KvType kv = adainfer::KvType::F32, std::optional<double> given = {}) {
    using namespace adainfer;
    const double tolerance = given.value_or(tolerance_of(backend));
    const Model<Backend> model(weights, NeverExit{}, backend);
    const std::size_t n = golden.tokens.size(), vocabulary = model.config().vocabulary, layers = model.config().layers;
    REQUIRE(n == 23);
    REQUIRE(golden.logits.size() == layers * n * vocabulary);

    const std::vector<std::vector<std::size_t>> ways{{n}, std::vector<std::size_t>(n, 1), {7, 1, 15}};
    for (const std::vector<std::size_t>& chunks : ways) {
        CAPTURE(chunks.size());
        const std::vector<float> found = run_in_chunks(model, std::span(golden.tokens), chunks, kv);
        for (std::size_t layer = 0; layer < layers; ++layer) {
            CAPTURE(layer);
            CHECK(worst_of_layer(found, golden, layer, vocabulary) < tolerance);
        }
    }

    Session session = model.new_session({.capacity = n, .kv = kv});
    double off = 0;
    model.for_each_logits(session, golden.tokens, [&](std::size_t t, std::span<const float> logits) {
        off = std::max(off, difference(logits, golden.row(layers - 1, t, vocabulary)));
    });
    CHECK(off < tolerance);
    for (std::size_t layer = 1; layer <= layers; ++layer) {
        const auto fixed = model.with_policy(ExitAtLayer<>(layer));
        CHECK(difference(fixed.predict(session, golden.tokens).logits, golden.row(layer - 1, n - 1, vocabulary)) < tolerance);
    }
    const Prediction after_nine = model.prefill_and_predict(session, std::span(golden.tokens).first(9));
    off = difference(after_nine.logits, golden.row(layers - 1, 8, vocabulary));
    for (std::size_t t = 9; t < n; ++t) {
        off = std::max(off, difference(model.decode(session, golden.tokens[t]).logits, golden.row(layers - 1, t, vocabulary)));
    }
    CHECK(off < tolerance);
}
