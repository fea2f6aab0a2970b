#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/score.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/random_model.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

// Sessions whose windowed layers give up rows, beside sessions that keep them all: nobody may see a difference.

namespace test_kv_window {

using namespace adainfer;

namespace {

constexpr std::size_t context = 3000, window = 6, layers = 4;

using Sizes = std::initializer_list<std::size_t>;

enum class Windows { Alternate, Everywhere };

ModelWeights windowed_weights(Windows windows) {
    ModelWeights weights = make_random_model({.layers = layers, .hidden = 16, .heads = 4, .kv_heads = 2, .head_dim = 4,
                                              .feed_forward = 24, .vocabulary = 40, .context = context, .seed = 5});
    weights.config.window = window;
    if (windows == Windows::Alternate) weights.config.windowed = {true, false, true, true};
    return weights;
}

template <class Backend = ReferenceBackend>
struct Pair {
    Model<Backend> model;
    Session whole, sliding;

    explicit Pair(std::size_t rewindable, Windows windows = Windows::Alternate, KvType kv = KvType::F32)
        : model(windowed_weights(windows)), whole(model.new_session({.kv = kv})),
          sliding(model.new_session({.kv = kv, .rewindable = rewindable})) {}

    void prefill(std::size_t n) {
        const auto tokens = tiny::tokens(n);
        model.prefill(whole, tokens);
        model.prefill(sliding, tokens);
    }
    void decode(std::size_t n) {
        for (const TokenId token : tiny::tokens(n)) {
            const auto expected = tiny::copy(model.decode(whole, token).logits);
            CHECK(tiny::copy(model.decode(sliding, token).logits) == expected);
        }
    }
    /// Both say the same after n more tokens.
    void check(std::size_t n = 3) {
        REQUIRE(sliding.length() == whole.length());
        const auto tokens = tiny::tokens(n);
        const auto expected = tiny::copy(model.predict(whole, tokens).logits);
        CHECK(tiny::copy(model.predict(sliding, tokens).logits) == expected);
    }
    void rewind(std::size_t length) {
        whole.rewind(length);
        sliding.rewind(length);
    }
};

}  // namespace

TEST_CASE("prompts and steps, longer than the room of windowed layers many times over") {
    for (const Windows windows : {Windows::Alternate, Windows::Everywhere}) {
        for (const std::size_t rewindable : {std::size_t{0}, std::size_t{50}}) {
            Pair pair(rewindable, windows);
            for (const std::size_t n : Sizes{1, 5, 300, 2, 700, 1, 256, 255}) {
                pair.prefill(n);
                pair.check();
            }
            pair.decode(600);
            pair.check();
        }
    }
}

TEST_CASE("the memory of a windowed layer does not grow with the session") {
    Pair pair(10);
    constexpr std::size_t row = 2 * 2 * 4 * sizeof(float);  // K and V, heads, head_dim
    CHECK(pair.whole.cache.reserved_bytes() == layers * context * row);
    const std::size_t reserved = pair.sliding.cache.reserved_bytes();
    CHECK(reserved == (context + 3 * (window + 10 + 256)) * row);
    pair.prefill(2000);
    pair.decode(300);
    CHECK(pair.sliding.cache.reserved_bytes() == reserved);
    CHECK(pair.sliding.cache.used_bytes() <= (2300 + 3 * (window + 10 + 256)) * row);
    CHECK(pair.sliding.cache.used_bytes() >= (2300 + 3 * (window + 10 - 1)) * row);
    CHECK(pair.whole.cache.used_bytes() == layers * 2300 * row);
}

TEST_CASE("a session too small to save anything, and models without windows, keep every position") {
    const Model<ReferenceBackend> model(windowed_weights(Windows::Alternate));
    const auto bytes = [&](SessionOptions options) { return model.new_session(options).cache.reserved_bytes(); };
    for (const std::size_t capacity : {std::size_t{1}, window, std::size_t{200}}) {
        CHECK(bytes({.capacity = capacity, .rewindable = 0}) == bytes({.capacity = capacity}));
    }
    CHECK(bytes({.capacity = 1000, .rewindable = 999}) == bytes({.capacity = 1000}));
    CHECK(bytes({.capacity = 1000, .rewindable = 0}) < bytes({.capacity = 1000}));
    const Model<ReferenceBackend> full(tiny::weights());
    Session session = full.new_session({.rewindable = 0});
    full.prefill(session, tiny::tokens(30));
    CHECK_NOTHROW(session.rewind(3));
}

TEST_CASE("predict on a cached prefix leaves the session as it was, however long what follows") {
    Pair pair(0);
    pair.prefill(500);
    for (const std::size_t n : Sizes{3, 700, 10, 1500, 1}) pair.check(n);
    pair.decode(20);
    pair.check(600);
}

TEST_CASE("rewinding: as far as was asked for and to the start; further is an error that changes nothing") {
    Pair pair(20);
    pair.prefill(700);
    pair.decode(20);
    pair.rewind(700);
    pair.check();
    pair.decode(400);  // rows are given up on the way
    pair.rewind(1080);
    pair.check();
    for (int step = 0; step < 600; ++step) {
        static_cast<void>(pair.model.decode(pair.sliding, 3));
        CHECK(pair.sliding.cache.reaches(pair.sliding.length() - 20));
    }
    pair.rewind(0);
    pair.prefill(1080);
    pair.decode(5);
    CHECK(tiny::code_of([&] { pair.sliding.rewind(300); return 0; }) == ErrorCode::InvalidArgument);
    CHECK(contains(tiny::message_of([&] { pair.sliding.rewind(300); return 0; }), "rewindable"));
    CHECK(pair.sliding.length() == 1085);
    pair.check();
    pair.rewind(0);
    CHECK(pair.sliding.cache.used_bytes() == 0);
    pair.check();
    pair.prefill(400);
    pair.check();
}

TEST_CASE("a prompt that is cancelled leaves the session as it was") {
    for (const std::size_t before : {std::size_t{0}, std::size_t{3}, std::size_t{900}}) {
        CAPTURE(before);
        Pair pair(0);
        if (before != 0) pair.prefill(before);
        std::stop_source stop;
        const auto progress = [&](const ProgressEvent& event) {
            if (event.done >= 1024) stop.request_stop();
        };
        const auto tokens = tiny::tokens(2000);
        const auto prefill = [&] {
            pair.model.prefill(pair.sliding, tokens, {stop.get_token(), progress});
            return 0;
        };
        CHECK(tiny::code_of(prefill) == ErrorCode::Cancelled);
        CHECK(stop.stop_requested());
        pair.check();
        pair.decode(10);
        pair.prefill(600);
        pair.check();
    }
}

TEST_CASE("score and log_likelihood rewind behind more than the window") {
    Pair pair(0);
    pair.prefill(700);
    const auto prompt = tiny::tokens(600), text = tiny::tokens(800);
    const double expected = score(pair.model, pair.whole, prompt, text).log_probability;
    CHECK(score(pair.model, pair.sliding, prompt, text).log_probability == expected);
    pair.check();
    const double alone = log_likelihood(pair.model, pair.whole, text).log_probability;
    CHECK(log_likelihood(pair.model, pair.sliding, text).log_probability == alone);
    pair.check();
    pair.decode(10);
}

TEST_CASE("a clone goes its own way") {
    Pair pair(4);
    pair.prefill(900);
    Session copy = pair.sliding.clone();
    CHECK(copy.cache.used_bytes() == pair.sliding.cache.used_bytes());
    pair.decode(400);
    pair.whole.rewind(900);
    pair.sliding = std::move(copy);
    pair.check();
    pair.decode(300);
    pair.sliding.rewind(pair.sliding.length() - 4);
    pair.whole.rewind(pair.whole.length() - 4);
    pair.check();
}

TEST_CASE("positions that were deferred find their window when they run on") {
    for (const std::size_t before : {std::size_t{0}, std::size_t{2}, std::size_t{800}}) {
        CAPTURE(before);
        Pair pair(0);
        if (before != 0) pair.prefill(before);
        const auto deferring = pair.model.with_policy(ExitAtLayer<>(1)).with_completion<DeferredExact>();
        for (const TokenId token : tiny::tokens(500)) {
            static_cast<void>(pair.model.decode(pair.whole, token));
            static_cast<void>(deferring.decode(pair.sliding, token));
        }
        CHECK(pair.sliding.deferred.size() == 500);
        pair.check();  // the dense model runs them all
        pair.decode(300);
        CHECK(pair.sliding.deferred.empty());
        pair.check();
    }
}

TEST_CASE("the same for SimdBackend and rounded rows") {
    for (const KvType kv : {KvType::F32, KvType::F16}) {
        Pair<SimdBackend> pair(0, Windows::Alternate, kv);
        pair.prefill(1000);
        pair.check(400);
        pair.decode(300);
        pair.check();
    }
}

}  // namespace test_kv_window
