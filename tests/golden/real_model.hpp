#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/model/model.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

// What fixtures/make_real_model_fixture.py writes: the five likeliest tokens and their logits after every layer, at the last
// position of some prompts, as transformers computes them in double precision.

using TopFive = std::vector<std::pair<adainfer::TokenId, double>>;  // likeliest first

struct RealPrompt {
    std::string text;  // as the file has it, with escapes; empty where the file holds tokens only
    std::vector<adainfer::TokenId> tokens;
    std::vector<TopFive> top;  // [layers]
};

struct RealFixture {
    std::vector<RealPrompt> prompts;
    double nll = 0;  // mean over the tokens of a text, where the file has it
    std::size_t nll_tokens = 0;
};

inline RealFixture read_real_fixture(const std::string& name, std::size_t layers) {
    RealFixture fixture;
    std::ifstream in(std::string(ADAINFER_FIXTURES) + "/" + name);
    REQUIRE(in);
    std::string text;
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string kind;
        words >> kind;
        if (kind == "prompt") {
            text = line.substr(7);
        } else if (kind == "tokens") {
            fixture.prompts.push_back({std::exchange(text, {}), {}, {}});
            for (adainfer::TokenId id; words >> id;) fixture.prompts.back().tokens.push_back(id);
        } else if (kind == "layer") {
            std::size_t layer = 0;
            words >> layer;
            auto& top = fixture.prompts.back().top;
            top.emplace_back();
            REQUIRE(layer == top.size());
            adainfer::TokenId id = 0;
            char colon = 0;
            for (double logit = 0; words >> id >> colon >> logit;) top.back().emplace_back(id, logit);
            REQUIRE(top.back().size() == 5);
        } else {
            REQUIRE(kind == "nll");
            words >> fixture.nll >> kind >> fixture.nll_tokens;
        }
    }
    REQUIRE(fixture.prompts.size() == 8);
    for (const RealPrompt& prompt : fixture.prompts) REQUIRE(prompt.top.size() == layers);
    return fixture;
}

/// The file that an environment variable names; nothing, and a message, where the variable is not set or empty.
inline std::optional<std::filesystem::path> real_model(const char* variable) {
    const char* const path = std::getenv(variable);
    if (path == nullptr || *path == '\0') {
        MESSAGE("skipped: " << std::string(variable) << " is not set");
        return std::nullopt;
    }
    REQUIRE_MESSAGE(std::filesystem::exists(path), variable, " names ", path, ", which is not there");
    return path;
}

/// The first is further from the second than rounding can move them.
inline bool clear(const TopFive& top, double margin) { return top[0].second - top[1].second > margin; }

/// The same five tokens with the largest logits, up to ties, their logits to 1e-3 of the largest of the five and, where it is
/// clear, the same first one, after every layer at the prompt's last position. Not to 1e-3 of each: a logit near zero is the
/// difference of large terms.
template <class Backend>
void check_top_five(const adainfer::Model<Backend>& model, const RealPrompt& prompt, double margin) {
    CAPTURE(prompt.text);
    CAPTURE(prompt.tokens.size());
    const adainfer::Decoder<Backend>& decoder = model.decoder();
    adainfer::Session session = model.new_session(prompt.tokens.size());
    std::vector<float> normed(model.config().hidden), logits(model.config().vocabulary);
    decoder.begin(session, prompt.tokens);
    for (std::size_t layer = 0; layer < prompt.top.size(); ++layer) {
        CAPTURE(layer);
        decoder.run_layer(session, layer);
        decoder.final_norm(session.work.hidden.row(prompt.tokens.size() - 1), normed);
        decoder.logits(normed, logits);
        const TopFive& top = prompt.top[layer];
        if (clear(top, margin)) CHECK(adainfer::top_two(logits).top == static_cast<std::size_t>(top[0].first));
        double tolerance = 0;
        for (const auto& [id, logit] : top) tolerance = (std::max)(tolerance, 1e-3 * std::abs(logit));
        for (const auto& [id, logit] : top) {
            float& found = logits[static_cast<std::size_t>(id)];
            CHECK(std::abs(static_cast<double>(found) - logit) <= tolerance);
            found = -HUGE_VALF;
        }
        CHECK(static_cast<double>(*std::max_element(logits.begin(), logits.end())) <= top.back().second + tolerance);
    }
}
