#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/model/model.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

// Gemma 3 270M against what transformers computes in double precision (fixtures/make_real_model_fixture.py). Needs the model
// file, named by the environment variable ADAINFER_GEMMA3.

using namespace adainfer;

namespace {

constexpr std::size_t layers = 18;

struct Prompt {
    std::vector<TokenId> tokens;
    std::vector<std::vector<std::pair<TokenId, double>>> top;  // [layers][5], likeliest first
};

std::vector<Prompt> read_fixture() {
    std::vector<Prompt> prompts;
    std::ifstream in(std::string(ADAINFER_FIXTURES) + "/gemma3_logits.txt");
    REQUIRE(in);
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string kind;
        words >> kind;
        if (kind == "tokens") {
            prompts.emplace_back();
            for (TokenId id; words >> id;) prompts.back().tokens.push_back(id);
            continue;
        }
        REQUIRE(kind == "layer");
        std::size_t layer = 0;
        words >> layer;
        auto& top = prompts.back().top;
        top.emplace_back();
        REQUIRE(layer == top.size());
        TokenId id = 0;
        char colon = 0;
        for (double logit = 0; words >> id >> colon >> logit;) top.back().emplace_back(id, logit);
        REQUIRE(top.back().size() == 5);
    }
    REQUIRE(prompts.size() == 8);
    for (const Prompt& prompt : prompts) REQUIRE(prompt.top.size() == layers);
    return prompts;
}

/// The model; nothing, and a message, where there is none.
std::optional<ModelWeights> load() {
    const char* const path = std::getenv("ADAINFER_GEMMA3");
    if (path == nullptr || !std::filesystem::exists(path)) {
        MESSAGE("skipped: ADAINFER_GEMMA3 does not name gemma-3-270m-q4_k_m.gguf");
        return std::nullopt;
    }
    return load_weights(GgufFile::open(path));
}

/// The first is far enough from the second for rounding not to swap them.
bool clear(const std::vector<std::pair<TokenId, double>>& top) {
    return top[0].second - top[1].second > 1e-3 * std::abs(top[0].second);
}

/// Top five of every layer at the prompt's last position.
template <class Backend>
void check_prompt(const Model<Backend>& model, const Prompt& prompt) {
    CAPTURE(prompt.tokens.size());
    const Decoder<Backend>& decoder = model.decoder();
    Session session = model.new_session(prompt.tokens.size());
    std::vector<float> normed(model.config().hidden), logits(model.config().vocabulary);
    decoder.begin(session, prompt.tokens);
    for (std::size_t layer = 0; layer < layers; ++layer) {
        CAPTURE(layer);
        decoder.run_layer(session, layer);
        decoder.final_norm(session.work.hidden.row(prompt.tokens.size() - 1), normed);
        decoder.logits(normed, logits);
        const auto& top = prompt.top[layer];
        for (const auto& [id, logit] : top) {
            CHECK(std::abs(static_cast<double>(logits[static_cast<std::size_t>(id)]) - logit) <= 1e-3 * std::abs(logit));
        }
        if (clear(top)) CHECK(top_two(logits).top == static_cast<std::size_t>(top[0].first));
    }
}

}  // namespace

TEST_CASE("Gemma 3: top five after every layer, prompts longer than the window") {
    std::optional<ModelWeights> weights = load();
    if (!weights) return;
    const std::vector<Prompt> prompts = read_fixture();
    const Model<EigenBackend> model(std::move(*weights), NeverExit{}, EigenBackend(2));
    REQUIRE(model.config().layers == layers);
    std::size_t longest = 0;
    for (const Prompt& prompt : prompts) {
        check_prompt(model, prompt);
        longest = std::max(longest, prompt.tokens.size());

        // The public calls say the same.
        Session session = model.new_session(prompt.tokens.size());
        for (const std::size_t layer : {std::size_t{14}, layers}) {
            const auto& top = prompt.top[layer - 1];
            if (!clear(top)) continue;
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
    for (const Prompt& prompt : read_fixture()) {
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

TEST_CASE("Gemma 3 on the other backends, the shortest prompt") {
    std::optional<ModelWeights> weights = load();
    if (!weights) return;
    const std::vector<Prompt> prompts = read_fixture();
    const Prompt& shortest = *std::min_element(prompts.begin(), prompts.end(), [](const Prompt& a, const Prompt& b) {
        return a.tokens.size() < b.tokens.size();
    });
    check_prompt(Model<XtensorBackend>(*weights, NeverExit{}, XtensorBackend(2)), shortest);
    check_prompt(Model<ReferenceBackend>(*weights), shortest);
}
