#pragma once

// Semantic version of the library. The inline namespace changes with the major version, so that two
// incompatible versions cannot be linked into one program by accident.
#define ADAINFER_VERSION_MAJOR 0
#define ADAINFER_VERSION_MINOR 1
#define ADAINFER_VERSION_PATCH 0

namespace adainfer::inline v0 {

struct Version {
    int major, minor, patch;
};

inline constexpr Version version{ADAINFER_VERSION_MAJOR, ADAINFER_VERSION_MINOR, ADAINFER_VERSION_PATCH};

}  // namespace adainfer::inline v0
