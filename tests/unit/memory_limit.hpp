#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <fstream>

#include "sanitized.hpp"

#if defined(__linux__) && !defined(TESTS_SANITIZED)
#define TESTS_LIMIT_MEMORY 1
#include <sys/resource.h>
#include <unistd.h>
#endif

/// While it lives, this process cannot take `bytes` more of address space. (The sanitizers cannot live with a limit.)
class MemoryLimit {
  public:
    explicit MemoryLimit([[maybe_unused]] std::size_t bytes) {
#ifdef TESTS_LIMIT_MEMORY
        REQUIRE(getrlimit(RLIMIT_AS, &before_) == 0);
        std::size_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        REQUIRE(pages > 0);
        rlimit now = before_;
        now.rlim_cur = std::min<rlim_t>(before_.rlim_max, pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + bytes);
        REQUIRE(setrlimit(RLIMIT_AS, &now) == 0);
#endif
    }
    MemoryLimit(const MemoryLimit&) = delete;
    MemoryLimit& operator=(const MemoryLimit&) = delete;
#ifdef TESTS_LIMIT_MEMORY
    ~MemoryLimit() { setrlimit(RLIMIT_AS, &before_); }

  private:
    rlimit before_{};
#endif
};
