#pragma once

namespace adainfer::inline v0 {

/// What to do with bytes that are not UTF-8.
enum class InvalidUtf8 {
    Replace,  ///< encode each as U+FFFD, and overlong forms as the character they spell
    Keep,     ///< encode the bytes themselves, so that decoding gives them back where the vocabulary has byte tokens
};
// llama.cpp does as Replace for "gpt2" and "t5" vocabularies and as Keep for "llama" ones; SentencePiece as Replace.

/// What to do with text that the vocabulary has neither a token nor byte tokens nor an unknown token for, such as some
/// control characters in byte-level vocabularies.
enum class MissingByte {
    Drop,   ///< leave it out; agrees with llama.cpp
    Throw,  ///< Error(UnknownToken)
};

struct EncodeOptions {
    bool parse_special = true;  ///< recognise control tokens in the text; off for text from untrusted users
    bool add_bos = false;       ///< put bos first; Tokenizer::adds_bos() tells whether the model expects it
    bool add_eos = false;       ///< put eos last; Tokenizer::adds_eos() tells whether the model expects it
    bool space_prefix = true;   ///< the space in front that some models want; off for text that goes on from other text
    InvalidUtf8 invalid_utf8 = InvalidUtf8::Replace;
    MissingByte missing_byte = MissingByte::Drop;
};

}  // namespace adainfer::inline v0
