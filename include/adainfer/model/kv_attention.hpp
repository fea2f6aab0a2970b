#pragma once

#include <cstddef>

#include "adainfer/backend/ops.hpp"
#include "adainfer/backend/stored_attention.hpp"
#include "adainfer/model/kv_cache.hpp"
#include "adainfer/tensor/buffer.hpp"

namespace adainfer::inline v0 {

/// ops::stored_attention() over the K/V rows of a layer. args.k, v and capacity are set here; args.first is a position of the
/// session.
template <class Backend>
void attention_over(const Backend& backend, AttentionArgs args, const KvCache& cache, std::size_t layer, Buffer& floats) {
    const auto [kv, first, capacity] = cache.rows(layer);
    args.capacity = capacity;
    args.first -= first;
    ops::stored_attention(backend, args, kv, floats);
}

}  // namespace adainfer::inline v0
