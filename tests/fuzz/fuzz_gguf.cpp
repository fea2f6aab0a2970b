// libFuzzer target: any bytes are either a consistent GGUF file or an Error.
//     clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I include tests/fuzz/fuzz_gguf.cpp -o fuzz_gguf
//     ./fuzz_gguf -max_total_time=180 corpus/

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/kernels/dequantize.hpp"

namespace {

using namespace adainfer;

void require(bool condition) {
    if (!condition) std::abort();
}

/// Reads everything that a file in memory holds, through every way to ask for it.
void touch(const GgufFile& file) {
    std::size_t sum = 0;
    for (const GgufEntry& entry : file.metadata()) {
        require(file.find(entry.key) == &entry.value);
        const auto attempt = [](auto action) {
            try {
                action();
            } catch (const Error&) {  // another type
            }
        };
        attempt([&] { sum += file.get_uint(entry.key); });
        attempt([&] { sum += static_cast<std::size_t>(file.get_int(entry.key)); });
        attempt([&] { sum += file.get_float(entry.key) > 0 ? 1U : 0U; });
        attempt([&] { sum += file.get_bool(entry.key) ? 1U : 0U; });
        attempt([&] { sum += file.get_string(entry.key).size(); });
        attempt([&] {
            for (const std::string& text : file.get_string_array(entry.key)) sum += text.size();
        });
        attempt([&] { sum += file.get_int_array(entry.key).size(); });
        attempt([&] { sum += file.get_float_array(entry.key).size(); });
    }
    for (const GgufTensor& tensor : file.tensors()) {
        require(&file.tensor(tensor.name) == &tensor);
        for (std::uint64_t i = 0; i < tensor.bytes; ++i) sum += static_cast<std::size_t>(tensor.data[i]);
        if (!find_ggml_type(tensor.type)->dtype) continue;
        const WeightView weight = file.weight(tensor);
        require(weight.bytes() == tensor.bytes);
        if (tensor.bytes == 0) continue;
        std::vector<float> row(weight.cols);
        dequantize_row(weight.dtype, weight.row(weight.rows - 1), weight.cols, row.data());
    }
    static volatile std::size_t sink;  // so that the reads are not optimised away
    sink = sum;
    require(sink == sum);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of exactly this size: a read past the end is seen.
    const std::vector<std::uint8_t> bytes(data, data + size);
    try {
        touch(GgufFile::parse(std::as_bytes(std::span(bytes)), "fuzzed"));
    } catch (const Error&) {
    }
    return 0;
}
