#pragma once

#include <cstddef>
#include <filesystem>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "adainfer/io/hf_folder.hpp"
#include "adainfer/io/hf_tokenizer.hpp"
#include "adainfer/io/load_options.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tokenize/tokenizer.hpp"

namespace adainfer::inline v0 {

/// The decoder of a GGUF file or a Hugging Face folder. Throws as model_format(), load_weights() and load_hf_weights().
[[nodiscard]] inline ModelWeights load_any_weights(const std::filesystem::path& path, const LoadOptions& options = {}) {
    if (model_format(path) == ModelFormat::HuggingFaceFolder) return load_hf_weights(path, options);
    return load_weights(GgufFile::open(path, options.access), {options.progress, options.stop});
}

/// The tokenizer of a GGUF file or a Hugging Face folder. Throws as model_format(), load_tokenizer() and load_hf_tokenizer().
[[nodiscard]] inline Tokenizer load_any_tokenizer(const std::filesystem::path& path) {
    return model_format(path) == ModelFormat::Gguf ? load_tokenizer(GgufFile::open(path)) : load_hf_tokenizer(path);
}

/// Reads a GGUF file or a Hugging Face folder. Throws as load_model() and, for a folder, as load_hf_weights() and
/// load_hf_tokenizer(), and CorruptFile where the tokenizer has more tokens than the embedding has rows: more rows are
/// padding, which folders may have.
[[nodiscard]] inline ModelFile load_any_model(const std::filesystem::path& path, const LoadOptions& options = {}) {
    if (model_format(path) == ModelFormat::Gguf) return detail::load_gguf_model(path, options);
    ModelFile result{load_hf_weights(path, options), load_hf_tokenizer(path)};
    const std::size_t tokens = result.tokenizer.vocab_size(), rows = result.weights.config.vocabulary;
    if (tokens > rows) {
        fail(ErrorCode::CorruptFile, "'", path.string(), "': the tokenizer has ", tokens, " tokens, the embedding ", rows);
    }
    return result;
}

}  // namespace adainfer::inline v0
