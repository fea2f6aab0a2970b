#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "adainfer/core/progress.hpp"

namespace cli {

/// One line on standard error that says how far a long operation is, with rate and time left; nothing where standard error is
/// not a terminal. The line goes away with the object.
class ProgressBar {
  public:
    ProgressBar();
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;
    ~ProgressBar() { clear(); }

    /// For the library's calls; refers to this object.
    [[nodiscard]] adainfer::Progress callback();

    void update(std::string_view stage, std::size_t done, std::size_t total);

    /// Takes the line away, so that something else can be printed.
    void clear();

  private:
    using Clock = std::chrono::steady_clock;

    bool terminal_, shown_ = false;
    std::string stage_;
    std::size_t last_done_ = 0, first_done_ = 0;
    Clock::time_point start_, drawn_;
};

}  // namespace cli
