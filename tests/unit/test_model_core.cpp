#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/model/model.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

namespace test_model_core {

using namespace adainfer;

namespace {

constexpr std::size_t layers = 4;

std::vector<TokenId> part(const std::vector<TokenId>& tokens, std::size_t first, std::size_t last) {
    return {tokens.begin() + static_cast<std::ptrdiff_t>(first), tokens.begin() + static_cast<std::ptrdiff_t>(last)};
}

/// Requests a stop at the check after a layer, as somebody in another thread would.
struct StopsAt {
    std::size_t layer;
    std::stop_source* source;
    struct State {};
    struct Features {
        struct Values {};
    };
    [[nodiscard]] bool wants(std::size_t) const { return true; }
    [[nodiscard]] ExitDecision decide(std::size_t at, const Features::Values&, State&) const {
        if (at == layer) source->request_stop();
        return ExitDecision::Continue;
    }
};

}  // namespace

TEST_CASE_TEMPLATE("exit after the last layer is bit-equal to the dense model", Backend, ReferenceBackend, EigenBackend) {
    const Model<Backend> dense(tiny::weights());
    const auto fixed = dense.with_policy(ExitAtLayer<>(layers));
    Session a = dense.new_session(), b = fixed.new_session();
    const auto prompt = tiny::tokens(9);

    const Prediction p = dense.predict(a, prompt), q = fixed.predict(b, prompt);
    CHECK(tiny::copy(p.logits) == tiny::copy(q.logits));
    CHECK(p.exit_layer == layers);
    CHECK(q.exit_layer == layers);
    CHECK(q.checks == 0);

    TokenId next = dense.prefill_and_predict(a, prompt).token;
    CHECK(fixed.prefill_and_predict(b, prompt).token == next);
    for (int i = 0; i < 8; ++i) {
        const Prediction x = dense.decode(a, next), y = fixed.decode(b, next);
        CHECK(tiny::copy(x.logits) == tiny::copy(y.logits));
        CHECK(x.token == y.token);
        next = x.token;
    }
}

TEST_CASE_TEMPLATE("a prompt may come at once, in chunks or token by token", Backend, ReferenceBackend, EigenBackend) {
    const Model<Backend> model(tiny::weights());
    const auto prompt = tiny::tokens(23);
    Session whole = model.new_session(), chunks = model.new_session(), single = model.new_session(), mixed = model.new_session();

    const auto expected = tiny::copy(model.prefill_and_predict(whole, prompt).logits);

    model.prefill(chunks, part(prompt, 0, 7));
    model.prefill(chunks, part(prompt, 7, 8));
    CHECK(tiny::difference(model.prefill_and_predict(chunks, part(prompt, 8, 23)).logits, expected) < 1e-5);

    std::vector<float> last;
    for (const TokenId token : prompt) last = tiny::copy(model.decode(single, token).logits);
    CHECK(tiny::difference(last, expected) < 1e-5);

    model.prefill(mixed, part(prompt, 0, 11));
    static_cast<void>(model.decode(mixed, prompt[11]));
    CHECK(tiny::difference(model.predict(mixed, part(prompt, 12, 23)).logits, expected) < 1e-5);

    CHECK(whole.length() == 23);
    CHECK(chunks.length() == 23);
    CHECK(single.length() == 23);
    CHECK(mixed.length() == 12);
    CHECK(tiny::difference(expected, std::vector<float>(expected.size(), 0.0F)) > 1);
}

TEST_CASE("prompts longer than a pass go in several, and report progress") {
    RandomModelOptions options = tiny::options();
    options.context = 700;
    const Model<EigenBackend> model(make_random_model(options));
    const auto prompt = tiny::tokens(600);
    Session long_session = model.new_session(), reference = model.new_session();
    std::vector<std::size_t> done;
    const RunOptions run{.progress = [&](const ProgressEvent& event) {
        CHECK(event.total == 600);
        done.push_back(event.done);
    }};
    const auto logits = tiny::copy(model.prefill_and_predict(long_session, prompt, run).logits);
    CHECK(done == std::vector<std::size_t>{256, 512, 600});
    for (std::size_t i = 0; i < 600; i += 100) model.prefill(reference, part(prompt, i, i + 100));
    reference.rewind(599);
    CHECK(tiny::difference(model.predict(reference, part(prompt, 599, 600)).logits, logits) < 1e-5);
}

TEST_CASE("predict leaves the session unchanged") {
    const Model<EigenBackend, ExitAtLayer<>> model(tiny::weights(), ExitAtLayer<>(2));
    Session touched = model.new_session(), untouched = model.new_session();
    const auto prompt = tiny::tokens(6);
    model.prefill(touched, prompt);
    model.prefill(untouched, prompt);
    const std::vector<TokenId> other{9, 8, 7, 6, 5};
    const auto first = tiny::copy(model.predict(touched, other).logits);
    CHECK(touched.length() == 6);
    CHECK(tiny::copy(model.predict(touched, other).logits) == first);
    for (const TokenId token : {3, 1, 4}) {
        CHECK(tiny::copy(model.decode(touched, token).logits) == tiny::copy(model.decode(untouched, token).logits));
    }
}

TEST_CASE("for_each_logits visits every position and leaves the session unchanged") {
    const Model<ReferenceBackend> model(tiny::weights());
    Session session = model.new_session(), steps = model.new_session();
    const auto prompt = tiny::tokens(5), more = tiny::tokens(12);
    model.prefill(session, prompt);
    model.prefill(steps, prompt);
    std::size_t visited = 0;
    model.for_each_logits(session, more, [&](std::size_t t, std::span<const float> logits) {
        CHECK(t == visited++);
        CHECK(tiny::difference(logits, tiny::copy(model.decode(steps, more[t]).logits)) < 1e-6);
    });
    CHECK(visited == 12);
    CHECK(session.length() == 5);
}

TEST_CASE("a clone goes its own way") {
    const Model<EigenBackend> model(tiny::weights());
    Session original = model.new_session(), alone = model.new_session();
    const auto prompt = tiny::tokens(10);
    model.prefill(original, prompt);
    model.prefill(alone, prompt);
    Session clone = original.clone();
    CHECK(clone.length() == 10);
    CHECK(clone.capacity() == original.capacity());
    for (const TokenId token : {1, 2, 3}) static_cast<void>(model.decode(clone, token));
    CHECK(original.length() == 10);
    for (const TokenId token : {30, 31}) {
        CHECK(tiny::copy(model.decode(original, token).logits) == tiny::copy(model.decode(alone, token).logits));
    }
    CHECK(clone.length() == 13);
    static_assert(!std::is_copy_constructible_v<Session>);
}

TEST_CASE("rewind forgets what came after") {
    const Model<EigenBackend> model(tiny::weights());
    Session session = model.new_session(), fresh = model.new_session();
    model.prefill(session, tiny::tokens(10));
    session.rewind(4);
    model.prefill(fresh, part(tiny::tokens(10), 0, 4));
    CHECK(session.length() == 4);
    // Batched and shorter products add in another order.
    CHECK(tiny::difference(model.decode(session, 7).logits, tiny::copy(model.decode(fresh, 7).logits)) < 1e-5);
    CHECK(tiny::code_of([&] { session.rewind(6); }) == ErrorCode::InvalidArgument);
    CHECK(session.length() == 5);
}

TEST_CASE("the context is full exactly at its limit") {
    const Model<EigenBackend> model(tiny::weights());
    CHECK(model.new_session().capacity() == 32);
    CHECK(model.new_session(32).capacity() == 32);
    CHECK(tiny::code_of([&] { return model.new_session(33); }) == ErrorCode::ContextOverflow);

    Session session = model.new_session(8);
    CHECK(tiny::code_of([&] { model.prefill(session, tiny::tokens(9)); }) == ErrorCode::ContextOverflow);
    CHECK(session.length() == 0);
    model.prefill(session, tiny::tokens(7));
    CHECK(tiny::code_of([&] { return model.predict(session, tiny::tokens(2)); }) == ErrorCode::ContextOverflow);
    CHECK(model.predict(session, tiny::tokens(1)).token >= 0);
    CHECK(model.decode(session, 1).token >= 0);
    CHECK(session.length() == 8);
    CHECK(tiny::code_of([&] { return model.decode(session, 1); }) == ErrorCode::ContextOverflow);
    CHECK(tiny::code_of([&] { model.for_each_logits(session, {{1}}, [](auto, auto) {}); }) == ErrorCode::ContextOverflow);
    CHECK(session.length() == 8);
    const std::string message = tiny::message_of([&] { model.prefill(session, tiny::tokens(3)); });
    CHECK(contains(message, "3 tokens after 8 positions"));
}

TEST_CASE("bad arguments are errors that name them, and leave the session alone") {
    const Model<EigenBackend> model(tiny::weights());
    Session session = model.new_session();
    model.prefill(session, tiny::tokens(3));
    const std::vector<TokenId> none, outside{1, 40}, negative{-1};

    CHECK(tiny::code_of([&] { model.prefill(session, none); }) == ErrorCode::InvalidArgument);
    CHECK(tiny::code_of([&] { return model.predict(session, none); }) == ErrorCode::InvalidArgument);
    CHECK(tiny::code_of([&] { return model.prefill_and_predict(session, none); }) == ErrorCode::InvalidArgument);
    CHECK(tiny::code_of([&] { model.prefill(session, outside); }) == ErrorCode::UnknownToken);
    CHECK(tiny::code_of([&] { return model.decode(session, -1); }) == ErrorCode::UnknownToken);
    CHECK(tiny::code_of([&] { return model.predict(session, negative); }) == ErrorCode::UnknownToken);
    CHECK(tiny::code_of([&] { return model.predict(session, tiny::tokens(2), outside); }) == ErrorCode::UnknownToken);
    const std::string message = tiny::message_of([&] { model.prefill(session, outside); });
    CHECK(contains(message, "token 40 at position 4"));
    CHECK(session.length() == 3);
}

TEST_CASE("a session belongs to its weights, not to a policy") {
    RandomModelOptions options = tiny::options();
    options.seed = 6;
    const Model<EigenBackend> model(tiny::weights()), stranger(make_random_model(options));
    Session session = model.new_session();
    const auto prompt = tiny::tokens(3);
    model.prefill(session, prompt);
    CHECK(tiny::code_of([&] { stranger.prefill(session, prompt); }) == ErrorCode::IdentityMismatch);
    CHECK(tiny::code_of([&] { return stranger.predict(session, prompt); }) == ErrorCode::IdentityMismatch);
    CHECK(tiny::code_of([&] { return stranger.decode(session, 1); }) == ErrorCode::IdentityMismatch);
    CHECK(model.with_policy(ExitAtLayer<>(2)).decode(session, 1).exit_layer == 2);
    CHECK(session.length() == 4);
}

TEST_CASE("NaN is an error that names layer and position") {
    SUBCASE("in a weight of a layer") {
        ModelWeights weights = tiny::weights();
        tiny::mutable_row(weights.layers[2].up.weight, 3)[1] = tiny::nan;
        const Model<EigenBackend> model(std::move(weights));
        Session session = model.new_session();
        const std::string message = tiny::message_of([&] { model.prefill(session, tiny::tokens(4)); });
        CHECK(contains(message, "not finite"));
        CHECK(contains(message, "after layer 3 at position 0"));
        CHECK(session.length() == 0);
        CHECK(tiny::code_of([&] { return model.decode(session, 1); }) == ErrorCode::NotFinite);
        CHECK(tiny::code_of([&] { return model.predict(session, tiny::tokens(4)); }) == ErrorCode::NotFinite);
        // Two layers are sound.
        CHECK(model.with_policy(ExitAtLayer<>(2)).predict(session, tiny::tokens(4)).exit_layer == 2);
    }
    SUBCASE("in the embedding of one token") {
        ModelWeights weights = tiny::weights();
        tiny::mutable_row(weights.token_embedding, 17)[0] = std::numeric_limits<float>::infinity();
        const Model<ReferenceBackend> model(std::move(weights));
        Session session = model.new_session();
        model.prefill(session, {{1, 2}});
        const std::string message = tiny::message_of([&] { model.prefill(session, {{3, 4, 17, 5}}); });
        CHECK(contains(message, "layer 1 at position 4"));
        CHECK(session.length() == 2);
    }
    SUBCASE("in the head") {
        ModelWeights weights = tiny::weights();
        weights.head.bias.assign(40, 0.0F);
        weights.head.bias[39] = tiny::nan;
        const Model<EigenBackend> model(std::move(weights));
        Session session = model.new_session();
        CHECK(tiny::code_of([&] { return model.prefill_and_predict(session, tiny::tokens(4)); }) == ErrorCode::NotFinite);
        CHECK(session.length() == 0);
        CHECK(tiny::code_of([&] { return model.decode(session, 1); }) == ErrorCode::NotFinite);
        CHECK(session.length() == 0);
        const std::vector<TokenId> sound{1, 2}, spoilt{1, 39};
        CHECK(model.predict(session, tiny::tokens(4), sound).token <= 2);
        CHECK(tiny::code_of([&] { return model.predict(session, tiny::tokens(4), spoilt); }) == ErrorCode::NotFinite);
        // Candidates of a row of the whole vocabulary are looked at too.
        const auto full = model.with_policy(ExitAtLayer<LogitLens, FullHead>(2));
        CHECK(full.predict(session, tiny::tokens(4), sound).token <= 2);
        CHECK(tiny::code_of([&] { return full.predict(session, tiny::tokens(4), spoilt); }) == ErrorCode::NotFinite);
    }
}

TEST_CASE("candidates: the same logits as those of the whole vocabulary, and the best of them") {
    const Model<EigenBackend> model(tiny::weights());
    Session session = model.new_session();
    const auto prompt = tiny::tokens(5);
    const std::vector<TokenId> candidates{30, 2, 17};
    for (const std::size_t layer : {std::size_t{2}, layers}) {
        const auto few = model.with_policy(ExitAtLayer<>(layer));
        const auto all = model.with_policy(ExitAtLayer<LogitLens, FullHead>(layer));
        const auto row = tiny::copy(all.predict(session, prompt).logits);
        REQUIRE(row.size() == 40);
        const Prediction p = few.predict(session, prompt, candidates);
        REQUIRE(p.logits.size() == 3);
        REQUIRE(p.columns.size() == 3);
        std::size_t best = 0;
        for (std::size_t i = 0; i < 3; ++i) {
            CHECK(p.columns[i] == candidates[i]);
            CHECK(p.logits[i] == doctest::Approx(row[static_cast<std::size_t>(candidates[i])]).epsilon(1e-5));
            if (p.logits[i] > p.logits[best]) best = i;
        }
        const TokenId chosen = candidates[best];
        CHECK(p.token == chosen);
        CHECK(all.predict(session, prompt, candidates).token == chosen);
    }
}

TEST_CASE("a requested stop throws Cancelled and leaves the session as it was") {
    const Model<EigenBackend> model(tiny::weights());
    Session session = model.new_session(), other = model.new_session();
    const auto prompt = tiny::tokens(8);
    model.prefill(session, prompt);
    model.prefill(other, prompt);

    std::stop_source before;
    before.request_stop();
    const RunOptions stopped{.stop = before.get_token(), .progress = {}};
    CHECK(tiny::code_of([&] { model.prefill(session, prompt, stopped); }) == ErrorCode::Cancelled);
    CHECK(tiny::code_of([&] { return model.decode(session, 1, stopped); }) == ErrorCode::Cancelled);
    CHECK(tiny::code_of([&] { return model.predict(session, prompt, {}, stopped); }) == ErrorCode::Cancelled);
    CHECK(tiny::code_of([&] { model.for_each_logits(session, prompt, [](auto, auto) {}, stopped); }) == ErrorCode::Cancelled);

    for (std::size_t layer = 1; layer < layers; ++layer) {
        std::stop_source source;
        const auto stopping = model.with_policy(StopsAt{layer, &source});
        const std::string message = tiny::message_of([&] { return stopping.decode(session, 1, {source.get_token(), {}}); });
        CHECK(contains(message, "stopped before layer " + std::to_string(layer + 1)));
    }
    CHECK(session.length() == 8);
    CHECK(tiny::copy(model.decode(session, 5).logits) == tiny::copy(model.decode(other, 5).logits));
}

TEST_CASE("a stop between two passes of a long prompt undoes both") {
    RandomModelOptions options = tiny::options();
    options.context = 700;
    const Model<EigenBackend> model(make_random_model(options));
    Session session = model.new_session();
    model.prefill(session, tiny::tokens(3));
    std::stop_source source;
    const RunOptions run{source.get_token(), [&](const ProgressEvent&) { source.request_stop(); }};
    CHECK(tiny::code_of([&] { model.prefill(session, tiny::tokens(400), run); }) == ErrorCode::Cancelled);
    CHECK(session.length() == 3);
}

TEST_CASE("building a model reports progress and can be cancelled") {
    std::vector<std::size_t> done;
    BuildOptions options;
    options.progress = [&](const ProgressEvent& event) {
        CHECK(event.total == layers);
        done.push_back(event.done);
    };
    const Model<EigenBackend> model(tiny::weights(), {}, EigenBackend{}, options);
    CHECK(done == std::vector<std::size_t>{1, 2, 3, 4});

    std::stop_source source;
    options.stop = source.get_token();
    options.progress = [&](const ProgressEvent& event) {
        if (event.done == 2) source.request_stop();
    };
    CHECK(tiny::code_of([&] { const Model<EigenBackend> cancelled(tiny::weights(), {}, EigenBackend{}, options); }) ==
          ErrorCode::Cancelled);
}

TEST_CASE("after an early exit the deeper layers hold the projections of the exit state") {
    const Model<ReferenceBackend, ExitAtLayer<>> model(tiny::weights(), ExitAtLayer<>(2));
    const ModelWeights& weights = model.decoder().weights();
    const ModelConfig& config = model.config();
    Session session = model.new_session();
    model.prefill(session, tiny::tokens(6));
    Session twin = session.clone();
    const std::vector<TokenId> token{11};
    const auto states = tiny::states(model.decoder(), twin, token);

    CHECK(model.decode(session, token[0]).exit_layer == 2);
    REQUIRE(session.length() == 7);
    const std::size_t position = 6, d = config.head_dim;
    for (std::size_t layer = 2; layer < layers; ++layer) {
        const LayerWeights& l = weights.layers[layer];
        const auto normed = tiny::norm(states[2], l.attention_norm.gain, config.norm_eps);
        std::vector<double> k = tiny::product(l.k, normed);
        const std::vector<double> v = tiny::product(l.v, normed);
        for (std::size_t head = 0; head < config.kv_heads; ++head) {
            for (std::size_t i = 0; i < d / 2; ++i) {  // interleaved pairs
                const double angle = static_cast<double>(position) *
                                     std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(d));
                double& a = k[head * d + 2 * i];
                double& b = k[head * d + 2 * i + 1];
                const double rotated = a * std::cos(angle) - b * std::sin(angle);
                b = a * std::sin(angle) + b * std::cos(angle);
                a = rotated;
            }
        }
        std::vector<float> cached_k(k.size()), cached_v(v.size());
        session.cache.load(layer, KvCache::Part::Keys, position, cached_k);
        session.cache.load(layer, KvCache::Part::Values, position, cached_v);
        for (std::size_t i = 0; i < k.size(); ++i) {
            CHECK(static_cast<double>(cached_k[i]) == doctest::Approx(k[i]).epsilon(1e-5));
            CHECK(static_cast<double>(cached_v[i]) == doctest::Approx(v[i]).epsilon(1e-5));
        }
    }
}

TEST_CASE("Discard predicts, and keeps no session") {
    const Model<EigenBackend, ExitAtLayer<>, Discard> model(tiny::weights(), ExitAtLayer<>(2));
    const Model<EigenBackend, ExitAtLayer<>> keeping(tiny::weights(), ExitAtLayer<>(2));
    Session session = model.new_session();
    const auto prompt = tiny::tokens(5);
    const auto expected = tiny::copy(keeping.predict(session, prompt).logits);
    CHECK(tiny::copy(model.predict(session, prompt).logits) == expected);
    model.prefill(session, prompt);
    CHECK(session.length() == 5);
}

TEST_CASE("threads share one model, each with its own session") {
    const Model<EigenBackend, GapThreshold<>> model(tiny::weights(), GapThreshold<>(0.3F), EigenBackend(2));
    const auto run = [&](std::size_t start) {
        std::vector<float> all;
        Session session = model.new_session();
        TokenId next = model.prefill_and_predict(session, tiny::tokens(3 + start)).token;
        for (int i = 0; i < 12; ++i) {
            const Prediction p = model.decode(session, next);
            all.insert(all.end(), p.logits.begin(), p.logits.end());
            all.push_back(static_cast<float>(p.exit_layer));
            next = p.token;
        }
        return all;
    };
    constexpr std::size_t n = 4;
    std::vector<std::vector<float>> serial(n), parallel(n);
    for (std::size_t i = 0; i < n; ++i) serial[i] = run(i);
    for (int round = 0; round < 10; ++round) {
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < n; ++i) threads.emplace_back([&, i] { parallel[i] = run(i); });
        for (std::thread& thread : threads) thread.join();
        CHECK(parallel == serial);
    }
}

TEST_CASE("random models: equal options, equal weights; impossible ones are refused") {
    const Model<EigenBackend> one(tiny::weights()), same(tiny::weights());
    RandomModelOptions options = tiny::options();
    options.seed = 6;
    const Model<EigenBackend> other(make_random_model(options));
    Session a = one.new_session(), b = same.new_session(), c = other.new_session();
    const auto prompt = tiny::tokens(5);
    const auto logits = tiny::copy(one.predict(a, prompt).logits);
    CHECK(tiny::copy(same.predict(b, prompt).logits) == logits);
    CHECK(tiny::copy(other.predict(c, prompt).logits) != logits);
    CHECK(one.decoder().weights().identity != other.decoder().weights().identity);
    CHECK_FALSE(one.decoder().weights().tied());
    options.tied = true;
    CHECK(make_random_model(options).tied());
    options.kv_heads = 3;  // does not divide the four heads
    CHECK(tiny::code_of([&] { return make_random_model(options); }) == ErrorCode::CorruptFile);
}

}  // namespace test_model_core
