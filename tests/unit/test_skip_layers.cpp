#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/any_policy.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/skip_layers.hpp"
#include "adainfer/eval/evaluate.hpp"
#include "adainfer/eval/policy_spec.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/train/block_influence.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"
#include "tokenizer_source.hpp"

namespace test_skip_layers {

using namespace adainfer;

namespace {

constexpr std::size_t layers = 6;

ModelWeights six_layers() {
    RandomModelOptions options = tiny::options();
    options.layers = layers;
    return make_random_model(options);
}

/// The same model as a file without those layers, ascending from 1, would hold it.
ModelWeights without(ModelWeights weights, const std::vector<std::size_t>& skipped) {
    for (std::size_t i = skipped.size(); i > 0; --i) {
        weights.layers.erase(weights.layers.begin() + static_cast<std::ptrdiff_t>(skipped[i - 1] - 1));
    }
    weights.config.layers = weights.layers.size();
    return weights;
}

/// Exits after a layer; writes down where it was asked.
struct Asked {
    std::size_t exit;
    std::vector<std::size_t>* log;
    using Features = FeatureList<LayerFraction>;
    struct State {};
    [[nodiscard]] bool wants(std::size_t) const { return true; }
    [[nodiscard]] ExitDecision decide(std::size_t layer, const Features::Values&, State&) const {
        log->push_back(layer);
        return layer == exit ? ExitDecision::Exit : ExitDecision::Continue;
    }
};

using FixedDepth = ExitAtLayer<LogitLens, FullHead>;

/// Runs both models on a prompt and on tokens after it; they must not differ in a bit.
template <class A, class B>
void check_same(const A& skipping, const B& pruned, std::size_t run, std::size_t decoded) {
    Session a = skipping.new_session(), b = pruned.new_session();
    const auto prompt = tiny::tokens(7);
    CHECK(tiny::copy(skipping.predict(a, prompt).logits) == tiny::copy(pruned.predict(b, prompt).logits));
    const Prediction first = skipping.prefill_and_predict(a, prompt);
    CHECK(first.exit_layer == run);
    CHECK(first.layers == layers);
    CHECK(tiny::copy(first.logits) == tiny::copy(pruned.prefill_and_predict(b, prompt).logits));
    for (const TokenId token : {3, 1, 4, 1, 5}) {
        const Prediction p = skipping.decode(a, token);
        CHECK(tiny::copy(p.logits) == tiny::copy(pruned.decode(b, token).logits));
        CHECK(p.exit_layer == decoded);
    }
    std::vector<std::vector<float>> rows;
    skipping.for_each_logits(a, prompt, [&](std::size_t, auto logits) { rows.push_back(tiny::copy(logits)); });
    pruned.for_each_logits(b, prompt, [&](std::size_t t, auto logits) { CHECK(tiny::copy(logits) == rows[t]); });
}

}  // namespace

TEST_CASE_TEMPLATE("a model that skips layers is the model without them", Backend, ReferenceBackend, EigenBackend) {
    const Model<Backend> dense(six_layers());
    const std::vector<std::vector<std::size_t>> sets{{3}, {1}, {6}, {2, 3, 5}, {5, 6}, {1, 2, 3, 4, 5}};
    for (const std::vector<std::size_t>& skipped : sets) {
        const Model<Backend> pruned(without(six_layers(), skipped));
        const std::size_t left = layers - skipped.size();
        check_same(dense.with_policy(SkipLayers<>(skipped)), pruned, left, left);
        check_same(dense.with_policy(AnyPolicy(SkipLayers<>(skipped))), pruned, left, left);
        check_same(dense.with_policy(Scheduled<AnyPolicy>(Schedule{}, SkipLayers<>(skipped))), pruned, left, left);
        check_same(dense.with_policy(SkipLayers<>(skipped)).template with_completion<DeferredExact>(), pruned, left, left);
    }
    Session a = dense.new_session(), b = dense.new_session();
    CHECK(tiny::copy(dense.with_policy(SkipLayers<>({3})).predict(a, tiny::tokens(4)).logits) !=
          tiny::copy(dense.predict(b, tiny::tokens(4)).logits));
}

TEST_CASE("among the layers that are left a policy exits; layers keep their numbers") {
    const Model<ReferenceBackend> dense(six_layers());
    const std::vector<std::size_t> skipped{2, 4};
    const Model<ReferenceBackend, FixedDepth> pruned(without(six_layers(), skipped), FixedDepth(2));
    // Two layers left are layers 1 and 3.
    const auto skipping = dense.with_policy(SkipLayers(skipped, FixedDepth(3)));
    check_same(skipping, pruned, 4, 2);
    check_same(skipping.with_completion<DeferredExact>(), pruned.with_completion<DeferredExact>(), 4, 2);
    // Combinators pass on what their parts skip.
    check_same(dense.with_policy(AnyOf(SkipLayers<>({2}), SkipLayers(std::vector<std::size_t>{4}, FixedDepth(3)))), pruned, 4, 2);
    check_same(dense.with_policy(Scheduled(Schedule::every(1), SkipLayers(skipped, FixedDepth(3)))), pruned, 4, 2);
    const SkipLayers inner(std::vector<std::size_t>{2}, FixedDepth(3));
    check_same(dense.with_policy(SkipLayers<SkipLayers<FixedDepth>>({4, 4}, inner)), pruned, 4, 2);

    std::vector<std::size_t> log;
    Session session = dense.new_session();
    const auto asked = [&](const std::vector<std::size_t>& without_layers, std::size_t exit) {
        log.clear();
        return dense.with_policy(SkipLayers(without_layers, Asked{exit, &log})).predict(session, tiny::tokens(3)).exit_layer;
    };
    CHECK(asked({2, 4}, 99) == 4);
    CHECK(log == std::vector<std::size_t>{1, 3, 5});
    CHECK(asked({2, 4}, 5) == 3);
    CHECK(asked({1, 5, 6}, 99) == 3);  // after layer 4 nothing is left to save
    CHECK(log == std::vector<std::size_t>{2, 3});
    CHECK(asked({1, 5, 6}, 3) == 2);
    // Hindsight counts the same way.
    const auto oracle = dense.with_policy(SkipLayers(std::vector<std::size_t>{1, 2, 3, 4}, Oracle<LogitLens, FullHead>{}));
    CHECK(oracle.predict(session, tiny::tokens(3)).exit_layer <= 2);
}

TEST_CASE("generate reports the layers that ran") {
    const Model<EigenBackend, SkipLayers<>> model(six_layers(), SkipLayers<>({2, 5}));
    Session session = model.new_session();
    const auto check = [](const GeneratedToken& token) {
        CHECK(token.exit_layer == 4);
        CHECK(token.layers == 6);
    };
    const GenerateResult result = generate(model, session, tiny::tokens(4), {.max_new_tokens = 6}, check);
    CHECK(result.mean_layers == 4);
}

TEST_CASE("K/V without some layers belong to models without them") {
    const Model<EigenBackend> dense(six_layers());
    const auto skipping = dense.with_policy(SkipLayers<>({3, 5}));
    const auto other = dense.with_policy(SkipLayers<>({3}));
    const auto prompt = tiny::tokens(5);
    Session session = skipping.new_session();
    skipping.prefill(session, prompt);
    const std::string message = tiny::message_of([&] { return dense.predict(session, prompt); });
    CHECK(contains(message, "identity mismatch"));
    CHECK(contains(message, "filled by a model that skips layers 3, 5, this one skips no layer"));
    CHECK(contains(tiny::message_of([&] { return other.decode(session, 1); }), "this one skips layer 3"));
    CHECK(tiny::code_of([&] { dense.prefill(session, prompt); }) == ErrorCode::IdentityMismatch);
    CHECK(tiny::code_of([&] { dense.finish(session); }) == ErrorCode::IdentityMismatch);
    CHECK(tiny::code_of([&] { dense.for_each_logits(session, prompt, [](auto, auto) {}); }) == ErrorCode::IdentityMismatch);
    CHECK(session.length() == 5);
    Session clone = session.clone();
    CHECK(tiny::code_of([&] { return dense.decode(clone, 1); }) == ErrorCode::IdentityMismatch);
    // Another policy that skips the same layers goes on, and an empty session belongs to nobody.
    const auto early = dense.with_policy(SkipLayers(std::vector<std::size_t>{3, 5}, FixedDepth(2)));
    CHECK(early.decode(session, 1).exit_layer == 2);
    CHECK(skipping.decode(session, 1).exit_layer == 4);
    session.rewind(0);
    Session fresh = dense.new_session();
    const auto logits = tiny::copy(dense.prefill_and_predict(fresh, prompt).logits);
    CHECK(tiny::copy(dense.prefill_and_predict(session, prompt).logits) == logits);
    CHECK(tiny::code_of([&] { return skipping.decode(session, 1); }) == ErrorCode::IdentityMismatch);
}

TEST_CASE("layers that are not there, or all of them, cannot be skipped") {
    const Model<EigenBackend> dense(six_layers());
    const auto message = [&](auto policy) { return tiny::message_of([&] { return dense.with_policy(std::move(policy)); }); };
    CHECK(contains(message(SkipLayers<>({2, 0})), "cannot skip layer 0 of a model of 6 layers"));
    CHECK(contains(message(SkipLayers<>({7})), "cannot skip layer 7 of a model of 6 layers"));
    CHECK(contains(message(SkipLayers<>({1, 2, 3, 4, 5, 6})), "skips every layer"));
    CHECK(contains(message(AnyPolicy(SkipLayers<>({7}))), "cannot skip layer 7"));
    CHECK(contains(message(SkipLayers(std::vector<std::size_t>{1}, FixedDepth(9))), "cannot exit after layer 9"));
    CHECK(message(SkipLayers<>(std::vector<std::size_t>{})).empty());
}

TEST_CASE("block influence, by hand") {
    // Each layer adds a constant vector: attention and feed-forward add only the bias of their last product.
    RandomModelOptions options = tiny::options();
    options.layers = 3;
    ModelWeights weights = make_random_model(options);
    const std::size_t n = weights.config.hidden;
    const auto zero = [](const WeightView& weight) {
        for (std::size_t r = 0; r < weight.rows; ++r) std::fill_n(tiny::mutable_row(weight, r), weight.cols, 0.0F);
    };
    zero(weights.token_embedding);
    tiny::mutable_row(weights.token_embedding, 1)[0] = 3;  // token 1: (3, 0, ...)
    tiny::mutable_row(weights.token_embedding, 2)[1] = 2;  // token 2: (0, 2, ...)
    for (LayerWeights& layer : weights.layers) {
        zero(layer.attention_output.weight);
        zero(layer.down.weight);
        layer.attention_output.bias.assign(n, 0.0F);
        layer.down.bias.assign(n, 0.0F);
    }
    weights.layers[0].attention_output.bias[1] = 3;
    weights.layers[0].down.bias[1] = 1;
    weights.layers[2].down.bias[1] = -8;
    const Model<ReferenceBackend> model(std::move(weights));
    // Layer 1 turns (3, 0) into (3, 4): cosine 9 / (3 * 5); and (0, 2) into (0, 6): 1. Layer 2 changes nothing.
    // Layer 3 turns (3, 4) into (3, -4): (9 - 16) / 25; and (0, 6) into (0, -2): -1.
    const std::vector<std::vector<TokenId>> sequences{{1, 2, 1}, {1}};
    const std::vector<double> influence = block_influence(model, sequences);
    REQUIRE(influence.size() == 3);
    CHECK(influence[0] == doctest::Approx(1 - (3 * 0.6 + 1) / 4).epsilon(1e-6));
    CHECK(influence[1] == doctest::Approx(0).epsilon(1e-6));
    CHECK(influence[2] == doctest::Approx(1 - (3 * -0.28 - 1) / 4).epsilon(1e-6));
    CHECK(least_influential(influence, 1) == std::vector<std::size_t>{2});
    CHECK(least_influential(influence, 2) == std::vector<std::size_t>{1, 2});
}

TEST_CASE("block influence is the mean over all positions of all sequences") {
    RandomModelOptions options = tiny::options();
    options.layers = layers;
    options.context = 300;
    const Model<ReferenceBackend> model(make_random_model(options));
    const std::vector<std::vector<TokenId>> sequences{tiny::tokens(270), {5, 9, 2}, {7}};  // the first takes two passes
    std::vector<double> sums(layers);
    Session session = model.new_session();
    for (const auto& sequence : sequences) {
        session.rewind(0);
        for (std::size_t t = 0; t < sequence.size(); ++t) {
            const auto states = tiny::states(model.decoder(), session, {{sequence[t]}});
            static_cast<void>(model.decode(session, sequence[t]));
            for (std::size_t layer = 0; layer < layers; ++layer) {
                double ab = 0, aa = 0, bb = 0;
                for (std::size_t i = 0; i < states[layer].size(); ++i) {
                    const auto a = static_cast<double>(states[layer][i]), b = static_cast<double>(states[layer + 1][i]);
                    ab += a * b;
                    aa += a * a;
                    bb += b * b;
                }
                sums[layer] += ab / std::sqrt(aa * bb);
            }
        }
    }
    std::size_t reported = 0;
    const RunOptions run{.progress = [&](const ProgressEvent& event) {
        CHECK(event.total == 3);
        CHECK(event.done == ++reported);
    }};
    const std::vector<double> influence = block_influence(model.with_policy(SkipLayers<>({2})), sequences, run);
    CHECK(reported == 3);
    REQUIRE(influence.size() == layers);
    for (std::size_t layer = 0; layer < layers; ++layer) {
        CHECK(influence[layer] == doctest::Approx(1 - sums[layer] / 274).epsilon(1e-5));
        CHECK(influence[layer] > 0.01);
    }
    std::stop_source source;
    source.request_stop();
    CHECK(tiny::code_of([&] { return block_influence(model, sequences, {.stop = source.get_token()}); }) == ErrorCode::Cancelled);
}

TEST_CASE("block influence needs tokens, and as many layers as are asked for") {
    const Model<EigenBackend> model(six_layers());
    const auto code = [&](const std::vector<std::vector<TokenId>>& sequences) {
        return tiny::code_of([&] { return block_influence(model, sequences); });
    };
    CHECK(code({}) == ErrorCode::InvalidArgument);
    CHECK(code({{1, 2}, {}}) == ErrorCode::InvalidArgument);
    CHECK(code({tiny::tokens(33)}) == ErrorCode::ContextOverflow);
    CHECK(code({{1, 40}}) == ErrorCode::UnknownToken);
    CHECK_FALSE(code({{1, 2}}));
    const std::vector<double> influence{0.2, 0.1, 0.5, 0.1, 0.05};
    CHECK(least_influential(influence, 0).empty());
    CHECK(least_influential(influence, 2) == std::vector<std::size_t>{2, 5});
    CHECK(least_influential(influence, 3) == std::vector<std::size_t>{2, 4, 5});
    CHECK(least_influential(influence, 5) == std::vector<std::size_t>{1, 2, 3, 4, 5});
    CHECK(tiny::code_of([&] { return least_influential(influence, 6); }) == ErrorCode::InvalidArgument);
}

TEST_CASE("the policy that a user names skip:LAYER+LAYER") {
    const Model<EigenBackend> dense(six_layers());
    const ModelWeights& weights = dense.decoder().weights();
    const NamedPolicy named = parse_policy_spec("skip:5+2", weights);
    CHECK(named.name == "skip:5+2");
    check_same(dense.with_policy(named.make("")), Model<EigenBackend>(without(six_layers(), {2, 5})), 4, 4);
    CHECK(dense.with_policy(parse_policy_spec("skip:3", weights).make("")).skipped().describe() == "layer 3");
    for (const char* const wrong : {"skip", "skip:", "skip:2+", "skip:+2", "skip:2,3", "skip:2-4", "skip:0", "skip:7", "skip:x",
                                    "skip:99999999999999999999"}) {
        CAPTURE(wrong);
        CHECK(tiny::code_of([&] { return parse_policy_spec(wrong, weights); }) == ErrorCode::InvalidArgument);
    }
}

TEST_CASE("evaluate gives a policy that skips layers a prefix of its own") {
    auto vocabulary = load_vocabulary(environment("ADAINFER_SMOLLM2"));
    if (!vocabulary) {
        MESSAGE("skipped: ADAINFER_SMOLLM2 is not set");
        return;
    }
    const Tokenizer tokenizer(std::move(*vocabulary));
    RandomModelOptions options{.layers = layers, .vocabulary = tokenizer.vocab_size(), .context = 256};
    const Model<EigenBackend> dense(make_random_model(options));
    const Model<EigenBackend> pruned(without(make_random_model(options), {2, 4}));
    Task task{.name = "sides", .template_text = "{input}: {output}\n", .shots = 2, .labels = {"left", "right"}, .train = {},
              .test = {}};
    for (const char* const word : {"red", "blue", "green", "white", "black", "brown", "pink", "grey", "gold", "silver"}) {
        task.train.push_back({word, task.train.size() % 3 == 0 ? "left" : "right"});
        task.test.push_back({std::string("dark ") + word, task.test.size() % 2 == 0 ? "left" : "right"});
    }
    const std::vector<NamedPolicy> policies{parse_policy_spec("skip:2+4", dense.decoder().weights()),
                                            parse_policy_spec("dense", dense.decoder().weights())};
    const std::vector<Evaluation> rows = evaluate(dense, tokenizer, task, policies);
    const std::vector<Evaluation> expected = evaluate(pruned, tokenizer, task, std::span(policies).last(1));
    REQUIRE(rows.size() == 2);
    CHECK(rows[0].accuracy == expected[0].accuracy_dense);
    CHECK(rows[0].mean_layers == 4);
    CHECK(rows[0].pruning_ratio == doctest::Approx(1.0 / 3));
    CHECK(rows[1].agreement == 1);
    CHECK(rows[1].mean_layers == 6);
}

}  // namespace test_skip_layers
