#pragma once

#include <stop_token>

#include "adainfer/core/progress.hpp"
#include "adainfer/io/file_bytes.hpp"

namespace adainfer::inline v0 {

/// How a model is loaded.
struct LoadOptions {
    Progress progress{};
    std::stop_token stop{};
    FileAccess access = FileAccess::Map;  ///< of the weights
};

}  // namespace adainfer::inline v0
