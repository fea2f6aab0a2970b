#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// Writes a file whole or not at all: into a new file beside it, which then takes its name. Somebody who reads meanwhile
/// sees the old bytes or the new ones. A symbolic link stays and its target is replaced. Throws Error (Io), also where
/// something other than a regular file has that name.
inline void write_file_atomically(const std::filesystem::path& path, std::span<const std::string_view> parts) {
    namespace fs = std::filesystem;
    const auto refuse = [&](const std::string& reason) {
        fail(ErrorCode::Io, "cannot write '", path.string(), "': ", reason);
    };
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::exists(status) && !fs::is_regular_file(status)) refuse("not a regular file");
    const fs::path target =
        fs::is_symlink(fs::symlink_status(path, error)) && fs::exists(status) ? fs::canonical(path, error) : path;
    if (error && fs::exists(status)) refuse(error.message());

    std::random_device random;
    fs::path temporary = target;
    temporary += ".part-" + std::to_string(random()) + std::to_string(random());
    {
        std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
        if (!out) refuse("cannot create a file in that folder");
        for (const std::string_view part : parts) out.write(part.data(), static_cast<std::streamsize>(part.size()));
        out.close();
        if (!out) {
            fs::remove(temporary, error);
            refuse("not all bytes could be written");
        }
    }
    fs::rename(temporary, target, error);
    if (error) {
        const std::string reason = error.message();
        fs::remove(temporary, error);
        refuse(reason);
    }
}

inline void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
    write_file_atomically(path, std::span(&text, 1));
}

}  // namespace adainfer::inline v0
