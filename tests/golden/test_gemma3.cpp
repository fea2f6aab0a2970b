#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/model/model.hpp"
#include "real_model.hpp"

// Gemma 3 270M against what transformers computes in double precision (fixtures/make_real_model_fixture.py). Needs the model
// file, named by the environment variable ADAINFER_GEMMA3.

namespace test_gemma3 {

using namespace adainfer;

namespace {

constexpr std::size_t layers = 18;
constexpr double margin = 0.03;  // of logits of 30 or so

/// The model; nothing, and a message, where there is none.
std::optional<ModelWeights> load() {
    const auto path = real_model("ADAINFER_GEMMA3");
    if (!path) return std::nullopt;
    return load_weights(GgufFile::open(*path));
}

}  // namespace

TEST_CASE("Gemma 3: top five after every layer, prompts longer than the window") {
    std::optional<ModelWeights> weights = load();
    if (!weights) return;
    const std::vector<RealPrompt> prompts = read_real_fixture("gemma3_logits.txt", layers).prompts;
    const Model<EigenBackend> model(std::move(*weights), NeverExit{}, EigenBackend(2));
    REQUIRE(model.config().layers == layers);
    std::size_t longest = 0;
    for (const RealPrompt& prompt : prompts) {
        check_top_five(model, prompt, margin);
        longest = std::max(longest, prompt.tokens.size());

        // The public calls say the same.
        Session session = model.new_session(prompt.tokens.size());
        for (const std::size_t layer : {std::size_t{14}, layers}) {
            const auto& top = prompt.top[layer - 1];
            if (!clear(top, margin)) continue;
            const Prediction p = model.with_policy(ExitAtLayer<>(layer)).predict(session, prompt.tokens);
            CHECK(p.token == top[0].first);
            CHECK(p.exit_layer == layer);
        }
    }
    CHECK(longest > model.config().window);
}

TEST_CASE("Gemma 3: a session that grows past the window, token by token and in chunks") {
    std::optional<ModelWeights> weights = load();
    if (!weights) return;
    const Model<EigenBackend> model(std::move(*weights), NeverExit{}, EigenBackend(2));
    const std::size_t window = model.config().window;
    std::size_t found = 0;
    const RealFixture fixture = read_real_fixture("gemma3_logits.txt", layers);
    for (const RealPrompt& prompt : fixture.prompts) {
        const std::span tokens(prompt.tokens);
        if (tokens.size() < window + 20) continue;
        ++found;
        Session session = model.new_session(tokens.size());
        model.prefill(session, tokens.first(window - 10));
        while (session.length() < window + 10) static_cast<void>(model.decode(session, tokens[session.length()]));
        model.prefill(session, tokens.subspan(session.length(), tokens.size() - session.length() - 1));
        const Prediction prediction = model.decode(session, tokens.back());
        for (const auto& [id, logit] : prompt.top.back()) {
            CHECK(static_cast<double>(prediction.logits[static_cast<std::size_t>(id)]) == doctest::Approx(logit).epsilon(1e-3));
        }
    }
    CHECK(found == 1);
}

TEST_CASE("Gemma 3 on SimdBackend, and the shortest prompt on the others") {
    std::optional<ModelWeights> weights = load();
    if (!weights) return;
    const std::vector<RealPrompt> prompts = read_real_fixture("gemma3_logits.txt", layers).prompts;
    const Model<SimdBackend> simd(*weights, NeverExit{}, SimdBackend(2, SimdBackend::Products::Exact));
    for (const RealPrompt& prompt : prompts) check_top_five(simd, prompt, margin);
    const RealPrompt& shortest = *std::min_element(prompts.begin(), prompts.end(), [](const RealPrompt& a, const RealPrompt& b) {
        return a.tokens.size() < b.tokens.size();
    });
    check_top_five(Model<XtensorBackend>(*weights, NeverExit{}, XtensorBackend(2)), shortest, margin);
    check_top_five(Model<ReferenceBackend>(*weights), shortest, margin);
}

}  // namespace test_gemma3
