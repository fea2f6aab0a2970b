#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/tensor/buffer.hpp"
#include "adainfer/model/deferred_rows.hpp"
#include "adainfer/model/kv_cache.hpp"
#include "adainfer/model/skipped_layers.hpp"
#include "adainfer/tensor/kv_type.hpp"

namespace adainfer::inline v0 {

/// Scratch of one forward pass over T new tokens.
struct Workspace {
    Buffer hidden;      ///< [T, hidden]: the residual stream
    Buffer normed;      ///< [T, hidden]
    Buffer q;           ///< [T, heads * head_dim]
    Buffer k, v;        ///< [T, kv_heads * head_dim]
    Buffer attended;    ///< [T, heads * head_dim]
    Buffer kv_floats;   ///< K/V rows of a layer for a backend that does not read them as they are stored
    Buffer projected;   ///< [T, hidden]: what a block adds to the residual stream
    Buffer gate, up;    ///< [T, feed_forward]
    Buffer cos, sin;    ///< [T, rope.dims / 2]
    Buffer window_cos, window_sin;  ///< the same of windowed layers, where they have positions of their own
    Buffer lens;            ///< [1, hidden]: the hidden state as a lens reads it
    Buffer previous_lens;   ///< [1, hidden]: the same at the check before
    Buffer previous_hidden; ///< [1, hidden]: last position before the layer just run
    Buffer logits;          ///< [1, vocabulary or candidates]
    std::vector<TokenId> shortlist;  ///< of one inference: the tokens a ShortlistHead looks at after its first check
};

/// What a session is made with.
struct SessionOptions {
    std::size_t capacity = 0;   ///< positions it can hold; 0: as many as the model was made for
    KvType kv = KvType::F32;    ///< how it stores keys and values
    /// Positions that Session::rewind() can take back at once; more only to the start. Where it is less than all, windowed layers
    /// keep no more than their window needs, and half as much again to work with.
    std::size_t rewindable = KvCache::every_position;
};

/// One sequence: its KV cache and the scratch of its forward passes. Made by Model::new_session, used by one thread at a
/// time; any model that shares the weights and skips the same layers (other exit policies too) can continue it. Move-only: copy
/// with clone().
class Session {
  public:
    Session(KvCache kv_cache, std::string identity) : cache(std::move(kv_cache)), identity_(std::move(identity)) {}

    Session(Session&&) noexcept = default;
    Session& operator=(Session&&) noexcept = default;

    /// A session that continues from the same positions, with scratch of its own.
    [[nodiscard]] Session clone() const {
        Session copy(cache.clone(), identity_);
        copy.deferred = deferred;
        copy.skipped = skipped;
        return copy;
    }

    /// Number of positions in the cache.
    [[nodiscard]] std::size_t length() const noexcept { return cache.length(); }
    [[nodiscard]] std::size_t capacity() const noexcept { return cache.capacity(); }

    /// Forgets every position from `length` on. Throws InvalidArgument where length exceeds the current one, and where a windowed
    /// layer has given up what it would need there (see SessionOptions::rewindable).
    void rewind(std::size_t length) {
        if (length > cache.length()) {
            fail(ErrorCode::InvalidArgument, "cannot rewind a session of ", cache.length(), " positions to ", length);
        }
        if (!cache.reaches(length)) {
            fail(ErrorCode::InvalidArgument, "cannot rewind a session of ", cache.length(), " positions to ", length,
                 ": its windowed layers have given up the rows before; ask for a session with more rewindable positions");
        }
        cache.set_length(length);
        deferred.truncate(length);
    }

    /// Makes room for the K/V rows of `tokens` positions after length(). Throws std::bad_alloc; then nothing has changed.
    void make_room(std::size_t tokens) {
        cache.make_room(tokens, deferred.empty() ? length() : (std::min)(length(), deferred.first()));
    }

    /// Identity of the weights that the cached keys and values come from.
    [[nodiscard]] const std::string& identity() const noexcept { return identity_; }

    KvCache cache;
    DeferredRows deferred;  ///< positions without K/V above some depth (DeferredExact)
    SkippedLayers skipped;  ///< layers without K/V; an empty session takes those of the model that fills it
    Workspace work;

  private:
    std::string identity_;
};

}  // namespace adainfer::inline v0
