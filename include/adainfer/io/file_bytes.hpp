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

/// How the bytes of a file come into memory.
enum class FileAccess {
    Map,   ///< mapped where the system can (POSIX): at once, shared with other programs. The file must not be cut short by
           ///< somebody else while it is in use: reading past its new end stops the process (SIGBUS).
    Read,  ///< read, all of it: what becomes of the file afterwards does not matter
};

/// The bytes of a file, read-only. They are at the same address until the object dies, also after a move.
class FileBytes {
  public:
    /// Opens a regular file; an empty one has no bytes. Throws Error (Io), naming the path and the system's reason.
    [[nodiscard]] static FileBytes open(const std::filesystem::path& path, FileAccess access = FileAccess::Map) {
#if defined(_WIN32)
        static_cast<void>(access);
        std::error_code error;
        const std::uintmax_t size = std::filesystem::file_size(path, error);
        if (error) refuse(path, error.message());
        std::ifstream in(path, std::ios::binary);
        return read(path, size, [&](char* to, std::size_t bytes) {
            in.read(to, static_cast<std::streamsize>(bytes));
            return static_cast<std::size_t>(in.gcount());
        });
#else
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
        const std::uintmax_t size = status.st_size <= 0 ? 0 : static_cast<std::uintmax_t>(status.st_size);
        if (access == FileAccess::Read) {
            return read(path, size, [&](char* to, std::size_t bytes) {
                ::ssize_t got = 0;
                do got = ::read(file.number, to, bytes);
                while (got < 0 && errno == EINTR);
                if (got < 0) refuse(path, system_error());
                return static_cast<std::size_t>(got);
            });
        }
        if (size == 0) return {nullptr, 0, false};
        const std::size_t length = checked(path, size);
        void* const bytes = ::mmap(nullptr, length, PROT_READ, MAP_PRIVATE, file.number, 0);
        if (bytes == MAP_FAILED) refuse(path, system_error());
        return {static_cast<const std::byte*>(bytes), length, true};
#endif
    }

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        return {bytes_.get(), bytes_ == nullptr ? 0 : bytes_.get_deleter().size};
    }

    /// Whether they are pages of the file, which the system can drop and fetch again.
    [[nodiscard]] bool mapped() const noexcept { return bytes_ != nullptr && bytes_.get_deleter().mapped; }

  private:
    struct Release {
        std::size_t size = 0;
        bool mapped = false;
        void operator()(const std::byte* bytes) const noexcept {
#if !defined(_WIN32)
            if (mapped) {
                ::munmap(const_cast<std::byte*>(bytes), size);  // the system's signature; nothing is written
                return;
            }
#endif
            delete[] bytes;
        }
    };

    FileBytes(const std::byte* bytes, std::size_t size, bool mapped) noexcept : bytes_(bytes, Release{size, mapped}) {}

    [[noreturn]] static void refuse(const std::filesystem::path& path, const std::string& reason) {
        fail(ErrorCode::Io, "cannot open '", path.string(), "': ", reason);
    }

    [[nodiscard]] static std::size_t checked(const std::filesystem::path& path, std::uintmax_t size) {
        if (size > (std::numeric_limits<std::size_t>::max)() / 2) refuse(path, "too large for this address space");
        return static_cast<std::size_t>(size);
    }

    /// `some(to, bytes)` reads at most so many bytes and returns how many; 0: the file ends.
    template <class Some>
    [[nodiscard]] static FileBytes read(const std::filesystem::path& path, std::uintmax_t size, Some&& some) {
        const std::size_t length = checked(path, size);
        if (length == 0) return {nullptr, 0, false};
        auto bytes = std::make_unique_for_overwrite<std::byte[]>(length);
        for (std::size_t done = 0; done < length;) {
            const std::size_t got = some(reinterpret_cast<char*>(bytes.get()) + done, length - done);
            if (got == 0) refuse(path, "it became shorter while it was read");
            done += got;
        }
        return {bytes.release(), length, false};
    }

    std::unique_ptr<const std::byte[], Release> bytes_;
};

}  // namespace adainfer::inline v0
