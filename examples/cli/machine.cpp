#include "machine.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "adainfer/core/thread_pool.hpp"
#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/amx_tile.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/code_panel.hpp"
#include "adainfer/kernels/lane_memory.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/quantize_avx512.hpp"
#include "adainfer/kernels/weight_fetch.hpp"
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

/// The sum of `words` words.
std::uint64_t sum_of(const std::uint64_t* p, std::size_t words) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < words; ++i) sum += p[i];
    return sum;
}

#if ADAINFER_X86
using adainfer::detail::WeightFetch;

/// The same of a multiple of 32 words, asking for as much at once as a core can: a plain loop gets half the bytes from memory.
[[ADAINFER_TARGET_AVX512]] std::uint64_t sum_avx512(const std::uint64_t* p, std::size_t words, WeightFetch fetch) {
    __m512i sums[4] = {};
    for (std::size_t i = 0; i < words; i += 32) {
        adainfer::detail::fetch_weights<256>(reinterpret_cast<const std::byte*>(p + i), fetch);
        for (std::size_t j = 0; j < 4; ++j) sums[j] = _mm512_add_epi64(sums[j], _mm512_loadu_si512(p + i + 8 * j));
    }
    std::uint64_t lanes[32];
    for (std::size_t j = 0; j < 4; ++j) _mm512_storeu_si512(lanes + 8 * j, sums[j]);
    return sum_of(lanes, 32);
}

/// The same.
[[ADAINFER_TARGET_AVX2]] std::uint64_t sum_avx2(const std::uint64_t* p, std::size_t words, WeightFetch fetch) {
    __m256i sums[4] = {};
    for (std::size_t i = 0; i < words; i += 16) {
        adainfer::detail::fetch_weights<128>(reinterpret_cast<const std::byte*>(p + i), fetch);
        for (std::size_t j = 0; j < 4; ++j) {
            sums[j] = _mm256_add_epi64(sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 4 * j)));
        }
    }
    std::uint64_t lanes[16];
    for (std::size_t j = 0; j < 4; ++j) _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes + 4 * j), sums[j]);
    return sum_of(lanes, 16);
}
#endif

/// Bytes a second that `sum` reads of memory.
template <class Sum>
double speed_of_sum(adainfer::ThreadPool& pool, std::span<const std::uint64_t> memory, const Sum& sum) {
    std::atomic<std::uint64_t> total{0};
    const double seconds = best_seconds([&] {
        pool.parallel_for(memory.size(), 4096,
                          [&](std::size_t begin, std::size_t end) { total += sum(memory.data() + begin, end - begin); });
    });
    return static_cast<double>(memory.size_bytes()) / seconds;
}

double read_speed(adainfer::ThreadPool& pool, adainfer::CpuLevel level) {
    constexpr std::size_t words = std::size_t{32} << 20U;  // 256 MiB
    const auto bytes = adainfer::LaneMemory().take(words * sizeof(std::uint64_t));  // as repacked weights have it
    const std::span memory(reinterpret_cast<std::uint64_t*>(bytes.get()), words);
    std::ranges::fill(memory, 1);
#if ADAINFER_X86
    if (level >= adainfer::CpuLevel::Avx2) {
        const auto sum = level == adainfer::CpuLevel::Avx2 ? sum_avx2 : sum_avx512;
        double best = 0;
        for (const WeightFetch fetch : {WeightFetch{4096, false}, WeightFetch{6144, true}}) {  // one is best for Intel, one for AMD
            best = (std::max)(best, speed_of_sum(pool, memory, [&](auto... part) { return sum(part..., fetch); }));
        }
        return best;
    }
#endif
    static_cast<void>(level);
    return speed_of_sum(pool, memory, sum_of);
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
    constexpr std::size_t depth = 128;
    const std::vector<float> panel(depth * Tile::lanes, 1.0F), x(Tile::tokens * depth, 1.0F);
    return product_speed(pool, static_cast<double>(Tile::tokens * depth * Tile::lanes), [&] {
        float out[Tile::tokens * Tile::lanes] = {};
        Tile::template run<Tile::tokens>({panel.data(), depth}, x.data(), depth, out, Tile::lanes);
        kept.store(out[0], std::memory_order_relaxed);
    });
}

#if ADAINFER_X86
template <class Tile>
double bfloat16_speed(adainfer::ThreadPool& pool) {
    namespace kernels = adainfer::detail::avx512;
    constexpr std::size_t lanes = kernels::BfloatPanel::lanes, pairs = 128, runs = 16;  // runs: for what a unit takes to set up
    const auto panel = std::make_unique<kernels::BfloatPanel>();
    typename Tile::Rows x;
    x.resize(Tile::tokens, 2 * pairs);
    return product_speed(pool, static_cast<double>(runs * Tile::tokens * 2 * pairs * lanes), [&] {
        float out[Tile::tokens * lanes] = {};
        typename Tile::Unit unit;
        for (std::size_t i = 0; i < runs; ++i) {
            unit.run(Tile::tokens, {panel->values, pairs}, x.row(0, 0), x.stride(), out, lanes);
        }
        kept.store(out[0], std::memory_order_relaxed);
    });
}

double int8_speed(adainfer::ThreadPool& pool) {
    namespace kernels = adainfer::detail::avx512;
    using Tile = kernels::CodeTile;
    constexpr std::size_t lanes = kernels::CodePanel::lanes, depth = 256;
    const std::vector<std::byte> row(adainfer::row_bytes(adainfer::DType::Q4_0, depth));
    const adainfer::WeightView weight{adainfer::DType::Q4_0, 1, depth, row.data()};
    const kernels::CodePanel panel = Tile::pack({weight, 0, 1, 0, depth});
    adainfer::ActivationCodes codes;
    codes.resize(Tile::tokens, depth, adainfer::code_format(adainfer::DType::Q4_0));
    const std::vector<float> x(depth, 0.5F);
    for (std::size_t t = 0; t < Tile::tokens; ++t) codes.assign(t, x, kernels::quantize);
    return product_speed(pool, static_cast<double>(Tile::tokens * depth * lanes), [&] {
        float out[Tile::tokens * lanes] = {};
        const kernels::CodedTokens tokens(codes, 0, 0);
        Tile::run<Tile::tokens>(panel, &tokens, 0, out, lanes);
        kept.store(out[0], std::memory_order_relaxed);
    });
}
#endif

}  // namespace

Machine measure_machine(std::size_t threads) {
    adainfer::ThreadPool pool(threads);
    Machine machine;
    machine.threads = threads;
    machine.level = adainfer::cpu_level();
    machine.read_bytes_per_second = read_speed(pool, machine.level);
#if ADAINFER_X86
    using adainfer::detail::avx512::AmxTile, adainfer::detail::avx512::BfloatTile;
    if (machine.level >= adainfer::CpuLevel::Avx512) {
        machine.float_multiply_adds = float_speed<adainfer::detail::PanelTileAvx512>(pool);
        if (machine.level == adainfer::CpuLevel::Amx) machine.bfloat16_multiply_adds = bfloat16_speed<AmxTile>(pool);
        else if (adainfer::has_bfloat16()) machine.bfloat16_multiply_adds = bfloat16_speed<BfloatTile>(pool);
        machine.int8_multiply_adds = int8_speed(pool);
    } else if (machine.level == adainfer::CpuLevel::Avx2) {
        machine.float_multiply_adds = float_speed<adainfer::detail::PanelTileAvx2>(pool);
    }
#endif
    if (machine.float_multiply_adds == 0) machine.float_multiply_adds = float_speed<adainfer::detail::PanelTilePortable>(pool);
    return machine;
}

}  // namespace cli
