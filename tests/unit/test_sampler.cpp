#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "adainfer/generate/sampler.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

namespace test_sampler {

using namespace adainfer;

namespace {

/// The distribution that options leave of logits, by sorting everything: [logits.size()], sums to 1.
std::vector<double> expected(const std::vector<float>& logits, const SamplingOptions& options) {
    const std::size_t n = logits.size();
    std::vector<double> scaled;
    for (const float logit : logits) scaled.push_back(static_cast<double>(logit) / static_cast<double>(options.temperature));
    std::vector<double> p = tiny::softmax(scaled);
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
    std::vector<double> kept(n, 0.0);
    const std::size_t k = options.top_k == 0 ? n : std::min(n, options.top_k);
    double mass = 0;
    for (std::size_t i = 0; i < k; ++i) mass += p[order[i]];
    double before = 0;
    for (std::size_t i = 0; i < k; ++i) {
        const double share = p[order[i]] / mass;
        if (before < static_cast<double>(options.top_p) && share >= static_cast<double>(options.min_p) * p[order[0]] / mass) {
            kept[order[i]] = share;
        }
        before += share;
    }
    const double total = std::accumulate(kept.begin(), kept.end(), 0.0);
    for (double& value : kept) value /= total;
    return kept;
}

const std::vector<float> logits{0.3F, 2.1F, -1.0F, 1.7F, 0.9F, 2.0F, -0.4F, 0.05F};

/// Draws many and compares: nothing outside the support, frequencies within 5 standard deviations.
void check_distribution(const std::vector<float>& row, const SamplingOptions& options) {
    const std::vector<double> p = expected(row, options);
    Sampler sampler(options);
    std::mt19937_64 generator(7);
    constexpr int draws = 40'000;
    std::vector<int> counts(row.size());
    for (int i = 0; i < draws; ++i) ++counts[static_cast<std::size_t>(sampler(row, generator))];
    for (std::size_t i = 0; i < row.size(); ++i) {
        if (p[i] == 0) CHECK(counts[i] == 0);
        const double deviation = std::sqrt(draws * p[i] * (1 - p[i])) + 1e-9;
        CHECK(std::abs(counts[i] - draws * p[i]) < 5 * deviation);
    }
}

/// Eight bits a draw, not a power-of-two range away from zero.
struct Die {
    using result_type = unsigned;
    std::uint32_t state = 1;
    static constexpr unsigned min() { return 1; }
    static constexpr unsigned max() { return 6; }
    unsigned operator()() {
        state = state * 1664525U + 1013904223U;
        return 1 + (state >> 16U) % 6;
    }
};

/// Always the same value.
template <std::uint64_t value>
struct Constant {
    using result_type = std::uint64_t;
    static constexpr std::uint64_t min() { return 0; }
    static constexpr std::uint64_t max() { return std::numeric_limits<std::uint64_t>::max(); }
    std::uint64_t operator()() { return value; }
};

}  // namespace

TEST_CASE("greedy takes the largest logit, the first of equals, and draws nothing") {
    std::mt19937_64 generator(3), untouched(3);
    CHECK(sample(logits, {}, generator) == 1);
    CHECK(sample(std::vector<float>{1, 5, 5, 2}, {}, generator) == 1);
    std::vector<float> wide(5000, 0.0F);
    wide[4000] = wide[3999] = 1;
    CHECK(sample(wide, {}, generator) == 3999);
    CHECK(generator == untouched);
}

TEST_CASE("each option leaves the distribution that a full sort leaves") {
    check_distribution(logits, {.temperature = 1});
    check_distribution(logits, {.temperature = 0.5F});
    check_distribution(logits, {.temperature = 2.5F});
    check_distribution(logits, {.temperature = 1, .top_k = 3});
    check_distribution(logits, {.temperature = 1, .top_k = 100});
    check_distribution(logits, {.temperature = 1, .top_p = 0.7F});
    check_distribution(logits, {.temperature = 1, .top_p = 0.01F});
    check_distribution(logits, {.temperature = 1, .min_p = 0.4F});
    check_distribution(logits, {.temperature = 1, .min_p = 1});
    check_distribution(logits, {.temperature = 0.8F, .top_k = 6, .top_p = 0.85F, .min_p = 0.3F});
    check_distribution(logits, {.temperature = 1.6F, .top_k = 5, .top_p = 0.6F, .min_p = 0.05F});
}

TEST_CASE("the order is temperature, top_k, top_p, min_p") {
    // At temperature 1 the likeliest token alone reaches 0.6; at 4 it takes two.
    const std::vector<float> row{2, 1, 0};
    const std::vector<double> hot = expected(row, {.temperature = 4, .top_p = 0.6F});
    CHECK(hot[1] > 0);
    check_distribution(row, {.temperature = 4, .top_p = 0.6F});
    CHECK(expected(row, {.temperature = 1, .top_p = 0.6F})[1] == 0);
    check_distribution(row, {.temperature = 1, .top_p = 0.6F});
    // top_p is a share of what top_k left: 0.55 of two tokens is one.
    CHECK(expected(std::vector<float>{1, 0.7F, 0.6F, 0.5F}, {.temperature = 1, .top_k = 2, .top_p = 0.55F})[1] == 0);
    check_distribution({1, 0.7F, 0.6F, 0.5F}, {.temperature = 1, .top_k = 2, .top_p = 0.55F});
}

TEST_CASE("of equal logits those with lower ids stay") {
    const std::vector<float> row{1, 3, 3, 3, 0};
    std::mt19937_64 generator(1);
    std::vector<int> counts(5);
    Sampler two({.temperature = 1, .top_k = 2});
    for (int i = 0; i < 1000; ++i) ++counts[static_cast<std::size_t>(two(row, generator))];
    CHECK(counts[1] > 400);
    CHECK(counts[2] > 400);
    CHECK(counts[1] + counts[2] == 1000);
    Sampler nucleus({.temperature = 1, .top_p = 0.2F});
    for (int i = 0; i < 100; ++i) CHECK(nucleus(row, generator) == 1);
}

TEST_CASE("a seed gives the same tokens: each draw is the first whose running sum passes the number drawn") {
    const SamplingOptions options{.temperature = 1};
    std::mt19937_64 generator(42), twin(42);
    Sampler sampler(options);
    const std::vector<double> p = expected(logits, options);
    std::vector<TokenId> found, by_hand;
    for (int i = 0; i < 200; ++i) {
        found.push_back(sampler(logits, generator));
        const double u = static_cast<double>(twin()) / 0x1p64;
        double sum = 0;
        std::size_t index = 0;
        while (index + 1 < p.size() && (sum += p[index]) <= u) ++index;
        by_hand.push_back(static_cast<TokenId>(index));
    }
    CHECK(found == by_hand);

    // The same with the nucleus, in order of likelihood.
    const SamplingOptions nucleus{.temperature = 1, .top_p = 0.9F};
    const std::vector<double> q = expected(logits, nucleus);
    std::vector<std::size_t> order(q.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return q[a] > q[b]; });
    std::vector<TokenId> drawn, expected_tokens;
    Sampler second(nucleus);
    for (int i = 0; i < 200; ++i) {
        drawn.push_back(second(logits, generator));
        const double u = static_cast<double>(twin()) / 0x1p64;
        double sum = 0;
        std::size_t at = 0;
        while (at + 1 < order.size() && (sum += q[order[at]]) <= u) ++at;
        expected_tokens.push_back(static_cast<TokenId>(order[at]));
    }
    CHECK(drawn == expected_tokens);
}

TEST_CASE("generators of any range, down to the ends of theirs") {
    Die die;
    double sum = 0, least = 1, most = 0;
    for (int i = 0; i < 2000; ++i) {
        const double u = detail::uniform(die);
        least = std::min(least, u);
        most = std::max(most, u);
        sum += u;
    }
    CHECK(least >= 0);
    CHECK(least < 0.01);
    CHECK(most < 1);
    CHECK(most > 0.99);
    CHECK(sum / 2000 == doctest::Approx(0.5).epsilon(0.03));

    Constant<0> lowest;
    Constant<std::numeric_limits<std::uint64_t>::max()> highest;
    CHECK(detail::uniform(lowest) == 0);
    CHECK(detail::uniform(highest) < 1);
    CHECK(sample(logits, {.temperature = 1}, lowest) == 0);
    CHECK(sample(logits, {.temperature = 1}, highest) == 7);
    CHECK(sample(logits, {.temperature = 1, .top_k = 2}, highest) == 5);
}

TEST_CASE("tiny temperatures and impossible tokens") {
    std::mt19937_64 generator(5);
    for (int i = 0; i < 50; ++i) CHECK(sample(logits, {.temperature = 1e-30F}, generator) == 1);
    const float never = -std::numeric_limits<float>::infinity();
    const std::vector<float> masked{never, 0.5F, never, 0.4F};
    std::vector<int> counts(4);
    for (int i = 0; i < 200; ++i) ++counts[static_cast<std::size_t>(sample(masked, {.temperature = 1}, generator))];
    CHECK(counts[0] + counts[2] == 0);
    CHECK(counts[1] > 0);
    CHECK(counts[3] > 0);
}

TEST_CASE("errors name the option") {
    std::mt19937_64 generator(1);
    const auto message = [&](SamplingOptions options) {
        return tiny::message_of([&] { static_cast<void>(sample(logits, options, generator)); });
    };
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(contains(message({.temperature = -1}), "temperature"));
    CHECK(contains(message({.temperature = tiny::nan}), "temperature"));
    CHECK(contains(message({.temperature = infinity}), "temperature"));
    CHECK(contains(message({.temperature = 1, .top_p = 0}), "top_p"));
    CHECK(contains(message({.temperature = 1, .top_p = 1.5F}), "top_p"));
    CHECK(contains(message({.temperature = 1, .top_p = tiny::nan}), "top_p"));
    CHECK(contains(message({.temperature = 1, .min_p = -0.1F}), "min_p"));
    CHECK(contains(message({.temperature = 1, .min_p = 1.1F}), "min_p"));
    CHECK(message({.temperature = 1}).empty());

    const auto code = [&](std::vector<float> row, float temperature) {
        return tiny::code_of([&] { static_cast<void>(sample(row, {.temperature = temperature}, generator)); });
    };
    for (const float temperature : {0.0F, 1.0F}) {
        CHECK(code({1, tiny::nan, 2}, temperature) == ErrorCode::NotFinite);
        CHECK(code({1, infinity, 2}, temperature) == ErrorCode::NotFinite);
        CHECK(code({}, temperature) == ErrorCode::InvalidArgument);
    }
}

}  // namespace test_sampler
