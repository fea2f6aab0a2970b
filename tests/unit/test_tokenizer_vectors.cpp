#include <doctest/doctest.h>

#include <cstddef>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/tokenize/tokenizer.hpp"
#include "tokenizer_source.hpp"

// Ids from other implementations. What they need is not part of the repository:
//   ADAINFER_SMOLLM2           path of SmolLM2-135M-Instruct.Q4_1.gguf
//   ADAINFER_GEMMA3            path of gemma-3-270m-q4_k_m.gguf
//   ADAINFER_LLAMA_CPP_MODELS  folder with ggml-vocab-*.gguf and their .inp and .out files
//   ADAINFER_SHARED            folder with tokenizers/llama.cpp_vocab (more of the same) and tokenizers/ggml_prompts

using adainfer::EncodeOptions;
using adainfer::InvalidUtf8;
using adainfer::TokenId;
using adainfer::Tokenizer;

namespace {

std::string fixture_path(const std::string& name) { return ADAINFER_FIXTURES "/" + name; }

std::optional<std::string> contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::string> parts(const std::string& text, std::string_view separator) {
    std::vector<std::string> out;
    for (std::size_t at = 0;;) {
        const std::size_t next = text.find(separator, at);
        out.push_back(text.substr(at, next - at));
        if (next == std::string::npos) return out;
        at = next + separator.size();
    }
}

std::vector<TokenId> numbers(const std::string& text, std::string_view separator, int base = 10) {
    std::vector<TokenId> ids;
    for (const std::string& part : parts(text, separator)) {
        if (part.find_first_not_of(" \r") != std::string::npos) ids.push_back(std::stoi(part, nullptr, base));
    }
    return ids;
}

std::string from_hex(const std::string& hex) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes += static_cast<char>(static_cast<unsigned char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

/// Checks name.inp against name.out in `folder`; false where they are not there.
bool check_pair(const std::string& folder, const std::string& name, const Tokenizer& tokenizer) {
    const auto input = contents(folder + "/ggml-vocab-" + name + ".gguf.inp");
    const auto output = contents(folder + "/ggml-vocab-" + name + ".gguf.out");
    if (!input || !output) return false;
    const std::vector<std::string> texts = parts(*input, "\n__ggml_vocab_test__\n");
    const std::vector<std::string> lines = parts(*output, "\n");
    REQUIRE(lines.size() >= texts.size());
    std::size_t good = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
        CAPTURE(name);
        CAPTURE(texts[i]);
        const bool same = tokenizer.encode(texts[i], EncodeOptions{.parse_special = false}) == numbers(lines[i], " ");
        CHECK(same);
        good += same ? 1 : 0;
    }
    MESSAGE(folder, ": ", name, ": ", good, " of ", texts.size());
    return true;
}

/// Checks the 2,000 texts of a fixture (make_tokenizer_fixture.py, make_tokenizer_vocabularies.py).
void check_fixture(const Tokenizer& tokenizer, const std::string& name, InvalidUtf8 invalid) {
    const auto fixture = contents(fixture_path(name));
    REQUIRE_MESSAGE(fixture.has_value(), "no ", fixture_path(name));
    std::size_t cases = 0;
    for (const std::string& line : parts(*fixture, "\n")) {
        const std::size_t tab = line.find('\t');
        if (tab == std::string::npos) continue;
        ++cases;
        const std::string text = from_hex(line.substr(0, tab));
        CAPTURE(line);
        CHECK(tokenizer.encode(text, {.parse_special = false, .invalid_utf8 = invalid}) ==
              numbers(line.substr(tab + 1), " ", 36));
    }
    CHECK(cases == 2000);
}

}  // namespace

TEST_CASE("tokenizer vectors: SmolLM2, 2,000 texts") {
    auto vocabulary = load_vocabulary(environment("ADAINFER_SMOLLM2"));
    if (!vocabulary) {
        MESSAGE("skipped: ADAINFER_SMOLLM2 does not name a file");
        return;
    }
    const Tokenizer tokenizer(std::move(*vocabulary));
    check_fixture(tokenizer, "tokenizer_smollm2.txt", InvalidUtf8::Replace);
    CHECK(tokenizer.bos() == tokenizer.find("<|im_start|>"));
    CHECK(tokenizer.is_end_of_generation(*tokenizer.find("<|im_end|>")));
    CHECK(tokenizer.is_end_of_generation(*tokenizer.find("<|endoftext|>")));
    CHECK(tokenizer.encode("<|im_start|>user").size() == 2);
}

TEST_CASE("tokenizer vectors: Gemma 3, 2,000 texts") {
    auto vocabulary = load_vocabulary(environment("ADAINFER_GEMMA3"));
    if (!vocabulary) {
        MESSAGE("skipped: ADAINFER_GEMMA3 does not name a file");
        return;
    }
    const Tokenizer tokenizer(std::move(*vocabulary));
    check_fixture(tokenizer, "tokenizer_gemma3.txt", InvalidUtf8::Keep);
    CHECK(tokenizer.adds_bos());
    CHECK(tokenizer.bos() == tokenizer.find("<bos>"));
    CHECK(tokenizer.is_end_of_generation(*tokenizer.find("<end_of_turn>")));
    CHECK(tokenizer.encode("<start_of_turn>user\n").size() == 3);
    const std::string text = " two  spaces,\n\n\nnewlines\xFF and \u2603";
    CHECK(tokenizer.decode(tokenizer.encode(text, {.invalid_utf8 = InvalidUtf8::Keep})) == text);
}

TEST_CASE("tokenizer vectors: small vocabularies of our own, 2,000 texts each") {
    const auto tokenizer = [](const std::string& name) {
        auto vocabulary = load_vocabulary(fixture_path(name));
        REQUIRE_MESSAGE(vocabulary.has_value(), "no ", fixture_path(name));
        return Tokenizer(std::move(*vocabulary));
    };
    SUBCASE("SentencePiece BPE") {
        const Tokenizer bpe = tokenizer("tokenizer_sentencepiece.gguf");
        check_fixture(bpe, "tokenizer_sentencepiece.txt", InvalidUtf8::Keep);
        CHECK(bpe.adds_bos());  // where the file is silent
        CHECK_FALSE(bpe.adds_eos());
        CHECK(bpe.is_end_of_generation(*bpe.find("<|im_end|>")));
        CHECK(bpe.encode("<|im_end|>").size() == 1);
        CHECK(bpe.encode("<|im_end|>", {.parse_special = false}).size() > 1);
        CHECK(bpe.encode("<tool>", {.parse_special = false}).size() == 1);
    }
    SUBCASE("unigram") {
        const Tokenizer unigram = tokenizer("tokenizer_unigram.gguf");
        check_fixture(unigram, "tokenizer_unigram.txt", InvalidUtf8::Replace);
        CHECK(unigram.adds_eos());
        CHECK_FALSE(unigram.adds_bos());
        CHECK(unigram.decode(unigram.encode("  the   model  ")) == "the model");
    }
}

TEST_CASE("tokenizer vectors: llama.cpp's own") {
    const std::string models = environment("ADAINFER_LLAMA_CPP_MODELS"), shared = environment("ADAINFER_SHARED");
    if (models.empty() && shared.empty()) {
        MESSAGE("skipped: neither ADAINFER_LLAMA_CPP_MODELS nor ADAINFER_SHARED is set");
        return;
    }
    const std::string more = shared + "/tokenizers/llama.cpp_vocab";
    for (const std::string name : {"command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2",
                                   "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder"}) {
        const std::string file = "/ggml-vocab-" + name + ".gguf";
        auto vocabulary = load_vocabulary(models + file);
        if (!vocabulary) vocabulary = load_vocabulary(more + file);
        if (!vocabulary) {
            MESSAGE("skipped: no vocabulary for ", name);
            continue;
        }
        if (vocabulary->model == "gpt2" && vocabulary->pre.empty()) {
            MESSAGE("skipped: the vocabulary for ", name, " is too old to name its pre-tokenizer");
            continue;
        }
        const Tokenizer tokenizer(std::move(*vocabulary));
        const bool first = check_pair(models, name, tokenizer), second = check_pair(more, name, tokenizer);
        CHECK((first || second));
    }
}

TEST_CASE("tokenizer vectors: GPT-2 prompts") {
    const std::string shared = environment("ADAINFER_SHARED"), models = environment("ADAINFER_LLAMA_CPP_MODELS");
    const auto prompts = contents(shared + "/tokenizers/ggml_prompts/gpt-2.txt");
    auto vocabulary = load_vocabulary(models + "/ggml-vocab-gpt-2.gguf");
    if (!vocabulary) vocabulary = load_vocabulary(shared + "/tokenizers/llama.cpp_vocab/ggml-vocab-gpt-2.gguf");
    if (!prompts || !vocabulary) {
        MESSAGE("skipped: ADAINFER_SHARED does not hold the prompts, or there is no GPT-2 vocabulary");
        return;
    }
    const Tokenizer tokenizer(std::move(*vocabulary));
    std::size_t cases = 0;
    for (const std::string& line : parts(*prompts, "\n")) {
        const std::size_t arrow = line.rfind(" => ");
        if (arrow == std::string::npos) continue;
        ++cases;
        CAPTURE(line);
        const std::string text = line.substr(0, arrow);
        CHECK(tokenizer.encode(text, {.parse_special = false}) == numbers(line.substr(arrow + 4), ","));
    }
    MESSAGE(cases, " prompts");
    CHECK(cases > 0);
}
