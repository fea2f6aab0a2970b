#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "errors.hpp"

namespace test_top_two {

using namespace adainfer;

TEST_CASE("top_index and top_two: the largest logit, the first of equal ones, wherever it stands") {
    for (const std::size_t size : {std::size_t{1}, std::size_t{31}, std::size_t{32}, std::size_t{1025}, std::size_t{5000}}) {
        std::vector<float> logits(size);
        for (std::size_t i = 0; i < size; ++i) logits[i] = static_cast<float>(i * 7919 % 1000) * -0.01F - 1.0F;
        for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
            std::vector<float> row = logits;
            row[at] = 3.0F;
            row[size - 1] = 3.0F;
            CAPTURE(size);
            CAPTURE(at);
            CHECK(top_index(row) == at);
            CHECK(top_two(row).top == at);
        }
    }
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(top_index(std::vector<float>{-infinity, -2.0F, -infinity}) == 1);
}

TEST_CASE("top_index and top_two refuse NaN, +infinity and no finite logit, wherever it stands") {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
        for (const std::size_t at : {std::size_t{0}, std::size_t{40}, std::size_t{1999}, std::size_t{2002}}) {
            std::vector<float> row(2003, 1.0F);
            row[at] = bad;
            CAPTURE(at);
            error_of(ErrorCode::NotFinite, [&] { static_cast<void>(top_index(row)); });
            error_of(ErrorCode::NotFinite, [&] { static_cast<void>(top_two(row)); });
        }
    }
    const std::vector<float> none(3, -infinity);
    error_of(ErrorCode::NotFinite, [&] { static_cast<void>(top_index(none)); });
    error_of(ErrorCode::NotFinite, [&] { static_cast<void>(top_two(none)); });
    error_of(ErrorCode::InvalidArgument, [&] { static_cast<void>(top_index({})); });
}

TEST_CASE("top_two: softmax by hand") {
    // e^0, e^1, e^2: 1, 2.718282, 7.389056; together 11.107338.
    const TopTwo top = top_two(std::vector<float>{1.0F, 2.0F, 0.0F}, true);
    CHECK(top.top == 1);
    CHECK(static_cast<double>(top.top_probability) == doctest::Approx(0.665241).epsilon(1e-5));
    CHECK(static_cast<double>(top.second_probability) == doctest::Approx(0.244728).epsilon(1e-5));
    // -(0.665241 ln 0.665241 + 0.244728 ln 0.244728 + 0.090031 ln 0.090031)
    CHECK(static_cast<double>(top.entropy) == doctest::Approx(0.832396).epsilon(1e-4));
}

}  // namespace test_top_two
