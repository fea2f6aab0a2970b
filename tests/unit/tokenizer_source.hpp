#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "adainfer/tokenize/pre_tokenizer.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

/// Reads what TokenizerData needs from the metadata of a GGUF file, and nothing else.
class GgufVocabularyReader {
  public:
    explicit GgufVocabularyReader(std::ifstream& file) : file_(file) {}

    adainfer::TokenizerData read() {
        char magic[4];
        file_.read(magic, sizeof magic);
        if (std::memcmp(magic, "GGUF", 4) != 0) throw std::runtime_error("not a GGUF file");
        if (number<std::uint32_t>() < 2) throw std::runtime_error("GGUF version 1");
        (void)number<std::uint64_t>();
        for (auto keys = number<std::uint64_t>(); keys > 0; --keys) {
            const std::string key = text();
            value(key, number<std::uint32_t>());
        }
        const std::string prefix = "tokenizer.ggml.";
        adainfer::TokenizerData data;
        data.model = one_text(prefix + "model");
        data.pre = one_text(prefix + "pre");
        data.tokens = std::move(texts_[prefix + "tokens"]);
        data.merges = std::move(texts_[prefix + "merges"]);
        for (const std::int64_t type : numbers_[prefix + "token_type"]) {
            data.token_types.push_back(static_cast<std::int32_t>(type));
        }
        data.bos = one_id(prefix + "bos_token_id");
        data.eos = one_id(prefix + "eos_token_id");
        data.eot = one_id(prefix + "eot_token_id");
        data.unknown = one_id(prefix + "unknown_token_id");
        data.padding = one_id(prefix + "padding_token_id");
        const auto add_bos = one_id(prefix + "add_bos_token");
        data.add_bos = add_bos ? *add_bos != 0 : data.model == "gpt2" && adainfer::pre_tokenizer_adds_bos(data.pre);
        data.chat_template = one_text("tokenizer.chat_template");
        return data;
    }

  private:
    template <class T>
    T number() {
        T value;
        if (!file_.read(reinterpret_cast<char*>(&value), sizeof value)) throw std::runtime_error("short GGUF file");
        return value;
    }

    std::string text() {
        std::string s(static_cast<std::size_t>(number<std::uint64_t>()), '\0');
        if (!file_.read(s.data(), static_cast<std::streamsize>(s.size()))) throw std::runtime_error("short GGUF file");
        return s;
    }

    void value(const std::string& key, std::uint32_t type) {
        switch (type) {
            case 0: case 7: numbers_[key].push_back(number<std::uint8_t>()); break;
            case 1: numbers_[key].push_back(number<std::int8_t>()); break;
            case 2: case 3: (void)number<std::uint16_t>(); break;
            case 4: numbers_[key].push_back(number<std::uint32_t>()); break;
            case 5: numbers_[key].push_back(number<std::int32_t>()); break;
            case 6: (void)number<float>(); break;
            case 8: texts_[key].push_back(text()); break;
            case 9: {
                const auto element = number<std::uint32_t>();
                for (auto n = number<std::uint64_t>(); n > 0; --n) value(key, element);
                break;
            }
            case 10: case 11: case 12: (void)number<std::uint64_t>(); break;
            default: throw std::runtime_error("unknown GGUF value type");
        }
    }

    std::string one_text(const std::string& key) { return texts_[key].empty() ? std::string() : texts_[key][0]; }

    std::optional<adainfer::TokenId> one_id(const std::string& key) {
        if (numbers_[key].empty()) return std::nullopt;
        return static_cast<adainfer::TokenId>(numbers_[key][0]);
    }

    std::ifstream& file_;
    std::map<std::string, std::vector<std::string>> texts_;
    std::map<std::string, std::vector<std::int64_t>> numbers_;
};

/// The vocabulary of a GGUF file; nothing where there is no such file.
inline std::optional<adainfer::TokenizerData> load_vocabulary(const std::string& gguf_path) {
    std::ifstream file(gguf_path, std::ios::binary);
    if (!file) return std::nullopt;
    return GgufVocabularyReader(file).read();
}

/// An environment variable; empty where unset.
inline std::string environment(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string() : value;
}
