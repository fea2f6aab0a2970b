#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/readout.hpp"
#include "adainfer/model/session.hpp"

namespace adainfer::inline v0 {

/// The whole vocabulary at the first check of an inference, then only the `size` tokens that were likeliest there: the later
/// checks and the answer cost size/vocabulary of a head each. Probabilities are then relative to the shortlist. An answer that
/// was not on the list is missed, also at full depth, so let the first check be where the answers begin to exist. A call's
/// candidates, where there are some, are the shortlist from the start.
class ShortlistHead {
  public:
    static constexpr std::string_view name = "shortlist";

    explicit ShortlistHead(std::size_t size = 256) : size_((std::max)(size, std::size_t{2})) {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Logits that a check computes, for the cost model.
    [[nodiscard]] std::size_t rows(std::size_t vocabulary, std::size_t candidates, bool first) const noexcept {
        if (candidates > 0) return candidates;
        return first ? vocabulary : (std::min)(size_, vocabulary);
    }

    /// As the other heads; throws NotFinite where the logits that the shortlist is made of are not finite.
    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId> candidates,
                                 Workspace& work) const {
        if (!candidates.empty()) return CandidateHead{}.run(decoder, state, candidates, work);
        if (!work.shortlist.empty()) return CandidateHead{}.run(decoder, state, work.shortlist, work);
        FullHead{}.run(decoder, state, candidates, work);
        const std::span<const float> logits = work.logits.row(0);
        // NaN has no place in an order, so it must not reach the selection below.
        if (!all_finite(logits.data(), logits.size())) fail(ErrorCode::NotFinite, "logits hold NaN or infinity");
        work.shortlist.resize(logits.size());
        std::iota(work.shortlist.begin(), work.shortlist.end(), TokenId{0});
        const std::size_t kept = (std::min)(size_, logits.size());
        const auto likelier = [&](TokenId a, TokenId b) {
            const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
            return x > y || (x == y && a < b);
        };
        const auto middle = work.shortlist.begin() + static_cast<std::ptrdiff_t>(kept);
        std::nth_element(work.shortlist.begin(), middle, work.shortlist.end(), likelier);
        work.shortlist.resize(kept);
        std::sort(work.shortlist.begin(), work.shortlist.end());
        return {};
    }

  private:
    std::size_t size_;
};

}  // namespace adainfer::inline v0
