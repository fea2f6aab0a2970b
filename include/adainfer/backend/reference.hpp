#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "adainfer/backend/ops.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// Plain loops with double accumulators: the oracle that other backends are compared with. Slow on purpose of clarity.
struct ReferenceBackend {
    using Weight = WeightView;

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        struct Slot;
        const std::span<float> w = thread_scratch<Slot>(weight.cols);
        for (std::size_t r = 0; r < weight.rows; ++r) {
            dequantize_row(weight.dtype, weight.row(r), weight.cols, w.data());
            for (std::size_t t = 0; t < x.rows(); ++t) {
                double sum = 0;
                for (std::size_t i = 0; i < weight.cols; ++i) sum += static_cast<double>(w[i]) * static_cast<double>(x.row(t)[i]);
                y.row(t)[r] = static_cast<float>(sum);
            }
        }
    }

    void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            double squares = 0;
            for (const float value : x.row(t)) squares += static_cast<double>(value) * static_cast<double>(value);
            const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.cols()) + static_cast<double>(eps));
            for (std::size_t i = 0; i < x.cols(); ++i) {
                out.row(t)[i] = static_cast<float>(static_cast<double>(x.row(t)[i]) * scale * static_cast<double>(gain[i]));
            }
        }
    }

    void layer_norm(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                    MatrixView<float> out) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            double mean = 0, squares = 0;
            for (const float value : x.row(t)) mean += static_cast<double>(value);
            mean /= static_cast<double>(x.cols());
            for (const float value : x.row(t)) squares += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean);
            const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.cols()) + static_cast<double>(eps));
            for (std::size_t i = 0; i < x.cols(); ++i) {
                const double normed = (static_cast<double>(x.row(t)[i]) - mean) * scale * static_cast<double>(gain[i]);
                out.row(t)[i] = static_cast<float>(normed + (bias.empty() ? 0.0 : static_cast<double>(bias[i])));
            }
        }
    }

    void attention(const AttentionArgs& args) const {
        std::vector<double> score(args.first + args.q.rows());
        for (std::size_t head = 0; head < args.heads; ++head) {
            const std::size_t group = args.heads / args.kv_heads;
            const float* k = args.k + head / group * args.capacity * args.head_dim;
            const float* v = args.v + head / group * args.capacity * args.head_dim;
            for (std::size_t t = 0; t < args.q.rows(); ++t) {
                const float* q = args.q.row(t).data() + head * args.head_dim;
                float* out = args.out.row(t).data() + head * args.head_dim;
                const std::size_t end = args.first + t + 1;
                const std::size_t begin = args.window != 0 && end > args.window ? end - args.window : 0;
                double sum = 0;
                for (std::size_t i = begin; i < end; ++i) {
                    double product = 0;
                    for (std::size_t j = 0; j < args.head_dim; ++j) {
                        product += static_cast<double>(q[j]) * static_cast<double>(k[i * args.head_dim + j]);
                    }
                    score[i] = static_cast<double>(args.scale) * product;
                }
                double largest = score[begin];
                for (std::size_t i = begin; i < end; ++i) largest = score[i] > largest ? score[i] : largest;
                for (std::size_t i = begin; i < end; ++i) sum += score[i] = std::exp(score[i] - largest);
                for (std::size_t j = 0; j < args.head_dim; ++j) {
                    double mean = 0;
                    for (std::size_t i = begin; i < end; ++i) mean += score[i] * static_cast<double>(v[i * args.head_dim + j]);
                    out[j] = static_cast<float>(mean / sum);
                }
            }
        }
    }

    void activate(Activation activation, MatrixView<float> x) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            for (float& value : x.row(t)) value = static_cast<float>(apply(activation, static_cast<double>(value)));
        }
    }

  private:
    static double apply(Activation activation, double v) {
        switch (activation) {
            case Activation::Silu: return v / (1.0 + std::exp(-v));
            case Activation::Gelu: return 0.5 * v * (1.0 + std::erf(v / std::sqrt(2.0)));
            case Activation::GeluTanh: return 0.5 * v * (1.0 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
            case Activation::Relu: return v > 0.0 || std::isnan(v) ? v : 0.0;
        }
        return v;
    }
};

}  // namespace adainfer::inline v0
