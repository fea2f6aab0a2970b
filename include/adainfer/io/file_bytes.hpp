#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#if !defined(_WIN32)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// The bytes of a file, read-only: mapped where the system can (POSIX), read into memory elsewhere. The bytes are at
/// the same address until the object dies, also after a move. A mapped file must not be cut short by somebody else
/// while it is in use: reading past its new end stops the process (SIGBUS).
class MappedFile {
  public:
#if defined(_WIN32)
    static constexpr bool maps = false;  ///< what the system can
#else
    static constexpr bool maps = true;  ///< what the system can
#endif

    /// Opens a regular file; an empty one has no bytes. Throws Error (Io), naming the path and the system's reason.
    [[nodiscard]] static MappedFile open(const std::filesystem::path& path) {
#if defined(_WIN32)
        return read(path);
#else
        return map(path);
#endif
    }

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return {bytes_.get(), bytes_ == nullptr ? 0 : bytes_.get_deleter().size};
    }

  private:
    struct Release {
        std::size_t size;
        void operator()(const std::byte* bytes) const noexcept {
#if defined(_WIN32)
            delete[] bytes;
#else
            ::munmap(const_cast<std::byte*>(bytes), size);  // the system's signature; nothing is written
#endif
        }
    };

    MappedFile(const std::byte* bytes, std::size_t size) noexcept : bytes_(bytes, Release{size}) {}

    [[noreturn]] static void refuse(const std::filesystem::path& path, const std::string& reason) {
        fail(ErrorCode::Io, "cannot open '", path.string(), "': ", reason);
    }

#if defined(_WIN32)
    static MappedFile read(const std::filesystem::path& path) {
        std::error_code error;
        const std::uintmax_t size = std::filesystem::file_size(path, error);
        if (error) refuse(path, error.message());
        if (size == 0) return {nullptr, 0};
        if (size > (std::numeric_limits<std::size_t>::max)() / 2) refuse(path, "too large for this address space");
        std::ifstream in(path, std::ios::binary);
        const auto count = static_cast<std::size_t>(size);
        auto bytes = std::make_unique<std::byte[]>(count);
        if (!in.read(reinterpret_cast<char*>(bytes.get()), static_cast<std::streamsize>(count)))
            refuse(path, "cannot read all of it");
        return {bytes.release(), count};
    }
#else
    static MappedFile map(const std::filesystem::path& path) {
        struct Descriptor {
            int number;
            explicit Descriptor(const char* name) noexcept : number(::open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
            Descriptor(const Descriptor&) = delete;
            Descriptor& operator=(const Descriptor&) = delete;
            ~Descriptor() {
                if (number >= 0) ::close(number);
            }
        };
        const auto system_error = [] { return std::generic_category().message(errno); };
        // Not blocking, so that a pipe without a writer is refused below instead of waited for.
        const Descriptor file(path.c_str());
        if (file.number < 0) refuse(path, system_error());
        struct stat status {};
        if (::fstat(file.number, &status) != 0) refuse(path, system_error());
        if (!S_ISREG(status.st_mode)) refuse(path, "not a regular file");
        if (status.st_size <= 0) return {nullptr, 0};
        if (static_cast<std::uintmax_t>(status.st_size) > (std::numeric_limits<std::size_t>::max)() / 2)
            refuse(path, "too large for this address space");
        const auto size = static_cast<std::size_t>(status.st_size);
        void* const bytes = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
        if (bytes == MAP_FAILED) refuse(path, system_error());
        return {static_cast<const std::byte*>(bytes), size};
    }
#endif

    std::unique_ptr<const std::byte[], Release> bytes_;
};

}  // namespace adainfer::inline v0
