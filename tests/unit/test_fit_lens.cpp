#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/core/progress.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/train/fit_lens.hpp"
#include "adainfer/train/refine_lens.hpp"
#include "errors.hpp"
#include "test_train_fixture.hpp"
#include "tiny_model.hpp"

// The fits are those of fixtures/make_lens_fixture.py: ridge regression on the hidden states of transformers.

namespace test_fit_lens {

using namespace adainfer;

namespace {

using Fitter = LensFitter<ReferenceBackend>;

constexpr std::size_t layers = 4, hidden = 32, context = 64;

const Model<ReferenceBackend>& model() {
    static const Model<ReferenceBackend> loaded(load_weights(GgufFile::open(ADAINFER_FIXTURES "/llama_mha.gguf")));
    return loaded;
}

const TrainingFixture& fixture() {
    static const TrainingFixture loaded("lens");
    return loaded;
}

template <class T>
std::vector<T> numbers(const std::string& record) {
    std::vector<T> result;
    for (const double value : fixture()[record]) result.push_back(static_cast<T>(value));
    return result;
}

LensOptions options(Schedule schedule = {}, double ridge = 1e-3) {
    return {.schedule = std::move(schedule), .ridge = ridge, .chunk = 48, .skip = 4, .run = {}};
}

std::vector<float> map_after(const LinearLens& lens, std::size_t layer) {
    for (const LinearLens::Map& map : lens.maps()) {
        if (map.layer == layer) return map.matrix.to_floats();
    }
    FAIL("the lens has no map of layer ", layer);
    return {};
}

/// Largest |found - expected|, relative to the largest |expected|.
double error(const std::vector<float>& found, const std::vector<double>& expected) {
    const std::vector<float> rounded(expected.begin(), expected.end());
    return tiny::difference(found, rounded);
}

/// Mean divergence (Kullback-Leibler) over the samples of what is read through the m-th map from the model's distribution.
double divergence(const LinearLens& lens, std::size_t m, const LensSamples& samples) {
    const std::vector<float> map = lens.maps()[m].matrix.to_floats();
    const ModelWeights& weights = model().decoder().weights();
    double total = 0;
    for (std::size_t t = 0; t < samples.count; ++t) {
        std::vector<double> read(hidden), final(hidden);
        for (std::size_t j = 0; j < hidden; ++j) {
            final[j] = static_cast<double>(samples.finals[t * hidden + j]);
            for (std::size_t i = 0; i <= hidden; ++i) {
                read[j] += static_cast<double>(samples.inputs[m][t * (hidden + 1) + i]) * static_cast<double>(map[i * hidden + j]);
            }
        }
        const std::vector<double> wanted = tiny::softmax(tiny::product(weights.head, final));
        const std::vector<double> found = tiny::softmax(tiny::product(weights.head, read));
        for (std::size_t v = 0; v < wanted.size(); ++v) total += wanted[v] * std::log(wanted[v] / found[v]);
    }
    return total / static_cast<double>(samples.count);
}

RunOptions stopped() {
    std::stop_source source;
    source.request_stop();
    return {source.get_token(), {}};
}

}  // namespace

TEST_CASE("fit lens: the ridge regression of a text") {
    const LinearLens lens = fit_lens(model(), numbers<TokenId>("text"), options(Schedule::only({1, 3})));
    CHECK(lens.model_identity() == model().decoder().weights().identity);
    CHECK(lens.hidden() == hidden);
    CHECK(lens.reads(1));
    CHECK_FALSE(lens.reads(2));
    CHECK(lens.reads(3));
    CHECK(error(map_after(lens, 1), fixture()["text.1"]) < 2e-5);
    CHECK(error(map_after(lens, 3), fixture()["text.3"]) < 2e-5);
}

TEST_CASE("fit lens: prompts whose positions have weights") {
    Fitter fitter(model().decoder(), options(Schedule::only({2}), 1e-2));
    const std::vector<TokenId> text = numbers<TokenId>("text");
    fitter.add_text(std::span(text).first(96));  // in two calls, at the end of a chunk
    fitter.add_text(std::span(text).subspan(96));
    CHECK(fitter.positions() == 4 * (48 - 4));
    std::size_t weighted = 0;
    for (const char* i : {"0", "1"}) {
        const auto weights = numbers<float>(std::string("weights.") + i);
        fitter.add_prompt(numbers<TokenId>(std::string("prompt.") + i), weights);
        weighted += weights.size() - static_cast<std::size_t>(std::count(weights.begin(), weights.end(), 0.0F));
    }
    CHECK(fitter.positions() == 4 * (48 - 4) + weighted);
    CHECK(error(map_after(fitter.solve(), 2), fixture()["prompts.2"]) < 2e-5);
    // Positions without weight change nothing; nor do texts without a position.
    const LinearLens before = fitter.solve();
    fitter.add_prompt(std::span(text).first(context), std::vector<float>(context));
    fitter.add_prompt({}, {});
    fitter.add_text({});
    fitter.add_text(std::span(text).first(4));
    CHECK(map_after(fitter.solve(), 2) == map_after(before, 2));
}

TEST_CASE("fit lens: every layer but the last, where no schedule says otherwise") {
    const LinearLens lens = fit_lens(model(), numbers<TokenId>("text"), options());
    REQUIRE(lens.maps().size() == layers - 1);
    CHECK(error(map_after(lens, 3), fixture()["text.3"]) < 2e-5);
    // A chunk is no longer than the model's context, and no shorter than a token.
    LensOptions long_chunks = options(), short_chunks = options();
    long_chunks.chunk = 1000;
    short_chunks.chunk = 0;
    short_chunks.skip = 0;
    Fitter in_contexts(model().decoder(), long_chunks), in_tokens(model().decoder(), short_chunks);
    const auto text = numbers<TokenId>("text");
    in_contexts.add_text(text);  // 196 tokens: three contexts of 64, and 4 that are left out
    CHECK(in_contexts.positions() == 3 * (context - 4));
    in_tokens.add_text(text);
    CHECK(in_tokens.positions() == text.size());
}

TEST_CASE("fit lens: what it refuses") {
    const auto& decoder = model().decoder();
    const auto text = numbers<TokenId>("text");
    for (const std::size_t layer : {std::size_t{0}, layers, layers + 1}) {
        CHECK(contains(tiny::message_of([&] { return Fitter(decoder, options(Schedule::only({layer}))).positions(); }),
                             "names no layer of the model"));
    }
    CHECK(tiny::code_of([&] { return Fitter(decoder, options(Schedule::only({0}))).positions(); }) == ErrorCode::InvalidArgument);

    Fitter fitter(decoder, options());
    CHECK(contains(tiny::message_of([&] { return fitter.solve(); }), "needs at least as many positions, found 0"));
    fitter.add_text(std::span(text).first(35));  // 31 positions
    CHECK(tiny::code_of([&] { return fitter.solve(); }) == ErrorCode::InvalidArgument);
    fitter.add_text(std::span(text).first(5));
    CHECK(fitter.solve().maps().size() == layers - 1);
    CHECK(tiny::code_of([&] { return fit_lens(model(), {}, options()); }) == ErrorCode::InvalidArgument);

    const auto refused = [&](std::span<const TokenId> tokens, std::size_t weights) {
        return tiny::code_of([&] {
            fitter.add_prompt(tokens, std::vector<float>(weights, 1));
            return 0;
        });
    };
    CHECK(refused(std::span(text).first(9), 8) == ErrorCode::ShapeMismatch);
    CHECK(refused({}, 1) == ErrorCode::ShapeMismatch);
    CHECK(refused(std::span(text).first(context + 1), context + 1) == ErrorCode::ContextOverflow);
    CHECK_FALSE(refused(std::span(text).first(context), context));
    CHECK(refused(std::vector<TokenId>{3, 64}, 2) == ErrorCode::UnknownToken);
    CHECK(tiny::code_of([&] {
              fitter.add_text(std::vector<TokenId>(9, -1));
              return 0;
          }) == ErrorCode::UnknownToken);
    // What was refused left nothing behind.
    CHECK(fitter.positions() == 31 + 1 + context);

    LensOptions cancelled = options();
    cancelled.run = stopped();
    CHECK(tiny::code_of([&] { return fit_lens(model(), text, cancelled); }) == ErrorCode::Cancelled);
}

TEST_CASE("fit lens: progress is told of whole texts") {
    LensOptions told = options();
    std::vector<std::size_t> done;
    told.run.progress = [&](const ProgressEvent& event) {
        CHECK(event.total == 196);
        done.push_back(event.done);
    };
    static_cast<void>(fit_lens(model(), numbers<TokenId>("text"), told));
    CHECK(done == std::vector<std::size_t>{48, 96, 144, 192, 196});
}

TEST_CASE("refine lens: the divergence falls at every layer") {
    const auto text = numbers<TokenId>("text");
    Fitter fitter(model().decoder(), options());
    LensSamples samples;
    fitter.add_text(std::span(text).first(48));
    fitter.keep_samples(&samples);
    fitter.add_text(std::span(text).subspan(48, 96));
    fitter.keep_samples(nullptr);
    fitter.add_text(std::span(text).subspan(144));
    CHECK(samples.count == 2 * (48 - 4));
    REQUIRE(samples.inputs.size() == layers - 1);
    CHECK(samples.inputs[0].size() == samples.count * (hidden + 1));
    CHECK(samples.finals.size() == samples.count * hidden);

    const LinearLens ridge = fitter.solve();
    RefineOptions how;
    how.steps = 60;
    how.batch = 64;
    how.learning_rate = 5e-3;
    std::size_t told = 0;
    how.run.progress = [&](const ProgressEvent&) { ++told; };
    const LinearLens refined = refine_lens(model().decoder(), ridge, samples, how);
    CHECK(told >= (layers - 1) * how.steps);
    REQUIRE(refined.maps().size() == layers - 1);
    for (std::size_t m = 0; m + 1 < layers; ++m) {
        CAPTURE(m);
        CHECK(refined.maps()[m].layer == m + 1);
        CHECK(divergence(refined, m, samples) < 0.9 * divergence(ridge, m, samples));
    }
    how.run.progress = {};
    const LinearLens again = refine_lens(model().decoder(), ridge, samples, how);
    CHECK(map_after(again, 2) == map_after(refined, 2));  // the seed decides
    how.seed = 1;
    CHECK(map_after(refine_lens(model().decoder(), ridge, samples, how), 2) != map_after(refined, 2));
    how.steps = 0;
    CHECK(map_after(refine_lens(model().decoder(), ridge, samples, how), 2) == map_after(ridge, 2));
}

TEST_CASE("refine lens: what it refuses") {
    const auto text = numbers<TokenId>("text");
    Fitter fitter(model().decoder(), options());
    LensSamples samples;
    fitter.keep_samples(&samples);
    fitter.add_text(text);
    const LinearLens lens = fitter.solve();
    RefineOptions how;
    how.steps = 1;
    const auto code = [&](const LinearLens& of, const LensSamples& from) {
        return tiny::code_of([&] { return refine_lens(model().decoder(), of, from, how); });
    };
    CHECK_FALSE(code(lens, samples));
    CHECK(code(lens, LensSamples()) == ErrorCode::InvalidArgument);
    CHECK(code(fit_lens(model(), text, options(Schedule::only({2}))), samples) == ErrorCode::InvalidArgument);
    CHECK(code(LinearLens("another model", hidden, lens.maps()), samples) == ErrorCode::IdentityMismatch);
    CHECK(code(LinearLens(), samples) == ErrorCode::InvalidArgument);
    how.run = stopped();
    CHECK(code(lens, samples) == ErrorCode::Cancelled);
}

}  // namespace test_fit_lens
