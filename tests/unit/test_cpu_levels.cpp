#include "adainfer/kernels/cpu.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string>

#include "adainfer/backend/simd.hpp"
#include "adainfer/core/error.hpp"
#include "errors.hpp"

// Which levels this machine has, and who may choose another.

namespace test_cpu_levels {

using namespace adainfer;

TEST_CASE("CPU levels: from the portable one up to the best, those of one architecture") {
    const std::span<const CpuLevel> levels = cpu_levels();
    REQUIRE(!levels.empty());
    CHECK(levels.front() == CpuLevel::Portable);
    CHECK(levels.back() == best_cpu_level());
    CHECK(std::is_sorted(levels.begin(), levels.end()));
    for (const CpuLevel level : levels) {
        CHECK(has_level(level));
        CHECK(to_string(level) != "unknown");
    }
    CHECK_FALSE((has_level(CpuLevel::Neon) && has_level(CpuLevel::Avx2)));
}

#if !defined(_WIN32)

TEST_CASE("ADAINFER_CPU: a level of this machine, or an error that lists them") {
    const char* const before = std::getenv("ADAINFER_CPU");
    const std::string restored = before == nullptr ? "" : before;
    const auto with = [](const std::string& name) {
        REQUIRE(setenv("ADAINFER_CPU", name.c_str(), 1) == 0);
        return cpu_level();
    };
    CHECK(with("") == best_cpu_level());
    std::string names;
    for (const CpuLevel level : cpu_levels()) {
        const std::string name(to_string(level));
        CHECK(with(name) == level);
        CHECK(SimdBackend(1).level() == level);
        names += (names.empty() ? "" : ", ") + name;
    }
    for (const std::string wrong : {"sse9", has_level(CpuLevel::Neon) ? "avx2" : "neon"}) {
        const std::string message = error_of(ErrorCode::InvalidArgument, [&] { with(wrong); });
        CHECK(contains(message, "ADAINFER_CPU is '" + wrong + "'; levels of this machine: " + names));
    }
    setenv("ADAINFER_CPU", restored.c_str(), 1);
}

#endif

}  // namespace test_cpu_levels
