#include "adainfer/train/collect_trace.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/random_model.hpp"
#include "adainfer/model/readout.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/train/dataset.hpp"
#include "tiny_model.hpp"

namespace test_collect_trace {

using namespace adainfer;

namespace {

/// The whole vocabulary, without saying so: its logits are computed check by check.
struct SilentHead {
    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId> candidates,
                                 Workspace& work) const {
        return FullHead{}.run(decoder, state, candidates, work);
    }
};

template <class Backend, class Head>
Trace traced(const Model<Backend>& model, const Head& head, const Schedule& schedule = {}) {
    Session session = model.new_session();
    model.prefill(session, tiny::tokens(3));
    Trace trace = collect_trace<WideFeatures>(model, session, tiny::tokens(5), {}, TokenId{7}, schedule, LogitLens{}, head, 2);
    CHECK(session.length() == 3);
    return trace;
}

/// The same but for the order in which sums are taken.
void check_alike(const Trace& a, const Trace& b, double epsilon) {
    CHECK(a.layers == b.layers);
    CHECK(a.tokens == b.tokens);
    CHECK(a.agrees == b.agrees);
    CHECK(a.matches_gold == b.matches_gold);
    CHECK(a.final_token == b.final_token);
    CHECK(a.final_matches_gold == b.final_matches_gold);
    CHECK(a.final_reachable);
    CHECK(b.final_reachable);
    CHECK(a.group == 2);
    REQUIRE(a.features.size() == a.steps() * WideFeatures::size);
    REQUIRE(a.features.size() == b.features.size());
    for (std::size_t i = 0; i < a.features.size(); ++i) {
        CAPTURE(i);
        CHECK(a.features[i] == doctest::Approx(b.features[i]).epsilon(epsilon));
    }
}

}  // namespace

TEST_CASE("logits of all checks at once are those of each check") {
    const Model<ReferenceBackend> model(tiny::weights());
    check_alike(traced(model, FullHead{}), traced(model, SilentHead{}), 1e-6);
    check_alike(traced(model, CandidateHead{}), traced(model, SilentHead{}), 1e-6);
    check_alike(traced(model, ShortlistHead(4000)), traced(model, SilentHead{}), 1e-6);  // longer than the vocabulary
    check_alike(traced(model, FullHead{}, Schedule::only({1, 3})), traced(model, SilentHead{}, Schedule::only({1, 3})), 1e-6);
    const Model<SimdBackend> simd(tiny::weights(), {}, SimdBackend(1, SimdBackend::Products::Exact));
    check_alike(traced(simd, FullHead{}), traced(simd, SilentHead{}), 1e-4);
}

TEST_CASE("more checks than are computed at once, and none") {
    RandomModelOptions options = tiny::options();
    options.layers = 40;
    const Model<ReferenceBackend> deep(make_random_model(options));
    const Trace trace = traced(deep, FullHead{});
    CHECK(trace.steps() == 39);
    check_alike(trace, traced(deep, SilentHead{}), 1e-6);
    const Trace none = traced(deep, FullHead{}, Schedule::only({40}));
    CHECK(none.steps() == 0);
    CHECK(none.final_token == trace.final_token);
}

}  // namespace test_collect_trace
