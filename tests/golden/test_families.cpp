#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/io/hf_folder.hpp"
#include "golden.hpp"

// Tiny models of every family with the logits that transformers computes after every layer, as GGUF and as Hugging Face
// folders (fixtures/make_family_fixtures.py). That the folders give the golden logits is tested in test_hf_folders.cpp.

namespace test_families {

using namespace adainfer;

namespace {

const std::filesystem::path folder = std::string(ADAINFER_FIXTURES) + "/families";

const std::vector<std::string> variants{
    "gemma3_linear", "gemma3_six",     "gemma3_window", "gpt2_odd",      "gpt2_small",   "gptneox_parallel", "gptneox_sequential",
    "llama_linear",  "llama_llama3",   "mistral_full",  "mistral_window", "opt_125m",    "opt_350m",         "opt_projected",
    "phi3_longrope", "phi3_partial",   "phi3_window",   "qwen2_tied",    "qwen2_untied", "qwen3_tied",       "qwen3_untied",
    "qwen3_yarn"};

GgufFile open(const std::string& variant) { return GgufFile::open(folder / variant / (variant + ".gguf")); }

template <class Backend>
void check_variants(const Backend& backend) {
    for (const std::string& variant : variants) {
        CAPTURE(variant);
        const GgufFile file = open(variant);
        check_golden(load_weights(file), read_golden(file), backend);
    }
}

template <class Backend>
std::vector<float> last_logits(const Model<Backend>& model, std::span<const TokenId> tokens) {
    Session session = model.new_session();
    const Prediction prediction = model.prefill_and_predict(session, tokens);
    return {prediction.logits.begin(), prediction.logits.end()};
}

}  // namespace

TEST_CASE("every variant of every family is tested") {
    std::vector<std::string> both, folder_only;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        CAPTURE(name);
        CHECK(std::filesystem::exists(entry.path() / "config.json"));
        CHECK(std::filesystem::exists(entry.path() / "golden.safetensors"));
        (std::filesystem::exists(entry.path() / (name + ".gguf")) ? both : folder_only).push_back(name);
    }
    std::sort(both.begin(), both.end());
    CHECK(both == variants);
    CHECK(folder_only == std::vector<std::string>{"gemma3_scale"});  // GGUF has no key for its attention scale
}

TEST_CASE("families: reference") { check_variants(ReferenceBackend{}); }

TEST_CASE("families: Eigen, one thread and two") {
    check_variants(EigenBackend(1));
    check_variants(EigenBackend(2));
}

TEST_CASE("families: xtensor") { check_variants(XtensorBackend(2)); }

TEST_CASE("families: SimdBackend at every level, one thread and three") {
    for (const CpuLevel level : cpu_levels()) {
        CAPTURE(to_string(level));
        for (const std::size_t threads : {std::size_t{1}, std::size_t{3}}) {
            check_variants(SimdBackend(threads, level, SimdBackend::Products::Exact));
        }
    }
}

TEST_CASE("families: the GGUF file and the folder of a model give the same logits") {
    for (const std::string& variant : variants) {
        CAPTURE(variant);
        const GgufFile file = open(variant);
        const Golden golden = read_golden(file), same = read_golden(folder / variant);
        CHECK(golden.tokens == same.tokens);
        CHECK(golden.logits == same.logits);
        const Model<EigenBackend> from_gguf(load_weights(file)), from_folder(load_hf_weights(folder / variant));
        const std::vector<std::size_t> whole{golden.tokens.size()};
        const std::vector<float> first = run_in_chunks(from_gguf, std::span(golden.tokens), whole);
        const std::vector<float> second = run_in_chunks(from_folder, std::span(golden.tokens), whole);
        CHECK(difference(first, second) < 1e-5);
    }
}

// A token of a windowed layer sees `window` positions, so with L such layers the logits come from the last
// L * (window - 1) + 1 tokens and no others; rotary positions are relative, so it does not matter where those stand.
TEST_CASE("families: a session far longer than the window") {
    for (const std::string variant : {"mistral_window", "phi3_window"}) {
        CAPTURE(variant);
        const Model<EigenBackend> model(load_weights(open(variant)));
        const std::size_t window = model.config().window, reach = model.config().layers * (window - 1) + 1;
        REQUIRE(window == 6);
        REQUIRE(model.config().context == 64);
        std::vector<TokenId> tokens;
        for (std::size_t i = 0; i < 64; ++i) tokens.push_back(static_cast<TokenId>((i * i * 7 + i) % model.config().vocabulary));

        const std::vector<float> whole = last_logits(model, tokens);
        CHECK(difference(last_logits(model, std::span(tokens).last(reach)), whole) < 1e-4);
        CHECK(difference(last_logits(model, std::span(tokens).last(reach - 1)), whole) > 1e-3);

        Session session = model.new_session();
        std::vector<float> stepped;
        for (const TokenId token : tokens) {
            const Prediction prediction = model.decode(session, token);
            stepped.assign(prediction.logits.begin(), prediction.logits.end());
        }
        CHECK(session.length() == 64);
        CHECK(difference(stepped, whole) < 1e-5);
    }
}

}  // namespace test_families
