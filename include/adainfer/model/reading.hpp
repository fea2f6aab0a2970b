#pragma once

#include <cstddef>
#include <span>

#include "adainfer/core/types.hpp"
#include "adainfer/kernels/top_two.hpp"

namespace adainfer::inline v0 {

/// What has to be computed before a feature can be read; each includes the ones before it.
enum class Needs { Hidden, Lens, Logits, Entropy };

/// What a check can see of the last position after `layer` of `layers` layers. Fields beyond what the policy's features
/// need are not filled.
struct Reading {
    std::size_t layer = 0, layers = 0;
    std::span<const float> hidden;           ///< [hidden] after this layer
    std::span<const float> previous_hidden;  ///< [hidden] before this layer
    std::span<const float> lens;             ///< [hidden] as the lens reads it
    std::span<const float> previous_lens;    ///< the same at the check before; empty at the first
    TopTwo top;                              ///< of the logits
    TokenId token = no_token;                ///< the answer of an exit here: the largest logit, among the call's candidates if any
    TokenId previous_token = no_token;       ///< the same at the check before; no_token at the first
};

}  // namespace adainfer::inline v0
