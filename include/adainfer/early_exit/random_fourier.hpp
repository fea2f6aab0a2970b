#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <span>
#include <vector>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// Random features whose dot products approximate an RBF kernel: z(x) . z(y) ~ exp(-gamma |x - y|^2), so that a linear
/// classifier of z(x) stands in for a kernel one of x and costs the same whatever it was trained on.
///
///     z(x) = sqrt(2 / D) cos(W x + b),  W ~ N(0, 2 gamma),  b ~ U(0, 2 pi)
///
/// Source: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines" (NIPS 2007), section 3, algorithm 1; the error
/// falls as 1 / sqrt(D). W and b follow from the seed, by the same arithmetic everywhere, so a file keeps the seed alone.
class RandomFourier {
  public:
    static constexpr std::size_t max_inputs = 64, max_size = 1U << 16U;
    static constexpr double max_gamma = 1e6;

    RandomFourier() = default;

    /// `size` random features of `inputs` numbers. Throws InvalidArgument unless 1 <= inputs <= 64, 1 <= size <= 65536
    /// and 0 < gamma <= 10^6.
    RandomFourier(std::size_t inputs, std::size_t size, double gamma, std::uint64_t seed)
        : inputs_(inputs), gamma_(gamma), seed_(seed) {
        if (inputs == 0 || inputs > max_inputs || size == 0 || size > max_size) {
            fail(ErrorCode::InvalidArgument, "random Fourier features: ", size, " of ", inputs, " inputs; possible are 1 to ",
                 max_size, " of 1 to ", max_inputs);
        }
        if (!(gamma > 0 && gamma <= max_gamma)) {
            fail(ErrorCode::InvalidArgument, "random Fourier features: gamma must be above 0 and at most ", max_gamma,
                 ", found ", gamma);
        }
        std::mt19937_64 random(seed);
        const auto uniform = [&random] { return (static_cast<double>(random() >> 11U) + 0.5) * 0x1p-53; };  // in (0, 1)
        const double spread = std::sqrt(2 * gamma);
        frequencies_.reserve(inputs * size);
        for (std::size_t i = 0; i < inputs * size; ++i) {  // Box and Muller: standard libraries differ in how they draw
            const double radius = std::sqrt(-2 * std::log(uniform()));
            frequencies_.push_back(static_cast<float>(spread * radius * std::cos(2 * std::numbers::pi * uniform())));
        }
        phases_.reserve(size);
        for (std::size_t i = 0; i < size; ++i) phases_.push_back(static_cast<float>(2 * std::numbers::pi * uniform()));
    }

    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] std::size_t size() const noexcept { return phases_.size(); }
    [[nodiscard]] double gamma() const noexcept { return gamma_; }
    [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

    /// Feature i of x [inputs()].
    [[nodiscard]] float feature(std::size_t i, const float* x) const noexcept {
        float angle = phases_[i];
        for (std::size_t k = 0; k < inputs_; ++k) angle += frequencies_[i * inputs_ + k] * x[k];
        return std::sqrt(2.0F / static_cast<float>(size())) * std::cos(angle);
    }

    /// z [size()] of x [inputs()].
    void map(std::span<const float> x, std::span<float> z) const noexcept {
        for (std::size_t i = 0; i < size(); ++i) z[i] = feature(i, x.data());
    }

  private:
    std::size_t inputs_ = 0;
    double gamma_ = 0;
    std::uint64_t seed_ = 0;
    std::vector<float> frequencies_;  ///< [size, inputs]
    std::vector<float> phases_;       ///< [size]
};

}  // namespace adainfer::inline v0
