#include "machine.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "adainfer/core/thread_pool.hpp"
#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/float_tile.hpp"
#include "adainfer/kernels/int8_tile.hpp"
#include "command.hpp"

namespace cli {

namespace {

/// Where results go, so that a compiler cannot leave out what made them.
std::atomic<float> kept{0};

/// The best of some runs of f, in seconds.
template <class F>
double best_seconds(F&& f) {
    double best = 1e300;
    for (int run = 0; run < 7; ++run) {
        const Stopwatch watch;
        f();
        best = (std::min)(best, watch.seconds());
    }
    return best;
}

double read_speed(adainfer::ThreadPool& pool, adainfer::CpuLevel level) {
    constexpr std::size_t words = std::size_t{32} << 20U;  // 256 MiB
    const auto memory = std::make_unique<std::uint64_t[]>(words);
    std::atomic<std::uint64_t> total{0};
    const double seconds = best_seconds([&] {
        pool.parallel_for(words, 4096, [&](std::size_t begin, std::size_t end) {
            std::uint64_t lanes[32] = {};
            adainfer::at_level(level, [&] {
                for (std::size_t i = begin; i < end; i += 32) {
                    for (std::size_t lane = 0; lane < 32; ++lane) lanes[lane] += memory[i + lane];
                }
            });
            for (const std::uint64_t lane : lanes) total += lane;  // so that the loop is not left out
        });
    });
    return static_cast<double>(words * sizeof(std::uint64_t)) / seconds;
}

/// multiply-adds a second of `kernel`, which does `each` of them.
template <class F>
double product_speed(adainfer::ThreadPool& pool, double each, const F& kernel) {
    constexpr std::size_t repeats = 4096;
    const std::size_t threads = pool.threads();
    const double seconds = best_seconds([&] {
        pool.parallel_for(threads, 1, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin * repeats; i < end * repeats; ++i) kernel();
        });
    });
    return each * static_cast<double>(repeats * threads) / seconds;
}

template <class Tile>
double float_speed(adainfer::ThreadPool& pool) {
    constexpr std::size_t k = 128;
    const std::vector<float> a(adainfer::tile_rows * k, 1.0F), b(k * Tile::lanes, 1.0F);
    return product_speed(pool, static_cast<double>(adainfer::tile_rows * k * Tile::lanes), [&] {
        float out[adainfer::tile_rows * Tile::lanes];
        adainfer::detail::float_tiles<Tile>({.a = a.data(), .row_stride = k, .k_stride = 1, .k = k, .b = b.data(), .out = out},
                                            adainfer::tile_rows);
        kept.store(out[0], std::memory_order_relaxed);
    });
}

}  // namespace

Machine measure_machine(std::size_t threads) {
    adainfer::ThreadPool pool(threads);
    Machine machine;
    machine.threads = threads;
    machine.level = adainfer::cpu_level();
    machine.read_bytes_per_second = read_speed(pool, machine.level);
#if ADAINFER_X86
    if (machine.level == adainfer::CpuLevel::Avx512) {
        machine.float_multiply_adds = float_speed<adainfer::detail::FloatTileAvx512<2>>(pool);
        constexpr std::size_t cols = 256, lanes = 32;
        const std::vector<float> x(lanes * cols, 0.5F);
        adainfer::ActivationCodes codes;
        codes.assign({x.data(), lanes, cols}, 16, 32, 8, adainfer::detail::avx512::quantize);
        const std::vector<std::uint8_t> w(adainfer::tile_rows * cols, 3);
        const std::vector<float> scales(adainfer::tile_rows * cols / 32, 1.0F);
        machine.int8_multiply_adds = product_speed(pool, static_cast<double>(adainfer::tile_rows * cols * lanes), [&] {
            float out[adainfer::tile_rows * lanes];
            adainfer::detail::avx512::int8_tile({32, 8, false}, {w.data(), scales.data(), scales.data(), cols}, codes, 0, 2, out);
            kept.store(out[0], std::memory_order_relaxed);
        });
    } else if (machine.level == adainfer::CpuLevel::Avx2) {
        machine.float_multiply_adds = float_speed<adainfer::detail::FloatTileAvx2>(pool);
    }
#endif
    if (machine.float_multiply_adds == 0) machine.float_multiply_adds = float_speed<adainfer::detail::FloatTilePortable>(pool);
    return machine;
}

}  // namespace cli
