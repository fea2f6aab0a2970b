#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/io/gguf_types.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/half.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

namespace test_dequantize {

namespace {

using namespace adainfer;

struct Record {
    DType dtype;
    std::vector<std::byte> row;
    std::vector<float> expected;
};

/// tests/fixtures/dequantize.bin; the layout is in make_dequantize_fixture.py.
std::vector<Record> read_fixture() {
    const std::string path = std::string(ADAINFER_FIXTURES) + "/dequantize.bin";
    std::ifstream in(path, std::ios::binary);
    REQUIRE_MESSAGE(in, "cannot open ", path);
    std::vector<Record> records;
    std::uint32_t header[3];
    while (in.read(reinterpret_cast<char*>(header), sizeof header)) {
        const GgmlTypeInfo* const type = find_ggml_type(header[0]);
        REQUIRE(type != nullptr);
        REQUIRE(type->dtype.has_value());
        Record record{*type->dtype, std::vector<std::byte>(header[1]), std::vector<float>(header[2])};
        in.read(reinterpret_cast<char*>(record.row.data()), static_cast<std::streamsize>(record.row.size()));
        in.read(reinterpret_cast<char*>(record.expected.data()),
                static_cast<std::streamsize>(record.expected.size() * sizeof(float)));
        REQUIRE(in.good());
        records.push_back(std::move(record));
    }
    return records;
}

std::size_t differing_bits(std::span<const float> a, std::span<const float> b) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) ++count;
    return count;
}

/// The value of finite binary16 bits, from the definition of the format.
double half_value(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("dequantize_row gives the reference's bits for every format, at any alignment") {
    const auto records = read_fixture();
    std::vector<bool> seen(256);
    for (const Record& record : records) {
        seen[static_cast<std::size_t>(record.dtype)] = true;
        CAPTURE(info(record.dtype).name);
        REQUIRE(row_bytes(record.dtype, record.expected.size()) == record.row.size());
        for (std::size_t shift = 0; shift < 4; ++shift) {
            std::vector<std::byte> moved(record.row.size() + shift);
            std::memcpy(moved.data() + shift, record.row.data(), record.row.size());
            constexpr float guard = 12345.0F;
            std::vector<float> out(record.expected.size() + 1, guard);
            dequantize_row(record.dtype, moved.data() + shift, record.expected.size(), out.data());
            CHECK(differing_bits(record.expected, out) == 0);
            CHECK(out.back() == guard);
        }
    }
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0,
                              DType::Q5_1, DType::Q4_K, DType::Q5_K, DType::Q6_K})
        CHECK_MESSAGE(seen[static_cast<std::size_t>(dtype)], info(dtype).name);
}

TEST_CASE("dequantize_row of no columns touches nothing") {
    for (const DType dtype : {DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_K})
        dequantize_row(dtype, nullptr, 0, nullptr);
}

TEST_CASE("f16 and bf16 rows of every length equal the element-wise conversion") {
    for (std::size_t cols = 1; cols < 100; ++cols) {
        std::vector<std::byte> row(2 * cols);
        std::vector<float> f16(cols), bf16(cols), want_f16(cols), want_bf16(cols);
        for (std::size_t c = 0; c < cols; ++c) {
            const auto bits = static_cast<std::uint16_t>(c * 2641 + cols * 17);
            std::memcpy(row.data() + 2 * c, &bits, sizeof bits);
            want_f16[c] = f16_to_f32(bits);
            want_bf16[c] = bf16_to_f32(bits);
        }
        dequantize_row(DType::F16, row.data(), cols, f16.data());
        dequantize_row(DType::BF16, row.data(), cols, bf16.data());
        CHECK(differing_bits(f16, want_f16) == 0);
        CHECK(differing_bits(bf16, want_bf16) == 0);
    }
}

TEST_CASE("f16_to_f32 is exact for all 65536 values, and f32_to_f16 gives them back") {
    std::size_t wrong = 0;
    for (std::uint32_t i = 0; i < 65536; ++i) {
        const auto bits = static_cast<std::uint16_t>(i);
        const float value = f16_to_f32(bits);
        const bool special = (bits & 0x7C00U) == 0x7C00U, nan = special && (bits & 0x3FFU) != 0;
        if (nan) {
            const std::uint32_t payload = (bits & 0x3FFU) << 13U;
            const std::uint32_t sign = (bits & 0x8000U) << 16U;
            if (std::bit_cast<std::uint32_t>(value) != (sign | 0x7F800000U | payload)) ++wrong;
            const std::uint16_t back = f32_to_f16(value);
            if ((back & 0x7C00U) != 0x7C00U || (back & 0x3FFU) == 0 || ((back ^ bits) & 0x8000U) != 0) ++wrong;
        } else {
            constexpr double infinity = std::numeric_limits<double>::infinity();
            const double want = !special ? half_value(bits) : i < 0x8000 ? infinity : -infinity;
            if (static_cast<double>(value) != want || std::signbit(value) != ((bits & 0x8000U) != 0)) ++wrong;
            if (f32_to_f16(value) != bits) ++wrong;
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("f32_to_f16 rounds to the nearest half, ties to even") {
    std::size_t wrong = 0;
    for (std::uint32_t i = 0; i < 0x7BFF; ++i) {  // between each positive half and the next
        const auto below = static_cast<std::uint16_t>(i), above = static_cast<std::uint16_t>(i + 1);
        const auto middle = static_cast<float>((half_value(below) + half_value(above)) / 2);  // exact
        const std::uint16_t even = (below & 1U) == 0 ? below : above;
        for (const float sign : {1.0F, -1.0F}) {
            const std::uint16_t sign_bit = sign < 0 ? 0x8000 : 0;
            if (f32_to_f16(sign * middle) != (even | sign_bit)) ++wrong;
            if (f32_to_f16(sign * std::nextafter(middle, 0.0F)) != (below | sign_bit)) ++wrong;
            if (f32_to_f16(sign * std::nextafter(middle, 1e9F)) != (above | sign_bit)) ++wrong;
        }
    }
    CHECK(wrong == 0);
    CHECK(f32_to_f16(65519.996F) == 0x7BFF);
    CHECK(f32_to_f16(65520.0F) == 0x7C00);
    CHECK(f32_to_f16(-1e30F) == 0xFC00);
    CHECK(f32_to_f16(std::numeric_limits<float>::infinity()) == 0x7C00);
    CHECK((f32_to_f16(std::numeric_limits<float>::quiet_NaN()) & 0x7FFF) == 0x7E00);
    CHECK(f32_to_f16(0x1p-25F) == 0);  // a tie with zero, which is even
    CHECK(f32_to_f16(std::numeric_limits<float>::denorm_min()) == 0);
}

static_assert(f16_to_f32(0x3C00) == 1.0F && f32_to_f16(1.0F) == 0x3C00);
static_assert(f16_to_f32(0x0001) == 0x1p-24F && f32_to_f16(0x1p-24F) == 0x0001);

}  // namespace test_dequantize
