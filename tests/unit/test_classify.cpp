#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <numeric>
#include <stop_token>
#include <string>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/classify.hpp"
#include "adainfer/generate/score.hpp"
#include "adainfer/model/model.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"
#include "tokenizer_vocabulary.hpp"

namespace test_classify {

using namespace adainfer;

namespace {

using Dense = Model<ReferenceBackend>;

/// ln P(tokens[from]), ..., by decoding one token at a time.
std::vector<double> log_probabilities(const Dense& model, const std::vector<TokenId>& tokens, std::size_t from) {
    Session session = model.new_session();
    std::vector<double> result;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        const auto logits = tiny::copy(model.decode(session, tokens[i]).logits);
        const auto p = tiny::softmax({logits.begin(), logits.end()});
        if (i + 1 >= from) result.push_back(std::log(p[static_cast<std::size_t>(tokens[i + 1])]));
    }
    return result;
}

std::vector<TokenId> joined(std::vector<TokenId> a, const std::vector<TokenId>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

Tokenizer small_tokenizer() { return Tokenizer(test_vocabulary::data()); }

}  // namespace

TEST_CASE("score: the chain rule over the continuation") {
    const Dense model(tiny::weights());
    Session session = model.new_session();
    const auto prefix = tiny::tokens(4), prompt = std::vector<TokenId>{30, 31};
    for (const std::vector<TokenId>& continuation : {std::vector<TokenId>{7}, std::vector<TokenId>{7, 39, 2, 2, 15}}) {
        session.rewind(0);
        model.prefill(session, prefix);
        const Score found = score(model, session, prompt, continuation);
        const auto expected = log_probabilities(model, joined(joined(prefix, prompt), continuation), 6);
        REQUIRE(found.token_log_probabilities.size() == continuation.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
            CHECK(found.token_log_probabilities[i] == doctest::Approx(expected[i]).epsilon(1e-5));
        }
        CHECK(found.log_probability == doctest::Approx(std::accumulate(expected.begin(), expected.end(), 0.0)).epsilon(1e-5));
        CHECK(session.length() == 4);
    }
}

TEST_CASE("score runs at full depth whatever the policy") {
    const Dense model(tiny::weights());
    const auto early = model.with_policy(ExitAtLayer<>(1));
    Session session = model.new_session();
    const std::vector<TokenId> prompt{1, 2}, continuation{3, 4};
    CHECK(score(early, session, prompt, continuation).token_log_probabilities ==
          score(model, session, prompt, continuation).token_log_probabilities);
}

TEST_CASE("score: errors leave the session alone") {
    const Dense model(tiny::weights());
    Session session = model.new_session(8);
    const std::vector<TokenId> some{1, 2, 3}, none, unknown{1, 99};
    model.prefill(session, some);
    const auto code = [&](const auto& prompt, const auto& continuation) {
        return tiny::code_of([&] { return score(model, session, prompt, continuation); });
    };
    CHECK(code(none, some) == ErrorCode::InvalidArgument);
    CHECK(code(some, none) == ErrorCode::InvalidArgument);
    CHECK(code(some, unknown) == ErrorCode::UnknownToken);
    CHECK(code(some, tiny::tokens(4)) == ErrorCode::ContextOverflow);
    CHECK_FALSE(code(some, some));  // 3 + 3 + 2: the last token needs no room
    CHECK(session.length() == 3);
}

TEST_CASE("log_likelihood: every token but the first") {
    const Dense model(tiny::weights());
    Session session = model.new_session();
    const auto text = tiny::tokens(20);
    const Score found = log_likelihood(model, session, text);
    const auto expected = log_probabilities(model, text, 1);
    REQUIRE(found.token_log_probabilities.size() == 19);
    for (std::size_t i = 0; i < 19; ++i) CHECK(found.token_log_probabilities[i] == doctest::Approx(expected[i]).epsilon(1e-5));
    CHECK(found.log_probability == doctest::Approx(std::accumulate(expected.begin(), expected.end(), 0.0)).epsilon(1e-5));
    CHECK(session.length() == 0);
    CHECK(tiny::code_of([&] { return log_likelihood(model, session, tiny::tokens(1)); }) == ErrorCode::InvalidArgument);
    CHECK(tiny::code_of([&] { return log_likelihood(model, session, std::vector<TokenId>{1, -2}); }) == ErrorCode::UnknownToken);
}

TEST_CASE("labels that differ in their first token: one prediction, exit allowed") {
    const Dense model(tiny::weights());
    const LabelSet labels = LabelSet::from_tokens({{30, 1}, {2}, {17, 2, 3}});
    CHECK(labels.distinct());
    CHECK(labels.size() == 3);
    Session session = model.new_session();
    model.prefill(session, tiny::tokens(3));
    const std::vector<TokenId> prompt{5, 6};
    for (const std::size_t layer : {std::size_t{2}, std::size_t{4}}) {
        Session twin = session.clone();
        const auto states = tiny::states(model.decoder(), twin, prompt);
        const auto logits = tiny::logits(model.decoder().weights(), states[layer]);
        const auto p = tiny::softmax({logits[30], logits[2], logits[17]});
        const auto check = [&](const Classification& found) {
            REQUIRE(found.probabilities.size() == 3);
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK(static_cast<double>(found.probabilities[i]) == doctest::Approx(p[i]).epsilon(1e-5));
                CHECK(p[found.label] >= p[i]);
            }
            CHECK(found.exit_layer == layer);
            CHECK(found.layers == 4);
        };
        check(classify(model.with_policy(ExitAtLayer<>(layer)), session, prompt, labels));
        check(classify(model.with_policy(ExitAtLayer<LogitLens, FullHead>(layer)), session, prompt, labels));
    }
    CHECK(session.length() == 3);
}

TEST_CASE("the cached prefix and the whole prompt give the same answer") {
    using Policy = GapThreshold<LogitLens, CandidateHead>;
    const Model<EigenBackend, Policy> model(tiny::weights(), Policy(0.3F));
    const LabelSet labels = LabelSet::from_tokens({{30}, {2}});
    Session cached = model.new_session(), fresh = model.new_session();
    const auto prefix = tiny::tokens(12);
    model.prefill(cached, prefix);
    bool early = false;
    for (TokenId i = 0; i < 12; ++i) {
        const std::vector<TokenId> question{i, static_cast<TokenId>(39 - i)};
        const Classification a = classify(model, cached, question, labels);
        const Classification b = classify(model, fresh, joined(prefix, question), labels);
        // The prefix in the cache ran at full depth, as the whole prompt does up to the exit.
        CHECK(a.label == b.label);
        CHECK(a.exit_layer == b.exit_layer);
        CHECK(a.probabilities[0] == doctest::Approx(b.probabilities[0]).epsilon(1e-4));
        early = early || a.exit_layer < 4;
    }
    CHECK(early);
    CHECK(cached.length() == 12);
}

TEST_CASE("labels that share a first token: the likeliest whole label") {
    const Dense model(tiny::weights());
    const std::vector<std::vector<TokenId>> sequences{{30, 1}, {30, 2, 9}, {17}, {30, 2, 8}};
    const LabelSet labels = LabelSet::from_tokens(sequences);
    CHECK_FALSE(labels.distinct());
    Session session = model.new_session();
    const auto prefix = tiny::tokens(3), prompt = std::vector<TokenId>{5, 6};
    model.prefill(session, prefix);
    std::vector<double> scores;
    for (const auto& sequence : sequences) {
        const auto all = log_probabilities(model, joined(joined(prefix, prompt), sequence), 5);
        scores.push_back(std::accumulate(all.begin(), all.end(), 0.0));
    }
    const auto p = tiny::softmax(scores);
    const Classification found = classify(model.with_policy(ExitAtLayer<>(1)), session, prompt, labels);
    REQUIRE(found.probabilities.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) {
        CHECK(static_cast<double>(found.probabilities[i]) == doctest::Approx(p[i]).epsilon(1e-4));
        CHECK(p[found.label] >= p[i]);
    }
    CHECK(found.exit_layer == 4);
    CHECK(session.length() == 3);

    std::stop_source source;
    source.request_stop();
    const RunOptions stopped{source.get_token(), {}};
    CHECK(tiny::code_of([&] { return classify(model, session, prompt, labels, stopped); }) == ErrorCode::Cancelled);
    Session small = model.new_session(3);
    CHECK(tiny::code_of([&] { return classify(model, small, prompt, labels); }) == ErrorCode::ContextOverflow);
    CHECK(small.length() == 0);
    CHECK(session.length() == 3);
    CHECK(tiny::code_of([&] { return classify(model, session, prompt, LabelSet::from_tokens({{1, 2}, {1, 77}})); }) ==
          ErrorCode::UnknownToken);
}

TEST_CASE("label sets: strings exactly as they continue the prompt") {
    const Tokenizer tokenizer = small_tokenizer();
    const LabelSet labels(tokenizer, {" ab", "bc", " abc"});
    CHECK(labels.distinct());
    CHECK(labels.name(2) == " abc");
    CHECK(labels.tokens(0).size() == 1);
    CHECK(labels.first_tokens()[0] == test_vocabulary::id_of("Ġab"));
    CHECK(labels.first_tokens()[1] == test_vocabulary::id_of("bc"));
    CHECK_FALSE(LabelSet(tokenizer, {"ax", "ay"}).distinct());
    // Special tokens are not meant where a label spells one.
    CHECK(LabelSet(tokenizer, {"</s>"}).tokens(0).size() > 1);

    const auto message = [&](std::vector<std::string> names) {
        return tiny::message_of([&] { LabelSet set(tokenizer, std::move(names)); });
    };
    CHECK(contains(message({}), "at least one label"));
    CHECK(contains(message({"a", ""}), "label 1 is empty"));
    CHECK(contains(message({"x", " ab", "y", " ab"}), "' ab' stands twice"));
    CHECK(contains(message({"xy", "x"}), "'x' begins 'xy'"));
    CHECK(tiny::code_of([&] { return LabelSet::from_tokens({{1}, {2}}, {"only one"}); }) == ErrorCode::InvalidArgument);
}

TEST_CASE("classify text") {
    const Tokenizer tokenizer = small_tokenizer();
    RandomModelOptions options = tiny::options();
    options.vocabulary = tokenizer.vocab_size();
    const Dense model(make_random_model(options));
    const LabelSet labels(tokenizer, {" ab", "bc", "x"});
    Session session = model.new_session();
    const auto same = [](const Classification& a, const Classification& b) {
        CHECK(a.label == b.label);
        CHECK(a.probabilities == b.probabilities);
    };
    // An empty session gets bos, which this vocabulary asks for; a prefix already has it.
    same(classify(model, session, tokenizer, "aa 12", labels),
         classify(model, session, tokenizer.encode("aa 12", {.add_bos = true}), labels));
    model.prefill(session, tokenizer.encode("abc", {.add_bos = true}));
    same(classify(model, session, tokenizer, "aa 12", labels), classify(model, session, tokenizer.encode("aa 12"), labels));
    CHECK(session.length() == 2);
}

}  // namespace test_classify
