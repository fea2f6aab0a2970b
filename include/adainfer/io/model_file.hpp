#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "adainfer/core/error.hpp"
#include "adainfer/io/file_bytes.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "adainfer/io/load_options.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tokenize/tokenizer.hpp"

namespace adainfer::inline v0 {

/// What a program needs of a model file.
struct ModelFile {
    ModelWeights weights;
    Tokenizer tokenizer;
};

/// How a model is stored.
enum class ModelFormat {
    Gguf,               ///< one file
    HuggingFaceFolder,  ///< a folder with config.json, safetensors and tokenizer.json
};

/// Tells by the thing itself, whatever its name is. Throws Error: Io (nothing there, or not readable), Unsupported (a part of
/// a folder: the message says that the folder is wanted), CorruptFile (another file).
[[nodiscard]] inline ModelFormat model_format(const std::filesystem::path& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) return ModelFormat::HuggingFaceFolder;
    const FileBytes file = FileBytes::open(path);
    const auto starts_with = [&](std::string_view magic, std::size_t at = 0) {
        const std::span<const std::byte> bytes = file.bytes();
        return bytes.size() >= at + magic.size() &&
               std::equal(magic.begin(), magic.end(), reinterpret_cast<const char*>(bytes.data()) + at);
    };
    if (starts_with("GGUF")) return ModelFormat::Gguf;
    const std::string name = path.filename().string();
    if (starts_with("{", 8) || name.ends_with(".safetensors")) {
        fail(ErrorCode::Unsupported, "'", path.string(),
             "' is a safetensors file, which has no configuration and no tokenizer: "
             "name the folder with config.json and tokenizer.json that it belongs to");
    }
    if (name == "config.json" || name == "model.safetensors.index.json" || name == "tokenizer.json") {
        fail(ErrorCode::Unsupported, "'", path.string(), "' is a part of a model: name the folder that it is in");
    }
    fail(ErrorCode::CorruptFile, "'", path.string(),
         "' is neither a GGUF file (its first four bytes are not \"GGUF\") nor a Hugging Face folder");
}

namespace detail {
/// load_model() of what is known to be a GGUF file.
[[nodiscard]] inline ModelFile load_gguf_model(const std::filesystem::path& path, const LoadOptions& options) {
    const GgufFile file = GgufFile::open(path, options.access);
    ModelFile result{load_weights(file, {options.progress, options.stop}), load_tokenizer(file)};
    if (result.tokenizer.vocab_size() != result.weights.config.vocabulary) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': the tokenizer has ", result.tokenizer.vocab_size(),
             " tokens, the embedding ", result.weights.config.vocabulary);
    }
    return result;
}
}  // namespace detail

/// Reads a GGUF file. Throws as load_weights() and load_tokenizer() do, CorruptFile where it is no GGUF file or the vocabulary
/// does not fit the embedding, and Unsupported for a Hugging Face folder: load_any_model() reads both, and needs nlohmann/json.
[[nodiscard]] inline ModelFile load_model(const std::filesystem::path& path, const LoadOptions& options = {}) {
    if (model_format(path) == ModelFormat::HuggingFaceFolder) {
        fail(ErrorCode::Unsupported, "'", path.string(),
             "' is a folder, load_model() reads GGUF files; for both: load_any_model() of adainfer/io/any_model.hpp");
    }
    return detail::load_gguf_model(path, options);
}

}  // namespace adainfer::inline v0
