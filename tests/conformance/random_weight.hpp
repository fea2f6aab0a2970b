#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/lane_memory.hpp"
#include "adainfer/kernels/lane_weight.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/half.hpp"
#include "adainfer/tensor/weight_view.hpp"
#include "backends.hpp"

namespace random_weight {

using namespace adainfer;

inline constexpr std::array dtypes{DType::F32,  DType::F16,  DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1,
                            DType::Q5_0, DType::Q5_1, DType::Q4_K, DType::Q5_K, DType::Q6_K};

/// A random weight, its bytes and its values.
struct RandomWeight {
    std::vector<std::byte> bytes;
    WeightView view;
    std::vector<float> values;  // [rows, cols]

    RandomWeight(DType dtype, std::size_t rows, std::size_t cols, Random& random) : bytes(rows * row_bytes(dtype, cols)) {
        const DTypeInfo type = info(dtype);
        for (std::size_t at = 0; at < bytes.size(); at += type.block_bytes) {
            std::byte* const block = bytes.data() + at;
            for (std::size_t i = 0; i < type.block_bytes; ++i) block[i] = static_cast<std::byte>(random.bits() >> 24U);
            const auto put_half = [&](std::size_t offset, float value) {
                const std::uint16_t half = f32_to_f16(value);
                std::memcpy(block + offset, &half, 2);
            };
            const float value = random.real();
            switch (dtype) {  // the fields that are floats
                case DType::F32: std::memcpy(block, &value, 4); break;
                case DType::F16: put_half(0, value); break;
                case DType::BF16: std::memcpy(block, reinterpret_cast<const std::byte*>(&value) + 2, 2); break;  // little-endian
                case DType::Q8_0: case DType::Q4_0: case DType::Q5_0: put_half(0, value * 0.01F); break;
                case DType::Q6_K: put_half(208, value * 0.001F); break;
                case DType::Q4_1: case DType::Q5_1: case DType::Q4_K: case DType::Q5_K:
                    put_half(0, value * 0.01F);
                    put_half(2, random.real() * 0.1F);
                    break;
            }
        }
        view = {dtype, rows, cols, bytes.data()};
        values.resize(rows * cols);
        for (std::size_t r = 0; r < rows; ++r) dequantize_row(dtype, view.row(r), cols, values.data() + r * cols);
    }
};

#if ADAINFER_X86
/// A quantised weight in lanes. Precondition: the machine has AVX-512.
inline LaneWeight repacked(const WeightView& weight) {
    LaneMemory memory;
    LaneWeight lanes(weight.dtype, weight.rows, weight.cols, memory);
    for (std::size_t i = 0; i < lanes.panels(); ++i) detail::fill_panel<detail::avx512::turn_rows>(weight, lanes, i);
    return lanes;
}
#endif

}  // namespace random_weight

using random_weight::dtypes;
using random_weight::RandomWeight;
#if ADAINFER_X86
using random_weight::repacked;
#endif
