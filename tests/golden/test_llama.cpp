#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "golden.hpp"

// Tiny Llama models with the logits that transformers computes after every layer (fixtures/make_llama_fixture.py).

namespace test_llama {

using namespace adainfer;

namespace {

const std::vector<std::string> variants{"mha", "gqa", "odd", "linear_rope", "llama3_rope", "bias", "head_dim", "q8", "q4_1", "wide_head"};

template <class Backend>
void check_variant(const std::string& variant, const Backend& backend, KvType kv = KvType::F32, std::optional<double> tolerance = {}) {
    CAPTURE(variant);
    CAPTURE(to_string(kv));
    const GgufFile file = GgufFile::open(std::string(ADAINFER_FIXTURES) + "/llama_" + variant + ".gguf");
    check_golden(load_weights(file), read_golden(file), backend, kv, tolerance);
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

// These models hang on every digit of their keys. An f16 element is off by 2e-4 of a typical one, a q8_0 element, whose scale is
// a 127th of the largest of 32, by 5e-3 (root mean squares, normally distributed).
TEST_CASE("KV caches of fewer bits") {
    for (const std::string& variant : variants) {
        check_variant(variant, ReferenceBackend{}, KvType::F16, 4e-3);
        check_variant(variant, SimdBackend(2, SimdBackend::Products::Exact), KvType::F16, 4e-3);
    }
    for (const std::size_t threads : {std::size_t{1}, std::size_t{3}}) {
        check_variant("wide_head", EigenBackend(threads), KvType::Q8_0, 5e-2);
        check_variant("wide_head", XtensorBackend(threads), KvType::Q8_0, 5e-2);
        for (const CpuLevel level : cpu_levels()) {
            check_variant("wide_head", SimdBackend(threads, level, SimdBackend::Products::Exact), KvType::Q8_0, 5e-2);
        }
    }
}

TEST_CASE("xtensor") {
    for (const std::string& variant : variants) check_variant(variant, XtensorBackend(2));
}

}  // namespace test_llama
