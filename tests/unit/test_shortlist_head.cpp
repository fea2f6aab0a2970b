#include "adainfer/early_exit/shortlist_head.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/any_readout.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/train/collect_trace.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

namespace test_shortlist_head {

using namespace adainfer;

namespace {

/// Stands for a decoder: its logits are given.
struct GivenLogits {
    ModelConfig shape;
    std::vector<float> values;

    explicit GivenLogits(std::vector<float> logits) : values(std::move(logits)) { shape.vocabulary = values.size(); }
    [[nodiscard]] const ModelConfig& config() const { return shape; }
    void logits(std::span<const float>, std::span<float> out) const { std::copy(values.begin(), values.end(), out.begin()); }
    void logits(std::span<const float>, std::span<const TokenId> tokens, std::span<float> out) const {
        for (std::size_t i = 0; i < tokens.size(); ++i) out[i] = values[static_cast<std::size_t>(tokens[i])];
    }
};

/// The `size` largest by a full sort; of equal ones the smaller tokens. In the order of tokens.
std::vector<TokenId> largest(const std::vector<float>& logits, std::size_t size) {
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), TokenId{0});
    std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
        return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
    });
    order.resize(std::min(size, order.size()));
    std::sort(order.begin(), order.end());
    return order;
}

/// Is asked after layers 1 and 3, and exits after `exit`: what it reads there is for the head to make its shortlist.
template <class Head>
struct ExitsAfter : ReadsWith<LogitLens, Head> {
    struct State {};
    using Features = FeatureList<TopToken>;
    std::size_t exit;

    ExitsAfter(std::size_t layer, Head head) : ReadsWith<LogitLens, Head>(LogitLens{}, head), exit(layer) {}
    [[nodiscard]] bool wants(std::size_t layer) const { return layer == 1 || layer == 3; }
    [[nodiscard]] ExitDecision decide(std::size_t layer, const typename Features::Values&, State&) const {
        return layer == exit ? ExitDecision::Exit : ExitDecision::Continue;
    }
};

constexpr std::size_t never = 99;

/// The likeliest token of the whole vocabulary after each layer, worked out apart from the library's readout, and the two
/// likeliest after layer 1.
struct Expected {
    std::vector<TokenId> best;  ///< [layers + 1]
    std::vector<TokenId> list;
    std::vector<std::vector<float>> logits;

    explicit Expected(std::span<const TokenId> prompt) {
        const ModelWeights weights = tiny::weights();
        const Model<ReferenceBackend> model(weights);
        Session session = model.new_session();
        for (const auto& state : tiny::states(model.decoder(), session, prompt)) {
            const std::vector<double> exact = tiny::logits(weights, state);
            logits.emplace_back(exact.begin(), exact.end());
            best.push_back(static_cast<TokenId>(std::max_element(logits.back().begin(), logits.back().end()) - logits.back().begin()));
        }
        list = largest(logits[1], 2);
    }
    [[nodiscard]] bool lists(TokenId token) const { return std::binary_search(list.begin(), list.end(), token); }
    /// The likelier of the two after `layer` layers.
    [[nodiscard]] TokenId among_list(std::size_t layer) const {
        const auto logit = [&](TokenId token) { return logits[layer][static_cast<std::size_t>(token)]; };
        return logit(list[0]) >= logit(list[1]) ? list[0] : list[1];
    }
};

/// A prompt whose answers after layer 3 and at full depth are not among the two likeliest tokens after layer 1.
std::vector<TokenId> surprising() {
    for (TokenId first = 0; first < 40; ++first) {
        std::vector<TokenId> prompt{first, 7, 3};
        const Expected expected(prompt);
        if (!expected.lists(expected.best[3]) && !expected.lists(expected.best[4])) return prompt;
    }
    FAIL("no such prompt");
    return {};
}

/// The logits are copied out; of `columns` the size alone is left, as they end with the session.
template <class Policy>
Prediction predicted(Policy policy, std::span<const TokenId> prompt, std::vector<float>& logits, std::span<const TokenId> candidates = {}) {
    const Model<ReferenceBackend, Policy> model(tiny::weights(), std::move(policy));
    Session session = model.new_session();
    Prediction prediction = model.predict(session, prompt, candidates);
    logits = tiny::copy(prediction.logits);
    return prediction;
}

}  // namespace

TEST_CASE("the shortlist holds the likeliest tokens, of equal ones the first") {
    std::uint64_t state = 5;
    for (const std::size_t vocabulary : {std::size_t{3}, std::size_t{96}, std::size_t{1000}, std::size_t{5003}}) {
        for (const std::uint64_t steps : {std::uint64_t{1}, std::uint64_t{7}, std::uint64_t{1000}}) {  // few steps: many ties
            std::vector<float> logits(vocabulary);
            for (float& logit : logits) {
                state = state * 6364136223846793005U + 1442695040888963407U;
                logit = static_cast<float>(static_cast<std::int64_t>((state >> 33U) % steps) - 3);
            }
            const GivenLogits decoder(logits);
            for (const std::size_t size : {std::size_t{2}, std::size_t{7}, std::size_t{256}}) {
                CAPTURE(vocabulary);
                CAPTURE(steps);
                CAPTURE(size);
                const ShortlistHead head(size);
                Workspace work;
                const std::vector<float> hidden(4);
                CHECK(head.run(decoder, hidden, {}, work).empty());
                CHECK(work.logits.row(0).size() == vocabulary);
                const std::vector<TokenId> expected = largest(logits, size);
                CHECK(work.shortlist == expected);

                const std::span<const TokenId> columns = head.run(decoder, hidden, {}, work);  // the next check
                CHECK(std::vector<TokenId>(columns.begin(), columns.end()) == expected);
                for (std::size_t i = 0; i < columns.size(); ++i) {
                    CHECK(work.logits.row(0)[i] == logits[static_cast<std::size_t>(columns[i])]);
                }
            }
        }
    }
}

TEST_CASE("a shortlist of logits that are not finite is an error") {
    std::vector<float> logits(100, 1.0F);
    logits[70] = std::numeric_limits<float>::quiet_NaN();
    Workspace work;
    CHECK_THROWS_AS(ShortlistHead(4).run(GivenLogits(logits), std::vector<float>(4), {}, work), Error);
}

TEST_CASE("an answer that was not on the first list is missed, unless it is confirmed") {
    const std::vector<TokenId> prompt = surprising();
    const Expected expected(prompt);
    std::vector<float> logits;
    for (const std::size_t exit : {std::size_t{3}, never}) {
        const std::size_t depth = exit == never ? 4 : exit;
        CAPTURE(depth);
        const Prediction missed = predicted(ExitsAfter(exit, ShortlistHead(2)), prompt, logits);
        CHECK(missed.exit_layer == depth);
        CHECK(missed.token == expected.among_list(depth));
        CHECK(logits.size() == 2);
        CHECK(missed.columns.size() == 2);

        const auto check = [&](const Prediction& found) {
            CHECK(found.exit_layer == depth);
            CHECK(found.token == expected.best[depth]);
            CHECK(found.columns.empty());
            CHECK(tiny::difference(logits, expected.logits[depth]) < 1e-5);
        };
        check(predicted(ExitsAfter(exit, ShortlistHead(2, Confirm::Yes)), prompt, logits));
        check(predicted(ExitsAfter(exit, AnyHead::named("shortlist:2+confirm")), prompt, logits));
        // The part that made the shortlist says so, not the one whose head stands for the whole.
        check(predicted(AnyOf(ExitsAfter(exit, ShortlistHead(2, Confirm::Yes)), HiddenSaturation<>(2.0F)), prompt, logits));
    }
}

TEST_CASE("confirmation leaves an exit at the first check and named candidates alone") {
    const std::vector<TokenId> prompt = surprising();
    const Expected expected(prompt);
    std::vector<float> logits;
    const Prediction first = predicted(ExitsAfter(1, ShortlistHead(2, Confirm::Yes)), prompt, logits);
    CHECK(first.exit_layer == 1);
    CHECK(first.token == expected.best[1]);
    CHECK(logits.size() == 40);

    const std::vector<TokenId> candidates{4, 11, 30};
    const Prediction among = predicted(ExitsAfter(3, ShortlistHead(2, Confirm::Yes)), prompt, logits, candidates);
    CHECK(among.exit_layer == 3);
    CHECK(logits.size() == 3);
    CHECK(among.columns.size() == 3);
}

TEST_CASE("a token that is not listed can be reached where the answer is confirmed") {
    const std::vector<TokenId> prompt = surprising();
    const Expected expected(prompt);
    const Model<ReferenceBackend> model(tiny::weights());
    Session session = model.new_session();
    const auto trace = [&](const ShortlistHead& head) {
        return collect_trace<PaperFeatures>(model, session, prompt, {}, std::nullopt, Schedule{}, LogitLens{}, head);
    };
    CHECK(trace(ShortlistHead(2)).final_token == expected.best[4]);
    CHECK_FALSE(trace(ShortlistHead(2)).final_reachable);
    CHECK(trace(ShortlistHead(2, Confirm::Yes)).final_token == expected.best[4]);
    CHECK(trace(ShortlistHead(2, Confirm::Yes)).final_reachable);
}

TEST_CASE("heads by name") {
    for (const std::string name : {"full", "candidates", "shortlist", "shortlist:64", "shortlist+confirm", "shortlist:64+confirm"}) {
        CAPTURE(name);
        CHECK(AnyHead::named(name).name() == name);
        CHECK(AnyHead::named(name).confirms() == name.ends_with("+confirm"));
    }
    CHECK(AnyHead::named("shortlist:256+confirm").name() == "shortlist+confirm");  // 256 is the default
    CHECK(AnyHead(ShortlistHead(3, Confirm::Yes)).kind() == "shortlist");
    for (const std::string name : {"", "+confirm", "full+confirm", "candidates+confirm", "shortlist:+confirm", "shortlist:1+confirm",
                                   "shortlist:8+confirm+confirm", "shortlist:8 +confirm", "shortlist+Confirm", "shortlist+"}) {
        CAPTURE(name);
        const std::string message = tiny::message_of([&] { return AnyHead::named(name).name(); });
        CHECK(contains(message, "unknown head '" + name + "'; known: full"));
        CHECK(contains(message, "shortlist:K+confirm"));
    }
}

}  // namespace test_shortlist_head
