// libFuzzer target: any bytes are either a consistent safetensors file, which can be written and read again, or an Error;
// and a lens or an Error.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/io/safetensors.hpp"
#include "checks.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

/// Reads every tensor to its last byte.
void touch(const SafetensorsFile& file) {
    std::size_t covered = 0, sum = 0;
    for (const SafetensorsTensor& tensor : file.tensors()) {
        require(file.find(tensor.name) == &tensor);
        for (const std::byte byte : tensor.data) sum += static_cast<std::size_t>(byte);
        covered += tensor.data.size();
        try {
            sum += file.to_f32(tensor).size();
        } catch (const Error&) {  // another type
        }
    }
    require(covered <= file.bytes().size());
    static volatile std::size_t sink;  // so that the reads are not optimised away
    sink = sum;
    require(sink == sum);
}

/// What was read is written and read again: the same tensors, and the same bytes the second time.
void write_and_read(const SafetensorsFile& file) {
    const auto written = [](const SafetensorsFile& f) {
        const detail::safetensors::Layout layout = detail::safetensors::lay_out(f.tensors(), f.metadata());
        std::string bytes = layout.header;
        for (const std::size_t i : layout.order) {
            bytes.append(reinterpret_cast<const char*>(f.tensors()[i].data.data()), f.tensors()[i].data.size());
        }
        return bytes;
    };
    const std::string bytes = written(file);
    const SafetensorsFile again = SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "written");
    require(again.metadata() == file.metadata());
    require(again.tensors().size() == file.tensors().size());
    for (const SafetensorsTensor& tensor : file.tensors()) {
        const SafetensorsTensor& other = again.get(tensor.name);
        require(other.dtype == tensor.dtype && other.shape == tensor.shape && other.data.size() == tensor.data.size());
        for (std::size_t i = 0; i < tensor.data.size(); ++i) require(other.data[i] == tensor.data[i]);
    }
    require(written(again) == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of exactly this size: a read past the end is seen.
    const std::vector<std::uint8_t> bytes(data, data + size);
    const auto view = std::as_bytes(std::span(bytes));
    try {
        const SafetensorsFile file = SafetensorsFile::parse(view, "fuzzed");
        touch(file);
        write_and_read(file);
    } catch (const Error& error) {
        require(std::string(error.what()).find("'fuzzed'") != std::string::npos);  // none of write_and_read()
    }
    try {
        const LensFile lens = parse_lens_file(view, "fuzzed");
        for (const LinearLens::Map& map : lens.lens.maps()) {
            require(lens.lens.reads(map.layer));
            require(map.matrix.is_square(lens.lens.hidden()));
            require(map.matrix.to_floats().size() == (lens.lens.hidden() + 1) * lens.lens.hidden());
        }
    } catch (const Error&) {
    }
    return 0;
}
