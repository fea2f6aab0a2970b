#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"

/// The message of the Error that `action` throws, whose code is checked; empty, and a failed check, where it throws none.
template <class Action>
std::string error_of(adainfer::ErrorCode code, const Action& action) {
    try {
        action();
    } catch (const adainfer::Error& error) {
        CAPTURE(std::string(error.what()));
        CHECK(error.code() == code);
        return error.what();
    }
    FAIL_CHECK("nothing was thrown");
    return {};
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// `text` with the first `from`, which must be there, replaced.
inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}
