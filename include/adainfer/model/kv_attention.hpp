#pragma once

#include <algorithm>
#include <cstddef>

#include "adainfer/backend/ops.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/kv_rows.hpp"
#include "adainfer/model/buffer.hpp"
#include "adainfer/model/kv_cache.hpp"

namespace adainfer::inline v0 {

namespace detail {

/// Points args at f32 copies, in `floats`, of the rows that its tokens see. Only distances between positions count in attention,
/// so the copies begin at the first row that is seen.
template <class Backend>
void widen(const Backend& backend, AttentionArgs& args, const StoredKv& kv, Buffer& floats) {
    const std::size_t seen = args.first + 1, hidden = args.window != 0 && seen > args.window ? seen - args.window : 0;
    const std::size_t d = args.head_dim, stride = row_bytes(kv.type, d), rows = args.first + args.q.rows() - hidden;
    float* const copies = floats.resize(2 * args.kv_heads * rows, d).data();
    ops::parallel_for(backend, 2 * args.kv_heads, 1, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const std::byte* const plane = i < args.kv_heads ? kv.k : kv.v;
            const std::byte* const head = plane + (i % args.kv_heads * args.capacity + hidden) * stride;
            unpack_kv(kv.type, best_cpu_level(), head, rows * d, copies + i * rows * d);
        }
    });
    args.k = copies;
    args.v = copies + args.kv_heads * rows * d;
    args.capacity = rows;
    args.first -= hidden;
}

}  // namespace detail

/// ops::attention() over the K/V rows of a layer, of whatever type they are: a backend that reads that type gets them as they
/// are stored, another one gets floats, for which `floats` is scratch. args.k, v and capacity are set here; args.first is a
/// position of the session.
template <class Backend>
void attention_over(const Backend& backend, AttentionArgs args, const KvCache& cache, std::size_t layer, Buffer& floats) {
    const auto [kv, first, capacity] = cache.rows(layer);
    args.capacity = capacity;
    args.first -= first;
    if constexpr (HasStoredAttention<Backend>) {
        backend.attention(args, kv);
    } else {
        if (kv.type == KvType::F32) {
            args.k = reinterpret_cast<const float*>(kv.k);
            args.v = reinterpret_cast<const float*>(kv.v);
        } else {
            detail::widen(backend, args, kv, floats);
        }
        ops::attention(backend, args);
    }
}

}  // namespace adainfer::inline v0
