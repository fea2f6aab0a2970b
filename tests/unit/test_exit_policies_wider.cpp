#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/any_policy.hpp"
#include "adainfer/early_exit/calm_threshold.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/cost.hpp"
#include "adainfer/early_exit/skip_decode.hpp"
#include "adainfer/eval/policy_spec.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/train/collect_trace.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

namespace test_exit_policies_wider {

using namespace adainfer;

namespace {

constexpr float never = std::numeric_limits<float>::infinity();

FeatureList<Gap>::Values gap_of(float value) { return FeatureList<Gap>::Values({value}); }

template <class Policy>
std::size_t exit_layer(const Policy& policy, std::size_t step) {
    const Model<ReferenceBackend, Policy> model(tiny::weights(), policy);
    Session session = model.new_session();
    RunOptions options;
    options.step = step;
    return model.predict(session, tiny::tokens(5), {}, options).exit_layer;
}

template <class Policy>
concept reads_features = requires { Policy::Features::needs; };

/// One number a layer, to see which of its classifiers spoke.
LinearSvm constant(float score) {
    LinearSvm svm;
    svm.mean = {0, 0};
    svm.scale = {1, 1};
    svm.weights = {0, 0};
    svm.bias = score;
    return svm;
}

PerLayer<LinearSvm> only_after(std::size_t layer) {
    PerLayer<LinearSvm> classifiers;
    classifiers.shared = constant(-1);
    classifiers.layers = {1, layer};
    classifiers.own = {constant(-2), constant(1)};
    return classifiers;
}

}  // namespace

TEST_CASE("CALM's threshold falls with the step") {
    // By hand: 0.9 * 0.8 + 0.1 * exp(-4 t / 10).
    const ThresholdDecay decay{4, 10};
    CHECK(decay.at(0.8F, 0) == doctest::Approx(0.82));
    CHECK(decay.at(0.8F, 5) == doctest::Approx(0.72 + 0.1 * 0.1353352832));
    CHECK(decay.at(0.8F, 10) == doctest::Approx(0.72 + 0.1 * 0.0183156389));
    CHECK(decay.at(0.8F, 1'000'000) == doctest::Approx(0.72));
    CHECK(decay.at(1.0F, 0) == doctest::Approx(1.0));
    CHECK(ThresholdDecay{0, 10}.at(0.5F, 7) == doctest::Approx(0.55));
    CHECK(ThresholdDecay{1e30F, 1}.at(0.0F, 1) == 0.0F);
}

TEST_CASE("CalmThreshold compares the gap with the threshold of its step") {
    const CalmThreshold<> policy(0.8F, {4, 10});
    auto first = policy.start(0), later = policy.start(5);
    CHECK(policy.decide(1, gap_of(0.81F), first) == ExitDecision::Continue);
    CHECK(policy.decide(1, gap_of(0.83F), first) == ExitDecision::Exit);
    CHECK(policy.decide(1, gap_of(0.74F), later) == ExitDecision::Exit);
    CHECK(policy.decide(1, gap_of(0.73F), later) == ExitDecision::Continue);
    CalmThreshold<>::State unstarted;
    CHECK(policy.decide(1, gap_of(0.81F), unstarted) == ExitDecision::Continue);
    CHECK(policy.decide(1, gap_of(std::nanf("")), later) == ExitDecision::Continue);
}

TEST_CASE("CalmThreshold refuses numbers that make no threshold") {
    const auto made = [](float threshold, ThresholdDecay decay) {
        return tiny::code_of([&] { return CalmThreshold<>(threshold, decay); });
    };
    CHECK(!made(0.0F, {}).has_value());
    CHECK(made(-0.1F, {}) == ErrorCode::InvalidArgument);
    CHECK(made(1.1F, {}) == ErrorCode::InvalidArgument);
    CHECK(made(tiny::nan, {}) == ErrorCode::InvalidArgument);
    CHECK(made(0.5F, {-1, 10}) == ErrorCode::InvalidArgument);
    CHECK(made(0.5F, {never, 10}) == ErrorCode::InvalidArgument);
    CHECK(made(0.5F, {1, 0}) == ErrorCode::InvalidArgument);
}

TEST_CASE("the same state exits at a later step where it did not at the first") {
    const Model<ReferenceBackend> dense(tiny::weights());
    Session session = dense.new_session();
    const Trace trace =
        collect_trace<PaperFeatures>(dense, session, tiny::tokens(5), {}, {}, Schedule{}, LogitLens{}, FullHead{});
    const float gap = trace.features[0];  // after layer 1
    REQUIRE(gap > 0.05F);
    // The threshold starts a twentieth above it and ends a twentieth below.
    const CalmThreshold<> policy((gap - 0.05F) / 0.9F, {50, 10});
    CHECK(exit_layer(policy, 0) > 1);
    CHECK(exit_layer(policy, 10) == 1);
    CHECK(exit_layer(CalmThreshold<>(1.0F), 0) == 4);
}

TEST_CASE("SkipDecode's depth falls linearly and stays") {
    // From 10 layers to 4 over 12 steps: half a layer a step, a half rounded up.
    const DepthSchedule depth{4, 10, 12};
    const std::vector<std::size_t> expected{10, 10, 9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 4};
    for (std::size_t step = 0; step < expected.size(); ++step) CHECK(depth.at(step) == expected[step]);
    CHECK(depth.at(std::numeric_limits<std::size_t>::max()) == 4);
    CHECK(DepthSchedule{3, 3, 1}.at(9) == 3);
}

TEST_CASE("SkipDecode runs as many layers as the step says, and reads no logits to decide") {
    const SkipDecode<> policy({2, 4, 4});
    CHECK(exit_layer(policy, 0) == 4);
    CHECK(exit_layer(policy, 1) == 4);
    CHECK(exit_layer(policy, 2) == 3);
    CHECK(exit_layer(policy, 3) == 3);
    CHECK(exit_layer(policy, 4) == 2);
    CHECK(exit_layer(policy, 99) == 2);
    CHECK(!policy.wants(1));
    CHECK(policy.wants(2));
    static_assert(!reads_features<SkipDecode<>> && reads_features<CalmThreshold<>>);

    // The same answer as a fixed exit there.
    const Model<ReferenceBackend, SkipDecode<>> model(tiny::weights(), policy);
    const auto fixed = model.with_policy(ExitAtLayer<>(3));
    Session session = model.new_session();
    RunOptions third;
    third.step = 2;
    const std::vector<float> logits = tiny::copy(model.predict(session, tiny::tokens(5), {}, third).logits);
    CHECK(logits == tiny::copy(fixed.predict(session, tiny::tokens(5)).logits));
}

TEST_CASE("SkipDecode is refused where it does not fit") {
    const auto made = [](DepthSchedule depth) { return tiny::code_of([&] { return SkipDecode<>(depth); }); };
    CHECK(made({0, 4, 4}) == ErrorCode::InvalidArgument);
    CHECK(made({5, 4, 4}) == ErrorCode::InvalidArgument);
    CHECK(made({1, 10'001, 4}) == ErrorCode::InvalidArgument);
    CHECK(made({1, 4, 0}) == ErrorCode::InvalidArgument);
    CHECK(made({1, 4, (std::size_t{1} << 32U) + 1}) == ErrorCode::InvalidArgument);
    using SkipModel = Model<ReferenceBackend, SkipDecode<>>;
    const std::string message = tiny::message_of([] { return SkipModel(tiny::weights(), SkipDecode<>({1, 5, 4})); });
    CHECK(contains(message, "begins with 5 layers, the model has 4"));
    CHECK(!tiny::code_of([] { return SkipModel(tiny::weights(), SkipDecode<>({4, 4, 4})); }).has_value());
}

TEST_CASE("combinators and AnyPolicy pass the step on") {
    const SkipDecode<> plain({2, 4, 4});
    CHECK(exit_layer(Scheduled(Schedule{}, plain), 4) == 2);
    CHECK(exit_layer(AnyOf(plain, GapThreshold<LogitLens, CandidateHead>(never)), 4) == 2);
    CHECK(exit_layer(AllOf(plain, plain), 2) == 3);
    const AnyPolicy any(SkipDecode<AnyLens, AnyHead>({2, 4, 4}, AnyLens{}, AnyHead(CandidateHead{})));
    CHECK(exit_layer(any, 0) == 4);
    CHECK(exit_layer(any, 4) == 2);
    CHECK(exit_layer(Scheduled<AnyPolicy>(Schedule::only({3}), any), 4) == 3);
}

TEST_CASE("AdaInferPolicy asks the classifier of the layer") {
    const AdaInferPolicy<PerLayer<LinearSvm>> policy(only_after(3));
    CHECK(exit_layer(policy, 0) == 3);
    CHECK(exit_layer(AdaInferPolicy<PerLayer<LinearSvm>>(only_after(2)), 0) == 2);
    CHECK(exit_layer(AdaInferPolicy<PerLayer<LinearSvm>>(only_after(2), Schedule::only({3})), 0) == 4);
    const AnyClassifier any{AnyClassifier::Variant(only_after(3))};
    CHECK(any.kind() == "per_layer_svm");
    CHECK(exit_layer(AdaInferPolicy<AnyClassifier, PaperFeatures, AnyLens, AnyHead>(any), 0) == 3);
}

TEST_CASE("policy specs: a shortlist of a size") {
    const ModelWeights weights = tiny::weights();
    // A vocabulary of 40, rows of 16 floats and a bias each: later checks read 3 of them.
    const PolicyCost three = cost(weights, parse_policy_spec("gap:0.5,head=shortlist:3", weights).make(""));
    CHECK(three.exits[0].check.bytes == 40 * 17 * 4);
    CHECK(three.exits[1].check.bytes == 3 * 17 * 4);
    CHECK(cost(weights, parse_policy_spec("gap:0.5,head=shortlist", weights).make("")).exits[1].check.bytes == 40 * 17 * 4);
    const PolicyCost confirmed = cost(weights, parse_policy_spec("gap:0.5,head=shortlist:3+confirm", weights).make(""));
    CHECK(confirmed.full_depth.bytes == three.full_depth.bytes + (40 - 3) * 17 * 4);  // the answer is of the whole vocabulary
    for (const std::string head : {"shortlist:3+", "full+confirm", "shortlist:1", "shortlist:", "shortlist:x", "shortlist:3x", "shortlist:-3", "short"}) {
        const std::string message = tiny::message_of([&] { return parse_policy_spec("gap:0.5,head=" + head, weights); });
        CHECK(contains(message, "unknown head '" + head + "'; known: full, candidates, shortlist, shortlist:K"));
    }
}

TEST_CASE("policy specs: calm and skipdecode") {
    const ModelWeights weights = tiny::weights();
    const auto layer = [&](const std::string& spec, std::size_t step) {
        return exit_layer(parse_policy_spec(spec, weights).make(""), step);
    };
    CHECK(layer("skipdecode:2-4,length=4", 0) == 4);
    CHECK(layer("skipdecode:2-4,length=4", 4) == 2);
    CHECK(layer("skipdecode:2-4", 64) == 3);  // halfway of 128 steps
    CHECK(layer("skipdecode:2-4,length=4,layers=3-3", 4) == 3);
    CHECK(layer("calm:1", 0) == 4);
    CHECK(layer("calm:0,decay=50,length=10", 10) == 1);
    CHECK(parse_policy_spec("calm:0.5,head=shortlist", weights).name == "calm:0.5,head=shortlist");

    const auto refused = [&](const std::string& spec) {
        return tiny::message_of([&] { return parse_policy_spec(spec, weights); });
    };
    CHECK(contains(refused("skipdecode:3"), "FEWEST-MOST"));
    CHECK(contains(refused("skipdecode:3-2"), "1 <= fewest <= most"));
    CHECK(contains(refused("skipdecode:3-5"), "begins with 5 layers, the model has 4"));
    CHECK(contains(refused("skipdecode:2-4,decay=3"), "unknown option 'decay=3'"));
    CHECK(contains(refused("skipdecode:2-4,length=0"), "length of SkipDecode"));
    CHECK(contains(refused("calm:2"), "must lie in [0, 1]"));
    CHECK(contains(refused("calm:0.5,length=x"), "'x' is not a number"));
    CHECK(contains(refused("gap:0.5,length=4"), "unknown option 'length=4'"));
}

}  // namespace test_exit_policies_wider
