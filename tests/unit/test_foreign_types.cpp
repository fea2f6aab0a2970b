// Backends, policies, lenses and heads of another project: in its own namespace, empty, stateful and with members that only move,
// and beside functions of its own that have the names of the library's and would take anything.
#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/combinators.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/model/model.hpp"
#include "tiny_model.hpp"

namespace acme::inference {

// Found by argument-dependent look-up wherever the library called its own by an unqualified name.
template <class... Anything>
void lens_of(const Anything&...) = delete;
template <class... Anything>
void head_of(const Anything&...) = delete;
template <class... Anything>
void start_of(const Anything&...) = delete;
template <class... Anything>
void skips_of(const Anything&...) = delete;
template <class... Anything>
void score_after(const Anything&...) = delete;
template <class... Anything>
void fail(const Anything&...) = delete;
template <class... Anything>
void matmul(const Anything&...) = delete;
template <class... Anything>
void rms_norm(const Anything&...) = delete;
template <class... Anything>
void softmax(const Anything&...) = delete;
template <class... Anything>
void attention(const Anything&...) = delete;
template <class... Anything>
void activate(const Anything&...) = delete;
template <class... Anything>
void parallel_for(const Anything&...) = delete;

/// Rows of floats that are owned and can only be moved.
struct Packed {
    std::size_t rows = 0, cols = 0;
    std::unique_ptr<float[]> values;  // [rows, cols]
};

inline Packed pack(adainfer::WeightView view) {
    Packed packed{view.rows, view.cols, std::make_unique<float[]>(view.rows * view.cols)};
    for (std::size_t r = 0; r < view.rows; ++r) {
        adainfer::dequantize_row(view.dtype, view.row(r), view.cols, packed.values.get() + r * view.cols);
    }
    return packed;
}

inline void multiply(const Packed& w, adainfer::MatrixView<const float> x, adainfer::MatrixView<float> y) {
    for (std::size_t t = 0; t < x.rows(); ++t) {
        for (std::size_t r = 0; r < w.rows; ++r) {
            double sum = 0;
            for (std::size_t i = 0; i < w.cols; ++i) {
                sum += static_cast<double>(w.values[r * w.cols + i]) * static_cast<double>(x.row(t)[i]);
            }
            y.row(t)[r] = static_cast<float>(sum);
        }
    }
}

struct EmptyBackend {
    using Weight = Packed;
    Weight prepare(adainfer::WeightView view) const { return pack(view); }
    void matmul(const Weight& w, adainfer::MatrixView<const float> x, adainfer::MatrixView<float> y) const { multiply(w, x, y); }
};
static_assert(std::is_empty_v<EmptyBackend>);

/// Counts its products; all copies count together. Not default-constructible.
struct CountingBackend {
    using Weight = Packed;
    explicit CountingBackend(std::shared_ptr<std::atomic<std::size_t>> counter) : products(std::move(counter)) {}
    Weight prepare(adainfer::WeightView view) const { return pack(view); }
    void matmul(const Weight& w, adainfer::MatrixView<const float> x, adainfer::MatrixView<float> y) const {
        ++*products;
        multiply(w, x, y);
    }
    std::shared_ptr<std::atomic<std::size_t>> products;
};

/// Exits after layer 2 and reads nothing.
struct EmptyPolicy {
    struct Features {
        struct Values {};
    };
    struct State {};
    bool wants(std::size_t layer) const { return layer == 2; }
    adainfer::ExitDecision decide(std::size_t, const Features::Values&, State&) const { return adainfer::ExitDecision::Exit; }
};
static_assert(std::is_empty_v<EmptyPolicy>);

/// Exits at the check that makes so many; each inference counts for itself.
struct StatefulPolicy {
    using Features = adainfer::FeatureList<adainfer::Gap>;
    struct State {
        std::vector<float> gaps;
    };
    std::size_t checks = 3;
    bool wants(std::size_t) const { return true; }
    adainfer::ExitDecision decide(std::size_t, const Features::Values& values, State& state) const {
        state.gaps.push_back(values.get<adainfer::Gap>());
        return state.gaps.size() >= checks ? adainfer::ExitDecision::Exit : adainfer::ExitDecision::Continue;
    }
};

/// What it owns cannot be copied, and neither can what an inference remembers.
struct MoveOnlyPolicy {
    using Features = adainfer::FeatureList<adainfer::TopProb>;
    struct State {
        std::unique_ptr<std::size_t> asked = std::make_unique<std::size_t>(0);
    };
    explicit MoveOnlyPolicy(std::size_t layer) : exit_after(std::make_unique<std::size_t>(layer)) {}
    bool wants(std::size_t) const { return true; }
    adainfer::ExitDecision decide(std::size_t layer, const Features::Values&, State& state) const {
        ++*state.asked;
        return layer >= *exit_after && *state.asked == layer ? adainfer::ExitDecision::Exit : adainfer::ExitDecision::Continue;
    }
    std::unique_ptr<std::size_t> exit_after;
};
static_assert(!std::is_copy_constructible_v<MoveOnlyPolicy> && !std::is_copy_constructible_v<MoveOnlyPolicy::State>);

/// A classifier that no training made: it stops at its third check. For the paper's features only.
struct Classifier {
    using Features = adainfer::PaperFeatures;
    struct State {
        std::size_t asked = 0;
    };
    float threshold = 2.5F;
    std::size_t feature_count() const { return 2; }
    float score(std::span<const float> features, State& state) const noexcept {
        return features.size() == 2 ? static_cast<float>(++state.asked) : 0.0F;
    }
};

/// The model's own norm, counted.
struct Lens {
    std::shared_ptr<std::size_t> reads_done = std::make_shared<std::size_t>(0);
    bool reads(std::size_t) const { return true; }
    template <class Decoder>
    void apply(const Decoder& decoder, std::size_t, std::span<const float> hidden, std::span<float> out) const {
        ++*reads_done;
        decoder.final_norm(hidden, out);
    }
};

struct Head {
    template <class Decoder>
    std::span<const adainfer::TokenId> run(const Decoder& decoder, std::span<const float> state,
                                           std::span<const adainfer::TokenId> candidates, adainfer::Workspace& work) const {
        return adainfer::FullHead{}.run(decoder, state, candidates, work);
    }
};

/// K/V of layers not run stay as they are: zeros in a new session.
struct LeaveOut {
    static constexpr bool keeps_session = true;
    template <class Decoder>
    static void complete(const Decoder&, adainfer::Session&, std::size_t) {}
};

}  // namespace acme::inference

namespace test_foreign_types {

using namespace adainfer;
namespace own = acme::inference;

namespace {

template <class Backend, class Policy>
Prediction predict(const Model<Backend, Policy>& model, Session& session) {
    return model.predict(session, tiny::tokens(6));
}

/// The logits after the prompt at full depth, by the library's oracle.
std::vector<float> expected_logits() {
    const Model<ReferenceBackend> reference(tiny::weights());
    Session session = reference.new_session();
    return tiny::copy(predict(reference, session).logits);
}

}  // namespace

TEST_CASE("foreign backends compute what the library's own do") {
    const std::vector<float> expected = expected_logits();
    SUBCASE("empty") {
        const Model<own::EmptyBackend> model(tiny::weights());
        Session session = model.new_session();
        CHECK(tiny::difference(predict(model, session).logits, expected) < 1e-5);
    }
    SUBCASE("stateful, without a default constructor") {
        const auto counter = std::make_shared<std::atomic<std::size_t>>(0);
        const Model<own::CountingBackend> model(tiny::weights(), {}, own::CountingBackend(counter));
        Session session = model.new_session();
        CHECK(tiny::difference(predict(model, session).logits, expected) < 1e-5);
        // Seven weights a layer and the head; the session lives through a second pass.
        CHECK(counter->load() == 7 * 4 + 1);
        const Model shallow = model.with_policy(own::EmptyPolicy{});
        CHECK(predict(shallow, session).exit_layer == 2);
        CHECK(counter->load() == 7 * 4 + 1 + 7 * 2 + 1);
    }
}

TEST_CASE("foreign policies: empty, stateful, and with members that only move") {
    const Model<own::EmptyBackend> dense(tiny::weights());
    Session session = dense.new_session();
    SUBCASE("empty") {
        const Model model = dense.with_policy(own::EmptyPolicy{});
        const Prediction prediction = predict(model, session);
        CHECK(prediction.exit_layer == 2);
        CHECK(prediction.checks == 1);
        const std::vector<float> logits = tiny::copy(prediction.logits);
        const Model built_in = dense.with_policy(ExitAtLayer<>(2));
        CHECK(tiny::difference(predict(built_in, session).logits, logits) == 0);
    }
    SUBCASE("stateful: each inference has a state of its own") {
        const Model model = dense.with_policy(own::StatefulPolicy{});
        for (int i = 0; i < 3; ++i) CHECK(predict(model, session).exit_layer == 3);
    }
    SUBCASE("move-only") {
        Model model = dense.with_policy(own::MoveOnlyPolicy(3));
        CHECK(predict(model, session).exit_layer == 3);
        const Model moved = std::move(model);
        CHECK(predict(moved, session).exit_layer == 3);
        const Model scheduled = dense.with_policy(Scheduled(Schedule::every(1, 1), own::MoveOnlyPolicy(2)));
        CHECK(predict(scheduled, session).exit_layer == 2);
    }
    SUBCASE("in the library's combinators") {
        const Model either = dense.with_policy(AnyOf(own::StatefulPolicy{3}, own::EmptyPolicy{}));
        CHECK(predict(either, session).exit_layer == 2);
        // The one exits from its second or third check on, the other after layer 2 alone.
        CHECK(predict(dense.with_policy(AllOf(own::StatefulPolicy{2}, own::EmptyPolicy{})), session).exit_layer == 2);
        CHECK(predict(dense.with_policy(AllOf(own::StatefulPolicy{3}, own::EmptyPolicy{})), session).exit_layer == 4);
    }
}

TEST_CASE("a foreign classifier, lens and head in AdaInferPolicy") {
    using Policy = AdaInferPolicy<own::Classifier, PaperFeatures, own::Lens, own::Head>;
    const own::Lens lens;
    const Model<own::EmptyBackend, Policy> model(tiny::weights(), Policy(own::Classifier{}, {}, lens));
    Session session = model.new_session();
    CHECK(predict(model, session).exit_layer == 3);
    CHECK(*lens.reads_done == 3);
}

TEST_CASE("a foreign completion") {
    const Model<own::EmptyBackend> dense(tiny::weights());
    const Model model = dense.with_policy(own::EmptyPolicy{}).with_completion<own::LeaveOut>();
    Session session = model.new_session();
    std::size_t tokens = 0;
    const std::vector<TokenId> prompt = tiny::tokens(4);
    generate(model, session, prompt, {.max_new_tokens = 3}, [&](const GeneratedToken& token) {
        CHECK(token.exit_layer == (tokens == 0 ? 4 : 2));
        ++tokens;
    });
    CHECK(tokens == 3);
    CHECK(session.length() == 6);
}

}  // namespace test_foreign_types
