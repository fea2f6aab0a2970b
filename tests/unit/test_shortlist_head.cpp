#include "adainfer/early_exit/shortlist_head.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/session.hpp"

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
