#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/tokenize/piece_sink.hpp"
#include "adainfer/tokenize/split_cased_words.hpp"
#include "adainfer/tokenize/split_deepseek_v3.hpp"
#include "adainfer/tokenize/split_stages.hpp"
#include "adainfer/tokenize/split_words.hpp"

namespace adainfer::inline v0 {

/// How text is cut into the pieces inside which merges happen. Named after the best-known user; the last ones only after what
/// they cut out, as they are stages of others.
enum class PreTokenizer {
    Default, Gpt2, Starcoder, LlamaBpe, Qwen2, Qwen35, Gpt4o, Tekken, Falcon, DeepseekLlm, DeepseekCoder, DeepseekV3,
    Digit, Digits, Mark, Marks, ThreeDigits, NumberGroups, HanKana, DeepseekV3Words
};

namespace detail::pre_tokenizer {

using split::PieceSink;

struct Name {
    std::string_view name;  ///< as the key tokenizer.ggml.pre of a GGUF file spells it
    PreTokenizer kind;
    bool whole_words = false;  ///< a piece that is itself a token is taken whole, whatever the merges say
    bool adds_bos = false;     ///< where the file does not say
    bool long_s = false;       ///< contractions in any case take U+017F for an s, which llama.cpp does not
};

inline constexpr std::array names = {
    Name{"default", PreTokenizer::Default},
    Name{"gpt-2", PreTokenizer::Gpt2},
    Name{"phi-2", PreTokenizer::Gpt2},
    Name{"mpt", PreTokenizer::Gpt2},
    Name{"olmo", PreTokenizer::Gpt2},
    Name{"jais", PreTokenizer::Gpt2},
    Name{"trillion", PreTokenizer::Gpt2},
    Name{"granite-docling", PreTokenizer::Gpt2},
    Name{"jina-es", PreTokenizer::Gpt2},
    Name{"jina-de", PreTokenizer::Gpt2},
    Name{"jina-v2-es", PreTokenizer::Gpt2},
    Name{"jina-v2-de", PreTokenizer::Gpt2},
    Name{"gigachat", PreTokenizer::Gpt2},
    Name{"a.x-4.0", PreTokenizer::Gpt2},
    Name{"mellum", PreTokenizer::Gpt2},
    Name{"modern-bert", PreTokenizer::Gpt2},
    Name{"exaone4", PreTokenizer::Gpt2},
    Name{"smollm", PreTokenizer::Starcoder},
    Name{"starcoder", PreTokenizer::Starcoder},
    Name{"refact", PreTokenizer::Starcoder},
    Name{"command-r", PreTokenizer::Starcoder},
    Name{"codeshell", PreTokenizer::Starcoder},
    Name{"exaone", PreTokenizer::Starcoder},
    Name{"minerva-7b", PreTokenizer::Starcoder},
    Name{"mellum2", PreTokenizer::Starcoder},
    Name{"llama-bpe", PreTokenizer::LlamaBpe, true, true},
    Name{"llama3", PreTokenizer::LlamaBpe, true, true},
    Name{"llama-v3", PreTokenizer::LlamaBpe, true, true},
    Name{"falcon3", PreTokenizer::LlamaBpe, true, true},
    Name{"falcon-h1", PreTokenizer::LlamaBpe, true, true},
    Name{"pixtral", PreTokenizer::LlamaBpe, true, true},
    Name{"midm-2.0", PreTokenizer::LlamaBpe, true, true},
    Name{"lfm2", PreTokenizer::LlamaBpe, true, true},
    Name{"jina-v5-nano", PreTokenizer::LlamaBpe, true, true},
    Name{"dbrx", PreTokenizer::LlamaBpe},
    Name{"smaug-bpe", PreTokenizer::LlamaBpe},
    Name{"qwen2", PreTokenizer::Qwen2},
    Name{"deepseek-r1-qwen", PreTokenizer::Qwen2},
    Name{"kormo", PreTokenizer::Qwen2},
    Name{"f2llmv2", PreTokenizer::Qwen2},
    Name{"megrez", PreTokenizer::Qwen2},
    Name{"stablelm2", PreTokenizer::Qwen2},
    Name{"hunyuan", PreTokenizer::Qwen2},
    Name{"solar-open", PreTokenizer::Qwen2},
    Name{"grok-2", PreTokenizer::Qwen2},
    Name{"qwen35", PreTokenizer::Qwen35},
    Name{"gpt-4o", PreTokenizer::Gpt4o},
    Name{"llama4", PreTokenizer::Gpt4o},
    Name{"kanana2", PreTokenizer::Gpt4o},
    Name{"talkie", PreTokenizer::Gpt4o},
    Name{"minimax-m2", PreTokenizer::Gpt4o},
    Name{"tekken", PreTokenizer::Tekken, true, true},
    Name{"falcon", PreTokenizer::Falcon},
    Name{"deepseek-llm", PreTokenizer::DeepseekLlm},
    Name{"deepseek-coder", PreTokenizer::DeepseekCoder},
    Name{"deepseek-v3", PreTokenizer::DeepseekV3},
    Name{"hunyuan-dense", PreTokenizer::DeepseekV3},
};

/// What a name such as "digit+gpt-2" is made of, beside the names above.
inline constexpr std::array stages = {
    Name{"digit", PreTokenizer::Digit},    // every number character
    Name{"digits", PreTokenizer::Digits},  // every run of them
    Name{"mark", PreTokenizer::Mark},      // every punctuation character, ASCII symbols among them
    Name{"marks", PreTokenizer::Marks},    // every run of them
    Name{"three-digits", PreTokenizer::ThreeDigits},
    Name{"number-groups", PreTokenizer::NumberGroups},  // up to three number characters
    Name{"han-kana", PreTokenizer::HanKana},
    Name{"deepseek-v3-words", PreTokenizer::DeepseekV3Words},
};

/// Throws Error(Unsupported), with the names that are known.
[[nodiscard]] inline const Name& find(std::string_view name) {
    if (name.empty()) name = "default";
    std::string known;
    for (const Name& n : names) {
        if (n.name == name) return n;
        known += known.empty() ? "" : ", ";
        known += n.name;
    }
    fail(ErrorCode::Unsupported, "pre-tokenizer ", detail::quoted(name), "; supported: ", known);
}

/// The pre-tokenizers of a name, which joins several by '+': each gets every piece of the one before. Throws as find().
[[nodiscard]] inline std::vector<Name> find_all(std::string_view name, bool long_s) {
    const bool several = name.find('+') != std::string_view::npos;
    std::vector<Name> found;
    for (std::size_t first = 0, last = 0; last != std::string_view::npos; first = last + 1) {
        last = name.find('+', first);
        const std::string_view one = name.substr(first, last == std::string_view::npos ? last : last - first);
        const auto stage = std::find_if(stages.begin(), stages.end(), [one](const Name& n) { return n.name == one; });
        found.push_back(several && stage != stages.end() ? *stage : find(one));
        found.back().long_s = long_s;
    }
    return found;
}

inline void split_starcoder(const char* p, const char* end, PieceSink sink) {
    split::cut(p, end, split::Run{unicode::number, 1}, [&](const char* a, const char* b) { split::gpt2(a, b, sink); });
}

inline void split_falcon(const char* p, const char* end, PieceSink sink) {
    const auto digits = [&](const char* a, const char* b) { split::cut(a, b, split::ThreeDigits{}, sink); };
    const auto words = [&](const char* a, const char* b) { split::gpt2(a, b, digits); };
    split::cut(p, end, split::FalconMarks{true}, words);
}

inline void split_default(const char* p, const char* end, PieceSink sink) {
    const auto digits = [&](const char* a, const char* b) { split::cut(a, b, split::ThreeDigits{}, sink); };
    const auto numbers = [&](const char* a, const char* b) { split::cut(a, b, split::Run{unicode::number}, digits); };
    const auto words = [&](const char* a, const char* b) { split::gpt2(a, b, numbers); };
    split::cut(p, end, split::FalconMarks{false}, words);
}

inline void split_deepseek_llm(const char* p, const char* end, PieceSink sink) {
    using Letters = split::SpacedRun<split::DeepseekLetter>;
    using Marks = split::SpacedRun<split::DeepseekMark>;
    const auto numbers = [&](const char* a, const char* b) { split::cut(a, b, split::Run{unicode::number}, sink); };
    const auto uncased = [&](const char* a, const char* b) { split::cut(a, b, split::DeepseekUncased{}, numbers); };
    const auto trailing = [&](const char* a, const char* b) { split::cut_trailing_spaces(a, b, uncased); };
    const auto marks = [&](const char* a, const char* b) { split::cut(a, b, Marks{}, trailing); };
    const auto letters = [&](const char* a, const char* b) { split::cut(a, b, Letters{}, marks); };
    split::cut(p, end, split::LineEnd{}, letters);
}

inline void split_deepseek_coder(const char* p, const char* end, PieceSink sink) {
    using Spaced = split::SpacedRun<split::HasFlag>;
    const auto numbers = [&](const char* a, const char* b) { split::cut(a, b, split::Run{unicode::number, 1}, sink); };
    const auto uncased = [&](const char* a, const char* b) { split::cut(a, b, split::DeepseekUncased{}, numbers); };
    const auto marks = [&](const char* a, const char* b) { split::cut(a, b, Spaced{{unicode::punctuation}}, uncased); };
    const auto letters = [&](const char* a, const char* b) { split::cut(a, b, Spaced{{unicode::letter}}, marks); };
    split::cut(p, end, split::LineEnd{}, letters);
}

inline void split_deepseek_v3(const char* p, const char* end, PieceSink sink) {
    const auto words = [&](const char* a, const char* b) { split::cut(a, b, split::DeepseekV3Words{}, sink); };
    const auto uncased = [&](const char* a, const char* b) { split::cut(a, b, split::HanKana{}, words); };
    split::cut(p, end, split::Run{unicode::number, 3}, uncased);
}

/// Calls sink(first, last) for consecutive pieces that cover the text. Time is linear in the text.
inline void run(PreTokenizer kind, std::string_view text, PieceSink sink, bool long_s = false) {
    const char* const p = text.data();
    const char* const end = p + text.size();
    switch (kind) {
        case PreTokenizer::Default: split_default(p, end, sink); return;
        case PreTokenizer::Gpt2: split::gpt2(p, end, sink); return;
        case PreTokenizer::Starcoder: split_starcoder(p, end, sink); return;
        case PreTokenizer::LlamaBpe: split::gpt4(p, end, split::Gpt4Rules{3, unicode::letter, long_s}, sink); return;
        case PreTokenizer::Qwen2: split::gpt4(p, end, split::Gpt4Rules{1, unicode::letter, long_s}, sink); return;
        case PreTokenizer::Qwen35:
            split::gpt4(p, end, split::Gpt4Rules{1, unicode::letter | unicode::mark, long_s}, sink);
            return;
        case PreTokenizer::Gpt4o: split::cased_words(p, end, split::CasedRules{3, true, long_s}, sink); return;
        case PreTokenizer::Tekken: split::cased_words(p, end, split::CasedRules{1, false}, sink); return;
        case PreTokenizer::Falcon: split_falcon(p, end, sink); return;
        case PreTokenizer::DeepseekLlm: split_deepseek_llm(p, end, sink); return;
        case PreTokenizer::DeepseekCoder: split_deepseek_coder(p, end, sink); return;
        case PreTokenizer::DeepseekV3: split_deepseek_v3(p, end, sink); return;
        case PreTokenizer::Digit: split::cut(p, end, split::Run{unicode::number, 1}, sink); return;
        case PreTokenizer::Digits: split::cut(p, end, split::Run{unicode::number}, sink); return;
        case PreTokenizer::Mark: split::cut(p, end, split::FalconMarks{true, 1}, sink); return;
        case PreTokenizer::Marks: split::cut(p, end, split::FalconMarks{true}, sink); return;
        case PreTokenizer::ThreeDigits: split::cut(p, end, split::ThreeDigits{}, sink); return;
        case PreTokenizer::NumberGroups: split::cut(p, end, split::Run{unicode::number, 3}, sink); return;
        case PreTokenizer::HanKana: split::cut(p, end, split::HanKana{}, sink); return;
        case PreTokenizer::DeepseekV3Words: split::cut(p, end, split::DeepseekV3Words{}, sink); return;
    }
}

/// The same for several, one after the other. Requires at least one.
inline void run(std::span<const Name> kinds, std::string_view text, PieceSink sink) {
    if (kinds.size() == 1) return run(kinds[0].kind, text, sink, kinds[0].long_s);
    const auto rest = [&](const char* first, const char* last) {
        run(kinds.subspan(1), {first, static_cast<std::size_t>(last - first)}, sink);
    };
    run(kinds[0].kind, text, rest, kinds[0].long_s);
}

}  // namespace detail::pre_tokenizer

/// Whether models with this pre-tokenizer want bos first when their file does not say. Throws
/// Error(Unsupported) for an unknown name.
[[nodiscard]] inline bool pre_tokenizer_adds_bos(std::string_view name) {
    return detail::pre_tokenizer::find(name).adds_bos;
}

}  // namespace adainfer::inline v0
