#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/activation_codes.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/bfloat_product.hpp"
#include "adainfer/kernels/bfloat_tile.hpp"
#include "adainfer/kernels/code_panel.hpp"
#include "adainfer/kernels/code_rows.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/float_row.hpp"
#include "adainfer/kernels/float_tile.hpp"
#include "adainfer/kernels/int8_row.hpp"
#include "adainfer/kernels/int8_row_avx2.hpp"
#include "adainfer/kernels/lane_attention.hpp"
#include "adainfer/kernels/lane_dot.hpp"
#include "adainfer/kernels/lane_memory.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/kernels/pack_panel.hpp"
#include "adainfer/kernels/panel_tile.hpp"
#include "adainfer/kernels/quantize_avx512.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/token_attention.hpp"
#include "adainfer/kernels/touch_rows.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/kv_type.hpp"
#include "adainfer/tensor/matrix_view.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// This library's own kernels. Whatever the compiler was told, it uses AVX2 or AVX-512 where the machine has them (see cpu.hpp);
/// no other dependency. Copies share one team of threads; results do not depend on the number of threads.
///
/// A token's product with a quantised weight is one of integers, the activations rounded to 16 bits, 32 under one scale: what
/// reads the weights once and changes no digit that counts. With AVX-512 weights are repacked for it when a model is built (see
/// Repack), and up to 24 tokens are multiplied so. How products of many tokens are computed is the caller's choice: see Products.
/// The portable level is float throughout.
class SimdBackend {
  public:
    /// How products of many tokens are computed. Where the machine or the level lacks what is asked for, it is Exact instead.
    enum class Products : std::uint8_t {
        Fast,      ///< Bfloat16 where that is faster than floats, else Exact: perplexity stays within 0.5 % of Exact's
        Exact,     ///< in float
        Bfloat16,  ///< weights and activations rounded to bfloat16 (eight significant bits), sums in float
        /// Of integers: activations rounded to 8 bits, off by up to 1 / 254 of the largest of 32, as llama.cpp does always. Weights
        /// that are not quantised are multiplied in float.
        Bits8
    };

    /// Whether prepare() copies quantised weights into the order in which a token's product reads them fastest (see
    /// lane_layout.hpp). It takes as much memory as they have bytes, up to 3 % more for the k formats, and of the file only the
    /// rows that are gathered are read from then on. On machines without AVX-512 nothing is copied.
    enum class Repack : bool { No, Yes };

    /// A weight in its file, and repacked where it was.
    struct Weight {
        WeightView view;
        LaneWeight lanes;

        Weight(WeightView weight, LaneWeight repacked = {}) : view(weight), lanes(std::move(repacked)) {}
    };

    /// Throws InvalidArgument where the environment variable ADAINFER_CPU asks for what the machine does not have.
    explicit SimdBackend(std::size_t threads = 1, Products products = Products::Fast, Repack repack = Repack::Yes)
        : SimdBackend(threads, cpu_level(), products, repack) {}
    SimdBackend(std::size_t threads, CpuLevel level, Products products = Products::Fast, Repack repack = Repack::Yes)
        : shared_(std::make_shared<Shared>(threads)), level_(level), products_(possible(products, level)),
          repack_(level == CpuLevel::Avx512 ? repack : Repack::No) {}

    [[nodiscard]] std::size_t threads() const noexcept { return shared_->pool.threads(); }
    [[nodiscard]] CpuLevel level() const noexcept { return level_; }

    /// What the choice came to on this machine: Exact, Bfloat16 or Bits8.
    [[nodiscard]] Products products() const noexcept { return products_; }

    /// How a product of this many tokens with a prepared weight of this type is computed: few tokens are Exact, 24 of a repacked
    /// weight and two of another.
    [[nodiscard]] Products products_of(DType dtype, std::size_t tokens) const noexcept {
        return tokens <= (repacks(dtype) ? few_lane_tokens : few_tokens) ? Products::Exact : products_of_many(dtype);
    }

    /// True where prepare() copies weights of this type.
    [[nodiscard]] bool repacks(DType dtype) const noexcept { return repack_ == Repack::Yes && code_format(dtype).group != 0; }

    /// What this backend and its copies have repacked, and how long it took.
    [[nodiscard]] std::size_t repacked_bytes() const noexcept { return shared_->repacked_bytes.load(std::memory_order_relaxed); }
    [[nodiscard]] double repack_seconds() const noexcept {
        return 1e-9 * static_cast<double>(shared_->repack_nanoseconds.load(std::memory_order_relaxed));
    }

    /// Throws std::bad_alloc.
    [[nodiscard]] Weight prepare(WeightView weight) const {
#if ADAINFER_X86
        if (!repacks(weight.dtype) || weight.rows == 0 || weight.cols == 0) return weight;
        const auto start = std::chrono::steady_clock::now();
        LaneWeight lanes(weight.dtype, weight.rows, weight.cols, shared_->memory);
        parallel_for(lanes.panels(), 1, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) detail::avx512::fill_panel(weight, lanes, i);
        });
        const std::chrono::nanoseconds taken = std::chrono::steady_clock::now() - start;
        shared_->repacked_bytes.fetch_add(lanes.bytes(), std::memory_order_relaxed);
        shared_->repack_nanoseconds.fetch_add(taken.count(), std::memory_order_relaxed);
        return {weight, std::move(lanes)};
#else
        return weight;
#endif
    }

    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
        shared_->pool.parallel_for(n, grain, f);
    }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        if (!weight.lanes.empty() && x.rows() <= few_lane_tokens) {
            lane_products(weight.lanes, x, y);
        } else if (x.rows() <= few_tokens) {
            for (std::size_t t = 0; t < x.rows(); ++t) {
                const auto all = [](std::size_t i) { return i; };
                rows_times(weight.view, weight.view.rows, all, x.row(t), y.row(t).data(), true);
            }
        } else {
            const Products products = products_of_many(weight.view.dtype);
            if (products == Products::Bfloat16) bfloat_panels(weight, x, y);
            else if (products == Products::Bits8) code_panels(weight, x, y);
            else float_panels(weight, x, y);
        }
    }

    void matmul_rows(const Weight& weight, std::span<const TokenId> rows, std::span<const float> x, std::span<float> out) const {
        const auto chosen = [rows](std::size_t i) { return static_cast<std::size_t>(rows[i]); };
        rows_times(weight.view, rows.size(), chosen, x, out.data(), false);
    }

    void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) const {
        at_level(level_, [&] { ops::rms_norm(Loops{}, x, gain, eps, out); });
    }

    void layer_norm(MatrixView<const float> x, std::span<const float> gain, std::span<const float> bias, float eps,
                    MatrixView<float> out) const {
        at_level(level_, [&] { ops::layer_norm(Loops{}, x, gain, bias, eps, out); });
    }

    void rope(MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos, MatrixView<const float> sin) const {
        at_level(level_, [&] { ops::rope(Loops{}, x, head_dim, interleaved, cos, sin); });
    }

    void activate(Activation activation, MatrixView<float> x) const {
        parallel_for(x.rows(), 8, [&](std::size_t begin, std::size_t end) {
            at_level(level_, [&] { ops::activate(Loops{}, activation, x.rows(begin, end - begin)); });
        });
    }

    void attention(const AttentionArgs& args) const {
        attention(args, {KvType::F32, reinterpret_cast<const std::byte*>(args.k), reinterpret_cast<const std::byte*>(args.v)});
    }

    /// The same over K/V rows of any type, which are read as they are stored.
    void attention(const AttentionArgs& args, const StoredKv& kv) const {
#if ADAINFER_X86
        if (level_ == CpuLevel::Avx512 && args.q.rows() == 1) return attention_of_token(args, kv);
#endif
        with_tile([&]<class Tile>(Tile) { lanes_of_attention<Tile>(args, kv); });
    }

  private:
    static constexpr std::size_t few_tokens = 2;        // from there on a tile of tokens is faster than one after the other
    static constexpr std::size_t few_lane_tokens = 24;  // and than lanes, which are read again for every four

    static Products possible(Products asked, CpuLevel level) noexcept {
        if (level != CpuLevel::Avx512) return Products::Exact;
        if (asked == Products::Fast) return has_fast_bfloat16() ? Products::Bfloat16 : Products::Exact;
        return asked == Products::Bfloat16 && !has_bfloat16() ? Products::Exact : asked;
    }

    [[nodiscard]] Products products_of_many(DType dtype) const noexcept {
        return products_ == Products::Bits8 && code_format(dtype).group == 0 ? Products::Exact : products_;
    }

    struct Loops {};  // a backend without operations: the loops of ops.hpp

    template <class F>
    void with_tile(F&& f) const {
#if ADAINFER_X86
        if (level_ == CpuLevel::Avx512) return f(detail::FloatTileAvx512{});
        if (level_ == CpuLevel::Avx2) return f(detail::FloatTileAvx2{});
#endif
        f(detail::FloatTilePortable{});
    }

    template <class F>
    void with_panel_tile(F&& f) const {
#if ADAINFER_X86
        if (level_ == CpuLevel::Avx512) return f(detail::PanelTileAvx512{});
        if (level_ == CpuLevel::Avx2) return f(detail::PanelTileAvx2{});
#endif
        f(detail::PanelTilePortable{});
    }

    // ---- a row of activations --------------------------------------------------------------------------------------------

    /// y = x w^T, the activations rounded to 16 bits.
    void lane_products([[maybe_unused]] const LaneWeight& weight, [[maybe_unused]] MatrixView<const float> x,
                       [[maybe_unused]] MatrixView<float> y) const {
#if ADAINFER_X86
        namespace kernels = detail::avx512;
        thread_local LaneActivations own;
        LaneActivations& rows = own;  // of this thread, read by all
        rows.resize(x.rows(), x.cols());
        parallel_for(x.rows(), 4, [&](std::size_t begin, std::size_t end) {
            for (std::size_t t = begin; t < end; ++t) rows.assign(t, x.row(t), code_format(weight.dtype()), kernels::quantize);
        });
        parallel_for(weight.panels(), 1, [&](std::size_t begin, std::size_t end) {
            std::array<float, kernels::most_lane_tokens * LaneWeight::lanes> out;
            for (std::size_t i = begin; i < end; ++i) {
                const std::size_t first = i * LaneWeight::lanes, count = (std::min)(LaneWeight::lanes, weight.rows() - first);
                detail::for_token_blocks(x.rows(), kernels::most_lane_tokens, [&](std::size_t token, std::size_t tokens) {
                    const kernels::LaneProduct product = kernels::lane_product_of(weight.dtype(), tokens);
                    product(weight.panel(i), weight.cols(), rows.row(token), weight.cols() / activation_block, out.data());
                    for (std::size_t t = 0; t < tokens; ++t) {
                        std::copy_n(out.data() + t * LaneWeight::lanes, count, y.row(token + t).data() + first);
                    }
                });
            }
        });
#endif
    }

    /// out[i] = weight row row_of(i) . x. `in_order`: row_of(i) is i.
    template <class RowOf>
    void rows_times(const WeightView& weight, std::size_t count, RowOf row_of, std::span<const float> x, float* out,
                    bool in_order) const {
        if (level_ != CpuLevel::Portable && code_format(weight.dtype).group != 0) int8_rows(weight, count, row_of, x, out);
        else float_rows(weight, count, row_of, x, out, in_order);
    }

    /// The same in float.
    float float_row(const WeightView& weight, std::size_t i, const float* x, float* row) const {
        float result = 0.0F;
        at_level(level_, [&] {
            dequantize_row(weight.dtype, weight.row(i), weight.cols, row);
            result = dot(row, x, weight.cols);
        });
        return result;
    }

    template <class RowOf>
    void float_rows(const WeightView& weight, std::size_t count, RowOf row_of, std::span<const float> x, float* out,
                    [[maybe_unused]] bool in_order) const {
        parallel_for(count, 16, [&](std::size_t begin, std::size_t end) {
#if ADAINFER_X86
            const auto row_dot = level_ == CpuLevel::Avx512 ? detail::avx512::float_row_dot_of(weight.dtype) : nullptr;
            if (row_dot != nullptr) {
                const std::size_t ahead = in_order ? detail::avx512::float_row_prefetch : 0;
                for (std::size_t i = begin; i < end; ++i) out[i] = row_dot(weight.row(row_of(i)), weight.cols, x.data(), ahead);
                return;
            }
#endif
            struct Slot;
            float* const row = thread_scratch<Slot>(weight.cols).data();
            for (std::size_t i = begin; i < end; ++i) out[i] = float_row(weight, row_of(i), x.data(), row);
        });
    }

    /// The same as integers, of a quantised weight.
    template <class RowOf>
    void int8_rows([[maybe_unused]] const WeightView& weight, [[maybe_unused]] std::size_t count, [[maybe_unused]] RowOf row_of,
                   [[maybe_unused]] std::span<const float> x, [[maybe_unused]] float* out) const {
#if ADAINFER_X86
        thread_local ActivationRow codes;
        const CodeFormat format = code_format(weight.dtype);
        const bool avx512 = level_ == CpuLevel::Avx512;
        codes.assign(x, format.bias, avx512 ? detail::avx512::quantize : quantize_block);
        const ActivationRow& shared = codes;  // of this thread, read by all
        parallel_for(count, 16, [&, avx512](std::size_t begin, std::size_t end) {
            struct Slot;
            const std::size_t groups = weight.cols / format.group + 32;
            float* const scratch = thread_scratch<Slot>(2 * groups).data();
            if (avx512) {
                const auto row_dot = detail::avx512::row_dot_of(weight.dtype);
                for (std::size_t i = begin; i < end; ++i) out[i] = row_dot(weight.row(row_of(i)), weight.cols, shared, scratch);
            } else {
                const detail::avx2::UnpackedRow row{code_scratch(weight.cols), scratch, scratch + groups};
                for (std::size_t i = begin; i < end; ++i) {
                    out[i] = detail::avx2::row_dot(weight.dtype, weight.row(row_of(i)), weight.cols, shared, row);
                }
            }
        });
#endif
    }

    // ---- many rows of activations ----------------------------------------------------------------------------------------

    void float_panels(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        with_panel_tile([&]<class Tile>(Tile) {
            for_panels<Tile::lanes, detail::panel_depth>(weight, y, [&](const detail::WeightPart& part, float* out, std::size_t stride) {
                struct Slot;
                float* const panel = thread_scratch<Slot>(detail::panel_depth * Tile::lanes).data();
                detail::pack_panel_for<Tile>(part, panel);
                detail::for_token_blocks(x.rows(), Tile::tokens, [&](std::size_t first, std::size_t count) {
                    detail::run_tile<Tile>(count, detail::Panel{panel, part.depth}, x.row(first).data() + part.begin, x.stride(),
                                           out + first * stride, stride);
                });
            });
        });
    }

    void bfloat_panels([[maybe_unused]] const Weight& weight, [[maybe_unused]] MatrixView<const float> x,
                       [[maybe_unused]] MatrixView<float> y) const {
#if ADAINFER_X86
        namespace kernels = detail::avx512;
        thread_local kernels::BfloatRows own;
        kernels::BfloatRows& rows = own;  // of this thread, shared by all
        rows.resize(x.rows(), x.cols());
        parallel_for(x.rows(), 4, [&](std::size_t begin, std::size_t end) {
            for (std::size_t t = begin; t < end; ++t) rows.assign(t, x.row(t));
        });
        constexpr std::size_t lanes = kernels::BfloatPanel::lanes;
        parallel_for((weight.view.rows + lanes - 1) / lanes, 1, [&](std::size_t begin, std::size_t end) {
            struct Slot;
            float* const scratch = thread_scratch<Slot>(kernels::bfloat_scratch(rows, y.rows())).data();
            kernels::bfloat_product(weight.view, lanes_of(weight), rows, begin, end, y, scratch);
        });
#endif
    }

    void code_panels([[maybe_unused]] const Weight& weight, [[maybe_unused]] MatrixView<const float> x,
                     [[maybe_unused]] MatrixView<float> y) const {
#if ADAINFER_X86
        thread_local ActivationCodes own;
        ActivationCodes& codes = own;  // of this thread, shared by all
        const CodeFormat format = code_format(weight.view.dtype);
        codes.resize(x.rows(), x.cols(), format);
        parallel_for(x.rows(), 4, [&](std::size_t begin, std::size_t end) {
            for (std::size_t t = begin; t < end; ++t) codes.assign(t, x.row(t), detail::avx512::quantize);
        });
        const auto pack = detail::avx512::pack_codes_of(weight.view.dtype);
        using Panel = detail::avx512::CodePanel;
        for_panels<Panel::lanes, detail::panel_depth>(weight, y, [&](const detail::WeightPart& part, float* out, std::size_t stride) {
            Panel panel;
            pack(part, panel);
            detail::avx512::code_panel_times(format, panel, codes, x.rows(), part.begin, out, stride);
        });
#endif
    }

    /// Calls add(part, out, stride) for every panel of weight rows, part after part of `depth` columns: it adds the part's product to
    /// out [tokens][lanes], which is zero before the first one.
    template <std::size_t lanes, std::size_t depth, class F>
    void for_panels(const Weight& prepared, MatrixView<float> y, F&& add) const {
        const WeightView& weight = prepared.view;
        parallel_for((weight.rows + lanes - 1) / lanes, 1, [&](std::size_t begin, std::size_t end) {
            for (std::size_t first = begin * lanes; first < (std::min)(end * lanes, weight.rows); first += lanes) {
                struct Slot;
                const std::size_t count = (std::min)(lanes, weight.rows - first);
                const bool whole = count == lanes;
                if (prepared.lanes.empty()) detail::touch_rows(weight, first, count);
                // The last rows may be fewer than a panel has.
                float* const out = whole ? y.row(0).data() + first : thread_scratch<Slot>(y.rows() * lanes).data();
                const std::size_t stride = whole ? y.stride() : lanes;
                for (std::size_t t = 0; t < y.rows(); ++t) std::fill_n(out + t * stride, lanes, 0.0F);
                for (std::size_t column = 0; column < weight.cols; column += depth) {
                    const std::size_t some = (std::min)(depth, weight.cols - column);
                    add(detail::WeightPart{weight, first, count, column, some, lanes_of(prepared)}, out, stride);
                }
                if (whole) continue;
                for (std::size_t t = 0; t < y.rows(); ++t) std::copy_n(out + t * stride, count, y.row(t).data() + first);
            }
        });
    }

    [[nodiscard]] static const LaneWeight* lanes_of(const Weight& weight) noexcept {
        return weight.lanes.empty() ? nullptr : &weight.lanes;
    }

    /// Bytes of the calling thread, until its next call.
    static std::uint8_t* code_scratch(std::size_t bytes) {
        thread_local std::vector<std::uint8_t> buffer;
        if (buffer.size() < bytes + 64) buffer.resize(bytes + 64);  // whole vectors may be read past the end
        return buffer.data();
    }

    // ---- attention -------------------------------------------------------------------------------------------------------

#if ADAINFER_X86
    /// Work items are spans of positions under one K/V head.
    void attention_of_token(const AttentionArgs& args, const StoredKv& kv) const {
        namespace kernels = detail::avx512;
        const std::size_t group = args.heads / args.kv_heads, d = args.head_dim, end = args.first + 1;
        const std::size_t begin = args.window != 0 && end > args.window ? end - args.window : 0;
        const std::size_t spans = (end - begin + kernels::token_span - 1) / kernels::token_span;
        const std::size_t size = kernels::span_result_floats(group, d);
        struct Results;
        // As many as the whole context will need: a decode that grows allocates once.
        const std::size_t most = (args.capacity + kernels::token_span - 1) / kernels::token_span + 1;
        float* const results = thread_scratch<Results>(args.kv_heads * (std::max)(most, spans) * size).data();
        parallel_for(args.kv_heads * spans, 1, [&](std::size_t first, std::size_t last) {
            struct Slot;
            float* const scratch = thread_scratch<Slot>(kernels::span_scratch(group, kv.type, d)).data();
            for (std::size_t item = first; item < last; ++item) {
                const std::size_t kv_head = item / spans, from = begin + item % spans * kernels::token_span;
                const std::size_t plane = kv_head * args.capacity * row_bytes(kv.type, d);
                kernels::span_attention({args.q.row(0).data() + kv_head * group * d, group, args.scale},
                                        {kv.type, kv.k + plane, kv.v + plane, d}, from, (std::min)(kernels::token_span, end - from),
                                        scratch, kernels::span_result(results + item * size, group));
            }
        });
        at_level<CpuLevel::Avx512>([&] {
            for (std::size_t head = 0; head < args.kv_heads; ++head) {
                kernels::join_spans(results + head * spans * size, spans, group, d, args.out.row(0).data() + head * group * d);
            }
        });
    }
#endif

    /// Work items are blocks of lanes under one K/V head: the tokens one after the other, each with all the heads that share it.
    template <class Tile>
    void lanes_of_attention(const AttentionArgs& args, const StoredKv& kv) const {
        constexpr std::size_t lanes = Tile::lanes;
        const std::size_t group = args.heads / args.kv_heads, d = args.head_dim;
        const std::size_t blocks = (args.q.rows() * group + lanes - 1) / lanes;
        parallel_for(args.kv_heads * blocks, 1, [&](std::size_t begin, std::size_t end) {
            struct Slot;
            float* const scratch = thread_scratch<Slot>(lane_attention_scratch(lanes, kv.type, d)).data();
            for (std::size_t item = begin; item < end; ++item) {
                const std::size_t kv_head = item % args.kv_heads, block = item / args.kv_heads;
                QueryLanes<lanes> queries{};
                for (std::size_t lane = 0; lane < lanes; ++lane) {
                    const std::size_t i = block * lanes + lane, token = i / group;
                    if (token >= args.q.rows()) break;
                    const std::size_t head = kv_head * group + i % group, seen = args.first + token + 1;
                    queries.q[lane] = args.q.row(token).data() + head * d;
                    queries.out[lane] = args.out.row(token).data() + head * d;
                    queries.begin[lane] = args.window != 0 && seen > args.window ? seen - args.window : 0;
                    queries.end[lane] = seen;
                }
                const std::size_t plane = kv_head * args.capacity * row_bytes(kv.type, d);
                const KvHead rows{kv.type, kv.k + plane, kv.v + plane, d};
                at_level<Tile::level>([&] { lane_attention<Tile>(queries, rows, level_, args.scale, scratch); });
            }
        });
    }

    struct Shared {
        ThreadPool pool;
        LaneMemory memory;
        std::atomic<std::size_t> repacked_bytes{0};
        std::atomic<std::int64_t> repack_nanoseconds{0};

        explicit Shared(std::size_t threads) : pool(threads) {}
    };

    std::shared_ptr<Shared> shared_;
    CpuLevel level_;
    Products products_;
    Repack repack_;
};

[[nodiscard]] constexpr std::string_view to_string(SimdBackend::Products products) noexcept {
    switch (products) {
        case SimdBackend::Products::Fast: return "fast";
        case SimdBackend::Products::Exact: return "exact";
        case SimdBackend::Products::Bfloat16: return "bfloat16";
        case SimdBackend::Products::Bits8: return "bits8";
    }
    return "unknown";
}

}  // namespace adainfer::inline v0
