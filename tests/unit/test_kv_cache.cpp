#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/random_model.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

// Sessions whose KV cache is f32, f16 or q8_0.

namespace test_kv_cache {

using namespace adainfer;

namespace {

constexpr std::array types{KvType::F32, KvType::F16, KvType::Q8_0};

ModelWeights wide_weights() {
    return make_random_model({.layers = 4, .hidden = 48, .heads = 4, .kv_heads = 2, .head_dim = 32, .feed_forward = 64,
                              .vocabulary = 60, .context = 64, .biases = true, .seed = 9});
}

template <class Model>
std::vector<float> logits_of(const Model& model, Session& session, const std::vector<TokenId>& tokens) {
    return tiny::copy(model.predict(session, tokens).logits);
}

/// Keys and values of all positions of all layers, as floats.
std::vector<float> all_rows(const Session& session, std::size_t layers) {
    std::vector<float> rows, row(session.cache.kv_heads() * session.cache.head_dim());
    for (std::size_t layer = 0; layer < layers; ++layer) {
        for (const KvCache::Part part : {KvCache::Part::Keys, KvCache::Part::Values}) {
            for (std::size_t position = 0; position < session.length(); ++position) {
                session.cache.load(layer, part, position, row);
                rows.insert(rows.end(), row.begin(), row.end());
            }
        }
    }
    return rows;
}

}  // namespace

TEST_CASE("a session has the type that it was asked for; f32 unless asked") {
    const Model<ReferenceBackend> model(wide_weights());
    CHECK(model.new_session().cache.type() == KvType::F32);
    CHECK(model.new_session(7).cache.type() == KvType::F32);
    CHECK(model.new_session({.kv = KvType::F16}).capacity() == 64);
    CHECK(model.new_session({.capacity = 9, .kv = KvType::Q8_0}).capacity() == 9);
    CHECK(tiny::code_of([&] { return model.new_session({.capacity = 65, .kv = KvType::F16}); }) == ErrorCode::ContextOverflow);
    for (const KvType type : types) CHECK(model.new_session({.kv = type}).cache.type() == type);
}

TEST_CASE("bytes in use: f16 half of f32, q8_0 34 of 128") {
    const Model<ReferenceBackend> model(wide_weights());
    const std::size_t floats = 4 * 2 * 2 * 32 * 10;  // layers, K and V, heads, head_dim, positions
    for (const auto& [type, bytes] :
         {std::pair{KvType::F32, 4 * floats}, {KvType::F16, 2 * floats}, {KvType::Q8_0, floats / 32 * 34}}) {
        Session session = model.new_session({.kv = type});
        CHECK(session.cache.used_bytes() == 0);
        model.prefill(session, tiny::tokens(10));
        CHECK(session.cache.used_bytes() == bytes);
    }
}

TEST_CASE("q8_0 needs heads of whole blocks, and says so") {
    const Model<ReferenceBackend> model(tiny::weights());  // heads of 4
    CHECK(tiny::code_of([&] { return model.new_session({.kv = KvType::Q8_0}); }) == ErrorCode::InvalidArgument);
    const std::string message = tiny::message_of([&] { return model.new_session({.kv = KvType::Q8_0}); });
    CHECK(contains(message, "q8_0"));
    CHECK(contains(message, "multiple of 32"));
    CHECK(contains(message, "have 4"));
    CHECK(model.new_session({.kv = KvType::F16}).cache.type() == KvType::F16);
}

TEST_CASE("a capacity beyond any memory is refused") {
    const ModelConfig config = wide_weights().config;
    for (const std::size_t capacity : {std::size_t{1} << 40U, ~std::size_t{0}}) {
        for (const KvType type : types) {
            CHECK(tiny::code_of([&] { return KvCache(config, capacity, type); }) == ErrorCode::InvalidArgument);
        }
    }
}

TEST_CASE("logits with rounded keys and values stay near those of f32") {
    const Model<ReferenceBackend> model(wide_weights());
    Session full = model.new_session();
    model.prefill(full, tiny::tokens(20));
    const auto expected = logits_of(model, full, {3, 1, 4});
    double off_f16 = 0, off_q8 = 0;
    for (const auto& [type, off] : {std::pair{KvType::F16, &off_f16}, {KvType::Q8_0, &off_q8}}) {
        Session session = model.new_session({.kv = type});
        model.prefill(session, tiny::tokens(20));
        *off = tiny::difference(logits_of(model, session, {3, 1, 4}), expected);
    }
    CHECK(off_f16 < 4e-3);
    CHECK(off_q8 < 6e-2);
    CHECK(off_f16 > 1e-6);  // they are rounded
    CHECK(off_q8 > 2 * off_f16);
}

TEST_CASE("clone and rewind keep what is stored, bit for bit") {
    const Model<SimdBackend> model(wide_weights());
    for (const KvType type : types) {
        CAPTURE(to_string(type));
        Session session = model.new_session({.kv = type});
        model.prefill(session, tiny::tokens(12));
        Session copy = session.clone();
        CHECK(copy.cache.type() == type);
        CHECK(copy.cache.used_bytes() == session.cache.used_bytes());
        CHECK(all_rows(copy, 4) == all_rows(session, 4));
        const auto expected = logits_of(model, session, {5, 6});
        CHECK(logits_of(model, copy, {5, 6}) == expected);
        model.prefill(session, tiny::tokens(9));
        session.rewind(12);
        CHECK(logits_of(model, session, {5, 6}) == expected);
        CHECK(all_rows(copy, 4) == all_rows(session, 4));
    }
}

TEST_CASE("K/V of layers not run: left out and caught up, or propagated, in each type") {
    const Model<ReferenceBackend> dense(wide_weights());
    for (const KvType type : types) {
        CAPTURE(to_string(type));
        const SessionOptions options{.kv = type};
        Session expected = dense.new_session(options), deferred = dense.new_session(options);
        Session propagated = dense.new_session(options);
        const auto early = dense.with_policy(ExitAtLayer<>(2));
        const auto deferring = early.with_completion<DeferredExact>();
        for (Session* session : {&expected, &deferred, &propagated}) dense.prefill(*session, tiny::tokens(5));
        for (const TokenId token : {7, 8, 9}) {
            static_cast<void>(dense.decode(expected, token));
            static_cast<void>(deferring.decode(deferred, token));
            static_cast<void>(early.decode(propagated, token));
        }
        CHECK_FALSE(deferred.deferred.empty());
        dense.finish(deferred);
        CHECK(all_rows(deferred, 4) == all_rows(expected, 4));  // the reference sums every row by itself
        CHECK(logits_of(dense, deferred, {1, 2}) == logits_of(dense, expected, {1, 2}));
        // Layer 3 of a propagated position: its projections of the state after layer 2, in the cache's type.
        CHECK(propagated.length() == 8);
        CHECK(all_rows(propagated, 2) == all_rows(expected, 2));
        CHECK(all_rows(propagated, 4) != all_rows(expected, 4));
        CHECK(tiny::difference(logits_of(dense, propagated, {1}), logits_of(dense, expected, {1})) < 1.0);
    }
}

TEST_CASE("the number of threads changes no bit, whatever the type") {
    for (const KvType type : types) {
        std::vector<float> first;
        for (const std::size_t threads : {std::size_t{1}, std::size_t{2}, std::size_t{3}}) {
            const Model<SimdBackend> model(wide_weights(), {}, SimdBackend(threads));
            Session session = model.new_session({.kv = type});
            model.prefill(session, tiny::tokens(20));
            static_cast<void>(model.decode(session, 3));
            const auto found = logits_of(model, session, {1, 2, 3});
            if (threads == 1) first = found;
            CHECK(found == first);
        }
    }
}

TEST_CASE("keys that f16 cannot hold are an error that says so") {
    ModelWeights weights = wide_weights();
    weights.layers[1].k.bias[5] = 1e6F;
    const Model<EigenBackend> model(std::move(weights));
    Session f32 = model.new_session(), f16 = model.new_session({.kv = KvType::F16}), q8 = model.new_session({.kv = KvType::Q8_0});
    CHECK_NOTHROW(model.prefill(f32, tiny::tokens(3)));
    CHECK_NOTHROW(model.prefill(q8, tiny::tokens(3)));  // up to 8e6
    CHECK(tiny::code_of([&] { model.prefill(f16, tiny::tokens(3)); return 0; }) == ErrorCode::NotFinite);
    const std::string message = tiny::message_of([&] { model.prefill(f16, tiny::tokens(3)); return 0; });
    CHECK(contains(message, "layer 2"));
    CHECK(contains(message, "type f16"));
    CHECK(f16.length() == 0);
}

}  // namespace test_kv_cache
