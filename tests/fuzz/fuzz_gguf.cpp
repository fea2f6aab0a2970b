// libFuzzer target: any bytes are either a consistent GGUF file or an Error; its decoder runs and its tokenizer encodes and
// decodes, or they are an Error.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "checks.hpp"
#include "use_model.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

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

/// What a mutation is told about a file: where the tensors' data begin, and the values of keys that are one number each.
struct Places {
    std::size_t data = 0;
    std::vector<std::span<std::uint8_t>> numbers;
};

/// Nothing for what is no GGUF file.
std::optional<Places> places_of(std::span<std::uint8_t> bytes) {
    const std::span<const std::byte> file_bytes = std::as_bytes(bytes);
    const auto at = [&](const void* p) { return static_cast<std::size_t>(static_cast<const std::byte*>(p) - file_bytes.data()); };
    try {
        const GgufFile file = GgufFile::parse(file_bytes, "mutated");
        Places places{bytes.size(), {}};
        for (const GgufTensor& tensor : file.tensors()) places.data = (std::min)(places.data, at(tensor.data));
        for (const GgufEntry& entry : file.metadata()) {
            const std::size_t size = info(entry.value.type())->bytes, type_bytes = 4;
            if (size == 0) continue;  // a text or an array
            places.numbers.push_back(bytes.subspan(at(entry.key.data() + entry.key.size()) + type_bytes, size));
        }
        return places;
    } catch (const Error&) {
        return std::nullopt;
    }
}

/// One of the numbers that readers trip over.
void set_number(std::span<std::uint8_t> value, std::mt19937& random) {
    const std::uint64_t bit = random() % 64;
    const std::uint64_t power = std::uint64_t{1} << bit, around = power - 1 + random() % 3;
    const double real = std::ldexp(random() % 2 == 0 ? 1.0 : -1.5, static_cast<int>(bit) - 32);
    const auto narrow = static_cast<float>(real);
    if (random() % 2 == 0) std::memcpy(value.data(), &around, value.size());
    else if (value.size() == sizeof real) std::memcpy(value.data(), &real, sizeof real);
    else if (value.size() == sizeof narrow) std::memcpy(value.data(), &narrow, sizeof narrow);
    else value[0] ^= 1U;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

/// Nearly all bytes of a model are numbers of its matrices, which nobody reads anything into. So what is changed most of the
/// time is what stands before them, and they follow it unchanged; half of the time one number of the metadata.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
    constexpr std::size_t alignment = 32;
    std::mt19937 random(seed);
    const auto places = random() % 8 == 0 ? std::nullopt : places_of({data, size});
    if (!places || places->data == 0) return LLVMFuzzerMutate(data, size, max_size);
    if (!places->numbers.empty() && random() % 2 == 0) {
        set_number(places->numbers[random() % places->numbers.size()], random);
        return size;
    }
    const std::size_t begin = places->data;
    const std::vector<std::uint8_t> rest(data + begin, data + size);
    std::size_t head = LLVMFuzzerMutate(data, begin, max_size);
    const bool longer = head > begin;
    while (head < max_size && head % alignment != begin % alignment) data[head++] = 0;
    const std::size_t kept = (std::min)(rest.size(), max_size - head);
    std::copy_n(rest.begin(), kept, data + head);
    // A longer table may move the data one step further than the zeros above: then the last tensor must not be cut short.
    const std::size_t spare = longer ? (std::min)(alignment, max_size - head - kept) : 0;
    std::fill_n(data + head + kept, spare, std::uint8_t{0});
    return head + kept + spare;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of exactly this size: a read past the end is seen.
    const std::vector<std::uint8_t> bytes(data, data + size);
    std::optional<GgufFile> file;
    try {
        file = GgufFile::parse(std::as_bytes(std::span(bytes)), "fuzzed");
    } catch (const Error& error) {
        fuzzing::check_message(error, "'fuzzed'");
        return 0;
    }
    touch(*file);
    std::optional<ModelWeights> weights;
    try {
        weights = load_weights(*file);
    } catch (const Error& error) {
        fuzzing::check_message(error, "'fuzzed'");
    }
    if (weights) fuzzing::run(*std::move(weights));
    std::optional<Tokenizer> tokenizer;
    try {
        tokenizer = load_tokenizer(*file);
    } catch (const Error& error) {
        fuzzing::check_message(error, "'fuzzed'");
    }
    if (tokenizer) fuzzing::encode_and_decode(*tokenizer, "a b  ab\n 12345 don't <s>\xE2\x96\x81 e\xCC\x81 \xFF</s> ");
    return 0;
}
