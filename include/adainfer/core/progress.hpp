#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace adainfer::inline v0 {

/// How far a long operation has come. `total` is 0 where it is not known.
struct ProgressEvent {
    std::string_view stage;  ///< what is being done, e.g. "prepare weights"
    std::size_t done = 0;
    std::size_t total = 0;
};

/// Called from the thread that does the work. An empty function reports nothing.
using Progress = std::function<void(const ProgressEvent&)>;

}  // namespace adainfer::inline v0
