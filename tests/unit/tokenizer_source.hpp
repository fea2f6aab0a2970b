#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

/// The vocabulary of a GGUF file; nothing for an empty path. Throws Error where there is no such file.
inline std::optional<adainfer::TokenizerData> load_vocabulary(const std::string& gguf_path) {
    if (gguf_path.empty()) return std::nullopt;
    return adainfer::read_tokenizer_data(adainfer::GgufFile::open(gguf_path));
}

/// An environment variable; empty where unset.
inline std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string() : value;
}
