#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/backend/simd.hpp"
#include "adainfer/kernels/amx_tile.hpp"
#include "adainfer/kernels/bfloat_product.hpp"
#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/pack_bfloat.hpp"
#include "adainfer/tensor/half.hpp"
#include "backends.hpp"
#include "random_weight.hpp"

// Products in bfloat16: rounding, packing, the tile; test_backends.cpp holds the whole to the other backends' rules.

namespace test_bfloat {

using namespace adainfer;
using Products = SimdBackend::Products;

TEST_CASE("products: what is asked for, or what the machine and the level have") {
    for (const CpuLevel level : cpu_levels()) {
        CAPTURE(to_string(level));
        const bool amx = level == CpuLevel::Amx, avx512 = amx || level == CpuLevel::Avx512, words = avx512 || level == CpuLevel::Avx2;
        const auto got = [&](Products asked) { return SimdBackend(1, level, asked).products(); };
        CHECK(got(Products::Exact) == Products::Exact);
        CHECK(got(Products::Bits8) == (avx512 ? Products::Bits8 : Products::Exact));
        CHECK(got(Products::Bfloat16) == (avx512 && has_bfloat16() ? Products::Bfloat16 : Products::Exact));
        CHECK(got(Products::Bits12) == (words ? Products::Bits12 : Products::Exact));
        CHECK(got(Products::Fast) == (amx || (avx512 && has_fast_bfloat16()) ? Products::Bfloat16 : got(Products::Bits12)));
        CHECK(SimdBackend(1, level).products() == got(Products::Fast));
        const SimdBackend bfloat16(1, level, Products::Bfloat16), bits12(1, level, Products::Bits12), bits8(1, level, Products::Bits8);
        for (const DType dtype : {DType::F32, DType::Q4_K}) {
            CHECK(bfloat16.products_of(dtype, 2) == Products::Exact);
            CHECK(bfloat16.products_of(dtype, 25) == bfloat16.products());
        }
        CHECK(bits12.products_of(DType::Q4_K, 25) == bits12.products());
        CHECK(bits12.products_of(DType::F32, 2) == Products::Exact);
        CHECK(bits12.products_of(DType::F32, 3) == bits12.products());
        CHECK(bits8.products_of(DType::Q4_K, 25) == bits8.products());
        CHECK(bits8.products_of(DType::F32, 3) == Products::Exact);
    }
    CHECK((!has_fast_bfloat16() || has_bfloat16()));
    CHECK((!has_level(CpuLevel::Amx) || has_bfloat16()));
}

#if ADAINFER_X86

namespace {

using namespace detail::avx512;

/// False, with a message, on a machine without the instructions.
bool here(CpuLevel level = CpuLevel::Avx512) {
    if (has_bfloat16() && has_level(level)) return true;
    MESSAGE("skipped: this machine has no " << std::string(level == CpuLevel::Amx ? "AMX" : "AVX512-BF16"));
    return false;
}

/// A tile and the level that multiplies with it.
struct Vectors {
    using Tile = BfloatTile;
    static constexpr CpuLevel level = CpuLevel::Avx512;
};
struct Tiles {
    using Tile = AmxTile;
    static constexpr CpuLevel level = CpuLevel::Amx;
};

float low(std::uint32_t pair) { return bf16_to_f32(static_cast<std::uint16_t>(pair)); }
float high(std::uint32_t pair) { return bf16_to_f32(static_cast<std::uint16_t>(pair >> 16U)); }

}  // namespace

TEST_CASE("bfloat16: activations round to nearest, ties to even") {
    if (!here()) return;
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    // Steps of 2^-7 between 1 and 2.
    const std::vector<std::array<float, 2>> cases{
        {1.0F, 1.0F}, {1 + 0x1p-8F, 1.0F}, {1 + 0x3p-8F, 1 + 0x1p-6F}, {1 + 0x1p-8F + 0x1p-20F, 1 + 0x1p-7F}, {-1 - 0x3p-8F, -1 - 0x1p-6F},
        {1e-30F, 0x1.44p-100F}, {inf, inf}, {-inf, -inf}, {std::numeric_limits<float>::max(), inf}, {0x1.fep127F, 0x1.fep127F}, {0x1p-127F, 0.0F}};
    for (std::size_t cols = 1; cols < 70; ++cols) {
        CAPTURE(cols);
        std::vector<float> x;
        for (std::size_t i = 0; i < cols; ++i) x.push_back(cases[i % cases.size()][0]);
        BfloatRows<1> rows;
        rows.resize(2, cols);
        rows.assign(0, std::vector<float>(cols, nan));
        rows.assign(1, x);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < cols; ++i) {
            const auto at = [&](std::size_t row) { return i % 2 == 0 ? low(*rows.row(row, i / 2)) : high(*rows.row(row, i / 2)); };
            if (at(1) != cases[i % cases.size()][1] || !std::isnan(at(0))) ++wrong;
        }
        CHECK(wrong == 0);
        if (cols % 2 == 1) CHECK(high(*rows.row(1, cols / 2)) == 0.0F);
    }
}

TEST_CASE_TEMPLATE("bfloat16: a tile of one token to as many as it takes", Unit, Vectors, Tiles) {
    if (!here(Unit::level)) return;
    Random random(1);
    const auto panel = std::make_unique<BfloatPanel>();
    for (std::size_t tokens = 1; tokens <= Unit::Tile::tokens; ++tokens) {
        for (const std::size_t pairs : Sizes{1, 2, 17, 256, BfloatPanel::most_columns / 2}) {
            CAPTURE(tokens);
            CAPTURE(pairs);
            panel->pairs = pairs;
            for (std::size_t p = 0; p < pairs; ++p) {
                for (std::uint32_t& two : panel->values[p]) {
                    two = std::bit_cast<std::uint32_t>(random.real()) >> 16U | (std::bit_cast<std::uint32_t>(random.real()) & 0xFFFF0000U);
                }
            }
            pad_panel(*panel);
            typename Unit::Tile::Rows x;
            x.resize(tokens, 2 * pairs);
            for (std::size_t t = 0; t < tokens; ++t) x.assign(t, random.reals(2 * pairs));
            constexpr std::size_t stride = 35;
            const std::vector<float> before = random.reals(tokens * stride), sums = random.reals(tokens * BfloatPanel::lanes);
            std::vector<float> y = before, from_zero = before;
            typename Unit::Tile::Unit unit;
            unit.run(tokens, BfloatTask{panel->values, panel->pairs, sums.data()}, x.row(0, 0), x.stride(), y.data(), stride);
            unit.run(tokens, BfloatTask{panel->values, panel->pairs}, x.row(0, 0), x.stride(), from_zero.data(), stride);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < y.size(); ++i) {
                const std::size_t lane = i % stride;
                const double base = static_cast<double>(lane < 32 ? sums[i / stride * 32 + lane] : before[i]);
                double sum = base, size = std::abs(sum);
                for (std::size_t p = 0; p < pairs && lane < 32; ++p) {
                    const std::uint32_t w = panel->values[p][lane], a = *x.row(i / stride, p);
                    const double first = static_cast<double>(low(w)) * static_cast<double>(low(a));
                    const double second = static_cast<double>(high(w)) * static_cast<double>(high(a));
                    sum += first + second;
                    size += std::abs(first) + std::abs(second);
                }
                if (std::abs(static_cast<double>(y[i]) - sum) > (lane < 32 ? 2e-6 * size : 0.0)) ++wrong;
                if (lane < 32) sum -= base;
                if (std::abs(static_cast<double>(from_zero[i]) - sum) > (lane < 32 ? 2e-6 * size : 0.0)) ++wrong;
            }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("bfloat16: every storage type packs to the nearest numbers, rows that are missing repeat the last") {
    if (!here()) return;
    Random random(4);
    const auto panel = std::make_unique<BfloatPanel>();
    for (const DType dtype : dtypes) {
        CAPTURE(info(dtype).name);
        const std::size_t block = info(dtype).block_size;
        for (const std::size_t depth : Sizes{block, block == 256 ? 512 : 3 * block, block == 1 ? std::size_t{37} : 256, 512}) {
            for (const std::size_t count : Sizes{1, 15, 32}) {
                CAPTURE(depth);
                CAPTURE(count);
                const RandomWeight w(dtype, 40, 1024, random);
                pack_bfloat({w.view, 8, count, 256, depth}, *panel);
                CHECK(panel->pairs == (depth + 1) / 2);
                std::size_t wrong = 0;
                for (std::size_t lane = 0; lane < 32; ++lane) {
                    for (std::size_t i = 0; i < 2 * panel->pairs; ++i) {
                        const std::uint32_t pair = panel->values[i / 2][lane];
                        const float found = i % 2 == 0 ? low(pair) : high(pair);
                        const float value = i < depth ? w.values[(8 + std::min(lane, count - 1)) * 1024 + 256 + i] : 0.0F;
                        const float expected = to_bfloat16(value);
                        // A sum with a minimum is itself rounded, so either neighbour of a tie may be the nearest.
                        const float slack = code_format(dtype).has_minimum ? 0x1p-7F * std::abs(expected) + 1e-6F : 0.0F;
                        if (!(std::abs(found - expected) <= slack)) ++wrong;
                    }
                }
                CHECK(wrong == 0);
            }
        }
    }
}

TEST_CASE("bfloat16: a repacked weight packs to the same bits") {
    if (!here()) return;
    Random random(2);
    const auto panel = std::make_unique<BfloatPanel>(), expected = std::make_unique<BfloatPanel>();
    for (const DType dtype : dtypes) {
        if (!is_quantised(dtype)) continue;
        CAPTURE(info(dtype).name);
        const RandomWeight w(dtype, 64, 768, random);
        const LaneWeight lanes = repacked<turn_rows>(w.view);
        for (const std::size_t depth : Sizes{256, 512}) {
            const detail::WeightPart part{w.view, 32, 32, 256, depth};
            pack_bfloat(part, *expected);
            pack_bfloat({w.view, 32, 32, 256, depth, &lanes}, *panel);
            CHECK(panel->pairs == depth / 2);
            CHECK(std::memcmp(panel->values, expected->values, depth / 2 * sizeof panel->values[0]) == 0);
        }
    }
}

TEST_CASE_TEMPLATE("bfloat16: split in two, floats are multiplied nearly as exactly as in float", Unit, Vectors, Tiles) {
    if (!here(Unit::level)) return;
    Random random(5);
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16}) {
        for (const std::size_t cols : Sizes{1, 2, 37, 576, 1100}) {
            for (const std::size_t rows : Sizes{1, 33, 70}) {
                for (const std::size_t tokens : Sizes{1, 13, 40}) {
                    CAPTURE(info(dtype).name);
                    CAPTURE(cols);
                    CAPTURE(rows);
                    CAPTURE(tokens);
                    const RandomWeight w(dtype, rows, cols, random);
                    const std::vector<float> x = random.reals(tokens * cols);
                    typename Unit::Tile::Rows nearest, rests;
                    nearest.resize(tokens, cols);
                    rests.resize(tokens, cols);
                    for (std::size_t t = 0; t < tokens; ++t) {
                        nearest.assign(t, {x.data() + t * cols, cols});
                        rests.template assign<true>(t, {x.data() + t * cols, cols});
                    }
                    std::vector<float> y(tokens * rows), scratch(tokens * BfloatPanel::lanes);
                    const std::size_t panels = (rows + BfloatPanel::lanes - 1) / BfloatPanel::lanes;
                    split_product<typename Unit::Tile>(w.view, nearest, rests, 0, panels, {y.data(), tokens, rows}, scratch.data());
                    std::size_t wrong = 0;
                    for (std::size_t i = 0; i < y.size(); ++i) {
                        double sum = 0, size = 0;
                        for (std::size_t c = 0; c < cols; ++c) {
                            const double product = static_cast<double>(w.values[i % rows * cols + c]) *
                                                   static_cast<double>(x[i / rows * cols + c]);
                            sum += product;
                            size += std::abs(product);
                        }
                        // 2^-16 each for what is left out and for rounding the rests, and the sum's own rounding.
                        if (!(std::abs(static_cast<double>(y[i]) - sum) <= (0x1p-15 + 2e-6) * size)) ++wrong;
                    }
                    CHECK(wrong == 0);
                    if (Unit::level != CpuLevel::Amx || tokens < 3) continue;
                    std::vector<float> found(y.size());
                    SimdBackend(2, CpuLevel::Amx, Products::Exact).matmul(w.view, {x.data(), tokens, cols}, {found.data(), tokens, rows});
                    CHECK(found == y);
                }
            }
        }
    }
}

TEST_CASE("bfloat16: the rest of a number, and none of infinity and NaN") {
    if (!here()) return;
    constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> x{1 + 0x1p-8F, -1 - 0x3p-8F, 1 + 0x1p-9F + 0x1p-20F, 3.0F, inf, -inf, nan};
    const std::vector<float> expected{0x1p-8F, 0x1p-8F, 0x1p-9F, 0, 0, 0, 0};  // 2^-9 + 2^-20 rounds to eight bits
    BfloatRows<1> rows;
    rows.resize(1, x.size());
    rows.assign<true>(0, x);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK((i % 2 == 0 ? low(*rows.row(0, i / 2)) : high(*rows.row(0, i / 2))) == expected[i]);
}

TEST_CASE_TEMPLATE("bfloat16: infinity in weights and activations", Unit, Vectors, Tiles) {
    if (!here(Unit::level)) return;
    constexpr float inf = std::numeric_limits<float>::infinity();
    for (const std::size_t cols : Sizes{7, 40}) {
        std::vector<float> w(3 * cols, 1.0F), x(4 * cols, 1.0F), y(12);
        w[cols + 6] = -inf;
        x[2 * cols + 3] = inf;
        const SimdBackend backend(1, Unit::level, Products::Bfloat16);
        const WeightView view{DType::F32, 3, cols, reinterpret_cast<const std::byte*>(w.data())};
        backend.matmul(view, {x.data(), 4, cols}, {y.data(), 4, 3});
        for (std::size_t t = 0; t < 4; ++t) {
            CHECK(y[3 * t] == (t == 2 ? inf : static_cast<float>(cols)));
            CHECK(y[3 * t + 2] == y[3 * t]);
            if (t == 2) CHECK(std::isnan(y[3 * t + 1]));  // inf - inf
            else CHECK(y[3 * t + 1] == -inf);
        }
    }
}

TEST_CASE_TEMPLATE("bfloat16: neither the number of tokens nor of threads changes a bit of a token", Unit, Vectors, Tiles) {
    if (!here(Unit::level)) return;
    Random random(3);
    // 300 tokens are more than stay in the second cache, 100 are not.
    constexpr std::size_t tokens = 300, part = 100, rows = 297, cols = 1024;
    for (const DType dtype : {DType::Q4_K, DType::F16}) {
        const RandomWeight w(dtype, rows, cols, random);
        const auto x = random.reals(tokens * cols);
        std::vector<float> expected(tokens * rows);
        for (std::size_t t = 0; t < tokens; t += part) {
            SimdBackend(1, Unit::level, Products::Bfloat16)
                .matmul(w.view, {x.data() + t * cols, part, cols}, {expected.data() + t * rows, part, rows});
        }
        for (const std::size_t threads : Sizes{1, 2, 3}) {
            std::vector<float> y(tokens * rows);
            SimdBackend(threads, Unit::level, Products::Bfloat16).matmul(w.view, {x.data(), tokens, cols}, {y.data(), tokens, rows});
            CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0);
        }
    }
}

TEST_CASE_TEMPLATE("bfloat16: a gated feed-forward network in one is what it is step by step", Unit, Vectors, Tiles) {
    if (!here(Unit::level)) return;
    Random random(6);
    struct Case {
        DType in, out;
        std::size_t cols, width;
    };
    for (const Case& c : {Case{DType::F32, DType::F32, 37, 33}, {DType::Q4_1, DType::Q4_1, 576, 1536}, {DType::Q5_0, DType::Q6_K, 640, 768},
                          {DType::BF16, DType::Q8_0, 1300, 160}}) {
        for (const std::size_t tokens : Sizes{25, 48, c.cols == 1300 ? std::size_t{500} : 70}) {  // 500: more than stay in the cache
            CAPTURE(info(c.in).name);
            CAPTURE(tokens);
            const RandomWeight gate(c.in, c.width, c.cols, random), up(c.in, c.width, c.cols, random), down(c.out, 50, c.width, random);
            const std::vector<float> x = random.reals(tokens * c.cols);
            for (const Activation activation : {Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu}) {
                for (const auto repack : {SimdBackend::Repack::Yes, SimdBackend::Repack::No}) {
                    const SimdBackend backend(2, Unit::level, Products::Bfloat16, repack);
                    const auto g = backend.prepare(gate.view), u = backend.prepare(up.view), d = backend.prepare(down.view);
                    const MatrixView<const float> input(x.data(), tokens, c.cols);
                    std::vector<float> inner(tokens * c.width), other(tokens * c.width), expected(tokens * 50), found(tokens * 50);
                    backend.matmul(g, input, {inner.data(), tokens, c.width});
                    backend.matmul(u, input, {other.data(), tokens, c.width});
                    backend.gate(activation, {other.data(), tokens, c.width}, {inner.data(), tokens, c.width});
                    backend.matmul(d, {inner.data(), tokens, c.width}, {expected.data(), tokens, 50});
                    CHECK(backend.gated_feed_forward({g, u, d}, activation, input, {found.data(), tokens, 50}));
                    CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
                }
            }
        }
    }
}

TEST_CASE("gated feed-forward network: left to the caller where products do not round to bfloat16") {
    Random random(7);
    const RandomWeight gate(DType::Q4_0, 64, 32, random), down(DType::Q4_0, 8, 64, random);
    const std::vector<float> x = random.reals(30 * 32);
    for (const CpuLevel level : cpu_levels()) {
        for (const Products products : {Products::Exact, Products::Bits12, Products::Bits8, Products::Bfloat16}) {
            for (const std::size_t tokens : Sizes{1, 2, 24, 30}) {
                const SimdBackend backend(1, level, products);
                const auto g = backend.prepare(gate.view), d = backend.prepare(down.view);
                std::vector<float> y(tokens * 8, 5.0F);
                const bool done = backend.gated_feed_forward({g, g, d}, Activation::Silu, {x.data(), tokens, 32}, {y.data(), tokens, 8});
                CHECK(done == (backend.products() == Products::Bfloat16 && tokens == 30));
                CHECK((done || y == std::vector<float>(tokens * 8, 5.0F)));
            }
        }
    }
}

#endif

}  // namespace test_bfloat
