#pragma once

#include <filesystem>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tokenize/bpe_tokenizer.hpp"

namespace adainfer::inline v0 {

/// What a program needs of a model file.
struct ModelFile {
    ModelWeights weights;
    Tokenizer tokenizer;
};

/// Reads a GGUF file. Throws as load_weights() and load_tokenizer() do, and CorruptFile where the vocabulary does not fit
/// the embedding.
[[nodiscard]] inline ModelFile load_model(const std::filesystem::path& path, const BuildOptions& options = {}) {
    const GgufFile file = GgufFile::open(path);
    ModelFile result{load_weights(file, options), load_tokenizer(file)};
    if (result.tokenizer.vocab_size() != result.weights.config.vocabulary) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': the tokenizer has ", result.tokenizer.vocab_size(),
             " tokens, the embedding ", result.weights.config.vocabulary);
    }
    return result;
}

}  // namespace adainfer::inline v0
