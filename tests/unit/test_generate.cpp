#include <doctest/doctest.h>

#include <cstddef>
#include <random>
#include <span>
#include <stop_token>
#include <string>
#include <type_traits>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/model/model.hpp"
#include "tiny_model.hpp"

namespace test_generate {

using namespace adainfer;

namespace {

using Dense = Model<EigenBackend>;

std::vector<TokenId> greedy_by_hand(const Dense& model, std::vector<TokenId> prompt, std::size_t n) {
    Session session = model.new_session();
    std::vector<TokenId> result;
    TokenId next = model.prefill_and_predict(session, prompt).token;
    while (result.size() < n) {
        result.push_back(next);
        next = model.decode(session, next).token;
    }
    return result;
}

struct Collected {
    std::vector<TokenId> tokens;
    GenerateResult result;
};

template <class M>
Collected collect(const M& model, Session& session, const std::vector<TokenId>& prompt, const GenerateOptions& options) {
    Collected c;
    c.result = generate(model, session, prompt, options, [&](const GeneratedToken& t) { c.tokens.push_back(t.token); });
    return c;
}

}  // namespace

TEST_CASE("greedy generation is the model's own choice, step by step") {
    const Dense model(tiny::weights());
    const auto prompt = tiny::tokens(4);
    Session session = model.new_session();
    const Collected c = collect(model, session, prompt, {.max_new_tokens = 10});
    CHECK(c.tokens == greedy_by_hand(model, prompt, 10));
    CHECK(c.result.tokens == 10);
    CHECK(c.result.reason == FinishReason::MaxTokens);
    CHECK(c.result.mean_layers == 4);
    CHECK(c.result.pending == c.tokens.back());
    CHECK(session.length() == 4 + 9);
}

TEST_CASE("the pending token goes on where a call ended") {
    const Dense model(tiny::weights());
    const auto prompt = tiny::tokens(4);
    Session session = model.new_session();
    const Collected first = collect(model, session, prompt, {.max_new_tokens = 5});
    const Collected second = collect(model, session, {first.result.pending}, {.max_new_tokens = 5});
    std::vector<TokenId> both = first.tokens;
    both.insert(both.end(), second.tokens.begin(), second.tokens.end());
    CHECK(both == greedy_by_hand(model, prompt, 10));
}

TEST_CASE("a stop token ends the text and is not delivered") {
    const Dense model(tiny::weights());
    const auto prompt = tiny::tokens(4);
    const auto all = greedy_by_hand(model, prompt, 10);
    const TokenId end = all[6];
    std::size_t first = 0;
    while (all[first] != end) ++first;
    Session session = model.new_session();
    const Collected c = collect(model, session, prompt, {.max_new_tokens = 10, .is_end = [&](TokenId t) { return t == end; }});
    CHECK(c.result.reason == FinishReason::StopToken);
    CHECK(c.tokens == std::vector<TokenId>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(first)));
    CHECK(c.result.pending == end);
    CHECK(session.length() == 4 + first);  // all that were delivered
}

TEST_CASE("the callback may stop it, or return nothing") {
    const Dense model(tiny::weights());
    const auto prompt = tiny::tokens(4);
    Session session = model.new_session();
    std::vector<TokenId> tokens;
    const GenerateResult result = generate(model, session, prompt, {}, [&](const GeneratedToken& t) {
        tokens.push_back(t.token);
        return tokens.size() == 3 ? Flow::Stop : Flow::Continue;
    });
    CHECK(result.reason == FinishReason::Callback);
    CHECK(result.tokens == 3);
    CHECK(result.pending == tokens.back());
    CHECK(tokens == greedy_by_hand(model, prompt, 3));
    CHECK(session.length() == 6);
}

TEST_CASE("a full context ends generation; a prompt that does not fit is an error") {
    const Dense model(tiny::weights());
    Session session = model.new_session(10);
    const Collected c = collect(model, session, tiny::tokens(7), {});
    CHECK(c.result.reason == FinishReason::ContextFull);
    CHECK(c.result.tokens == 4);  // three that are in the cache, and the last that has no room
    CHECK(session.length() == 10);
    CHECK(c.tokens == greedy_by_hand(model, tiny::tokens(7), 4));

    Session full = model.new_session(7);
    CHECK(collect(model, full, tiny::tokens(7), {}).tokens.size() == 1);
    Session small = model.new_session(6);
    CHECK(tiny::code_of([&] { collect(model, small, tiny::tokens(7), {}); }) == ErrorCode::ContextOverflow);
    CHECK(tiny::code_of([&] { collect(model, small, {}, {}); }) == ErrorCode::InvalidArgument);
    CHECK(small.length() == 0);
}

TEST_CASE("no new tokens: only the prompt is read") {
    const Dense model(tiny::weights());
    Session session = model.new_session();
    const Collected c = collect(model, session, tiny::tokens(5), {.max_new_tokens = 0});
    CHECK(c.tokens.empty());
    CHECK(c.result.reason == FinishReason::MaxTokens);
    CHECK(c.result.pending == no_token);
    CHECK(c.result.mean_layers == 0);
    CHECK(session.length() == 5);
}

TEST_CASE("a seed repeats, another one differs, a generator of the caller's goes on") {
    const Dense model(tiny::weights());
    const auto prompt = tiny::tokens(4);
    const auto run = [&](std::uint64_t seed) {
        Session session = model.new_session();
        const GenerateOptions seeded{.max_new_tokens = 20, .sampling = {.temperature = 1.5F, .top_k = 30}, .seed = seed};
        return collect(model, session, prompt, seeded).tokens;
    };
    CHECK(run(1) == run(1));
    CHECK(run(1) != run(2));

    std::mt19937_64 generator(1);
    std::vector<TokenId> first, second;
    const GenerateOptions options{.max_new_tokens = 20, .sampling = {.temperature = 1.5F, .top_k = 30}};
    Session a = model.new_session(), b = model.new_session();
    generate(model, a, prompt, options, generator, [&](const GeneratedToken& t) { first.push_back(t.token); });
    generate(model, b, prompt, options, generator, [&](const GeneratedToken& t) { second.push_back(t.token); });
    CHECK(first == run(1));
    CHECK(second != first);
}

TEST_CASE("tokens come with their depth") {
    const Model<EigenBackend, GapThreshold<>> model(tiny::weights(), GapThreshold<>(0.2F));
    Session session = model.new_session(), by_hand = model.new_session();
    const auto prompt = tiny::tokens(3);
    std::vector<GeneratedToken> tokens;
    const GenerateResult result =
        generate(model, session, prompt, {.max_new_tokens = 20}, [&](const GeneratedToken& t) { tokens.push_back(t); });
    Prediction p = model.prefill_and_predict(by_hand, prompt);
    double sum = 0;
    bool early = false;
    for (const GeneratedToken& t : tokens) {
        CHECK(t.token == p.token);
        CHECK(t.exit_layer == p.exit_layer);
        CHECK(t.checks == p.checks);
        CHECK(t.layers == 4);
        sum += static_cast<double>(t.exit_layer);
        early = early || t.exit_layer < 4;
        p = model.decode(by_hand, t.token);
    }
    CHECK(tokens[0].exit_layer == 4);
    CHECK(early);
    CHECK(result.mean_layers == doctest::Approx(sum / 20));
}

TEST_CASE("bad options, and a stop in the middle") {
    const Dense model(tiny::weights());
    Session session = model.new_session();
    const GenerateOptions bad{.sampling = {.temperature = -1}};
    CHECK(tiny::code_of([&] { collect(model, session, tiny::tokens(3), bad); }) == ErrorCode::InvalidArgument);
    CHECK(session.length() == 0);

    std::stop_source source;
    std::size_t delivered = 0;
    const GenerateOptions options{.run = {.stop = source.get_token(), .progress = {}}};
    const auto cancelled = tiny::code_of([&] {
        generate(model, session, tiny::tokens(3), options, [&](const GeneratedToken&) {
            if (++delivered == 4) source.request_stop();
        });
    });
    CHECK(cancelled == ErrorCode::Cancelled);
    CHECK(delivered == 4);
    CHECK(session.length() == 3 + 3);
}

TEST_CASE("every reason has a name") {
    CHECK(to_string(FinishReason::StopToken) == "stop token");
    CHECK(to_string(FinishReason::Callback) == "callback");
    CHECK(to_string(FinishReason::MaxTokens) == "max tokens");
    CHECK(to_string(FinishReason::ContextFull) == "context full");
}

}  // namespace test_generate
