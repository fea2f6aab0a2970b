#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/any_policy.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/cost.hpp"
#include "adainfer/early_exit/lens_matrix.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/model/cost.hpp"
#include "adainfer/model/random_model.hpp"

namespace test_cost {

using namespace adainfer;

namespace {

// Made so that every figure can be worked out on paper: f32, hidden 8, 2 query heads and 1 K/V head of 4, feed-forward 16,
// vocabulary 100, 4 layers, no biases. A layer: q 8x8, k and v 4x8, output 8x8, gate, up and down 16x8 = 64 + 64 + 64 + 384 = 576
// numbers; the head 800 numbers.
ModelWeights model(bool biases = false) {
    return make_random_model({.layers = 4, .hidden = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .feed_forward = 16,
                              .vocabulary = 100, .context = 32, .biases = biases});
}

constexpr std::uint64_t layer = 576, kv = 64, head = 800, attention = 2 * 8;  // attention of a token on itself

struct NeedsNothing {
    struct State {};
    struct Features {
        struct Values {};
    };
    bool wants(std::size_t) const { return true; }
    ExitDecision decide(std::size_t, const Features::Values&, State&) const { return ExitDecision::Continue; }
};

/// Leaves layers 2 and 3 out.
struct Skips : NeedsNothing {
    bool skips(std::size_t l) const { return l == 2 || l == 3; }
};

LinearLens lens(std::size_t from) {
    std::vector<LinearLens::Map> maps;
    for (std::size_t l = from; l < 4; ++l) maps.push_back({l, std::vector<float>(9 * 8)});
    return LinearLens(model().identity, 8, std::move(maps));
}

}  // namespace

TEST_CASE("what a token costs") {
    const ModelCost c = cost(model());
    CHECK(c.embedding == Cost{32, 0});
    REQUIRE(c.layers.size() == 4);
    CHECK(c.layers[0] == Cost{4 * layer, layer + attention});
    CHECK(c.kv[3] == Cost{4 * kv, kv});
    CHECK(c.head() == Cost{4 * head, head});
    CHECK(c.head_rows(3) == Cost{96, 24});
    CHECK(c.kv_after(1) == Cost{12 * kv, 3 * kv});
    CHECK(c.dense() == Cost{32 + 16 * layer + 4 * head, 4 * (layer + attention) + head});
    CHECK(c.head_to_layer() == doctest::Approx(800.0 / 576));
    CHECK(c.break_even() == doctest::Approx((4 + 800.0 / 576) / (1 + 800.0 / 576)));
}

TEST_CASE("many tokens read the weights once, and each sees those before it") {
    const ModelCost c = cost(model(), {.tokens = 3, .context = 5});
    CHECK(c.embedding == Cost{3 * 32, 0});
    // The cache holds 5 keys and values of 4 floats. The tokens see 6, 7 and 8 positions.
    CHECK(c.layers[2] == Cost{4 * layer + 2 * 5 * 4 * 4, 3 * layer + 2 * 21 * 8});
    CHECK(c.head() == Cost{4 * head, head});
}

TEST_CASE("a window bounds attention") {
    ModelWeights weights = model();
    weights.config.window = 3;
    const ModelCost c = cost(weights, {.tokens = 2, .context = 1});
    // They see 2 and 3 positions; of the cache one.
    CHECK(c.layers[0] == Cost{4 * layer + 2 * 1 * 4 * 4, 2 * layer + 2 * 5 * 8});
    const ModelCost far = cost(weights, {.tokens = 1, .context = 9});
    CHECK(far.layers[0] == Cost{4 * layer + 2 * 2 * 4 * 4, layer + 2 * 3 * 8});
}

TEST_CASE("biases and quantised weights count as stored, and what a model lacks not at all") {
    const ModelCost biased = cost(model(true));
    CHECK(biased.layers[0].bytes == 4 * (layer + 8 + 4 + 4 + 8 + 16 + 16 + 8));
    CHECK(biased.layers[0].multiply_adds == layer + attention);
    CHECK(biased.head().bytes == 4 * (head + 100));

    ModelWeights weights = model();
    weights.layers[1].gate = {};  // an ungated feed-forward network
    CHECK(cost(weights).layers[1] == Cost{4 * (layer - 128), layer - 128 + attention});

    // Learned positions and projections at both ends, as OPT-350m: a row of 8 floats, and 8x8 each.
    weights.position_embedding = weights.token_embedding;
    weights.embedding_in.weight = weights.embedding_out.weight = weights.layers[0].q.weight;
    CHECK(cost(weights).embedding == Cost{32 + 32 + 4 * 64, 64});
    CHECK(cost(weights).head() == Cost{4 * (head + 64), head + 64});

    // Q8_0: 34 bytes for 32 numbers.
    const std::vector<std::byte> bytes(34 * 10);
    weights.head.weight = {DType::Q8_0, 10, 32, bytes.data()};
    weights.embedding_out = {};
    CHECK(cost(weights).head() == Cost{340, 320});
}

TEST_CASE("the break-even layer is the one of the formula") {
    // Known figures: Llama-2-7B in f16 has L = 32, r = 0.65; SmolLM2-135M as shipped L = 30, r = 13.6.
    ModelCost c;
    c.layers.assign(32, Cost{100, 0});
    c.head_row_bytes = 1;
    c.vocabulary = 65;
    CHECK(c.break_even() == doctest::Approx(32.65 / 1.65));
    c.layers.assign(30, Cost{100, 0});
    c.vocabulary = 1360;
    CHECK(c.break_even() == doctest::Approx(43.6 / 14.6));
    CHECK(ModelCost{}.head_to_layer() == 0.0);
}

TEST_CASE("the whole head after every layer") {
    const PolicyCost c = cost(model(), GapThreshold<>(0.5F));
    REQUIRE(c.exits.size() == 3);
    CHECK(c.dense.bytes == 32 + 16 * layer + 4 * head);
    CHECK(c.exits[0].check.bytes == 4 * head);
    CHECK(c.exits[0].total.bytes == 32 + 4 * layer + 4 * head + 3 * 4 * kv);
    CHECK(c.exits[2].total.bytes == 32 + 12 * layer + 12 * head + 4 * kv);
    CHECK(c.checks.bytes == 12 * head);
    CHECK(c.full_depth.bytes == 32 + 16 * layer + 16 * head);
    CHECK(c.most_lost() == 12 * head);
    // Numbers of an exit after layer 1: 8 + 576 + 800 + 192 = 1576, after 2: 8 + 1152 + 1600 + 128 = 2888; dense: 3112;
    // after 3: 8 + 1728 + 2400 + 64 = 4200.
    CHECK(c.best_exit()->layer == 1);
    CHECK(c.most_saved() == 4 * (3112 - 1576));
    CHECK(c.deepest_paying() == 2);
    CHECK(c.loses());  // 2400 numbers lost, 1536 saved
}

TEST_CASE("a shortlist reads the head once") {
    const PolicyCost c = cost(model(), GapThreshold<LogitLens, ShortlistHead>(0.5F, {}, ShortlistHead(10)));
    CHECK(c.exits[0].check.bytes == 4 * head);
    CHECK(c.exits[1].check.bytes == 4 * 80);
    CHECK(c.full_depth.bytes == 32 + 16 * layer + 4 * head + 3 * 4 * 80);  // the answer is of the shortlist too
    CHECK(c.most_lost() == 3 * 4 * 80);
    CHECK(c.deepest_paying() == 3);
    CHECK_FALSE(c.loses());
}

TEST_CASE("a shortlist that confirms reads the head once more where it goes on after its first check") {
    using Gap = GapThreshold<LogitLens, ShortlistHead>;
    const Gap gap(0.5F, {}, ShortlistHead(10, Confirm::Yes));
    const PolicyCost c = cost(model(), gap);
    CHECK(c.exits[0].check.bytes == 4 * head);
    CHECK(c.exits[1].check.bytes == 4 * 80);
    CHECK(c.exits[0].total.bytes == 32 + 4 * layer + 4 * head + 3 * 4 * kv);
    CHECK(c.exits[1].total.bytes == 32 + 8 * layer + 4 * (head + 80) + 4 * head + 2 * 4 * kv);
    CHECK(c.full_depth.bytes == 32 + 16 * layer + 4 * (head + 2 * 80) + 4 * head);
    CHECK(c.most_lost() == 4 * (head + 2 * 80));
    // Numbers of an exit after layer 2: 8 + 1152 + 1680 + 128 = 2968, after 3: 8 + 1728 + 1760 + 64 = 3560; dense: 3112.
    CHECK(c.deepest_paying() == 2);
    const PolicyCostOptions labels{.pass = {}, .candidates = 4, .completes_kv = false};
    CHECK(cost(model(), gap, labels).full_depth == cost(model(), Gap(0.5F, {}, ShortlistHead(10)), labels).full_depth);
    CHECK(cost(model(), gap, labels).exits[1].total == cost(model(), Gap(0.5F, {}, ShortlistHead(10)), labels).exits[1].total);
    // An exit without logits of its own, after a check that made the shortlist, reads the answer through the last part's head.
    const auto composite = AnyOf(Scheduled(Schedule::only({1}), gap), Scheduled(Schedule::only({2}), HiddenSaturation<LogitLens, ShortlistHead>(0.9F, {}, ShortlistHead(10))));
    CHECK(cost(model(), composite).exits[1].total.bytes == 32 + 8 * layer + 4 * head + 4 * 80 + 4 * head + 2 * 4 * kv);
    const AnyPolicy any(GapThreshold<AnyLens, AnyHead>(0.5F, {}, AnyHead::named("shortlist:10+confirm")));
    CHECK(cost(model(), any).full_depth == c.full_depth);
}

TEST_CASE("candidates cost a few rows, in the dense model as well") {
    const PolicyCostOptions labels{.pass = {}, .candidates = 4, .completes_kv = false};
    const PolicyCost c = cost(model(), GapThreshold<LogitLens, CandidateHead>(0.5F), labels);
    CHECK(c.dense.bytes == 32 + 16 * layer + 4 * 32);
    CHECK(c.exits[1].total.bytes == 32 + 8 * layer + 2 * 4 * 32);
    CHECK(c.full_depth.bytes == c.dense.bytes + 3 * 4 * 32);
    // The full head reads everything all the same.
    CHECK(cost(model(), GapThreshold<>(0.5F), labels).exits[0].check.bytes == 4 * head);
}

TEST_CASE("the lens counts, and the layers that it cannot read do not") {
    const PolicyCost c = cost(model(), GapThreshold<LinearLens, ShortlistHead>(0.5F, lens(2), ShortlistHead(10)));
    REQUIRE(c.exits.size() == 2);
    CHECK(c.exits[0].layer == 2);
    CHECK(c.exits[0].check == Cost{4 * (72 + head), 72 + head});
    CHECK(c.exits[1].check == Cost{4 * (72 + 80), 72 + 80});
    // A fixed exit computes lens and head for its answer alone.
    const PolicyCost fixed = cost(model(), ExitAtLayer<LinearLens>(2, lens(2)));
    CHECK(fixed.exits[0].check == Cost{});
    CHECK(fixed.exits[0].total.bytes == 32 + 8 * layer + 4 * 72 + 4 * head + 2 * 4 * kv);
    CHECK(fixed.most_lost() == 0);
}

TEST_CASE("a lens in 8 bits reads fewer bytes for the same numbers") {
    const LinearLens mixed(model().identity, 8,
                           {{2, LensCodes{std::vector<std::int8_t>(64), std::vector<float>(8), std::vector<float>(8)}},
                            {3, std::vector<float>(9 * 8)}});
    const PolicyCost c = cost(model(), GapThreshold<LinearLens, ShortlistHead>(0.5F, mixed, ShortlistHead(10)));
    REQUIRE(c.exits.size() == 2);
    CHECK(c.exits[0].check == Cost{64 + 4 * (8 + 8) + 4 * head, 72 + head});
    CHECK(c.exits[1].check == Cost{4 * (72 + 80), 72 + 80});
    const AnyPolicy any(GapThreshold<AnyLens, AnyHead>(0.5F, AnyLens(mixed), AnyHead(ShortlistHead(10))));
    CHECK(cost(model(), any).checks == c.checks);
    // A fixed exit reads it for its answer alone.
    const PolicyCost fixed = cost(model(), ExitAtLayer<LinearLens>(2, mixed));
    CHECK(fixed.exits[0].total.bytes == 32 + 8 * layer + 64 + 4 * 16 + 4 * head + 2 * 4 * kv);
}

TEST_CASE("a policy that reads no logits has free checks") {
    const PolicyCost c = cost(model(), HiddenSaturation<>(0.9F));
    CHECK(c.checks == Cost{});
    CHECK(c.full_depth == c.dense);
    CHECK_FALSE(c.loses());
    CHECK(cost(model(), NeverExit{}).exits.empty());
    CHECK(cost(model(), NeverExit{}).full_depth == cost(model(), NeverExit{}).dense);
    CHECK(cost(model(), NeverExit{}).best_exit() == nullptr);
}

TEST_CASE("composites are counted by what can be asked") {
    const GapThreshold<> gap(0.5F);
    CHECK(cost(model(), Scheduled(Schedule::only({2}), gap)).checks.bytes == 4 * head);
    // Both read the same logits: once.
    CHECK(cost(model(), AnyOf(gap, TopProbThreshold<>(0.5F))).checks.bytes == 12 * head);
    // The second part of a gate is asked only where the first exits.
    CHECK(cost(model(), Gated(HiddenSaturation<>(0.9F), gap)).checks.bytes == 12 * head);
    CHECK(cost(model(), AnyOf(HiddenSaturation<LogitLens, FullHead>(0.9F), gap)).checks.bytes == 12 * head);
    const AnyPolicy any(GapThreshold<AnyLens, AnyHead>(0.5F, AnyLens(lens(3)), AnyHead(ShortlistHead(10))));
    CHECK(cost(model(), any).exits.size() == 1);
    CHECK(cost(model(), any).checks.bytes == 4 * (72 + head));
}

TEST_CASE("skipped layers cost nothing") {
    const PolicyCost c = cost(model(), Skips{});
    CHECK(c.full_depth.bytes == 32 + 8 * layer + 4 * head);
    CHECK(c.dense.bytes == 32 + 16 * layer + 4 * head);
    CHECK(c.most_lost() == 0);
    CHECK(c.exits[0].total.bytes == 32 + 4 * layer + 4 * head + 4 * kv);  // K/V of layer 4 alone
}

TEST_CASE("many tokens are judged by multiplications") {
    // 20 tokens: a layer is 20 times its matrices, the head is of one position, so the whole head is cheap.
    const PolicyCostOptions prompt{.pass = {.tokens = 20, .context = 0}, .candidates = 0, .completes_kv = false};
    const PolicyCost c = cost(model(), GapThreshold<>(0.5F), prompt);
    CHECK_FALSE(c.one_token);
    CHECK(c.most_lost() == 3 * head);
    CHECK(c.deepest_paying() == 3);
    CHECK_FALSE(c.loses());
}

TEST_CASE("a bound is not warned of") {
    const PolicyCost c = cost(model(), Oracle<LogitLens, FullHead>());
    CHECK(c.most_lost() == 12 * head);
    CHECK_FALSE(c.exits_for_real);
    CHECK_FALSE(c.loses());
}

}  // namespace test_cost
