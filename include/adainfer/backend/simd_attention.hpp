#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/thread_pool.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/lane_attention.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/token_attention.hpp"
#include "adainfer/kernels/token_attention_avx2.hpp"
#include "adainfer/tensor/kv_type.hpp"

// The attention of SimdBackend, spread over its threads.

namespace adainfer::inline v0::detail::simd {

/// Of one token. Work items are spans of positions under one K/V head.
template <class Kernels>
void token_attention(ThreadPool& pool, const AttentionArgs& args, const StoredKv& kv) {
    const std::size_t group = args.heads / args.kv_heads, d = args.head_dim, end = args.first + 1;
    const std::size_t begin = args.window != 0 && end > args.window ? end - args.window : 0;
    const std::size_t spans = (end - begin + token_span - 1) / token_span;
    const std::size_t size = span_result_floats(group, d);
    struct Results;
    // As many as the whole context will need: a decode that grows allocates once.
    const std::size_t most = (args.capacity + token_span - 1) / token_span + 1;
    float* const results = thread_scratch<Results>(args.kv_heads * (std::max)(most, spans) * size).data();
    pool.parallel_for(args.kv_heads * spans, 1, [&](std::size_t first, std::size_t last) {
        struct Slot;
        float* const scratch = thread_scratch<Slot>(span_scratch(group, kv.type, d)).data();
        for (std::size_t item = first; item < last; ++item) {
            const std::size_t kv_head = item / spans, from = begin + item % spans * token_span;
            const std::size_t plane = kv_head * args.capacity * row_bytes(kv.type, d);
            span_attention<Kernels>({args.q.row(0).data() + kv_head * group * d, group, args.scale},
                                    {kv.type, kv.k + plane, kv.v + plane, d}, from, (std::min)(token_span, end - from), scratch,
                                    span_result(results + item * size, group));
        }
    });
    at_level<Kernels::level>([&] {
        for (std::size_t head = 0; head < args.kv_heads; ++head) {
            join_spans(results + head * spans * size, spans, group, d, args.out.row(0).data() + head * group * d);
        }
    });
}

/// Work items are blocks of lanes under one K/V head: the tokens one after the other, each with all the heads that share it.
template <class Tile>
void lanes_of_attention(ThreadPool& pool, const AttentionArgs& args, const StoredKv& kv) {
    constexpr std::size_t lanes = Tile::lanes;
    const std::size_t group = args.heads / args.kv_heads, d = args.head_dim;
    const std::size_t blocks = (args.q.rows() * group + lanes - 1) / lanes;
    pool.parallel_for(args.kv_heads * blocks, 1, [&](std::size_t begin, std::size_t end) {
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
            at_level<Tile::level>([&] { lane_attention<Tile>(queries, rows, Tile::level, args.scale, scratch); });
        }
    });
}

}  // namespace adainfer::inline v0::detail::simd
