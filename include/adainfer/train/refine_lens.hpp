#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/train/fit_lens.hpp"

namespace adainfer::inline v0 {

struct RefineOptions {
    std::size_t steps = 200;          ///< Adam steps a map
    std::size_t batch = 128;          ///< positions a step
    double learning_rate = 5e-4;      ///< falls linearly to 0
    std::size_t tokens = 2048;        ///< random tokens a step, beside the likeliest ones of the batch
    std::size_t likeliest = 16;       ///< of each position: tokens that always take part
    std::uint64_t seed = 0;
    RunOptions run{};
};

namespace detail::refine {

using RowMajor = LensSamples::RowMajor;
using ConstRows = Eigen::Map<const RowMajor>;

[[nodiscard]] inline Eigen::Index index(std::size_t n) noexcept { return static_cast<Eigen::Index>(n); }

/// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) on one matrix.
class Adam {
  public:
    Adam(Eigen::Index rows, Eigen::Index cols) : first_(RowMajor::Zero(rows, cols)), second_(RowMajor::Zero(rows, cols)) {}

    void step(RowMajor& parameters, const RowMajor& gradient, double rate) {
        constexpr float beta1 = 0.9F, beta2 = 0.99F, epsilon = 1e-8F;
        ++steps_;
        first_ = beta1 * first_ + (1 - beta1) * gradient;
        second_ = beta2 * second_ + (1 - beta2) * gradient.cwiseProduct(gradient);
        const float correction1 = 1 - std::pow(beta1, static_cast<float>(steps_)),
                    correction2 = 1 - std::pow(beta2, static_cast<float>(steps_));
        const float scale = static_cast<float>(rate) / correction1;
        parameters.array() -= scale * first_.array() / ((second_.array() / correction2).sqrt() + epsilon);
    }

  private:
    RowMajor first_, second_;
    std::size_t steps_ = 0;
};

/// Replaces each row by its softmax.
inline void softmax_rows(RowMajor& logits) {
    for (Eigen::Index i = 0; i < logits.rows(); ++i) softmax(logits.row(i).data(), static_cast<std::size_t>(logits.cols()));
}

}  // namespace detail::refine

/// Refines a ridge lens to a tuned lens (Belrose et al., arXiv 2303.08112, section 3): some Adam steps, a map at a time, on
/// the cross-entropy between the model's final distribution and the one read through the map, at the positions kept by
/// LensFitter::keep_samples(). Both distributions are taken over a random part of the vocabulary that holds the likeliest
/// tokens of the batch, which makes a step cost a tenth of one over all of it. Throws InvalidArgument where the samples are
/// none or of other layers than the lens, and Cancelled.
template <class Backend>
[[nodiscard]] LinearLens refine_lens(const Decoder<Backend>& decoder, const LinearLens& lens, const LensSamples& samples,
                                     const RefineOptions& options = {}) {
    using namespace detail::refine;
    const std::size_t hidden = decoder.config().hidden, vocabulary = decoder.config().vocabulary, n = samples.count;
    if (n == 0 || samples.inputs.size() != lens.maps().size()) {
        fail(ErrorCode::InvalidArgument, "refine_lens: samples of ", samples.inputs.size(), " layers and ", n,
             " positions, the lens has ", lens.maps().size(), " maps");
    }
    lens.check_model(decoder.weights());
    const WeightView head = decoder.weights().head.weight;

    // The likeliest tokens of each position, once.
    const std::size_t kept = (std::min)(options.likeliest, vocabulary);
    std::vector<TokenId> likeliest(n * kept), order(vocabulary);
    std::vector<float> logits(vocabulary);
    for (std::size_t t = 0; t < n; ++t) {
        if (options.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "refining the lens was cancelled");
        decoder.logits(std::span(samples.finals).subspan(t * hidden, hidden), logits);
        for (std::size_t v = 0; v < vocabulary; ++v) order[v] = static_cast<TokenId>(v);
        std::nth_element(
            order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept - 1), order.end(),
            [&](TokenId a, TokenId b) { return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)]; });
        std::copy_n(order.begin(), kept, likeliest.begin() + static_cast<std::ptrdiff_t>(t * kept));
        if (options.run.progress && t % 64 == 0) options.run.progress({"likeliest tokens", t + 1, n});
    }

    std::mt19937_64 random(options.seed);
    const std::size_t batch = (std::min)(options.batch, n);
    std::vector<LinearLens::Map> maps;
    RowMajor x(index(batch), index(hidden + 1)), y(index(batch), index(hidden));
    for (std::size_t m = 0; m < lens.maps().size(); ++m) {
        std::vector<float> numbers = lens.maps()[m].matrix.to_floats();
        RowMajor matrix = ConstRows(numbers.data(), index(hidden + 1), index(hidden));
        Adam adam(matrix.rows(), matrix.cols());
        for (std::size_t step = 0; step < options.steps; ++step) {
            if (options.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "refining the lens was cancelled");
            std::vector<TokenId> tokens;
            for (std::size_t i = 0; i < batch; ++i) {
                const std::size_t t = static_cast<std::size_t>(random() % n);
                std::copy_n(samples.inputs[m].begin() + static_cast<std::ptrdiff_t>(t * (hidden + 1)), hidden + 1,
                            x.row(index(i)).data());
                std::copy_n(samples.finals.begin() + static_cast<std::ptrdiff_t>(t * hidden), hidden, y.row(index(i)).data());
                tokens.insert(tokens.end(), likeliest.begin() + static_cast<std::ptrdiff_t>(t * kept),
                              likeliest.begin() + static_cast<std::ptrdiff_t>((t + 1) * kept));
            }
            for (std::size_t i = 0; i < options.tokens; ++i) tokens.push_back(static_cast<TokenId>(random() % vocabulary));
            std::sort(tokens.begin(), tokens.end());
            tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
            RowMajor rows(index(tokens.size()), index(hidden));  // of the head
            for (std::size_t i = 0; i < tokens.size(); ++i) {
                dequantize_row(head.dtype, head.row(static_cast<std::size_t>(tokens[i])), hidden, rows.row(index(i)).data());
            }
            const RowMajor read = x * matrix;
            RowMajor probabilities = read * rows.transpose(), wanted = y * rows.transpose();
            softmax_rows(probabilities);
            softmax_rows(wanted);
            // d cross-entropy / d logits = p - wanted; back through the head's rows and the map.
            probabilities -= wanted;
            const RowMajor back = probabilities * rows;
            RowMajor gradient = x.transpose() * back;
            gradient /= static_cast<float>(batch);
            adam.step(matrix, gradient,
                      options.learning_rate * (1 - static_cast<double>(step) / static_cast<double>(options.steps)));
            if (options.run.progress)
                options.run.progress({"refine lens", m * options.steps + step + 1, lens.maps().size() * options.steps});
        }
        std::copy_n(matrix.data(), numbers.size(), numbers.begin());
        maps.push_back({lens.maps()[m].layer, std::move(numbers)});
    }
    return LinearLens(decoder.weights().identity, hidden, std::move(maps));
}

}  // namespace adainfer::inline v0
