#pragma once

#include <cstdint>

namespace adainfer::inline v0 {

/// Index of a token in the vocabulary. Negative values are never valid tokens.
using TokenId = std::int32_t;

inline constexpr TokenId no_token = -1;

}  // namespace adainfer::inline v0
