#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/early_exit/lens_matrix.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "errors.hpp"

namespace test_lens_matrix {

namespace {

using namespace adainfer;

LensCodes random_codes(std::size_t in, std::size_t out, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> code(-128, 127);
    std::normal_distribution<float> normal;
    LensCodes map;
    for (std::size_t i = 0; i < in * out; ++i) map.codes.push_back(static_cast<std::int8_t>(code(random)));
    for (std::size_t i = 0; i < in; ++i) map.row_scales.push_back(normal(random) / 128);
    for (std::size_t j = 0; j < out; ++j) map.bias.push_back(normal(random));
    return map;
}

std::vector<float> random_state(std::size_t n, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 5);
    std::vector<float> state(n);
    for (float& value : state) value = normal(random);
    return state;
}

/// What a lens asks of a decoder: a backend of some level, with some threads.
struct Machine {
    struct Backend {
        CpuLevel at;
        std::shared_ptr<ThreadPool> pool;

        CpuLevel level() const { return at; }
        template <class F>
        void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
            pool->parallel_for(n, grain, f);
        }
    };

    explicit Machine(CpuLevel level, std::size_t threads = 1) : machine{level, std::make_shared<ThreadPool>(threads)} {}
    const Backend& backend() const { return machine; }

    Backend machine;
};

/// out [j] = bias [j] + the sum over i of x[i] / (rms(x) + 1e-6) * map[i, j], in double precision, and what a sum in floats may
/// be off by: n roundings of products and sums, and some of the scale.
struct Sums {
    std::vector<double> value, allowed;

    Sums(const std::vector<float>& map, const std::vector<float>& x) {
        const std::size_t n = x.size();
        double squares = 0;
        for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
        const double scale = 1 / (std::sqrt(squares / static_cast<double>(n)) + 1e-6);
        for (std::size_t j = 0; j < n; ++j) {
            double sum = static_cast<double>(map[n * n + j]), size = std::abs(sum);
            for (std::size_t i = 0; i < n; ++i) {
                const double term = static_cast<double>(x[i]) * scale * static_cast<double>(map[i * n + j]);
                sum += term;
                size += std::abs(term);
            }
            value.push_back(sum);
            allowed.push_back(static_cast<double>(n + 16) * 0x1p-24 * size);
        }
    }
};

}  // namespace

TEST_CASE("lens matrix: a map in 8 bits and its floats") {
    const LensMatrix codes(LensCodes{{1, -2, 127, -128, 0, 3}, {0.5F, -2, 0}, {7, 8}});  // [3, 2]
    CHECK(codes.to_floats() == std::vector<float>{0.5F, -1, -254, 256, 0, 0, 7, 8});
    CHECK(codes.size() == 8);
    CHECK(codes.bytes() == 6 + 4 * (3 + 2));
    REQUIRE(codes.codes() != nullptr);
    CHECK(codes.codes()->codes == std::vector<std::int8_t>{1, -2, 127, -128, 0, 3});
    const LensMatrix floats(codes.to_floats());
    CHECK(floats.to_floats() == codes.to_floats());
    CHECK(floats.size() == 8);
    CHECK(floats.bytes() == 32);
    CHECK(floats.codes() == nullptr);
    CHECK(LensMatrix().size() == 0);
    CHECK(LensMatrix().to_floats().empty());
}

TEST_CASE("lens matrix: what is no map") {
    CHECK(contains(error_of(ErrorCode::InvalidArgument, [] { LensMatrix(LensCodes{{1, 2, 3}, {1, 1}, {1, 1}}); }),
                   "3 codes, expected 2 row scales times 2 biases"));
    const auto refusal = [](ErrorCode code, LensMatrix matrix) {
        return error_of(code, [&] { LinearLens("m", 2, {{4, std::move(matrix)}}); });
    };
    const LensCodes square{{1, 2, 3, 4}, {1, 1}, {0, 0}};
    CHECK(LensMatrix(square).is_square(2));
    CHECK(LinearLens("m", 2, {{4, square}}).reads(4));
    CHECK(contains(refusal(ErrorCode::InvalidArgument, std::vector<float>(5)), "layer 4 has 5 numbers, expected 6"));
    // As many numbers as [3, 2] has, but of [6, 1].
    CHECK(contains(refusal(ErrorCode::InvalidArgument, LensCodes{{1, 2, 3, 4, 5}, {1, 1, 1, 1, 1}, {0}}), "expected 6: [3, 2]"));
    CHECK(contains(refusal(ErrorCode::InvalidArgument, LensMatrix()), "has 0 numbers"));
    constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    for (const float bad : {infinity, -infinity, nan}) {
        LensCodes map = square;
        map.bias[1] = bad;
        CHECK(contains(refusal(ErrorCode::NotFinite, map), "layer 4 holds NaN or infinity"));
        map = square;
        map.row_scales[1] = bad;
        CHECK(contains(refusal(ErrorCode::NotFinite, map), "layer 4 holds NaN or infinity"));
    }
    LensCodes large = square;
    large.row_scales[0] = 3e38F;  // finite, a hundred times it is not
    CHECK(contains(refusal(ErrorCode::NotFinite, large), "layer 4 holds NaN or infinity"));
}

TEST_CASE("lens matrix: both forms are the same map, at every level and with any number of threads") {
    for (const std::size_t width : {1U, 12U, 64U, 150U, 576U}) {
        CAPTURE(width);
        const LensMatrix codes(random_codes(width, width, 1));
        const LinearLens in_codes("m", width, {{3, codes}}), in_floats("m", width, {{3, codes.to_floats()}});
        const std::vector<float> x = random_state(width, 2);
        const Sums expected(codes.to_floats(), x);
        for (const LinearLens* lens : {&in_codes, &in_floats}) {
            CAPTURE(lens == &in_codes);
            for (const CpuLevel level : cpu_levels()) {
                CAPTURE(to_string(level));
                std::vector<float> alone(width);
                lens->apply(Machine(level), 3, x, alone);
                std::size_t off = 0;
                for (std::size_t j = 0; j < width; ++j) {
                    if (!(std::abs(static_cast<double>(alone[j]) - expected.value[j]) <= expected.allowed[j])) ++off;
                }
                CHECK(off == 0);
                for (const std::size_t threads : {2U, 3U}) {
                    std::vector<float> shared(width);
                    lens->apply(Machine(level, threads), 3, x, shared);
                    CHECK(shared == alone);
                }
            }
        }
    }
}

TEST_CASE("lens matrix: a map need not be square") {
    const LensMatrix codes(random_codes(70, 130, 3)), floats(codes.to_floats());
    const std::vector<float> x = random_state(70, 4);
    std::vector<float> y(130, -1), z(130, -1);
    codes.multiply(x, 0.25F, 0, 130, y);
    floats.multiply(x, 0.25F, 0, 64, z);
    CHECK(z[64] == -1);
    floats.multiply(x, 0.25F, 64, 130, z);
    const std::vector<float> map = codes.to_floats();
    std::size_t off = 0;
    for (std::size_t j = 0; j < y.size(); ++j) {
        double sum = static_cast<double>(map[70 * 130 + j]), size = std::abs(sum);
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double term = 0.25 * static_cast<double>(x[i]) * static_cast<double>(map[i * 130 + j]);
            sum += term;
            size += std::abs(term);
        }
        for (const float found : {y[j], z[j]}) {
            if (!(std::abs(static_cast<double>(found) - sum) <= 80 * 0x1p-24 * size)) ++off;
        }
    }
    CHECK(off == 0);
}

}  // namespace test_lens_matrix
