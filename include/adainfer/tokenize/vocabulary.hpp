#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adainfer/core/types.hpp"

namespace adainfer::inline v0 {

/// Values of TokenizerData::token_types, numbered as in GGUF.
enum class TokenType : std::int32_t {
    Undefined = 0,
    Normal = 1,
    Unknown = 2,      ///< what stands for text that the vocabulary cannot spell
    Control = 3,      ///< recognised in text only where the caller allows it
    UserDefined = 4,  ///< always recognised in text, before any splitting
    Unused = 5,
    Byte = 6,  ///< spelled <0xHH>
};

/// Where a space goes in front of the text ("llama", "t5"). A part is the text between two recognised tokens.
enum class PrefixScheme {
    EveryPart,             ///< before every part, whatever it starts with: llama.cpp; normaliser "Prepend" of tokenizer.json
    EveryPartUnlessSpace,  ///< before every part that does not start with a space: "Metaspace", prepend_scheme "always"
    StartUnlessSpace,      ///< before the part at the very start of the text, if it does not start with a space: "first"
};

/// How a token that is written out in a text is recognised, where it is not the usual way: every occurrence, before the
/// text is normalised, with nothing around it touched. What is special at all is told by TokenizerData::token_types.
struct AddedToken {
    TokenId id = no_token;
    bool strip_left = false;   ///< takes the white space before it along ("lstrip" of tokenizer.json)
    bool strip_right = false;  ///< takes the white space after it along ("rstrip")
    bool single_word = false;  ///< only where no letter, mark, digit or underscore touches it ("\w" of regular expressions)
    bool normalized = false;   ///< its own text is normalised and looked for in normalised text, a prefix of every part included
};

/// The tokenizer part of a model file, as read and not yet checked: the constructor of Tokenizer does that.
///
/// `model` says what the rest means:
///   "gpt2"    byte-level BPE: tokens in the byte-level spelling ("Ġ" is a space), `merges`, `pre`
///   "llama"   SentencePiece BPE: tokens spelled plainly with U+2581 for a space; `scores`, or `merges` in their place
///   "gemma4"  as "llama" with `merges`, and text is cut where runs of newlines begin and end
///   "t5"      unigram: tokens spelled as for "llama", `scores` are log probabilities
/// Fields that a model's line or comment does not name are ignored for it.
struct TokenizerData {
    std::string model{};
    std::string pre{};  ///< "gpt2": name of the pre-tokenizer, e.g. "smollm"; several joined by '+'; empty is "default"
    std::vector<std::string> tokens{};        ///< texts in id order, in the model's spelling; empty where an id has none
    std::vector<std::int32_t> token_types{};  ///< a TokenType for each token, or empty: all ordinary
    std::vector<double> scores{};             ///< "llama", "t5": one for each token; of two merges the higher score comes first
    std::vector<std::string> merges{};        ///< "gpt2", "llama": "left right", most important first; then scores do not count
    std::optional<TokenId> bos{}, eos{}, eot{}, unknown{}, padding{};
    std::vector<TokenId> ends{};  ///< more tokens after which generation ends, beside eos and eot
    bool add_bos = false;  ///< bos goes first; where a GGUF file is silent: pre_tokenizer_adds_bos(pre), true for "llama"
    bool add_eos = false;  ///< eos goes last
    std::vector<AddedToken> added{};  ///< the tokens, in any order, that are recognised in another than the usual way
    /// As the library `tokenizers` reads a tokenizer.json: tokens in a text are found from the left, the longest at a place; they
    /// are control tokens only where token_types says so; "gpt2": bytes without a token are left out before the merges, and
    /// contractions in any case take U+017F for an s. Else as llama.cpp: the longest are found first; names such as "<|im_end|>"
    /// tell control tokens too; such bytes keep their neighbours apart; U+017F is a letter like others.
    bool hugging_face = false;

    /// A space goes in front of the text, as prefix_scheme says; decode() takes it away again. "gpt2": before every part that
    /// does not start with one, whatever prefix_scheme says, and decode() leaves it ("ByteLevel", add_prefix_space).
    bool add_space_prefix = false;
    PrefixScheme prefix_scheme = PrefixScheme::EveryPart;
    bool remove_extra_whitespace = false;  ///< "llama", "t5": drops spaces at both ends of a part, makes one of several between
    bool split_words = false;              ///< "llama", "t5": no piece reaches over the start of a word ("Metaspace", split)
    bool byte_fallback = true;             ///< "llama", "t5": what has no token is spelled in <0xHH> tokens, where those exist
    bool fuse_unknown = true;              ///< "llama", "t5": one unknown token for a run of characters without a token
    bool ignore_merges = false;            ///< "gpt2", "llama": a word that is a token is taken whole, whatever the merges say
    bool nfc = false;                      ///< all: the text is brought to Unicode normalisation form C first
    std::string charsmap{};                ///< "llama", "t5": SentencePiece's precompiled_charsmap (bytes), applied after nfc
    std::string chat_template{};
};

}  // namespace adainfer::inline v0
