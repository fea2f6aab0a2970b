#include <doctest/doctest.h>

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/generate/classify.hpp"
#include "adainfer/model/model.hpp"
#include "tiny_model.hpp"

namespace test_backend_counting {

using namespace adainfer;

namespace {

constexpr std::size_t layers = 4, vocabulary = 40;
constexpr std::size_t layer_products = 7;  // q, k, v, attention output, gate, up, down

/// The reference backend, counting its matrix products: those of the head are the ones with `vocabulary` rows.
struct CountingBackend {
    using Weight = WeightView;
    struct Counts {
        std::size_t products = 0;       ///< of layers
        std::size_t heads = 0;          ///< of the whole head
        std::size_t candidate_rows = 0; ///< rows of the head computed one by one
        std::size_t products_at_head = 0;  ///< value of `products` at the last head
    };
    std::shared_ptr<Counts> counts = std::make_shared<Counts>();

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        if (weight.rows == vocabulary) {
            ++counts->heads;
            counts->products_at_head = counts->products;
            CHECK(x.rows() == 1);
        } else {
            ++counts->products;
        }
        ReferenceBackend{}.matmul(weight, x, y);
    }

    void matmul_rows(const Weight& weight, std::span<const TokenId> rows, std::span<const float> x, std::span<float> out) const {
        counts->candidate_rows += rows.size();
        counts->products_at_head = counts->products;
        ops::matmul_rows(ReferenceBackend{}, weight, weight, rows, x, out);
    }
};

template <class Policy>
struct Counted {
    CountingBackend backend;
    Model<CountingBackend, Policy> model;
    Session session;
    CountingBackend::Counts& counts = *backend.counts;

    explicit Counted(Policy policy) : model(tiny::weights(), std::move(policy), backend), session(model.new_session()) {
        model.prefill(session, tiny::tokens(5));
        CHECK(counts.heads == 0);
        CHECK(counts.products == layers * layer_products);
        counts = {};
    }
};

using LensOnly = FeatureThreshold<LensNorm, Exits::Above>;

}  // namespace

TEST_CASE("the dense model computes one head a token, and the prompt none") {
    Counted dense{NeverExit{}};
    for (std::size_t i = 1; i <= 5; ++i) {
        CHECK(dense.model.decode(dense.session, 3).exit_layer == layers);
        CHECK(dense.counts.heads == i);
        CHECK(dense.counts.products == i * layers * layer_products);
    }
    dense.counts = {};
    CHECK(dense.model.predict(dense.session, tiny::tokens(4)).token >= 0);
    CHECK(dense.model.prefill_and_predict(dense.session, tiny::tokens(4)).token >= 0);
    CHECK(dense.counts.heads == 2);
    CHECK(dense.counts.candidate_rows == 0);
}

TEST_CASE("a policy that reads no logits computes none before its exit") {
    const auto check = [](auto policy, std::size_t exit_layer) {
        Counted early(std::move(policy));
        const Prediction p = early.model.predict(early.session, tiny::tokens(3));
        CHECK(p.exit_layer == exit_layer);
        CHECK(early.counts.heads == 1);
        CHECK(early.counts.products == exit_layer * layer_products);
        CHECK(early.counts.products_at_head == early.counts.products);  // after everything else
        CHECK(p.logits.size() == vocabulary);
    };
    check(HiddenSaturation<>(2.0F), layers);  // never
    check(HiddenSaturation<>(-2.0F), 1);
    check(LensOnly(-1.0F), 1);
    check(LensOnly(1e9F), layers);
    check(ExitAtLayer<>(3), 3);
    check(Scheduled(Schedule::only({2}), HiddenSaturation<>(-2.0F)), 2);
    check(AllOf(HiddenSaturation<>(-2.0F), Scheduled(Schedule::only({3}), LensOnly(-1.0F))), 3);
}

TEST_CASE("the head of the exit layer is the answer: it is not computed twice") {
    const auto check = [](auto policy, std::size_t exit_layer, std::size_t heads) {
        Counted early(std::move(policy));
        const Prediction p = early.model.predict(early.session, tiny::tokens(3));
        CHECK(p.exit_layer == exit_layer);
        CHECK(early.counts.heads == heads);
    };
    check(GapThreshold<>(-1.0F), 1, 1);
    check(Scheduled(Schedule::every(2, 2), GapThreshold<>(-1.0F)), 2, 1);
    check(GapThreshold<>(2.0F), layers, layers);  // three checks and the last layer
    check(Patience<>(1'000), layers, layers);
    // Two policies that read the same logits share them.
    check(AnyOf(GapThreshold<>(2.0F), EntropyThreshold<>(-1.0F)), layers, layers);
    check(AnyOf(GapThreshold<>(2.0F), TopProbThreshold<>(-1.0F)), 1, 1);
    check(AllOf(GapThreshold<>(-1.0F), EntropyThreshold<>(1e9F)), 1, 1);
    // A closed gate spares the head, an open one costs it once.
    check(Gated(HiddenSaturation<>(2.0F), GapThreshold<>(-1.0F)), layers, 1);
    check(Gated(HiddenSaturation<>(-2.0F), GapThreshold<>(-1.0F)), 1, 1);
    check(Gated(HiddenSaturation<>(-2.0F), GapThreshold<>(2.0F)), layers, layers);
    check(Gated(Scheduled(Schedule::only({3}), HiddenSaturation<>(-2.0F)), GapThreshold<>(2.0F)), layers, 2);
}

TEST_CASE("a shortlist costs the whole head once, and once more where it is confirmed") {
    const auto check = [](auto policy, std::size_t exit_layer, std::size_t heads, std::size_t rows) {
        Counted early(std::move(policy));
        CHECK(early.model.predict(early.session, tiny::tokens(3)).exit_layer == exit_layer);
        CHECK(early.counts.heads == heads);
        CHECK(early.counts.candidate_rows == rows);
        early.counts = {};
        static_cast<void>(early.model.decode(early.session, 3));
        CHECK(early.counts.heads == heads);
        CHECK(early.counts.candidate_rows == rows);
    };
    using Gap = GapThreshold<LogitLens, ShortlistHead>;
    const ShortlistHead plain(5), confirmed(5, Confirm::Yes);
    check(Gap(2.0F, {}, plain), layers, 1, 3 * 5);  // two more checks and the answer
    check(Gap(2.0F, {}, confirmed), layers, 2, 2 * 5);
    check(Gap(-1.0F, {}, confirmed), 1, 1, 0);  // the first check is of the whole vocabulary already
    const auto third = [](const ShortlistHead& head) {
        return AnyOf(Scheduled(Schedule::only({1, 2}), Gap(2.0F, {}, head)), Scheduled(Schedule::only({3}), Gap(-1.0F, {}, head)));
    };
    check(third(plain), 3, 1, 2 * 5);
    check(third(confirmed), 3, 2, 2 * 5);

    const std::vector<TokenId> candidates{1, 2, 3};
    Counted named(Gap(2.0F, {}, confirmed));
    static_cast<void>(named.model.predict(named.session, tiny::tokens(3), candidates));
    CHECK(named.counts.heads == 0);
    CHECK(named.counts.candidate_rows == layers * 3);
}

TEST_CASE("candidates: only their rows") {
    const std::vector<TokenId> candidates{1, 2, 3};
    Counted early{GapThreshold<LogitLens, CandidateHead>(2.0F)};
    CHECK(early.model.predict(early.session, tiny::tokens(3), candidates).exit_layer == layers);
    CHECK(early.counts.heads == 0);
    CHECK(early.counts.candidate_rows == layers * 3);

    early.counts = {};
    const LabelSet labels = LabelSet::from_tokens({{1}, {2}, {3, 4}});
    static_cast<void>(classify(early.model, early.session, tiny::tokens(3), labels));
    CHECK(early.counts.heads == 0);
    CHECK(early.counts.candidate_rows == layers * 3);

    Counted dense{NeverExit{}};
    static_cast<void>(dense.model.predict(dense.session, tiny::tokens(3), candidates));
    CHECK(dense.counts.heads == 0);
    CHECK(dense.counts.candidate_rows == 3);
}

TEST_CASE("an early exit costs the layers it ran, the head and two products a layer left out") {
    Counted early{ExitAtLayer<>(1)};
    CHECK(early.model.decode(early.session, 7).exit_layer == 1);
    CHECK(early.counts.heads == 1);
    CHECK(early.counts.products == layer_products + 2 * (layers - 1));
    // The oracle runs every layer: nothing is left to complete.
    Counted oracle{Oracle<>{}};
    static_cast<void>(oracle.model.decode(oracle.session, 7));
    CHECK(oracle.counts.products == layers * layer_products);
}

}  // namespace test_backend_counting
