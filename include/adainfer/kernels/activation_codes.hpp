#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

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

}  // namespace adainfer::inline v0
