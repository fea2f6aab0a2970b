#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/reading.hpp"

namespace adainfer::inline v0 {

/// Reads the hidden state of the last position for the policies of one inference: nothing before it is asked for, nothing
/// twice in one check.
template <class Backend>
class Observer {
  public:
    Observer(const Decoder<Backend>& decoder, Session& session, std::span<const TokenId> candidates)
        : decoder_(decoder), session_(session), candidates_(candidates) {
        reading_.layers = decoder.config().layers;
        Workspace& work = session.work;
        work.shortlist.clear();
        // Sized at once, so that it does not take an exit to stop allocating.
        for (Buffer* buffer : {&work.lens, &work.previous_lens, &work.previous_hidden}) buffer->resize(1, decoder.config().hidden);
    }

    /// Keeps what HiddenCosine compares with; called before the layer that a check follows.
    void before_layer() {
        const std::span<const float> row = last_hidden();
        std::copy(row.begin(), row.end(), session_.work.previous_hidden.row(0).begin());
    }

    /// A check starts after `layer` layers.
    void after_layer(std::size_t layer) {
        reading_.layer = layer;
        reading_.hidden = last_hidden();
        reading_.previous_hidden = session_.work.previous_hidden.row(0);
        lens_read_ = top_read_ = entropy_read_ = false;
        columns_ = {};
        ++checks_;
    }

    /// The features of a plain policy.
    template <class Policy>
    [[nodiscard]] typename Policy::Features::Values features(const Policy& policy) {
        using Features = typename Policy::Features;
        if constexpr (requires { Features::needs; }) {
            if constexpr (Features::needs >= Needs::Lens) read_lens(adainfer::lens_of(policy));
            if constexpr (Features::needs >= Needs::Logits) {
                run_head(adainfer::head_of(policy));
                read_top(Features::needs >= Needs::Entropy);
            }
            return Features::read(reading_);
        } else {
            return {};
        }
    }

    /// The logits of the state after `layer` layers, as the policy reads it: those of the check that has just been made, or
    /// new ones. At full depth they come from the final norm, and only where an answer can be: the candidates, or the
    /// shortlist of this inference, unless the policy says that it needs the dense model's own answer. Where a head that
    /// confirms has made the shortlist, they are of the whole vocabulary at either depth.
    template <class Policy>
    void answer(const Policy& policy, std::size_t layer) {
        if (layer == reading_.layers) {
            Workspace& work = session_.work;
            decoder_.final_norm(last_hidden(), work.lens.row(0));
            std::span<const TokenId> rows = candidates_;
            if constexpr (!requires { Policy::needs_dense_answer; }) {
                if (rows.empty() && !confirms_) rows = work.shortlist;
            }
            columns_ = CandidateHead{}.run(decoder_, work.lens.row(0), rows, work);
        } else if (!top_read_ || reading_.layer != layer) {
            reading_.layer = layer;
            reading_.hidden = last_hidden();
            read_lens(adainfer::lens_of(policy));
            run_head(adainfer::head_of(policy));
        }
        const bool shortlisted = candidates_.empty() && !columns_.empty();
        if (shortlisted && confirms_) columns_ = FullHead{}.run(decoder_, reading_.lens, candidates_, session_.work);
    }

    [[nodiscard]] std::size_t checks() const noexcept { return checks_; }

    /// Logits of the last answer() or check, and the token of each column (empty: column i is token i).
    [[nodiscard]] std::span<const float> logits() const noexcept { return session_.work.logits.row(0); }
    [[nodiscard]] std::span<const TokenId> columns() const noexcept { return columns_; }

    /// The candidate (or token) with the largest logit. Throws NotFinite.
    [[nodiscard]] TokenId best() const {
        return answers_among_candidates() ? best_candidate() : token_of(top_index(logits()));
    }

  private:
    [[nodiscard]] std::span<const float> last_hidden() const noexcept {
        const MatrixView<float> hidden = session_.work.hidden.view();
        return hidden.row(hidden.rows() - 1);
    }

    /// The call named candidates, but the logits are of the whole vocabulary.
    [[nodiscard]] bool answers_among_candidates() const noexcept { return !candidates_.empty() && columns_.empty(); }

    [[nodiscard]] TokenId best_candidate() const {
        const std::span<const float> row = logits();
        for (const TokenId token : candidates_) {
            if (!std::isfinite(row[static_cast<std::size_t>(token)])) fail(ErrorCode::NotFinite, "logits hold NaN or infinity");
        }
        return *std::max_element(candidates_.begin(), candidates_.end(), [&](TokenId a, TokenId b) {
            return row[static_cast<std::size_t>(a)] < row[static_cast<std::size_t>(b)];
        });
    }

    [[nodiscard]] TokenId token_of(std::size_t column) const noexcept {
        return columns_.empty() ? static_cast<TokenId>(column) : columns_[column];
    }

    template <class Lens>
    void read_lens(const Lens& lens) {
        if (lens_read_) return;
        Workspace& work = session_.work;
        std::swap(work.lens, work.previous_lens);
        reading_.previous_lens = lens_seen_ ? std::span<const float>(work.previous_lens.row(0)) : std::span<const float>{};
        const std::span<float> out = work.lens.row(0);
        lens.apply(decoder_, reading_.layer, reading_.hidden, out);
        reading_.lens = out;
        lens_read_ = lens_seen_ = true;
    }

    template <class Head>
    void run_head(const Head& head) {
        if (top_read_) return;
        columns_ = head.run(decoder_, reading_.lens, candidates_, session_.work);
        confirms_ = confirms_ || adainfer::confirms_of(head);
    }

    void read_top(bool with_entropy) {
        if (top_read_ && (entropy_read_ || !with_entropy)) return;
        if (!top_read_) reading_.previous_token = reading_.token;
        reading_.top = top_two(logits(), with_entropy, ops::level_of(decoder_.backend()));
        reading_.token = answers_among_candidates() ? best_candidate() : token_of(reading_.top.top);
        top_read_ = true;
        entropy_read_ = with_entropy;
    }

    const Decoder<Backend>& decoder_;
    Session& session_;
    std::span<const TokenId> candidates_, columns_;
    Reading reading_;
    std::size_t checks_ = 0;
    bool lens_read_ = false, lens_seen_ = false, top_read_ = false, entropy_read_ = false;
    bool confirms_ = false;  // a head of this inference does
};

}  // namespace adainfer::inline v0
