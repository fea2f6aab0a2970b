#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/int8_row_avx2.hpp"
#include "adainfer/kernels/lane_dot_avx2.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/lane_weight_avx2.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/kernels/word_panel.hpp"
#include "backends.hpp"
#include "random_weight.hpp"

// Quantised weights with AVX2: repacked, multiplied with one token and with several, from the file and from lanes.

namespace test_lanes_avx2 {

using namespace adainfer;

#if ADAINFER_X86

namespace {

namespace avx2 = detail::avx2;

bool has_avx2() { return runs(CpuLevel::Avx2, "AVX2"); }

}  // namespace

TEST_CASE("AVX2 lanes: the values of the file, bit for bit, and the last row for those after it") {
    if (!has_avx2()) return;
    Random random(31);
    for_lane_weights<avx2::turn_rows>(random, {1, 32, 70}, {1, 3}, [&](const RandomWeight& w, const LaneWeight& lanes) {
        const DType dtype = w.view.dtype;
        const std::size_t rows = w.view.rows, cols = w.view.cols;
        const std::size_t block = info(dtype).block_size, group = code_format(dtype).group;
        std::size_t wrong = 0;
        for (std::size_t first = 0; first < rows; first += 32) {
            for (std::size_t begin = 0; begin < cols; begin += block) {
                const detail::WeightPart part{w.view, first, std::min(rows - first, std::size_t{32}), begin, block, &lanes};
                const avx2::WordPanels panels = avx2::WordTile::pack(part);
                for (std::size_t half = 0; half < 2; ++half) {
                    const avx2::WordPanel& panel = panels[half];
                    CHECK(panel.depth == block);
                    for (std::size_t r = 0; r < 16; ++r) {
                        for (std::size_t c = 0; c < block; ++c) {
                            const std::size_t g = c / group;
                            const auto word = static_cast<float>(word_at(panel, r, c));
                            const float minimum = code_format(dtype).has_minimum ? panel.minima[g][r] : 0.0F;
                            const std::size_t row = std::min(first + 16 * half + r, rows - 1);
                            if (std::fma(panel.scales[g][r], word, minimum) != w.values[row * cols + begin + c]) ++wrong;
                        }
                    }
                }
            }
        }
        CHECK(wrong == 0);
    });
}

TEST_CASE("AVX2 lanes: products with up to four tokens, and NaN") {
    if (!has_avx2()) return;
    Random random(34);
    for_lane_weights<avx2::turn_rows>(random, {1, 32, 45}, {1, 5}, [&](const RandomWeight& w, const LaneWeight& lanes) {
        const DType dtype = w.view.dtype;
        const std::size_t cols = w.view.cols;
        std::vector<float> x = random.reals(detail::most_lane_tokens * cols);
        avx2::ActivationWords words;
        words.resize(detail::most_lane_tokens, cols);
        const auto assign = [&](std::size_t t) { words.assign(t, {x.data() + t * cols, cols}); };
        check_lane_products(w, lanes.panels(), x, assign, [&](std::size_t i, std::size_t t, std::size_t count, float* out) {
            avx2::lane_product(dtype, lanes.panel(i), cols, words.row(t), words.blocks(), count, out);
        });
    });
}

TEST_CASE("AVX2: products of quantised weights with one token and many, and NaN") {
    if (!has_avx2()) return;
    Random random(32);
    for_lane_weights<avx2::turn_rows>(random, {1, 32, 45}, {1, 5}, [&](const RandomWeight& w, const LaneWeight& lanes) {
        const DType dtype = w.view.dtype;
        const std::size_t rows = w.view.rows, cols = w.view.cols;
        const std::size_t block = info(dtype).block_size;
        constexpr std::size_t tokens = 2 * avx2::WordTile::tokens + 1;
        std::vector<float> x = random.reals(tokens * cols);
        avx2::ActivationWords words;
        words.resize(tokens, cols);
        for (std::size_t t = 0; t < tokens; ++t) words.assign(t, {x.data() + t * cols, cols});

        std::size_t wrong = 0;
        const auto row_dot = avx2::row_dot_of(dtype);
        for (std::size_t row = 0; row < rows; ++row) {
            if (!is_product(row_dot(w.view.row(row), cols, words.row(0)), w, row, x.data())) ++wrong;
        }
        CHECK(wrong == 0);

        for (const LaneWeight* const from : {static_cast<const LaneWeight*>(nullptr), &lanes}) {
            for (std::size_t count = 1; count <= tokens; ++count) {
                wrong += wrong_panel_products(w, from, x, count, [&](const auto& part, float* out, std::size_t stride) {
                    add_word_products<avx2::WordTile>(part, words, count, out, stride);
                });
            }
        }
        CHECK(wrong == 0);

        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
            x[cols + cols / 2] = bad;  // of token 1
            words.assign(1, {x.data() + cols, cols});
            std::vector<float> out(2 * 32, 0.0F);
            const detail::WeightPart part{w.view, 0, std::min(rows, std::size_t{32}), 0, block, &lanes};
            add_word_products<avx2::WordTile>(part, words, 2, out.data(), 32);
            CHECK(std::isnan(row_dot(w.view.row(0), cols, words.row(1))));
            for (std::size_t r = 0; r < 32; ++r) {
                CHECK(std::isfinite(out[r]));
                if (cols / 2 < block) CHECK(std::isnan(out[32 + r]));
            }
        }
    });
}

TEST_CASE("ActivationWords: rounded to the nearest of 65535 steps, tiny blocks are zero") {
    if (!has_avx2()) return;
    Random random(33);
    constexpr std::array<std::size_t, 4> place{0, 2, 1, 3};
    for (const float spread : {1.0F, 1e-30F, 1e30F}) {
        const std::vector<float> x = random.reals(64, spread);
        avx2::ActivationWords words;
        words.resize(1, 64);
        words.assign(0, x);
        CHECK(words.blocks() == 2);
        for (std::size_t b = 0; b < 2; ++b) {
            const avx2::WordBlock& block = words.row(0)[b];
            double sums[2] = {};
            for (std::size_t i = 0; i < 32; ++i) {
                const std::int16_t word = block.words[i / 4 * 4 + place[i % 4]];
                const double step = static_cast<double>(block.scale);
                CHECK(std::abs(step * word - static_cast<double>(x[32 * b + i])) <= 0.51 * step);
                sums[i / 16] += word;
            }
            CHECK(block.sums[0] == sums[0]);
            CHECK(block.sums[1] == sums[1]);
            CHECK(static_cast<double>(block.sum) == doctest::Approx(static_cast<double>(block.scale) * (sums[0] + sums[1])));
        }
    }
    avx2::WordBlock block;
    const std::vector<float> tiny(32, 1e-38F);
    avx2::quantize(tiny.data(), block);
    CHECK(block.scale == 0.0F);
    CHECK(std::all_of(block.words, block.words + 32, [](std::int16_t word) { return word == 0; }));
}

#else

TEST_CASE("AVX2") { MESSAGE("skipped: this is no x86-64 machine"); }

#endif

}  // namespace test_lanes_avx2
