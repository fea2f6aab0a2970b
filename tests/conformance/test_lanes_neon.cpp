#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row_neon.hpp"
#include "adainfer/kernels/lane_dot.hpp"
#include "adainfer/kernels/lane_dot_neon.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/lane_weight_neon.hpp"
#include "adainfer/kernels/quantize_neon.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "backends.hpp"
#include "random_weight.hpp"

// Quantised weights with NEON: repacked, multiplied with one token and with several, from the file and from lanes.

namespace test_lanes_neon {

using namespace adainfer;

#if ADAINFER_ARM64

namespace {

namespace neon = detail::neon;

bool has_neon() { return runs(CpuLevel::Neon, "dot products"); }

}  // namespace

TEST_CASE("NEON: products of quantised weights with one token and more, and NaN") {
    if (!has_neon()) return;
    Random random(42);
    for_lane_weights<neon::turn_rows>(random, {1, 32, 45}, {1, 5}, [&](const RandomWeight& w, const LaneWeight& lanes) {
        const DType dtype = w.view.dtype;
        const std::size_t rows = w.view.rows, cols = w.view.cols;
        const std::size_t block = info(dtype).block_size;
        constexpr std::size_t tokens = 7;  // 4, 2 and 1
        const std::size_t blocks = cols / activation_block;
        std::vector<float> x = random.reals(tokens * cols);
        LaneActivations activations;
        activations.resize(tokens, cols);
        const auto assign = [&](std::size_t t) {
            activations.assign(t, {x.data() + t * cols, cols}, neon::signed_format(dtype), neon::quantize);
        };
        for (std::size_t t = 0; t < tokens; ++t) assign(t);

        std::size_t wrong = 0;
        const auto row_dot = neon::row_dot_of(dtype);
        for (std::size_t row = 0; row < rows; ++row) {
            if (!is_product(row_dot(w.view.row(row), cols, activations.row(0)), w, row, x.data())) ++wrong;
        }
        CHECK(wrong == 0);

        // Adds a part's products with `count` tokens to what stands in out.
        const auto add = [&](const detail::WeightPart& part, std::size_t count, float* out, std::size_t stride) {
            const LaneActivations::Block* const from = activations.row(0) + part.begin / activation_block;
            neon::lane_products(dtype, part.blocks(), part.depth / activation_block, from, blocks, count, out, stride);
        };
        // Panel i times `count` tokens, in parts of `part` blocks of the weight.
        constexpr std::size_t stride = 37;
        const auto multiply = [&](std::size_t i, std::size_t count, std::size_t part) {
            std::vector<float> out(count * stride, 0.0F);
            for (std::size_t begin = 0; begin < cols; begin += part * block) {
                const std::size_t here = std::min(rows - 32 * i, std::size_t{32}), depth = std::min(part * block, cols - begin);
                add({w.view, 32 * i, here, begin, depth, &lanes}, count, out.data(), stride);
            }
            return out;
        };
        for (std::size_t count = 1; count <= tokens; ++count) {
            for (std::size_t i = 0; i < lanes.panels(); ++i) CHECK(multiply(i, count, 1) == multiply(i, count, 5));
            wrong += wrong_panel_products(w, &lanes, x, count, [&](const auto& part, float* out, std::size_t y_stride) {
                add(part, count, out, y_stride);
            });
        }
        CHECK(wrong == 0);

        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
            x[cols + cols / 2] = bad;  // of token 1
            assign(1);
            const std::vector<float> out = multiply(0, 2, 5);
            CHECK(std::isnan(row_dot(w.view.row(0), cols, activations.row(1))));
            for (std::size_t r = 0; r < 32; ++r) {
                CHECK(std::isfinite(out[r]));
                CHECK(std::isnan(out[stride + r]));
            }
        }
    });
}

TEST_CASE("NEON: activations as quantize_block() has them, but for what rounds the other way") {
    Random random(43);
    for (const float spread : {1.0F, 1e-30F, 1e30F, 1e-37F}) {
        CAPTURE(spread);
        const std::vector<float> x = random.reals(activation_block, spread);
        ActivationBlock found, expected;
        neon::quantize(x.data(), found);
        quantize_block(x.data(), expected);
        CHECK(found.scale == expected.scale);
        for (std::size_t i = 0; i < activation_block; ++i) {
            const auto in_rests = [&](const ActivationBlock& b) { return b.codes[i] * static_cast<int>(rest_steps) + b.rests[i]; };
            CHECK(std::abs(in_rests(found) - in_rests(expected)) <= 1);
        }
        for (std::size_t q = 0; q < activation_block / 4; ++q) {
            std::int32_t codes = 0, rests = 0;
            for (std::size_t i = 4 * q; i < 4 * q + 4; ++i) {
                codes += found.codes[i];
                rests += found.rests[i];
            }
            CHECK(found.sums[q] == codes);
            CHECK(found.rest_sums[q] == rests);
        }
    }
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        std::vector<float> x = random.reals(activation_block);
        x[17] = bad;
        ActivationBlock block;
        neon::quantize(x.data(), block);
        CHECK(std::isnan(block.scale));
        CHECK(std::all_of(block.codes, block.codes + activation_block, [](std::int8_t code) { return code == 0; }));
    }
}

#else

TEST_CASE("NEON") { MESSAGE("skipped: this is no 64-bit Arm machine"); }

#endif

}  // namespace test_lanes_neon
