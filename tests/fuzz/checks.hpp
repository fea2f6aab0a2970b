#pragma once

#include <cstdlib>
#include <string_view>

#include "adainfer/core/error.hpp"

namespace fuzzing {

/// Stops the fuzzer at an input of which something that must hold does not.
inline void require(bool condition) {
    if (!condition) std::abort();
}

/// A message quotes nothing raw of what is in the file.
inline void check_printable(const adainfer::Error& error) {
    for (const char c : std::string_view(error.what())) require(c >= ' ' && c <= '~');
}

/// And it names the file.
inline void check_message(const adainfer::Error& error, std::string_view file) {
    require(std::string_view(error.what()).find(file) != std::string_view::npos);
    check_printable(error);
}

}  // namespace fuzzing
