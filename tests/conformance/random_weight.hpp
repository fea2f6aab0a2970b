#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_memory.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/half.hpp"
#include "adainfer/tensor/weight_view.hpp"
#include "backends.hpp"

namespace random_weight {

using namespace adainfer;

inline constexpr std::array dtypes{DType::F32,  DType::F16,  DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1,
                            DType::Q5_0, DType::Q5_1, DType::Q4_K, DType::Q5_K, DType::Q6_K};
/// Those that have a code format.
inline constexpr std::array quantised{DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0,
                                      DType::Q5_1, DType::Q4_K, DType::Q5_K, DType::Q6_K};

/// Stores a number of a type of floats; as bfloat16 it is cut off.
inline void put_float(DType dtype, std::byte* at, float value) {
    const std::uint16_t half = f32_to_f16(value);
    const std::size_t bytes = info(dtype).block_bytes;
    if (dtype == DType::F16) std::memcpy(at, &half, sizeof half);
    else std::memcpy(at, reinterpret_cast<const std::byte*>(&value) + sizeof value - bytes, bytes);  // little-endian
}

/// The word of column `c` of row `r` of a panel of words: columns 0 2 1 3 of each four, two in a dword.
template <class Panel>
int word_at(const Panel& panel, std::size_t r, std::size_t c) {
    return panel.words[c / 4 * 2 + c % 2][r][c % 4 / 2];
}

/// A random weight, its bytes and its values.
struct RandomWeight {
    std::vector<std::byte> bytes;
    WeightView view;
    std::vector<float> values;  // [rows, cols]

    RandomWeight(DType dtype, std::size_t rows, std::size_t cols, Random& random) : bytes(rows * row_bytes(dtype, cols)) {
        const DTypeInfo type = info(dtype);
        for (std::size_t at = 0; at < bytes.size(); at += type.block_bytes) {
            std::byte* const block = bytes.data() + at;
            for (std::size_t i = 0; i < type.block_bytes; ++i) block[i] = static_cast<std::byte>(random.bits() >> 24U);
            const auto put_half = [&](std::size_t offset, float value) { put_float(DType::F16, block + offset, value); };
            const float value = random.real();
            switch (dtype) {  // the fields that are floats
                case DType::F32: case DType::F16: case DType::BF16: put_float(dtype, block, value); break;
                case DType::Q8_0: case DType::Q4_0: case DType::Q5_0: put_half(0, value * 0.01F); break;
                case DType::Q6_K: put_half(208, value * 0.001F); break;
                case DType::Q4_1: case DType::Q5_1: case DType::Q4_K: case DType::Q5_K:
                    put_half(0, value * 0.01F);
                    put_half(2, random.real() * 0.1F);
                    break;
            }
        }
        view = {dtype, rows, cols, bytes.data()};
        values.resize(rows * cols);
        for (std::size_t r = 0; r < rows; ++r) dequantize_row(dtype, view.row(r), cols, values.data() + r * cols);
    }
};

/// True where `result` is row `row` of the weight times x [cols], to the rounding of activations to 16 bits.
inline bool is_product(float result, const RandomWeight& w, std::size_t row, const float* x) {
    double sum = 0, size = 0;
    for (std::size_t c = 0; c < w.view.cols; ++c) {
        const double value = static_cast<double>(w.values[row * w.view.cols + c]) * static_cast<double>(x[c]);
        sum += value;
        size += std::abs(value);
    }
    return std::abs(static_cast<double>(result) - sum) <= 4e-5 * size;
}

/// How many of its products with `tokens` rows x [cols] are wrong, and how many floats beside them were written. They are what
/// times(part, out, stride) adds to out, part after part; the parts are of the file, or of `lanes` where there are some.
template <class Times>
std::size_t wrong_panel_products(const RandomWeight& w, const LaneWeight* lanes, const std::vector<float>& x, std::size_t tokens,
                                 Times&& times) {
    constexpr std::size_t stride = 37;
    const std::size_t rows = w.view.rows, cols = w.view.cols;
    std::size_t wrong = 0;
    for (std::size_t first = 0; first < rows; first += 32) {
        std::vector<float> out(tokens * stride, 0.0F);
        for (std::size_t begin = 0; begin < cols; begin += detail::panel_depth) {
            const std::size_t some = std::min(detail::panel_depth, cols - begin);
            const std::size_t here = std::min(rows - first, std::size_t{32});
            times(detail::WeightPart{w.view, first, here, begin, some, lanes}, out.data(), stride);
        }
        for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t r = 0; r < 32; ++r) {
                const std::size_t row = std::min(first + r, rows - 1);
                if (!is_product(out[t * stride + r], w, row, x.data() + t * cols)) ++wrong;
            }
            for (std::size_t r = 32; r < stride; ++r) {
                if (out[t * stride + r] != 0.0F) ++wrong;
            }
        }
    }
    return wrong;
}

#if ADAINFER_X86

/// Checks a tile of words: products with up to `tokens` rows of activations, from the file and from lanes, and that a row with a NaN
/// or an infinity spoils no other.
template <class Tile>
void check_word_tile(const RandomWeight& w, const LaneWeight& lanes, std::size_t tokens, Random& random) {
    const std::size_t cols = w.view.cols;
    std::vector<float> x = random.reals(tokens * cols);
    detail::avx2::ActivationWords words;
    words.resize(tokens, cols);
    const auto assign = [&](std::size_t t) { words.assign(t, {x.data() + t * cols, cols}, Tile::under_one_scale); };
    for (std::size_t t = 0; t < tokens; ++t) assign(t);
    const auto add_products = [&](const detail::WeightPart& part, std::size_t count, float* out, std::size_t stride) {
        const auto panel = Tile::pack(part);
        detail::for_token_blocks(count, Tile::tokens, [&](std::size_t first, std::size_t some) {
            const detail::avx2::WordBlock* const from = words.row(first) + part.begin / activation_block;
            detail::run_tile<Tile>(some, panel, from, words.blocks(), out + first * stride, stride);
        });
    };
    CAPTURE(Tile::under_one_scale);
    for (const LaneWeight* const from : {static_cast<const LaneWeight*>(nullptr), &lanes}) {
        for (std::size_t count = 1; count <= tokens; ++count) {
            CAPTURE(count);
            const auto times = [&](const auto& part, float* out, std::size_t stride) { add_products(part, count, out, stride); };
            CHECK(wrong_panel_products(w, from, x, count, times) == 0);
        }
    }
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        x[cols + 1] = bad;  // of token 1
        assign(1);
        std::vector<float> out(3 * 32, 0.0F);
        const std::size_t rows = std::min(w.view.rows, std::size_t{32});
        add_products({w.view, 0, rows, 0, std::min(cols, detail::panel_depth), &lanes}, 3, out.data(), 32);
        for (std::size_t r = 0; r < 32; ++r) {
            CHECK(std::isfinite(out[r]));
            CHECK(std::isnan(out[32 + r]));
            CHECK(std::isfinite(out[64 + r]));
        }
    }
}

/// Checks lane_product(), which multiplies the first lanes of a weight with some rows of activations that were made by assign(t),
/// for all numbers of them, and that a row with a NaN or an infinity spoils no other.
template <class Assign, class Product>
void check_lane_products(const RandomWeight& w, std::size_t panels, std::vector<float>& x, Assign&& assign, Product&& product) {
    constexpr std::size_t tokens = detail::most_lane_tokens;
    const std::size_t rows = w.view.rows, cols = w.view.cols;
    const auto multiply = [&](std::size_t panel, std::size_t first, std::size_t count) {
        std::vector<float> out(tokens * 32);
        product(panel, first, count, out.data());
        return out;
    };
    for (std::size_t t = 0; t < tokens; ++t) assign(t);
    std::size_t wrong = 0;
    for (std::size_t count = 1; count <= tokens; ++count) {
        for (std::size_t first = 0; first + count <= tokens; ++first) {
            for (std::size_t i = 0; i < panels; ++i) {
                const std::vector<float> out = multiply(i, first, count);
                for (std::size_t t = 0; t < count; ++t) {
                    for (std::size_t row = 32 * i; row < 32 * i + 32; ++row) {
                        const float* const token = x.data() + (first + t) * cols;
                        if (!is_product(out[t * 32 + row % 32], w, std::min(row, rows - 1), token)) ++wrong;
                    }
                }
            }
        }
    }
    CHECK(wrong == 0);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        x[cols + cols / 2] = bad;  // of token 1
        assign(1);
        const std::vector<float> out = multiply(0, 0, tokens);
        for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t r = 0; r < 32; ++r) CHECK((t == 1 ? std::isnan(out[t * 32 + r]) : std::isfinite(out[t * 32 + r])));
        }
    }
}

#endif

/// A quantised weight in lanes, made with the instructions of `turn`, which the machine has.
template <detail::TurnRows turn>
LaneWeight repacked(const WeightView& weight) {
    LaneMemory memory;
    LaneWeight lanes(weight.dtype, weight.rows, weight.cols, memory);
    for (std::size_t i = 0; i < lanes.panels(); ++i) detail::fill_panel<turn>(weight, lanes, i);
    return lanes;
}

/// f(w, w in lanes) for random weights of every quantised type, of so many rows and so many blocks of columns.
template <detail::TurnRows turn, class F>
void for_lane_weights(Random& random, Sizes rows, Sizes blocks, F&& f) {
    for (const DType dtype : quantised) {
        CAPTURE(info(dtype).name);
        for (const std::size_t count : rows) {
            for (const std::size_t some : blocks) {
                const RandomWeight w(dtype, count, some * info(dtype).block_size, random);
                f(w, repacked<turn>(w.view));
            }
        }
    }
}

}  // namespace random_weight

#if ADAINFER_X86
using random_weight::check_lane_products;
using random_weight::check_word_tile;
#endif
using random_weight::dtypes;
using random_weight::for_lane_weights;
using random_weight::is_product;
using random_weight::put_float;
using random_weight::quantised;
using random_weight::RandomWeight;
using random_weight::repacked;
using random_weight::word_at;
using random_weight::wrong_panel_products;
