#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/readout.hpp"
#include "adainfer/model/session.hpp"

namespace adainfer::inline v0 {

/// Whether the answer, once the exit is decided or full depth reached, is chosen among the shortlist or by one more full head.
enum class Confirm {
    No,   ///< among the shortlist
    Yes,  ///< from the logits of the whole vocabulary, of the layer that the answer is read at
};

/// The whole vocabulary at the first check of an inference, then only the `size` tokens that were likeliest there: the later
/// checks and the answer cost size/vocabulary of a head each. Probabilities are then relative to the shortlist. An answer that
/// was not on the list is missed, also at full depth, so let the first check be where the answers begin to exist, or confirm:
/// then no answer is missed, and an inference that goes on after its first check costs a second full head. A call's candidates,
/// where there are some, are the shortlist from the start, and nothing is confirmed.
class ShortlistHead {
  public:
    static constexpr std::string_view name = "shortlist";

    static constexpr std::size_t default_size = 256;

    explicit ShortlistHead(std::size_t size = default_size, Confirm confirm = Confirm::No)
        : size_((std::max)(size, std::size_t{2})), confirm_(confirm) {}

    /// The head of a specification: "shortlist", "shortlist:K" for a list of K tokens (2 or more), either with "+confirm" behind
    /// it (Confirm::Yes); none of any other text.
    [[nodiscard]] static std::optional<ShortlistHead> from_spec(std::string_view spec) {
        const bool confirms = spec.ends_with(confirm_suffix);
        if (confirms) spec.remove_suffix(confirm_suffix.size());
        const Confirm confirm = confirms ? Confirm::Yes : Confirm::No;
        if (spec == name) return ShortlistHead(default_size, confirm);
        if (!spec.starts_with(name) || !spec.substr(name.size()).starts_with(':')) return std::nullopt;
        const char *const digits = spec.data() + name.size() + 1, *const last = spec.data() + spec.size();
        std::size_t size = 0;
        const auto [end, error] = std::from_chars(digits, last, size);
        if (error != std::errc() || end != last || size < 2) return std::nullopt;
        return ShortlistHead(size, confirm);
    }

    /// What from_spec() makes the same head of.
    [[nodiscard]] std::string spec() const {
        std::string text(name);
        if (size_ != default_size) text += ":" + std::to_string(size_);
        if (confirms()) text += confirm_suffix;
        return text;
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool confirms() const noexcept { return confirm_ == Confirm::Yes; }

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
        const std::size_t kept = (std::min)(size_, logits.size());
        const float least = reached_by(logits, kept);
        work.shortlist.reserve(logits.size());
        for (std::size_t i = 0; i < logits.size(); ++i) {
            if (logits[i] >= least) work.shortlist.push_back(static_cast<TokenId>(i));
        }
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
    static constexpr std::string_view confirm_suffix = "+confirm";

    /// A value that at least `count` of the logits reach, and few more: the count-th largest among the maxima of twice as many
    /// pieces. A selection among all logits would cost as much as a layer.
    [[nodiscard]] static float reached_by(std::span<const float> logits, std::size_t count) {
        struct Slot;
        const std::size_t pieces = 2 * count, length = logits.size() / pieces;
        if (length < 2) return -HUGE_VALF;
        const std::span<float> maxima = thread_scratch<Slot>(pieces);
        for (std::size_t i = 0; i < pieces; ++i) {
            const std::size_t first = i * length, n = i + 1 == pieces ? logits.size() - first : length;
            maxima[i] = max_value(logits.data() + first, n);
        }
        std::nth_element(maxima.begin(), maxima.begin() + static_cast<std::ptrdiff_t>(count - 1), maxima.end(), std::greater<>{});
        return maxima[count - 1];
    }

    std::size_t size_;
    Confirm confirm_;
};

}  // namespace adainfer::inline v0
