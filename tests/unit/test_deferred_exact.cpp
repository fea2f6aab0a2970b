#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/generate/score.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/model/model.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"

namespace test_deferred_exact {

using namespace adainfer;

namespace {

constexpr std::size_t layers = 8;

/// Exits at step i of a generation after depths[i] layers; requests a stop after `stop_after` layers, where there is a source.
struct Depths {
    std::vector<std::size_t> depths;
    std::stop_source* source = nullptr;
    std::size_t stop_after = 0;

    using Features = FeatureList<LayerFraction>;
    struct State {
        std::size_t depth = 0;
    };
    [[nodiscard]] State start(std::size_t step) const { return {depths.at(step)}; }
    [[nodiscard]] bool wants(std::size_t) const { return true; }
    [[nodiscard]] ExitDecision decide(std::size_t layer, const Features::Values&, State& state) const {
        if (source != nullptr && layer == stop_after) source->request_stop();
        return layer == state.depth ? ExitDecision::Exit : ExitDecision::Continue;
    }
};

template <class Backend>
using Deferring = Model<Backend, Depths, DeferredExact>;

ModelWeights deep_weights(std::size_t context = 64) {
    RandomModelOptions options = tiny::options();
    options.layers = layers;
    options.context = context;
    return make_random_model(options);
}

/// Every other layer sees the last five positions only, which it rotates by other angles (as Gemma 3 does).
ModelWeights windowed_weights() {
    ModelWeights weights = deep_weights();
    weights.config.window = 5;
    for (std::size_t layer = 0; layer < layers; ++layer) weights.config.windowed.push_back(layer % 2 == 0);
    weights.config.window_rope = weights.config.rope;
    weights.config.window_rope.base = 100;
    return weights;
}

/// Learned positions in place of rotations (as OPT has).
ModelWeights learned_position_weights() {
    ModelWeights weights = deep_weights();
    auto table = std::make_shared<std::vector<float>>();
    for (std::size_t i = 0; i < 66 * weights.config.hidden; ++i) {
        table->push_back(0.3F * std::sin(static_cast<float>(i * i % 1009)));
    }
    weights.position_embedding = {DType::F32, 66, weights.config.hidden, reinterpret_cast<const std::byte*>(table->data())};
    weights.config.position_offset = 2;
    weights.config.rope.dims = 0;
    auto both = std::make_shared<std::pair<std::shared_ptr<const void>, decltype(table)>>(weights.storage, table);
    weights.storage = both;
    return weights;
}

std::vector<std::size_t> random_depths(std::size_t n, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<std::size_t> depths;
    for (std::size_t i = 0; i < n; ++i) {
        // Mostly shallow, now and then to the end.
        const std::size_t deepest = random() % 4 == 0 ? layers : 4;
        depths.push_back(1 + random() % deepest);
    }
    depths[n / 2] = layers;
    return depths;
}

/// Keys and values of all positions of one layer.
std::vector<float> rows_of(Session& session, std::size_t layer) {
    const KvCache& cache = session.cache;
    std::vector<float> rows;
    std::vector<float> row(cache.kv_heads() * cache.head_dim());
    for (const KvCache::Part part : {KvCache::Part::Keys, KvCache::Part::Values}) {
        for (std::size_t position = 0; position < cache.length(); ++position) {
            cache.load(layer, part, position, row);
            rows.insert(rows.end(), row.begin(), row.end());
        }
    }
    return rows;
}

/// Bit-equal, or within `tolerance` of the largest.
void check_same(std::span<const float> found, const std::vector<float>& expected, double tolerance) {
    if (tolerance == 0) {
        CHECK(tiny::copy(found) == expected);
    } else {
        CHECK(tiny::difference(found, expected) < tolerance);
    }
}

void check_same_kv(Session& found, Session& expected, double tolerance) {
    REQUIRE(found.length() == expected.length());
    for (std::size_t layer = 0; layer < layers; ++layer) check_same(rows_of(found, layer), rows_of(expected, layer), tolerance);
}

/// The deferred positions are the last ones, and no position is deeper than the one before it.
void check_ledger(const Session& session) {
    const DeferredRows& rows = session.deferred;
    if (rows.empty()) return;
    CHECK(rows.first() + rows.size() == session.length());
    std::size_t before = layers - 1;
    for (std::size_t position = rows.first(); position < session.length(); ++position) {
        CHECK(rows.depth(position) >= 1);
        CHECK(rows.depth(position) <= before);
        before = rows.depth(position);
    }
}

/// Of what a batch of tokens gives, beside one after the other. With AMX even Exact products of a batch are each off by up to 2^-15
/// of themselves.
template <class Backend>
double tolerance() {
    if constexpr (std::is_same_v<Backend, ReferenceBackend>) return 0;
    else if constexpr (std::is_same_v<Backend, SimdBackend>) return cpu_level() == CpuLevel::Amx ? 1e-4 : 1e-5;
    else return 1e-5;
}

template <class Backend>
Backend exact() {
    if constexpr (std::is_same_v<Backend, SimdBackend>) {
        return SimdBackend(2, SimdBackend::Products::Exact);
    } else {
        return Backend{};
    }
}

/// A dense run beside a deferring one, token by token.
template <class Backend>
struct Pair {
    Model<Backend> dense;
    Session expected, session;
    std::vector<std::vector<std::vector<float>>> states;  // [position][depth]: of the dense run

    explicit Pair(ModelWeights weights)
        : dense(std::move(weights), NeverExit{}, exact<Backend>()), expected(dense.new_session()), session(dense.new_session()) {}

    [[nodiscard]] Deferring<Backend> deferring(std::vector<std::size_t> depths) const {
        return dense.with_policy(Depths{std::move(depths)}).template with_completion<DeferredExact>();
    }

    void prefill(const std::vector<TokenId>& prompt) {
        dense.prefill(expected, prompt);
        dense.prefill(session, prompt);
    }

    /// Both models take the token, and say the same at the depth of the step.
    void step(const Deferring<Backend>& model, TokenId token, std::size_t step) {
        const std::size_t depth = model.policy().depths[step];
        states.resize(expected.length() + 1);
        states.back() = tiny::states(dense.decoder(), expected, {{token}});
        const auto fixed = dense.with_policy(ExitAtLayer<LogitLens, FullHead>(depth));
        const auto logits = tiny::copy(fixed.predict(expected, {{token}}).logits);
        static_cast<void>(dense.decode(expected, token));

        const Prediction p = model.decode(session, token, {.step = step});
        CHECK(p.exit_layer == depth);
        check_same(p.logits, logits, tolerance<Backend>());
        check_ledger(session);
        CHECK(session.length() == expected.length());
        CHECK(session.deferred.empty() == (depth == layers));
        for (std::size_t i = 0; i < session.deferred.size(); ++i) {
            const std::size_t position = session.deferred.first() + i;
            if (position >= states.size() || states[position].empty()) continue;
            check_same(session.deferred.state(position), states[position][session.deferred.depth(position)], tolerance<Backend>());
        }
    }

    void check_finished() {
        Session whole = session.clone();
        dense.finish(whole);
        CHECK(whole.deferred.empty());
        check_same_kv(whole, expected, tolerance<Backend>());
        check_ledger(session);  // the clone alone was finished
    }
};

/// Counts rows of matrix products, those of the head apart.
struct RowCounter {
    using Weight = WeightView;
    struct Counts {
        std::size_t products = 0, rows = 0, most_rows = 0;
    };
    std::shared_ptr<Counts> counts = std::make_shared<Counts>();

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }
    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        if (weight.rows != 40) {  // not the head
            ++counts->products;
            counts->rows += x.rows();
            counts->most_rows = std::max(counts->most_rows, x.rows());
        }
        ReferenceBackend{}.matmul(weight, x, y);
    }
};

}  // namespace

TEST_CASE_TEMPLATE("deferred rows: states, logits and K/V are those of a dense run, token by token", Backend, ReferenceBackend,
                   EigenBackend, SimdBackend) {
    for (std::uint32_t seed = 1; seed <= 6; ++seed) {
        Pair<Backend> pair(seed % 3 == 0 ? windowed_weights() : seed % 3 == 1 ? deep_weights() : learned_position_weights());
        pair.prefill(tiny::tokens(1 + seed));
        const auto model = pair.deferring(random_depths(40, seed));
        const auto text = tiny::tokens(60);
        bool deferred = false, joined = false;
        for (std::size_t i = 0; i < 40; ++i) {
            const std::size_t before = pair.session.deferred.size();
            pair.step(model, text[i + 7], i);
            deferred = deferred || pair.session.deferred.size() > 3;
            joined = joined || (before > 0 && pair.session.deferred.empty());
            if (i % 9 == 5) pair.check_finished();
        }
        CHECK(deferred);
        CHECK(joined);
        pair.check_finished();
    }
}

TEST_CASE("the ledger, by hand") {
    Pair<ReferenceBackend> pair(deep_weights());
    pair.prefill(tiny::tokens(3));
    const std::vector<std::size_t> depths{2, 5, 1, 1, 3, 8, 4};
    const std::vector<std::vector<std::size_t>> expected{{2}, {5, 5}, {5, 5, 1}, {5, 5, 1, 1}, {5, 5, 3, 3, 3}, {}, {4}};
    const auto model = pair.deferring(depths);
    for (std::size_t i = 0; i < depths.size(); ++i) {
        pair.step(model, static_cast<TokenId>(7 + i), i);
        std::vector<std::size_t> found;
        for (std::size_t j = 0; j < pair.session.deferred.size(); ++j) {
            found.push_back(pair.session.deferred.depth(pair.session.deferred.first() + j));
        }
        CHECK(found == expected[i]);
    }
    CHECK(pair.session.deferred.first() == 9);
    pair.check_finished();
}

TEST_CASE("work is saved where no later token goes deeper, and shared where one does") {
    const RowCounter backend;
    const Model<RowCounter, Depths, DeferredExact> model(deep_weights(), Depths{{2, 2, 2, 2, 8, 3}}, backend);
    const Model<RowCounter, Depths> propagating = model.with_completion<PropagateHidden>();
    Session session = model.new_session(), other = model.new_session();
    model.prefill(session, tiny::tokens(5));
    model.prefill(other, tiny::tokens(5));
    constexpr std::size_t products = 7;  // a layer: q, k, v, attention output, gate, up, down
    const auto counts_of = [&](const auto& run) {
        *backend.counts = {};
        run();
        return *backend.counts;
    };
    for (std::size_t step = 0; step < 4; ++step) {
        const auto counts = counts_of([&] { static_cast<void>(model.decode(session, 3, {.step = step})); });
        CHECK(counts.products == 2 * products);
        CHECK(counts.rows == 2 * products);
        const auto more = counts_of([&] { static_cast<void>(propagating.decode(other, 3, {.step = step})); });
        CHECK(more.products == 2 * products + 6 * 2);
    }
    // Two layers of one row, then six of the four deferred positions and the token.
    const auto deep = counts_of([&] { static_cast<void>(model.decode(session, 3, {.step = 4})); });
    CHECK(deep.products == 8 * products);
    CHECK(deep.rows == (2 * 1 + 6 * 5) * products);
    const auto after = counts_of([&] { static_cast<void>(model.decode(session, 3, {.step = 5})); });
    CHECK(after.rows == 3 * products);
    // A finished session has nothing to finish.
    const auto finish = counts_of([&] { model.finish(session); });
    CHECK(finish.rows == 5 * products);
    CHECK(counts_of([&] { model.finish(session); }).rows == 0);
}

TEST_CASE("many deferred positions run in bounded batches") {
    RowCounter backend;
    const Model<RowCounter, Depths, DeferredExact> model(deep_weights(700), Depths{{1, 5, 8}}, backend);
    const auto dense = model.with_policy(NeverExit{});
    Session session = model.new_session(), expected = model.new_session();
    const auto text = tiny::tokens(602);
    for (std::size_t i = 0; i < 600; ++i) static_cast<void>(model.decode(session, text[i]));
    CHECK(session.deferred.size() == 600);
    dense.prefill(expected, std::span(text).first(600));
    Session clone = session.clone();
    *backend.counts = {};
    static_cast<void>(model.decode(session, text[600], {.step = 1}));
    CHECK(backend.counts->most_rows == 256);
    CHECK(backend.counts->rows == (1 + 4 * 601) * 7);
    const auto logits = tiny::copy(model.decode(session, text[601], {.step = 2}).logits);
    CHECK(backend.counts->most_rows == 256);
    CHECK(backend.counts->rows == (1 + 4 * 601 + 5 + 3 * 602) * 7);
    static_cast<void>(dense.decode(expected, text[600]));
    CHECK(logits == tiny::copy(dense.decode(expected, text[601]).logits));
    check_same_kv(session, expected, 0);
    // With a prompt behind them.
    expected.rewind(600);
    dense.prefill(expected, tiny::tokens(90));
    *backend.counts = {};
    dense.prefill(clone, tiny::tokens(90));
    CHECK(backend.counts->most_rows == 256);
    check_same_kv(clone, expected, 0);
}

TEST_CASE("a cancelled pass neither loses deferred positions nor marks them deeper") {
    for (std::size_t stop_after = 1; stop_after < layers; ++stop_after) {
        Pair<ReferenceBackend> pair(deep_weights());
        pair.prefill(tiny::tokens(4));
        const auto model = pair.deferring({3, 2, 2, 1, layers, 4});
        for (std::size_t i = 0; i < 4; ++i) pair.step(model, static_cast<TokenId>(11 + i), i);

        const auto stopped = [&](const auto& call) {
            std::stop_source source;
            const auto stopping = model.with_policy(Depths{{0}, &source, stop_after});
            const RunOptions run{.stop = source.get_token()};
            CHECK(tiny::code_of([&] { return call(stopping, run); }) == ErrorCode::Cancelled);
            CHECK(pair.session.length() == 8);
            REQUIRE(pair.session.deferred.size() == 4);
            for (std::size_t i = 0; i < 4; ++i) CHECK(pair.session.deferred.depth(4 + i) == model.policy().depths[i]);
        };
        stopped([&](const auto& m, const RunOptions& run) { return m.decode(pair.session, 5, run); });
        stopped([&](const auto& m, const RunOptions& run) { return m.predict(pair.session, tiny::tokens(5), {}, run); });
        std::stop_source before;
        before.request_stop();
        const RunOptions never{.stop = before.get_token()};
        CHECK(tiny::code_of([&] { model.finish(pair.session, never); }) == ErrorCode::Cancelled);
        CHECK(tiny::code_of([&] { model.prefill(pair.session, tiny::tokens(3), never); }) == ErrorCode::Cancelled);
        CHECK(tiny::code_of([&] { return model.decode(pair.session, 99); }) == ErrorCode::UnknownToken);
        check_ledger(pair.session);
        CHECK(pair.session.length() == 8);

        pair.step(model, 20, 4);
        pair.step(model, 21, 5);
        pair.check_finished();
    }
}

TEST_CASE("NaN in a deep layer: shallow tokens go on, a deep one is refused and changes nothing") {
    ModelWeights weights = deep_weights();
    tiny::mutable_row(weights.layers[5].up.weight, 3)[1] = tiny::nan;
    const Deferring<ReferenceBackend> model(std::move(weights), Depths{{2, 3, 1, layers}});
    Session session = model.new_session(), other = model.new_session();
    const auto run = [&](Session& s, std::size_t step) { return tiny::copy(model.decode(s, 9, {.step = step}).logits); };
    for (std::size_t step = 0; step < 3; ++step) {
        CHECK(run(session, step) == run(other, step));
        const std::string message = tiny::message_of([&] { return model.decode(session, 4, {.step = 3}); });
        CHECK(contains(message, "after layer 6 at position 0"));
        CHECK(tiny::code_of([&] { model.finish(session); }) == ErrorCode::NotFinite);
        CHECK(tiny::code_of([&] { model.prefill(session, tiny::tokens(3)); }) == ErrorCode::NotFinite);
        CHECK(session.length() == step + 1);
        CHECK(session.deferred.size() == step + 1);
    }
    CHECK(run(session, 2) == run(other, 2));
}

TEST_CASE("rewind and clone take deferred positions with them") {
    const auto text = tiny::tokens(30);
    const std::vector<std::size_t> depths{3, 3, 2, 1, 1, layers};
    for (std::size_t length = 0; length <= 9; ++length) {
        Pair<ReferenceBackend> pair(deep_weights());
        pair.prefill(tiny::tokens(4));
        const auto model = pair.deferring(depths);
        for (std::size_t i = 0; i < 5; ++i) pair.step(model, text[i], i);
        Session clone = pair.session.clone();
        CHECK(clone.deferred.size() == 5);

        clone.rewind(length);
        check_ledger(clone);
        CHECK(clone.deferred.size() == (length > 4 ? length - 4 : 0));
        Session expected = pair.expected.clone();
        expected.rewind(length);
        for (const std::size_t step : {std::size_t{1}, std::size_t{4}, std::size_t{5}}) {
            static_cast<void>(pair.dense.decode(expected, text[10 + step]));
            static_cast<void>(model.decode(clone, text[10 + step], {.step = step}));
            check_ledger(clone);
        }
        CHECK(clone.deferred.empty());
        check_same_kv(clone, expected, 0);
        // The original does not know of it.
        pair.step(model, 17, 5);
        check_same_kv(pair.session, pair.expected, 0);
    }
}

TEST_CASE("whatever comes after deferred positions finds exact K/V") {
    Pair<ReferenceBackend> pair(deep_weights());
    pair.prefill(tiny::tokens(4));
    const auto model = pair.deferring({3, 2, 2, 1});
    for (std::size_t i = 0; i < 4; ++i) pair.step(model, static_cast<TokenId>(11 + i), i);
    const auto prompt = tiny::tokens(6);
    Session& session = pair.session;

    SUBCASE("prefill runs them with the prompt") {
        model.prefill(session, prompt);
        pair.dense.prefill(pair.expected, prompt);
        CHECK(session.deferred.empty());
        check_same_kv(session, pair.expected, 0);
    }
    SUBCASE("prefill_and_predict") {
        const auto logits = tiny::copy(pair.dense.prefill_and_predict(pair.expected, prompt).logits);
        CHECK(tiny::copy(model.prefill_and_predict(session, prompt).logits) == logits);
        check_same_kv(session, pair.expected, 0);
    }
    SUBCASE("predict, to any depth, and keeps the session") {
        for (const std::size_t depth : {std::size_t{1}, std::size_t{2}, std::size_t{5}, layers, std::size_t{1}}) {
            const auto fixed = model.with_policy(ExitAtLayer<LogitLens, FullHead>(depth));
            const auto dense_past = pair.dense.with_policy(ExitAtLayer<LogitLens, FullHead>(depth));
            const auto expected = tiny::copy(dense_past.predict(pair.expected, prompt).logits);
            CHECK(tiny::copy(fixed.predict(session, prompt).logits) == expected);
            check_ledger(session);
            CHECK(session.length() == 8);
        }
        check_same_kv(session, pair.expected, 0);
    }
    SUBCASE("for_each_logits and score") {
        std::vector<std::vector<float>> rows;
        pair.dense.for_each_logits(pair.expected, prompt, [&](std::size_t, auto logits) { rows.push_back(tiny::copy(logits)); });
        Session clone = session.clone();
        model.for_each_logits(session, prompt, [&](std::size_t t, std::span<const float> logits) {
            CHECK(tiny::copy(logits) == rows[t]);
            CHECK(session.length() == 8);
        });
        CHECK(session.length() == 8);
        check_same_kv(session, pair.expected, 0);
        const double expected = score(pair.dense, pair.expected, prompt, prompt).log_probability;
        CHECK(score(model, clone, prompt, prompt).log_probability == expected);
        CHECK(clone.length() == 8);
    }
    SUBCASE("a model that defers nothing finishes them first") {
        const auto fixed = pair.dense.with_policy(ExitAtLayer<>(2));
        for (const TokenId token : {5, 6, 7}) {
            const auto logits = tiny::copy(fixed.decode(pair.expected, token).logits);
            CHECK(tiny::copy(fixed.decode(session, token).logits) == logits);
            CHECK(session.deferred.empty());
        }
        check_same_kv(session, pair.expected, 0);
    }
    SUBCASE("the dense model takes them along") {
        CHECK(tiny::copy(pair.dense.decode(session, 5).logits) == tiny::copy(pair.dense.decode(pair.expected, 5).logits));
        CHECK(session.deferred.empty());
        check_same_kv(session, pair.expected, 0);
    }
    SUBCASE("a session whose cache was cut short") {
        session.cache.set_length(6);
        pair.expected.rewind(6);
        CHECK(tiny::copy(pair.dense.decode(session, 5).logits) == tiny::copy(pair.dense.decode(pair.expected, 5).logits));
        check_same_kv(session, pair.expected, 0);
    }
}

TEST_CASE("generate at full depth chooses what the dense model does; exits give each token the logits of a dense past") {
    const Model<ReferenceBackend, ExitAtLayer<LogitLens, FullHead>, DeferredExact> model(deep_weights(),
                                                                                       ExitAtLayer<LogitLens, FullHead>(3));
    const auto dense = model.with_policy(NeverExit{});
    Session session = model.new_session(), expected = model.new_session();
    std::vector<TokenId> tokens;
    generate(model, session, tiny::tokens(5), {.max_new_tokens = 20}, [&](const GeneratedToken& token) {
        CHECK(token.exit_layer == (tokens.empty() ? layers : 3));
        tokens.push_back(token.token);
    });
    REQUIRE(tokens.size() == 20);
    CHECK(session.deferred.size() == 19);
    CHECK(dense.prefill_and_predict(expected, tiny::tokens(5)).token == tokens[0]);
    const auto fixed = dense.with_policy(ExitAtLayer<LogitLens, FullHead>(3));
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        CHECK(fixed.predict(expected, {{tokens[i]}}).token == tokens[i + 1]);
        static_cast<void>(dense.decode(expected, tokens[i]));
    }
    model.finish(session);
    check_same_kv(session, expected, 0);
}

}  // namespace test_deferred_exact
