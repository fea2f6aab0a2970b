#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/score.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/model/model.hpp"
#include "../unit/file_text.hpp"
#include "real_model.hpp"

// SmolLM2-135M-Instruct against what transformers computes in double precision (fixtures/make_real_model_fixture.py). Needs the
// model file, named by the environment variable ADAINFER_SMOLLM2.

namespace test_smollm2 {

using namespace adainfer;

namespace {

constexpr std::size_t layers = 30;

std::string unescaped(const std::string& text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            result += text[i];
            continue;
        }
        const char c = text.at(++i);
        result += c == 'n' ? '\n' : c == 't' ? '\t' : c;
    }
    return result;
}

/// The model; nothing, and a message, where there is none.
std::optional<ModelFile> load() {
    const auto path = real_model("ADAINFER_SMOLLM2");
    if (!path) return std::nullopt;
    return load_model(*path);
}

}  // namespace

TEST_CASE("SmolLM2: tokens, top five after every layer, likelihood of a text") {
    std::optional<ModelFile> file = load();
    if (!file) return;
    const RealFixture fixture = read_real_fixture("smollm2_logits.txt", layers);
    const Tokenizer& tokenizer = file->tokenizer;
    const Model<EigenBackend> model(std::move(file->weights), NeverExit{}, EigenBackend(2));
    REQUIRE(model.config().layers == layers);
    for (const RealPrompt& prompt : fixture.prompts) {
        CHECK(tokenizer.encode(unescaped(prompt.text)) == prompt.tokens);
        check_top_five(model, prompt, 1e-3);

        // The public calls say the same.
        Session session = model.new_session(prompt.tokens.size());
        for (const std::size_t layer : {std::size_t{25}, std::size_t{30}}) {
            const auto& top = prompt.top[layer - 1];
            if (top[0].second - top[1].second < 1e-3) continue;
            const Prediction p = model.with_policy(ExitAtLayer<>(layer)).predict(session, prompt.tokens);
            CHECK(p.token == top[0].first);
            CHECK(p.exit_layer == layer);
        }
    }

    const std::vector<TokenId> text = tokenizer.encode(file_text(ADAINFER_FIXTURES "/smollm2_text.txt"));
    REQUIRE(text.size() == fixture.nll_tokens);
    Session session = model.new_session(text.size());
    const Score score = log_likelihood(model, session, text);
    CHECK(-score.log_probability / static_cast<double>(text.size() - 1) == doctest::Approx(fixture.nll).epsilon(1e-3));
}

TEST_CASE("SmolLM2 on SimdBackend, and two short prompts on the others") {
    std::optional<ModelFile> file = load();
    if (!file) return;
    const RealFixture fixture = read_real_fixture("smollm2_logits.txt", layers);
    const Model<SimdBackend> simd(file->weights, NeverExit{}, SimdBackend(2, SimdBackend::Products::Exact));
    for (const RealPrompt& prompt : fixture.prompts) check_top_five(simd, prompt, 0.03);
    std::vector<RealPrompt> shortest;
    for (const RealPrompt& prompt : fixture.prompts) {
        if (prompt.tokens.size() <= 5) shortest.push_back(prompt);
    }
    REQUIRE(shortest.size() == 2);
    const Model<XtensorBackend> xtensor(file->weights, NeverExit{}, XtensorBackend(2));
    const Model<ReferenceBackend> reference(file->weights);
    for (const RealPrompt& prompt : shortest) {
        check_top_five(xtensor, prompt, 1e-3);
        check_top_five(reference, prompt, 1e-3);
    }
}

}  // namespace test_smollm2
