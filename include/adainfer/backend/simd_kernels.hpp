#pragma once

#include <cstddef>
#include <span>

#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/simd_attention.hpp"
#include "adainfer/backend/simd_loops.hpp"
#include "adainfer/backend/simd_products.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/kernels/amx_tile.hpp"
#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/float_tile.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/lane_weight_avx2.hpp"
#include "adainfer/kernels/lane_weight_neon.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/token_attention.hpp"
#include "adainfer/kernels/token_attention_avx2.hpp"
#include "adainfer/kernels/token_attention_neon.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// What SimdBackend computes at one level. Null is what the level does not have.
struct SimdKernels {
    using Product = void (*)(ThreadPool& pool, const detail::simd::Operand& weight, MatrixView<const float> x, MatrixView<float> y);

    /// Fills panel `i` of a repacked weight.
    void (*repack)(const WeightView& weight, LaneWeight& out, std::size_t i) = nullptr;
    /// Of at most `lane_tokens` tokens with a repacked weight, which is read again for every few of them; from there on a tile of
    /// many tokens is faster.
    std::size_t lane_tokens = 0;
    void (*lanes)(ThreadPool& pool, const LaneWeight& weight, MatrixView<const float> x, MatrixView<float> y) = nullptr;
    /// Of one token with some rows or all.
    void (*rows)(ThreadPool& pool, const WeightView& weight, const detail::simd::RowChoice& chosen, std::span<const float> x,
                 float* out) = nullptr;
    Product exact = nullptr, bfloat16 = nullptr, bits12 = nullptr, bits8 = nullptr;  ///< of many tokens
    /// y = down(activation(gate) * up) of x in bfloat16, of many tokens.
    void (*bfloat16_gated)(ThreadPool& pool, const GatedWeights<detail::simd::Operand>& weights, Activation activation,
                           MatrixView<const float> x, MatrixView<float> y) = nullptr;
    using Attention = void (*)(ThreadPool& pool, const AttentionArgs& args, const StoredKv& kv);
    Attention attention = nullptr, bfloat16_attention = nullptr;  ///< the latter of many tokens
    void (*rms_norm)(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) = nullptr;
    void (*layer_norm)(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                       MatrixView<float> out) = nullptr;
    void (*rope)(MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos,
                 MatrixView<const float> sin) = nullptr;
    void (*activate)(Activation activation, MatrixView<float> x) = nullptr;
    void (*gate)(Activation activation, MatrixView<const float> x, MatrixView<float> y) = nullptr;
    void (*add)(MatrixView<const float> x, MatrixView<float> y) = nullptr;
};

namespace detail::simd {

template <class Kernels, class Tile>
void attention(ThreadPool& pool, const AttentionArgs& args, const StoredKv& kv) {
    if (args.q.rows() == 1) token_attention<Kernels>(pool, args, kv);
    else lanes_of_attention<Tile>(pool, args, kv);
}

}  // namespace detail::simd

/// The kernels of a level. They are most of what a file that uses SimdBackend has to compile; a program of many such files can
/// compile them in one, by an explicit instantiation of this function for each level and its `extern` declaration in the others:
/// what ADAINFER_COMPILED_KERNELS and CMake's adainfer::kernels do.
template <CpuLevel level>
const SimdKernels& simd_kernels() {
    namespace simd = detail::simd;
    static constexpr SimdKernels kernels = [] {
        constexpr CpuLevel base = level == CpuLevel::Amx ? CpuLevel::Avx512 : level;  // AMX has but other products of many tokens
        using Loops = simd::LevelLoops<base>;
        SimdKernels k;
        k.rows = simd::rows_times<base>;
        k.exact = simd::float_panels<detail::PanelTilePortable>;
        k.attention = simd::lanes_of_attention<detail::FloatTilePortable>;
        k.rms_norm = Loops::rms_norm;
        k.layer_norm = Loops::layer_norm;
        k.rope = Loops::rope;
        k.activate = Loops::activate;
        k.gate = Loops::gate;
        k.add = Loops::add;
#if ADAINFER_X86
        if constexpr (base == CpuLevel::Avx512) {
            k.repack = detail::fill_panel<detail::avx512::turn_rows>;
            k.lane_tokens = 24;
            k.lanes = simd::lane_products;
            k.exact = simd::word_panels<base>;
            k.bfloat16 = simd::bfloat_panels<detail::avx512::BfloatTile>;
            k.bfloat16_gated = simd::bfloat_gated<detail::avx512::BfloatTile>;
            k.bfloat16_attention = simd::bfloat_attention<detail::avx512::BfloatTile>;
            k.bits12 = simd::rounded_panels<base>;
            k.bits8 = simd::code_panels;
            k.attention = simd::attention<detail::avx512::TokenKernels, detail::FloatTileAvx512>;
            if constexpr (level == CpuLevel::Amx) {
                k.bfloat16 = simd::bfloat_panels<detail::avx512::AmxTile>;
                k.bfloat16_gated = simd::bfloat_gated<detail::avx512::AmxTile>;
                k.bfloat16_attention = simd::bfloat_attention<detail::avx512::AmxTile>;
                k.exact = simd::split_panels<detail::avx512::AmxTile>;
            }
        } else if constexpr (level == CpuLevel::Avx2) {
            k.repack = detail::fill_panel<detail::avx2::turn_rows>;
            k.lane_tokens = 8;
            k.lanes = simd::word_lanes;
            k.exact = simd::word_panels<base>;
            k.bits12 = simd::rounded_panels<base>;
            k.attention = simd::attention<detail::avx2::TokenKernels, detail::FloatTileAvx2>;
        }
#elif ADAINFER_ARM64
        if constexpr (level == CpuLevel::Neon) {
            k.repack = detail::fill_panel<detail::neon::turn_rows>;
            k.lane_tokens = 4;
            k.lanes = simd::signed_lanes;
            k.exact = simd::signed_panels;
            k.attention = simd::attention<detail::neon::TokenKernels, detail::FloatTileNeon>;
        }
#endif
        return k;
    }();
    return kernels;
}

#ifdef ADAINFER_COMPILED_KERNELS
extern template const SimdKernels& simd_kernels<CpuLevel::Portable>();
#if ADAINFER_X86
extern template const SimdKernels& simd_kernels<CpuLevel::Avx2>();
extern template const SimdKernels& simd_kernels<CpuLevel::Avx512>();
extern template const SimdKernels& simd_kernels<CpuLevel::Amx>();
#elif ADAINFER_ARM64
extern template const SimdKernels& simd_kernels<CpuLevel::Neon>();
#endif
#endif

/// The same for a level that is known at run time.
[[nodiscard]] inline const SimdKernels& simd_kernels([[maybe_unused]] CpuLevel level) {
#if ADAINFER_X86
    if (level == CpuLevel::Amx) return simd_kernels<CpuLevel::Amx>();
    if (level == CpuLevel::Avx512) return simd_kernels<CpuLevel::Avx512>();
    if (level == CpuLevel::Avx2) return simd_kernels<CpuLevel::Avx2>();
#elif ADAINFER_ARM64
    if (level == CpuLevel::Neon) return simd_kernels<CpuLevel::Neon>();
#endif
    return simd_kernels<CpuLevel::Portable>();
}

}  // namespace adainfer::inline v0
