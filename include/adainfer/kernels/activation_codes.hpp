#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "adainfer/tensor/matrix_view.hpp"

// Activations as 8-bit codes, x[i] = scale[i / 32] * code[i], laid out for the products in int8_products.hpp.

namespace adainfer::inline v0 {

inline constexpr std::size_t activation_block = 32;
inline constexpr float smallest_activation = 0x1p-120F;  ///< a block below it is zero: 127 / it would overflow

/// 32 values as codes.
struct ActivationBlock {
    std::int8_t codes[activation_block];
    std::int32_t sums[activation_block / 4];  ///< of four codes each
    float scale;
};

/// Codes of 32 values and their scale: the largest magnitude becomes 127. A block with a NaN or an infinity gets a NaN as scale
/// and zero codes, so that it is NaN that comes out of every product.
inline void quantize_block(const float* x, ActivationBlock& block) noexcept {
    float largest = 0.0F, poison = 0.0F;
    for (std::size_t i = 0; i < activation_block; ++i) {
        largest = std::fabs(x[i]) > largest ? std::fabs(x[i]) : largest;
        poison += x[i] * 0.0F;  // 0, or NaN
    }
    block = {};
    block.scale = poison;
    if (poison != 0.0F || largest < smallest_activation) return;  // NaN differs from 0
    const float inverse = 127.0F / largest;
    for (std::size_t i = 0; i < activation_block; ++i) {
        block.codes[i] = static_cast<std::int8_t>(std::nearbyint(x[i] * inverse));
        block.sums[i / 4] += block.codes[i];
    }
    block.scale = largest / 127.0F;
}

using QuantizeBlock = void (*)(const float*, ActivationBlock&) noexcept;

/// Some rows of activations as codes, `lanes` tokens side by side, so that a vector holds one block position of all of them.
/// lanes 1 is a plain row. Rows past the last are zero.
class ActivationCodes {
  public:
    /// x [tokens, cols], cols a multiple of 32. `group` and `bias` are those of the weight's CodeFormat, `quantize` is
    /// quantize_block() or does the same.
    void assign(MatrixView<const float> x, std::size_t lanes, std::size_t group, int bias, QuantizeBlock quantize) {
        lanes_ = lanes;
        cols_ = x.cols();
        panels_ = (x.rows() + lanes - 1) / lanes;
        const std::size_t padded = panels_ * lanes;
        const std::size_t step = lanes == 1 ? 4 : group;  // elements under one offset
        resize(codes_, padded * cols_ + slack);
        resize(scales_, padded * blocks() + slack);
        resize(sums_, padded * blocks() + slack);
        resize(offsets_, padded * (cols_ / step) + slack);
        for (std::size_t t = 0; t < padded; ++t) {
            for (std::size_t b = 0; b < blocks(); ++b) {
                ActivationBlock block{};
                if (t < x.rows()) quantize(x.row(t).data() + b * activation_block, block);
                place(block, t / lanes, t % lanes, b, step, bias);
            }
        }
    }

    [[nodiscard]] std::size_t panels() const noexcept { return panels_; }
    [[nodiscard]] std::size_t lanes() const noexcept { return lanes_; }

    /// Codes [cols / 4][lanes][4] of a panel.
    [[nodiscard]] const std::int8_t* codes(std::size_t panel) const noexcept { return codes_.data() + panel * cols_ * lanes_; }
    /// Scales [cols / 32][lanes].
    [[nodiscard]] const float* scales(std::size_t panel) const noexcept { return scales_.data() + panel * blocks() * lanes_; }
    /// Sums of the values [cols / 32][lanes]: what a weight's minimum is multiplied by.
    [[nodiscard]] const float* sums(std::size_t panel) const noexcept { return sums_.data() + panel * blocks() * lanes_; }
    /// -bias times the sum of the codes [cols / group][lanes], or [cols / 4] of a plain row: added to the product of the
    /// unsigned codes it gives that of the signed ones.
    [[nodiscard]] const std::int32_t* offsets(std::size_t panel, std::size_t group) const noexcept {
        return offsets_.data() + panel * (cols_ / (lanes_ == 1 ? 4 : group)) * lanes_;
    }

  private:
    static constexpr std::size_t slack = 64;  // whole vectors may be read past the end

    [[nodiscard]] std::size_t blocks() const noexcept { return cols_ / activation_block; }

    /// Puts a block of one token where a product of `lanes` tokens reads it.
    void place(const ActivationBlock& block, std::size_t panel, std::size_t lane, std::size_t b, std::size_t step, int bias) noexcept {
        std::int8_t* const codes = codes_.data() + ((panel * blocks() + b) * (activation_block / 4) * lanes_ + lane) * 4;
        std::int32_t total = 0;
        for (std::size_t i = 0; i < activation_block / 4; ++i) {
            std::memcpy(codes + i * lanes_ * 4, block.codes + 4 * i, 4);
            total += block.sums[i];
        }
        std::int32_t* const offsets = offsets_.data() + (panel * blocks() + b) * (activation_block / step) * lanes_ + lane;
        for (std::size_t i = 0; i < activation_block / step; ++i) {
            std::int32_t sum = 0;
            for (std::size_t j = 0; j < step / 4; ++j) sum += block.sums[i * step / 4 + j];
            offsets[i * lanes_] = -bias * sum;
        }
        scales_[(panel * blocks() + b) * lanes_ + lane] = block.scale;
        sums_[(panel * blocks() + b) * lanes_ + lane] = block.scale * static_cast<float>(total);
    }

    template <class T>
    static void resize(std::vector<T>& values, std::size_t size) {
        if (values.size() < size) values.resize(size);
    }

    std::vector<std::int8_t> codes_;
    std::vector<float> scales_, sums_;
    std::vector<std::int32_t> offsets_;
    std::size_t lanes_ = 1, cols_ = 0, panels_ = 0;
};

}  // namespace adainfer::inline v0
