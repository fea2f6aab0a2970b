#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/bfloat_attention.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_attention.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/token_attention.hpp"
#include "adainfer/kernels/token_attention_avx2.hpp"
#include "adainfer/tensor/kv_type.hpp"

// The attention of SimdBackend, spread over its threads.

namespace adainfer::inline v0::detail::simd {

/// The first position that a token sees.
[[nodiscard]] inline std::size_t first_seen(const AttentionArgs& args, std::size_t token) noexcept {
    const std::size_t end = args.first + token + 1;
    return args.window != 0 && end > args.window ? end - args.window : 0;
}

[[nodiscard]] inline KvHead kv_head_of(const AttentionArgs& args, const StoredKv& kv, std::size_t kv_head) {
    const std::size_t plane = kv_head * args.capacity * row_bytes(kv.type, args.head_dim);
    return {kv.type, kv.k + plane, kv.v + plane, args.head_dim};
}

/// Of one token. Work items are spans of positions under one K/V head.
template <class Kernels>
void token_attention(ThreadPool& pool, const AttentionArgs& args, const StoredKv& kv) {
    const std::size_t group = args.heads / args.kv_heads, d = args.head_dim, end = args.first + 1;
    const std::size_t begin = first_seen(args, 0);
    const std::size_t spans = (end - begin + token_span - 1) / token_span;
    const std::size_t size = span_result_floats(group, d);
    struct Results;
    // As many as the whole context will need: a decode that grows allocates once.
    const std::size_t most = (args.capacity + token_span - 1) / token_span + 1;
    float* const results = thread_scratch<Results>(args.kv_heads * (std::max)(most, spans) * size).data();
    pool.parallel_for(args.kv_heads * spans, 1, [&](std::size_t first, std::size_t last) {
        struct Slot;
        float* const scratch = thread_scratch<Slot>(span_scratch(group)).data();
        for (std::size_t item = first; item < last; ++item) {
            const std::size_t kv_head = item / spans, from = begin + item % spans * token_span;
            span_attention<Kernels>({args.q.row(0).data() + kv_head * group * d, group, args.scale}, kv_head_of(args, kv, kv_head),
                                    from, (std::min)(token_span, end - from), scratch, span_result(results + item * size, group));
        }
    });
    at_level<Kernels::level>([&] {
        for (std::size_t head = 0; head < args.kv_heads; ++head) {
            join_spans(results + head * spans * size, spans, group, d, args.out.row(0).data() + head * group * d);
        }
    });
}

/// Block `block` of the queries of a K/V head: the tokens one after the other, each with all the heads that share it.
template <std::size_t lanes>
[[nodiscard]] QueryLanes<lanes> query_lanes(const AttentionArgs& args, std::size_t kv_head, std::size_t block) {
    const std::size_t group = args.heads / args.kv_heads;
    QueryLanes<lanes> queries{};
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        const std::size_t i = block * lanes + lane, token = i / group;
        if (token >= args.q.rows()) break;
        const std::size_t head = kv_head * group + i % group;
        queries.q[lane] = args.q.row(token).data() + head * args.head_dim;
        queries.out[lane] = args.out.row(token).data() + head * args.head_dim;
        queries.begin[lane] = first_seen(args, token);
        queries.end[lane] = args.first + token + 1;
    }
    return queries;
}

/// f(kv_head, count, block) for parts of the query blocks of each K/V head, on all threads: block(0) to block(count - 1). Late
/// blocks see more positions, so the first and the last come before the second and the last but one, and all threads have as much
/// to do.
template <class F>
void for_query_blocks(ThreadPool& pool, const AttentionArgs& args, std::size_t lanes, F&& f) {
    const std::size_t blocks = (args.q.rows() * (args.heads / args.kv_heads) + lanes - 1) / lanes;
    const auto folded = [blocks](std::size_t i) { return i % 2 == 0 ? i / 2 : blocks - 1 - i / 2; };
    pool.parallel_for(args.kv_heads * blocks, 1, [&](std::size_t begin, std::size_t end) {
        for (std::size_t item = begin; item < end;) {
            const std::size_t kv_head = item / blocks, some = (std::min)(end - item, (kv_head + 1) * blocks - item);
            f(kv_head, some, [&, at = item % blocks](std::size_t i) { return folded(at + i); });
            item += some;
        }
    });
}

/// A block of queries at a time.
template <class Tile>
void lanes_of_attention(ThreadPool& pool, const AttentionArgs& args, const StoredKv& kv) {
    constexpr std::size_t lanes = Tile::lanes;
    for_query_blocks(pool, args, lanes, [&](std::size_t kv_head, std::size_t count, const auto& block) {
        struct Slot;
        float* const scratch = thread_scratch<Slot>(lane_attention_scratch(lanes, kv.type, args.head_dim)).data();
        const KvHead rows = kv_head_of(args, kv, kv_head);
        for (std::size_t i = 0; i < count; ++i) {
            const QueryLanes<lanes> queries = query_lanes<lanes>(args, kv_head, block(i));
            at_level<Tile::level>([&] { lane_attention<Tile>(queries, rows, Tile::level, args.scale, scratch); });
        }
    });
}

#if ADAINFER_X86

/// In bfloat16, several blocks at a time. Tile: avx512::BfloatTile or avx512::AmxTile.
template <class Tile>
void bfloat_attention(ThreadPool& pool, const AttentionArgs& args, const StoredKv& kv) {
    using Attention = avx512::BfloatAttention<Tile>;
    const std::size_t begin = first_seen(args, 0);
    for_query_blocks(pool, args, Attention::lanes, [&](std::size_t kv_head, std::size_t count, const auto& block) {
        thread_local Attention attention;
        const KvHead rows = kv_head_of(args, kv, kv_head);
        for (std::size_t i = 0; i < count; i += Attention::most_blocks) {
            std::array<QueryLanes<Attention::lanes>, Attention::most_blocks> queries;
            const std::size_t some = (std::min)(Attention::most_blocks, count - i);
            for (std::size_t j = 0; j < some; ++j) queries[j] = query_lanes<Attention::lanes>(args, kv_head, block(i + j));
            attention.run(std::span(queries).first(some), rows, args.scale, begin);
        }
    });
}

#endif

}  // namespace adainfer::inline v0::detail::simd
