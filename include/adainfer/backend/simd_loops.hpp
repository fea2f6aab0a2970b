#pragma once

#include <cstddef>
#include <span>

#include "adainfer/backend/ops.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0::detail::simd {

struct Loops {};  // a backend without operations: the loops of ops.hpp

/// The loops of ops.hpp, compiled for the level.
template <CpuLevel level>
struct LevelLoops {
    static void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) {
        at_level<level>([&] { ops::rms_norm(Loops{}, x, gain, eps, out); });
    }
    static void layer_norm(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                           MatrixView<float> out) {
        at_level<level>([&] { ops::layer_norm(Loops{}, x, gain, bias, eps, out); });
    }
    static void rope(MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos,
                     MatrixView<const float> sin) {
        at_level<level>([&] { ops::rope(Loops{}, x, head_dim, interleaved, cos, sin); });
    }
    static void activate(Activation activation, MatrixView<float> x) {
        at_level<level>([&] { ops::activate(Loops{}, activation, x); });
    }
    static void gate(Activation activation, MatrixView<const float> x, MatrixView<float> y) {
        at_level<level>([&] { ops::gate(Loops{}, activation, x, y); });
    }
    static void add(MatrixView<const float> x, MatrixView<float> y) {
        at_level<level>([&] { ops::add(Loops{}, x, y); });
    }
};

}  // namespace adainfer::inline v0::detail::simd
