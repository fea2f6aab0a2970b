#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

/// A new directory, removed with everything in it at the end.
class TemporaryFiles {
  public:
    TemporaryFiles() {
        std::random_device random;
        do {
            directory_ = std::filesystem::temp_directory_path() / ("adainfer_test_" + std::to_string(random()));
        } while (!std::filesystem::create_directory(directory_));
    }
    TemporaryFiles(const TemporaryFiles&) = delete;
    TemporaryFiles& operator=(const TemporaryFiles&) = delete;
    ~TemporaryFiles() {
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }

    const std::filesystem::path& directory() const { return directory_; }

    std::filesystem::path write(std::string_view name, std::span<const std::byte> bytes) const {
        std::filesystem::path path = directory_ / name;
        std::ofstream out(path, std::ios::binary);
        out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        if (!out) throw std::runtime_error("cannot write " + path.string());
        return path;
    }

  private:
    std::filesystem::path directory_;
};
