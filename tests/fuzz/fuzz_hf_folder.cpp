// libFuzzer target: any files of a Hugging Face folder are either a decoder that runs and a tokenizer that encodes and decodes,
// or an Error.
//
// The bytes: the texts of `parts`, each up to a byte 0x1E; one that is empty is a file that is not there. The last is the header
// of model.safetensors, whose data are made here: of the size that types and shapes ask for.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../unit/temporary_files.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_folder.hpp"
#include "adainfer/io/hf_tokenizer.hpp"
#include "adainfer/io/safetensors.hpp"
#include "adainfer/io/safetensors_types.hpp"
#include "checks.hpp"
#include "use_model.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

constexpr char separator = '\x1E';
constexpr std::array<std::string_view, 6> parts{"config.json",        "tokenizer.json",         "tokenizer_config.json",
                                                "special_tokens_map.json", "generation_config.json", "model.safetensors"};

/// Writes the tensors that a header of safetensors describes, as far as it does.
void write_tensors(const std::filesystem::path& path, std::string_view text) {
    constexpr std::size_t most_tensors = 200;
    static const std::vector<std::byte> data(std::size_t{1} << 18U, std::byte{0x3C});  // 0.01 in F32 and BF16, 1.06 in F16
    const nlohmann::json header = nlohmann::json::parse(text, nullptr, false);
    if (!header.is_object()) return;
    std::vector<SafetensorsTensor> tensors;
    std::size_t total = 0;
    for (const auto& [name, entry] : header.items()) {
        if (!entry.is_object() || tensors.size() == most_tensors) continue;
        const auto dtype = entry.find("dtype"), shape = entry.find("shape");
        if (dtype == entry.end() || !dtype->is_string() || shape == entry.end() || !shape->is_array()) continue;
        const auto* const type = detail::safetensors::find_dtype(dtype->get_ref<const std::string&>());
        if (type == nullptr) continue;
        SafetensorsTensor tensor{name, type->name, {}, {}};
        for (const nlohmann::json& size : *shape) tensor.shape.push_back(size.is_number_unsigned() ? size.get<std::uint64_t>() : 1);
        const auto bytes = detail::safetensors::data_bytes(tensor.dtype, tensor.shape);
        if (!bytes || *bytes > data.size() || (total += *bytes) > data.size()) continue;
        tensor.data = std::span(data).first(static_cast<std::size_t>(*bytes));
        tensors.push_back(std::move(tensor));
    }
    try {
        write_safetensors(path, tensors);
    } catch (const Error& error) {
        require(error.code() == ErrorCode::InvalidArgument);  // a name
    }
}

/// Lays the files of an input out in the folder.
void write_folder(const TemporaryFiles& folder, std::string_view rest) {
    for (const std::string_view name : parts) {
        const std::string_view text = rest.substr(0, rest.find(separator));
        rest.remove_prefix(text.size() < rest.size() ? text.size() + 1 : text.size());
        const std::filesystem::path path = folder.directory() / name;
        std::filesystem::remove(path);
        if (text.empty()) continue;
        if (name == parts.back()) write_tensors(path, text);
        else folder.write(name, std::as_bytes(std::span(text)));
    }
}

/// What the call makes of the folder, or nothing where it refuses it.
template <class Call>
auto attempt(const TemporaryFiles& folder, const Call& call) -> std::optional<decltype(call())> {
    try {
        return call();
    } catch (const Error& error) {
        fuzzing::check_message(error, folder.directory().string());
        return std::nullopt;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const TemporaryFiles folder;
    write_folder(folder, {reinterpret_cast<const char*>(data), size});
    if (auto weights = attempt(folder, [] { return load_hf_weights(folder.directory()); })) fuzzing::run(*std::move(weights));
    if (const auto read = attempt(folder, [] { return read_hf_tokenizer_data(folder.directory()); })) {
        for (const auto& id : {read->bos, read->eos, read->eot, read->unknown, read->padding}) {
            require(!id || (*id >= 0 && static_cast<std::size_t>(*id) < read->tokens.size()));
        }
        for (const TokenId id : read->ends) require(id >= 0 && static_cast<std::size_t>(id) < read->tokens.size());
    }
    if (const auto tokenizer = attempt(folder, [] { return load_hf_tokenizer(folder.directory()); })) {
        fuzzing::encode_and_decode(*tokenizer, "a b <s>\xC3\xA9 12</s> ");
    }
    return 0;
}
