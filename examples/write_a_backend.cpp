// A backend of your own: what a model computes with. Three members are required: how a weight is kept, how it is prepared,
// and the product. All else (norms, attention, rotary positions ...) has a fallback that you may replace one by one: a
// member of the same name as in adainfer/backend/ops.hpp is used in its place. Here we bring `activate` along.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <vector>

#include "adainfer/adainfer.hpp"

namespace mine {

/// Keeps every weight as floats, so that a quantised model is unpacked once, and multiplies with plain loops.
struct PlainBackend {
    struct Weight {
        std::size_t rows = 0, cols = 0;
        std::vector<float> values;  // [rows, cols]
    };

    /// Called once a weight when the model is built; the bytes of the view are in the file's own format.
    [[nodiscard]] Weight prepare(adainfer::WeightView view) const {
        Weight weight{view.rows, view.cols, std::vector<float>(view.rows * view.cols)};
        for (std::size_t r = 0; r < view.rows; ++r) {
            adainfer::dequantize_row(view.dtype, view.row(r), view.cols, weight.values.data() + r * view.cols);
        }
        return weight;
    }

    /// y = x w^T: x is [tokens, in], w [out, in], y [tokens, out].
    void matmul(const Weight& w, adainfer::MatrixView<const float> x, adainfer::MatrixView<float> y) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            for (std::size_t r = 0; r < w.rows; ++r) {
                const float* row = w.values.data() + r * w.cols;
                float sum = 0;
                for (std::size_t i = 0; i < w.cols; ++i) sum += row[i] * x.row(t)[i];
                y.row(t)[r] = sum;
            }
        }
    }

    /// OPTIONAL, as all operations in ops.hpp: our own SiLU; the rest is left to the library.
    void activate(adainfer::Activation activation, adainfer::MatrixView<float> x) const {
        if (activation != adainfer::Activation::Silu) return adainfer::ops::activate(Fallback{}, activation, x);
        for (std::size_t t = 0; t < x.rows(); ++t) {
            for (float& value : x.row(t)) value /= 1.0F + std::exp(-value);
        }
    }

  private:
    struct Fallback {};  // no members: every operation falls back
};

// Says in one line what is missing, should something be.
static_assert((adainfer::require_backend<PlainBackend>(), true));

}  // namespace mine

/// The logits after a prompt, with any backend.
template <class Backend>
std::vector<float> logits_with(Backend backend) {
    const adainfer::Model<Backend> model(adainfer::make_random_model(), {}, backend);
    adainfer::Session session = model.new_session();
    const std::vector<adainfer::TokenId> prompt{3, 1, 4, 1, 5, 9, 2, 6};
    const adainfer::Prediction next = model.predict(session, prompt);
    return {next.logits.begin(), next.logits.end()};
}

int main() {
    const std::vector<float> mine = logits_with(mine::PlainBackend{});
    const std::vector<float> expected = logits_with(adainfer::ReferenceBackend{});  // double precision: the one to trust
    float largest = 0, off = 0;
    for (std::size_t i = 0; i < mine.size(); ++i) {
        largest = std::max(largest, std::abs(expected[i]));
        off = std::max(off, std::abs(mine[i] - expected[i]));
    }
    std::cout << "largest logit " << largest << ", largest difference " << off << '\n';
    if (mine.size() == expected.size() && off <= 1e-5F * largest) return 0;
    std::cerr << "the backends disagree\n";
    return 1;
}
