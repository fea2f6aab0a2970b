#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/file_bytes.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/io/safetensors.hpp"
#include "adainfer/io/text_file.hpp"

namespace adainfer::inline v0 {

namespace detail {

/// Whether a file name out of an index is one of the folder's own entries: no separators, no parent, no drive. The entry
/// itself may be a link, as in the cache of huggingface_hub.
[[nodiscard]] inline bool is_plain_file_name(std::string_view name) noexcept {
    if (name.empty() || name == "." || name == ".." || name.size() > 255) return false;
    return std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~' && c != '/' && c != '\\' && c != ':'; });
}

/// tensor -> file of a model.safetensors.index.json. Throws CorruptFile (no JSON, another structure, a name twice, a file
/// name that is not plain), Unsupported (size), Io.
[[nodiscard]] inline std::map<std::string, std::string> read_weight_map(std::string_view text, const std::string& file) {
    const json::Document document = json::parse(text, file);
    std::map<std::string, std::string> result;
    for (const auto& [tensor, field] : json::Field(document.root(), file).at("weight_map").members()) {
        if (!is_plain_file_name(field.text())) {
            fail(ErrorCode::CorruptFile, "'", file, "': tensor ", detail::quoted(tensor), " is in ", detail::quoted(field.text()),
                 ", which is not the name of a file in the folder");
        }
        result.emplace(tensor, field.text());
    }
    return result;
}

}  // namespace detail

/// The tensors of a Hugging Face folder: model.safetensors, or the files that model.safetensors.index.json names. They stay
/// in the files' bytes. Immutable.
class HfShards {
  public:
    HfShards(const HfShards&) = delete;  // tensors_ points into files_
    HfShards& operator=(const HfShards&) = delete;
    HfShards(HfShards&&) noexcept = default;
    HfShards& operator=(HfShards&&) noexcept = default;
    ~HfShards() = default;

    /// Throws Error: Io (no such file, or a shard is missing), CorruptFile (a broken file; the index and the shards disagree
    /// on where a tensor is), Unsupported (data type).
    [[nodiscard]] static HfShards open(const std::filesystem::path& folder, FileAccess access = FileAccess::Map) {
        HfShards shards;
        shards.name_ = folder.string();
        std::error_code ignored;
        const auto single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
        if (std::filesystem::exists(single, ignored)) {  // first, as transformers
            shards.files_.push_back(SafetensorsFile::open(single, access));
        } else if (std::filesystem::exists(index, ignored)) {
            shards.open_index(folder, index, access);
        } else {
            const bool pickled = std::filesystem::exists(folder / "pytorch_model.bin", ignored) ||
                                 std::filesystem::exists(folder / "pytorch_model.bin.index.json", ignored);
            fail(ErrorCode::Io, "'", shards.name_, "' holds neither model.safetensors nor model.safetensors.index.json",
                 pickled ? "; pytorch_model.bin is not read: save it as safetensors" : "");
        }
        shards.list();
        return shards;
    }

    /// The folder.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::span<const SafetensorsFile> files() const noexcept { return files_; }
    /// All tensors by name, ascending; they live as long as this object.
    [[nodiscard]] std::span<const SafetensorsTensor* const> tensors() const noexcept { return tensors_; }

    /// Keeps the bytes of all tensors alive.
    [[nodiscard]] std::shared_ptr<const void> storage() const {
        auto all = std::make_shared<std::vector<std::shared_ptr<const void>>>();
        for (const SafetensorsFile& file : files_) all->push_back(file.storage());
        return all;
    }

  private:
    HfShards() = default;

    void open_index(const std::filesystem::path& folder, const std::filesystem::path& index, FileAccess access) {
        constexpr std::size_t largest = 64'000'000;  // a model of 90,000 tensors has an index of 9 MB
        const auto weight_map = detail::read_weight_map(detail::TextFile(index, largest).text(), index.string());
        std::set<std::string> names;
        for (const auto& [tensor, file] : weight_map) names.insert(file);
        for (const std::string& file : names) {
            files_.push_back(SafetensorsFile::open(folder / file, access));
            check(files_.back(), file, weight_map, index.string());
        }
        for (const auto& [tensor, file] : weight_map) {
            const auto at = static_cast<std::size_t>(std::distance(names.begin(), names.find(file)));
            if (files_[at].find(tensor) == nullptr) {
                fail(ErrorCode::CorruptFile, "'", index.string(), "': tensor ", detail::quoted(tensor), " is not in '",
                     file, "'");
            }
        }
    }

    /// Every tensor of a shard must be one that the index puts there.
    static void check(const SafetensorsFile& shard, const std::string& file, const std::map<std::string, std::string>& weight_map,
                      const std::string& index) {
        for (const SafetensorsTensor& tensor : shard.tensors()) {
            const auto entry = weight_map.find(tensor.name);
            if (entry == weight_map.end()) {
                fail(ErrorCode::CorruptFile, "'", index, "' does not list tensor ", detail::quoted(tensor.name), " of '",
                     file, "'");
            }
            if (entry->second != file) {
                fail(ErrorCode::CorruptFile, "'", index, "' puts tensor ", detail::quoted(tensor.name), " into '",
                     entry->second, "', but it is in '", file, "' too");
            }
        }
    }

    void list() {
        for (const SafetensorsFile& file : files_) {
            for (const SafetensorsTensor& tensor : file.tensors()) tensors_.push_back(&tensor);
        }
        std::sort(tensors_.begin(), tensors_.end(),
                  [](const SafetensorsTensor* a, const SafetensorsTensor* b) { return a->name < b->name; });
    }

    std::string name_;
    std::vector<SafetensorsFile> files_;
    std::vector<const SafetensorsTensor*> tensors_;
};

}  // namespace adainfer::inline v0
