#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/kernels/vector_math.hpp"

namespace adainfer::inline v0 {

/// An affine map in 8 bits a number: the matrix has row_scales[i] * codes[i, j] at [i, j].
struct LensCodes {
    std::vector<std::int8_t> codes;  ///< [in, out] row-major
    std::vector<float> row_scales;   ///< [in]
    std::vector<float> bias;         ///< [out]
};

/// y = y + scale * codes, both [n].
[[gnu::always_inline]] inline void add_codes(float scale, const std::int8_t* codes, float* y, std::size_t n) noexcept {
    constexpr std::size_t lanes = 64;  // bytes of the widest vector: GCC takes no wider one for the floats than these fill
    std::size_t j = 0;
    for (; j + lanes <= n; j += lanes) {
        float sum[lanes];  // stored when all are known: y may overlap what is read, as far as the compiler can tell
        for (std::size_t l = 0; l < lanes; ++l) sum[l] = y[j + l] + scale * static_cast<float>(codes[j + l]);
        for (std::size_t l = 0; l < lanes; ++l) y[j + l] = sum[l];
    }
    for (std::size_t left = n % lanes; left != 0; --left, ++j) y[j] += scale * static_cast<float>(codes[j]);
}

/// The affine map y = x M + bias of a linear lens, x [in] and y [out], in floats or in 8 bits, as it was made.
class LensMatrix {
  public:
    /// Columns that multiply() takes at a time: of parts that start at multiples of it each has the same sums as the whole.
    static constexpr std::size_t lanes = 64;

    LensMatrix() = default;

    /// [in + 1, out] row-major; the last row is the bias. Not explicit: such a vector is a map.
    LensMatrix(std::vector<float> floats) : numbers_(std::move(floats)) {}

    /// Throws InvalidArgument where the codes are not as many as row scales times biases.
    LensMatrix(LensCodes codes) : numbers_(std::move(codes)) {
        const LensCodes& c = *this->codes();
        if (c.codes.size() != c.row_scales.size() * c.bias.size()) {
            fail(ErrorCode::InvalidArgument, "lens matrix: ", c.codes.size(), " codes, expected ", c.row_scales.size(),
                 " row scales times ", c.bias.size(), " biases");
        }
    }

    /// The map in 8 bits; null where it is kept in floats.
    [[nodiscard]] const LensCodes* codes() const noexcept { return std::get_if<LensCodes>(&numbers_); }

    /// The map in floats, [in + 1, out] row-major, the last row the bias, however it is kept.
    [[nodiscard]] std::vector<float> to_floats() const {
        const LensCodes* const c = codes();
        if (c == nullptr) return std::get<Floats>(numbers_);
        Floats floats(size());
        const std::size_t out = c->bias.size();
        for (std::size_t i = 0; i < c->codes.size(); ++i) floats[i] = c->row_scales[i / out] * static_cast<float>(c->codes[i]);
        std::copy(c->bias.begin(), c->bias.end(), floats.end() - static_cast<std::ptrdiff_t>(out));
        return floats;
    }

    /// Numbers of the map: (in + 1) * out.
    [[nodiscard]] std::size_t size() const noexcept {
        const LensCodes* const c = codes();
        return c == nullptr ? std::get_if<Floats>(&numbers_)->size() : c->codes.size() + c->bias.size();
    }

    /// Bytes that multiply() reads.
    [[nodiscard]] std::size_t bytes() const noexcept {
        const LensCodes* const c = codes();
        return c == nullptr ? size() * sizeof(float) : c->codes.size() + (c->row_scales.size() + c->bias.size()) * sizeof(float);
    }

    /// True where the map is from [width] to [width].
    [[nodiscard]] bool is_square(std::size_t width) const noexcept {
        return size() == (width + 1) * width && (codes() == nullptr || codes()->bias.size() == width);
    }

    /// False where a number is NaN or infinite, or a row scale so large that a code could make it infinite.
    [[nodiscard]] bool is_finite() const noexcept {
        const LensCodes* const c = codes();
        if (c == nullptr) return all_finite(std::get_if<Floats>(&numbers_)->data(), size());
        return all_finite(c->bias.data(), c->bias.size()) &&
               std::all_of(c->row_scales.begin(), c->row_scales.end(), [](float scale) { return std::isfinite(scale * 128); });
    }

    /// y [begin, end) = those columns of scale * x M + bias. Precondition: x is [in], y is [out]. Always inlined, so that
    /// at_level() compiles it for its level.
    [[gnu::always_inline]] void multiply(std::span<const float> x, float scale, std::size_t begin, std::size_t end,
                                         std::span<float> y) const noexcept {
        // A row at a time, in the order of memory: several rows at once are several streams, which CPUs prefetch worse.
        const std::size_t out = y.size(), n = end - begin;
        float* const part = y.data() + begin;
        if (const LensCodes* const c = std::get_if<LensCodes>(&numbers_)) {
            std::copy_n(c->bias.data() + begin, n, part);
            const std::int8_t* row = c->codes.data() + begin;
            for (std::size_t i = 0; i < x.size(); ++i, row += out) add_codes(x[i] * scale * c->row_scales[i], row, part, n);
        } else {
            const float* row = std::get_if<Floats>(&numbers_)->data() + begin;
            std::copy_n(row + x.size() * out, n, part);
            for (std::size_t i = 0; i < x.size(); ++i, row += out) axpy(x[i] * scale, row, part, n);
        }
    }

  private:
    using Floats = std::vector<float>;

    std::variant<Floats, LensCodes> numbers_;
};

}  // namespace adainfer::inline v0
