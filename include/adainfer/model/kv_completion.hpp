#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include "adainfer/model/session.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// What becomes of the K/V rows of the layers that a token did not run. One that keeps the session has
///
///     /// The pass over one token stopped after `depth` layers: work.hidden's last row is its state.
///     template <class Decoder> static void complete(const Decoder& decoder, Session& session, std::size_t depth);
template <class K>
concept KvCompletion = requires {
    { K::keeps_session } -> std::convertible_to<bool>;
};

/// Their K and V projections applied to the exit state (CALM, arXiv 2207.07061, section 3.2: state propagation). Cheap, and an
/// approximation.
struct PropagateHidden {
    static constexpr bool keeps_session = true;

    template <class Decoder>
    static void complete(const Decoder& decoder, Session& session, std::size_t depth) {
        const std::size_t layers = decoder.config().layers;
        for (std::size_t layer = depth; layer < layers; ++layer) {
            if (!session.skipped.contains(layer)) decoder.write_kv(session, layer);
        }
    }
};

/// They stay out until a later token goes deeper; then the positions that lack them run on, batched with that token (the
/// synchronized parallel decoding of FREE, arXiv 2310.05424, for exits at any layer). Keys, values and logits are those of a
/// run whose tokens all go to full depth, up to the rounding of batched products. Saved are the layers that no later token
/// reaches, and weights: a layer's are read once for all positions that ride along.
struct DeferredExact {
    static constexpr bool keeps_session = true;
    static constexpr bool defers = true;  ///< passes go on after deferred rows; without it Model::decode() finishes them first

    template <class Decoder>
    static void complete(const Decoder& decoder, Session& session, std::size_t depth) {
        if (depth == decoder.config().layers) return;
        const MatrixView<float> hidden = session.work.hidden.view();
        const std::size_t last = hidden.rows() - 1;
        session.deferred.push(session.length() + last, depth, hidden.row(last), session.capacity());
    }
};

/// Nothing: for predictions that keep no session. Not for decode() and generate().
struct Discard {
    static constexpr bool keeps_session = false;
};

}  // namespace adainfer::inline v0
