#pragma once

#include <cstddef>
#include <span>
#include <stop_token>

#include "adainfer/core/progress.hpp"
#include "adainfer/core/types.hpp"

namespace adainfer::inline v0 {

/// Of one call.
struct RunOptions {
    std::stop_token stop{};  ///< looked at between layers; a stop throws Cancelled and leaves the session as it was
    Progress progress{};     ///< prompt tokens done
    /// How far its generation is, for policies that depend on it (ExitPolicy: start). 0 for the first decode() after the
    /// prompt, which chooses the second new token as the prompt itself chooses the first; 1 for the next. generate() counts
    /// on from the value that it is given.
    std::size_t step = 0;
};

/// What the model says comes next, and how deep it went to say so. The spans point into the session and are valid until its
/// next pass.
struct Prediction {
    TokenId token = no_token;          ///< the largest logit: among the candidates where the call named some
    std::size_t exit_layer = 0;        ///< layers run for this token, 1 to layers; layers that the policy skips do not count
    std::size_t layers = 0;            ///< layers of the model
    std::size_t checks = 0;            ///< how often the policy was consulted
    std::span<const float> logits;     ///< a row, computed at the exit layer
    std::span<const TokenId> columns;  ///< token of each logit; empty: logit i belongs to token i
};

}  // namespace adainfer::inline v0
