#include <doctest/doctest.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "adainfer/backend/any_backend.hpp"
#include "adainfer/backend/concept.hpp"
#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/model/model.hpp"
#include "tiny_model.hpp"

namespace test_any_backend {

using namespace adainfer;

namespace {

/// As users write one: no operation but the product.
struct Plain {
    using Weight = WeightView;
    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }
    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const { ReferenceBackend{}.matmul(weight, x, y); }
};

static_assert(TensorBackend<AnyBackend> && HasStoredAttention<AnyBackend>);
static_assert(!HasStoredAttention<Plain>);

ModelWeights weights(const std::string& name) { return load_weights(GgufFile::open(std::string(ADAINFER_FIXTURES "/") + name)); }

/// Logits of a prompt, of two tokens after it, and of two candidates after those.
template <class Backend>
std::vector<float> logits(const ModelWeights& weights, const Backend& backend, KvType kv) {
    const Model<Backend> model(weights, {}, backend);
    Session session = model.new_session({.capacity = 20, .kv = kv});
    const std::vector<TokenId> prompt = tiny::tokens(9, 30), candidates{3, 11};
    std::vector<float> all;
    const auto add = [&](const Prediction& prediction) { all.insert(all.end(), prediction.logits.begin(), prediction.logits.end()); };
    add(model.prefill_and_predict(session, prompt));
    for (const TokenId token : {TokenId{5}, TokenId{8}}) add(model.decode(session, token));
    add(model.predict(session, prompt, candidates));
    return all;
}

template <class Backend>
void check_same(const Backend& backend) {
    for (const char* const name : {"llama_gqa.gguf", "llama_q4_1.gguf"}) {
        CAPTURE(name);
        const ModelWeights file = weights(name);
        for (const KvType kv : {KvType::F32, KvType::F16}) {
            const std::vector<float> expected = logits(file, backend, kv);
            CHECK(expected.size() > 60);  // three times the vocabulary and more
            CHECK(logits(file, AnyBackend(backend), kv) == expected);
        }
    }
}

}  // namespace

TEST_CASE("AnyBackend computes what the backend computes, to the last bit") {
    SUBCASE("all operations of its own") { check_same(SimdBackend(2)); }
    SUBCASE("none") { check_same(Plain{}); }
}

TEST_CASE("AnyBackend says what the backend says") {
    const SimdBackend simd(2);
    const AnyBackend any(simd), plain(Plain{});
    REQUIRE(any.target<SimdBackend>() != nullptr);
    CHECK(any.target<SimdBackend>()->threads() == 2);
    CHECK(any.target<Plain>() == nullptr);
    CHECK(plain.target<Plain>() != nullptr);
    CHECK(any.level() == simd.level());
    CHECK(plain.level() == CpuLevel::Portable);
    CHECK(any.repacks(DType::Q4_1) == simd.repacks(DType::Q4_1));
    CHECK_FALSE(plain.repacks(DType::Q4_1));

    std::vector<int> seen(100, 0);
    for (const AnyBackend* const backend : {&any, &plain}) {
        backend->parallel_for(seen.size(), 8, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) ++seen[i];
        });
    }
    CHECK(seen == std::vector<int>(100, 2));
    const AnyBackend copy = any;
    CHECK(copy.target<SimdBackend>() == any.target<SimdBackend>());  // copies share the backend
}

}  // namespace test_any_backend
