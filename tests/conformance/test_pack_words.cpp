#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/pack_words.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/kernels/word_panel.hpp"
#include "adainfer/kernels/word_panel_avx512.hpp"
#include "backends.hpp"
#include "random_weight.hpp"

// Weights of floats rounded to words; test_backends.cpp multiplies with them.

namespace test_pack_words {

using namespace adainfer;

#if ADAINFER_X86

namespace {

/// Rows of a packed part as AVX2 holds them, and as AVX-512 does.
struct Avx2 {
    static constexpr CpuLevel level = CpuLevel::Avx2;
    static constexpr std::size_t lanes = detail::avx2::WordPanel::lanes;
    detail::avx2::WordPanels panels;

    explicit Avx2(const detail::WeightPart& part) : panels(detail::avx2::rounded_words(part)) {}
    [[nodiscard]] const detail::avx2::WordPanel& panel(std::size_t row) const { return panels[row / lanes]; }
};
struct Avx512 {
    static constexpr CpuLevel level = CpuLevel::Avx512;
    static constexpr std::size_t lanes = detail::avx512::WordPanel::lanes;
    detail::avx512::WordPanel only;

    explicit Avx512(const detail::WeightPart& part) : only(detail::avx512::rounded_words(part)) {}
    [[nodiscard]] const detail::avx512::WordPanel& panel(std::size_t) const { return only; }
};

/// f(words, part) for every part of a weight.
template <class Words, class F>
void for_parts(const RandomWeight& w, F&& f) {
    for (std::size_t first = 0; first < w.view.rows; first += 32) {
        for (std::size_t begin = 0; begin < w.view.cols; begin += detail::panel_depth) {
            const detail::WeightPart part{w.view, first, std::min(w.view.rows - first, std::size_t{32}), begin,
                                          std::min(w.view.cols - begin, detail::panel_depth)};
            f(Words(part), part);
        }
    }
}

template <class Words>
int word(const Words& words, std::size_t r, std::size_t c) {
    return word_at(words.panel(r), r % Words::lanes, c);
}

template <class Words>
float scale(const Words& words, std::size_t r, std::size_t c) {
    return words.panel(r).scales[c / 32][r % Words::lanes];
}

template <class Words>
void check_rounding() {
    if (!runs(Words::level, std::string(to_string(Words::level)))) return;
    Random random(61);
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
        CAPTURE(info(dtype).name);
        for (const std::size_t rows : Sizes{1, 8, 32, 45}) {
            for (const std::size_t cols : Sizes{32, 96, 320}) {
                const RandomWeight w(dtype, rows, cols, random);
                std::size_t wrong = 0;
                for_parts<Words>(w, [&](const Words& words, const detail::WeightPart& part) {
                    for (std::size_t r = 0; r < 32; ++r) {
                        const float* const values = w.values.data() + std::min(part.first + r, rows - 1) * cols + part.begin;
                        CHECK(words.panel(r).depth == part.depth);
                        for (std::size_t g = 0; g < part.depth; g += 32) {
                            float largest = 0;
                            for (std::size_t c = g; c < g + 32; ++c) largest = std::max(largest, std::abs(values[c]));
                            const float step = scale(words, r, g);
                            if (!(std::abs(step - largest / 2047) <= 1e-6F * step)) ++wrong;
                            int most = 0;
                            for (std::size_t c = g; c < g + 32; ++c) {
                                const int rounded = word(words, r, c);
                                most = std::max(most, std::abs(rounded));
                                if (!(std::abs(static_cast<float>(rounded) * step - values[c]) <= 0.5005F * step)) ++wrong;
                            }
                            if (most != 2047) ++wrong;
                        }
                    }
                });
                CHECK(wrong == 0);
            }
        }
    }
}

template <class Words>
void check_bad_weights() {
    if (!has_level(Words::level)) return;
    Random random(62);
    constexpr std::size_t rows = 40, cols = 96;
    constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
        CAPTURE(info(dtype).name);
        RandomWeight w(dtype, rows, cols, random);
        const auto put = [&](std::size_t row, std::size_t col, float value) {
            put_float(dtype, w.bytes.data() + (row * cols + col) * info(dtype).block_bytes, value);
        };
        put(3, 40, nan);
        put(17, 31, infinity);
        put(33, 64, -infinity);
        for (std::size_t c = 0; c < 32; ++c) put(20, c, 0.0F);
        for (std::size_t c = 32; c < 64; ++c) put(21, c, dtype == DType::F16 ? 0x1p-24F : 0x1p-126F);  // the first is no tiny float
        std::size_t wrong = 0;
        for_parts<Words>(w, [&](const Words& words, const detail::WeightPart& part) {
            for (std::size_t r = 0; r < part.count; ++r) {
                for (std::size_t c = 0; c < cols; ++c) {
                    const std::size_t row = part.first + r, g = c / 32;
                    const bool bad = (row == 3 && g == 1) || (row == 17 && g == 0) || (row == 33 && g == 2);
                    const bool zero = (row == 20 && g == 0) || (row == 21 && g == 1 && dtype != DType::F16);
                    const float step = scale(words, r, c);
                    if (std::isnan(step) != bad || (step == 0.0F) != zero) ++wrong;
                    if (zero && word(words, r, c) != 0) ++wrong;
                    if (row == 21 && g == 1 && dtype == DType::F16 && word(words, r, c) != 2047) ++wrong;
                }
            }
        });
        CHECK(wrong == 0);
    }
}

}  // namespace

TEST_CASE("words of float weights: the nearest of 4095 steps, the largest of 32 is the last; the last row for those after it") {
    check_rounding<Avx2>();
    check_rounding<Avx512>();
}

TEST_CASE("words of float weights: NaN and infinity make their scale NaN, what is too small counts as zero") {
    check_bad_weights<Avx2>();
    check_bad_weights<Avx512>();
}

#endif

}  // namespace test_pack_words
