#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "adainfer/tokenize/byte_spelling.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "file_text.hpp"
#include "tokenizer_source.hpp"

// Ids from other implementations. What they need is not part of the repository; where a variable is not set, its tests say so
// and skip themselves, and where it is set, everything named here has to be there:
//   ADAINFER_SMOLLM2           path of SmolLM2-135M-Instruct.Q4_1.gguf
//   ADAINFER_GEMMA3            path of gemma-3-270m-q4_k_m.gguf
//   ADAINFER_LLAMA_CPP_MODELS  folder with ggml-vocab-*.gguf and their .inp and .out files: models/ of llama.cpp
//   ADAINFER_SHARED            folder with tokenizers/llama.cpp_vocab (some of the same), tokenizers/ggml_prompts, and the ranks
//                              in tokenizers/llama3 and tokenizers/qwen

namespace test_tokenizer_vectors {

using adainfer::EncodeOptions;
using adainfer::InvalidUtf8;
using adainfer::TokenId;
using adainfer::Tokenizer;
using adainfer::TokenizerData;

namespace {

std::string fixture_path(const std::string& name) { return ADAINFER_FIXTURES "/" + name; }

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

std::string from_base64(std::string_view text) {
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string bytes;
    std::uint32_t bits = 0;
    int count = 0;
    for (const char c : text) {
        const std::size_t digit = digits.find(c);
        if (digit == std::string_view::npos) break;
        bits = (bits << 6U | static_cast<std::uint32_t>(digit)) & 0xFFFFU;
        count += 6;
        if (count < 8) continue;
        count -= 8;
        bytes += static_cast<char>(static_cast<unsigned char>(bits >> static_cast<unsigned>(count) & 0xFFU));
    }
    return bytes;
}

/// The vocabulary of a file of ranks, a line "base64 rank" a token. Its merges are found as the converters find them: the last
/// one that makes a token joins the two tokens that all merges of lower rank leave of it.
TokenizerData vocabulary_of_ranks(const std::string& path, const std::string& pre) {
    using adainfer::detail::byte_spelling::spelled;
    TokenizerData data{.model = "gpt2", .pre = pre};
    std::unordered_map<std::string, std::size_t> ranks;
    for (const std::string& line : parts(file_text(path), "\n")) {
        const std::size_t blank = line.find(' ');
        if (blank == std::string::npos) continue;
        const std::string bytes = from_base64(line.substr(0, blank));
        data.tokens.push_back(spelled(bytes));
        if (std::stoull(line.substr(blank + 1)) != ranks.size() || !ranks.emplace(bytes, ranks.size()).second)
            FAIL(path, ": ranks out of order or a token twice: ", line);
        std::vector<std::string> left;
        for (const char byte : bytes) left.emplace_back(1, byte);
        while (left.size() > 2) {
            std::size_t best = ranks.size() - 1, at = left.size();  // lower than the token's own
            for (std::size_t i = 0; i + 1 < left.size(); ++i) {
                const auto found = ranks.find(left[i] + left[i + 1]);
                if (found == ranks.end() || found->second >= best) continue;
                best = found->second;
                at = i;
            }
            if (at == left.size()) break;  // only taken whole
            left[at] += left[at + 1];
            left.erase(left.begin() + static_cast<std::ptrdiff_t>(at) + 1);
        }
        if (left.size() == 2) data.merges.push_back(spelled(left[0]) + ' ' + spelled(left[1]));
    }
    return data;
}

/// Checks ggml-vocab-NAME.gguf.inp against the .out beside it in `folder`: so many cases.
void check_pair(const std::string& folder, const std::string& name, const Tokenizer& tokenizer, std::size_t cases) {
    const std::string path = folder + "/ggml-vocab-" + name + ".gguf";
    std::vector<std::string> texts = parts(file_text(path + ".inp"), "\n__ggml_vocab_test__\n");
    std::vector<std::string> lines = parts(file_text(path + ".out"), "\n");
    REQUIRE(lines.back().empty());
    lines.pop_back();
    if (texts.size() == lines.size() + 1 && texts.back().empty()) texts.pop_back();  // the separator stands behind the last, too
    CHECK(texts.size() == cases);
    REQUIRE(lines.size() == texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        CAPTURE(path);
        CAPTURE(texts[i]);
        CHECK(tokenizer.encode(texts[i], EncodeOptions{.parse_special = false}) == numbers(lines[i], " "));
    }
}

/// Checks a file of lines "text => id,id,...": a hundred of them.
void check_prompts(const std::string& path, const Tokenizer& tokenizer) {
    std::size_t cases = 0;
    for (const std::string& line : parts(file_text(path), "\n")) {
        const std::size_t arrow = line.rfind(" => ");
        if (arrow == std::string::npos) continue;
        ++cases;
        CAPTURE(line);
        const std::string text = line.substr(0, arrow);
        CHECK(tokenizer.encode(text, {.parse_special = false}) == numbers(line.substr(arrow + 4), ","));
    }
    CHECK(cases == 100);
}

/// The folder of tokenizers, or an empty path, and that is said, where ADAINFER_SHARED is not set.
std::string shared_tokenizers() {
    const std::string shared = environment("ADAINFER_SHARED");
    if (shared.empty()) MESSAGE("skipped: ADAINFER_SHARED is not set");
    return shared.empty() ? shared : shared + "/tokenizers";
}

/// Checks the 2,000 texts of a fixture (make_tokenizer_fixture.py, make_tokenizer_vocabularies.py).
void check_fixture(const Tokenizer& tokenizer, const std::string& name, InvalidUtf8 invalid) {
    std::size_t cases = 0;
    for (const std::string& line : parts(file_text(fixture_path(name)), "\n")) {
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
        MESSAGE("skipped: ADAINFER_SMOLLM2 is not set");
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
        MESSAGE("skipped: ADAINFER_GEMMA3 is not set");
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
    const auto tokenizer = [](const std::string& name) { return Tokenizer(load_vocabulary(fixture_path(name)).value()); };
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

// Not among them is bert-bge: WordPiece, which no family of decoder-only models uses.
TEST_CASE("tokenizer vectors: llama.cpp's own") {
    const std::string folder = environment("ADAINFER_LLAMA_CPP_MODELS");
    if (folder.empty()) {
        MESSAGE("skipped: ADAINFER_LLAMA_CPP_MODELS is not set");
        return;
    }
    for (const std::string name : {"command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "llama-bpe",
                                   "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder"}) {
        const Tokenizer tokenizer(load_vocabulary(folder + "/ggml-vocab-" + name + ".gguf").value());
        check_pair(folder, name, tokenizer, name == "qwen35" ? 50 : 46);
    }
}

TEST_CASE("tokenizer vectors: those of llama.cpp among the shared ones") {
    const std::string shared = shared_tokenizers();
    if (shared.empty()) return;
    const std::string folder = shared + "/llama.cpp_vocab";
    for (const std::string name : {"deepseek-llm", "gpt-2", "llama-spm", "mpt"}) {
        check_pair(folder, name, Tokenizer(load_vocabulary(folder + "/ggml-vocab-" + name + ".gguf").value()), 46);
    }
    check_pair(folder, "llama-bpe", Tokenizer(vocabulary_of_ranks(shared + "/llama3/tokenizer.model", "llama-bpe")), 46);
    check_pair(folder, "qwen2", Tokenizer(vocabulary_of_ranks(shared + "/qwen/qwen.tiktoken", "qwen2")), 46);
}

TEST_CASE("tokenizer vectors: prompts for GPT-2 and GPT-NeoX, a hundred each") {
    const std::string shared = shared_tokenizers();
    if (shared.empty()) return;
    const std::string folder = shared + "/llama.cpp_vocab";
    check_prompts(shared + "/ggml_prompts/gpt-2.txt", Tokenizer(load_vocabulary(folder + "/ggml-vocab-gpt-2.gguf").value()));
    TokenizerData neox = load_vocabulary(folder + "/ggml-vocab-gpt-neox.gguf").value();
    CHECK(neox.pre.empty());  // the file is older than the key
    neox.pre = "gpt-2";
    check_prompts(shared + "/ggml_prompts/gpt-neox.txt", Tokenizer(std::move(neox)));
}

TEST_CASE("tokenizer vectors: Llama 3, a sentence and a user's turn") {
    const std::string shared = shared_tokenizers();
    if (shared.empty()) return;
    TokenizerData data = vocabulary_of_ranks(shared + "/llama3/tokenizer.model", "llama-bpe");
    REQUIRE(data.tokens.size() == 128'000);
    // The special tokens in the order of the model's own code; what vectors.txt says of ids is checked by its vectors.
    for (const char* special : {"<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
                                "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>",
                                "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"}) {
        data.tokens.emplace_back(special);
    }
    data.token_types.assign(128'000, static_cast<std::int32_t>(adainfer::TokenType::Normal));
    data.token_types.resize(data.tokens.size(), static_cast<std::int32_t>(adainfer::TokenType::Control));
    data.bos = 128'000;
    data.eos = 128'001;
    const Tokenizer tokenizer(std::move(data));

    const std::string sentence = "This is a test sentence.";
    const std::vector<std::string> lines = parts(file_text(shared + "/llama3/vectors.txt"), "\n");
    std::size_t cases = 0;
    for (const std::string& line : lines) {
        const std::size_t arrow = line.find(" => ");
        if (line.starts_with('#') || arrow == std::string::npos) continue;
        CAPTURE(line);
        const std::vector<TokenId> expected = numbers(line.substr(arrow + 4), ",");
        if (line.starts_with("user message \"" + sentence + '"')) {
            const std::string turn = "<|start_header_id|>user<|end_header_id|>\n\n" + sentence + "<|eot_id|>";
            CHECK(tokenizer.encode(turn, {.parse_special = true}) == expected);
            CHECK(tokenizer.decode(expected) == turn);
        } else {
            REQUIRE(line.starts_with('"' + sentence + "\" (bos,eos)"));
            CHECK(tokenizer.encode(sentence, {.add_bos = true, .add_eos = true}) == expected);
            CHECK(tokenizer.decode(expected, true) == sentence);
        }
        ++cases;
    }
    CHECK(cases == 2);
}

}  // namespace test_tokenizer_vectors
