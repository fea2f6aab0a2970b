#include "progress_bar.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace cli {

namespace {
bool stderr_is_terminal() {
#if defined(_WIN32)
    return _isatty(_fileno(stderr)) != 0;
#else
    return isatty(STDERR_FILENO) != 0;
#endif
}

std::string minutes(double seconds) {
    const auto whole = static_cast<unsigned long long>(std::clamp(seconds, 0.0, 359'999.0));
    char text[32];
    std::snprintf(text, sizeof text, "%llu:%02llu", whole / 60, whole % 60);
    return text;
}
}  // namespace

ProgressBar::ProgressBar() : terminal_(stderr_is_terminal()) {}

adainfer::Progress ProgressBar::callback() {
    if (!terminal_) return {};
    return [this](const adainfer::ProgressEvent& event) { update(event.stage, event.done, event.total); };
}

void ProgressBar::update(std::string_view stage, std::size_t done, std::size_t total) {
    if (!terminal_) return;
    const Clock::time_point now = Clock::now();
    if (stage != stage_ || done < last_done_) {
        stage_ = stage;
        first_done_ = done;
        start_ = now;
        drawn_ = {};
    }
    last_done_ = done;
    using namespace std::chrono_literals;
    // Nothing for what is over before one could read it, and no more than ten lines a second.
    if (now - start_ < 300ms || now - drawn_ < 100ms) return;
    drawn_ = now;

    const double rate = static_cast<double>(done - first_done_) / std::chrono::duration<double>(now - start_).count();
    std::string line = stage_ + " ";
    char text[96];
    if (total != 0) {
        constexpr std::size_t width = 24;
        const std::size_t filled = width * (std::min)(done, total) / total;
        line.append("[").append(filled, '#').append(width - filled, '.').append("]");
        std::snprintf(text, sizeof text, " %3zu%%  %zu/%zu", 100 * (std::min)(done, total) / total, done, total);
    } else {
        std::snprintf(text, sizeof text, "%zu", done);
    }
    line += text;
    std::snprintf(text, sizeof text, rate < 10 ? "  %.2f/s" : "  %.0f/s", rate);
    line += text;
    if (total > done && rate > 0) line += "  " + minutes(static_cast<double>(total - done) / rate) + " left";
    std::cerr << "\r\033[K" << line << std::flush;
    shown_ = true;
}

void ProgressBar::clear() {
    if (!shown_) return;
    std::cerr << "\r\033[K" << std::flush;
    shown_ = false;
    stage_.clear();
}

}  // namespace cli
