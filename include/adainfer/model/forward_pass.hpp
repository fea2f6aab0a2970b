#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "adainfer/core/types.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// Most positions of a session that a pass runs at once: bounds the scratch.
inline constexpr std::size_t rows_at_once = 256;

namespace detail {
/// Restores the session's length unless the work was committed.
class Transaction {
  public:
    explicit Transaction(Session& session) : session_(session), length_(session.length()), held_(session.cache.hold()) {}
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    ~Transaction() {
        if (!committed_) session_.cache.set_length(length_);
        session_.cache.release(held_);
    }
    void commit() noexcept { committed_ = true; }

  private:
    Session& session_;
    std::size_t length_, held_;
    bool committed_ = false;
};
}  // namespace detail

/// A forward pass over new tokens after the session's positions. Positions whose K/V were deferred ride along: each joins,
/// in front of the rows there are, at the first layer that it has not run, so that every layer finds exact K/V before it.
///
/// While layers run, session.length() is the position of the first row of work.hidden; it is what it was before when the pass is
/// committed or ends. Without commit() and append() the session holds what it held.
template <class Backend>
class ForwardPass {
  public:
    /// The tokens may be none: then only deferred positions run. Throws UnknownToken.
    ForwardPass(const Decoder<Backend>& decoder, Session& session, std::span<const TokenId> tokens)
        : decoder_(decoder), session_(session), length_(session.length()), tokens_(tokens.size()), first_(length_) {
        session.deferred.truncate(length_);
        decoder.begin(session, tokens);
        located_ = {length_, tokens_};
        if (session.deferred.empty()) return;
        const std::size_t before = session.deferred.size(), width = decoder.config().hidden;
        const MatrixView<float> rows = session.work.hidden.resize(before + tokens_, width);
        std::copy_backward(rows.data(), rows.data() + tokens_ * width, rows.data() + (before + tokens_) * width);
        session.work.hidden.window(before, tokens_);
    }

    ForwardPass(const ForwardPass&) = delete;
    ForwardPass& operator=(const ForwardPass&) = delete;
    ~ForwardPass() { session_.cache.set_length(length_); }

    /// Runs layer `layer` (0 is the first) on the tokens and whoever rides along. Throws as Decoder::run_layer does.
    void run_layer(std::size_t layer) {
        join(layer);
        if (first_ == length_) {
            if (tokens_ != 0) decoder_.run_layer(session_, layer);
            return;
        }
        const std::size_t end = length_ + tokens_, at_once = (std::max)(rows_at_once, tokens_);
        for (std::size_t position = first_; position < end; position += at_once) {
            const Range range{position, (std::min)(at_once, end - position)};
            show(range);
            locate(range);
            decoder_.run_layer(session_, layer);
        }
        show({first_, end - first_});
    }

    /// No layer will run any more: takes down that whoever rode along has run `depth` of them.
    void commit(std::size_t depth) noexcept {
        session_.cache.set_length(length_);
        if (first_ == length_) return;
        if (depth == decoder_.config().layers) {
            session_.deferred.truncate(first_);
        } else {
            session_.deferred.raise(first_, depth, session_.work.hidden.view().rows(0, length_ - first_));
        }
        first_ = length_;
    }

    /// After commit(): the tokens become positions of the session.
    void append() noexcept {
        length_ += tokens_;
        session_.cache.set_length(length_);
    }

  private:
    struct Range {
        std::size_t position, rows;
        bool operator==(const Range&) const = default;
    };

    void join(std::size_t layer) {
        const DeferredRows& deferred = session_.deferred;
        std::size_t first = first_;
        while (!deferred.empty() && first > deferred.first() && deferred.depth(first - 1) <= layer) --first;
        if (first == first_) return;
        show({first, length_ + tokens_ - first});
        for (std::size_t position = first; position < first_; ++position) {
            const std::span<const float> state = deferred.state(position);
            std::copy(state.begin(), state.end(), session_.work.hidden.row(position - first).begin());
        }
        first_ = first;
    }

    /// Makes these rows the ones that the decoder sees.
    void show(Range range) noexcept {
        session_.work.hidden.window(range.position - session_.deferred.first(), range.rows);
        session_.cache.set_length(range.position);
    }

    void locate(Range range) {
        if (range == located_) return;
        decoder_.locate(session_);
        located_ = range;
    }

    const Decoder<Backend>& decoder_;
    Session& session_;
    std::size_t length_, tokens_;
    std::size_t first_;  ///< position of the first row, deferred or new, that has joined
    Range located_{};    ///< the rows whose angles are set
};

}  // namespace adainfer::inline v0
