#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "adainfer/tensor/matrix_view.hpp"

// Activations as 8-bit codes, for products with weights that are integers themselves:
//
//     x[i] = scale[i / 32] * (code[i] + rest[i] / rest_steps)
//
// The codes alone are the activations to 8 bits, with the rests they are to 16.

namespace adainfer::inline v0 {

inline constexpr std::size_t activation_block = 32;
inline constexpr float rest_steps = 254;  ///< a code is off by 1/2 at most: 127 of these
inline constexpr float smallest_activation = 0x1p-120F;  ///< a block below it is zero: 127 / it would overflow

/// 32 values as codes.
struct ActivationBlock {
    std::int8_t codes[activation_block];
    std::int8_t rests[activation_block];
    std::int32_t sums[activation_block / 4];       ///< of four codes each
    std::int32_t rest_sums[activation_block / 4];  ///< of four rests each
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
        const float scaled = x[i] * inverse, code = std::nearbyint(scaled);
        block.codes[i] = static_cast<std::int8_t>(code);
        block.rests[i] = static_cast<std::int8_t>(std::nearbyint((scaled - code) * rest_steps));
        block.sums[i / 4] += block.codes[i];
        block.rest_sums[i / 4] += block.rests[i];
    }
    block.scale = largest / 127.0F;
}

using QuantizeBlock = void (*)(const float*, ActivationBlock&) noexcept;

/// One row of activations to 16 bits: of a decode step, where reading the weights takes the time.
class ActivationRow {
  public:
    /// x [cols], cols a multiple of 32. `bias` is that of the weight's CodeFormat.
    void assign(std::span<const float> x, int bias, QuantizeBlock quantize) {
        const std::size_t blocks = x.size() / activation_block;
        if (codes_.size() < x.size() + slack) {
            for (auto* codes : {&codes_, &rests_}) codes->resize(x.size() + slack);
            for (auto* offsets : {&offsets_, &rest_offsets_}) offsets->resize(x.size() / 4 + slack);
            for (auto* values : {&scales_, &sums_}) values->resize(blocks + slack);
        }
        for (std::size_t b = 0; b < blocks; ++b) {
            ActivationBlock block;
            quantize(x.data() + b * activation_block, block);
            std::memcpy(codes_.data() + b * activation_block, block.codes, sizeof block.codes);
            std::memcpy(rests_.data() + b * activation_block, block.rests, sizeof block.rests);
            std::int32_t total = 0, rest_total = 0;
            for (std::size_t i = 0; i < activation_block / 4; ++i) {
                total += block.sums[i];
                rest_total += block.rest_sums[i];
                offsets_[b * (activation_block / 4) + i] = -bias * block.sums[i];
                rest_offsets_[b * (activation_block / 4) + i] = -bias * block.rest_sums[i];
            }
            scales_[b] = block.scale;
            sums_[b] = block.scale * (static_cast<float>(total) + static_cast<float>(rest_total) / rest_steps);
        }
        // What whole vectors read past the end.
        std::fill_n(codes_.begin() + static_cast<std::ptrdiff_t>(x.size()), slack, std::int8_t{0});
        std::fill_n(rests_.begin() + static_cast<std::ptrdiff_t>(x.size()), slack, std::int8_t{0});
        std::fill_n(offsets_.begin() + static_cast<std::ptrdiff_t>(x.size() / 4), slack, 0);
        std::fill_n(rest_offsets_.begin() + static_cast<std::ptrdiff_t>(x.size() / 4), slack, 0);
    }

    [[nodiscard]] const std::int8_t* codes() const noexcept { return codes_.data(); }          ///< [cols]
    [[nodiscard]] const std::int8_t* rests() const noexcept { return rests_.data(); }          ///< [cols]
    [[nodiscard]] const float* scales() const noexcept { return scales_.data(); }              ///< [cols / 32]
    /// Sums of the values [cols / 32]: what a weight's minimum is multiplied by.
    [[nodiscard]] const float* sums() const noexcept { return sums_.data(); }
    /// -bias times the sum of four codes [cols / 4]: added to the product of the unsigned weight codes it gives that of the
    /// signed ones.
    [[nodiscard]] const std::int32_t* offsets() const noexcept { return offsets_.data(); }
    [[nodiscard]] const std::int32_t* rest_offsets() const noexcept { return rest_offsets_.data(); }

  private:
    static constexpr std::size_t slack = 64;

    std::vector<std::int8_t> codes_, rests_;
    std::vector<std::int32_t> offsets_, rest_offsets_;
    std::vector<float> scales_, sums_;
};

/// Many rows of activations to 8 bits, `lanes` tokens side by side, so that a vector holds one block position of all of them.
/// Rows past the last are zero.
class ActivationCodes {
  public:
    /// x [tokens, cols], cols a multiple of 32. `group` and `bias` are those of the weight's CodeFormat, `quantize` is
    /// quantize_block() or does the same.
    void assign(MatrixView<const float> x, std::size_t lanes, std::size_t group, int bias, QuantizeBlock quantize) {
        lanes_ = lanes;
        cols_ = x.cols();
        panels_ = (x.rows() + lanes - 1) / lanes;
        const std::size_t padded = panels_ * lanes;
        resize(codes_, padded * cols_ + slack);
        resize(scales_, padded * blocks() + slack);
        resize(sums_, padded * blocks() + slack);
        resize(offsets_, padded * (cols_ / group) + slack);
        for (std::size_t t = 0; t < padded; ++t) {
            for (std::size_t b = 0; b < blocks(); ++b) {
                ActivationBlock block{};
                if (t < x.rows()) quantize(x.row(t).data() + b * activation_block, block);
                place(block, t / lanes, t % lanes, b, group, bias);
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
    /// -bias times the sum of the codes [cols / group][lanes].
    [[nodiscard]] const std::int32_t* offsets(std::size_t panel, std::size_t group) const noexcept {
        return offsets_.data() + panel * (cols_ / group) * lanes_;
    }

  private:
    static constexpr std::size_t slack = 64;  // whole vectors may be read past the end

    [[nodiscard]] std::size_t blocks() const noexcept { return cols_ / activation_block; }

    /// Puts a block of one token where a product of `lanes` tokens reads it.
    void place(const ActivationBlock& block, std::size_t panel, std::size_t lane, std::size_t b, std::size_t group, int bias) noexcept {
        std::int8_t* const codes = codes_.data() + ((panel * blocks() + b) * (activation_block / 4) * lanes_ + lane) * 4;
        std::int32_t total = 0;
        for (std::size_t i = 0; i < activation_block / 4; ++i) {
            std::memcpy(codes + i * lanes_ * 4, block.codes + 4 * i, 4);
            total += block.sums[i];
        }
        std::int32_t* const offsets = offsets_.data() + (panel * blocks() + b) * (activation_block / group) * lanes_ + lane;
        for (std::size_t i = 0; i < activation_block / group; ++i) {
            std::int32_t sum = 0;
            for (std::size_t j = 0; j < group / 4; ++j) sum += block.sums[i * group / 4 + j];
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
