#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/score.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/model/model.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

// SmolLM2-135M-Instruct against what transformers computes in double precision (fixtures/make_real_model_fixture.py). Needs the
// model file, named by the environment variable ADAINFER_SMOLLM2.

using namespace adainfer;

namespace {

struct Prompt {
    std::string text;
    std::vector<TokenId> tokens;
    std::vector<std::vector<std::pair<TokenId, double>>> top;  // [layers][5], likeliest first
};

struct Fixture {
    std::vector<Prompt> prompts;
    double nll = 0;
    std::size_t nll_tokens = 0;
};

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

std::string read_file(const std::string& name) {
    std::ifstream in(std::string(ADAINFER_FIXTURES) + "/" + name, std::ios::binary);
    REQUIRE(in);
    return {std::istreambuf_iterator<char>(in), {}};
}

Fixture read_fixture() {
    Fixture fixture;
    std::istringstream in(read_file("smollm2_logits.txt"));
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string kind;
        words >> kind;
        if (kind == "prompt") {
            fixture.prompts.push_back({unescaped(line.substr(7)), {}, {}});
        } else if (kind == "tokens") {
            for (TokenId id; words >> id;) fixture.prompts.back().tokens.push_back(id);
        } else if (kind == "layer") {
            std::size_t layer = 0;
            words >> layer;
            auto& top = fixture.prompts.back().top;
            top.emplace_back();
            REQUIRE(layer == top.size());
            TokenId id = 0;
            char colon = 0;
            for (double logit = 0; words >> id >> colon >> logit;) top.back().emplace_back(id, logit);
            REQUIRE(top.back().size() == 5);
        } else if (kind == "nll") {
            words >> fixture.nll >> kind >> fixture.nll_tokens;
        }
    }
    REQUIRE(fixture.prompts.size() == 8);
    REQUIRE(fixture.nll_tokens > 0);
    return fixture;
}

/// The model file; nothing, and a message, where there is none.
std::optional<ModelFile> load() {
    const char* const path = std::getenv("ADAINFER_SMOLLM2");
    if (path == nullptr || !std::filesystem::exists(path)) {
        MESSAGE("skipped: ADAINFER_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf");
        return std::nullopt;
    }
    return load_model(path);
}

/// Top five of every layer at the prompt's last position.
template <class Backend>
void check_prompt(const Model<Backend>& model, const Prompt& prompt) {
    CAPTURE(prompt.text);
    const Decoder<Backend>& decoder = model.decoder();
    Session session = model.new_session(prompt.tokens.size());
    std::vector<float> normed(model.config().hidden), logits(model.config().vocabulary);
    REQUIRE(prompt.top.size() == model.config().layers);
    decoder.begin(session, prompt.tokens);
    for (std::size_t layer = 0; layer < model.config().layers; ++layer) {
        CAPTURE(layer);
        decoder.run_layer(session, layer);
        decoder.final_norm(session.work.hidden.row(prompt.tokens.size() - 1), normed);
        decoder.logits(normed, logits);
        const auto& top = prompt.top[layer];
        for (const auto& [id, logit] : top) {
            CHECK(std::abs(static_cast<double>(logits[static_cast<std::size_t>(id)]) - logit) <= 1e-3 * std::abs(logit));
        }
        if (top[0].second - top[1].second > 1e-3) CHECK(top_two(logits).top == static_cast<std::size_t>(top[0].first));
    }
}

}  // namespace

TEST_CASE("SmolLM2: tokens, top five after every layer, likelihood of a text") {
    std::optional<ModelFile> file = load();
    if (!file) return;
    const Fixture fixture = read_fixture();
    const Tokenizer& tokenizer = file->tokenizer;
    const Model<EigenBackend> model(std::move(file->weights), NeverExit{}, EigenBackend(2));
    REQUIRE(model.config().layers == 30);
    for (const Prompt& prompt : fixture.prompts) {
        CHECK(tokenizer.encode(prompt.text) == prompt.tokens);
        check_prompt(model, prompt);

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

    const std::vector<TokenId> text = tokenizer.encode(read_file("smollm2_text.txt"));
    REQUIRE(text.size() == fixture.nll_tokens);
    Session session = model.new_session(text.size());
    const Score score = log_likelihood(model, session, text);
    CHECK(-score.log_probability / static_cast<double>(text.size() - 1) == doctest::Approx(fixture.nll).epsilon(1e-3));
}

TEST_CASE("SmolLM2 on the other backends, two short prompts") {
    std::optional<ModelFile> file = load();
    if (!file) return;
    const Fixture fixture = read_fixture();
    std::vector<Prompt> shortest;
    for (const Prompt& prompt : fixture.prompts) {
        if (prompt.tokens.size() <= 5) shortest.push_back(prompt);
    }
    REQUIRE(shortest.size() == 2);
    const Model<XtensorBackend> xtensor(file->weights, NeverExit{}, XtensorBackend(2));
    const Model<ReferenceBackend> reference(file->weights);
    for (const Prompt& prompt : shortest) {
        check_prompt(xtensor, prompt);
        check_prompt(reference, prompt);
    }
}
