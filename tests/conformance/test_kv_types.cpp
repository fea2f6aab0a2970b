#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/kernels/kv_rows.hpp"
#include "adainfer/model/kv_attention.hpp"
#include "adainfer/model/kv_cache.hpp"
#include "backends.hpp"

// Attention over a KV cache of each type, by every backend: those that read the type and those that are given floats.

namespace test_kv_types {

using namespace adainfer;

namespace {

constexpr std::array types{KvType::F32, KvType::F16, KvType::Q8_0};

/// A backend that brings nothing, as users write them.
struct Bare {};

static_assert(HasStoredAttention<SimdBackend> && HasStoredAttention<SimdPortable>);
static_assert(!HasStoredAttention<ReferenceBackend> && !HasStoredAttention<EigenBackend> && !HasStoredAttention<XtensorBackend> &&
              !HasStoredAttention<Bare>);

#define KV_BACKENDS ReferenceBackend, EigenBackend, XtensorBackend, Bare, SIMD_LEVELS

struct Shape {
    std::size_t heads, kv_heads, d;
};

/// A cache of one layer, filled with random rows.
struct Filled {
    KvCache cache;
    std::vector<std::vector<float>> k, v;  // [positions][kv_heads * d], before they were stored

    Filled(const Shape& shape, KvType type, std::size_t rows, std::size_t capacity, Random& random)
        : cache(config_of(shape), capacity, type) {
        for (std::size_t position = 0; position < rows; ++position) {
            k.push_back(random.reals(shape.kv_heads * shape.d));
            v.push_back(random.reals(k.back().size()));
            cache.store(0, KvCache::Part::Keys, position, k.back());
            cache.store(0, KvCache::Part::Values, position, v.back());
        }
    }

    /// The rows as the cache has them.
    [[nodiscard]] std::vector<std::vector<float>> stored(KvCache::Part part) const {
        std::vector<std::vector<float>> rows(k.size(), std::vector<float>(k.front().size()));
        for (std::size_t position = 0; position < rows.size(); ++position) cache.load(0, part, position, rows[position]);
        return rows;
    }

    static ModelConfig config_of(const Shape& shape) {
        ModelConfig config;
        config.layers = 1;
        config.kv_heads = shape.kv_heads;
        config.head_dim = shape.d;
        return config;
    }
};

/// Attention by its definition. rows [positions][kv_heads * d].
std::vector<double> by_hand(const AttentionArgs& a, const std::vector<std::vector<float>>& k,
                            const std::vector<std::vector<float>>& v) {
    std::vector<double> out;
    for (std::size_t t = 0; t < a.q.rows(); ++t) {
        for (std::size_t h = 0; h < a.heads; ++h) {
            const std::size_t at = h * a.kv_heads / a.heads * a.head_dim, position = a.first + t;
            const std::size_t begin = a.window != 0 && position + 1 > a.window ? position + 1 - a.window : 0;
            std::vector<double> weight;
            double largest = -HUGE_VAL, sum = 0;
            for (std::size_t i = begin; i <= position; ++i) {
                double product = 0;
                for (std::size_t j = 0; j < a.head_dim; ++j) {
                    product += static_cast<double>(a.q.row(t)[h * a.head_dim + j]) * static_cast<double>(k[i][at + j]);
                }
                weight.push_back(product * static_cast<double>(a.scale));
                largest = std::max(largest, weight.back());
            }
            for (double& w : weight) sum += w = std::exp(w - largest);
            for (std::size_t j = 0; j < a.head_dim; ++j) {
                double mean = 0;
                for (std::size_t i = begin; i <= position; ++i) mean += weight[i - begin] * static_cast<double>(v[i][at + j]);
                out.push_back(mean / sum);
            }
        }
    }
    return out;
}

double difference(const std::vector<float>& found, const std::vector<double>& expected) {
    double off = found.size() == expected.size() ? 0 : HUGE_VAL;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const double d = std::abs(static_cast<double>(found[i]) - expected[i]);
        off = d > off || std::isnan(d) ? d : off;
    }
    return off;
}

template <class Backend>
std::vector<float> run(const Backend& backend, AttentionArgs args, const KvCache& cache) {
    std::vector<float> out(args.q.rows() * args.q.cols());
    args.out = {out.data(), args.q.rows(), args.q.cols()};
    Buffer floats;
    attention_over(backend, args, cache, 0, floats);
    return out;
}

AttentionArgs args_of(const Shape& shape, const std::vector<float>& q, std::size_t first, std::size_t window, float scale) {
    return {.q = {q.data(), q.size() / (shape.heads * shape.d), shape.heads * shape.d}, .first = first, .heads = shape.heads,
            .kv_heads = shape.kv_heads, .head_dim = shape.d, .scale = scale, .window = window, .out = {}};
}

}  // namespace

TEST_CASE("storing: f16 rounds to the nearest, q8_0 to half a scale; every level reads the same") {
    Random random(1);
    for (const std::size_t n : Sizes{32, 64, 160}) {
        for (const float spread : {1.0F, 1e-6F, 3e-9F, 300.0F, 60000.0F}) {
            CAPTURE(spread);
            std::vector<float> x = random.reals(n, spread);
            x[3] = 0.0F;
            x[n - 1] = spread;
            for (const KvType type : types) {
                CAPTURE(to_string(type));
                std::vector<std::byte> bytes(row_bytes(type, n));
                pack_kv(type, x.data(), n, bytes.data());
                std::vector<float> back(n), by_dtype(n);
                dequantize_row(dtype_of(type), bytes.data(), n, by_dtype.data());
                for (const CpuLevel level : cpu_levels()) {
                    unpack_kv(type, level, bytes.data(), n, back.data());
                    CHECK(back == by_dtype);
                }
                for (std::size_t i = 0; i < n; ++i) {
                    float largest = 0;
                    for (std::size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) largest = std::max(largest, std::abs(x[j]));
                    const double off = std::abs(static_cast<double>(back[i]) - static_cast<double>(x[i]));
                    // A scale below 2^-14 is itself rounded to the grid of 2^-24; one that becomes 0 loses the block.
                    const double scale = std::max(static_cast<double>(largest) / 127 * (1 + 0x1p-11), 0x1p-24);
                    const double step = static_cast<double>(largest) / 127 < 0x1p-14 ? 127 * 0x1p-25 : 0;
                    if (type == KvType::F32) CHECK(off == 0);
                    if (type == KvType::F16) CHECK(back[i] == f16_to_f32(f32_to_f16(x[i])));
                    if (type == KvType::Q8_0) CHECK(off <= scale / 2 * (1 + 1e-5) + step);
                }
            }
        }
    }
}

TEST_CASE("storing: the largest values that a type holds, and zeros") {
    for (const KvType type : types) {
        CAPTURE(to_string(type));
        const float most = largest_value(type);
        std::vector<float> x(32, 0.0F), back(32);
        x[0] = most;
        x[1] = -most;
        std::vector<std::byte> bytes(row_bytes(type, 32));
        pack_kv(type, x.data(), 32, bytes.data());
        unpack_kv(type, best_cpu_level(), bytes.data(), 32, back.data());
        CHECK(back == x);
        pack_kv(type, std::vector<float>(32, 0.0F).data(), 32, bytes.data());
        unpack_kv(type, best_cpu_level(), bytes.data(), 32, back.data());
        CHECK(back == std::vector<float>(32, 0.0F));
    }
}

TEST_CASE_TEMPLATE("attention over each type: causal, grouped heads, windows, several blocks", Backend, KV_BACKENDS) {
    Random random(2);
    const Backend backend = make<Backend>(2);
    for (const KvType type : types) {
        for (const Shape& shape : {Shape{3, 1, 32}, {4, 2, 64}, {6, 2, 7}}) {
            if (type == KvType::Q8_0 && shape.d % 32 != 0) continue;
            for (const std::size_t tokens : Sizes{1, 2, 40}) {
                for (const std::size_t first : Sizes{0, 1, 490, 1100}) {
                    for (const std::size_t window : Sizes{0, 1, 35, 600}) {
                        CAPTURE(to_string(type));
                        CAPTURE(shape.d);
                        CAPTURE(tokens);
                        CAPTURE(first);
                        CAPTURE(window);
                        const Filled filled(shape, type, first + tokens, first + tokens + 3, random);
                        const auto q = random.reals(tokens * shape.heads * shape.d);
                        const AttentionArgs args = args_of(shape, q, first, window, 0.7F);
                        const auto found = run(backend, args, filled.cache);
                        const auto rows = [&](KvCache::Part part) { return filled.stored(part); };
                        // Of what is stored: float sums. Of what it was: the type's rounding.
                        CHECK(difference(found, by_hand(args, rows(KvCache::Part::Keys), rows(KvCache::Part::Values))) < 5e-6);
                        const double tolerance = type == KvType::F32 ? 5e-6 : type == KvType::F16 ? 2e-3 : 2e-2;
                        CHECK(difference(found, by_hand(args, filled.k, filled.v)) < tolerance);
                    }
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention of one token over each type: any number of heads a group, rows of any length", Backend, SIMD_LEVELS) {
    Random random(9);
    const Backend backend = make<Backend>();
    for (const KvType type : types) {
        for (std::size_t group = 1; group <= 9; ++group) {
            for (const std::size_t d : Sizes{5, 32, 72, 96, 256}) {
                if (type == KvType::Q8_0 && d % 32 != 0) continue;
                for (const std::size_t first : Sizes{0, 5, 130}) {
                    CAPTURE(to_string(type));
                    CAPTURE(group);
                    CAPTURE(d);
                    CAPTURE(first);
                    const Shape shape{group, 1, d};
                    const Filled filled(shape, type, first + 1, first + 1, random);
                    const auto q = random.reals(group * d);
                    const AttentionArgs args = args_of(shape, q, first, 0, 0.3F);
                    const auto rows = [&](KvCache::Part part) { return filled.stored(part); };
                    CHECK(difference(run(backend, args, filled.cache),
                                     by_hand(args, rows(KvCache::Part::Keys), rows(KvCache::Part::Values))) < 5e-6);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention: scores that rise from block to block neither overflow nor vanish", Backend, KV_BACKENDS) {
    const Backend backend = make<Backend>();
    const Shape shape{1, 1, 32};
    for (const KvType type : types) {
        for (const float sign : {1.0F, -1.0F}) {  // the largest score last, or first
            CAPTURE(to_string(type));
            constexpr std::size_t positions = 1700;
            Random random(3);
            Filled filled(shape, type, positions, positions, random);
            for (std::size_t position = 0; position < positions; ++position) {
                std::vector<float> key(32, 0.0F);
                key[0] = sign * (static_cast<float>(position) - 850.0F);
                filled.cache.store(0, KvCache::Part::Keys, position, key);
            }
            const std::vector<float> q(32, 1.0F);
            const AttentionArgs args = args_of(shape, q, positions - 1, 0, 1.0F);
            const auto expected = by_hand(args, filled.stored(KvCache::Part::Keys), filled.stored(KvCache::Part::Values));
            CHECK(difference(run(backend, args, filled.cache), expected) < 2e-6);
        }
    }
}

TEST_CASE_TEMPLATE("attention over each type: the number of threads changes no bit", Backend, KV_BACKENDS) {
    Random random(4);
    const Shape shape{6, 2, 32};
    for (const KvType type : types) {
        for (const std::size_t tokens : Sizes{1, 7, 40}) {
            const Filled filled(shape, type, 700 + tokens, 800, random);
            const auto q = random.reals(tokens * shape.heads * shape.d);
            const AttentionArgs args = args_of(shape, q, 700, 0, 1.0F);
            const auto first = run(make<Backend>(1), args, filled.cache);
            for (const std::size_t threads : Sizes{2, 3}) {
                const auto found = run(make<Backend>(threads), args, filled.cache);
                CHECK(std::memcmp(found.data(), first.data(), first.size() * sizeof(float)) == 0);
            }
        }
    }
}

#if ADAINFER_X86

TEST_CASE("attention in bfloat16: as exact as rounded queries, keys and values allow; the number of threads changes no bit") {
    if (!has_bfloat16()) {
        MESSAGE("skipped: this machine has no AVX512-BF16");
        return;
    }
    const auto rounded = [](std::vector<float> x) {
        std::transform(x.begin(), x.end(), x.begin(), to_bfloat16);
        return x;
    };
    const auto all_rounded = [&](std::vector<std::vector<float>> rows) {
        std::transform(rows.begin(), rows.end(), rows.begin(), rounded);
        return rows;
    };
    Random random(5);
    for (const CpuLevel level : {CpuLevel::Avx512, CpuLevel::Amx}) {
        if (!has_level(level)) continue;
        for (const KvType type : types) {
            for (const Shape& shape : {Shape{9, 3, 64}, {4, 1, 256}, {2, 2, 80}, {6, 2, 7}}) {
                if (type == KvType::Q8_0 && shape.d % 32 != 0) continue;
                for (const std::size_t tokens : Sizes{25, 40, 150}) {
                    for (const std::size_t first : Sizes{0, 1, 490}) {
                        for (const std::size_t window : Sizes{0, 1, 35, 300}) {
                            CAPTURE(to_string(level));
                            CAPTURE(to_string(type));
                            CAPTURE(shape.d);
                            CAPTURE(tokens);
                            CAPTURE(first);
                            CAPTURE(window);
                            const Filled filled(shape, type, first + tokens, first + tokens + 3, random);
                            const auto q = random.reals(tokens * shape.heads * shape.d), near = rounded(q);
                            constexpr float scale = 0.5F;  // a power of two, which rounding does not change
                            const auto found = run(SimdBackend(1, level, SimdBackend::Products::Bfloat16),
                                                   args_of(shape, q, first, window, scale), filled.cache);
                            const auto expected = by_hand(args_of(shape, near, first, window, scale),
                                                          all_rounded(filled.stored(KvCache::Part::Keys)),
                                                          all_rounded(filled.stored(KvCache::Part::Values)));
                            // What is left is the rounding of the weights, 2^-9 of each.
                            CHECK(difference(found, expected) < 0x1p-9 + 2e-5);
                            for (const std::size_t threads : Sizes{2, 3}) {
                                const auto other = run(SimdBackend(threads, level, SimdBackend::Products::Bfloat16),
                                                       args_of(shape, q, first, window, scale), filled.cache);
                                CHECK(std::memcmp(found.data(), other.data(), found.size() * sizeof(float)) == 0);
                            }
                        }
                    }
                }
            }
        }
    }
}

#endif

}  // namespace test_kv_types
