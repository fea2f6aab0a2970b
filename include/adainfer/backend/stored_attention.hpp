#pragma once

#include <cstddef>

#include "adainfer/backend/ops.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/kv_rows.hpp"
#include "adainfer/tensor/buffer.hpp"
#include "adainfer/tensor/kv_type.hpp"

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

namespace ops {

/// attention() over K/V rows of any type: a backend that reads that type gets them as they are stored, another one gets floats,
/// for which `floats` is scratch. args.k and v are set here.
template <class B>
void stored_attention(const B& backend, AttentionArgs args, const StoredKv& kv, Buffer& floats) {
    if constexpr (HasStoredAttention<B>) {
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

}  // namespace ops

}  // namespace adainfer::inline v0
