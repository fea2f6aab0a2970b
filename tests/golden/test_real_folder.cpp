#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/io/any_model.hpp"
#include "adainfer/model/model.hpp"

// A real checkpoint from Hugging Face, beside a greedy run of another program over its weights
// (greedy_reference.DERIVED.txt: position, input token, argmax, its logit, the first four logits, the sum of all).

namespace test_real_folder {

using namespace adainfer;

namespace {

std::filesystem::path real_folder() {
    const char* const shared = std::getenv("ADAINFER_SHARED");
    if (shared == nullptr || *shared == '\0') return {};
    return std::filesystem::path(shared) / "models" / "tinystories-656k";
}

struct Step {
    std::size_t position = 0;
    TokenId input = no_token, best = no_token;
    std::vector<double> logits;  // of the best, of tokens 0 to 3
    double sum = 0;
};

std::vector<Step> read_reference(const std::filesystem::path& path) {
    std::ifstream file(path);
    REQUIRE(file);
    std::vector<Step> steps;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with('#')) continue;
        std::istringstream fields(line);
        Step step;
        step.logits.resize(5);
        fields >> step.position >> step.input >> step.best;
        for (double& logit : step.logits) fields >> logit;
        fields >> step.sum;
        REQUIRE(fields);
        steps.push_back(step);
    }
    return steps;
}

template <class Backend>
void check_greedy(const ModelFile& file, const std::vector<Step>& steps, const Backend& backend) {
    const Model<Backend> model(file.weights, NeverExit{}, backend);
    Session session = model.new_session(steps.size());
    TokenId chosen = no_token;
    for (const Step& step : steps) {
        CAPTURE(step.position);
        const bool first = step.position == 0;
        if (!first) REQUIRE(step.input == chosen);
        const std::vector<TokenId> prompt{step.input};
        const Prediction found = first ? model.prefill_and_predict(session, prompt) : model.decode(session, step.input);
        const auto best = std::max_element(found.logits.begin(), found.logits.end());
        chosen = static_cast<TokenId>(best - found.logits.begin());
        CHECK(chosen == step.best);
        CHECK(std::abs(static_cast<double>(*best) - step.logits[0]) < 2e-3);
        double sum = 0;
        for (const float logit : found.logits) sum += static_cast<double>(logit);
        for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(static_cast<double>(found.logits[i]) - step.logits[i + 1]) < 2e-3);
        CHECK(std::abs(sum - step.sum) < 2e-4 * std::abs(step.sum) + 0.5);
    }
}

}  // namespace

TEST_CASE("a real Hugging Face folder gives the logits of another program, on every backend") {
    const std::filesystem::path folder = real_folder();
    if (folder.empty()) {
        MESSAGE("skipped: ADAINFER_SHARED is not set");
        return;
    }
    const ModelFile file = load_any_model(folder);
    CHECK(file.weights.config.layers == 2);
    CHECK(file.weights.config.kv_heads == 4);
    CHECK(file.weights.tied());
    CHECK(file.weights.config.vocabulary == 2048);
    CHECK(file.tokenizer.vocab_size() <= 2048);
    CHECK(file.tokenizer.is_end_of_generation(2));  // eos_token_id of generation_config.json
    const std::vector<Step> steps = read_reference(folder / "greedy_reference.DERIVED.txt");
    REQUIRE(steps.size() > 50);
    check_greedy(file, steps, ReferenceBackend{});
    check_greedy(file, steps, EigenBackend(2));
    check_greedy(file, steps, XtensorBackend(1));
    for (const CpuLevel level : cpu_levels()) {
        CAPTURE(to_string(level));
        check_greedy(file, steps, SimdBackend(2, level, SimdBackend::Products::Exact));
    }
}

}  // namespace test_real_folder
