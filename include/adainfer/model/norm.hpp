#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/backend/ops.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

inline void copy_rows(MatrixView<const float> from, MatrixView<float> to) noexcept {
    for (std::size_t t = 0; t < from.rows(); ++t) std::copy_n(from.row(t).data(), from.cols(), to.row(t).data());
}

/// out = the model's kind of norm of each row of x [tokens, n]; x itself where the model has no such norm. x may be out.
template <class Backend>
void apply_norm(const Backend& backend, const ModelConfig& config, const NormWeights& weights, MatrixView<const float> x,
                MatrixView<float> out) {
    if (!weights.present()) {
        if (x.data() != out.data()) copy_rows(x, out);
    } else if (config.norm == NormKind::Rms) {
        ops::rms_norm(backend, x, weights.gain, config.norm_eps, out);
    } else {
        ops::layer_norm(backend, x, weights.gain, weights.bias, config.norm_eps, out);
    }
}

}  // namespace adainfer::inline v0
