#include <doctest/doctest.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "adainfer/early_exit/any_policy.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/eval/evaluate.hpp"
#include "adainfer/eval/policy_spec.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "adainfer/model/random_model.hpp"
#include "adainfer/tensor/kv_type.hpp"

namespace test_evaluate_cost {

using namespace adainfer;

// What evaluate() says of checks, on figures that can be worked out on paper: hidden 8, 2 query heads and 1 K/V head of 4,
// feed-forward 16, vocabulary 100, 4 layers, no biases, so 576 numbers a layer and 800 of the head (see test_cost.cpp). Prompts of
// 2, 4 and 3 tokens, so 3, behind 5: they see 6, 7 and 8 positions, twice 8 multiplications each.

namespace {

constexpr std::size_t layer = 3 * 576 + 21 * 2 * 8, head = 800, labels = 2 * 8;

ModelWeights model() {
    return make_random_model({.layers = 4, .hidden = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .feed_forward = 16,
                              .vocabulary = 100, .context = 32});
}

TaskPrompts prompts(std::vector<TokenId> candidates) {
    return {{1, 2, 3, 4, 5}, {{1, 2}, {1, 2, 3, 4}, {1, 2, 3}}, {1, 1, 1}, std::move(candidates)};
}

PolicyCost of(const char* spec, const TaskPrompts& task, KvType kv = KvType::F32) {
    const ModelWeights weights = model();
    return cost_of_task(weights, parse_policy_spec(spec, weights).make("task"), task, kv);
}

}  // namespace

TEST_CASE("checks on a task with open answers") {
    const TaskPrompts open = prompts({});
    CHECK(of("dense", open).dense.multiply_adds == 4 * layer + head);
    CHECK(of("dense", open).checks == Cost{});
    CHECK(of("dense", open).deepest_paying() == 0);  // never asked
    const PolicyCost gap = of("gap:0.5", open);
    CHECK(gap.deciding(gap.checks) == 3 * head);
    CHECK(gap.deciding(gap.dense) == 4 * layer + head);
    CHECK(gap.deepest_paying() == 3);  // three heads and three layers: 8592; dense: 9056
    const PolicyCost confirmed = of("gap:0.5,head=shortlist:10+confirm", open);
    CHECK(confirmed.deciding(confirmed.checks) == head + 2 * 80);
    CHECK(confirmed.deciding(confirmed.full_depth) == 4 * layer + 2 * head + 2 * 80);
    CHECK(of("oracle", open).exits_for_real == false);
}

TEST_CASE("checks on a task with labels") {
    const TaskPrompts closed = prompts({7, 9});
    CHECK(of("dense", closed).dense.multiply_adds == 4 * layer + labels);
    const PolicyCost all = of("gap:0.5", closed);
    CHECK(all.deciding(all.checks) == 3 * head);
    CHECK(all.deepest_paying() == 2);  // 2 layers and 2 heads: 5728, 3 and 3: 8592; dense: 8272
    const PolicyCost few = of("gap:0.5,head=candidates", closed);
    CHECK(few.deciding(few.checks) == 3 * labels);
    CHECK(few.deepest_paying() == 3);
    CHECK(of("fixed:2", closed).deepest_paying() == 2);
    CHECK(of("fixed:2", closed).checks == Cost{});
}

TEST_CASE("the prefix is read from the cache in its type") {
    // Keys and values of 5 positions, 4 numbers each, in 4 layers.
    const std::size_t f32 = of("dense", prompts({})).dense.bytes, f16 = of("dense", prompts({}), KvType::F16).dense.bytes;
    CHECK(f32 - f16 == 4 * 2 * 5 * 4 * 2);
}

}  // namespace test_evaluate_cost
