#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

#include "adainfer/core/types.hpp"
#include "adainfer/model/session.hpp"

// How a hidden state in the middle of the model becomes logits: a lens brings it to where the head can read it, a head
// says which rows of the vocabulary are computed. These two are what the paper uses; early_exit/ has more.

namespace adainfer::inline v0 {

/// `void apply(const Decoder&, std::size_t layer, std::span<const float> hidden, std::span<float> out) const`: see LogitLens.
template <class L, class Decoder>
concept Lens = requires(const L& lens, const Decoder& decoder, std::size_t layer, std::span<const float> hidden,
                        std::span<float> out) { lens.apply(decoder, layer, hidden, out); };

/// `std::span<const TokenId> run(const Decoder&, std::span<const float> state, std::span<const TokenId> candidates,
/// Workspace&) const`: see FullHead.
template <class H, class Decoder>
concept LmHead = requires(const H& head, const Decoder& decoder, std::span<const float> state, std::span<const TokenId> candidates,
                          Workspace& work) {
    { head.run(decoder, state, candidates, work) } -> std::convertible_to<std::span<const TokenId>>;
};

/// True where the head looks at few tokens only to decide, and the answer to an open question is then to be read with the
/// whole vocabulary: its OPTIONAL member `bool confirms() const`, default false.
template <class H>
[[nodiscard]] constexpr bool confirms_of(const H& head) noexcept {
    if constexpr (requires { head.confirms(); }) {
        return head.confirms();
    } else {
        return false;
    }
}

/// The model's own final norm (AdaInfer, arXiv 2403.02181, section 3.1; nostalgebraist's logit lens).
struct LogitLens {
    static constexpr std::string_view name = "logit";

    /// True where the lens can read the state after `layer` layers.
    [[nodiscard]] static constexpr bool reads(std::size_t) noexcept { return true; }

    /// out [hidden] = the state that the head reads, from the hidden state [hidden] after `layer` layers.
    template <class Decoder>
    void apply(const Decoder& decoder, std::size_t, std::span<const float> hidden, std::span<float> out) const {
        decoder.final_norm(hidden, out);
    }
};

/// Logits of the whole vocabulary.
struct FullHead {
    static constexpr std::string_view name = "full";

    /// Logits that a check computes, for the cost model.
    [[nodiscard]] static constexpr std::size_t rows(std::size_t vocabulary, std::size_t, bool) noexcept { return vocabulary; }

    /// Fills work.logits with a row; returns the token of each column, empty where column i is token i.
    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId>,
                                 Workspace& work) const {
        decoder.logits(state, work.logits.resize(1, decoder.config().vocabulary).row(0));
        return {};
    }
};

/// Logits of the call's candidate tokens only, e.g. the labels of a classification; of the whole vocabulary where the call
/// names none. Probabilities are then relative to the candidates.
struct CandidateHead {
    static constexpr std::string_view name = "candidates";

    [[nodiscard]] static constexpr std::size_t rows(std::size_t vocabulary, std::size_t candidates, bool) noexcept {
        return candidates > 0 ? candidates : vocabulary;
    }

    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId> candidates,
                                 Workspace& work) const {
        if (candidates.empty()) return FullHead{}.run(decoder, state, candidates, work);
        decoder.logits(state, candidates, work.logits.resize(1, candidates.size()).row(0));
        return candidates;
    }
};

}  // namespace adainfer::inline v0
