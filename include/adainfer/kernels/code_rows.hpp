#pragma once

#include <cstddef>

#include "adainfer/tensor/dtype.hpp"

// Quantised rows as 8-bit codes, so that one integer product serves all of GGUF's formats:
//
//     weight[i] = scale[i / group] * (code[i] - bias) + minimum[i / group]

namespace adainfer::inline v0 {

/// How a format's rows look as codes; group 0: the format is not one of integers.
struct CodeFormat {
    std::size_t group = 0;    ///< elements under one scale
    int bias = 0;             ///< what the codes are shifted by to be unsigned
    bool has_minimum = false;
};

[[nodiscard]] constexpr CodeFormat code_format(DType dtype) noexcept {
    switch (dtype) {
        case DType::Q8_0: return {32, 128, false};
        case DType::Q4_0: return {32, 8, false};
        case DType::Q5_0: return {32, 16, false};
        case DType::Q6_K: return {16, 32, false};
        case DType::Q4_1:
        case DType::Q5_1:
        case DType::Q4_K:
        case DType::Q5_K: return {32, 0, true};
        case DType::F32:
        case DType::F16:
        case DType::BF16: return {};
    }
    return {};
}

/// True where a format is one of integers, false where it is one of floats.
[[nodiscard]] constexpr bool is_quantised(DType dtype) noexcept { return code_format(dtype).group != 0; }

/// f.operator()<dtype>() of a dtype that has a code format; of any other, f is not compiled and what it would return is empty.
template <class F>
constexpr auto with_codes(DType dtype, F&& f) {
    using Result = decltype(f.template operator()<DType::Q8_0>());
    return with_dtype(dtype, [&f]<DType type>() -> Result {
        if constexpr (is_quantised(type)) return f.template operator()<type>();
        else return Result();
    });
}

/// f.operator()<dtype>() of a dtype that is one of floats; of any other, f is neither compiled nor called.
template <class F>
constexpr void with_floats(DType dtype, F&& f) {
    with_dtype(dtype, [&f]<DType type>() {
        if constexpr (!is_quantised(type)) f.template operator()<type>();
    });
}

}  // namespace adainfer::inline v0
