#pragma once

#include <concepts>
#include <cstddef>

#include "adainfer/model/session.hpp"

namespace adainfer::inline v0 {

/// What becomes of the K/V rows of the layers that a token did not run.
template <class K>
concept KvCompletion = requires {
    { K::keeps_session } -> std::convertible_to<bool>;
};

/// Their K and V projections applied to the exit state (CALM, arXiv 2207.07061, section 3.2: state propagation).
struct PropagateHidden {
    static constexpr bool keeps_session = true;

    template <class Decoder>
    static void complete(const Decoder& decoder, Session& session, std::size_t first_layer) {
        for (std::size_t layer = first_layer; layer < decoder.config().layers; ++layer) decoder.write_kv(session, layer);
    }
};

/// Nothing: for predictions that keep no session. Not for decode() and generate().
struct Discard {
    static constexpr bool keeps_session = false;
};

}  // namespace adainfer::inline v0
