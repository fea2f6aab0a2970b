#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "adainfer/core/error.hpp"
#include "adainfer/io/file_bytes.hpp"

namespace adainfer::inline v0::detail {

/// The text of a file that is read once, such as JSON.
class TextFile {
  public:
    /// Throws Error: Io (it cannot be read), Unsupported (more than `largest` bytes).
    TextFile(const std::filesystem::path& path, std::size_t largest) : bytes_(open(path, largest)) {}

    [[nodiscard]] std::string_view text() const noexcept {
        return {reinterpret_cast<const char*>(bytes_.bytes().data()), bytes_.bytes().size()};
    }

  private:
    static FileBytes open(const std::filesystem::path& path, std::size_t largest) {
        std::error_code unknown;
        const std::uintmax_t size = std::filesystem::file_size(path, unknown);
        if (!unknown && size > largest) {
            fail(ErrorCode::Unsupported, "'", path.string(), "': ", size, " bytes, at most ", largest, " are read");
        }
        return FileBytes::open(path, FileAccess::Read);
    }

    FileBytes bytes_;
};

}  // namespace adainfer::inline v0::detail
