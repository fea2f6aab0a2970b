#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/random_model.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/weights.hpp"

// A model that a test can compute by hand, and the plain double-precision sums to do so.

namespace tiny {

using adainfer::TokenId;

inline adainfer::RandomModelOptions options() {
    return {.layers = 4, .hidden = 16, .heads = 4, .kv_heads = 2, .head_dim = 4, .feed_forward = 24, .vocabulary = 40,
            .context = 32, .biases = true, .seed = 5};
}

inline adainfer::ModelWeights weights() { return adainfer::make_random_model(options()); }

/// n tokens, neither equal nor periodic.
inline std::vector<TokenId> tokens(std::size_t n, std::size_t vocabulary = 40) {
    std::vector<TokenId> result;
    for (std::size_t i = 0; i < n; ++i) result.push_back(static_cast<TokenId>((i * i * 7 + i * 3 + 1) % vocabulary));
    return result;
}

inline constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// The elements of a matrix that make_random_model() owns, to spoil one.
inline float* mutable_row(const adainfer::WeightView& weight, std::size_t row) {
    return reinterpret_cast<float*>(const_cast<std::byte*>(weight.row(row)));
}

inline std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

/// Largest |a - b|, relative to the largest |b|; infinity where the sizes differ.
inline double difference(std::span<const float> a, std::span<const float> b) {
    if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
    double largest = 1e-30, off = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        if (!(d <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
        off = std::max(off, d);
        largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    }
    return off / largest;
}

/// The code of the Error that `call` throws; nothing where it throws none.
template <class Call>
std::optional<adainfer::ErrorCode> code_of(Call&& call) {
    try {
        static_cast<void>(call());
    } catch (const adainfer::Error& error) {
        return error.code();
    }
    return std::nullopt;
}

/// Its message, "" where it throws none.
template <class Call>
std::string message_of(Call&& call) {
    try {
        static_cast<void>(call());
    } catch (const adainfer::Error& error) {
        return error.what();
    }
    return "";
}

/// x / rms(x) * gain in double precision.
inline std::vector<double> norm(std::span<const float> x, std::span<const float> gain, float eps) {
    double squares = 0;
    for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(eps));
    std::vector<double> result(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) result[i] = static_cast<double>(x[i]) * scale * static_cast<double>(gain[i]);
    return result;
}

/// weight x + bias in double precision.
inline std::vector<double> product(const adainfer::LinearWeights& linear, const std::vector<double>& x) {
    std::vector<double> result(linear.weight.rows);
    std::vector<float> row(linear.weight.cols);
    for (std::size_t r = 0; r < result.size(); ++r) {
        adainfer::dequantize_row(linear.weight.dtype, linear.weight.row(r), row.size(), row.data());
        double sum = linear.bias.empty() ? 0 : static_cast<double>(linear.bias[r]);
        for (std::size_t i = 0; i < row.size(); ++i) sum += static_cast<double>(row[i]) * x[i];
        result[r] = sum;
    }
    return result;
}

/// Logits of a hidden state through the final norm and the head.
inline std::vector<double> logits(const adainfer::ModelWeights& model, std::span<const float> hidden) {
    return product(model.head, norm(hidden, model.final_norm.gain, model.config.norm_eps));
}

inline std::vector<double> softmax(const std::vector<double>& logits) {
    const double largest = *std::max_element(logits.begin(), logits.end());
    std::vector<double> result;
    double sum = 0;
    for (const double logit : logits) sum += result.emplace_back(std::exp(logit - largest));
    for (double& value : result) value /= sum;
    return result;
}

/// Hidden states of the last position before layer 1 and after each layer: [layers + 1][hidden]. Leaves the session's length.
template <class Backend>
std::vector<std::vector<float>> states(const adainfer::Decoder<Backend>& decoder, adainfer::Session& session,
                                       std::span<const TokenId> tokens) {
    decoder.begin(session, tokens);
    std::vector<std::vector<float>> result;
    const auto keep = [&] { result.push_back(copy(session.work.hidden.row(tokens.size() - 1))); };
    keep();
    for (std::size_t layer = 0; layer < decoder.config().layers; ++layer) {
        decoder.run_layer(session, layer);
        keep();
    }
    return result;
}

}  // namespace tiny
