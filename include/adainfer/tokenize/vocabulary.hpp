#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adainfer/core/types.hpp"

namespace adainfer::inline v0 {

/// The tokenizer part of a model file, as read and not yet checked: the constructor of Tokenizer does that.
struct TokenizerData {
    std::string model{};                      ///< kind of vocabulary; Tokenizer takes "gpt2" (byte-level BPE)
    std::string pre{};                        ///< name of the pre-tokenizer, e.g. "smollm"; empty is "default"
    std::vector<std::string> tokens{};        ///< texts in id order; ordinary tokens in the byte-level spelling
    std::vector<std::int32_t> token_types{};  ///< a TokenType for each token, or empty: all ordinary
    std::vector<std::string> merges{};        ///< "left right" in the byte-level spelling, most important first
    std::optional<TokenId> bos{}, eos{}, eot{}, unknown{}, padding{};
    bool add_bos = false;           ///< bos goes first; where the file is silent: pre_tokenizer_adds_bos(pre)
    bool add_space_prefix = false;  ///< kept for the record; byte-level BPE never adds one
    std::string chat_template{};
};

/// Values of TokenizerData::token_types, numbered as in GGUF.
enum class TokenType : std::int32_t {
    Undefined = 0,
    Normal = 1,
    Unknown = 2,
    Control = 3,      ///< recognised in text only where the caller allows it
    UserDefined = 4,  ///< always recognised in text, before any splitting
    Unused = 5,
    Byte = 6,  ///< spelled <0xHH>
};

}  // namespace adainfer::inline v0
