#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "adainfer/backend/simd.hpp"
#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/activation_words.hpp"
#include "adainfer/kernels/code_panel.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_dot.hpp"
#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/lane_memory.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/pack_panel.hpp"
#include "adainfer/kernels/quantize_avx512.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/kernels/word_panel_avx512.hpp"
#include "backends.hpp"
#include "random_weight.hpp"

// Weights repacked so that rows lie in lanes: the same numbers, elsewhere.

namespace test_lanes {

using namespace adainfer;

TEST_CASE("lane memory: places that do not overlap, each a cache line's, alive as long as somebody has them") {
    std::vector<std::shared_ptr<std::byte>> places;
    const std::vector<std::size_t> sizes{64, 640, std::size_t{3} << 20U, 128, std::size_t{40} << 20U, 64, std::size_t{1} << 20U};
    {
        LaneMemory memory;
        for (const std::size_t size : sizes) places.push_back(memory.take(size));
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        CHECK(reinterpret_cast<std::uintptr_t>(places[i].get()) % 64 == 0);
        std::memset(places[i].get(), static_cast<int>(i + 1), sizes[i]);
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        CHECK(std::to_integer<std::size_t>(places[i].get()[0]) == i + 1);
        CHECK(std::to_integer<std::size_t>(places[i].get()[sizes[i] - 1]) == i + 1);
    }
}

TEST_CASE("lanes: bytes of 32 rows and 256 columns, against the file's") {
    // By hand, in the file and repacked: k formats with scales of 6 bits take a byte for each.
    const auto check = [](DType dtype, std::size_t in_file, std::size_t in_lanes) {
        CAPTURE(info(dtype).name);
        CHECK(32 * row_bytes(dtype, 256) == in_file);
        LaneMemory memory;
        CHECK(LaneWeight(dtype, 32, 256, memory).bytes() == in_lanes);
        CHECK(LaneWeight(dtype, 33, 512, memory).bytes() == 4 * in_lanes);
    };
    check(DType::Q8_0, 8704, 8704);
    check(DType::Q4_0, 4608, 4608);
    check(DType::Q4_1, 5120, 5120);
    check(DType::Q5_0, 5632, 5632);
    check(DType::Q5_1, 6144, 6144);
    check(DType::Q4_K, 4608, 4736);
    check(DType::Q5_K, 5632, 5760);
    check(DType::Q6_K, 6720, 6720);
}

TEST_CASE("SimdBackend: repacked weights and those of the file agree, prompts to the last bit") {
    Random random(23);
    using enum SimdBackend::Products;
    struct Case {
        CpuLevel level;
        SimdBackend::Products products;
    };
    std::vector<Case> cases;
    for (const CpuLevel level : cpu_levels()) {
        for (const SimdBackend::Products products : {Exact, Bfloat16, Bits8}) {
            if (SimdBackend(1, level, products).products() == products) cases.push_back({level, products});
        }
    }
    for (const Case& each : cases) {
        const CpuLevel level = each.level;
        const SimdBackend::Products products = each.products;
        CAPTURE(to_string(level));
        for (const std::size_t threads : Sizes{1, 3}) {
            const SimdBackend as_is(threads, level, products, SimdBackend::Repack::No);
            const SimdBackend repacking(threads, level, products);
            std::size_t bytes = 0;
            LaneMemory memory;
            for (const DType dtype : dtypes) {
                CAPTURE(info(dtype).name);
                const std::size_t rows = 77, cols = 512;
                const RandomWeight w(dtype, rows, cols, random);
                const auto plain = as_is.prepare(w.view), packed = repacking.prepare(w.view);
                CHECK(plain.lanes.empty());
                CHECK(packed.lanes.empty() != repacking.repacks(dtype));
                if (repacking.repacks(dtype)) bytes += 96 * cols / 256 * LaneWeight(dtype, 32, 256, memory).bytes() / 32;
                for (const std::size_t tokens : Sizes{1, 2, 33, 70}) {
                    const std::vector<float> x = random.reals(tokens * cols);
                    std::vector<float> a(tokens * rows), b(tokens * rows);
                    as_is.matmul(plain, {x.data(), tokens, cols}, {a.data(), tokens, rows});
                    repacking.matmul(packed, {x.data(), tokens, cols}, {b.data(), tokens, rows});
                    if (tokens > 2) {
                        CHECK(a == b);
                        continue;
                    }
                    // Both round activations to the same 16 bits, so only the order of additions differs.
                    std::size_t wrong = 0;
                    for (std::size_t i = 0; i < a.size(); ++i) {
                        double size = 0;
                        for (std::size_t c = 0; c < cols; ++c) {
                            size += std::abs(static_cast<double>(w.values[i % rows * cols + c] * x[i / rows * cols + c]));
                        }
                        if (!(std::abs(static_cast<double>(a[i] - b[i])) <= 1e-6 * size)) ++wrong;
                    }
                    CHECK(wrong == 0);
                }
            }
            CHECK(as_is.repacked_bytes() == 0);
            CHECK(repacking.repacked_bytes() == bytes);
        }
    }
}

#if ADAINFER_X86

namespace {

bool has_avx512() { return runs(CpuLevel::Avx512, "AVX-512 VNNI"); }

}  // namespace

TEST_CASE("lanes: the values of the file, bit for bit, and the last row for those after it") {
    if (!has_avx512()) return;
    Random random(21);
    const Sizes all_rows{1, 31, 32, 70};
    for_lane_weights<detail::avx512::turn_rows>(random, all_rows, {1, 3}, [&](const RandomWeight& w, const LaneWeight& lanes) {
        const DType dtype = w.view.dtype;
        const std::size_t rows = w.view.rows, cols = w.view.cols;
        const std::size_t block = info(dtype).block_size, group = code_format(dtype).group;
        const auto bias = static_cast<float>(code_format(dtype).bias);
        const LaneWeight copy = lanes;
        CHECK(copy.panel(0) == lanes.panel(0));  // shared
        std::size_t wrong = 0;
        for (std::size_t first = 0; first < rows; first += 32) {
            for (std::size_t begin = 0; begin < cols; begin += block) {
                const std::size_t count = std::min(rows - first, std::size_t{32});
                const detail::WeightPart part{w.view, first, count, begin, block, &lanes};
                std::vector<float> floats(block * 32);
                detail::avx512::pack_panel(part, floats.data());
                const auto codes = detail::avx512::CodeTile::pack(part);
                CHECK(codes.depth == block);
                const auto words = detail::avx512::WordTile<activation_block>::pack(part);
                CHECK(words.depth == block);
                for (std::size_t r = 0; r < 32; ++r) {
                    for (std::size_t c = 0; c < block; ++c) {
                        const std::size_t row = std::min(first + r, rows - 1), g = c / group;
                        const float expected = w.values[row * cols + begin + c];
                        const float code = static_cast<float>(codes.codes[c / 4][r][c % 4]) - bias;
                        const float minimum = code_format(dtype).has_minimum ? codes.minima[g][r] : 0.0F;
                        if (floats[c * 32 + r] != expected) ++wrong;
                        if (std::fma(codes.scales[g][r], code, minimum) != expected) ++wrong;
                        const auto word = static_cast<float>(word_at(words, r, c));
                        const float least = code_format(dtype).has_minimum ? words.minima[g][r] : 0.0F;
                        if (std::fma(words.scales[g][r], word, least) != expected) ++wrong;
                    }
                }
            }
        }
        CHECK(wrong == 0);
    });
}

TEST_CASE("lanes: products of one token and more, and NaN") {
    if (!has_avx512()) return;
    Random random(22);
    for_lane_weights<detail::avx512::turn_rows>(random, {1, 32, 45}, {1, 5}, [&](const RandomWeight& w, const LaneWeight& lanes) {
        const DType dtype = w.view.dtype;
        const std::size_t cols = w.view.cols;
        std::vector<float> x = random.reals(detail::most_lane_tokens * cols);
        LaneActivations activations;
        activations.resize(detail::most_lane_tokens, cols);
        const auto assign = [&](std::size_t t) {
            activations.assign(t, {x.data() + t * cols, cols}, code_format(dtype), detail::avx512::quantize);
        };
        check_lane_products(w, lanes.panels(), x, assign, [&](std::size_t i, std::size_t t, std::size_t count, float* out) {
            detail::avx512::lane_product(dtype, lanes.panel(i), cols, activations.row(t), cols / activation_block, count, out);
        });
    });
}

TEST_CASE("words: products of many tokens with AVX-512, from the file and from lanes, and NaN") {
    if (!has_avx512()) return;
    Random random(23);
    for_lane_weights<detail::avx512::turn_rows>(random, {1, 32, 45}, {1, 9}, [&](const RandomWeight& w, const LaneWeight& lanes) {
        constexpr std::size_t tokens = 14;  // more than one tile of 12
        check_word_tile<detail::avx512::WordTile<activation_block>>(w, lanes, tokens, random);
        check_word_tile<detail::avx512::WordTile<detail::panel_depth>>(w, lanes, tokens, random);
    });
}

#endif

}  // namespace test_lanes
