#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/any_policy.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/skip_layers.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/model/model.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

/// Types of somebody else's: a policy and a backend that know the library only by its concepts.
namespace elsewhere {

/// Writes down what it reads and never exits.
template <class List, class LensType = adainfer::LogitLens, class HeadType = adainfer::FullHead>
struct Recorder {
    using Features = List;
    struct State {};
    std::vector<std::array<float, List::size>>* log;
    LensType lens_{};
    HeadType head_{};

    bool wants(std::size_t layer) const { return lens_.reads(layer); }
    adainfer::ExitDecision decide(std::size_t, const typename List::Values& values, State&) const {
        log->push_back(values.all());
        return adainfer::ExitDecision::Continue;
    }
    const LensType& lens() const { return lens_; }
    const HeadType& head() const { return head_; }
};

/// Exits after the layers of a list; writes down when it is asked.
struct Script {
    using Features = adainfer::FeatureList<adainfer::LayerFraction>;
    struct State {
        std::size_t asked = 0;
    };
    std::vector<std::size_t> wanted, exits;
    std::vector<std::size_t>* log;
    std::size_t least_asked = 0;  ///< exits only when asked so often

    static bool holds(const std::vector<std::size_t>& layers, std::size_t layer) {
        return std::find(layers.begin(), layers.end(), layer) != layers.end();
    }
    bool wants(std::size_t layer) const { return holds(wanted, layer); }
    adainfer::ExitDecision decide(std::size_t layer, const Features::Values&, State& state) const {
        log->push_back(layer);
        const bool exit = ++state.asked >= least_asked && holds(exits, layer);
        return exit ? adainfer::ExitDecision::Exit : adainfer::ExitDecision::Continue;
    }
};

/// Writes down how far its generation is, when it starts and when it is asked; never exits.
struct Stepping {
    using Features = adainfer::FeatureList<adainfer::LayerFraction>;
    struct State {
        std::size_t step = 1000;
    };
    std::vector<std::size_t>* started;
    std::vector<std::size_t>* asked;

    State start(std::size_t step) const {
        started->push_back(step);
        return {step};
    }
    bool wants(std::size_t layer) const { return layer == 2; }
    adainfer::ExitDecision decide(std::size_t, const Features::Values&, State& state) const {
        asked->push_back(state.step++);
        return adainfer::ExitDecision::Continue;
    }
};

/// Move-only, neither default-constructible nor copyable.
struct Unique {
    using Features = adainfer::FeatureList<adainfer::TopProb, adainfer::Gap>;
    struct State {};
    std::unique_ptr<float> threshold;

    explicit Unique(float t) : threshold(std::make_unique<float>(t)) {}
    bool wants(std::size_t layer) const { return layer % 2 == 0; }
    adainfer::ExitDecision decide(std::size_t, const Features::Values& values, State&) const {
        return values.get<adainfer::TopProb>() + values.get<adainfer::Gap>() > *threshold ? adainfer::ExitDecision::Exit
                                                                                       : adainfer::ExitDecision::Continue;
    }
};

/// Keeps its own f32 copy of each weight, transposed.
struct Backend {
    struct Weight {
        std::size_t rows, cols;
        std::vector<float> columns;
    };
    std::string name = "somebody's backend";  // state that is copied along

    Weight prepare(adainfer::WeightView view) const {
        Weight weight{view.rows, view.cols, std::vector<float>(view.rows * view.cols)};
        std::vector<float> row(view.cols);
        for (std::size_t r = 0; r < view.rows; ++r) {
            adainfer::dequantize_row(view.dtype, view.row(r), view.cols, row.data());
            for (std::size_t c = 0; c < view.cols; ++c) weight.columns[c * view.rows + r] = row[c];
        }
        return weight;
    }
    void matmul(const Weight& weight, adainfer::MatrixView<const float> x, adainfer::MatrixView<float> y) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            for (std::size_t r = 0; r < weight.rows; ++r) y.row(t)[r] = 0;
            for (std::size_t c = 0; c < weight.cols; ++c) {
                for (std::size_t r = 0; r < weight.rows; ++r) y.row(t)[r] += weight.columns[c * weight.rows + r] * x.row(t)[c];
            }
        }
    }
};

}  // namespace elsewhere

namespace test_exit_policies {

using namespace adainfer;

namespace {

constexpr std::size_t layers = 8;

ModelWeights deep_weights() {
    RandomModelOptions options = tiny::options();
    options.layers = layers;
    return make_random_model(options);
}

/// What a check sees, from plain sums.
struct Expected {
    double gap = 0, top_prob = 0, entropy = 0, lens_norm = 0;
    TokenId token = no_token;
    std::vector<double> lens;
};

double cosine_of(const std::vector<double>& a, const std::vector<double>& b) {
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return ab / std::sqrt(aa * bb);
}

std::vector<double> widened(const std::vector<float>& values) { return {values.begin(), values.end()}; }

Expected expect(const ModelWeights& weights, std::vector<double> lens, const std::vector<TokenId>& candidates = {}) {
    Expected e;
    const std::vector<double> all = tiny::product(weights.head, lens);
    std::vector<double> row;
    std::vector<TokenId> columns = candidates;
    for (std::size_t i = 0; columns.empty() && i < all.size(); ++i) row.push_back(all[i]);
    for (const TokenId token : columns) row.push_back(all[static_cast<std::size_t>(token)]);
    const std::vector<double> p = tiny::softmax(row);
    const auto top = static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
    std::vector<double> sorted = p;
    std::sort(sorted.rbegin(), sorted.rend());
    e.top_prob = sorted[0];
    e.gap = sorted[0] - sorted[1];
    for (const double value : p) e.entropy -= value * std::log(value);
    e.token = columns.empty() ? static_cast<TokenId>(top) : columns[top];
    double squares = 0;
    for (const double value : lens) squares += value * value;
    e.lens_norm = std::sqrt(squares / static_cast<double>(lens.size()));
    e.lens = std::move(lens);
    return e;
}

/// Prompt, the hidden states of its last position and what the logit lens sees there, layer by layer.
struct Case {
    std::vector<TokenId> prompt;
    std::vector<std::vector<float>> states;  // [layers + 1]
    std::vector<Expected> seen;              // [layers + 1], 0 unused
};

template <class M>
std::vector<Case> cases(const M& model) {
    std::vector<Case> result;
    for (std::size_t i = 0; i < 24; ++i) {
        Case c;
        for (std::size_t j = 0; j <= i % 5; ++j) c.prompt.push_back(static_cast<TokenId>((i * 13 + j * 29 + 3) % 40));
        Session session = model.new_session();
        c.states = tiny::states(model.decoder(), session, c.prompt);
        const ModelWeights& weights = model.decoder().weights();
        c.seen.resize(layers + 1);
        for (std::size_t l = 1; l <= layers; ++l) {
            c.seen[l] = expect(weights, tiny::norm(c.states[l], weights.final_norm.gain, weights.config.norm_eps));
        }
        result.push_back(std::move(c));
    }
    return result;
}

/// First layer below the last for which `exits(case, layer)`, else the last.
template <class Exits>
std::size_t first_layer(const Case& c, Exits&& exits) {
    for (std::size_t l = 1; l < layers; ++l) {
        if (exits(c, l)) return l;
    }
    return layers;
}

/// Runs the policy on all cases and compares exit layers; wants some early exits and some full runs.
template <class M, class Policy, class Exits>
void check_exits(const M& model, const std::vector<Case>& all, Policy policy, Exits&& exits) {
    const auto early = model.with_policy(std::move(policy));
    Session session = early.new_session();
    std::size_t sooner = 0;
    for (const Case& c : all) {
        const std::size_t expected = first_layer(c, exits);
        const Prediction p = early.predict(session, c.prompt);
        CHECK(p.exit_layer == expected);
        CHECK(p.layers == layers);
        CHECK(p.token == c.seen[expected].token);
        sooner += expected < layers ? 1 : 0;
    }
    CHECK(sooner > 0);
    CHECK(sooner < all.size());
}

LinearLens random_lens(const ModelWeights& weights, const std::vector<std::size_t>& at, std::uint32_t state = 1) {
    const std::size_t n = weights.config.hidden;
    std::vector<LinearLens::Map> maps;
    for (const std::size_t layer : at) {
        std::vector<float> numbers((n + 1) * n);
        for (float& value : numbers) {
            state = state * 1664525U + 1013904223U;
            value = static_cast<float>(state >> 8U) * 0x1p-24F - 0.5F;
        }
        maps.push_back({layer, std::move(numbers)});
    }
    return {weights.identity, n, std::move(maps)};
}

std::vector<double> read_by_hand(const LinearLens& lens, std::size_t layer, const std::vector<float>& hidden) {
    const auto map = std::find_if(lens.maps().begin(), lens.maps().end(), [&](const auto& m) { return m.layer == layer; });
    REQUIRE(map != lens.maps().end());
    const std::size_t n = hidden.size();
    const std::vector<float> matrix = map->matrix.to_floats();
    double squares = 0;
    for (const float value : hidden) squares += static_cast<double>(value) * static_cast<double>(value);
    const double scale = 1 / (std::sqrt(squares / static_cast<double>(n)) + 1e-6);
    std::vector<double> out(n);
    for (std::size_t j = 0; j < n; ++j) {
        out[j] = static_cast<double>(matrix[n * n + j]);
        for (std::size_t i = 0; i < n; ++i) {
            out[j] += scale * static_cast<double>(hidden[i]) * static_cast<double>(matrix[i * n + j]);
        }
    }
    return out;
}

using AllFeatures = FeatureList<Gap, TopProb, Entropy, SameTopAsPrevious, LayerFraction, HiddenCosine, LensNorm, LensShift>;

void check_features(const std::array<float, 8>& found, const Expected& now, const Expected* before, const Case& c,
                    std::size_t layer) {
    const auto near = [](double value) { return doctest::Approx(value).epsilon(2e-5); };
    CHECK(static_cast<double>(found[0]) == near(now.gap));
    CHECK(static_cast<double>(found[1]) == near(now.top_prob));
    CHECK(static_cast<double>(found[2]) == near(now.entropy));
    CHECK(found[3] == (before != nullptr && before->token == now.token ? 1.0F : 0.0F));
    CHECK(static_cast<double>(found[4]) == near(static_cast<double>(layer) / layers));
    CHECK(static_cast<double>(found[5]) == near(cosine_of(widened(c.states[layer]), widened(c.states[layer - 1]))));
    CHECK(static_cast<double>(found[6]) == near(now.lens_norm));
    CHECK(static_cast<double>(found[7]) == near(before == nullptr ? 0.0 : cosine_of(now.lens, before->lens)));
}

}  // namespace

TEST_CASE("features are what plain sums over the logits say") {
    const Model<ReferenceBackend> model(deep_weights());
    std::vector<std::array<float, 8>> log;
    const auto recording = model.with_policy(elsewhere::Recorder<AllFeatures>{&log});
    Session session = model.new_session();
    bool repeats = false;
    for (const Case& c : cases(model)) {
        log.clear();
        const Prediction p = recording.predict(session, c.prompt);
        CHECK(p.checks == layers - 1);
        CHECK(p.exit_layer == layers);
        CHECK(p.token == c.seen[layers].token);
        REQUIRE(log.size() == layers - 1);
        for (std::size_t l = 1; l < layers; ++l) {
            check_features(log[l - 1], c.seen[l], l == 1 ? nullptr : &c.seen[l - 1], c, l);
            repeats = repeats || log[l - 1][3] > 0;
        }
    }
    CHECK(repeats);
}

TEST_CASE("features of a few candidates are relative to them") {
    const Model<ReferenceBackend> model(deep_weights());
    const ModelWeights& weights = model.decoder().weights();
    std::vector<std::array<float, 8>> log;
    const auto recording = model.with_policy(elsewhere::Recorder<AllFeatures, LogitLens, CandidateHead>{&log});
    Session session = model.new_session();
    const std::vector<TokenId> candidates{31, 4, 22};
    for (const Case& c : cases(model)) {
        log.clear();
        static_cast<void>(recording.predict(session, c.prompt, candidates));
        REQUIRE(log.size() == layers - 1);
        std::vector<Expected> seen(layers);
        for (std::size_t l = 1; l < layers; ++l) {
            seen[l] = expect(weights, c.seen[l].lens, candidates);
            check_features(log[l - 1], seen[l], l == 1 ? nullptr : &seen[l - 1], c, l);
        }
    }
}

TEST_CASE("features through a linear lens, at the layers that it reads") {
    const Model<ReferenceBackend> model(deep_weights());
    const ModelWeights& weights = model.decoder().weights();
    const LinearLens lens = random_lens(weights, {7, 2, 5});
    std::vector<std::array<float, 8>> log;
    const auto recording = model.with_policy(elsewhere::Recorder<AllFeatures, LinearLens>{&log, lens});
    const auto fixed = model.with_policy(ExitAtLayer<LinearLens>(5, lens));
    Session session = model.new_session();
    for (const Case& c : cases(model)) {
        log.clear();
        CHECK(recording.predict(session, c.prompt).checks == 3);
        REQUIRE(log.size() == 3);
        std::vector<Expected> seen;
        for (const std::size_t l : {std::size_t{2}, std::size_t{5}, std::size_t{7}}) {
            seen.push_back(expect(weights, read_by_hand(lens, l, c.states[l])));
            const std::size_t i = seen.size() - 1;
            check_features(log[i], seen[i], i == 0 ? nullptr : &seen[i - 1], c, l);
        }
        const Prediction p = fixed.predict(session, c.prompt);
        CHECK(p.exit_layer == 5);
        CHECK(p.token == seen[1].token);
    }
}

TEST_CASE("a policy that the model or its lens cannot follow is refused") {
    const Model<EigenBackend> model(deep_weights());
    const LinearLens lens = random_lens(model.decoder().weights(), {2, 5});
    const auto code = [&](auto policy) { return tiny::code_of([&] { return model.with_policy(std::move(policy)); }); };
    CHECK(code(ExitAtLayer<>(0)) == ErrorCode::InvalidArgument);
    CHECK(code(ExitAtLayer<>(layers + 1)) == ErrorCode::InvalidArgument);
    CHECK(code(ExitAtLayer<LinearLens>(3, lens)) == ErrorCode::InvalidArgument);
    CHECK_FALSE(code(ExitAtLayer<LinearLens>(5, lens)));
    CHECK_FALSE(code(ExitAtLayer<LinearLens>(layers, lens)));
    CHECK(code(ExitAtLayer<LinearLens>(5)) == ErrorCode::IdentityMismatch);  // an empty lens

    RandomModelOptions other = tiny::options();
    other.seed = 99;
    const LinearLens foreign = random_lens(make_random_model(other), {2, 5});
    CHECK(code(GapThreshold<LinearLens>(0.5F, foreign)) == ErrorCode::IdentityMismatch);
    CHECK(code(Scheduled(Schedule::every(2), GapThreshold<LinearLens>(0.5F, foreign))) == ErrorCode::IdentityMismatch);
    CHECK(code(AnyOf(GapThreshold<LinearLens>(0.5F, foreign), HiddenSaturation<>(0.5F))) == ErrorCode::IdentityMismatch);
    // Two lenses of one type: what is read once would have to serve both.
    const LinearLens second = random_lens(model.decoder().weights(), {2, 5}, 77);
    CHECK(code(AnyOf(GapThreshold<LinearLens>(0.5F, lens), Patience<LinearLens>(1, second))) == ErrorCode::InvalidArgument);
    CHECK_FALSE(code(AnyOf(GapThreshold<LinearLens>(0.5F, lens), Patience<LinearLens>(1, lens))));
}

TEST_CASE("thresholds exit at the first layer whose feature passes") {
    const Model<ReferenceBackend> model(deep_weights());
    const auto all = cases(model);
    check_exits(model, all, GapThreshold<>(0.4F), [](const Case& c, std::size_t l) { return c.seen[l].gap > 0.4; });
    check_exits(model, all, TopProbThreshold<>(0.6F), [](const Case& c, std::size_t l) { return c.seen[l].top_prob > 0.6; });
    check_exits(model, all, EntropyThreshold<>(1.2F), [](const Case& c, std::size_t l) { return c.seen[l].entropy < 1.2; });
    check_exits(model, all, HiddenSaturation<>(0.94F), [](const Case& c, std::size_t l) {
        return cosine_of(widened(c.states[l]), widened(c.states[l - 1])) > 0.94;
    });
}

TEST_CASE("patience counts repeats in a row") {
    const Model<ReferenceBackend> model(deep_weights());
    const auto all = cases(model);
    for (const std::size_t patience : {std::size_t{2}, std::size_t{3}}) {
        check_exits(model, all, Patience<>(patience), [&](const Case& c, std::size_t l) {
            if (l < patience + 1) return false;
            for (std::size_t i = l - patience; i < l; ++i) {
                if (c.seen[i].token != c.seen[l].token) return false;
            }
            return true;
        });
    }
}

TEST_CASE("the oracle reports the first layer that agreed, and runs them all") {
    const Model<EigenBackend> model(deep_weights());
    const auto oracle = model.with_policy(Oracle<>());
    Session session = model.new_session();
    std::size_t early = 0;
    for (const Case& c : cases(model)) {
        const Prediction p = oracle.predict(session, c.prompt);
        const auto agrees = [](const Case& k, std::size_t l) { return k.seen[l].token == k.seen[layers].token; };
        CHECK(p.exit_layer == first_layer(c, agrees));
        CHECK(p.token == c.seen[layers].token);
        early += p.exit_layer < layers ? 1 : 0;
    }
    CHECK(early > 0);

    // In decode it leaves what the dense model leaves.
    Session dense = model.new_session(), hindsight = model.new_session();
    TokenId a = model.prefill_and_predict(dense, tiny::tokens(4)).token;
    TokenId b = oracle.prefill_and_predict(hindsight, tiny::tokens(4)).token;
    early = 0;
    for (int i = 0; i < 16; ++i) {
        const Prediction x = model.decode(dense, a), y = oracle.decode(hindsight, b);
        CHECK(tiny::copy(x.logits) == tiny::copy(y.logits));
        early += y.exit_layer < layers ? 1 : 0;
        a = x.token;
        b = y.token;
    }
    CHECK(early > 0);
}

TEST_CASE("AdaInfer with a linear SVM") {
    const Model<ReferenceBackend> model(deep_weights());
    LinearSvm svm;
    svm.mean = {0.3F, 0.5F};
    svm.scale = {0.2F, 0.4F};
    svm.weights = {1.5F, 0.25F};
    svm.bias = -0.7F;
    svm.threshold = 0.1F;
    check_exits(model, cases(model), AdaInferPolicy<LinearSvm>(svm), [](const Case& c, std::size_t l) {
        return -0.7 + 1.5 * (c.seen[l].gap - 0.3) / 0.2 + 0.25 * (c.seen[l].top_prob - 0.5) / 0.4 > 0.1;
    });
    check_exits(model, cases(model), AdaInferPolicy<LinearSvm>(svm, Schedule::only({3, 6})), [](const Case& c, std::size_t l) {
        return (l == 3 || l == 6) && -0.7 + 1.5 * (c.seen[l].gap - 0.3) / 0.2 + 0.25 * (c.seen[l].top_prob - 0.5) / 0.4 > 0.1;
    });

    CHECK(tiny::code_of([&] { AdaInferPolicy<LinearSvm, WideFeatures> policy(svm); }) == ErrorCode::InvalidArgument);
    svm.weights = {1.0F};
    const std::string message = tiny::message_of([&] { AdaInferPolicy<LinearSvm> policy(svm); });
    CHECK(contains(message, "reads 1 features, the policy has 2"));
}

TEST_CASE("AdaInfer with a chain: the score is the last marginal of the chain so far") {
    const Model<ReferenceBackend> model(deep_weights());
    LinearChainCrf crf;
    crf.mean = {0.3F, 0.5F};
    crf.scale = {0.5F, 0.5F};
    crf.weights = {-1.0F, -0.2F, 2.0F, 0.1F};
    crf.bias = {0.4F, -0.9F};
    crf.transitions = {0.8F, -0.5F, -1.0F, 1.1F};
    crf.threshold = 0.2F;
    check_exits(model, cases(model), AdaInferPolicy<LinearChainCrf>(crf), [&](const Case& c, std::size_t layer) {
        // Sum over all 2^layer label sequences.
        double stop = 0, go = 0;
        for (std::size_t labels = 0; labels < (std::size_t{1} << layer); ++labels) {
            double energy = 0;
            for (std::size_t i = 0; i < layer; ++i) {
                const std::size_t y = labels >> i & 1U, previous = i == 0 ? 0 : labels >> (i - 1) & 1U;
                const Expected& e = c.seen[i + 1];
                energy += static_cast<double>(crf.bias[y]) + static_cast<double>(crf.weights[2 * y]) * (e.gap - 0.3) / 0.5 +
                          static_cast<double>(crf.weights[2 * y + 1]) * (e.top_prob - 0.5) / 0.5;
                if (i > 0) energy += static_cast<double>(crf.transitions[2 * previous + y]);
            }
            (labels >> (layer - 1) & 1U ? stop : go) += std::exp(energy);
        }
        return std::log(stop / go) > 0.2;
    });
}

TEST_CASE("combinators ask whom they should") {
    const Model<EigenBackend> model(deep_weights());
    std::vector<std::size_t> first, second;
    const auto run = [&](auto policy) {
        first.clear();
        second.clear();
        const auto combined = model.with_policy(std::move(policy));
        Session session = combined.new_session();
        return combined.predict(session, tiny::tokens(4));
    };
    using List = std::vector<std::size_t>;
    using elsewhere::Script;

    SUBCASE("any of two") {
        CHECK(run(AnyOf(Script{{1, 2, 3, 4}, {4}, &first}, Script{{2, 3, 6}, {3}, &second})).exit_layer == 3);
        CHECK(first == List{1, 2, 3});
        CHECK(second == List{2, 3});
        CHECK(run(AnyOf(Script{{1, 2}, {2}, &first}, Script{{1, 2, 3}, {3}, &second})).exit_layer == 2);
        CHECK(second == List{1});
        CHECK(run(AnyOf(Script{{1}, {}, &first}, Script{{2}, {}, &second})).exit_layer == layers);
    }
    SUBCASE("all of two") {
        CHECK(run(AllOf(Script{{1, 2, 3, 4, 5}, {2, 5}, &first}, Script{{2, 3, 5}, {3, 5}, &second})).exit_layer == 5);
        CHECK(first == List{1, 2, 3, 4, 5});
        CHECK(second == List{2, 3, 5});
        CHECK(run(AllOf(Script{{2}, {2}, &first}, Script{{3}, {3}, &second})).exit_layer == layers);
        // Both keep count, also where the other would not exit.
        const List all{1, 2, 3, 4};
        CHECK(run(AllOf(Script{all, all, &first, 3}, Script{all, all, &second, 2})).exit_layer == 3);
    }
    SUBCASE("gated") {
        const Prediction p = run(Gated(Script{{1, 2, 3, 4, 5, 6}, {2, 4, 6}, &first}, Script{{1, 2, 3, 4, 6}, {3, 4}, &second}));
        CHECK(p.exit_layer == 4);
        CHECK(first == List{1, 2, 3, 4});
        CHECK(second == List{2, 4});
        CHECK(p.checks == 4);
    }
    SUBCASE("scheduled") {
        CHECK(run(Scheduled(Schedule::every(3, 2), Script{{1, 2, 3, 4, 5, 6, 7}, {3, 4, 5}, &first})).exit_layer == 5);
        CHECK(first == List{2, 5});
        CHECK(run(Scheduled(Schedule::only({6, 1, 3}), Script{{1, 2, 6}, {3, 6}, &first})).exit_layer == 6);
        CHECK(first == List{1, 6});
        const auto oracle = model.with_policy(Scheduled(Schedule::only({5}), Oracle<>()));
        Session session = model.new_session();
        for (const Case& c : cases(model)) {
            CHECK(oracle.predict(session, c.prompt).exit_layer == (c.seen[5].token == c.seen[layers].token ? 5 : layers));
        }
    }
    SUBCASE("nested, with features") {
        const auto all = cases(model);
        const AnyOf either(GapThreshold<>(0.7F), Gated(HiddenSaturation<>(0.85F), TopProbThreshold<>(0.5F)));
        check_exits(model, all, Scheduled(Schedule::every(2, 2), either), [](const Case& c, std::size_t l) {
            const bool settled = cosine_of(widened(c.states[l]), widened(c.states[l - 1])) > 0.85;
            return l % 2 == 0 && (c.seen[l].gap > 0.7 || (settled && c.seen[l].top_prob > 0.5));
        });
    }
}

TEST_CASE("a part without logits exits only where the lens of the answer can read") {
    const Model<EigenBackend> model(deep_weights());
    const LinearLens lens = random_lens(model.decoder().weights(), {6});
    std::vector<std::size_t> asked;
    const elsewhere::Script script{{2, 6}, {2, 6}, &asked};
    const auto combined = model.with_policy(AnyOf(script, GapThreshold<LinearLens>(2.0F, lens)));
    Session session = combined.new_session();
    CHECK(combined.predict(session, tiny::tokens(3)).exit_layer == 6);
    CHECK(asked == std::vector<std::size_t>{6});
}

TEST_CASE("a move-only policy of somebody else's") {
    const Model<ReferenceBackend> model(deep_weights());
    check_exits(model, cases(model), elsewhere::Unique(1.0F),
                [](const Case& c, std::size_t l) { return l % 2 == 0 && c.seen[l].top_prob + c.seen[l].gap > 1.0; });
}

TEST_CASE("a backend of somebody else's, with all that it leaves out") {
    const Model<ReferenceBackend> reference(deep_weights());
    const Model<elsewhere::Backend, GapThreshold<>> foreign(deep_weights(), GapThreshold<>(0.4F));
    const auto early = reference.with_policy(GapThreshold<>(0.4F));
    Session a = early.new_session(), b = foreign.new_session();
    TokenId next = early.prefill_and_predict(a, tiny::tokens(5)).token;
    CHECK(foreign.prefill_and_predict(b, tiny::tokens(5)).token == next);
    for (int i = 0; i < 10; ++i) {
        const Prediction x = early.decode(a, next), y = foreign.decode(b, next);
        CHECK(x.exit_layer == y.exit_layer);
        CHECK(tiny::difference(y.logits, x.logits) < 1e-4);
        next = x.token;
    }
    CHECK(foreign.decoder().backend().name == "somebody's backend");
}

TEST_CASE("a policy starts at the step of its generation") {
    std::vector<std::size_t> started, asked;
    const Model<EigenBackend, elsewhere::Stepping> model(deep_weights(), elsewhere::Stepping{&started, &asked});
    Session session = model.new_session();
    const auto steps_of = [&](const auto& run) {
        started.clear();
        asked.clear();
        run();
        CHECK(asked == started);
        return started;
    };
    const auto prompt = tiny::tokens(3);
    using Steps = std::vector<std::size_t>;
    CHECK(steps_of([&] { static_cast<void>(model.prefill_and_predict(session, prompt)); }).empty());
    CHECK(steps_of([&] { static_cast<void>(model.decode(session, 1)); }) == Steps{0});
    CHECK(steps_of([&] { static_cast<void>(model.decode(session, 1, {.step = 7})); }) == Steps{7});
    CHECK(steps_of([&] { static_cast<void>(model.predict(session, prompt)); }) == Steps{0});
    CHECK(steps_of([&] { static_cast<void>(model.predict(session, prompt, {}, {.step = 3})); }) == Steps{3});

    // The first token follows the prompt, at full depth.
    const auto ignore = [](const GeneratedToken&) {};
    CHECK(steps_of([&] { generate(model, session, prompt, {.max_new_tokens = 5}, ignore); }) == Steps{0, 1, 2, 3});
    const GenerateOptions later{.max_new_tokens = 3, .run = {.step = 10}};
    CHECK(steps_of([&] { generate(model, session, prompt, later, ignore); }) == Steps{10, 11});
}

TEST_CASE("composite policies start their parts at the step") {
    const Model<EigenBackend> model(deep_weights());
    std::vector<std::size_t> started, asked, other_started, other_asked;
    const elsewhere::Stepping part{&started, &asked}, other{&other_started, &other_asked};
    Session session = model.new_session();
    using Steps = std::vector<std::size_t>;
    const auto check = [&](auto policy, std::size_t parts) {
        const auto composite = model.with_policy(std::move(policy));
        for (std::vector<std::size_t>* log : {&started, &asked, &other_started, &other_asked}) log->clear();
        for (const std::size_t step : {std::size_t{4}, std::size_t{9}}) {
            static_cast<void>(composite.predict(session, tiny::tokens(2), {}, {.step = step}));
        }
        CHECK(started == Steps{4, 9});
        CHECK(asked == Steps{4, 9});
        CHECK(other_started == (parts == 2 ? Steps{4, 9} : Steps{}));
        CHECK(other_asked == other_started);
    };
    check(part, 1);
    check(Scheduled(Schedule::every(1), part), 1);
    check(AnyOf(part, other), 2);
    check(AllOf(part, other), 2);
    check(AnyOf(HiddenSaturation<>(2.0F), part), 1);
    check(Gated(HiddenSaturation<>(-2.0F), part), 1);
    check(SkipLayers(std::vector<std::size_t>{5}, part), 1);
    check(OneOf<NeverExit, elsewhere::Stepping>(part), 1);
    const OneOf<elsewhere::Stepping, NeverExit> chosen(part);
    check(Scheduled(Schedule::every(2, 2), AnyOf(chosen, Scheduled(Schedule::only({2}), other))), 2);
}

}  // namespace test_exit_policies
