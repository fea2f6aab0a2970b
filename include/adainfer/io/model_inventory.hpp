#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "adainfer/io/hf_shards.hpp"
#include "adainfer/io/hf_tokenizer.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

/// A tensor as a model file describes it.
struct StoredTensor {
    std::string name;
    std::string type;                  ///< as the format spells it, e.g. "q8_0" or "BF16"
    std::vector<std::uint64_t> shape;  ///< outermost first
    std::uint64_t bytes = 0;
};

/// What lies in a model file, or in the files of a folder.
struct ModelInventory {
    std::vector<StoredTensor> tensors;
    std::uint64_t file_bytes = 0;            ///< of a folder: of the files that hold the tensors
    std::optional<TokenizerData> tokenizer;  ///< not yet checked; nothing where there is none
};

/// Reads the headers only. Throws as model_format(), GgufFile::open(), HfShards::open() and the readers of tokenizers.
[[nodiscard]] inline ModelInventory read_inventory(const std::filesystem::path& path) {
    ModelInventory inventory;
    if (model_format(path) == ModelFormat::Gguf) {
        const GgufFile file = GgufFile::open(path);
        for (const GgufTensor& tensor : file.tensors()) {
            inventory.tensors.push_back(
                {tensor.name, std::string(tensor.type_name), {tensor.dims.rbegin(), tensor.dims.rend()}, tensor.bytes});
        }
        std::error_code ignored;
        inventory.file_bytes = std::filesystem::file_size(path, ignored);
        if (file.has("tokenizer.ggml.model")) inventory.tokenizer = read_tokenizer_data(file);
        return inventory;
    }
    const HfShards shards = HfShards::open(path);
    for (const SafetensorsFile& file : shards.files()) inventory.file_bytes += file.bytes().size();
    for (const SafetensorsTensor* const tensor : shards.tensors()) {
        inventory.tensors.push_back({tensor->name, std::string(tensor->dtype), tensor->shape, tensor->data.size()});
    }
    std::error_code ignored;
    if (std::filesystem::exists(path / "tokenizer.json", ignored)) inventory.tokenizer = read_hf_tokenizer_data(path);
    return inventory;
}

}  // namespace adainfer::inline v0
