#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/model/deferred_rows.hpp"
#include "adainfer/model/kv_cache.hpp"
#include "adainfer/model/skipped_layers.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// A matrix that keeps its memory between passes: resizing to what it once held allocates nothing.
class Buffer {
  public:
    MatrixView<float> resize(std::size_t rows, std::size_t cols) {
        if (data_.size() < rows * cols) data_.resize(rows * cols);
        first_ = 0;
        rows_ = rows;
        cols_ = cols;
        return view();
    }

    /// Lets view() and row() begin at row `first` of the memory. Precondition: resize() has made first + rows rows.
    void window(std::size_t first, std::size_t rows) noexcept {
        first_ = first;
        rows_ = rows;
    }

    [[nodiscard]] MatrixView<float> view() noexcept { return {data_.data() + first_ * cols_, rows_, cols_}; }
    [[nodiscard]] std::span<float> row(std::size_t i) noexcept { return view().row(i); }

  private:
    std::vector<float> data_;
    std::size_t first_ = 0, rows_ = 0, cols_ = 0;
};

/// Scratch of one forward pass over T new tokens.
struct Workspace {
    Buffer hidden;      ///< [T, hidden]: the residual stream
    Buffer normed;      ///< [T, hidden]
    Buffer q;           ///< [T, heads * head_dim]
    Buffer k, v;        ///< [T, kv_heads * head_dim]
    Buffer attended;    ///< [T, heads * head_dim]
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

    /// Forgets every position from `length` on. Throws InvalidArgument where length exceeds the current one.
    void rewind(std::size_t length) {
        if (length > cache.length()) {
            fail(ErrorCode::InvalidArgument, "cannot rewind a session of ", cache.length(), " positions to ", length);
        }
        cache.set_length(length);
        deferred.truncate(length);
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
