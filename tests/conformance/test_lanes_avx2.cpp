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
#include "adainfer/kernels/panel_tile.hpp"
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
                const avx2::WordPanels panels = avx2::WordTile<activation_block>::pack(part);
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
        std::vector<float> x = random.reals(cols);
        avx2::ActivationWords words;
        words.resize(1, cols);
        words.assign(0, x);
        const auto row_dot = avx2::row_dot_of(dtype);
        std::size_t wrong = 0;
        for (std::size_t row = 0; row < rows; ++row) {
            if (!is_product(row_dot(w.view.row(row), cols, words.row(0)), w, row, x.data())) ++wrong;
        }
        CHECK(wrong == 0);
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
            x[cols / 2] = bad;
            words.assign(0, x);
            CHECK(std::isnan(row_dot(w.view.row(0), cols, words.row(0))));
        }

        constexpr std::size_t tokens = 9;  // two tiles of four and one more
        check_word_tile<avx2::WordTile<activation_block>>(w, lanes, tokens, random);
        check_word_tile<avx2::WordTile<detail::panel_depth>>(w, lanes, tokens, random);
    });
}

TEST_CASE("ActivationWords: rounded to the nearest of 65535 steps") {
    if (!has_avx2()) return;
    Random random(33);
    constexpr std::array<std::size_t, 4> place{0, 2, 1, 3};
    for (const float spread : {1.0F, 1e-30F, 1e30F}) {
        for (const std::size_t together : Sizes{32, 64, 256}) {
            const std::vector<float> x = random.reals(160, spread);
            avx2::ActivationWords words;
            words.resize(1, x.size());
            words.assign(0, x, together);
            CHECK(words.blocks() == 5);
            for (std::size_t b = 0; b < 5; ++b) {
                const avx2::WordBlock& block = words.row(0)[b];
                float most = 0;  // of what is under the same scale
                for (std::size_t i = 32 * b / together * together; i < std::min((32 * b / together + 1) * together, x.size()); ++i) {
                    most = std::max(most, std::abs(x[i]));
                }
                CHECK(block.scale == doctest::Approx(most / 32767).epsilon(1e-6));
                double sums[2] = {};
                for (std::size_t i = 0; i < 32; ++i) {
                    const std::int16_t word = block.words[i / 4 * 4 + place[i % 4]];
                    const double step = static_cast<double>(block.scale);
                    CHECK(std::abs(step * word - static_cast<double>(x[32 * b + i])) <= 0.51 * step);
                    sums[i / 16] += word;
                }
                CHECK(block.sums[0] == sums[0]);
                CHECK(block.sums[1] == sums[1]);
                CHECK(static_cast<double>(block.sum) == sums[0] + sums[1]);
            }
        }
    }
}

TEST_CASE("ActivationWords: tiny values count as zero, a NaN or an infinity spoils what is under its scale") {
    if (!has_avx2()) return;
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        std::vector<float> x(192, 1e-38F);
        x[70] = bad;
        x[128] = 1.0F;
        avx2::ActivationWords words;
        words.resize(1, x.size());
        words.assign(0, x, 64);
        for (std::size_t b = 0; b < 6; ++b) {
            CAPTURE(b);
            const avx2::WordBlock& block = words.row(0)[b];
            CHECK(std::isnan(block.scale) == (b == 2 || b == 3));
            CHECK((block.scale == 0.0F) == (b < 2));
            CHECK(std::count(block.words, block.words + 32, 0) == (b == 4 ? 31 : 32));
        }
        CHECK(words.row(0)[4].words[0] == 32767);
    }
}

#else

TEST_CASE("AVX2") { MESSAGE("skipped: this is no x86-64 machine"); }

#endif

}  // namespace test_lanes_avx2
