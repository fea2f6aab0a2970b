// Generated from include/adainfer by 'python3 single_include/amalgamate.py'. Do not edit.
// SPDX-License-Identifier: MIT
//
// MIT License
//
// Copyright (c) 2026 The adainfer authors
//
// Permission is hereby granted, free of charge, to any person obtaining a copy
// of this software and associated documentation files (the "Software"), to deal
// in the Software without restriction, including without limitation the rights
// to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
// copies of the Software, and to permit persons to whom the Software is
// furnished to do so, subject to the following conditions:
//
// The above copyright notice and this permission notice shall be included in all
// copies or substantial portions of the Software.
//
// THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
// IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
// FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
// AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
// LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
// OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
// SOFTWARE.

#ifndef ADAINFER_SINGLE_HEADER_HPP
#define ADAINFER_SINGLE_HEADER_HPP

// ---- adainfer/adainfer.hpp -----------------------------------------------------------------------------------------------

// Everything in one include. What needs a third-party library stands under a condition:
//   Eigen          on, unless ADAINFER_NO_EIGEN is defined
//   xtensor        only where ADAINFER_WITH_XTENSOR is defined
//   nlohmann/json  only where ADAINFER_WITH_JSON is defined


// ---- adainfer/core/checked.hpp -------------------------------------------------------------------------------------------

#include <cstdint>
#include <limits>
#include <optional>

namespace adainfer::inline v0 {

/// a * b, or nothing where the product does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) noexcept {
    if (a != 0 && b > (std::numeric_limits<std::uint64_t>::max)() / a) return std::nullopt;
    return a * b;
}

/// a + b, or nothing where the sum does not fit 64 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) noexcept {
    if (b > (std::numeric_limits<std::uint64_t>::max)() - a) return std::nullopt;
    return a + b;
}

}  // namespace adainfer::inline v0

// ---- adainfer/core/error.hpp ---------------------------------------------------------------------------------------------

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// What kind of thing went wrong; the message of the Error names the thing itself.
enum class ErrorCode {
    InvalidArgument,   ///< a value that the callee cannot work with (empty prompt, temperature < 0, ...)
    Io,                ///< a file cannot be opened, read, mapped or written
    CorruptFile,       ///< a file breaks the rules of its own format
    Unsupported,       ///< well-formed, but of a kind this library does not run (architecture, dtype, version)
    ShapeMismatch,     ///< a tensor or view of another shape than expected
    ContextOverflow,   ///< more tokens than the model's context or the session's cache holds
    UnknownToken,      ///< a token id outside the vocabulary, or text the vocabulary cannot express
    NotFinite,         ///< NaN or infinity in a weight or an activation
    IdentityMismatch,  ///< a policy, lens or session that belongs to another model, feature list, lens or head
    Cancelled,         ///< a stop was requested; the session is as it was before the call
};

/// Readable name of a code, e.g. "corrupt file".
[[nodiscard]] constexpr std::string_view to_string(ErrorCode code) noexcept {
    switch (code) {
        case ErrorCode::InvalidArgument: return "invalid argument";
        case ErrorCode::Io: return "input/output error";
        case ErrorCode::CorruptFile: return "corrupt file";
        case ErrorCode::Unsupported: return "unsupported";
        case ErrorCode::ShapeMismatch: return "shape mismatch";
        case ErrorCode::ContextOverflow: return "context overflow";
        case ErrorCode::UnknownToken: return "unknown token";
        case ErrorCode::NotFinite: return "not finite";
        case ErrorCode::IdentityMismatch: return "identity mismatch";
        case ErrorCode::Cancelled: return "cancelled";
    }
    return "unknown error";
}

/// The one exception type of the library.
class Error : public std::runtime_error {
  public:
    Error(ErrorCode code, const std::string& message)
        : std::runtime_error(std::string(to_string(code)) + ": " + message), code_(code) {}

    [[nodiscard]] ErrorCode code() const noexcept { return code_; }

  private:
    ErrorCode code_;
};

/// Throws Error; the message is the concatenation of the parts as an ostream prints them.
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
    std::ostringstream message;
    (message << ... << parts);
    throw Error(code, message.str());
}

}  // namespace adainfer::inline v0

// ---- adainfer/core/progress.hpp ------------------------------------------------------------------------------------------

#include <cstddef>
#include <functional>
#include <string_view>

namespace adainfer::inline v0 {

/// How far a long operation has come. `total` is 0 where it is not known.
struct ProgressEvent {
    std::string_view stage;  ///< what is being done, e.g. "prepare weights"
    std::size_t done = 0;
    std::size_t total = 0;
};

/// Called from the thread that does the work. An empty function reports nothing.
using Progress = std::function<void(const ProgressEvent&)>;

}  // namespace adainfer::inline v0

// ---- adainfer/core/thread_pool.hpp ---------------------------------------------------------------------------------------

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// A fixed team of threads for short data-parallel loops.
///
/// `parallel_for(n, f)` splits [0, n) into one contiguous range a thread and calls f(begin, end) on each, the
/// caller's thread included. The split depends on n and the number of threads only. Many threads may call it at
/// once: whoever finds the team busy runs its own loop alone, so nobody waits and nesting cannot deadlock.
/// Idle workers spin for some microseconds, because the next loop of a forward pass is near, then sleep.
class ThreadPool {
  public:
    /// Throws std::system_error where the system has no more threads, and std::bad_alloc; then none is left running.
    explicit ThreadPool(std::size_t threads) : threads_((std::max)(threads, std::size_t{1})) {
        workers_.reserve(threads_ - 1);
        try {
            for (std::size_t i = 1; i < threads_; ++i) workers_.emplace_back([this, i] { work(i); });
        } catch (...) {
            stop();
            throw;
        }
    }

    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    ~ThreadPool() { stop(); }

    [[nodiscard]] std::size_t threads() const noexcept { return threads_; }

    /// Calls f(begin, end) for disjoint ranges that cover [0, n); returns when all are done. Rethrows the first
    /// exception of any range. Range bounds are multiples of `grain`, except n itself.
    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) {
        if (n == 0) return;
        if (threads_ == 1 || n <= grain || busy_.exchange(true, std::memory_order_acquire)) {
            f(std::size_t{0}, n);
            return;
        }
        using Function = std::remove_reference_t<F>;
        job_ = {[](void* context, std::size_t begin, std::size_t end) {
                    (*static_cast<Function*>(context))(begin, end);
                },
                const_cast<void*>(static_cast<const void*>(std::addressof(f))), n, (std::max)(grain, std::size_t{1})};
        error_ = nullptr;
        failed_.store(false, std::memory_order_relaxed);
        pending_.store(threads_ - 1, std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
        run_range(0);
        for (std::size_t spins = 0; pending_.load(std::memory_order_acquire) != 0;) {
            if (++spins > spin_limit) std::this_thread::yield();
        }
        const std::exception_ptr error = std::exchange(error_, nullptr);
        busy_.store(false, std::memory_order_release);
        if (error) std::rethrow_exception(error);
    }

  private:
    struct Job {
        void (*call)(void*, std::size_t, std::size_t) = nullptr;
        void* context = nullptr;
        std::size_t n = 0, grain = 1;
    };

    static constexpr std::size_t spin_limit = 20'000;

    void stop() noexcept {
        stopping_.store(true, std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    void run_range(std::size_t index) noexcept {
        const std::size_t blocks = (job_.n + job_.grain - 1) / job_.grain;
        const std::size_t begin = (std::min)(blocks * index / threads_ * job_.grain, job_.n);
        const std::size_t end = (std::min)(blocks * (index + 1) / threads_ * job_.grain, job_.n);
        if (begin == end) return;
        try {
            job_.call(job_.context, begin, end);
        } catch (...) {
            if (!failed_.exchange(true)) error_ = std::current_exception();
        }
    }

    void work(std::size_t index) noexcept {
        std::size_t seen = 0;
        for (;;) {
            for (std::size_t spins = 0; generation_.load(std::memory_order_acquire) == seen;) {
                if (++spins > spin_limit) generation_.wait(seen, std::memory_order_acquire);
            }
            ++seen;
            if (stopping_.load(std::memory_order_relaxed)) return;
            run_range(index);
            pending_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::size_t threads_;
    Job job_;
    std::exception_ptr error_;
    std::atomic<bool> failed_{false}, busy_{false}, stopping_{false};
    std::atomic<std::size_t> generation_{0}, pending_{0};
    std::vector<std::thread> workers_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/core/types.hpp ---------------------------------------------------------------------------------------------

#include <cstdint>

namespace adainfer::inline v0 {

/// Index of a token in the vocabulary. Negative values are never valid tokens.
using TokenId = std::int32_t;

inline constexpr TokenId no_token = -1;

}  // namespace adainfer::inline v0

// ---- adainfer/core/version.hpp -------------------------------------------------------------------------------------------

// Semantic version of the library. The inline namespace changes with the major version, so that two
// incompatible versions cannot be linked into one program by accident.
#define ADAINFER_VERSION_MAJOR 0
#define ADAINFER_VERSION_MINOR 1
#define ADAINFER_VERSION_PATCH 0

namespace adainfer::inline v0 {

struct Version {
    int major, minor, patch;
};

inline constexpr Version version{ADAINFER_VERSION_MAJOR, ADAINFER_VERSION_MINOR, ADAINFER_VERSION_PATCH};

}  // namespace adainfer::inline v0

// ---- adainfer/tensor/dtype.hpp -------------------------------------------------------------------------------------------

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace adainfer::inline v0 {

/// Storage formats of a weight. The quantised ones are those of GGUF: blocks of `block_size` elements along a row.
enum class DType : std::uint8_t { F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K };

struct DTypeInfo {
    std::string_view name;
    std::size_t block_size;   ///< elements a block
    std::size_t block_bytes;  ///< bytes a block
};

[[nodiscard]] constexpr DTypeInfo info(DType dtype) noexcept {
    switch (dtype) {
        case DType::F32: return {"f32", 1, 4};
        case DType::F16: return {"f16", 1, 2};
        case DType::BF16: return {"bf16", 1, 2};
        case DType::Q8_0: return {"q8_0", 32, 2 + 32};
        case DType::Q4_0: return {"q4_0", 32, 2 + 16};
        case DType::Q4_1: return {"q4_1", 32, 2 + 2 + 16};
        case DType::Q5_0: return {"q5_0", 32, 2 + 4 + 16};
        case DType::Q5_1: return {"q5_1", 32, 2 + 2 + 4 + 16};
        case DType::Q4_K: return {"q4_k", 256, 2 + 2 + 12 + 128};
        case DType::Q5_K: return {"q5_k", 256, 2 + 2 + 12 + 32 + 128};
        case DType::Q6_K: return {"q6_k", 256, 128 + 64 + 16 + 2};
    }
    return {"unknown", 1, 0};
}

/// Bytes of a row of `cols` elements. Precondition: cols is a multiple of the block size.
[[nodiscard]] constexpr std::size_t row_bytes(DType dtype, std::size_t cols) noexcept {
    return cols / info(dtype).block_size * info(dtype).block_bytes;
}

}  // namespace adainfer::inline v0

// ---- adainfer/tensor/half.hpp --------------------------------------------------------------------------------------------

#include <bit>
#include <cstdint>

namespace adainfer::inline v0 {

/// IEEE 754 binary16 bits to float, exactly (subnormals, infinities and NaN included). Selects by masks, not by
/// branches or ternaries, which compilers turn into branches: so loops over it vectorise.
[[nodiscard]] constexpr float f16_to_f32(std::uint16_t bits) noexcept {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16U;
    const std::uint32_t magnitude = bits & 0x7FFFU;
    const std::uint32_t is_special = 0U - static_cast<std::uint32_t>(magnitude >= 0x7C00U);  // infinity or NaN
    const std::uint32_t is_subnormal = 0U - static_cast<std::uint32_t>(magnitude < 0x0400U);
    const std::uint32_t normal = (magnitude << 13U) + 0x38000000U + (is_special & 0x38000000U);
    // Subnormal: the integer value times 2^-24. From a signed integer, since SSE2 and AVX2 convert no unsigned ones.
    const auto subnormal =
        std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F);
    return std::bit_cast<float>(sign | (subnormal & is_subnormal) | (normal & ~is_subnormal));
}

/// Float to binary16 bits, round to nearest even; overflow becomes infinity, NaN stays a (quiet) NaN.
[[nodiscard]] constexpr std::uint16_t f32_to_f16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16U) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U);
    if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // rounds to 65536 or more
    if (magnitude < 0x38800000U) {  // below 2^-14: let the FPU round to the 2^-24 grid
        const float grid = std::bit_cast<float>(magnitude) + 0.5F;  // 0.5 has an ulp of 2^-24
        return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(grid) - 0x3F000000U));
    }
    const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13U) & 1U);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13U));
}

/// bfloat16 bits to float: the upper half of the float.
[[nodiscard]] constexpr float bf16_to_f32(std::uint16_t bits) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

}  // namespace adainfer::inline v0

// ---- adainfer/tensor/matrix_view.hpp -------------------------------------------------------------------------------------

#include <cstddef>
#include <span>
#include <type_traits>

namespace adainfer::inline v0 {

/// A row-major matrix that belongs to somebody else. Rows are `stride` elements apart.
template <class T>
class MatrixView {
  public:
    constexpr MatrixView() noexcept = default;
    constexpr MatrixView(T* data, std::size_t rows, std::size_t cols, std::size_t stride) noexcept
        : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
    constexpr MatrixView(T* data, std::size_t rows, std::size_t cols) noexcept : MatrixView(data, rows, cols, cols) {}

    /// A view of mutable elements is also a view of const ones.
    constexpr operator MatrixView<const T>() const noexcept  // NOLINT(google-explicit-constructor)
        requires(!std::is_const_v<T>)
    {
        return {data_, rows_, cols_, stride_};
    }

    [[nodiscard]] constexpr T* data() const noexcept { return data_; }
    [[nodiscard]] constexpr std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] constexpr std::size_t cols() const noexcept { return cols_; }
    [[nodiscard]] constexpr std::size_t stride() const noexcept { return stride_; }

    /// Row i, a span of cols() elements. Precondition: i < rows().
    [[nodiscard]] constexpr std::span<T> row(std::size_t i) const noexcept { return {data_ + i * stride_, cols_}; }

    /// Rows [first, first + count).
    [[nodiscard]] constexpr MatrixView rows(std::size_t first, std::size_t count) const noexcept {
        return {data_ + first * stride_, count, cols_, stride_};
    }

    /// Columns [first, first + count) of every row.
    [[nodiscard]] constexpr MatrixView cols(std::size_t first, std::size_t count) const noexcept {
        return {data_ + first, rows_, count, stride_};
    }

  private:
    T* data_ = nullptr;
    std::size_t rows_ = 0, cols_ = 0, stride_ = 0;
};

}  // namespace adainfer::inline v0

// ---- adainfer/tensor/weight_view.hpp -------------------------------------------------------------------------------------

#include <cstddef>

namespace adainfer::inline v0 {

/// A weight matrix [rows = out features, cols = in features] in its storage format, over bytes that belong to
/// somebody else (a mapped file). Rows are contiguous; the bytes need no alignment.
struct WeightView {
    DType dtype = DType::F32;
    std::size_t rows = 0;
    std::size_t cols = 0;
    const std::byte* data = nullptr;

    [[nodiscard]] constexpr bool empty() const noexcept { return data == nullptr; }
    [[nodiscard]] constexpr std::size_t row_bytes() const noexcept { return v0::row_bytes(dtype, cols); }
    [[nodiscard]] constexpr std::size_t bytes() const noexcept { return rows * row_bytes(); }
    [[nodiscard]] constexpr const std::byte* row(std::size_t i) const noexcept { return data + i * row_bytes(); }
};

}  // namespace adainfer::inline v0

// ---- adainfer/kernels/dequantize.hpp -------------------------------------------------------------------------------------

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

// Before a loop of few, fixed steps: compilers that unroll it first then find nothing left to vectorise.
#if defined(__GNUC__)
#define ADAINFER_ROLLED _Pragma("GCC unroll 1")
#else
#define ADAINFER_ROLLED
#endif

namespace adainfer::inline v0 {

namespace detail::dequantize {

static_assert(std::endian::native == std::endian::little, "weights are read as little-endian bytes");

// The kernels copy a block's packed bytes into a local array first: loads need no alignment, and the compiler knows
// that the stores to `out` (floats) do not change what is still to be read (bytes may alias anything, locals do not).
//
// d * q + m may be contracted to one fused operation without changing a bit: a binary16 scale has 11 significant
// bits, the integers of these formats at most 6 + 5, so every product that is followed by a sum is exact.

inline constexpr std::size_t small_block = 32;   ///< elements of a block of the q*_0 and q*_1 formats
inline constexpr std::size_t super_block = 256;  ///< elements of a block of the q*_k formats

[[nodiscard]] inline float load_f16(const std::byte* p) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return f16_to_f32(bits);
}

/// out[i] = value(i, bytes[i]) for 16 bytes as integers of type Byte. All kernels are made of this step: it is what GCC
/// and Clang vectorise well for every width from SSE2 to AVX-512 (longer arrays are split badly for AVX2).
template <class Byte, class Value>
inline void sixteen(const std::byte* bytes, float* out, const Value& value) noexcept {
    Byte q[16];
    std::memcpy(q, bytes, sizeof q);
    ADAINFER_ROLLED for (std::size_t i = 0; i < 16; ++i) out[i] = value(i, q[i]);
}

inline void q8_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 34, out += small_block) {
        const float d = load_f16(block);
        const auto value = [d](std::size_t, int q) { return d * static_cast<float>(q); };
        sixteen<std::int8_t>(block + 2, out, value);
        sixteen<std::int8_t>(block + 18, out + 16, value);
    }
}

inline void q4_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 18, out += small_block) {
        const float d = load_f16(block);
        const std::byte* const packed = block + 2;
        sixteen<std::uint8_t>(packed, out, [d](std::size_t, int q) { return d * static_cast<float>((q & 15) - 8); });
        sixteen<std::uint8_t>(packed, out + 16,
                              [d](std::size_t, int q) { return d * static_cast<float>((q >> 4) - 8); });
    }
}

inline void q4_1(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 20, out += small_block) {
        const float d = load_f16(block);
        const float m = load_f16(block + 2);
        const std::byte* const packed = block + 4;
        sixteen<std::uint8_t>(packed, out, [d, m](std::size_t, int q) { return d * static_cast<float>(q & 15) + m; });
        sixteen<std::uint8_t>(packed, out + 16,
                              [d, m](std::size_t, int q) { return d * static_cast<float>(q >> 4) + m; });
    }
}

/// 1 << i, read as a vector: shifts by a count per lane do not exist before AVX2.
inline constexpr std::int32_t bit_of[16] = {1,       1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                                            1 << 8,  1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};

/// 16 where bit i is set, otherwise 0.
[[nodiscard]] inline int fifth_bit(std::int32_t bits, std::size_t i) noexcept {
    return (bits & bit_of[i]) != 0 ? 16 : 0;
}

inline void q5_0(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 22, out += small_block) {
        const float d = load_f16(block);
        std::uint16_t high[2];
        std::memcpy(high, block + 2, sizeof high);
        const std::int32_t first = high[0], second = high[1];
        const std::byte* const packed = block + 6;
        sixteen<std::uint8_t>(packed, out, [=](std::size_t i, int q) {
            return d * static_cast<float>(((q & 15) | fifth_bit(first, i)) - 16);
        });
        sixteen<std::uint8_t>(packed, out + 16, [=](std::size_t i, int q) {
            return d * static_cast<float>(((q >> 4) | fifth_bit(second, i)) - 16);
        });
    }
}

inline void q5_1(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 24, out += small_block) {
        const float d = load_f16(block);
        const float m = load_f16(block + 2);
        std::uint16_t high[2];
        std::memcpy(high, block + 4, sizeof high);
        const std::int32_t first = high[0], second = high[1];
        const std::byte* const packed = block + 8;
        sixteen<std::uint8_t>(packed, out, [=](std::size_t i, int q) {
            return d * static_cast<float>((q & 15) | fifth_bit(first, i)) + m;
        });
        sixteen<std::uint8_t>(packed, out + 16, [=](std::size_t i, int q) {
            return d * static_cast<float>((q >> 4) | fifth_bit(second, i)) + m;
        });
    }
}

/// The 8 scales and 8 minima of a q4_k or q5_k block, 6 bits each, in 12 bytes: the low six bits of the first four
/// of each in bytes 0-3 and 4-7, those of the last four as nibbles in bytes 8-11 with their top bits in the upper two
/// bits of bytes 0-7. Multiplied by the block's two binary16 factors.
inline void scales_and_minima(const std::byte* block, float (&scale)[8], float (&minimum)[8]) noexcept {
    const float d = load_f16(block);
    const float dmin = load_f16(block + 2);
    std::uint8_t s[12];
    std::memcpy(s, block + 4, sizeof s);
    for (std::size_t i = 0; i < 4; ++i) {
        scale[i] = d * static_cast<float>(s[i] & 63);
        minimum[i] = dmin * static_cast<float>(s[i + 4] & 63);
        scale[i + 4] = d * static_cast<float>((s[i + 8] & 15) | ((s[i] >> 6) << 4));
        minimum[i + 4] = dmin * static_cast<float>((s[i + 8] >> 4) | ((s[i + 4] >> 6) << 4));
    }
}

inline void q4_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 144, out += super_block) {
        float scale[8], minimum[8];
        scales_and_minima(block, scale, minimum);
        for (std::size_t part = 0; part < 8; ++part) {  // 16 bytes of 8 x 16; 32 bytes share scales
            const std::size_t group = part / 2 * 2;     // low nibbles belong to group, high ones to the next
            const std::byte* const packed = block + 16 + 16 * part;
            float* const low = out + 32 * group + 16 * (part % 2);
            const float d0 = scale[group], d1 = scale[group + 1], m0 = minimum[group], m1 = minimum[group + 1];
            sixteen<std::uint8_t>(packed, low,
                                  [=](std::size_t, int q) { return d0 * static_cast<float>(q & 15) - m0; });
            sixteen<std::uint8_t>(packed, low + 32,
                                  [=](std::size_t, int q) { return d1 * static_cast<float>(q >> 4) - m1; });
        }
    }
}

inline void q5_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 176, out += super_block) {
        float scale[8], minimum[8];
        scales_and_minima(block, scale, minimum);
        for (std::size_t half = 0; half < 2; ++half) {
            std::uint8_t high[16];  // bit g of byte i belongs to element i of group g
            std::memcpy(high, block + 16 + 16 * half, sizeof high);
            for (std::size_t group = 0; group < 8; group += 2) {
                const std::byte* const packed = block + 48 + 16 * group + 16 * half;
                float* const low = out + 32 * group + 16 * half;
                const float d0 = scale[group], d1 = scale[group + 1], m0 = minimum[group], m1 = minimum[group + 1];
                const int bit = static_cast<int>(group);
                sixteen<std::uint8_t>(packed, low, [&, d0, m0, bit](std::size_t i, int q) {
                    return d0 * static_cast<float>((q & 15) | (((high[i] >> bit) & 1) << 4)) - m0;
                });
                sixteen<std::uint8_t>(packed, low + 32, [&, d1, m1, bit](std::size_t i, int q) {
                    return d1 * static_cast<float>((q >> 4) | (((high[i] >> bit) & 2) << 3)) - m1;
                });
            }
        }
    }
}

inline void q6_k(const std::byte* block, std::size_t blocks, float* out) noexcept {
    for (std::size_t b = 0; b < blocks; ++b, block += 210, out += super_block) {
        std::int8_t s[16];
        std::memcpy(s, block + 192, sizeof s);
        const float d = load_f16(block + 208);
        float scale[16];
        for (std::size_t i = 0; i < 16; ++i) scale[i] = d * static_cast<float>(s[i]);
        for (std::size_t half = 0; half < 2; ++half) {
            for (std::size_t part = 0; part < 8; ++part) {  // 16 elements under one scale
                const std::size_t group = part / 2, first = 16 * (part % 2);
                const std::byte* const packed = block + 64 * half + 32 * (group % 2) + first;
                std::uint8_t high[16];
                std::memcpy(high, block + 128 + 32 * half + first, sizeof high);
                const float factor = scale[8 * half + part];
                const int nibble_shift = group < 2 ? 0 : 4, high_shift = static_cast<int>(2 * group);
                sixteen<std::uint8_t>(packed, out + 128 * half + 16 * part, [&](std::size_t i, int q) {
                    const int low = (q >> nibble_shift) & 15;
                    return factor * static_cast<float>((low | (((high[i] >> high_shift) & 3) << 4)) - 32);
                });
            }
        }
    }
}

/// `convert` maps 16 bits to a float. `step` elements at once through a local array, so that unaligned loads vectorise.
template <std::size_t step, class Convert>
inline void half_row(const std::byte* row, std::size_t cols, float* out, const Convert& convert) noexcept {
    for (std::size_t steps = cols / step; steps != 0; --steps, row += 2 * step, out += step) {
        std::uint16_t bits[step];
        std::memcpy(bits, row, sizeof bits);
        ADAINFER_ROLLED for (std::size_t i = 0; i < step; ++i) out[i] = convert(bits[i]);
    }
    for (std::size_t rest = cols % step; rest != 0; --rest, row += 2, ++out) {
        std::uint16_t bits;
        std::memcpy(&bits, row, sizeof bits);
        *out = convert(bits);
    }
}

}  // namespace detail::dequantize

/// Writes the `cols` elements of a row in its storage format to `out` as floats, bit for bit the values that the
/// format defines. `row` needs no alignment and holds row_bytes(dtype, cols) bytes; it must not overlap `out`.
/// Precondition: cols is a multiple of the format's block size.
inline void dequantize_row(DType dtype, const std::byte* row, std::size_t cols, float* out) noexcept {
    namespace kernel = detail::dequantize;
    const std::size_t blocks = cols / info(dtype).block_size;
    switch (dtype) {
        case DType::F32:
            if (cols != 0) std::memcpy(out, row, cols * sizeof(float));
            return;
        // The steps that measured fastest.
        case DType::F16:
            return kernel::half_row<32>(row, cols, out, [](std::uint16_t bits) { return f16_to_f32(bits); });
        case DType::BF16:
            return kernel::half_row<8>(row, cols, out, [](std::uint16_t bits) { return bf16_to_f32(bits); });
        case DType::Q8_0: return kernel::q8_0(row, blocks, out);
        case DType::Q4_0: return kernel::q4_0(row, blocks, out);
        case DType::Q4_1: return kernel::q4_1(row, blocks, out);
        case DType::Q5_0: return kernel::q5_0(row, blocks, out);
        case DType::Q5_1: return kernel::q5_1(row, blocks, out);
        case DType::Q4_K: return kernel::q4_k(row, blocks, out);
        case DType::Q5_K: return kernel::q5_k(row, blocks, out);
        case DType::Q6_K: return kernel::q6_k(row, blocks, out);
    }
}

}  // namespace adainfer::inline v0

#undef ADAINFER_ROLLED

// ---- adainfer/kernels/thread_scratch.hpp ---------------------------------------------------------------------------------

#include <cstddef>
#include <span>
#include <vector>

namespace adainfer::inline v0 {

/// At least n floats that belong to the calling thread until its next call with the same Slot. Grows, never shrinks:
/// a loop that asks for the same size again allocates nothing.
template <class Slot>
[[nodiscard]] std::span<float> thread_scratch(std::size_t n) {
    thread_local std::vector<float> buffer;
    if (buffer.size() < n) buffer.resize(n);
    return {buffer.data(), n};
}

}  // namespace adainfer::inline v0

// ---- adainfer/kernels/top_two.hpp ----------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>


// ---- adainfer/kernels/vector_math.hpp ------------------------------------------------------------------------------------

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

// Loops over plain arrays, written so that a compiler vectorises them without -ffast-math: reductions keep a fixed
// number of independent partial sums, and exp is a polynomial without branches.

namespace adainfer::inline v0 {

/// Sum of a[i] * b[i]. The order of the additions depends on n only.
[[nodiscard]] inline float dot(const float* a, const float* b, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float partial[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) partial[j] += a[i + j] * b[i + j];
    }
    float tail = 0.0F;
    for (; i < n; ++i) tail += a[i] * b[i];
    for (std::size_t width = lanes / 2; width > 0; width /= 2) {
        for (std::size_t j = 0; j < width; ++j) partial[j] += partial[j + width];
    }
    return partial[0] + tail;
}

/// y[i] += scale * x[i].
inline void axpy(float scale, const float* x, float* y, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) y[i] += scale * x[i];
}

/// e^x to about 2 units in the last place; 0 below -87.3, infinity above 88.7, NaN stays NaN. Range reduction to
/// |r| <= ln(2)/2 and a Taylor polynomial of degree 7 there.
[[nodiscard]] inline float exp_approx(float x) noexcept {
    constexpr float log2_e = 1.44269504F, ln2_high = 0.693359375F, ln2_low = -2.12194440e-4F;
    constexpr float to_integer = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    const float low = x < -87.33654F ? -87.33654F : x;
    const float clamped = low > 88.72283F ? 88.72283F : low;
    const float shifted = clamped * log2_e + to_integer;
    const float n = shifted - to_integer;
    const float r = (clamped - n * ln2_high) - n * ln2_low;
    float p = 1.0F / 5040.0F;
    p = p * r + 1.0F / 720.0F;
    p = p * r + 1.0F / 120.0F;
    p = p * r + 1.0F / 24.0F;
    p = p * r + 1.0F / 6.0F;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    // Two factors, because 2^128 alone has no float.
    const auto exponent = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) & 0x1FFU);
    const std::int32_t signed_exponent = exponent >= 0x100 ? exponent - 0x200 : exponent;
    const std::int32_t half = signed_exponent >> 1;
    const float scale1 = std::bit_cast<float>(static_cast<std::uint32_t>(half + 127) << 23U);
    const float scale2 = std::bit_cast<float>(static_cast<std::uint32_t>(signed_exponent - half + 127) << 23U);
    const float value = p * scale1 * scale2;
    const float upper = x > 88.72283F ? HUGE_VALF : value;
    return x < -87.33654F ? 0.0F : upper;
}

/// Largest of n values. NaN passes by unseen: callers look at their sums.
[[nodiscard]] inline float max_value(const float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float best[lanes];
    for (float& value : best) value = -HUGE_VALF;
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) best[j] = x[i + j] > best[j] ? x[i + j] : best[j];
    }
    float result = -HUGE_VALF;
    for (; i < n; ++i) result = x[i] > result ? x[i] : result;
    for (const float value : best) result = value > result ? value : result;
    return result;
}

/// Replaces x by softmax(x); returns the largest input. n > 0.
inline float softmax(float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    const float largest = max_value(x, n);
    float partial[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) {
            x[i + j] = exp_approx(x[i + j] - largest);
            partial[j] += x[i + j];
        }
    }
    float sum = 0.0F;
    for (; i < n; ++i) {
        x[i] = exp_approx(x[i] - largest);
        sum += x[i];
    }
    for (const float value : partial) sum += value;
    const float inverse = 1.0F / sum;
    for (i = 0; i < n; ++i) x[i] *= inverse;
    return largest;
}

/// False if any value is NaN or infinite.
[[nodiscard]] inline bool all_finite(const float* x, std::size_t n) noexcept {
    constexpr std::size_t lanes = 32;
    float partial[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (std::size_t j = 0; j < lanes; ++j) partial[j] += x[i + j] * 0.0F;  // 0, or NaN for inf and NaN
    }
    float sum = 0.0F;
    for (; i < n; ++i) sum += x[i] * 0.0F;
    for (const float value : partial) sum += value;
    return sum == 0.0F;
}

/// Cosine of the angle between a and b, 0 where either is zero.
[[nodiscard]] inline float cosine(const float* a, const float* b, std::size_t n) noexcept {
    const float norms = std::sqrt(dot(a, a, n)) * std::sqrt(dot(b, b, n));
    return norms > 0.0F ? dot(a, b, n) / norms : 0.0F;
}

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// What a check reads from a row of logits.
struct TopTwo {
    std::size_t top = 0;           ///< index of the largest logit, the first one on a tie
    float top_probability = 0;     ///< softmax at `top`
    float second_probability = 0;  ///< the second largest softmax value (0 for a single logit)
    float entropy = 0;             ///< nats; only where it was asked for
};

/// Largest and second largest softmax probability of `logits` in one pass over memory (a running maximum a block),
/// without a softmax of the whole row. Throws NotFinite where a logit is NaN or +infinity, InvalidArgument on an empty row.
[[nodiscard]] inline TopTwo top_two(std::span<const float> logits, bool with_entropy = false) {
    if (logits.empty()) fail(ErrorCode::InvalidArgument, "top_two: no logits");
    constexpr std::size_t block = 1024, lanes = 32;
    TopTwo result;
    float first = -HUGE_VALF, second = -HUGE_VALF, weighted = 0.0F, sum = 0.0F;
    for (std::size_t start = 0; start < logits.size(); start += block) {
        const float* x = logits.data() + start;
        const std::size_t n = (std::min)(block, logits.size() - start);
        const float largest = max_value(x, n);
        if (largest > first) {  // everything summed so far was relative to the old maximum
            const float rescale = first == -HUGE_VALF ? 0.0F : std::exp(first - largest);
            if (with_entropy) weighted = first == -HUGE_VALF ? 0.0F : rescale * (weighted + (first - largest) * sum);
            sum *= rescale;
        }
        if (largest > second) {
            for (std::size_t i = 0; i < n; ++i) {
                if (x[i] > first) {
                    second = first;
                    first = x[i];
                    result.top = start + i;
                } else if (x[i] > second) {
                    second = x[i];
                }
            }
        }
        float partial[lanes] = {}, partial_weighted[lanes] = {};
        std::size_t i = 0;
        for (; i + lanes <= n; i += lanes) {
            for (std::size_t j = 0; j < lanes; ++j) partial[j] += exp_approx(x[i + j] - first);
        }
        for (; i < n; ++i) partial[i % lanes] += exp_approx(x[i] - first);
        if (with_entropy) {
            for (i = 0; i < n; ++i) {
                const float shifted = x[i] - first;
                partial_weighted[i % lanes] += shifted > -80.0F ? shifted * exp_approx(shifted) : 0.0F;
            }
        }
        for (std::size_t j = 0; j < lanes; ++j) {
            sum += partial[j];
            weighted += partial_weighted[j];
        }
    }
    if (!std::isfinite(sum) || !std::isfinite(first)) fail(ErrorCode::NotFinite, "logits hold NaN or infinity");
    result.top_probability = 1.0F / sum;
    result.second_probability = logits.size() > 1 ? std::exp(second - first) / sum : 0.0F;
    result.entropy = with_entropy ? std::log(sum) - weighted / sum : 0.0F;
    return result;
}

/// Natural logarithm of the sum of e^logit, stable. Throws NotFinite as top_two does.
[[nodiscard]] inline float log_sum_exp(std::span<const float> logits) {
    const TopTwo top = top_two(logits);
    return logits[top.top] - std::log(top.top_probability);
}

}  // namespace adainfer::inline v0

// ---- adainfer/backend/concept.hpp ----------------------------------------------------------------------------------------

#include <concepts>

namespace adainfer::inline v0 {

/// `B::Weight`: a weight matrix as the backend likes it.
template <class B>
concept HasPreparedWeight = requires { typename B::Weight; };

/// `Weight prepare(WeightView) const`: keep the view, or repack. Called once a weight, when a model is built.
template <class B>
concept HasPrepare = requires(const B& backend, WeightView weight) {
    { backend.prepare(weight) } -> std::same_as<typename B::Weight>;
};

/// `void matmul(const Weight&, MatrixView<const float> x, MatrixView<float> y) const`: y = x w^T,
/// x [tokens, in], w [out, in], y [tokens, out].
template <class B>
concept HasMatmul = requires(const B& backend, const typename B::Weight& weight, MatrixView<const float> x,
                             MatrixView<float> y) { backend.matmul(weight, x, y); };

/// What a model computes with: a small copyable object whose operations are const and may be called from many threads.
/// The three requirements above are all there is; `ops.hpp` lists the operations that a backend may bring of its own.
template <class B>
concept TensorBackend = HasPreparedWeight<B> && HasPrepare<B> && HasMatmul<B> && std::copy_constructible<B>;

/// Turns a missing operation into one readable line.
template <class B>
consteval void require_backend() {
    static_assert(HasPreparedWeight<B>, "adainfer: the backend lacks a nested type Weight (see TensorBackend)");
    if constexpr (HasPreparedWeight<B>) {
        static_assert(HasPrepare<B>, "adainfer: the backend lacks 'Weight prepare(WeightView) const' (see TensorBackend)");
        static_assert(HasMatmul<B>,
                      "adainfer: the backend lacks 'void matmul(const Weight&, MatrixView<const float> x, "
                      "MatrixView<float> y) const' (see TensorBackend)");
    }
    static_assert(std::copy_constructible<B>, "adainfer: the backend must be copyable (see TensorBackend)");
}

}  // namespace adainfer::inline v0

// ---- adainfer/backend/ops.hpp --------------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

// The operations of a decoder layer beside the matrix product. Each calls the backend's member of the same name and
// signature (without the leading backend) where there is one; the body here is the fallback.

namespace adainfer::inline v0 {

/// Causal self-attention of the new tokens over the K/V rows of one layer.
struct AttentionArgs {
    MatrixView<const float> q;    ///< [tokens, heads * head_dim], already rotated
    const float* k = nullptr;     ///< [kv_heads, capacity, head_dim]
    const float* v = nullptr;     ///< [kv_heads, capacity, head_dim]
    std::size_t capacity = 0;     ///< rows between two K/V heads
    std::size_t first = 0;        ///< position of token 0; token t sees the rows 0 ... first + t
    std::size_t heads = 0;        ///< query heads, a multiple of kv_heads
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    float scale = 1;              ///< factor on q.k before the softmax
    std::size_t window = 0;       ///< 0: none; else a token sees the last `window` rows only, its own included
    MatrixView<float> out;        ///< [tokens, heads * head_dim]
};

/// Elementwise functions of a feed-forward network.
enum class Activation { Silu, Gelu, GeluTanh, Relu };

namespace ops {

/// f(begin, end) over disjoint ranges that cover [0, n), at once where the backend has threads.
template <class B, class F>
void parallel_for(const B& backend, std::size_t n, std::size_t grain, F&& f) {
    if constexpr (requires { backend.parallel_for(n, grain, f); }) {
        backend.parallel_for(n, grain, f);
    } else if (n > 0) {
        f(std::size_t{0}, n);
    }
}

/// out = x / sqrt(mean(x^2) + eps) * gain, a row at a time (Zhang and Sennrich, arXiv 1910.07467). x may be out.
template <class B>
void rms_norm(const B& backend, MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) {
    if constexpr (requires { backend.rms_norm(x, gain, eps, out); }) {
        backend.rms_norm(x, gain, eps, out);
    } else {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            const float* row = x.row(t).data();
            float* result = out.row(t).data();
            const std::size_t n = x.cols();
            const float scale = 1.0F / std::sqrt(dot(row, row, n) / static_cast<float>(n) + eps);
            for (std::size_t i = 0; i < n; ++i) result[i] = row[i] * scale * gain[i];
        }
    }
}

/// Rotates pairs of each head by the angles whose cosines and sines stand in `cos`, `sin` [tokens, pairs] (Su et al.,
/// arXiv 2104.09864). Interleaved: pair i is (x[2i], x[2i+1]); else (x[i], x[i + pairs]). Elements past the pairs stay.
template <class B>
void rope(const B& backend, MatrixView<float> x, std::size_t head_dim, bool interleaved, MatrixView<const float> cos,
          MatrixView<const float> sin) {
    if constexpr (requires { backend.rope(x, head_dim, interleaved, cos, sin); }) {
        backend.rope(x, head_dim, interleaved, cos, sin);
    } else {
        const std::size_t pairs = cos.cols();
        for (std::size_t t = 0; t < x.rows(); ++t) {
            const float* c = cos.row(t).data();
            const float* s = sin.row(t).data();
            for (std::size_t head = 0; head < x.cols() / head_dim; ++head) {
                float* h = x.row(t).data() + head * head_dim;
                for (std::size_t i = 0; i < pairs; ++i) {
                    float& a = interleaved ? h[2 * i] : h[i];
                    float& b = interleaved ? h[2 * i + 1] : h[i + pairs];
                    const float rotated = a * c[i] - b * s[i];
                    b = a * s[i] + b * c[i];
                    a = rotated;
                }
            }
        }
    }
}

/// One query row against its K/V head: the softmax-weighted mean of the V rows it sees.
inline void attend(const AttentionArgs& args, std::size_t token, std::size_t head, float* scores) {
    const std::size_t d = args.head_dim, last = args.first + token;
    const std::size_t begin = args.window != 0 && last + 1 > args.window ? last + 1 - args.window : 0;
    const std::size_t kv = head / (args.heads / args.kv_heads) * args.capacity * d;
    const float* q = args.q.row(token).data() + head * d;
    const std::size_t n = last + 1 - begin;
    for (std::size_t i = 0; i < n; ++i) scores[i] = args.scale * dot(q, args.k + kv + (begin + i) * d, d);
    softmax(scores, n);
    float* out = args.out.row(token).data() + head * d;
    std::fill_n(out, d, 0.0F);
    for (std::size_t i = 0; i < n; ++i) axpy(scores[i], args.v + kv + (begin + i) * d, out, d);
}

struct AttentionScratch;

/// args.out = softmax(scale q k^T) v, head by head, causal (Vaswani et al., arXiv 1706.03762, section 3.2.1), with
/// grouped K/V heads (Ainslie et al., arXiv 2305.13245).
template <class B>
void attention(const B& backend, const AttentionArgs& args) {
    if constexpr (requires { backend.attention(args); }) {
        backend.attention(args);
    } else {
        parallel_for(backend, args.heads * args.q.rows(), 1, [&](std::size_t begin, std::size_t end) {
            const std::span<float> scores = thread_scratch<AttentionScratch>(args.capacity);  // at once, not as it grows
            for (std::size_t i = begin; i < end; ++i) attend(args, i % args.q.rows(), i / args.q.rows(), scores.data());
        });
    }
}

template <class Map>
void map_rows(MatrixView<float> x, Map map) {
    for (std::size_t t = 0; t < x.rows(); ++t) {
        float* row = x.row(t).data();
        for (std::size_t i = 0; i < x.cols(); ++i) row[i] = map(row[i]);
    }
}

/// x = f(x), elementwise.
template <class B>
void activate(const B& backend, Activation activation, MatrixView<float> x) {
    if constexpr (requires { backend.activate(activation, x); }) {
        backend.activate(activation, x);
    } else {
        switch (activation) {
            case Activation::Silu: return map_rows(x, [](float v) { return v / (1.0F + exp_approx(-v)); });
            case Activation::Gelu: return map_rows(x, [](float v) { return 0.5F * v * (1.0F + std::erf(v * 0.70710678F)); });
            case Activation::GeluTanh:
                return map_rows(x, [](float v) {
                    const float u = 1.5957691F * (v + 0.044715F * v * v * v);  // 2 sqrt(2 / pi) (...)
                    return v / (1.0F + exp_approx(-u));
                });
            case Activation::Relu: return map_rows(x, [](float v) { return v > 0.0F || v != v ? v : 0.0F; });
        }
    }
}

/// out[i] = row rows[i] of the weight, times x [in]. The head of a few candidate tokens.
template <class B>
void matmul_rows(const B& backend, const typename B::Weight& prepared, WeightView weight, std::span<const TokenId> rows,
                 std::span<const float> x, std::span<float> out) {
    if constexpr (requires { backend.matmul_rows(prepared, rows, x, out); }) {
        backend.matmul_rows(prepared, rows, x, out);
    } else {
        struct Slot;
        const std::span<float> scratch = thread_scratch<Slot>(weight.cols);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            dequantize_row(weight.dtype, weight.row(static_cast<std::size_t>(rows[i])), weight.cols, scratch.data());
            out[i] = dot(scratch.data(), x.data(), weight.cols);
        }
    }
}

}  // namespace ops

}  // namespace adainfer::inline v0

// ---- adainfer/backend/reference.hpp --------------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace adainfer::inline v0 {

/// Plain loops with double accumulators: the oracle that other backends are compared with. Slow on purpose of clarity.
struct ReferenceBackend {
    using Weight = WeightView;

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        struct Slot;
        const std::span<float> w = thread_scratch<Slot>(weight.cols);
        for (std::size_t r = 0; r < weight.rows; ++r) {
            dequantize_row(weight.dtype, weight.row(r), weight.cols, w.data());
            for (std::size_t t = 0; t < x.rows(); ++t) {
                double sum = 0;
                for (std::size_t i = 0; i < weight.cols; ++i) sum += static_cast<double>(w[i]) * static_cast<double>(x.row(t)[i]);
                y.row(t)[r] = static_cast<float>(sum);
            }
        }
    }

    void rms_norm(MatrixView<const float> x, std::span<const float> gain, float eps, MatrixView<float> out) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            double squares = 0;
            for (const float value : x.row(t)) squares += static_cast<double>(value) * static_cast<double>(value);
            const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.cols()) + static_cast<double>(eps));
            for (std::size_t i = 0; i < x.cols(); ++i) {
                out.row(t)[i] = static_cast<float>(static_cast<double>(x.row(t)[i]) * scale * static_cast<double>(gain[i]));
            }
        }
    }

    void attention(const AttentionArgs& args) const {
        std::vector<double> score(args.first + args.q.rows());
        for (std::size_t head = 0; head < args.heads; ++head) {
            const std::size_t group = args.heads / args.kv_heads;
            const float* k = args.k + head / group * args.capacity * args.head_dim;
            const float* v = args.v + head / group * args.capacity * args.head_dim;
            for (std::size_t t = 0; t < args.q.rows(); ++t) {
                const float* q = args.q.row(t).data() + head * args.head_dim;
                float* out = args.out.row(t).data() + head * args.head_dim;
                const std::size_t end = args.first + t + 1;
                const std::size_t begin = args.window != 0 && end > args.window ? end - args.window : 0;
                double sum = 0;
                for (std::size_t i = begin; i < end; ++i) {
                    double product = 0;
                    for (std::size_t j = 0; j < args.head_dim; ++j) {
                        product += static_cast<double>(q[j]) * static_cast<double>(k[i * args.head_dim + j]);
                    }
                    score[i] = static_cast<double>(args.scale) * product;
                }
                double largest = score[begin];
                for (std::size_t i = begin; i < end; ++i) largest = score[i] > largest ? score[i] : largest;
                for (std::size_t i = begin; i < end; ++i) sum += score[i] = std::exp(score[i] - largest);
                for (std::size_t j = 0; j < args.head_dim; ++j) {
                    double mean = 0;
                    for (std::size_t i = begin; i < end; ++i) mean += score[i] * static_cast<double>(v[i * args.head_dim + j]);
                    out[j] = static_cast<float>(mean / sum);
                }
            }
        }
    }

    void activate(Activation activation, MatrixView<float> x) const {
        for (std::size_t t = 0; t < x.rows(); ++t) {
            for (float& value : x.row(t)) value = static_cast<float>(apply(activation, static_cast<double>(value)));
        }
    }

  private:
    static double apply(Activation activation, double v) {
        switch (activation) {
            case Activation::Silu: return v / (1.0 + std::exp(-v));
            case Activation::Gelu: return 0.5 * v * (1.0 + std::erf(v / std::sqrt(2.0)));
            case Activation::GeluTanh: return 0.5 * v * (1.0 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
            case Activation::Relu: return v > 0.0 || std::isnan(v) ? v : 0.0;
        }
        return v;
    }
};

}  // namespace adainfer::inline v0

// ---- adainfer/backend/row_blocks.hpp -------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace adainfer::inline v0 {

/// Walks a weight a block of rows at a time, in parallel: calls f(first_row, rows, block) with the block dequantised to
/// f32, row-major [rows, weight.cols]. A block stays within a core's L2 cache, so the product reads it from there.
template <class B, class F>
void for_each_row_block(const B& backend, const WeightView& weight, F&& f) {
    struct Slot;
    constexpr std::size_t block_floats = std::size_t{64} * 1024;
    const std::size_t fit = (std::max)(block_floats / (std::max)(weight.cols, std::size_t{1}), std::size_t{1});
    // Equally large blocks, an even number of them, whatever the threads: a library may add up the last rows of a block in
    // another order than the others, so only then does the number of threads change no bit.
    const std::size_t multiple = fit >= 16 ? 16 : 1;
    const std::size_t blocks = ((weight.rows + fit - 1) / fit + 1) / 2 * 2;
    const std::size_t even = (weight.rows + blocks - 1) / blocks;
    const std::size_t rows_a_block = (even + multiple - 1) / multiple * multiple;
    ops::parallel_for(backend, weight.rows, rows_a_block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t first = begin; first < end; first += rows_a_block) {
            const std::size_t rows = (std::min)(rows_a_block, end - first);
            float* block = thread_scratch<Slot>(rows * weight.cols).data();
            for (std::size_t r = 0; r < rows; ++r) {
                dequantize_row(weight.dtype, weight.row(first + r), weight.cols, block + r * weight.cols);
            }
            f(first, rows, static_cast<const float*>(block));
        }
    });
}

/// The product of one row x [in] with a weight: y[r] = w_r . x, every weight byte read once, nothing allocated.
/// `product(w, x, n)` is the backend's own dot product.
template <class B, class Dot>
void matvec(const B& backend, const WeightView& weight, const float* x, float* y, Dot&& product) {
    struct Slot;
    ops::parallel_for(backend, weight.rows, 16, [&](std::size_t begin, std::size_t end) {
        float* row = thread_scratch<Slot>(weight.cols).data();
        for (std::size_t r = begin; r < end; ++r) {
            dequantize_row(weight.dtype, weight.row(r), weight.cols, row);
            y[r] = product(static_cast<const float*>(row), x, weight.cols);
        }
    });
}

}  // namespace adainfer::inline v0

// ---- adainfer/model/config.hpp -------------------------------------------------------------------------------------------

#include <cstddef>
#include <string>
#include <vector>

namespace adainfer::inline v0 {

/// How positions turn into rotation angles: position / linear_factor * base^(-2i / dims) / frequency_factors[i].
struct RopeConfig {
    std::size_t dims = 0;          ///< rotated elements of a head, even; 0: no rotary positions
    double base = 10000;
    double linear_factor = 1;      ///< linear position scaling (Chen et al., arXiv 2306.15595)
    bool interleaved = false;      ///< pairs are neighbours (GGUF's llama); else halves of the head
    std::vector<float> frequency_factors;  ///< [dims / 2], or empty: all 1 (Llama 3's scaling is stored so)
};

/// Everything the decoder must know beside the weights. One instantiation of the code serves all of them.
struct ModelConfig {
    std::string architecture;  ///< as in the file, e.g. "llama"
    std::string name;
    std::size_t layers = 0;
    std::size_t hidden = 0;        ///< width of the hidden state
    std::size_t heads = 0;         ///< query heads
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t feed_forward = 0;  ///< inner width of the feed-forward network
    std::size_t vocabulary = 0;
    std::size_t context = 0;       ///< most positions the model was made for
    float norm_eps = 1e-5F;
    float attention_scale = 0;     ///< factor on q.k, usually 1 / sqrt(head_dim)
    Activation activation = Activation::Silu;
    RopeConfig rope;

    [[nodiscard]] std::size_t q_size() const noexcept { return heads * head_dim; }
    [[nodiscard]] std::size_t kv_size() const noexcept { return kv_heads * head_dim; }
};

/// Throws CorruptFile where the numbers cannot describe a model; `source` names the file in the message.
inline void validate(const ModelConfig& config, const std::string& source) {
    const auto require = [&](bool ok, const char* what, auto found) {
        if (!ok) fail(ErrorCode::CorruptFile, source, ": ", what, ", found ", found);
    };
    constexpr std::size_t most = std::size_t{1} << 24U;  // far above any model, far below what could overflow a product
    const auto in_range = [&](std::size_t value, const char* what) {
        if (value == 0 || value > most) fail(ErrorCode::CorruptFile, source, ": ", what, " must be 1 to ", most, ", found ", value);
    };
    in_range(config.layers, "the number of layers");
    in_range(config.hidden, "the hidden size");
    in_range(config.heads, "the number of attention heads");
    in_range(config.kv_heads, "the number of key/value heads");
    in_range(config.head_dim, "the head dimension");
    in_range(config.feed_forward, "the feed-forward size");
    in_range(config.vocabulary, "the vocabulary size");
    in_range(config.context, "the context length");
    require(config.layers <= 10'000, "the number of layers must be at most 10000", config.layers);
    require(config.heads % config.kv_heads == 0, "the number of attention heads must be a multiple of the key/value heads",
            std::to_string(config.heads) + " and " + std::to_string(config.kv_heads));
    require(config.norm_eps >= 0 && config.norm_eps < 1, "the norm epsilon must lie in [0, 1)", config.norm_eps);
    require(config.rope.dims % 2 == 0 && config.rope.dims <= config.head_dim,
            "the rotary dimension must be even and at most the head dimension", config.rope.dims);
    require(config.rope.base > 0 && config.rope.base < 1e30, "the rotary base must be positive", config.rope.base);
    require(config.rope.linear_factor > 0 && config.rope.linear_factor < 1e9, "the rotary scaling factor must be positive",
            config.rope.linear_factor);
    require(config.rope.frequency_factors.empty() || config.rope.frequency_factors.size() == config.rope.dims / 2,
            "the rotary frequency factors must be half the rotary dimension", config.rope.frequency_factors.size());
    for (const float factor : config.rope.frequency_factors) {
        require(factor > 0 && factor < 1e9F, "rotary frequency factors must be positive", factor);
    }
    require(config.attention_scale > 0 && config.attention_scale < 1e9F, "the attention scale must be positive",
            config.attention_scale);
}

}  // namespace adainfer::inline v0

// ---- adainfer/model/decoder.hpp ------------------------------------------------------------------------------------------

#include <cstddef>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>


// ---- adainfer/model/decoder_layer.hpp ------------------------------------------------------------------------------------

#include <cstddef>
#include <span>
#include <vector>


// ---- adainfer/model/session.hpp ------------------------------------------------------------------------------------------

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>


// ---- adainfer/model/kv_cache.hpp -----------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

namespace adainfer::inline v0 {

/// Keys and values of the positions seen so far, f32, laid out [layer][K or V][kv_head][capacity][head_dim], so that a
/// head's keys are one matrix. Memory is reserved at once and touched only as far as it is used.
///
/// Rows at or past length() are scratch: a forward pass writes them first and moves the length when it is done, so a
/// pass that is cancelled, or that only wanted a prediction, leaves nothing behind.
class KvCache {
  public:
    KvCache(const ModelConfig& config, std::size_t capacity)
        : layers_(config.layers), kv_heads_(config.kv_heads), head_dim_(config.head_dim), capacity_(capacity) {
        const auto floats = checked_mul(layers_ * 2 * kv_heads_, head_dim_ * capacity_);
        if (!floats || *floats > (std::size_t{1} << 40U)) {
            fail(ErrorCode::InvalidArgument, "a KV cache of ", capacity, " positions is too large");
        }
        data_ = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(*floats));
    }

    [[nodiscard]] std::size_t length() const noexcept { return length_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::size_t kv_heads() const noexcept { return kv_heads_; }
    [[nodiscard]] std::size_t head_dim() const noexcept { return head_dim_; }

    /// Bytes of the rows in use.
    [[nodiscard]] std::size_t used_bytes() const noexcept {
        return layers_ * 2 * kv_heads_ * head_dim_ * length_ * sizeof(float);
    }

    /// Forgets the positions from `length` on, or takes rows that a pass has written. Precondition: length <= capacity().
    void set_length(std::size_t length) noexcept { length_ = length; }

    [[nodiscard]] float* keys(std::size_t layer) noexcept { return data_.get() + 2 * layer * plane(); }
    [[nodiscard]] float* values(std::size_t layer) noexcept { return data_.get() + (2 * layer + 1) * plane(); }

    /// Copies `row` [kv_heads * head_dim] to the given position of keys(layer) or values(layer).
    void store(float* keys_or_values, std::size_t position, std::span<const float> row) const noexcept {
        for (std::size_t head = 0; head < kv_heads_; ++head) {
            std::copy_n(row.data() + head * head_dim_, head_dim_, keys_or_values + (head * capacity_ + position) * head_dim_);
        }
    }

    /// A cache of the same capacity that holds the same positions.
    [[nodiscard]] KvCache clone() const {
        KvCache copy(*this, capacity_);
        for (std::size_t head = 0; head < layers_ * 2 * kv_heads_; ++head) {
            const std::size_t offset = head * capacity_ * head_dim_;
            std::copy_n(data_.get() + offset, length_ * head_dim_, copy.data_.get() + offset);
        }
        copy.length_ = length_;
        return copy;
    }

  private:
    KvCache(const KvCache& like, std::size_t capacity)
        : layers_(like.layers_), kv_heads_(like.kv_heads_), head_dim_(like.head_dim_), capacity_(capacity),
          data_(std::make_unique_for_overwrite<float[]>(like.layers_ * 2 * like.plane())) {}

    [[nodiscard]] std::size_t plane() const noexcept { return kv_heads_ * capacity_ * head_dim_; }

    std::size_t layers_, kv_heads_, head_dim_, capacity_, length_ = 0;
    std::unique_ptr<float[]> data_;
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// A matrix that keeps its memory between passes: resizing to what it once held allocates nothing.
class Buffer {
  public:
    MatrixView<float> resize(std::size_t rows, std::size_t cols) {
        if (data_.size() < rows * cols) data_.resize(rows * cols);
        rows_ = rows;
        cols_ = cols;
        return view();
    }
    [[nodiscard]] MatrixView<float> view() noexcept { return {data_.data(), rows_, cols_}; }
    [[nodiscard]] std::span<float> row(std::size_t i) noexcept { return view().row(i); }

  private:
    std::vector<float> data_;
    std::size_t rows_ = 0, cols_ = 0;
};

/// Scratch of one forward pass over T new tokens.
struct Workspace {
    Buffer hidden;      ///< [T, hidden]: the residual stream
    Buffer normed;      ///< [T, hidden]
    Buffer q;           ///< [T, heads * head_dim]
    Buffer k, v;        ///< [T, kv_heads * head_dim]
    Buffer attended;    ///< [T, heads * head_dim]
    Buffer projected;   ///< [T, hidden]: what a block adds to the residual stream
    Buffer gate, up;    ///< [T, feed_forward]
    Buffer cos, sin;    ///< [T, rope.dims / 2]
    Buffer lens;            ///< [1, hidden]: the hidden state as a lens reads it
    Buffer previous_lens;   ///< [1, hidden]: the same at the check before
    Buffer previous_hidden; ///< [1, hidden]: last position before the layer just run
    Buffer logits;          ///< [1, vocabulary or candidates]
    std::vector<TokenId> shortlist;  ///< of one inference: the tokens a ShortlistHead looks at after its first check
};

/// One sequence: its KV cache and the scratch of its forward passes. Made by Model::new_session, used by one thread at a
/// time; any model that shares the weights (other exit policies too) can continue it. Move-only: copy with clone().
class Session {
  public:
    Session(KvCache kv_cache, std::string identity) : cache(std::move(kv_cache)), identity_(std::move(identity)) {}

    Session(Session&&) noexcept = default;
    Session& operator=(Session&&) noexcept = default;

    /// A session that continues from the same positions, with scratch of its own.
    [[nodiscard]] Session clone() const { return Session(cache.clone(), identity_); }

    /// Number of positions in the cache.
    [[nodiscard]] std::size_t length() const noexcept { return cache.length(); }
    [[nodiscard]] std::size_t capacity() const noexcept { return cache.capacity(); }

    /// Forgets every position from `length` on. Throws InvalidArgument where length exceeds the current one.
    void rewind(std::size_t length) {
        if (length > cache.length()) {
            fail(ErrorCode::InvalidArgument, "cannot rewind a session of ", cache.length(), " positions to ", length);
        }
        cache.set_length(length);
    }

    /// Identity of the weights that the cached keys and values come from.
    [[nodiscard]] const std::string& identity() const noexcept { return identity_; }

    KvCache cache;
    Workspace work;

  private:
    std::string identity_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/model/weights.hpp ------------------------------------------------------------------------------------------

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace adainfer::inline v0 {

/// y = x w^T + bias; the bias may be empty.
struct LinearWeights {
    WeightView weight;        ///< [out, in]
    std::vector<float> bias;  ///< [out] or empty
};

struct LayerWeights {
    std::vector<float> attention_norm;  ///< [hidden]
    LinearWeights q;                    ///< [heads * head_dim, hidden]
    LinearWeights k, v;                 ///< [kv_heads * head_dim, hidden]
    LinearWeights attention_output;     ///< [hidden, heads * head_dim]
    std::vector<float> feed_forward_norm;
    LinearWeights gate, up;             ///< [feed_forward, hidden]
    LinearWeights down;                 ///< [hidden, feed_forward]
};

/// A model as a file holds it: configuration, and views into bytes that `storage` keeps alive.
struct ModelWeights {
    ModelConfig config;
    WeightView token_embedding;  ///< [vocabulary, hidden]
    std::vector<LayerWeights> layers;
    std::vector<float> final_norm;  ///< [hidden]
    LinearWeights head;             ///< [vocabulary, hidden]; the token embedding where the model ties them
    std::string identity;           ///< names this very set of weights; policies and lenses are bound to it
    std::shared_ptr<const void> storage;

    [[nodiscard]] bool tied() const noexcept { return head.weight.data == token_embedding.data; }

    /// Bytes of the matrices of one layer.
    [[nodiscard]] std::size_t layer_bytes(std::size_t layer) const noexcept {
        const LayerWeights& l = layers[layer];
        return l.q.weight.bytes() + l.k.weight.bytes() + l.v.weight.bytes() + l.attention_output.weight.bytes() +
               l.gate.weight.bytes() + l.up.weight.bytes() + l.down.weight.bytes();
    }
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// A LinearWeights that a backend has prepared.
template <class Backend>
struct Linear {
    typename Backend::Weight prepared;
    WeightView weight;
    std::span<const float> bias;

    Linear(const Backend& backend, const LinearWeights& source)
        : prepared(backend.prepare(source.weight)), weight(source.weight), bias(source.bias) {}

    /// y [tokens, out] = x [tokens, in] w^T + bias.
    void apply(const Backend& backend, MatrixView<const float> x, MatrixView<float> y) const {
        backend.matmul(prepared, x, y);
        if (bias.empty()) return;
        for (std::size_t t = 0; t < y.rows(); ++t) axpy(1.0F, bias.data(), y.row(t).data(), bias.size());
    }
};

/// One decoder layer: hidden += attention(norm(hidden)); hidden += feed_forward(norm(hidden)).
template <class Backend>
class DecoderLayer {
  public:
    DecoderLayer(const Backend& backend, const LayerWeights& weights)
        : weights_(&weights), q_(backend, weights.q), k_(backend, weights.k), v_(backend, weights.v),
          output_(backend, weights.attention_output), gate_(backend, weights.gate), up_(backend, weights.up),
          down_(backend, weights.down) {}

    /// Runs the T tokens of work.hidden at the positions after cache.length(); leaves their K/V in the cache. Throws NotFinite
    /// as write_kv() does.
    void run(const Backend& backend, const ModelConfig& config, std::size_t layer, Workspace& work, KvCache& cache) const {
        const std::size_t tokens = work.hidden.view().rows();
        write_kv(backend, config, layer, work, cache);

        const MatrixView<float> q = work.q.resize(tokens, config.q_size());
        q_.apply(backend, work.normed.view(), q);
        rotate(backend, config, q, work);
        const MatrixView<float> attended = work.attended.resize(tokens, config.q_size());
        ops::attention(backend, AttentionArgs{.q = q, .k = cache.keys(layer), .v = cache.values(layer),
                                              .capacity = cache.capacity(), .first = cache.length(), .heads = config.heads,
                                              .kv_heads = config.kv_heads, .head_dim = config.head_dim,
                                              .scale = config.attention_scale, .window = 0, .out = attended});
        const MatrixView<float> projected = work.projected.resize(tokens, config.hidden);
        output_.apply(backend, attended, projected);
        add(projected, work.hidden.view());

        ops::rms_norm(backend, work.hidden.view(), weights_->feed_forward_norm, config.norm_eps, work.normed.view());
        const MatrixView<float> gate = work.gate.resize(tokens, config.feed_forward);
        const MatrixView<float> up = work.up.resize(tokens, config.feed_forward);
        gate_.apply(backend, work.normed.view(), gate);
        up_.apply(backend, work.normed.view(), up);
        ops::activate(backend, config.activation, gate);
        multiply(up, gate);
        down_.apply(backend, gate, projected);
        add(projected, work.hidden.view());
    }

    /// Only the K/V rows that the layer would see for the current hidden state: what an early exit leaves to later tokens.
    /// Throws NotFinite, naming layer and position: a backend may multiply the V rows of later positions by zero, so NaN there
    /// would turn up at earlier positions, and in a session it would spoil every token to come.
    void write_kv(const Backend& backend, const ModelConfig& config, std::size_t layer, Workspace& work, KvCache& cache) const {
        const MatrixView<float> hidden = work.hidden.view();
        const MatrixView<float> normed = work.normed.resize(hidden.rows(), config.hidden);
        ops::rms_norm(backend, hidden, weights_->attention_norm, config.norm_eps, normed);
        const MatrixView<float> k = work.k.resize(hidden.rows(), config.kv_size());
        const MatrixView<float> v = work.v.resize(hidden.rows(), config.kv_size());
        k_.apply(backend, normed, k);
        v_.apply(backend, normed, v);
        rotate(backend, config, k, work);
        for (std::size_t t = 0; t < hidden.rows(); ++t) {
            if (!all_finite(k.row(t).data(), k.cols()) || !all_finite(v.row(t).data(), v.cols())) {
                fail(ErrorCode::NotFinite, "keys or values of layer ", layer + 1, " at position ", cache.length() + t,
                     " hold NaN or infinity");
            }
            cache.store(cache.keys(layer), cache.length() + t, k.row(t));
            cache.store(cache.values(layer), cache.length() + t, v.row(t));
        }
    }

  private:
    static void rotate(const Backend& backend, const ModelConfig& config, MatrixView<float> x, Workspace& work) {
        if (config.rope.dims == 0) return;
        ops::rope(backend, x, config.head_dim, config.rope.interleaved, work.cos.view(), work.sin.view());
    }

    static void add(MatrixView<const float> x, MatrixView<float> y) noexcept {
        for (std::size_t t = 0; t < y.rows(); ++t) axpy(1.0F, x.row(t).data(), y.row(t).data(), y.cols());
    }

    static void multiply(MatrixView<const float> x, MatrixView<float> y) noexcept {
        for (std::size_t t = 0; t < y.rows(); ++t) {
            const float* factors = x.row(t).data();
            float* row = y.row(t).data();
            for (std::size_t i = 0; i < y.cols(); ++i) row[i] *= factors[i];
        }
    }

    const LayerWeights* weights_;
    Linear<Backend> q_, k_, v_, output_, gate_, up_, down_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/model/rope.hpp ---------------------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <vector>

namespace adainfer::inline v0 {

/// Angle a position for each rotated pair, radians [dims / 2] (Su et al., arXiv 2104.09864, section 3.2.2).
[[nodiscard]] inline std::vector<double> rope_frequencies(const RopeConfig& rope) {
    std::vector<double> frequencies(rope.dims / 2);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rope.dims);
        const double factor = rope.frequency_factors.empty() ? 1.0 : static_cast<double>(rope.frequency_factors[i]);
        frequencies[i] = std::pow(rope.base, exponent) / factor / rope.linear_factor;
    }
    return frequencies;
}

/// Cosines and sines of the positions first, first + 1, ...; both [tokens, dims / 2].
inline void rope_angles(const std::vector<double>& frequencies, std::size_t first, MatrixView<float> cos, MatrixView<float> sin) {
    for (std::size_t t = 0; t < cos.rows(); ++t) {
        for (std::size_t i = 0; i < frequencies.size(); ++i) {
            const double angle = static_cast<double>(first + t) * frequencies[i];
            cos.row(t)[i] = static_cast<float>(std::cos(angle));
            sin.row(t)[i] = static_cast<float>(std::sin(angle));
        }
    }
}

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// Reporting and cancelling while a model is built.
struct BuildOptions {
    Progress progress{};
    std::stop_token stop{};
};

/// The weights of one model, prepared for one backend, and the steps of a forward pass. It knows nothing of exit policies:
/// models of different policies share one Decoder. Immutable; every member may be called from many threads.
template <class Backend>
class Decoder {
  public:
    /// Throws Cancelled where options.stop was requested, and whatever the backend throws.
    Decoder(ModelWeights weights, Backend backend, const BuildOptions& options = {})
        : weights_(std::move(weights)), backend_(std::move(backend)), head_(backend_, weights_.head),
          rope_frequencies_(rope_frequencies(weights_.config.rope)) {
        layers_.reserve(weights_.layers.size());
        for (const LayerWeights& layer : weights_.layers) {
            if (options.stop.stop_requested()) fail(ErrorCode::Cancelled, "loading '", config().name, "' was cancelled");
            layers_.emplace_back(backend_, layer);
            if (options.progress) options.progress({"prepare weights", layers_.size(), weights_.layers.size()});
        }
    }

    Decoder(const Decoder&) = delete;  // layers point into weights_
    Decoder& operator=(const Decoder&) = delete;

    [[nodiscard]] const ModelConfig& config() const noexcept { return weights_.config; }
    [[nodiscard]] const ModelWeights& weights() const noexcept { return weights_; }
    [[nodiscard]] const Backend& backend() const noexcept { return backend_; }

    /// Starts a pass: the embeddings of the tokens as hidden state, the angles of their positions. Throws UnknownToken.
    void begin(Session& session, std::span<const TokenId> tokens) const {
        Workspace& work = session.work;
        const MatrixView<float> hidden = work.hidden.resize(tokens.size(), config().hidden);
        const WeightView& embedding = weights_.token_embedding;
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            if (tokens[t] < 0 || static_cast<std::size_t>(tokens[t]) >= config().vocabulary) {
                fail(ErrorCode::UnknownToken, "token ", tokens[t], " at position ", session.length() + t,
                     " is outside the vocabulary of ", config().vocabulary);
            }
            dequantize_row(embedding.dtype, embedding.row(static_cast<std::size_t>(tokens[t])), embedding.cols, hidden.row(t).data());
        }
        const std::size_t pairs = config().rope.dims / 2;
        rope_angles(rope_frequencies_, session.length(), work.cos.resize(tokens.size(), pairs), work.sin.resize(tokens.size(), pairs));
    }

    /// Runs layer `layer` (0 is the first) on the hidden state. Throws NotFinite, naming layer and position.
    void run_layer(Session& session, std::size_t layer) const {
        layers_[layer].run(backend_, config(), layer, session.work, session.cache);
        const MatrixView<float> hidden = session.work.hidden.view();
        for (std::size_t t = 0; t < hidden.rows(); ++t) {
            if (!all_finite(hidden.row(t).data(), hidden.cols())) {
                fail(ErrorCode::NotFinite, "hidden state after layer ", layer + 1, " at position ", session.length() + t,
                     " holds NaN or infinity");
            }
        }
    }

    /// Writes the K/V rows of `layer` from the hidden state as it is, without running the layer. Throws NotFinite likewise.
    void write_kv(Session& session, std::size_t layer) const {
        layers_[layer].write_kv(backend_, config(), layer, session.work, session.cache);
    }

    /// out [hidden] = the final norm of one hidden state [hidden].
    void final_norm(std::span<const float> hidden, std::span<float> out) const {
        ops::rms_norm(backend_, {hidden.data(), 1, hidden.size()}, weights_.final_norm, config().norm_eps,
                      {out.data(), 1, out.size()});
    }

    /// Logits [vocabulary] of one final-normed (or lens-read) state [hidden].
    void logits(std::span<const float> normed, std::span<float> out) const {
        head_.apply(backend_, {normed.data(), 1, normed.size()}, {out.data(), 1, out.size()});
    }

    /// Logits [tokens.size()] of those tokens only.
    void logits(std::span<const float> normed, std::span<const TokenId> tokens, std::span<float> out) const {
        ops::matmul_rows(backend_, head_.prepared, head_.weight, tokens, normed, out);
        if (head_.bias.empty()) return;
        for (std::size_t i = 0; i < tokens.size(); ++i) out[i] += head_.bias[static_cast<std::size_t>(tokens[i])];
    }

  private:
    ModelWeights weights_;
    Backend backend_;
    Linear<Backend> head_;
    std::vector<double> rope_frequencies_;
    std::vector<DecoderLayer<Backend>> layers_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/model/exit_policy.hpp --------------------------------------------------------------------------------------

#include <concepts>
#include <cstddef>


// ---- adainfer/model/readout.hpp ------------------------------------------------------------------------------------------

#include <cstddef>
#include <span>
#include <string_view>

// How a hidden state in the middle of the model becomes logits: a lens brings it to where the head can read it, a head
// says which rows of the vocabulary are computed. These two are what the paper uses; early_exit/ has more.

namespace adainfer::inline v0 {

/// The model's own final norm (AdaInfer, arXiv 2403.02181, section 3.1; nostalgebraist's logit lens).
struct LogitLens {
    static constexpr std::string_view name = "logit";

    /// True where the lens can read the state after `layer` layers.
    [[nodiscard]] static constexpr bool reads(std::size_t) noexcept { return true; }

    /// out [hidden] = the state that the head reads, from the hidden state [hidden] after `layer` layers.
    template <class Decoder>
    void apply(const Decoder& decoder, std::size_t, std::span<const float> hidden, std::span<float> out) const {
        decoder.final_norm(hidden, out);
    }
};

/// Logits of the whole vocabulary.
struct FullHead {
    static constexpr std::string_view name = "full";

    /// Fills work.logits with a row; returns the token of each column, empty where column i is token i.
    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId>, Workspace& work) const {
        decoder.logits(state, work.logits.resize(1, decoder.config().vocabulary).row(0));
        return {};
    }
};

/// Logits of the call's candidate tokens only, e.g. the labels of a classification; of the whole vocabulary where the call
/// names none. Probabilities are then relative to the candidates.
struct CandidateHead {
    static constexpr std::string_view name = "candidates";

    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId> candidates,
                                 Workspace& work) const {
        if (candidates.empty()) return FullHead{}.run(decoder, state, candidates, work);
        decoder.logits(state, candidates, work.logits.resize(1, candidates.size()).row(0));
        return candidates;
    }
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

enum class ExitDecision { Continue, Exit };

/// An exit policy is one of two kinds. A plain one reads numbers and decides:
///
///     struct SureEnough {
///         using Features = FeatureList<TopProb>;   // what decide() reads
///         struct State {};                         // of one inference, made anew for every token
///         bool wants(std::size_t layer) const { return layer >= 12; }   // asked before anything is computed
///         ExitDecision decide(std::size_t layer, const Features::Values& values, State&) const {
///             return values.get<TopProb>() > 0.9F ? ExitDecision::Exit : ExitDecision::Continue;
///         }
///         const LogitLens& lens() const;           // OPTIONAL: how a hidden state is read; default LogitLens
///         const FullHead& head() const;            // OPTIONAL: which logits are computed; default FullHead
///         std::size_t hindsight(const State&, TokenId final_token, std::size_t layers) const;  // OPTIONAL: after a run at
///                                                  // full depth, the layer to report as exit layer (Oracle)
///         static constexpr bool needs_dense_answer = true;   // OPTIONAL: at full depth no shortlist stands in for the vocabulary
///     };
///
/// A composite one asks others, in place of Features and decide():
///
///     template <class Ask> ExitDecision consult(std::size_t layer, Ask&& ask, State&) const;   // ask(policy, its state)
///
/// `layer` counts the layers that have run, 1 to layers - 1. decide() is const and must not throw.
template <class P>
concept HasState = requires { typename P::State; } && std::default_initializable<typename P::State>;

template <class P>
concept HasWants = requires(const P& policy, std::size_t layer) {
    { policy.wants(layer) } -> std::same_as<bool>;
};

template <class P>
concept HasDecide = requires(const P& policy, std::size_t layer, const typename P::Features::Values& values, typename P::State& state) {
    { policy.decide(layer, values, state) } -> std::same_as<ExitDecision>;
};

namespace detail {
/// Stands for the model's answer when a composite policy is checked.
struct AnyAnswer {
    template <class P, class S>
    ExitDecision operator()(const P&, S&) const;
};
}  // namespace detail

template <class P>
concept HasConsult = requires(const P& policy, std::size_t layer, const detail::AnyAnswer& ask, typename P::State& state) {
    { policy.consult(layer, ask, state) } -> std::same_as<ExitDecision>;
};

template <class P>
concept ExitPolicy = std::move_constructible<P> && HasState<P> && HasWants<P> && (HasDecide<P> || HasConsult<P>);

/// Turns a missing operation into one readable line.
template <class P>
consteval void require_exit_policy() {
    static_assert(HasState<P>, "adainfer: the exit policy lacks a default-constructible nested type State (see ExitPolicy)");
    static_assert(HasWants<P>, "adainfer: the exit policy lacks 'bool wants(std::size_t layer) const' (see ExitPolicy)");
    if constexpr (HasState<P> && HasWants<P>) {
        static_assert(HasDecide<P> || HasConsult<P>,
                      "adainfer: the exit policy lacks 'ExitDecision decide(std::size_t layer, const Features::Values&, State&) "
                      "const' (see ExitPolicy)");
    }
    static_assert(std::move_constructible<P>, "adainfer: the exit policy must be movable (see ExitPolicy)");
}

/// The policy's lens, or the logit lens where it names none.
template <class P>
[[nodiscard]] decltype(auto) lens_of(const P& policy) {
    if constexpr (requires { policy.lens(); }) {
        return policy.lens();
    } else {
        return LogitLens{};
    }
}

/// The policy's head, or the full head where it names none.
template <class P>
[[nodiscard]] decltype(auto) head_of(const P& policy) {
    if constexpr (requires { policy.head(); }) {
        return policy.head();
    } else {
        return FullHead{};
    }
}

/// The dense model: every layer runs, nothing is computed in between.
struct NeverExit {
    static constexpr bool never_exits = true;
    struct State {};
    struct Features {
        struct Values {};
    };
    [[nodiscard]] static constexpr bool wants(std::size_t) noexcept { return false; }
    [[nodiscard]] static constexpr ExitDecision decide(std::size_t, const Features::Values&, State&) noexcept {
        return ExitDecision::Continue;
    }
};

}  // namespace adainfer::inline v0

// ---- adainfer/model/kv_completion.hpp ------------------------------------------------------------------------------------

#include <concepts>
#include <cstddef>

namespace adainfer::inline v0 {

/// What becomes of the K/V rows of the layers that a token did not run.
template <class K>
concept KvCompletion = requires {
    { K::keeps_session } -> std::convertible_to<bool>;
};

/// Their K and V projections applied to the exit state (CALM, arXiv 2207.07061, section 3.2: state propagation).
struct PropagateHidden {
    static constexpr bool keeps_session = true;

    template <class Decoder>
    static void complete(const Decoder& decoder, Session& session, std::size_t first_layer) {
        for (std::size_t layer = first_layer; layer < decoder.config().layers; ++layer) decoder.write_kv(session, layer);
    }
};

/// Nothing: for predictions that keep no session. Not for decode() and generate().
struct Discard {
    static constexpr bool keeps_session = false;
};

}  // namespace adainfer::inline v0

// ---- adainfer/model/model.hpp --------------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <utility>


// ---- adainfer/model/observer.hpp -----------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>


// ---- adainfer/model/reading.hpp ------------------------------------------------------------------------------------------

#include <cstddef>
#include <span>

namespace adainfer::inline v0 {

/// What has to be computed before a feature can be read; each includes the ones before it.
enum class Needs { Hidden, Lens, Logits, Entropy };

/// What a check can see of the last position after `layer` of `layers` layers. Fields beyond what the policy's features
/// need are not filled.
struct Reading {
    std::size_t layer = 0, layers = 0;
    std::span<const float> hidden;           ///< [hidden] after this layer
    std::span<const float> previous_hidden;  ///< [hidden] before this layer
    std::span<const float> lens;             ///< [hidden] as the lens reads it
    std::span<const float> previous_lens;    ///< the same at the check before; empty at the first
    TopTwo top;                              ///< of the logits
    TokenId token = no_token;                ///< the answer of an exit here: the largest logit, among the call's candidates if any
    TokenId previous_token = no_token;       ///< the same at the check before; no_token at the first
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// Reads the hidden state of the last position for the policies of one inference: nothing before it is asked for, nothing
/// twice in one check.
template <class Backend>
class Observer {
  public:
    Observer(const Decoder<Backend>& decoder, Session& session, std::span<const TokenId> candidates)
        : decoder_(decoder), session_(session), candidates_(candidates) {
        reading_.layers = decoder.config().layers;
        Workspace& work = session.work;
        work.shortlist.clear();
        // Sized at once, so that it does not take an exit to stop allocating.
        for (Buffer* buffer : {&work.lens, &work.previous_lens, &work.previous_hidden}) buffer->resize(1, decoder.config().hidden);
    }

    /// Keeps what HiddenCosine compares with; called before the layer that a check follows.
    void before_layer() {
        const std::span<const float> row = last_hidden();
        std::copy(row.begin(), row.end(), session_.work.previous_hidden.row(0).begin());
    }

    /// A check starts after `layer` layers.
    void after_layer(std::size_t layer) {
        reading_.layer = layer;
        reading_.hidden = last_hidden();
        reading_.previous_hidden = session_.work.previous_hidden.row(0);
        lens_read_ = top_read_ = entropy_read_ = false;
        columns_ = {};
        ++checks_;
    }

    /// The features of a plain policy.
    template <class Policy>
    [[nodiscard]] typename Policy::Features::Values features(const Policy& policy) {
        using Features = typename Policy::Features;
        if constexpr (requires { Features::needs; }) {
            if constexpr (Features::needs >= Needs::Lens) read_lens(lens_of(policy));
            if constexpr (Features::needs >= Needs::Logits) {
                run_head(head_of(policy));
                read_top(Features::needs >= Needs::Entropy);
            }
            return Features::read(reading_);
        } else {
            return {};
        }
    }

    /// The logits of the state after `layer` layers, as the policy reads it: those of the check that has just been made, or
    /// new ones. At full depth they come from the final norm, and only where an answer can be: the candidates, or the
    /// shortlist of this inference, unless the policy says that it needs the dense model's own answer.
    template <class Policy>
    void answer(const Policy& policy, std::size_t layer) {
        if (layer == reading_.layers) {
            Workspace& work = session_.work;
            decoder_.final_norm(last_hidden(), work.lens.row(0));
            std::span<const TokenId> rows = candidates_;
            if constexpr (!requires { Policy::needs_dense_answer; }) {
                if (rows.empty()) rows = work.shortlist;
            }
            columns_ = CandidateHead{}.run(decoder_, work.lens.row(0), rows, work);
        } else if (!top_read_ || reading_.layer != layer) {
            reading_.layer = layer;
            reading_.hidden = last_hidden();
            read_lens(lens_of(policy));
            run_head(head_of(policy));
        }
    }

    [[nodiscard]] std::size_t checks() const noexcept { return checks_; }

    /// Logits of the last answer() or check, and the token of each column (empty: column i is token i).
    [[nodiscard]] std::span<const float> logits() const noexcept { return session_.work.logits.row(0); }
    [[nodiscard]] std::span<const TokenId> columns() const noexcept { return columns_; }

    /// The candidate (or token) with the largest logit. Throws NotFinite.
    [[nodiscard]] TokenId best() const {
        return answers_among_candidates() ? best_candidate() : token_of(top_two(logits()).top);
    }

  private:
    [[nodiscard]] std::span<const float> last_hidden() const noexcept {
        const MatrixView<float> hidden = session_.work.hidden.view();
        return hidden.row(hidden.rows() - 1);
    }

    /// The call named candidates, but the logits are of the whole vocabulary.
    [[nodiscard]] bool answers_among_candidates() const noexcept { return !candidates_.empty() && columns_.empty(); }

    [[nodiscard]] TokenId best_candidate() const {
        const std::span<const float> row = logits();
        for (const TokenId token : candidates_) {
            if (!std::isfinite(row[static_cast<std::size_t>(token)])) fail(ErrorCode::NotFinite, "logits hold NaN or infinity");
        }
        return *std::max_element(candidates_.begin(), candidates_.end(), [&](TokenId a, TokenId b) {
            return row[static_cast<std::size_t>(a)] < row[static_cast<std::size_t>(b)];
        });
    }

    [[nodiscard]] TokenId token_of(std::size_t column) const noexcept {
        return columns_.empty() ? static_cast<TokenId>(column) : columns_[column];
    }

    template <class Lens>
    void read_lens(const Lens& lens) {
        if (lens_read_) return;
        Workspace& work = session_.work;
        std::swap(work.lens, work.previous_lens);
        reading_.previous_lens = lens_seen_ ? std::span<const float>(work.previous_lens.row(0)) : std::span<const float>{};
        const std::span<float> out = work.lens.row(0);
        lens.apply(decoder_, reading_.layer, reading_.hidden, out);
        reading_.lens = out;
        lens_read_ = lens_seen_ = true;
    }

    template <class Head>
    void run_head(const Head& head) {
        if (top_read_) return;
        columns_ = head.run(decoder_, reading_.lens, candidates_, session_.work);
    }

    void read_top(bool with_entropy) {
        if (top_read_ && (entropy_read_ || !with_entropy)) return;
        if (!top_read_) reading_.previous_token = reading_.token;
        reading_.top = top_two(logits(), with_entropy);
        reading_.token = answers_among_candidates() ? best_candidate() : token_of(reading_.top.top);
        top_read_ = true;
        entropy_read_ = with_entropy;
    }

    const Decoder<Backend>& decoder_;
    Session& session_;
    std::span<const TokenId> candidates_, columns_;
    Reading reading_;
    std::size_t checks_ = 0;
    bool lens_read_ = false, lens_seen_ = false, top_read_ = false, entropy_read_ = false;
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// Of one call.
struct RunOptions {
    std::stop_token stop{};  ///< looked at between layers; a stop throws Cancelled and leaves the session as it was
    Progress progress{};     ///< prompt tokens done
};

/// What the model says comes next, and how deep it went to say so. The spans point into the session and are valid until its
/// next pass.
struct Prediction {
    TokenId token = no_token;          ///< the largest logit: among the candidates where the call named some
    std::size_t exit_layer = 0;        ///< layers run for this token, 1 to layers
    std::size_t layers = 0;            ///< layers of the model
    std::size_t checks = 0;            ///< how often the policy was consulted
    std::span<const float> logits;     ///< a row, computed at the exit layer
    std::span<const TokenId> columns;  ///< token of each logit; empty: logit i belongs to token i
};

/// A decoder-only language model that stops each inference at the layer where its exit policy says so.
///
/// Immutable: every member is const and may be called from many threads at once, each with its own Session. Models with
/// other policies over the same weights come from with_policy() and share them.
template <class Backend, class Policy = NeverExit, class Completion = PropagateHidden>
class Model {
    static_assert((require_backend<Backend>(), true));
    static_assert((require_exit_policy<Policy>(), true));
    static_assert(KvCompletion<Completion>, "adainfer: the third argument of Model must be a KvCompletion");

  public:
    /// Throws Cancelled, and what the policy throws where it belongs to another model.
    explicit Model(ModelWeights weights, Policy policy = {}, Backend backend = Backend{}, const BuildOptions& options = {})
        : Model(std::make_shared<const Decoder<Backend>>(std::move(weights), std::move(backend), options), std::move(policy)) {}

    explicit Model(std::shared_ptr<const Decoder<Backend>> decoder, Policy policy = {})
        : decoder_(std::move(decoder)), policy_(std::move(policy)) {
        if constexpr (requires { policy_.check_model(decoder_->weights()); }) policy_.check_model(decoder_->weights());
    }

    Model(Model&&) noexcept = default;
    Model& operator=(Model&&) noexcept = default;

    /// The same weights under another policy; nothing is copied.
    template <class Other>
    [[nodiscard]] Model<Backend, Other, Completion> with_policy(Other policy) const {
        return Model<Backend, Other, Completion>(decoder_, std::move(policy));
    }

    [[nodiscard]] const ModelConfig& config() const noexcept { return decoder_->config(); }
    [[nodiscard]] const Decoder<Backend>& decoder() const noexcept { return *decoder_; }
    [[nodiscard]] const Policy& policy() const noexcept { return policy_; }

    /// An empty session for `capacity` positions; 0: as many as the model was made for. Throws ContextOverflow above that.
    [[nodiscard]] Session new_session(std::size_t capacity = 0) const {
        if (capacity > config().context) {
            fail(ErrorCode::ContextOverflow, "a session of ", capacity, " positions was asked for, the model's context is ", config().context);
        }
        return Session(KvCache(config(), capacity == 0 ? config().context : capacity), decoder_->weights().identity);
    }

    /// Appends the tokens to the session at full depth; no logits. Throws InvalidArgument (no tokens), ContextOverflow,
    /// UnknownToken, NotFinite, Cancelled; then the session is as it was.
    void prefill(Session& session, std::span<const TokenId> tokens, const RunOptions& options = {}) const {
        check(session, tokens);
        Transaction transaction(session);
        for (std::size_t done = 0; done < tokens.size();) {
            const std::span<const TokenId> chunk = tokens.subspan(done, (std::min)(prefill_chunk, tokens.size() - done));
            run_all_layers(session, chunk, options.stop);
            session.cache.set_length(session.length() + chunk.size());
            done += chunk.size();
            if (options.progress) options.progress({"prefill", done, tokens.size()});
        }
        transaction.commit();
    }

    /// Appends the tokens at full depth and says what comes next. Throws as prefill() does.
    [[nodiscard]] Prediction prefill_and_predict(Session& session, std::span<const TokenId> tokens, const RunOptions& options = {}) const {
        Transaction transaction(session);
        prefill(session, tokens, options);
        Observer<Backend> observer(*decoder_, session, {});
        observer.answer(policy_, config().layers);
        const Prediction prediction = conclude(observer, config().layers);
        transaction.commit();
        return prediction;
    }

    /// Appends one token, runs as many layers as the policy lets it, completes its K/V, and says what comes next. Throws as
    /// prefill() does.
    [[nodiscard]] Prediction decode(Session& session, TokenId token, const RunOptions& options = {}) const {
        static_assert(Completion::keeps_session, "adainfer: decode() and generate() need a KvCompletion that keeps the session; "
                                                 "Discard is for predict() and classify() only");
        const Pass pass = run_until_exit(session, {&token, 1}, {}, options.stop);
        if constexpr (Completion::keeps_session) Completion::complete(*decoder_, session, pass.layers_run);
        session.cache.set_length(session.length() + 1);
        return pass.prediction;
    }

    /// What comes after the session's positions and these tokens: among the candidates, or in the whole vocabulary where
    /// there are none. Early exit is allowed for all of the tokens, and the session stays as it was. Throws as prefill().
    [[nodiscard]] Prediction predict(Session& session, std::span<const TokenId> tokens, std::span<const TokenId> candidates = {},
                                     const RunOptions& options = {}) const {
        for (const TokenId candidate : candidates) {
            if (candidate < 0 || static_cast<std::size_t>(candidate) >= config().vocabulary) {
                fail(ErrorCode::UnknownToken, "candidate token ", candidate, " is outside the vocabulary of ", config().vocabulary);
            }
        }
        return run_until_exit(session, tokens, candidates, options.stop).prediction;
    }

    /// Full-depth pass over the tokens that keeps no K/V beyond the session's and calls visit(t, logits [vocabulary]) for
    /// each token in turn. Throws as prefill().
    template <class Visit>
    void for_each_logits(Session& session, std::span<const TokenId> tokens, Visit&& visit, const RunOptions& options = {}) const {
        check(session, tokens);
        Transaction transaction(session);  // never committed: rewinds
        for (std::size_t done = 0; done < tokens.size();) {
            const std::span<const TokenId> chunk = tokens.subspan(done, (std::min)(prefill_chunk, tokens.size() - done));
            run_all_layers(session, chunk, options.stop);
            const std::span<float> normed = session.work.lens.resize(1, config().hidden).row(0);
            const std::span<float> logits = session.work.logits.resize(1, config().vocabulary).row(0);
            for (std::size_t t = 0; t < chunk.size(); ++t) {
                decoder_->final_norm(session.work.hidden.row(t), normed);
                decoder_->logits(normed, logits);
                visit(done + t, std::span<const float>(logits));
            }
            session.cache.set_length(session.length() + chunk.size());
            done += chunk.size();
            if (options.progress) options.progress({"score", done, tokens.size()});
        }
    }

  private:
    static constexpr std::size_t prefill_chunk = 256;  // tokens a pass: bounds the scratch

    struct Pass {
        Prediction prediction;
        std::size_t layers_run;  // hindsight may report a smaller exit layer
    };

    /// Restores the session's length unless the work was committed.
    class Transaction {
      public:
        explicit Transaction(Session& session) : session_(session), length_(session.length()) {}
        Transaction(const Transaction&) = delete;
        Transaction& operator=(const Transaction&) = delete;
        ~Transaction() {
            if (!committed_) session_.cache.set_length(length_);
        }
        void commit() noexcept { committed_ = true; }

      private:
        Session& session_;
        std::size_t length_;
        bool committed_ = false;
    };

    void check(const Session& session, std::span<const TokenId> tokens) const {
        if (session.identity() != decoder_->weights().identity) {
            fail(ErrorCode::IdentityMismatch, "the session belongs to model ", session.identity(), ", not to ", decoder_->weights().identity);
        }
        if (tokens.empty()) fail(ErrorCode::InvalidArgument, "the prompt is empty: at least one token is needed");
        if (tokens.size() > session.capacity() - session.length()) {
            fail(ErrorCode::ContextOverflow, tokens.size(), " tokens after ", session.length(), " positions exceed the session's ",
                 session.capacity(), " (the model's context is ", config().context, ")");
        }
    }

    void run_layer(Session& session, std::size_t layer, const std::stop_token& stop) const {
        if (stop.stop_requested()) fail(ErrorCode::Cancelled, "stopped before layer ", layer + 1);
        decoder_->run_layer(session, layer);
    }

    void run_all_layers(Session& session, std::span<const TokenId> tokens, const std::stop_token& stop) const {
        decoder_->begin(session, tokens);
        for (std::size_t layer = 0; layer < config().layers; ++layer) run_layer(session, layer, stop);
    }

    /// AdaInfer's loop (arXiv 2403.02181, section 3.3): run a layer, read the features, ask the classifier.
    Pass run_until_exit(Session& session, std::span<const TokenId> tokens, std::span<const TokenId> candidates,
                        const std::stop_token& stop) const {
        check(session, tokens);
        Observer<Backend> observer(*decoder_, session, candidates);
        std::size_t layers_run = config().layers, exit_layer = layers_run;
        if constexpr (requires { Policy::never_exits; }) {
            run_all_layers(session, tokens, stop);
            observer.answer(policy_, layers_run);
        } else {
            typename Policy::State state{};
            decoder_->begin(session, tokens);
            for (std::size_t layer = 1; layer <= config().layers; ++layer) {
                const bool wanted = layer < config().layers && policy_.wants(layer);
                if (wanted) observer.before_layer();
                run_layer(session, layer - 1, stop);
                if (!wanted) continue;
                observer.after_layer(layer);
                if (ask(policy_, layer, observer, state) == ExitDecision::Exit) {
                    layers_run = exit_layer = layer;
                    break;
                }
            }
            observer.answer(policy_, layers_run);
            if constexpr (requires { policy_.hindsight(state, TokenId{}, exit_layer); }) {
                exit_layer = policy_.hindsight(state, observer.best(), exit_layer);
            }
        }
        return {conclude(observer, exit_layer), layers_run};
    }

    template <class Asked>
    static ExitDecision ask(const Asked& policy, std::size_t layer, Observer<Backend>& observer, typename Asked::State& state) {
        if constexpr (HasConsult<Asked>) {
            return policy.consult(layer, [&](const auto& part, auto& part_state) { return ask(part, layer, observer, part_state); }, state);
        } else {
            return policy.decide(layer, observer.features(policy), state);
        }
    }

    Prediction conclude(const Observer<Backend>& observer, std::size_t exit_layer) const {
        return {observer.best(), exit_layer, config().layers, observer.checks(), observer.logits(), observer.columns()};
    }

    std::shared_ptr<const Decoder<Backend>> decoder_;
    Policy policy_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/model/random_model.hpp -------------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// Shape of a random model. The defaults make one of 42,000 parameters.
struct RandomModelOptions {
    std::size_t layers = 4;
    std::size_t hidden = 32;
    std::size_t heads = 4;
    std::size_t kv_heads = 2;
    std::size_t head_dim = 8;
    std::size_t feed_forward = 64;
    std::size_t vocabulary = 96;
    std::size_t context = 64;
    bool tied = false;         ///< the head is the token embedding; random models then tend to repeat their input
    bool biases = false;       ///< on every projection
    bool interleaved = true;   ///< layout of the rotated pairs, see RopeConfig
    std::uint64_t seed = 1;
};

/// A Llama-shaped model of random f32 weights, for examples, tests and benchmarks: it computes what a real one computes and
/// says nothing sensible. Equal options give equal weights everywhere. Throws CorruptFile where the options describe no model.
[[nodiscard]] inline ModelWeights make_random_model(const RandomModelOptions& options = {}) {
    ModelWeights model;
    ModelConfig& config = model.config;
    config.architecture = "llama";
    config.name = "random";
    config.layers = options.layers;
    config.hidden = options.hidden;
    config.heads = options.heads;
    config.kv_heads = options.kv_heads;
    config.head_dim = options.head_dim;
    config.feed_forward = options.feed_forward;
    config.vocabulary = options.vocabulary;
    config.context = options.context;
    config.attention_scale = 1.0F / std::sqrt(static_cast<float>(options.head_dim));
    config.rope.dims = options.head_dim;
    config.rope.interleaved = options.interleaved;
    validate(config, "random model");

    std::uint64_t state = options.seed;
    const auto uniform = [&state](float spread) {  // in [-spread, spread)
        state = state * 6364136223846793005U + 1442695040888963407U;  // Knuth's MMIX
        return (static_cast<float>(state >> 40U) * 0x1p-23F - 1.0F) * spread;
    };
    const auto fill = [&uniform](float* values, std::size_t n, float spread, float middle) {
        for (std::size_t i = 0; i < n; ++i) values[i] = middle + uniform(spread);
    };
    const auto vector = [&](std::size_t n, float spread, float middle) {
        std::vector<float> values(n);
        fill(values.data(), n, spread, middle);
        return values;
    };

    using Storage = std::vector<std::unique_ptr<float[]>>;
    auto storage = std::make_shared<Storage>();
    const auto matrix = [&](std::size_t rows, std::size_t cols, float spread) {
        const auto size = static_cast<std::size_t>(*checked_mul(rows, cols));  // validate() bounds both
        storage->push_back(std::make_unique_for_overwrite<float[]>(size));
        float* const values = storage->back().get();
        fill(values, size, spread, 0.0F);
        return WeightView{DType::F32, rows, cols, reinterpret_cast<const std::byte*>(values)};
    };
    const auto linear = [&](std::size_t out, std::size_t in, float gain = 1.0F) {
        // Variance 1 / in keeps the size of what passes through; a uniform number's variance is spread^2 / 3.
        LinearWeights result{matrix(out, in, gain * std::sqrt(3.0F / static_cast<float>(in))), {}};
        if (options.biases) result.bias = vector(out, 0.3F, 0.0F);
        return result;
    };

    model.token_embedding = matrix(config.vocabulary, config.hidden, 1.0F);
    for (std::size_t i = 0; i < config.layers; ++i) {
        LayerWeights layer;
        layer.attention_norm = vector(config.hidden, 0.3F, 1.0F);
        layer.q = linear(config.q_size(), config.hidden);
        layer.k = linear(config.kv_size(), config.hidden);
        layer.v = linear(config.kv_size(), config.hidden);
        layer.attention_output = linear(config.hidden, config.q_size());
        layer.feed_forward_norm = vector(config.hidden, 0.3F, 1.0F);
        layer.gate = linear(config.feed_forward, config.hidden);
        layer.up = linear(config.feed_forward, config.hidden);
        layer.down = linear(config.hidden, config.feed_forward);
        model.layers.push_back(std::move(layer));
    }
    model.final_norm = vector(config.hidden, 0.3F, 1.0F);
    // A gain on the head, because real models are sure of some tokens: without it every distribution is nearly flat.
    model.head = options.tied ? LinearWeights{model.token_embedding, {}} : linear(config.vocabulary, config.hidden, 4.0F);
    model.identity = "random-" + std::to_string(config.layers) + "x" + std::to_string(config.hidden) + "-" +
                     std::to_string(options.seed);
    model.storage = std::move(storage);
    return model;
}

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/adainfer_policy.hpp -----------------------------------------------------------------------------

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <utility>


// ---- adainfer/early_exit/features.hpp ------------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// A feature is a struct of three members: its name in policy files, what it needs, and how it is read. Add your own so.

namespace adainfer::inline v0 {

/// P(top) - P(second) (AdaInfer, arXiv 2403.02181, section 3.2).
struct Gap {
    static constexpr std::string_view name = "gap";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return r.top.top_probability - r.top.second_probability; }
};

/// P(top) (AdaInfer, section 3.2).
struct TopProb {
    static constexpr std::string_view name = "top_prob";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return r.top.top_probability; }
};

/// Entropy of the distribution, nats.
struct Entropy {
    static constexpr std::string_view name = "entropy";
    static constexpr Needs needs = Needs::Entropy;
    static float read(const Reading& r) noexcept { return r.top.entropy; }
};

/// 1 where the top token is that of the check before, else 0.
struct SameTopAsPrevious {
    static constexpr std::string_view name = "same_top";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return r.token == r.previous_token ? 1.0F : 0.0F; }
};

/// Share of the layers that have run.
struct LayerFraction {
    static constexpr std::string_view name = "layer_fraction";
    static constexpr Needs needs = Needs::Hidden;
    static float read(const Reading& r) noexcept { return static_cast<float>(r.layer) / static_cast<float>(r.layers); }
};

/// Cosine of the hidden states before and after the layer just run.
struct HiddenCosine {
    static constexpr std::string_view name = "hidden_cosine";
    static constexpr Needs needs = Needs::Hidden;
    static float read(const Reading& r) noexcept { return cosine(r.hidden.data(), r.previous_hidden.data(), r.hidden.size()); }
};

/// Root mean square of the lens output. A linear lens predicts the final state by regression, so its output shrinks where
/// it is unsure.
struct LensNorm {
    static constexpr std::string_view name = "lens_norm";
    static constexpr Needs needs = Needs::Lens;
    static float read(const Reading& r) noexcept {
        return std::sqrt(dot(r.lens.data(), r.lens.data(), r.lens.size()) / static_cast<float>(r.lens.size()));
    }
};

/// Cosine of the lens output with that of the check before; 0 at the first check.
struct LensShift {
    static constexpr std::string_view name = "lens_shift";
    static constexpr Needs needs = Needs::Lens;
    static float read(const Reading& r) noexcept {
        return r.previous_lens.empty() ? 0.0F : cosine(r.lens.data(), r.previous_lens.data(), r.lens.size());
    }
};

/// The top token's id, for policies that compare answers (exact up to 2^24).
struct TopToken {
    static constexpr std::string_view name = "top_token";
    static constexpr Needs needs = Needs::Logits;
    static float read(const Reading& r) noexcept { return static_cast<float>(r.token); }
};

/// What a policy reads at a check, in this order.
template <class... Fs>
struct FeatureList {
    static_assert(sizeof...(Fs) > 0, "adainfer: a feature list needs at least one feature");

    static constexpr std::size_t size = sizeof...(Fs);
    static constexpr Needs needs = (std::max)({Fs::needs...});

    /// One number a feature.
    class Values {
      public:
        explicit Values(const std::array<float, size>& values) noexcept : values_(values) {}

        /// The value of feature F of the list.
        template <class F>
        [[nodiscard]] float get() const noexcept {
            static_assert((std::is_same_v<F, Fs> || ...), "adainfer: the feature is not in the policy's FeatureList");
            std::size_t i = 0;
            static_cast<void>(((std::is_same_v<F, Fs> ? true : (++i, false)) || ...));
            return values_[i];
        }

        /// All values, in the order of the list.
        [[nodiscard]] const std::array<float, size>& all() const noexcept { return values_; }

      private:
        std::array<float, size> values_;
    };

    [[nodiscard]] static Values read(const Reading& reading) noexcept { return Values({Fs::read(reading)...}); }

    [[nodiscard]] static std::vector<std::string> names() { return {std::string(Fs::name)...}; }
};

/// The two numbers of the paper.
using PaperFeatures = FeatureList<Gap, TopProb>;

/// The paper's two and the depth: the share that helped most, see README, "What helped".
using DepthFeatures = FeatureList<Gap, TopProb, LayerFraction>;

/// Every built-in number that a check through a linear lens can give.
using WideFeatures = FeatureList<Gap, TopProb, Entropy, SameTopAsPrevious, LayerFraction, LensNorm, LensShift>;

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/policies.hpp ------------------------------------------------------------------------------------

#include <cstddef>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// Gives a policy its lens and head.
template <class Lens, class Head>
class ReadsWith {
  public:
    explicit ReadsWith(Lens lens = Lens{}, Head head = Head{}) : lens_(std::move(lens)), head_(std::move(head)) {}

    [[nodiscard]] const Lens& lens() const noexcept { return lens_; }
    [[nodiscard]] const Head& head() const noexcept { return head_; }

    /// False where the lens has no map for the layer, so that nobody asks for it.
    [[nodiscard]] bool wants(std::size_t layer) const { return lens_.reads(layer); }

    /// Throws IdentityMismatch where the lens was fitted on other weights.
    template <class Weights>
    void check_model(const Weights& weights) const {
        if constexpr (requires { lens_.check_model(weights); }) lens_.check_model(weights);
    }

  private:
    [[no_unique_address]] Lens lens_;
    [[no_unique_address]] Head head_;
};

/// Exits after a fixed number of layers, whatever the state; the answer is read through the lens. As many layers as the model
/// has is the dense model.
template <class Lens = LogitLens, class Head = CandidateHead>
class ExitAtLayer : public ReadsWith<Lens, Head> {
  public:
    struct State {};
    struct Features {
        struct Values {};
    };

    explicit ExitAtLayer(std::size_t layer, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), layer_(layer) {}

    /// Throws InvalidArgument where the model has no such layer or the lens no map for it, else as the lens does.
    template <class Weights>
    void check_model(const Weights& weights) const {
        ReadsWith<Lens, Head>::check_model(weights);
        const std::size_t layers = weights.config.layers;
        if (layer_ == 0 || layer_ > layers) {
            fail(ErrorCode::InvalidArgument, "cannot exit after layer ", layer_, " of a model of ", layers, " layers");
        }
        if (layer_ < layers && !this->lens().reads(layer_)) {
            fail(ErrorCode::InvalidArgument, "cannot exit after layer ", layer_, ": the lens cannot read it");
        }
    }

    [[nodiscard]] bool wants(std::size_t layer) const noexcept { return layer == layer_; }
    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values&, State&) const noexcept { return ExitDecision::Exit; }

  private:
    std::size_t layer_;
};

enum class Exits { Above, Below };

/// Exits where one feature passes a threshold.
template <class Feature, Exits Side, class Lens = LogitLens, class Head = FullHead>
class FeatureThreshold : public ReadsWith<Lens, Head> {
  public:
    using Features = FeatureList<Feature>;
    struct State {};

    explicit FeatureThreshold(float threshold, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), threshold_(threshold) {}

    [[nodiscard]] float threshold() const noexcept { return threshold_; }

    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values& values, State&) const noexcept {
        const float value = values.template get<Feature>();
        const bool exits = Side == Exits::Above ? value > threshold_ : value < threshold_;
        return exits ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    float threshold_;
};

/// Exits where the gap is large: the simplest rule on the paper's first feature.
template <class Lens = LogitLens, class Head = FullHead>
using GapThreshold = FeatureThreshold<Gap, Exits::Above, Lens, Head>;

/// Exits where the top probability is large (softmax response of CALM, arXiv 2207.07061, section 3.4, without the second).
template <class Lens = LogitLens, class Head = FullHead>
using TopProbThreshold = FeatureThreshold<TopProb, Exits::Above, Lens, Head>;

/// Exits where the entropy, nats, is small (BranchyNet, arXiv 1709.01686, section III).
template <class Lens = LogitLens, class Head = FullHead>
using EntropyThreshold = FeatureThreshold<Entropy, Exits::Below, Lens, Head>;

/// Exits where a layer hardly turned the hidden state (hidden-state saturation of CALM, section 3.4). Computes no logits.
template <class Lens = LogitLens, class Head = CandidateHead>
using HiddenSaturation = FeatureThreshold<HiddenCosine, Exits::Above, Lens, Head>;

/// Exits where `patience` checks in a row repeat the top token of the check before (PABEE, arXiv 2006.04152, section 3.2).
template <class Lens = LogitLens, class Head = FullHead>
class Patience : public ReadsWith<Lens, Head> {
  public:
    using Features = FeatureList<SameTopAsPrevious>;
    struct State {
        std::size_t repeats = 0;
    };

    explicit Patience(std::size_t patience, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), patience_(patience) {}

    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values& values, State& state) const noexcept {
        state.repeats = values.template get<SameTopAsPrevious>() > 0.5F ? state.repeats + 1 : 0;
        return state.repeats >= patience_ && patience_ > 0 ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    std::size_t patience_;
};

/// Runs every layer and reports in hindsight the earliest check whose top token was the final one: the bound for every
/// policy with that lens and head.
template <class Lens = LogitLens, class Head = CandidateHead>
class Oracle : public ReadsWith<Lens, Head> {
  public:
    static constexpr bool needs_dense_answer = true;
    using Features = FeatureList<TopToken>;
    struct State {
        std::vector<std::pair<std::size_t, TokenId>> tops;
    };

    explicit Oracle(Lens lens = Lens{}, Head head = Head{}) : ReadsWith<Lens, Head>(std::move(lens), std::move(head)) {}

    [[nodiscard]] ExitDecision decide(std::size_t layer, const typename Features::Values& values, State& state) const {
        state.tops.emplace_back(layer, static_cast<TokenId>(values.template get<TopToken>()));
        return ExitDecision::Continue;
    }

    [[nodiscard]] std::size_t hindsight(const State& state, TokenId final_token, std::size_t layers) const noexcept {
        for (const auto& [layer, token] : state.tops) {
            if (token == final_token) return layer;
        }
        return layers;
    }
};

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/schedule.hpp ------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// After which layers a policy is asked. By default after each.
class Schedule {
  public:
    Schedule() = default;

    /// After layers first, first + stride, ...; stride 0 counts as 1.
    static Schedule every(std::size_t stride, std::size_t first = 1) {
        Schedule schedule;
        schedule.first_ = first;
        schedule.stride_ = (std::max)(stride, std::size_t{1});
        return schedule;
    }

    /// After these layers only.
    static Schedule only(std::vector<std::size_t> layers) {
        Schedule schedule;
        schedule.listed_ = true;
        std::sort(layers.begin(), layers.end());
        schedule.layers_ = std::move(layers);
        return schedule;
    }

    [[nodiscard]] bool contains(std::size_t layer) const noexcept {
        if (listed_) return std::binary_search(layers_.begin(), layers_.end(), layer);
        return layer >= first_ && (layer - first_) % stride_ == 0;
    }

    /// The layers below `layers` that the schedule contains.
    [[nodiscard]] std::vector<std::size_t> layers(std::size_t layers) const {
        std::vector<std::size_t> result;
        for (std::size_t layer = 1; layer < layers; ++layer) {
            if (contains(layer)) result.push_back(layer);
        }
        return result;
    }

  private:
    std::size_t first_ = 1, stride_ = 1;
    bool listed_ = false;
    std::vector<std::size_t> layers_;
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// What stands in the middle of AdaInferPolicy: a score from the features of one check, higher for "stop", and the threshold
/// above which it stops. State is what it remembers of the earlier checks of one inference.
template <class C>
concept ExitClassifier = requires(const C& classifier, std::span<const float> features, typename C::State& state) {
    { classifier.score(features, state) } -> std::convertible_to<float>;
    { classifier.threshold } -> std::convertible_to<float>;
    { classifier.feature_count() } -> std::convertible_to<std::size_t>;
};

/// AdaInfer (arXiv 2403.02181): after a layer, a classic classifier on a few numbers of the intermediate next-token
/// distribution decides whether to stop. With the defaults as in the paper: gap and top probability through the model's own
/// final norm and head.
template <class Classifier, class FeaturesList = PaperFeatures, class Lens = LogitLens, class Head = FullHead>
class AdaInferPolicy : public ReadsWith<Lens, Head> {
    static_assert(ExitClassifier<Classifier>,
                  "adainfer: the classifier of AdaInferPolicy lacks score(features, State&), threshold or feature_count()");

  public:
    using Features = FeaturesList;
    using State = typename Classifier::State;

    /// Throws InvalidArgument where the classifier was trained on another number of features.
    explicit AdaInferPolicy(Classifier classifier, Schedule schedule = {}, Lens lens = Lens{}, Head head = Head{})
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), classifier_(std::move(classifier)), schedule_(std::move(schedule)) {
        if (classifier_.feature_count() != Features::size) {
            fail(ErrorCode::InvalidArgument, "the classifier reads ", classifier_.feature_count(), " features, the policy has ", Features::size);
        }
    }

    [[nodiscard]] const Classifier& classifier() const noexcept { return classifier_; }

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && ReadsWith<Lens, Head>::wants(layer); }

    [[nodiscard]] ExitDecision decide(std::size_t, const typename Features::Values& values, State& state) const {
        return classifier_.score(values.all(), state) > classifier_.threshold ? ExitDecision::Exit : ExitDecision::Continue;
    }

  private:
    Classifier classifier_;
    Schedule schedule_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/any_policy.hpp ----------------------------------------------------------------------------------

#include <cstddef>
#include <type_traits>
#include <utility>
#include <variant>


// ---- adainfer/early_exit/any_readout.hpp ---------------------------------------------------------------------------------

#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>


// ---- adainfer/early_exit/linear_lens.hpp ---------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// What a linear lens reads: out [hidden] = x / (rms(x) + 1e-6), the hidden state without its length.
inline void lens_input(std::span<const float> hidden, std::span<float> out) noexcept {
    const float n = static_cast<float>(hidden.size());
    const float scale = 1.0F / (std::sqrt(dot(hidden.data(), hidden.data(), hidden.size()) / n) + 1e-6F);
    for (std::size_t i = 0; i < hidden.size(); ++i) out[i] = hidden[i] * scale;
}

/// An affine map a layer from the normalised hidden state to the state that the head reads: what the model would have
/// made of it in its remaining layers, as far as a linear map can say. Cheap to copy: the maps are shared.
class LinearLens {
  public:
    static constexpr std::string_view name = "linear";

    /// The map after `layer` layers.
    struct Map {
        std::size_t layer = 0;
        std::vector<float> matrix;  ///< [in + 1, out] row-major; the last row is the bias
    };

    LinearLens() = default;

    /// Throws InvalidArgument for a map of the wrong size, a layer that stands twice, or numbers that are not finite.
    LinearLens(std::string model_identity, std::size_t hidden, std::vector<Map> maps) {
        auto data = std::make_shared<Data>();
        data->model_identity = std::move(model_identity);
        data->hidden = hidden;
        for (Map& map : maps) {
            if (map.matrix.size() != (hidden + 1) * hidden) {
                fail(ErrorCode::InvalidArgument, "linear lens: the map of layer ", map.layer, " has ", map.matrix.size(),
                     " numbers, expected ", (hidden + 1) * hidden);
            }
            if (!all_finite(map.matrix.data(), map.matrix.size())) {
                fail(ErrorCode::NotFinite, "linear lens: the map of layer ", map.layer, " holds NaN or infinity");
            }
            if (map.layer >= data->slot.size()) data->slot.resize(map.layer + 1, none);
            if (data->slot[map.layer] != none) fail(ErrorCode::InvalidArgument, "linear lens: layer ", map.layer, " stands twice");
            data->slot[map.layer] = data->maps.size();
            data->maps.push_back(std::move(map));
        }
        data_ = std::move(data);
    }

    /// Equal where the maps are the same ones, shared.
    [[nodiscard]] friend bool operator==(const LinearLens& a, const LinearLens& b) noexcept { return a.data_ == b.data_; }

    [[nodiscard]] bool reads(std::size_t layer) const noexcept {
        return data_ && layer < data_->slot.size() && data_->slot[layer] != none;
    }

    template <class Decoder>
    void apply(const Decoder&, std::size_t layer, std::span<const float> hidden, std::span<float> out) const {
        const std::size_t n = hidden.size();
        const float* matrix = data_->maps[data_->slot[layer]].matrix.data();
        const float scale = 1.0F / (std::sqrt(dot(hidden.data(), hidden.data(), n) / static_cast<float>(n)) + 1e-6F);
        std::copy_n(matrix + n * n, n, out.begin());
        float* y = out.data();
        std::size_t i = 0;
        for (; i + 4 <= n; i += 4) {  // four rows at a time: y is loaded and stored a quarter as often
            const float a = hidden[i] * scale, b = hidden[i + 1] * scale, c = hidden[i + 2] * scale, d = hidden[i + 3] * scale;
            const float* m = matrix + i * n;
            for (std::size_t j = 0; j < n; ++j) y[j] += a * m[j] + b * m[n + j] + c * m[2 * n + j] + d * m[3 * n + j];
        }
        for (; i < n; ++i) axpy(hidden[i] * scale, matrix + i * n, y, n);
    }

    /// Throws IdentityMismatch where the lens was fitted on other weights, or is empty.
    template <class Weights>
    void check_model(const Weights& weights) const {
        if (!data_) fail(ErrorCode::IdentityMismatch, "the linear lens is empty: load or fit one first");
        if (data_->model_identity != weights.identity || data_->hidden != weights.config.hidden) {
            fail(ErrorCode::IdentityMismatch, "the linear lens was fitted on model ", data_->model_identity, ", not on ", weights.identity);
        }
    }

    [[nodiscard]] const std::string& model_identity() const { return data().model_identity; }
    [[nodiscard]] std::size_t hidden() const { return data().hidden; }
    [[nodiscard]] const std::vector<Map>& maps() const { return data().maps; }

  private:
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    struct Data {
        std::string model_identity;
        std::size_t hidden = 0;
        std::vector<Map> maps;
        std::vector<std::size_t> slot;  // layer -> index into maps
    };

    [[nodiscard]] const Data& data() const {
        if (!data_) fail(ErrorCode::InvalidArgument, "the linear lens is empty");
        return *data_;
    }

    std::shared_ptr<const Data> data_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/shortlist_head.hpp ------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string_view>

namespace adainfer::inline v0 {

/// The whole vocabulary at the first check of an inference, then only the `size` tokens that were likeliest there: the later
/// checks and the answer cost size/vocabulary of a head each. Probabilities are then relative to the shortlist. An answer that
/// was not on the list is missed, also at full depth, so let the first check be where the answers begin to exist. A call's
/// candidates, where there are some, are the shortlist from the start.
class ShortlistHead {
  public:
    static constexpr std::string_view name = "shortlist";

    explicit ShortlistHead(std::size_t size = 256) : size_((std::max)(size, std::size_t{2})) {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// As the other heads; throws NotFinite where the logits that the shortlist is made of are not finite.
    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId> candidates,
                                 Workspace& work) const {
        if (!candidates.empty()) return CandidateHead{}.run(decoder, state, candidates, work);
        if (!work.shortlist.empty()) return CandidateHead{}.run(decoder, state, work.shortlist, work);
        FullHead{}.run(decoder, state, candidates, work);
        const std::span<const float> logits = work.logits.row(0);
        // NaN has no place in an order, so it must not reach the selection below.
        if (!all_finite(logits.data(), logits.size())) fail(ErrorCode::NotFinite, "logits hold NaN or infinity");
        work.shortlist.resize(logits.size());
        std::iota(work.shortlist.begin(), work.shortlist.end(), TokenId{0});
        const std::size_t kept = (std::min)(size_, logits.size());
        const auto likelier = [&](TokenId a, TokenId b) {
            const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
            return x > y || (x == y && a < b);
        };
        const auto middle = work.shortlist.begin() + static_cast<std::ptrdiff_t>(kept);
        std::nth_element(work.shortlist.begin(), middle, work.shortlist.end(), likelier);
        work.shortlist.resize(kept);
        std::sort(work.shortlist.begin(), work.shortlist.end());
        return {};
    }

  private:
    std::size_t size_;
};

}  // namespace adainfer::inline v0

// Lens and head chosen at run time, for programs whose user names them; a program that knows them uses the types themselves.

namespace adainfer::inline v0 {

class AnyLens {
  public:
    AnyLens() = default;
    explicit AnyLens(LogitLens lens) : lens_(lens) {}
    explicit AnyLens(LinearLens lens) : lens_(std::move(lens)) {}

    [[nodiscard]] std::string_view kind() const {
        return std::visit([](const auto& lens) { return std::remove_cvref_t<decltype(lens)>::name; }, lens_);
    }

    [[nodiscard]] bool reads(std::size_t layer) const {
        return std::visit([&](const auto& lens) { return lens.reads(layer); }, lens_);
    }

    template <class Decoder>
    void apply(const Decoder& decoder, std::size_t layer, std::span<const float> hidden, std::span<float> out) const {
        std::visit([&](const auto& lens) { lens.apply(decoder, layer, hidden, out); }, lens_);
    }

    template <class Weights>
    void check_model(const Weights& weights) const {
        if (const auto* linear = std::get_if<LinearLens>(&lens_)) linear->check_model(weights);
    }

  private:
    std::variant<LogitLens, LinearLens> lens_;
};

class AnyHead {
  public:
    AnyHead() = default;
    explicit AnyHead(FullHead head) : head_(head) {}
    explicit AnyHead(CandidateHead head) : head_(head) {}
    explicit AnyHead(ShortlistHead head) : head_(head) {}

    /// By its name in policy files. Throws InvalidArgument, listing the names.
    static AnyHead named(std::string_view name) {
        if (name == FullHead::name) return AnyHead(FullHead{});
        if (name == CandidateHead::name) return AnyHead(CandidateHead{});
        if (name == ShortlistHead::name) return AnyHead(ShortlistHead{});
        fail(ErrorCode::InvalidArgument, "unknown head '", name, "'; known: full, candidates, shortlist");
    }

    [[nodiscard]] std::string_view kind() const {
        return std::visit([](const auto& head) { return std::remove_cvref_t<decltype(head)>::name; }, head_);
    }

    template <class Decoder>
    std::span<const TokenId> run(const Decoder& decoder, std::span<const float> state, std::span<const TokenId> candidates,
                                 Workspace& work) const {
        return std::visit([&](const auto& head) { return head.run(decoder, state, candidates, work); }, head_);
    }

  private:
    std::variant<FullHead, CandidateHead, ShortlistHead> head_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/linear_chain_crf.hpp ----------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace adainfer::inline v0 {

/// A linear-chain conditional random field over the checked layers of one inference; state 0 = go on, state 1 = stop.
///
/// Source: the second classifier of AdaInfer (arXiv 2403.02181, section 3); the model is that of Lafferty, McCallum and
/// Pereira (ICML 2001). Trained by train_crf(). Satisfies the classifier interface described at LinearSvm.
///
/// Later layers do not exist yet when the decision falls, so the score comes from the forward recursion alone, which
/// equals the last marginal of the chain cut off at this layer. It takes O(1) a layer.
struct LinearChainCrf {
    static constexpr std::string_view kind = "crf";

    /// The forward message of the layers seen so far. Only the difference of its two log values matters.
    struct State {
        float log_odds = 0;  ///< alpha(stop) - alpha(go on)
        bool first = true;   ///< no layer seen yet: no transition enters
    };

    std::vector<float> mean;                    ///< [n_features]
    std::vector<float> scale;                   ///< [n_features], > 0
    std::vector<float> weights;                 ///< [2, n_features], row-major, a row per state
    std::array<float, 2> bias{};                ///< [2]
    std::array<float, 4> transitions{};         ///< [2, 2], row-major: from, to
    float threshold = 0;                        ///< log-odds; 0 = stop where stopping is the likelier state

    [[nodiscard]] std::size_t feature_count() const noexcept { return weights.size() / 2; }
    [[nodiscard]] State begin() const noexcept { return {}; }

    /// Log-odds of "stop" given the features of this layer and of those scored before it with the same state.
    /// Precondition: features.size() == feature_count() and validate() passed.
    [[nodiscard]] float score(std::span<const float> features, State& state) const noexcept {
        const std::size_t n = feature_count();
        float emission = bias[1] - bias[0];
        for (std::size_t i = 0; i < n; ++i)
            emission += (weights[n + i] - weights[i]) * ((features[i] - mean[i]) / scale[i]);
        if (!state.first) {
            // The go-on message is the zero of the scale, so the recursion cannot drift, however deep the model.
            const float d = state.log_odds;
            emission += log_sum_exp(transitions[1], d + transitions[3]) - log_sum_exp(transitions[0], d + transitions[2]);
        }
        state = {emission, false};
        return emission;
    }

    /// Throws Error (ShapeMismatch, NotFinite, InvalidArgument) unless every parameter fits `n_features` features.
    /// An infinite threshold is valid: it always or never stops.
    void validate(std::size_t n_features) const {
        const auto check = [](std::string_view name, std::span<const float> values, std::size_t expected) {
            if (values.size() != expected)
                fail(ErrorCode::ShapeMismatch, "crf ", name, ": expected ", expected, " values, found ", values.size());
            for (std::size_t i = 0; i < values.size(); ++i)
                if (!std::isfinite(values[i])) fail(ErrorCode::NotFinite, "crf ", name, "[", i, "] is ", values[i]);
        };
        check("mean", mean, n_features);
        check("scale", scale, n_features);
        check("weights", weights, 2 * n_features);
        check("bias", bias, 2);
        check("transitions", transitions, 4);
        for (std::size_t i = 0; i < scale.size(); ++i)
            if (!(scale[i] > 0)) fail(ErrorCode::InvalidArgument, "crf scale[", i, "] must be > 0, found ", scale[i]);
        if (std::isnan(threshold)) fail(ErrorCode::NotFinite, "crf threshold is ", threshold);
    }

  private:
    [[nodiscard]] static float log_sum_exp(float a, float b) noexcept {
        return (std::max)(a, b) + std::log1p(std::exp(-std::abs(a - b)));
    }
};

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/linear_svm.hpp ----------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace adainfer::inline v0 {

/// A linear support vector machine that says when to stop: one dot product over the standardised features of a layer.
///
/// score(x) = bias + sum_i weights[i] * (x[i] - mean[i]) / scale[i]
///
/// Source: the first of the two classifiers of AdaInfer (arXiv 2403.02181, section 3). Trained by train_svm().
///
/// A classifier of AdaInferPolicy has
///     static constexpr std::string_view kind;                            // name in a policy file
///     struct State { ... };                                              // what it carries from layer to layer
///     State begin() const;                                               // a new inference
///     float score(std::span<const float> features, State&) const noexcept;  // higher = stop; allocates nothing
///     float threshold;                                                   // stop where score > threshold, so NaN goes on
///     std::size_t feature_count() const;
///     void validate(std::size_t n_features) const;                       // throws Error
/// Threads may share one object; each inference has its own State.
struct LinearSvm {
    static constexpr std::string_view kind = "svm";

    /// Layers are judged one by one: nothing is carried.
    struct State {};

    std::vector<float> mean;     ///< [n_features]
    std::vector<float> scale;    ///< [n_features], > 0: the standard deviations of the training data
    std::vector<float> weights;  ///< [n_features], for standardised features
    float bias = 0;
    float threshold = 0;

    [[nodiscard]] std::size_t feature_count() const noexcept { return weights.size(); }
    [[nodiscard]] State begin() const noexcept { return {}; }

    /// Signed distance to the separating plane, times the norm of the weights; 0 lies on the plane.
    /// Precondition: features.size() == feature_count() and validate() passed.
    [[nodiscard]] float score(std::span<const float> features, State& /*state*/) const noexcept {
        float sum = bias;
        for (std::size_t i = 0; i < weights.size(); ++i) sum += weights[i] * ((features[i] - mean[i]) / scale[i]);
        return sum;
    }

    /// Throws Error (ShapeMismatch, NotFinite, InvalidArgument) unless every parameter fits `n_features` features.
    /// An infinite threshold is valid: it always or never stops.
    void validate(std::size_t n_features) const {
        const auto check = [&](std::string_view name, const std::vector<float>& values) {
            if (values.size() != n_features)
                fail(ErrorCode::ShapeMismatch, "svm ", name, ": expected ", n_features, " values, found ", values.size());
            for (std::size_t i = 0; i < values.size(); ++i)
                if (!std::isfinite(values[i])) fail(ErrorCode::NotFinite, "svm ", name, "[", i, "] is ", values[i]);
        };
        check("mean", mean);
        check("scale", scale);
        check("weights", weights);
        for (std::size_t i = 0; i < scale.size(); ++i)
            if (!(scale[i] > 0)) fail(ErrorCode::InvalidArgument, "svm scale[", i, "] must be > 0, found ", scale[i]);
        if (!std::isfinite(bias)) fail(ErrorCode::NotFinite, "svm bias is ", bias);
        if (std::isnan(threshold)) fail(ErrorCode::NotFinite, "svm threshold is ", threshold);
    }
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// One of several policies, chosen at run time. For programs whose user names the policy (the command line); its price is a
/// branch a check.
template <class... Policies>
class OneOf {
  public:
    struct State {
        std::variant<std::monostate, typename Policies::State...> active;
    };

    template <class Policy>
        requires(std::is_same_v<std::remove_cvref_t<Policy>, Policies> || ...)
    explicit(false) OneOf(Policy&& policy) : policy_(std::forward<Policy>(policy)) {}

    [[nodiscard]] bool wants(std::size_t layer) const {
        return std::visit([&](const auto& policy) { return policy.wants(layer); }, policy_);
    }

    template <class Ask>
    ExitDecision consult(std::size_t, Ask&& ask, State& state) const {
        return with_state(state, [&](const auto& policy, auto& own) { return ask(policy, own); });
    }

    [[nodiscard]] std::size_t hindsight(const State& state, TokenId final_token, std::size_t exit_layer) const {
        return std::visit(
            [&]<class Policy>(const Policy& policy) {
                if constexpr (requires(const typename Policy::State& s) { policy.hindsight(s, final_token, exit_layer); }) {
                    const auto* own = get_state<Policy>(state);
                    if (own != nullptr) return policy.hindsight(*own, final_token, exit_layer);
                }
                return exit_layer;
            },
            policy_);
    }

    [[nodiscard]] AnyLens lens() const {
        return std::visit([](const auto& policy) { return AnyLens(lens_of(policy)); }, policy_);
    }
    [[nodiscard]] AnyHead head() const {
        return std::visit([](const auto& policy) { return AnyHead(head_of(policy)); }, policy_);
    }

    template <class Weights>
    void check_model(const Weights& weights) const {
        std::visit(
            [&](const auto& policy) {
                if constexpr (requires { policy.check_model(weights); }) policy.check_model(weights);
            },
            policy_);
    }

  private:
    template <class Policy>
    static constexpr std::size_t index_of() {
        std::size_t i = 0;
        static_cast<void>(((std::is_same_v<Policy, Policies> ? true : (++i, false)) || ...));
        return i;
    }

    template <class Policy>
    static const typename Policy::State* get_state(const State& state) {
        return std::get_if<index_of<Policy>() + 1>(&state.active);
    }

    template <class F>
    ExitDecision with_state(State& state, F&& f) const {
        return std::visit(
            [&]<class Policy>(const Policy& policy) {
                constexpr std::size_t slot = index_of<Policy>() + 1;
                if (state.active.index() != slot) state.active.template emplace<slot>();
                return f(policy, std::get<slot>(state.active));
            },
            policy_);
    }

    std::variant<Policies...> policy_;
};

/// Every built-in policy, with lens and head chosen at run time too.
using AnyPolicy = OneOf<NeverExit, ExitAtLayer<AnyLens, AnyHead>, GapThreshold<AnyLens, AnyHead>, TopProbThreshold<AnyLens, AnyHead>,
                        EntropyThreshold<AnyLens, AnyHead>, HiddenSaturation<AnyLens, AnyHead>, Patience<AnyLens, AnyHead>,
                        Oracle<AnyLens, AnyHead>, AdaInferPolicy<LinearSvm, PaperFeatures, AnyLens, AnyHead>,
                        AdaInferPolicy<LinearChainCrf, PaperFeatures, AnyLens, AnyHead>,
                        AdaInferPolicy<LinearSvm, DepthFeatures, AnyLens, AnyHead>,
                        AdaInferPolicy<LinearChainCrf, DepthFeatures, AnyLens, AnyHead>,
                        AdaInferPolicy<LinearSvm, WideFeatures, AnyLens, AnyHead>,
                        AdaInferPolicy<LinearChainCrf, WideFeatures, AnyLens, AnyHead>>;

}  // namespace adainfer::inline v0

// ---- adainfer/early_exit/combinators.hpp ---------------------------------------------------------------------------------

#include <cstddef>
#include <type_traits>
#include <utility>

// Policies made of policies.

namespace adainfer::inline v0 {

namespace detail {
/// The lens and head that a policy reads its features through; void where it reads none.
template <class Policy>
struct ReadsThrough {
    using Lens = void;
    using Head = void;
};
template <class Policy>
    requires requires { Policy::Features::needs; }
struct ReadsThrough<Policy> {
    template <bool needed, class T>
    using If = std::conditional_t<needed, T, void>;
    using Lens = If<(Policy::Features::needs >= Needs::Lens), std::remove_cvref_t<decltype(lens_of(std::declval<const Policy&>()))>>;
    using Head = If<(Policy::Features::needs >= Needs::Logits), std::remove_cvref_t<decltype(head_of(std::declval<const Policy&>()))>>;
};
template <class Policy>
    requires requires { typename Policy::Readout; }
struct ReadsThrough<Policy> : Policy::Readout {};

template <class A, class B>
inline constexpr bool alike = std::is_void_v<A> || std::is_void_v<B> || std::is_same_v<A, B>;

/// What is read once a check serves all parts of a composite, so they must read alike.
template <class First, class Second>
struct CommonReadout {
    using A = ReadsThrough<First>;
    using B = ReadsThrough<Second>;
    static_assert(alike<typename A::Lens, typename B::Lens> && alike<typename A::Head, typename B::Head>,
                  "adainfer: policies that are combined must read their features through the same lens and head");
    using Lens = std::conditional_t<std::is_void_v<typename A::Lens>, typename B::Lens, typename A::Lens>;
    using Head = std::conditional_t<std::is_void_v<typename A::Head>, typename B::Head, typename A::Head>;
};

/// Lens and head of a composite policy for an exit whose check computed no logits: those of its last part.
template <class Part>
class ReadsLike {
  public:
    explicit ReadsLike(Part part) : part_(std::move(part)) {}
    [[nodiscard]] decltype(auto) lens() const { return lens_of(part_); }
    [[nodiscard]] decltype(auto) head() const { return head_of(part_); }

    template <class Weights>
    void check_model(const Weights& weights) const {
        if constexpr (requires { part_.check_model(weights); }) part_.check_model(weights);
    }

  protected:
    Part part_;
};
}  // namespace detail

/// Asks a policy only after the layers of a schedule.
template <class Policy>
class Scheduled : public detail::ReadsLike<Policy> {
  public:
    using State = typename Policy::State;
    using Readout = detail::ReadsThrough<Policy>;

    Scheduled(Schedule schedule, Policy policy) : detail::ReadsLike<Policy>(std::move(policy)), schedule_(std::move(schedule)) {}

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && this->part_.wants(layer); }

    template <class Ask>
    ExitDecision consult(std::size_t, Ask&& ask, State& state) const {
        return ask(this->part_, state);
    }

    /// Passes a policy's own hindsight on.
    [[nodiscard]] std::size_t hindsight(const State& state, TokenId final_token, std::size_t layers) const
        requires requires(const Policy& p) { p.hindsight(state, final_token, layers); }
    {
        return this->part_.hindsight(state, final_token, layers);
    }

  private:
    Schedule schedule_;
};

namespace detail {
template <class First, class Second>
class Pair : public ReadsLike<Second> {
  public:
    struct State {
        typename First::State first{};
        typename Second::State second{};
    };
    using Readout = CommonReadout<First, Second>;

    Pair(First first, Second second) : ReadsLike<Second>(std::move(second)), first_(std::move(first)) {}

    /// Throws what the parts throw, and InvalidArgument where they read through different lenses of the same type.
    template <class Weights>
    void check_model(const Weights& weights) const {
        if constexpr (!std::is_void_v<typename ReadsThrough<First>::Lens> && !std::is_void_v<typename ReadsThrough<Second>::Lens>) {
            if constexpr (requires { lens_of(first_) == lens_of(this->part_); }) {
                if (!(lens_of(first_) == lens_of(this->part_))) {
                    fail(ErrorCode::InvalidArgument, "policies that are combined must read their features through the same lens");
                }
            }
        }
        if constexpr (requires { first_.check_model(weights); }) first_.check_model(weights);
        ReadsLike<Second>::check_model(weights);
    }

  protected:
    template <class Part, class Ask, class PartState>
    static ExitDecision ask_if_wanted(const Part& part, std::size_t layer, Ask& ask, PartState& state) {
        return part.wants(layer) ? ask(part, state) : ExitDecision::Continue;
    }

    First first_;
};
}  // namespace detail

/// Exits where either policy does; the second is asked only where the first goes on.
template <class First, class Second>
class AnyOf : public detail::Pair<First, Second> {
  public:
    using State = typename detail::Pair<First, Second>::State;
    using detail::Pair<First, Second>::Pair;

    /// False also where the second policy's lens, which reads the answer if no check has, has no map.
    [[nodiscard]] bool wants(std::size_t layer) const {
        return (this->first_.wants(layer) || this->part_.wants(layer)) && lens_of(this->part_).reads(layer);
    }

    template <class Ask>
    ExitDecision consult(std::size_t layer, Ask&& ask, State& state) const {
        if (this->ask_if_wanted(this->first_, layer, ask, state.first) == ExitDecision::Exit) return ExitDecision::Exit;
        return this->ask_if_wanted(this->part_, layer, ask, state.second);
    }
};

/// Exits where both policies do at the same check; both are asked at every one, so that both keep their state.
template <class First, class Second>
class AllOf : public detail::Pair<First, Second> {
  public:
    using State = typename detail::Pair<First, Second>::State;
    using detail::Pair<First, Second>::Pair;

    [[nodiscard]] bool wants(std::size_t layer) const { return this->first_.wants(layer) || this->part_.wants(layer); }

    template <class Ask>
    ExitDecision consult(std::size_t layer, Ask&& ask, State& state) const {
        const ExitDecision first = this->ask_if_wanted(this->first_, layer, ask, state.first);
        const ExitDecision second = this->ask_if_wanted(this->part_, layer, ask, state.second);
        return first == ExitDecision::Exit ? second : ExitDecision::Continue;
    }
};

/// Asks a cheap policy first and the other only where that says Exit, so that logits are computed only where an exit is
/// likely. The cheap one must read no logits.
template <class Cheap, class Policy>
class Gated : public detail::Pair<Cheap, Policy> {
    static_assert(std::is_void_v<typename detail::ReadsThrough<Cheap>::Head>, "adainfer: the first policy of Gated must read no logits");

  public:
    using State = typename detail::Pair<Cheap, Policy>::State;
    using detail::Pair<Cheap, Policy>::Pair;

    [[nodiscard]] bool wants(std::size_t layer) const { return this->first_.wants(layer) && this->part_.wants(layer); }

    template <class Ask>
    ExitDecision consult(std::size_t, Ask&& ask, State& state) const {
        return ask(this->first_, state.first) == ExitDecision::Exit ? ask(this->part_, state.second) : ExitDecision::Continue;
    }
};

template <class First, class Second>
AnyOf(First, Second) -> AnyOf<First, Second>;
template <class First, class Second>
AllOf(First, Second) -> AllOf<First, Second>;
template <class Cheap, class Policy>
Gated(Cheap, Policy) -> Gated<Cheap, Policy>;

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/bpe_tokenizer.hpp ---------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>


// ---- adainfer/tokenize/merge_table.hpp -----------------------------------------------------------------------------------

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace adainfer::inline v0 {

namespace detail::bpe {

inline constexpr std::uint32_t no_rank = (std::numeric_limits<std::uint32_t>::max)();

/// What two neighbours merge to, and how early. `rank` is no_rank where they do not merge.
struct Merge {
    std::uint32_t rank = no_rank;
    TokenId token = no_token;
};

/// Hash from a pair of token ids to their merge.
class MergeTable {
  public:
    MergeTable() = default;

    explicit MergeTable(std::size_t merges)
        : slots_(std::bit_ceil(merges * 2 + 2)), shift_(64 - std::countr_zero(slots_.size())) {}

    /// False, and nothing changed, where the pair is there already.
    bool insert(TokenId left, TokenId right, Merge merge) noexcept {
        Slot& slot = slots_[find_slot(left, right)];
        if (slot.left != no_token) return false;
        slot = {left, right, merge};
        return true;
    }

    /// Ids outside the vocabulary, no_token among them, merge with nothing.
    [[nodiscard]] Merge find(TokenId left, TokenId right) const noexcept {
        return slots_[find_slot(left, right)].merge;
    }

  private:
    struct Slot {
        TokenId left = no_token, right = no_token;
        Merge merge;
    };

    [[nodiscard]] std::size_t find_slot(TokenId left, TokenId right) const noexcept {
        const std::uint64_t high = static_cast<std::uint32_t>(left);
        const std::uint64_t key = (high << 32U) | static_cast<std::uint32_t>(right);
        // Multiplicative hashing: the high bits depend on both halves of the key.
        const std::size_t mask = slots_.size() - 1;
        auto slot = static_cast<std::size_t>(((key ^ (key >> 29U)) * 0x9E3779B97F4A7C15ULL) >> shift_);
        while (slots_[slot].left != no_token && (slots_[slot].left != left || slots_[slot].right != right)) {
            slot = (slot + 1) & mask;
        }
        return slot;
    }

    std::vector<Slot> slots_ = std::vector<Slot>(2);
    int shift_ = 63;
};

}  // namespace detail::bpe

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/pre_tokenizer.hpp ---------------------------------------------------------------------------------

#include <array>
#include <optional>
#include <string>
#include <string_view>


// ---- adainfer/tokenize/split_stages.hpp ----------------------------------------------------------------------------------

#include <cstddef>
#include <cstdint>


// ---- adainfer/tokenize/deepseek_classes.hpp ------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

namespace adainfer::inline v0 {

/// Character classes that the DeepSeek vocabularies spell out instead of naming a Unicode category.
namespace detail::deepseek {

struct Range {
    std::uint32_t first, last;
};

template <class Ranges>
[[nodiscard]] constexpr bool contains(const Ranges& ranges, std::uint32_t code) noexcept {
    const auto after = std::upper_bound(std::begin(ranges), std::end(ranges), code,
                                        [](std::uint32_t value, const Range& r) { return value < r.first; });
    return after != std::begin(ranges) && code <= std::prev(after)->last;
}

/// Cased letters, frozen at what the vocabulary was trained with: some blocks are covered only in part.
inline constexpr std::array<Range, 87> letters = {{
    {0x41, 0x5A}, {0x61, 0x7A}, {0xB5, 0xB5}, {0xC0, 0xD6}, {0xD8, 0xF6}, {0xF8, 0x1BA}, {0x1BC, 0x1BF},
    {0x1C4, 0x293}, {0x295, 0x2AF}, {0x370, 0x373}, {0x376, 0x376}, {0x377, 0x377}, {0x37B, 0x37D},
    {0x37F, 0x37F}, {0x386, 0x386}, {0x388, 0x38A}, {0x38C, 0x38C}, {0x38E, 0x3A1}, {0x3A3, 0x3F5},
    {0x3F7, 0x481}, {0x48A, 0x52F}, {0x531, 0x556}, {0x10A0, 0x10C5}, {0x13A0, 0x13F5}, {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA}, {0x1CBD, 0x1CBF}, {0x1D00, 0x1D2B}, {0x1D6B, 0x1D77}, {0x1D79, 0x1D9A}, {0x1E00, 0x1F15},
    {0x1F18, 0x1F1D}, {0x1F20, 0x1F45}, {0x1F48, 0x1F4D}, {0x1F50, 0x1F57}, {0x1F59, 0x1F59}, {0x1F5B, 0x1F5B},
    {0x1F5D, 0x1F5D}, {0x1F5F, 0x1F7D}, {0x1F80, 0x1FB4}, {0x1FB6, 0x1FBC}, {0x1FBE, 0x1FBE}, {0x1FC2, 0x1FC4},
    {0x1FC6, 0x1FCC}, {0x1FD0, 0x1FD3}, {0x1FD6, 0x1FDB}, {0x1FE0, 0x1FEC}, {0x1FF2, 0x1FF4}, {0x1FF6, 0x1FFC},
    {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210A, 0x2113}, {0x2115, 0x2115}, {0x2119, 0x211D}, {0x2124, 0x2124},
    {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212A, 0x212D}, {0x212F, 0x2134}, {0x2139, 0x2139}, {0x213C, 0x213F},
    {0x2145, 0x2149}, {0x214E, 0x214E}, {0x2183, 0x2183}, {0x2184, 0x2184}, {0x2C00, 0x2C7B}, {0x2C7E, 0x2CE4},
    {0x2CEB, 0x2CEE}, {0x2CF2, 0x2CF2}, {0x2CF3, 0x2CF3}, {0xA640, 0xA66D}, {0xA680, 0xA69B}, {0xA722, 0xA76F},
    {0xA771, 0xA787}, {0xA78B, 0xA78E}, {0xAB70, 0xABBF}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}, {0xFF21, 0xFF3A},
    {0xFF41, 0xFF5A}, {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2},
    {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
}};

/// ASCII and full-width punctuation. The last two ASCII ranges hold letters too, which the letter stage before
/// has already cut out. U+3000 would belong but counts as white space.
inline constexpr std::array<Range, 6> marks = {{
    {0x21, 0x2F}, {0x3A, 0x7E}, {0x2018, 0x201F}, {0x3001, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E},
}};

/// U+0800 to U+9FA5, which is far more than Chinese, and the Hangul syllables.
inline constexpr std::array<Range, 2> uncased = {{{0x800, 0x9FA5}, {0xAC00, 0xD7FF}}};

}  // namespace detail::deepseek

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/unicode.hpp ---------------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>


// ---- adainfer/tokenize/unicode_tables.hpp --------------------------------------------------------------------------------

// Generated by tests/fixtures/make_unicode_tables.py from Unicode 15.1.0; do not edit.

#include <array>
#include <cstdint>

namespace adainfer::inline v0 {

namespace detail::unicode {

/// Runs of code points with equal flags: (first code point << 8) | flags, ascending. Flags: 1 letter, 2 number,
/// 4 mark, 8 punctuation, 16 symbol, 32 separator, 64 other, 128 white space; none: unassigned.
inline constexpr std::array<std::uint32_t, 2276> runs = {
    0x40, 0x9C0, 0xE40, 0x20A0, 0x2108, 0x2410, 0x2508, 0x2B10, 0x2C08, 0x3002, 0x3A08, 0x3C10, 0x3F08, 0x4101,
    0x5B08, 0x5E10, 0x5F08, 0x6010, 0x6101, 0x7B08, 0x7C10, 0x7D08, 0x7E10, 0x7F40, 0x85C0, 0x8640, 0xA0A0,
    0xA108, 0xA210, 0xA708, 0xA810, 0xAA01, 0xAB08, 0xAC10, 0xAD40, 0xAE10, 0xB202, 0xB410, 0xB501, 0xB608,
    0xB810, 0xB902, 0xBA01, 0xBB08, 0xBC02, 0xBF08, 0xC001, 0xD710, 0xD801, 0xF710, 0xF801, 0x2C210, 0x2C601,
    0x2D210, 0x2E001, 0x2E510, 0x2EC01, 0x2ED10, 0x2EE01, 0x2EF10, 0x30004, 0x37001, 0x37510, 0x37601, 0x37800,
    0x37A01, 0x37E08, 0x37F01, 0x38000, 0x38410, 0x38601, 0x38708, 0x38801, 0x38B00, 0x38C01, 0x38D00, 0x38E01,
    0x3A200, 0x3A301, 0x3F610, 0x3F701, 0x48210, 0x48304, 0x48A01, 0x53000, 0x53101, 0x55700, 0x55901, 0x55A08,
    0x56001, 0x58908, 0x58B00, 0x58D10, 0x59000, 0x59104, 0x5BE08, 0x5BF04, 0x5C008, 0x5C104, 0x5C308, 0x5C404,
    0x5C608, 0x5C704, 0x5C800, 0x5D001, 0x5EB00, 0x5EF01, 0x5F308, 0x5F500, 0x60040, 0x60610, 0x60908, 0x60B10,
    0x60C08, 0x60E10, 0x61004, 0x61B08, 0x61C40, 0x61D08, 0x62001, 0x64B04, 0x66002, 0x66A08, 0x66E01, 0x67004,
    0x67101, 0x6D408, 0x6D501, 0x6D604, 0x6DD40, 0x6DE10, 0x6DF04, 0x6E501, 0x6E704, 0x6E910, 0x6EA04, 0x6EE01,
    0x6F002, 0x6FA01, 0x6FD10, 0x6FF01, 0x70008, 0x70E00, 0x70F40, 0x71001, 0x71104, 0x71201, 0x73004, 0x74B00,
    0x74D01, 0x7A604, 0x7B101, 0x7B200, 0x7C002, 0x7CA01, 0x7EB04, 0x7F401, 0x7F610, 0x7F708, 0x7FA01, 0x7FB00,
    0x7FD04, 0x7FE10, 0x80001, 0x81604, 0x81A01, 0x81B04, 0x82401, 0x82504, 0x82801, 0x82904, 0x82E00, 0x83008,
    0x83F00, 0x84001, 0x85904, 0x85C00, 0x85E08, 0x85F00, 0x86001, 0x86B00, 0x87001, 0x88810, 0x88901, 0x88F00,
    0x89040, 0x89200, 0x89804, 0x8A001, 0x8CA04, 0x8E240, 0x8E304, 0x90401, 0x93A04, 0x93D01, 0x93E04, 0x95001,
    0x95104, 0x95801, 0x96204, 0x96408, 0x96602, 0x97008, 0x97101, 0x98104, 0x98400, 0x98501, 0x98D00, 0x98F01,
    0x99100, 0x99301, 0x9A900, 0x9AA01, 0x9B100, 0x9B201, 0x9B300, 0x9B601, 0x9BA00, 0x9BC04, 0x9BD01, 0x9BE04,
    0x9C500, 0x9C704, 0x9C900, 0x9CB04, 0x9CE01, 0x9CF00, 0x9D704, 0x9D800, 0x9DC01, 0x9DE00, 0x9DF01, 0x9E204,
    0x9E400, 0x9E602, 0x9F001, 0x9F210, 0x9F402, 0x9FA10, 0x9FC01, 0x9FD08, 0x9FE04, 0x9FF00, 0xA0104, 0xA0400,
    0xA0501, 0xA0B00, 0xA0F01, 0xA1100, 0xA1301, 0xA2900, 0xA2A01, 0xA3100, 0xA3201, 0xA3400, 0xA3501, 0xA3700,
    0xA3801, 0xA3A00, 0xA3C04, 0xA3D00, 0xA3E04, 0xA4300, 0xA4704, 0xA4900, 0xA4B04, 0xA4E00, 0xA5104, 0xA5200,
    0xA5901, 0xA5D00, 0xA5E01, 0xA5F00, 0xA6602, 0xA7004, 0xA7201, 0xA7504, 0xA7608, 0xA7700, 0xA8104, 0xA8400,
    0xA8501, 0xA8E00, 0xA8F01, 0xA9200, 0xA9301, 0xAA900, 0xAAA01, 0xAB100, 0xAB201, 0xAB400, 0xAB501, 0xABA00,
    0xABC04, 0xABD01, 0xABE04, 0xAC600, 0xAC704, 0xACA00, 0xACB04, 0xACE00, 0xAD001, 0xAD100, 0xAE001, 0xAE204,
    0xAE400, 0xAE602, 0xAF008, 0xAF110, 0xAF200, 0xAF901, 0xAFA04, 0xB0000, 0xB0104, 0xB0400, 0xB0501, 0xB0D00,
    0xB0F01, 0xB1100, 0xB1301, 0xB2900, 0xB2A01, 0xB3100, 0xB3201, 0xB3400, 0xB3501, 0xB3A00, 0xB3C04, 0xB3D01,
    0xB3E04, 0xB4500, 0xB4704, 0xB4900, 0xB4B04, 0xB4E00, 0xB5504, 0xB5800, 0xB5C01, 0xB5E00, 0xB5F01, 0xB6204,
    0xB6400, 0xB6602, 0xB7010, 0xB7101, 0xB7202, 0xB7800, 0xB8204, 0xB8301, 0xB8400, 0xB8501, 0xB8B00, 0xB8E01,
    0xB9100, 0xB9201, 0xB9600, 0xB9901, 0xB9B00, 0xB9C01, 0xB9D00, 0xB9E01, 0xBA000, 0xBA301, 0xBA500, 0xBA801,
    0xBAB00, 0xBAE01, 0xBBA00, 0xBBE04, 0xBC300, 0xBC604, 0xBC900, 0xBCA04, 0xBCE00, 0xBD001, 0xBD100, 0xBD704,
    0xBD800, 0xBE602, 0xBF310, 0xBFB00, 0xC0004, 0xC0501, 0xC0D00, 0xC0E01, 0xC1100, 0xC1201, 0xC2900, 0xC2A01,
    0xC3A00, 0xC3C04, 0xC3D01, 0xC3E04, 0xC4500, 0xC4604, 0xC4900, 0xC4A04, 0xC4E00, 0xC5504, 0xC5700, 0xC5801,
    0xC5B00, 0xC5D01, 0xC5E00, 0xC6001, 0xC6204, 0xC6400, 0xC6602, 0xC7000, 0xC7708, 0xC7802, 0xC7F10, 0xC8001,
    0xC8104, 0xC8408, 0xC8501, 0xC8D00, 0xC8E01, 0xC9100, 0xC9201, 0xCA900, 0xCAA01, 0xCB400, 0xCB501, 0xCBA00,
    0xCBC04, 0xCBD01, 0xCBE04, 0xCC500, 0xCC604, 0xCC900, 0xCCA04, 0xCCE00, 0xCD504, 0xCD700, 0xCDD01, 0xCDF00,
    0xCE001, 0xCE204, 0xCE400, 0xCE602, 0xCF000, 0xCF101, 0xCF304, 0xCF400, 0xD0004, 0xD0401, 0xD0D00, 0xD0E01,
    0xD1100, 0xD1201, 0xD3B04, 0xD3D01, 0xD3E04, 0xD4500, 0xD4604, 0xD4900, 0xD4A04, 0xD4E01, 0xD4F10, 0xD5000,
    0xD5401, 0xD5704, 0xD5802, 0xD5F01, 0xD6204, 0xD6400, 0xD6602, 0xD7910, 0xD7A01, 0xD8000, 0xD8104, 0xD8400,
    0xD8501, 0xD9700, 0xD9A01, 0xDB200, 0xDB301, 0xDBC00, 0xDBD01, 0xDBE00, 0xDC001, 0xDC700, 0xDCA04, 0xDCB00,
    0xDCF04, 0xDD500, 0xDD604, 0xDD700, 0xDD804, 0xDE000, 0xDE602, 0xDF000, 0xDF204, 0xDF408, 0xDF500, 0xE0101,
    0xE3104, 0xE3201, 0xE3404, 0xE3B00, 0xE3F10, 0xE4001, 0xE4704, 0xE4F08, 0xE5002, 0xE5A08, 0xE5C00, 0xE8101,
    0xE8300, 0xE8401, 0xE8500, 0xE8601, 0xE8B00, 0xE8C01, 0xEA400, 0xEA501, 0xEA600, 0xEA701, 0xEB104, 0xEB201,
    0xEB404, 0xEBD01, 0xEBE00, 0xEC001, 0xEC500, 0xEC601, 0xEC700, 0xEC804, 0xECF00, 0xED002, 0xEDA00, 0xEDC01,
    0xEE000, 0xF0001, 0xF0110, 0xF0408, 0xF1310, 0xF1408, 0xF1510, 0xF1804, 0xF1A10, 0xF2002, 0xF3410, 0xF3504,
    0xF3610, 0xF3704, 0xF3810, 0xF3904, 0xF3A08, 0xF3E04, 0xF4001, 0xF4800, 0xF4901, 0xF6D00, 0xF7104, 0xF8508,
    0xF8604, 0xF8801, 0xF8D04, 0xF9800, 0xF9904, 0xFBD00, 0xFBE10, 0xFC604, 0xFC710, 0xFCD00, 0xFCE10, 0xFD008,
    0xFD510, 0xFD908, 0xFDB00, 0x100001, 0x102B04, 0x103F01, 0x104002, 0x104A08, 0x105001, 0x105604, 0x105A01,
    0x105E04, 0x106101, 0x106204, 0x106501, 0x106704, 0x106E01, 0x107104, 0x107501, 0x108204, 0x108E01,
    0x108F04, 0x109002, 0x109A04, 0x109E10, 0x10A001, 0x10C600, 0x10C701, 0x10C800, 0x10CD01, 0x10CE00,
    0x10D001, 0x10FB08, 0x10FC01, 0x124900, 0x124A01, 0x124E00, 0x125001, 0x125700, 0x125801, 0x125900,
    0x125A01, 0x125E00, 0x126001, 0x128900, 0x128A01, 0x128E00, 0x129001, 0x12B100, 0x12B201, 0x12B600,
    0x12B801, 0x12BF00, 0x12C001, 0x12C100, 0x12C201, 0x12C600, 0x12C801, 0x12D700, 0x12D801, 0x131100,
    0x131201, 0x131600, 0x131801, 0x135B00, 0x135D04, 0x136008, 0x136902, 0x137D00, 0x138001, 0x139010,
    0x139A00, 0x13A001, 0x13F600, 0x13F801, 0x13FE00, 0x140008, 0x140101, 0x166D10, 0x166E08, 0x166F01,
    0x1680A0, 0x168101, 0x169B08, 0x169D00, 0x16A001, 0x16EB08, 0x16EE02, 0x16F101, 0x16F900, 0x170001,
    0x171204, 0x171600, 0x171F01, 0x173204, 0x173508, 0x173700, 0x174001, 0x175204, 0x175400, 0x176001,
    0x176D00, 0x176E01, 0x177100, 0x177204, 0x177400, 0x178001, 0x17B404, 0x17D408, 0x17D701, 0x17D808,
    0x17DB10, 0x17DC01, 0x17DD04, 0x17DE00, 0x17E002, 0x17EA00, 0x17F002, 0x17FA00, 0x180008, 0x180B04,
    0x180E40, 0x180F04, 0x181002, 0x181A00, 0x182001, 0x187900, 0x188001, 0x188504, 0x188701, 0x18A904,
    0x18AA01, 0x18AB00, 0x18B001, 0x18F600, 0x190001, 0x191F00, 0x192004, 0x192C00, 0x193004, 0x193C00,
    0x194010, 0x194100, 0x194408, 0x194602, 0x195001, 0x196E00, 0x197001, 0x197500, 0x198001, 0x19AC00,
    0x19B001, 0x19CA00, 0x19D002, 0x19DB00, 0x19DE10, 0x1A0001, 0x1A1704, 0x1A1C00, 0x1A1E08, 0x1A2001,
    0x1A5504, 0x1A5F00, 0x1A6004, 0x1A7D00, 0x1A7F04, 0x1A8002, 0x1A8A00, 0x1A9002, 0x1A9A00, 0x1AA008,
    0x1AA701, 0x1AA808, 0x1AAE00, 0x1AB004, 0x1ACF00, 0x1B0004, 0x1B0501, 0x1B3404, 0x1B4501, 0x1B4D00,
    0x1B5002, 0x1B5A08, 0x1B6110, 0x1B6B04, 0x1B7410, 0x1B7D08, 0x1B7F00, 0x1B8004, 0x1B8301, 0x1BA104,
    0x1BAE01, 0x1BB002, 0x1BBA01, 0x1BE604, 0x1BF400, 0x1BFC08, 0x1C0001, 0x1C2404, 0x1C3800, 0x1C3B08,
    0x1C4002, 0x1C4A00, 0x1C4D01, 0x1C5002, 0x1C5A01, 0x1C7E08, 0x1C8001, 0x1C8900, 0x1C9001, 0x1CBB00,
    0x1CBD01, 0x1CC008, 0x1CC800, 0x1CD004, 0x1CD308, 0x1CD404, 0x1CE901, 0x1CED04, 0x1CEE01, 0x1CF404,
    0x1CF501, 0x1CF704, 0x1CFA01, 0x1CFB00, 0x1D0001, 0x1DC004, 0x1E0001, 0x1F1600, 0x1F1801, 0x1F1E00,
    0x1F2001, 0x1F4600, 0x1F4801, 0x1F4E00, 0x1F5001, 0x1F5800, 0x1F5901, 0x1F5A00, 0x1F5B01, 0x1F5C00,
    0x1F5D01, 0x1F5E00, 0x1F5F01, 0x1F7E00, 0x1F8001, 0x1FB500, 0x1FB601, 0x1FBD10, 0x1FBE01, 0x1FBF10,
    0x1FC201, 0x1FC500, 0x1FC601, 0x1FCD10, 0x1FD001, 0x1FD400, 0x1FD601, 0x1FDC00, 0x1FDD10, 0x1FE001,
    0x1FED10, 0x1FF000, 0x1FF201, 0x1FF500, 0x1FF601, 0x1FFD10, 0x1FFF00, 0x2000A0, 0x200B40, 0x201008,
    0x2028A0, 0x202A40, 0x202FA0, 0x203008, 0x204410, 0x204508, 0x205210, 0x205308, 0x205FA0, 0x206040,
    0x206500, 0x206640, 0x207002, 0x207101, 0x207200, 0x207402, 0x207A10, 0x207D08, 0x207F01, 0x208002,
    0x208A10, 0x208D08, 0x208F00, 0x209001, 0x209D00, 0x20A010, 0x20C100, 0x20D004, 0x20F100, 0x210010,
    0x210201, 0x210310, 0x210701, 0x210810, 0x210A01, 0x211410, 0x211501, 0x211610, 0x211901, 0x211E10,
    0x212401, 0x212510, 0x212601, 0x212710, 0x212801, 0x212910, 0x212A01, 0x212E10, 0x212F01, 0x213A10,
    0x213C01, 0x214010, 0x214501, 0x214A10, 0x214E01, 0x214F10, 0x215002, 0x218301, 0x218502, 0x218A10,
    0x218C00, 0x219010, 0x230808, 0x230C10, 0x232908, 0x232B10, 0x242700, 0x244010, 0x244B00, 0x246002,
    0x249C10, 0x24EA02, 0x250010, 0x276808, 0x277602, 0x279410, 0x27C508, 0x27C710, 0x27E608, 0x27F010,
    0x298308, 0x299910, 0x29D808, 0x29DC10, 0x29FC08, 0x29FE10, 0x2B7400, 0x2B7610, 0x2B9600, 0x2B9710,
    0x2C0001, 0x2CE510, 0x2CEB01, 0x2CEF04, 0x2CF201, 0x2CF400, 0x2CF908, 0x2CFD02, 0x2CFE08, 0x2D0001,
    0x2D2600, 0x2D2701, 0x2D2800, 0x2D2D01, 0x2D2E00, 0x2D3001, 0x2D6800, 0x2D6F01, 0x2D7008, 0x2D7100,
    0x2D7F04, 0x2D8001, 0x2D9700, 0x2DA001, 0x2DA700, 0x2DA801, 0x2DAF00, 0x2DB001, 0x2DB700, 0x2DB801,
    0x2DBF00, 0x2DC001, 0x2DC700, 0x2DC801, 0x2DCF00, 0x2DD001, 0x2DD700, 0x2DD801, 0x2DDF00, 0x2DE004,
    0x2E0008, 0x2E2F01, 0x2E3008, 0x2E5010, 0x2E5208, 0x2E5E00, 0x2E8010, 0x2E9A00, 0x2E9B10, 0x2EF400,
    0x2F0010, 0x2FD600, 0x2FF010, 0x3000A0, 0x300108, 0x300410, 0x300501, 0x300702, 0x300808, 0x301210,
    0x301408, 0x302010, 0x302102, 0x302A04, 0x303008, 0x303101, 0x303610, 0x303802, 0x303B01, 0x303D08,
    0x303E10, 0x304000, 0x304101, 0x309700, 0x309904, 0x309B10, 0x309D01, 0x30A008, 0x30A101, 0x30FB08,
    0x30FC01, 0x310000, 0x310501, 0x313000, 0x313101, 0x318F00, 0x319010, 0x319202, 0x319610, 0x31A001,
    0x31C010, 0x31E400, 0x31EF10, 0x31F001, 0x320010, 0x321F00, 0x322002, 0x322A10, 0x324802, 0x325010,
    0x325102, 0x326010, 0x328002, 0x328A10, 0x32B102, 0x32C010, 0x340001, 0x4DC010, 0x4E0001, 0xA48D00,
    0xA49010, 0xA4C700, 0xA4D001, 0xA4FE08, 0xA50001, 0xA60D08, 0xA61001, 0xA62002, 0xA62A01, 0xA62C00,
    0xA64001, 0xA66F04, 0xA67308, 0xA67404, 0xA67E08, 0xA67F01, 0xA69E04, 0xA6A001, 0xA6E602, 0xA6F004,
    0xA6F208, 0xA6F800, 0xA70010, 0xA71701, 0xA72010, 0xA72201, 0xA78910, 0xA78B01, 0xA7CB00, 0xA7D001,
    0xA7D200, 0xA7D301, 0xA7D400, 0xA7D501, 0xA7DA00, 0xA7F201, 0xA80204, 0xA80301, 0xA80604, 0xA80701,
    0xA80B04, 0xA80C01, 0xA82304, 0xA82810, 0xA82C04, 0xA82D00, 0xA83002, 0xA83610, 0xA83A00, 0xA84001,
    0xA87408, 0xA87800, 0xA88004, 0xA88201, 0xA8B404, 0xA8C600, 0xA8CE08, 0xA8D002, 0xA8DA00, 0xA8E004,
    0xA8F201, 0xA8F808, 0xA8FB01, 0xA8FC08, 0xA8FD01, 0xA8FF04, 0xA90002, 0xA90A01, 0xA92604, 0xA92E08,
    0xA93001, 0xA94704, 0xA95400, 0xA95F08, 0xA96001, 0xA97D00, 0xA98004, 0xA98401, 0xA9B304, 0xA9C108,
    0xA9CE00, 0xA9CF01, 0xA9D002, 0xA9DA00, 0xA9DE08, 0xA9E001, 0xA9E504, 0xA9E601, 0xA9F002, 0xA9FA01,
    0xA9FF00, 0xAA0001, 0xAA2904, 0xAA3700, 0xAA4001, 0xAA4304, 0xAA4401, 0xAA4C04, 0xAA4E00, 0xAA5002,
    0xAA5A00, 0xAA5C08, 0xAA6001, 0xAA7710, 0xAA7A01, 0xAA7B04, 0xAA7E01, 0xAAB004, 0xAAB101, 0xAAB204,
    0xAAB501, 0xAAB704, 0xAAB901, 0xAABE04, 0xAAC001, 0xAAC104, 0xAAC201, 0xAAC300, 0xAADB01, 0xAADE08,
    0xAAE001, 0xAAEB04, 0xAAF008, 0xAAF201, 0xAAF504, 0xAAF700, 0xAB0101, 0xAB0700, 0xAB0901, 0xAB0F00,
    0xAB1101, 0xAB1700, 0xAB2001, 0xAB2700, 0xAB2801, 0xAB2F00, 0xAB3001, 0xAB5B10, 0xAB5C01, 0xAB6A10,
    0xAB6C00, 0xAB7001, 0xABE304, 0xABEB08, 0xABEC04, 0xABEE00, 0xABF002, 0xABFA00, 0xAC0001, 0xD7A400,
    0xD7B001, 0xD7C700, 0xD7CB01, 0xD7FC00, 0xD80040, 0xF90001, 0xFA6E00, 0xFA7001, 0xFADA00, 0xFB0001,
    0xFB0700, 0xFB1301, 0xFB1800, 0xFB1D01, 0xFB1E04, 0xFB1F01, 0xFB2910, 0xFB2A01, 0xFB3700, 0xFB3801,
    0xFB3D00, 0xFB3E01, 0xFB3F00, 0xFB4001, 0xFB4200, 0xFB4301, 0xFB4500, 0xFB4601, 0xFBB210, 0xFBC300,
    0xFBD301, 0xFD3E08, 0xFD4010, 0xFD5001, 0xFD9000, 0xFD9201, 0xFDC800, 0xFDCF10, 0xFDD000, 0xFDF001,
    0xFDFC10, 0xFE0004, 0xFE1008, 0xFE1A00, 0xFE2004, 0xFE3008, 0xFE5300, 0xFE5408, 0xFE6210, 0xFE6308,
    0xFE6410, 0xFE6700, 0xFE6808, 0xFE6910, 0xFE6A08, 0xFE6C00, 0xFE7001, 0xFE7500, 0xFE7601, 0xFEFD00,
    0xFEFF40, 0xFF0000, 0xFF0108, 0xFF0410, 0xFF0508, 0xFF0B10, 0xFF0C08, 0xFF1002, 0xFF1A08, 0xFF1C10,
    0xFF1F08, 0xFF2101, 0xFF3B08, 0xFF3E10, 0xFF3F08, 0xFF4010, 0xFF4101, 0xFF5B08, 0xFF5C10, 0xFF5D08,
    0xFF5E10, 0xFF5F08, 0xFF6601, 0xFFBF00, 0xFFC201, 0xFFC800, 0xFFCA01, 0xFFD000, 0xFFD201, 0xFFD800,
    0xFFDA01, 0xFFDD00, 0xFFE010, 0xFFE700, 0xFFE810, 0xFFEF00, 0xFFF940, 0xFFFC10, 0xFFFE00, 0x1000001,
    0x1000C00, 0x1000D01, 0x1002700, 0x1002801, 0x1003B00, 0x1003C01, 0x1003E00, 0x1003F01, 0x1004E00,
    0x1005001, 0x1005E00, 0x1008001, 0x100FB00, 0x1010008, 0x1010300, 0x1010702, 0x1013400, 0x1013710,
    0x1014002, 0x1017910, 0x1018A02, 0x1018C10, 0x1018F00, 0x1019010, 0x1019D00, 0x101A010, 0x101A100,
    0x101D010, 0x101FD04, 0x101FE00, 0x1028001, 0x1029D00, 0x102A001, 0x102D100, 0x102E004, 0x102E102,
    0x102FC00, 0x1030001, 0x1032002, 0x1032400, 0x1032D01, 0x1034102, 0x1034201, 0x1034A02, 0x1034B00,
    0x1035001, 0x1037604, 0x1037B00, 0x1038001, 0x1039E00, 0x1039F08, 0x103A001, 0x103C400, 0x103C801,
    0x103D008, 0x103D102, 0x103D600, 0x1040001, 0x1049E00, 0x104A002, 0x104AA00, 0x104B001, 0x104D400,
    0x104D801, 0x104FC00, 0x1050001, 0x1052800, 0x1053001, 0x1056400, 0x1056F08, 0x1057001, 0x1057B00,
    0x1057C01, 0x1058B00, 0x1058C01, 0x1059300, 0x1059401, 0x1059600, 0x1059701, 0x105A200, 0x105A301,
    0x105B200, 0x105B301, 0x105BA00, 0x105BB01, 0x105BD00, 0x1060001, 0x1073700, 0x1074001, 0x1075600,
    0x1076001, 0x1076800, 0x1078001, 0x1078600, 0x1078701, 0x107B100, 0x107B201, 0x107BB00, 0x1080001,
    0x1080600, 0x1080801, 0x1080900, 0x1080A01, 0x1083600, 0x1083701, 0x1083900, 0x1083C01, 0x1083D00,
    0x1083F01, 0x1085600, 0x1085708, 0x1085802, 0x1086001, 0x1087710, 0x1087902, 0x1088001, 0x1089F00,
    0x108A702, 0x108B000, 0x108E001, 0x108F300, 0x108F401, 0x108F600, 0x108FB02, 0x1090001, 0x1091602,
    0x1091C00, 0x1091F08, 0x1092001, 0x1093A00, 0x1093F08, 0x1094000, 0x1098001, 0x109B800, 0x109BC02,
    0x109BE01, 0x109C002, 0x109D000, 0x109D202, 0x10A0001, 0x10A0104, 0x10A0400, 0x10A0504, 0x10A0700,
    0x10A0C04, 0x10A1001, 0x10A1400, 0x10A1501, 0x10A1800, 0x10A1901, 0x10A3600, 0x10A3804, 0x10A3B00,
    0x10A3F04, 0x10A4002, 0x10A4900, 0x10A5008, 0x10A5900, 0x10A6001, 0x10A7D02, 0x10A7F08, 0x10A8001,
    0x10A9D02, 0x10AA000, 0x10AC001, 0x10AC810, 0x10AC901, 0x10AE504, 0x10AE700, 0x10AEB02, 0x10AF008,
    0x10AF700, 0x10B0001, 0x10B3600, 0x10B3908, 0x10B4001, 0x10B5600, 0x10B5802, 0x10B6001, 0x10B7300,
    0x10B7802, 0x10B8001, 0x10B9200, 0x10B9908, 0x10B9D00, 0x10BA902, 0x10BB000, 0x10C0001, 0x10C4900,
    0x10C8001, 0x10CB300, 0x10CC001, 0x10CF300, 0x10CFA02, 0x10D0001, 0x10D2404, 0x10D2800, 0x10D3002,
    0x10D3A00, 0x10E6002, 0x10E7F00, 0x10E8001, 0x10EAA00, 0x10EAB04, 0x10EAD08, 0x10EAE00, 0x10EB001,
    0x10EB200, 0x10EFD04, 0x10F0001, 0x10F1D02, 0x10F2701, 0x10F2800, 0x10F3001, 0x10F4604, 0x10F5102,
    0x10F5508, 0x10F5A00, 0x10F7001, 0x10F8204, 0x10F8608, 0x10F8A00, 0x10FB001, 0x10FC502, 0x10FCC00,
    0x10FE001, 0x10FF700, 0x1100004, 0x1100301, 0x1103804, 0x1104708, 0x1104E00, 0x1105202, 0x1107004,
    0x1107101, 0x1107304, 0x1107501, 0x1107600, 0x1107F04, 0x1108301, 0x110B004, 0x110BB08, 0x110BD40,
    0x110BE08, 0x110C204, 0x110C300, 0x110CD40, 0x110CE00, 0x110D001, 0x110E900, 0x110F002, 0x110FA00,
    0x1110004, 0x1110301, 0x1112704, 0x1113500, 0x1113602, 0x1114008, 0x1114401, 0x1114504, 0x1114701,
    0x1114800, 0x1115001, 0x1117304, 0x1117408, 0x1117601, 0x1117700, 0x1118004, 0x1118301, 0x111B304,
    0x111C101, 0x111C508, 0x111C904, 0x111CD08, 0x111CE04, 0x111D002, 0x111DA01, 0x111DB08, 0x111DC01,
    0x111DD08, 0x111E000, 0x111E102, 0x111F500, 0x1120001, 0x1121200, 0x1121301, 0x1122C04, 0x1123808,
    0x1123E04, 0x1123F01, 0x1124104, 0x1124200, 0x1128001, 0x1128700, 0x1128801, 0x1128900, 0x1128A01,
    0x1128E00, 0x1128F01, 0x1129E00, 0x1129F01, 0x112A908, 0x112AA00, 0x112B001, 0x112DF04, 0x112EB00,
    0x112F002, 0x112FA00, 0x1130004, 0x1130400, 0x1130501, 0x1130D00, 0x1130F01, 0x1131100, 0x1131301,
    0x1132900, 0x1132A01, 0x1133100, 0x1133201, 0x1133400, 0x1133501, 0x1133A00, 0x1133B04, 0x1133D01,
    0x1133E04, 0x1134500, 0x1134704, 0x1134900, 0x1134B04, 0x1134E00, 0x1135001, 0x1135100, 0x1135704,
    0x1135800, 0x1135D01, 0x1136204, 0x1136400, 0x1136604, 0x1136D00, 0x1137004, 0x1137500, 0x1140001,
    0x1143504, 0x1144701, 0x1144B08, 0x1145002, 0x1145A08, 0x1145C00, 0x1145D08, 0x1145E04, 0x1145F01,
    0x1146200, 0x1148001, 0x114B004, 0x114C401, 0x114C608, 0x114C701, 0x114C800, 0x114D002, 0x114DA00,
    0x1158001, 0x115AF04, 0x115B600, 0x115B804, 0x115C108, 0x115D801, 0x115DC04, 0x115DE00, 0x1160001,
    0x1163004, 0x1164108, 0x1164401, 0x1164500, 0x1165002, 0x1165A00, 0x1166008, 0x1166D00, 0x1168001,
    0x116AB04, 0x116B801, 0x116B908, 0x116BA00, 0x116C002, 0x116CA00, 0x1170001, 0x1171B00, 0x1171D04,
    0x1172C00, 0x1173002, 0x1173C08, 0x1173F10, 0x1174001, 0x1174700, 0x1180001, 0x1182C04, 0x1183B08,
    0x1183C00, 0x118A001, 0x118E002, 0x118F300, 0x118FF01, 0x1190700, 0x1190901, 0x1190A00, 0x1190C01,
    0x1191400, 0x1191501, 0x1191700, 0x1191801, 0x1193004, 0x1193600, 0x1193704, 0x1193900, 0x1193B04,
    0x1193F01, 0x1194004, 0x1194101, 0x1194204, 0x1194408, 0x1194700, 0x1195002, 0x1195A00, 0x119A001,
    0x119A800, 0x119AA01, 0x119D104, 0x119D800, 0x119DA04, 0x119E101, 0x119E208, 0x119E301, 0x119E404,
    0x119E500, 0x11A0001, 0x11A0104, 0x11A0B01, 0x11A3304, 0x11A3A01, 0x11A3B04, 0x11A3F08, 0x11A4704,
    0x11A4800, 0x11A5001, 0x11A5104, 0x11A5C01, 0x11A8A04, 0x11A9A08, 0x11A9D01, 0x11A9E08, 0x11AA300,
    0x11AB001, 0x11AF900, 0x11B0008, 0x11B0A00, 0x11C0001, 0x11C0900, 0x11C0A01, 0x11C2F04, 0x11C3700,
    0x11C3804, 0x11C4001, 0x11C4108, 0x11C4600, 0x11C5002, 0x11C6D00, 0x11C7008, 0x11C7201, 0x11C9000,
    0x11C9204, 0x11CA800, 0x11CA904, 0x11CB700, 0x11D0001, 0x11D0700, 0x11D0801, 0x11D0A00, 0x11D0B01,
    0x11D3104, 0x11D3700, 0x11D3A04, 0x11D3B00, 0x11D3C04, 0x11D3E00, 0x11D3F04, 0x11D4601, 0x11D4704,
    0x11D4800, 0x11D5002, 0x11D5A00, 0x11D6001, 0x11D6600, 0x11D6701, 0x11D6900, 0x11D6A01, 0x11D8A04,
    0x11D8F00, 0x11D9004, 0x11D9200, 0x11D9304, 0x11D9801, 0x11D9900, 0x11DA002, 0x11DAA00, 0x11EE001,
    0x11EF304, 0x11EF708, 0x11EF900, 0x11F0004, 0x11F0201, 0x11F0304, 0x11F0401, 0x11F1100, 0x11F1201,
    0x11F3404, 0x11F3B00, 0x11F3E04, 0x11F4308, 0x11F5002, 0x11F5A00, 0x11FB001, 0x11FB100, 0x11FC002,
    0x11FD510, 0x11FF200, 0x11FFF08, 0x1200001, 0x1239A00, 0x1240002, 0x1246F00, 0x1247008, 0x1247500,
    0x1248001, 0x1254400, 0x12F9001, 0x12FF108, 0x12FF300, 0x1300001, 0x1343040, 0x1344004, 0x1344101,
    0x1344704, 0x1345600, 0x1440001, 0x1464700, 0x1680001, 0x16A3900, 0x16A4001, 0x16A5F00, 0x16A6002,
    0x16A6A00, 0x16A6E08, 0x16A7001, 0x16ABF00, 0x16AC002, 0x16ACA00, 0x16AD001, 0x16AEE00, 0x16AF004,
    0x16AF508, 0x16AF600, 0x16B0001, 0x16B3004, 0x16B3708, 0x16B3C10, 0x16B4001, 0x16B4408, 0x16B4510,
    0x16B4600, 0x16B5002, 0x16B5A00, 0x16B5B02, 0x16B6200, 0x16B6301, 0x16B7800, 0x16B7D01, 0x16B9000,
    0x16E4001, 0x16E8002, 0x16E9708, 0x16E9B00, 0x16F0001, 0x16F4B00, 0x16F4F04, 0x16F5001, 0x16F5104,
    0x16F8800, 0x16F8F04, 0x16F9301, 0x16FA000, 0x16FE001, 0x16FE208, 0x16FE301, 0x16FE404, 0x16FE500,
    0x16FF004, 0x16FF200, 0x1700001, 0x187F800, 0x1880001, 0x18CD600, 0x18D0001, 0x18D0900, 0x1AFF001,
    0x1AFF400, 0x1AFF501, 0x1AFFC00, 0x1AFFD01, 0x1AFFF00, 0x1B00001, 0x1B12300, 0x1B13201, 0x1B13300,
    0x1B15001, 0x1B15300, 0x1B15501, 0x1B15600, 0x1B16401, 0x1B16800, 0x1B17001, 0x1B2FC00, 0x1BC0001,
    0x1BC6B00, 0x1BC7001, 0x1BC7D00, 0x1BC8001, 0x1BC8900, 0x1BC9001, 0x1BC9A00, 0x1BC9C10, 0x1BC9D04,
    0x1BC9F08, 0x1BCA040, 0x1BCA400, 0x1CF0004, 0x1CF2E00, 0x1CF3004, 0x1CF4700, 0x1CF5010, 0x1CFC400,
    0x1D00010, 0x1D0F600, 0x1D10010, 0x1D12700, 0x1D12910, 0x1D16504, 0x1D16A10, 0x1D16D04, 0x1D17340,
    0x1D17B04, 0x1D18310, 0x1D18504, 0x1D18C10, 0x1D1AA04, 0x1D1AE10, 0x1D1EB00, 0x1D20010, 0x1D24204,
    0x1D24510, 0x1D24600, 0x1D2C002, 0x1D2D400, 0x1D2E002, 0x1D2F400, 0x1D30010, 0x1D35700, 0x1D36002,
    0x1D37900, 0x1D40001, 0x1D45500, 0x1D45601, 0x1D49D00, 0x1D49E01, 0x1D4A000, 0x1D4A201, 0x1D4A300,
    0x1D4A501, 0x1D4A700, 0x1D4A901, 0x1D4AD00, 0x1D4AE01, 0x1D4BA00, 0x1D4BB01, 0x1D4BC00, 0x1D4BD01,
    0x1D4C400, 0x1D4C501, 0x1D50600, 0x1D50701, 0x1D50B00, 0x1D50D01, 0x1D51500, 0x1D51601, 0x1D51D00,
    0x1D51E01, 0x1D53A00, 0x1D53B01, 0x1D53F00, 0x1D54001, 0x1D54500, 0x1D54601, 0x1D54700, 0x1D54A01,
    0x1D55100, 0x1D55201, 0x1D6A600, 0x1D6A801, 0x1D6C110, 0x1D6C201, 0x1D6DB10, 0x1D6DC01, 0x1D6FB10,
    0x1D6FC01, 0x1D71510, 0x1D71601, 0x1D73510, 0x1D73601, 0x1D74F10, 0x1D75001, 0x1D76F10, 0x1D77001,
    0x1D78910, 0x1D78A01, 0x1D7A910, 0x1D7AA01, 0x1D7C310, 0x1D7C401, 0x1D7CC00, 0x1D7CE02, 0x1D80010,
    0x1DA0004, 0x1DA3710, 0x1DA3B04, 0x1DA6D10, 0x1DA7504, 0x1DA7610, 0x1DA8404, 0x1DA8510, 0x1DA8708,
    0x1DA8C00, 0x1DA9B04, 0x1DAA000, 0x1DAA104, 0x1DAB000, 0x1DF0001, 0x1DF1F00, 0x1DF2501, 0x1DF2B00,
    0x1E00004, 0x1E00700, 0x1E00804, 0x1E01900, 0x1E01B04, 0x1E02200, 0x1E02304, 0x1E02500, 0x1E02604,
    0x1E02B00, 0x1E03001, 0x1E06E00, 0x1E08F04, 0x1E09000, 0x1E10001, 0x1E12D00, 0x1E13004, 0x1E13701,
    0x1E13E00, 0x1E14002, 0x1E14A00, 0x1E14E01, 0x1E14F10, 0x1E15000, 0x1E29001, 0x1E2AE04, 0x1E2AF00,
    0x1E2C001, 0x1E2EC04, 0x1E2F002, 0x1E2FA00, 0x1E2FF10, 0x1E30000, 0x1E4D001, 0x1E4EC04, 0x1E4F002,
    0x1E4FA00, 0x1E7E001, 0x1E7E700, 0x1E7E801, 0x1E7EC00, 0x1E7ED01, 0x1E7EF00, 0x1E7F001, 0x1E7FF00,
    0x1E80001, 0x1E8C500, 0x1E8C702, 0x1E8D004, 0x1E8D700, 0x1E90001, 0x1E94404, 0x1E94B01, 0x1E94C00,
    0x1E95002, 0x1E95A00, 0x1E95E08, 0x1E96000, 0x1EC7102, 0x1ECAC10, 0x1ECAD02, 0x1ECB010, 0x1ECB102,
    0x1ECB500, 0x1ED0102, 0x1ED2E10, 0x1ED2F02, 0x1ED3E00, 0x1EE0001, 0x1EE0400, 0x1EE0501, 0x1EE2000,
    0x1EE2101, 0x1EE2300, 0x1EE2401, 0x1EE2500, 0x1EE2701, 0x1EE2800, 0x1EE2901, 0x1EE3300, 0x1EE3401,
    0x1EE3800, 0x1EE3901, 0x1EE3A00, 0x1EE3B01, 0x1EE3C00, 0x1EE4201, 0x1EE4300, 0x1EE4701, 0x1EE4800,
    0x1EE4901, 0x1EE4A00, 0x1EE4B01, 0x1EE4C00, 0x1EE4D01, 0x1EE5000, 0x1EE5101, 0x1EE5300, 0x1EE5401,
    0x1EE5500, 0x1EE5701, 0x1EE5800, 0x1EE5901, 0x1EE5A00, 0x1EE5B01, 0x1EE5C00, 0x1EE5D01, 0x1EE5E00,
    0x1EE5F01, 0x1EE6000, 0x1EE6101, 0x1EE6300, 0x1EE6401, 0x1EE6500, 0x1EE6701, 0x1EE6B00, 0x1EE6C01,
    0x1EE7300, 0x1EE7401, 0x1EE7800, 0x1EE7901, 0x1EE7D00, 0x1EE7E01, 0x1EE7F00, 0x1EE8001, 0x1EE8A00,
    0x1EE8B01, 0x1EE9C00, 0x1EEA101, 0x1EEA400, 0x1EEA501, 0x1EEAA00, 0x1EEAB01, 0x1EEBC00, 0x1EEF010,
    0x1EEF200, 0x1F00010, 0x1F02C00, 0x1F03010, 0x1F09400, 0x1F0A010, 0x1F0AF00, 0x1F0B110, 0x1F0C000,
    0x1F0C110, 0x1F0D000, 0x1F0D110, 0x1F0F600, 0x1F10002, 0x1F10D10, 0x1F1AE00, 0x1F1E610, 0x1F20300,
    0x1F21010, 0x1F23C00, 0x1F24010, 0x1F24900, 0x1F25010, 0x1F25200, 0x1F26010, 0x1F26600, 0x1F30010,
    0x1F6D800, 0x1F6DC10, 0x1F6ED00, 0x1F6F010, 0x1F6FD00, 0x1F70010, 0x1F77700, 0x1F77B10, 0x1F7DA00,
    0x1F7E010, 0x1F7EC00, 0x1F7F010, 0x1F7F100, 0x1F80010, 0x1F80C00, 0x1F81010, 0x1F84800, 0x1F85010,
    0x1F85A00, 0x1F86010, 0x1F88800, 0x1F89010, 0x1F8AE00, 0x1F8B010, 0x1F8B200, 0x1F90010, 0x1FA5400,
    0x1FA6010, 0x1FA6E00, 0x1FA7010, 0x1FA7D00, 0x1FA8010, 0x1FA8900, 0x1FA9010, 0x1FABE00, 0x1FABF10,
    0x1FAC600, 0x1FACE10, 0x1FADC00, 0x1FAE010, 0x1FAE900, 0x1FAF010, 0x1FAF900, 0x1FB0010, 0x1FB9300,
    0x1FB9410, 0x1FBCB00, 0x1FBF002, 0x1FBFA00, 0x2000001, 0x2A6E000, 0x2A70001, 0x2B73A00, 0x2B74001,
    0x2B81E00, 0x2B82001, 0x2CEA200, 0x2CEB001, 0x2EBE100, 0x2EBF001, 0x2EE5E00, 0x2F80001, 0x2FA1E00,
    0x3000001, 0x3134B00, 0x3135001, 0x323B000, 0xE000140, 0xE000200, 0xE002040, 0xE008000, 0xE010004,
    0xE01F000, 0xF000040, 0xFFFFE00, 0x10000040, 0x10FFFE00,
};

}  // namespace detail::unicode

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/utf8.hpp ------------------------------------------------------------------------------------------

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

namespace detail::utf8 {

inline constexpr std::uint32_t replacement = 0xFFFD;
inline constexpr std::uint32_t max_code_point = 0x10FFFF;

/// A code point and the bytes it took. An invalid byte decodes to U+FFFD of length 1; `valid` tells it from
/// a U+FFFD that is really in the text.
struct Decoded {
    std::uint32_t code;
    std::uint32_t length;
    bool valid;
};

[[nodiscard]] constexpr std::uint32_t byte_at(const char* p) noexcept { return static_cast<unsigned char>(*p); }

[[nodiscard]] constexpr bool is_continuation(std::uint32_t byte) noexcept { return (byte & 0xC0U) == 0x80U; }

/// Bytes that a lead byte announces; 0 where no sequence starts with it.
[[nodiscard]] constexpr std::uint32_t announced_length(std::uint32_t lead) noexcept {
    if (lead < 0x80U) return 1;
    if (lead < 0xC0U) return 0;
    if (lead < 0xE0U) return 2;
    if (lead < 0xF0U) return 3;
    return lead < 0xF8U ? 4 : 0;
}

/// Decodes by the bit layout alone: overlong forms and surrogates come back as the number they spell.
/// Requires p < end.
[[nodiscard]] constexpr Decoded decode_by_layout(const char* p, const char* end) noexcept {
    const std::uint32_t lead = byte_at(p);
    const std::uint32_t length = announced_length(lead);
    if (length == 1) return {lead, 1, true};
    if (length == 0 || static_cast<std::size_t>(end - p) < length) return {replacement, 1, false};
    std::uint32_t code = lead & (0x7FU >> length);
    for (std::uint32_t i = 1; i < length; ++i) {
        const std::uint32_t byte = byte_at(p + i);
        if (!is_continuation(byte)) return {replacement, 1, false};
        code = (code << 6U) | (byte & 0x3FU);
    }
    if (code > max_code_point) return {replacement, 1, false};
    return {code, length, true};
}

[[nodiscard]] constexpr std::uint32_t encoded_length(std::uint32_t code) noexcept {
    if (code < 0x80U) return 1;
    if (code < 0x800U) return 2;
    return code < 0x10000U ? 3 : 4;
}

/// As decode_by_layout, but an overlong form is invalid. Lone surrogates stay: the vocabularies' own trainers
/// and the reference implementation let them through.
[[nodiscard]] constexpr Decoded decode(const char* p, const char* end) noexcept {
    const Decoded d = decode_by_layout(p, end);
    if (d.valid && encoded_length(d.code) != d.length) return {replacement, 1, false};
    return d;
}

/// Requires code <= max_code_point.
inline void append(std::string& out, std::uint32_t code) {
    const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
    switch (encoded_length(code)) {
        case 1: put(code); return;
        case 2: put(0xC0U | (code >> 6U)); break;
        case 3:
            put(0xE0U | (code >> 12U));
            put(0x80U | ((code >> 6U) & 0x3FU));
            break;
        default:
            put(0xF0U | (code >> 18U));
            put(0x80U | ((code >> 12U) & 0x3FU));
            put(0x80U | ((code >> 6U) & 0x3FU));
            break;
    }
    put(0x80U | (code & 0x3FU));
}

/// First byte that decode() finds invalid, or `end`.
[[nodiscard]] inline const char* find_invalid(const char* p, const char* end) noexcept {
    while (p < end) {
        if (byte_at(p) < 0x80U) {
            ++p;
            continue;
        }
        const Decoded d = decode(p, end);
        if (!d.valid) return p;
        p += d.length;
    }
    return end;
}

/// Replaces every invalid byte with U+FFFD and every overlong form with the short one. llama.cpp does the same
/// before it splits, so the ids agree on any input it accepts.
[[nodiscard]] inline std::string repair(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 16);
    const char* p = text.data();
    const char* const end = p + text.size();
    while (p < end) {
        const Decoded d = decode_by_layout(p, end);
        append(out, d.code);
        p += d.length;
    }
    return out;
}

}  // namespace detail::utf8

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

namespace detail::unicode {

using Flags = std::uint8_t;

inline constexpr Flags letter = 0x01;
inline constexpr Flags number = 0x02;
inline constexpr Flags mark = 0x04;
inline constexpr Flags punctuation = 0x08;
inline constexpr Flags symbol = 0x10;
inline constexpr Flags space = 0x80;

/// Flags of a code point by binary search.
[[nodiscard]] constexpr Flags search_flags(std::uint32_t code) noexcept {
    const auto after = std::upper_bound(runs.begin(), runs.end(), (code << 8U) | 0xFFU);
    return static_cast<Flags>(*(after - 1) & 0xFFU);
}

[[nodiscard]] constexpr std::array<Flags, 128> make_ascii() noexcept {
    std::array<Flags, 128> table{};
    for (std::uint32_t code = 0; code < 128; ++code) table[code] = search_flags(code);
    return table;
}

inline constexpr std::array<Flags, 128> ascii = make_ascii();

/// Requires code <= U+10FFFF.
[[nodiscard]] constexpr Flags flags_of(std::uint32_t code) noexcept {
    return code < 128 ? ascii[code] : search_flags(code);
}

/// A code point of the text with what the splitters ask about it. Past the end: length 0 and no flags.
struct Glyph {
    std::uint32_t code = 0xFFFFFFFF;
    std::uint32_t length = 0;
    Flags flags = 0;

    [[nodiscard]] constexpr bool is(Flags any) const noexcept { return (flags & any) != 0; }
};

[[nodiscard]] constexpr Glyph glyph_at(const char* p, const char* end) noexcept {
    if (p >= end) return {};
    const std::uint32_t byte = utf8::byte_at(p);
    if (byte < 128) return {byte, 1, ascii[byte]};
    const utf8::Decoded d = utf8::decode(p, end);
    return {d.code, d.length, search_flags(d.code)};
}

/// End of the run of code points, from p on, that have one of the flags.
[[nodiscard]] constexpr const char* skip_any(const char* p, const char* end, Flags any) noexcept {
    while (p < end) {
        const Glyph g = glyph_at(p, end);
        if (!g.is(any)) break;
        p += g.length;
    }
    return p;
}

/// End of the run of code points, from p on, that have none of the flags.
[[nodiscard]] constexpr const char* skip_none(const char* p, const char* end, Flags none) noexcept {
    while (p < end) {
        const Glyph g = glyph_at(p, end);
        if (g.is(none)) break;
        p += g.length;
    }
    return p;
}

/// A run of white space and where its last character begins.
struct Spaces {
    const char* last;
    const char* end;
    std::size_t count;
};

[[nodiscard]] constexpr Spaces spaces_at(const char* p, const char* end) noexcept {
    Spaces s{p, p, 0};
    while (s.end < end) {
        const Glyph g = glyph_at(s.end, end);
        if (!g.is(space)) break;
        s.last = s.end;
        s.end += g.length;
        ++s.count;
    }
    return s;
}

}  // namespace detail::unicode

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// Single stages of the splitters that work in several passes. A stage cuts out what it matches; what it cuts
/// out and what lies between go to the next stage alike.
namespace detail::split {

using unicode::Glyph;

/// Calls sink(first, last) for consecutive pieces that cover the text. match(p, end) is asked at every code
/// point and returns the end of the match there, or nullptr; it must not scan far where it fails.
template <class Match, class Sink>
constexpr void cut(const char* p, const char* end, Match&& match, Sink&& sink) {
    const char* between = p;
    while (p < end) {
        const char* const last = match(p, end);
        if (last == nullptr) {
            p += unicode::glyph_at(p, end).length;
            continue;
        }
        if (between < p) sink(between, p);
        sink(p, last);
        between = p = last;
    }
    if (between < end) sink(between, end);
}

/// A run of at most `most` code points that have one of the flags.
struct Run {
    unicode::Flags any;
    std::size_t most = static_cast<std::size_t>(-1);

    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        const char* last = nullptr;
        for (std::size_t n = 0; n < most; ++n) {
            const Glyph g = unicode::glyph_at(p, end);
            if (!g.is(any)) break;
            last = p += g.length;
        }
        return last;
    }
};

/// A run of punctuation in Falcon's sense: the category, and these ASCII symbols.
struct FalconMarks {
    bool backtick;

    constexpr bool has(const Glyph& g) const noexcept {
        if (g.is(unicode::punctuation)) return true;
        switch (g.code) {
            case '$': case '+': case '<': case '=': case '>': case '^': case '~': case '|': return true;
            case '`': return backtick;
            default: return false;
        }
    }

    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        const char* last = nullptr;
        for (Glyph g = unicode::glyph_at(p, end); has(g); g = unicode::glyph_at(p, end)) last = p += g.length;
        return last;
    }
};

/// Exactly three ASCII digits.
struct ThreeDigits {
    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        if (end - p < 3) return nullptr;
        for (int i = 0; i < 3; ++i) {
            if (p[i] < '0' || p[i] > '9') return nullptr;
        }
        return p + 3;
    }
};

struct LineEnd {
    constexpr const char* operator()(const char* p, const char*) const noexcept {
        return *p == '\r' || *p == '\n' ? p + 1 : nullptr;
    }
};

/// At most one white space, then a run of what `Has` accepts. Has must not accept white space.
template <class Has>
struct SpacedRun {
    Has has;

    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        Glyph g = unicode::glyph_at(p, end);
        if (g.is(unicode::space)) g = unicode::glyph_at(p += g.length, end);
        const char* last = nullptr;
        for (; g.length != 0 && has(g); g = unicode::glyph_at(p, end)) last = p += g.length;
        return last;
    }
};

struct HasFlag {
    unicode::Flags any;
    constexpr bool operator()(const Glyph& g) const noexcept { return g.is(any); }
};

struct DeepseekLetter {
    constexpr bool operator()(const Glyph& g) const noexcept { return deepseek::contains(deepseek::letters, g.code); }
};

struct DeepseekMark {
    constexpr bool operator()(const Glyph& g) const noexcept { return deepseek::contains(deepseek::marks, g.code); }
};

/// A run of CJK, Hangul and whatever else lies between. White space inside the range does not count.
struct DeepseekUncased {
    constexpr const char* operator()(const char* p, const char* end) const noexcept {
        const char* last = nullptr;
        for (;;) {
            const Glyph g = unicode::glyph_at(p, end);
            if (g.length == 0 || g.is(unicode::space) || !deepseek::contains(deepseek::uncased, g.code)) return last;
            last = p += g.length;
        }
    }
};

/// Cuts off the white space at the end. Not a match for cut(): that would look to the end of each run of white
/// space once for every character in it.
template <class Sink>
constexpr void cut_trailing_spaces(const char* p, const char* end, Sink&& sink) {
    const char* tail = p;
    for (const char* at = p; at < end;) {
        const Glyph g = unicode::glyph_at(at, end);
        at += g.length;
        if (!g.is(unicode::space)) tail = at;
    }
    if (p < tail) sink(p, tail);
    if (tail < end) sink(tail, end);
}

}  // namespace detail::split

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/split_words.hpp -----------------------------------------------------------------------------------

#include <cstddef>
#include <cstdint>

namespace adainfer::inline v0 {

/// The two word splitters that most byte-level vocabularies were trained with. Each calls sink(first, last) for
/// consecutive pieces that cover the text.
namespace detail::split {

using unicode::Flags;
using unicode::Glyph;

/// Bytes of an English contraction ('s 't 'm 'd 're 've 'll) at p, or 0.
[[nodiscard]] constexpr std::size_t contraction_at(const char* p, const char* end, bool any_case) noexcept {
    if (*p != '\'') return 0;
    const auto lower = [any_case](char c) noexcept {
        return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    if (end - p < 2) return 0;
    const char a = lower(p[1]);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - p < 3) return 0;
    const char b = lower(p[2]);
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/// White space before a word leaves its last character to that word.
[[nodiscard]] constexpr const char* end_of_spaces(const unicode::Spaces& s, const char* end) noexcept {
    return s.count > 1 && s.end != end ? s.last : s.end;
}

/// GPT-2: contractions; letters, numbers or other characters, each with at most one space before; white space.
template <class Sink>
constexpr void gpt2(const char* p, const char* end, Sink&& sink) {
    constexpr Flags worded = unicode::letter | unicode::number | unicode::space;
    while (p < end) {
        const char* const first = p;
        if (const std::size_t n = contraction_at(p, end, false)) {
            p += n;
            sink(first, p);
            continue;
        }
        if (*p == ' ') ++p;
        const Glyph g = unicode::glyph_at(p, end);
        if (g.is(unicode::letter)) {
            p = unicode::skip_any(p + g.length, end, unicode::letter);
        } else if (g.is(unicode::number)) {
            p = unicode::skip_any(p + g.length, end, unicode::number);
        } else if (g.length != 0 && !g.is(unicode::space)) {
            p = unicode::skip_none(p + g.length, end, worded);
        } else {
            p = end_of_spaces(unicode::spaces_at(first, end), end);
        }
        sink(first, p);
    }
}

/// What differs between the vocabularies that use the splitter of GPT-4.
struct Gpt4Rules {
    std::size_t digits = 3;         ///< most numbers in a piece
    Flags word = unicode::letter;   ///< what words are made of
};

/// GPT-4: contractions in any case; words with at most one other character before; groups of numbers; other
/// characters with line ends after; white space up to its last line end; other white space.
template <class Sink>
constexpr void gpt4(const char* p, const char* end, Gpt4Rules rules, Sink&& sink) {
    const Flags worded = static_cast<Flags>(rules.word | unicode::number | unicode::space);
    const auto is_line_end = [](std::uint32_t code) noexcept { return code == '\r' || code == '\n'; };
    while (p < end) {
        const char* const first = p;
        if (const std::size_t n = contraction_at(p, end, true)) {
            p += n;
            sink(first, p);
            continue;
        }
        const Glyph g = unicode::glyph_at(p, end);
        if (g.is(unicode::number)) {
            p += g.length;
            for (std::size_t n = 1; n < rules.digits; ++n) {
                const Glyph next = unicode::glyph_at(p, end);
                if (!next.is(unicode::number)) break;
                p += next.length;
            }
            sink(first, p);
            continue;
        }
        if (!is_line_end(g.code) && (g.is(rules.word) || unicode::glyph_at(p + g.length, end).is(rules.word))) {
            p = unicode::skip_any(p + g.length, end, rules.word);
            sink(first, p);
            continue;
        }
        const char* const body = *p == ' ' ? p + 1 : p;
        const Glyph other = unicode::glyph_at(body, end);
        if (other.length != 0 && !other.is(worded)) {
            p = unicode::skip_none(body + other.length, end, worded);
            while (p < end && (*p == '\r' || *p == '\n')) ++p;
            sink(first, p);
            continue;
        }
        const unicode::Spaces spaces = unicode::spaces_at(p, end);
        const char* line_end = spaces.end;
        while (line_end > p && line_end[-1] != '\r' && line_end[-1] != '\n') --line_end;
        p = line_end > p ? line_end : end_of_spaces(spaces, end);
        sink(first, p);
    }
}

}  // namespace detail::split

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// How text is cut into the pieces inside which merges happen. Named after the best-known user.
enum class PreTokenizer { Default, Gpt2, Starcoder, LlamaBpe, Qwen2, Qwen35, Falcon, DeepseekLlm, DeepseekCoder };

namespace detail::pre_tokenizer {

struct Name {
    std::string_view name;  ///< as the key tokenizer.ggml.pre of a GGUF file spells it
    PreTokenizer kind;
    bool whole_words = false;  ///< a piece that is itself a token is taken whole, whatever the merges say
    bool adds_bos = false;     ///< where the file does not say
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
    Name{"falcon", PreTokenizer::Falcon},
    Name{"deepseek-llm", PreTokenizer::DeepseekLlm},
    Name{"deepseek-coder", PreTokenizer::DeepseekCoder},
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
    fail(ErrorCode::Unsupported, "pre-tokenizer \"", name, "\"; supported: ", known);
}

/// Stages one after the other: each gets every piece of the one before.
template <class Sink>
void split_starcoder(const char* p, const char* end, Sink& sink) {
    split::cut(p, end, split::Run{unicode::number, 1}, [&](const char* a, const char* b) { split::gpt2(a, b, sink); });
}

template <class Sink>
void split_falcon(const char* p, const char* end, Sink& sink) {
    const auto digits = [&](const char* a, const char* b) { split::cut(a, b, split::ThreeDigits{}, sink); };
    const auto words = [&](const char* a, const char* b) { split::gpt2(a, b, digits); };
    split::cut(p, end, split::FalconMarks{true}, words);
}

template <class Sink>
void split_default(const char* p, const char* end, Sink& sink) {
    const auto digits = [&](const char* a, const char* b) { split::cut(a, b, split::ThreeDigits{}, sink); };
    const auto numbers = [&](const char* a, const char* b) { split::cut(a, b, split::Run{unicode::number}, digits); };
    const auto words = [&](const char* a, const char* b) { split::gpt2(a, b, numbers); };
    split::cut(p, end, split::FalconMarks{false}, words);
}

template <class Sink>
void split_deepseek_llm(const char* p, const char* end, Sink& sink) {
    using Letters = split::SpacedRun<split::DeepseekLetter>;
    using Marks = split::SpacedRun<split::DeepseekMark>;
    const auto numbers = [&](const char* a, const char* b) { split::cut(a, b, split::Run{unicode::number}, sink); };
    const auto uncased = [&](const char* a, const char* b) { split::cut(a, b, split::DeepseekUncased{}, numbers); };
    const auto trailing = [&](const char* a, const char* b) { split::cut_trailing_spaces(a, b, uncased); };
    const auto marks = [&](const char* a, const char* b) { split::cut(a, b, Marks{}, trailing); };
    const auto letters = [&](const char* a, const char* b) { split::cut(a, b, Letters{}, marks); };
    split::cut(p, end, split::LineEnd{}, letters);
}

template <class Sink>
void split_deepseek_coder(const char* p, const char* end, Sink& sink) {
    using Spaced = split::SpacedRun<split::HasFlag>;
    const auto numbers = [&](const char* a, const char* b) { split::cut(a, b, split::Run{unicode::number, 1}, sink); };
    const auto uncased = [&](const char* a, const char* b) { split::cut(a, b, split::DeepseekUncased{}, numbers); };
    const auto marks = [&](const char* a, const char* b) { split::cut(a, b, Spaced{{unicode::punctuation}}, uncased); };
    const auto letters = [&](const char* a, const char* b) { split::cut(a, b, Spaced{{unicode::letter}}, marks); };
    split::cut(p, end, split::LineEnd{}, letters);
}

/// Calls sink(first, last) for consecutive pieces that cover the text. Time is linear in the text.
template <class Sink>
void run(PreTokenizer kind, std::string_view text, Sink&& sink) {
    const char* const p = text.data();
    const char* const end = p + text.size();
    switch (kind) {
        case PreTokenizer::Default: split_default(p, end, sink); return;
        case PreTokenizer::Gpt2: split::gpt2(p, end, sink); return;
        case PreTokenizer::Starcoder: split_starcoder(p, end, sink); return;
        case PreTokenizer::LlamaBpe: split::gpt4(p, end, split::Gpt4Rules{}, sink); return;
        case PreTokenizer::Qwen2: split::gpt4(p, end, split::Gpt4Rules{1}, sink); return;
        case PreTokenizer::Qwen35:
            split::gpt4(p, end, split::Gpt4Rules{1, unicode::letter | unicode::mark}, sink);
            return;
        case PreTokenizer::Falcon: split_falcon(p, end, sink); return;
        case PreTokenizer::DeepseekLlm: split_deepseek_llm(p, end, sink); return;
        case PreTokenizer::DeepseekCoder: split_deepseek_coder(p, end, sink); return;
    }
}

}  // namespace detail::pre_tokenizer

/// Whether models with this pre-tokenizer want bos first when their file does not say. Throws
/// Error(Unsupported) for an unknown name.
[[nodiscard]] inline bool pre_tokenizer_adds_bos(std::string_view name) {
    return detail::pre_tokenizer::find(name).adds_bos;
}

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/special_tokens.hpp --------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace adainfer::inline v0 {

namespace detail::bpe {

/// Finds tokens that are written out in a text, e.g. "<|im_start|>".
class SpecialTokens {
  public:
    struct Found {
        std::size_t first, length;
        TokenId token;
    };

    SpecialTokens() = default;

    /// Takes the tokens `ids` of `texts`, which are not empty and all different. Where two overlap in a text the
    /// longer one wins, then the one with the lower id.
    SpecialTokens(const std::vector<std::string>& texts, std::vector<TokenId> ids) {
        const auto text = [&](TokenId id) -> const std::string& { return texts[static_cast<std::size_t>(id)]; };
        std::sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) {
            return text(a).size() != text(b).size() ? text(a).size() > text(b).size() : a < b;
        });
        entries_.reserve(ids.size());
        for (const TokenId id : ids) {
            add(text(id), static_cast<std::uint32_t>(entries_.size()));
            entries_.push_back({id, text(id).size()});
        }
        for (Entry& entry : entries_) entry.shorter = longest_at(text(entry.token), 0, entry.length);
    }

    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }

    /// Non-overlapping finds from left to right. The longest token is placed first wherever it occurs, then the
    /// next longest in what is left, and so on. Time and memory are linear in the text for a given set of tokens.
    [[nodiscard]] std::vector<Found> find_in(std::string_view text) const {
        // For each rank the places where the token could still go. Only the longest token at a place waits there;
        // shorter ones get their turn when it does not fit.
        std::vector<std::vector<std::size_t>> waiting;
        for (std::size_t at = 0; at < text.size(); ++at) {
            if (starts_[utf8::byte_at(&text[at])] == none) continue;
            const std::uint32_t rank = longest_at(text, at);
            if (rank == none) continue;
            if (waiting.empty()) waiting.resize(entries_.size());
            waiting[rank].push_back(at);
        }
        std::vector<Found> found;
        if (waiting.empty()) return found;
        std::vector<bool> taken(text.size());
        for (std::size_t rank = 0; rank < waiting.size(); ++rank) {
            const Entry& entry = entries_[rank];
            std::sort(waiting[rank].begin(), waiting[rank].end());
            for (const std::size_t at : waiting[rank]) {
                // What is placed already is at least as long, so an overlap shows at one of the two ends.
                if (taken[at]) continue;
                if (taken[at + entry.length - 1]) {
                    if (entry.shorter != none) waiting[entry.shorter].push_back(at);
                    continue;
                }
                std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(at), entry.length, true);
                found.push_back({at, entry.length, entry.token});
            }
        }
        std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.first < b.first; });
        return found;
    }

  private:
    static constexpr std::uint32_t none = 0xFFFFFFFF;

    /// A token; its index is its rank.
    struct Entry {
        TokenId token;
        std::size_t length;
        std::uint32_t shorter = none;  ///< rank of the longest other token that this one starts with
    };

    struct Node {
        std::uint32_t byte;
        std::uint32_t child = none, sibling = none;
        std::uint32_t rank = none;  ///< of the token that ends here
    };

    void add(std::string_view text, std::uint32_t rank) {
        std::uint32_t* link = &starts_[utf8::byte_at(text.data())];
        std::uint32_t node = none;
        for (const char& c : text) {
            const std::uint32_t byte = utf8::byte_at(&c);
            while (*link != none && nodes_[*link].byte != byte) link = &nodes_[*link].sibling;
            if (*link == none) {
                *link = static_cast<std::uint32_t>(nodes_.size());
                node = *link;
                nodes_.push_back({byte});
            } else {
                node = *link;
            }
            link = &nodes_[node].child;
        }
        nodes_[node].rank = rank;
    }

    /// Rank of the longest token that starts at `at` and is shorter than `limit`, or none.
    [[nodiscard]] std::uint32_t longest_at(std::string_view text, std::size_t at,
                                           std::size_t limit = std::string_view::npos) const noexcept {
        std::uint32_t longest = none;
        std::uint32_t node = starts_[utf8::byte_at(&text[at])];
        for (std::size_t length = 1; node != none && length < limit; ++length) {
            if (nodes_[node].rank != none) longest = nodes_[node].rank;
            if (at + length == text.size()) break;
            const std::uint32_t byte = utf8::byte_at(&text[at + length]);
            node = nodes_[node].child;
            while (node != none && nodes_[node].byte != byte) node = nodes_[node].sibling;
        }
        return longest;
    }

    [[nodiscard]] static std::array<std::uint32_t, 256> no_starts() noexcept {
        std::array<std::uint32_t, 256> a{};
        a.fill(none);
        return a;
    }

    std::array<std::uint32_t, 256> starts_ = no_starts();
    std::vector<Node> nodes_;
    std::vector<Entry> entries_;
};

}  // namespace detail::bpe

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/token_table.hpp -----------------------------------------------------------------------------------

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>


// ---- adainfer/tokenize/byte_spelling.hpp ---------------------------------------------------------------------------------

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// Byte-level vocabularies write every byte as one printable character: visible Latin-1 characters stand for
/// themselves, the other 68 bytes, in order, for U+0100 and up.
namespace detail::byte_spelling {

inline constexpr std::uint32_t first_substitute = 0x100;
inline constexpr std::size_t substitutes = 68;

[[nodiscard]] constexpr bool stands_for_itself(std::uint32_t byte) noexcept {
    return (byte >= 0x21U && byte <= 0x7EU) || (byte >= 0xA1U && byte <= 0xACU) || (byte >= 0xAEU && byte <= 0xFFU);
}

struct Tables {
    std::array<std::uint16_t, 256> code_of{};
    std::array<unsigned char, substitutes> byte_of{};  ///< index: code point - first_substitute
};

[[nodiscard]] constexpr Tables make_tables() noexcept {
    Tables t;
    std::size_t next = 0;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        if (stands_for_itself(byte)) {
            t.code_of[byte] = static_cast<std::uint16_t>(byte);
        } else {
            t.code_of[byte] = static_cast<std::uint16_t>(first_substitute + next);
            t.byte_of[next++] = static_cast<unsigned char>(byte);
        }
    }
    return t;
}

inline constexpr Tables tables = make_tables();

inline void append_spelled(std::string& out, std::string_view bytes) {
    for (const char& c : bytes) utf8::append(out, tables.code_of[utf8::byte_at(&c)]);
}

[[nodiscard]] inline std::string spelled(std::string_view bytes) {
    std::string out;
    append_spelled(out, bytes);
    return out;
}

/// Appends the bytes that `spelling` stands for; false, and nothing appended, where it is not a byte spelling.
[[nodiscard]] inline bool append_bytes(std::string& out, std::string_view spelling) {
    const std::size_t before = out.size();
    const char* p = spelling.data();
    const char* const end = p + spelling.size();
    while (p < end) {
        const utf8::Decoded d = utf8::decode(p, end);
        std::uint32_t byte = d.code;
        if (d.valid && d.code >= first_substitute && d.code < first_substitute + substitutes) {
            byte = tables.byte_of[d.code - first_substitute];
        } else if (!d.valid || !stands_for_itself(d.code)) {
            out.resize(before);
            return false;
        }
        out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
        p += d.length;
    }
    return true;
}

}  // namespace detail::byte_spelling

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/special_names.hpp ---------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <string_view>

namespace adainfer::inline v0 {

/// Tokens whose name says what they are for. Many files mark them as ordinary or user-defined, and then text
/// typed by a user could end a turn; they count as control tokens whatever the file says.
namespace detail::special_names {

/// Generation ends here.
inline constexpr std::array<std::string_view, 9> ends = {
    "<|im_end|>",     "<|endoftext|>", "<|eot_id|>",        "<|end|>",
    "<end_of_turn>",  "<|eom_id|>",    "<|end_of_text|>",   "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};

/// Parts of a fill-in-the-middle prompt.
inline constexpr std::array<std::string_view, 18> infill = {
    "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>",       "<|repo_name|>",    "<|file_sep|>",
    "<fim_prefix>",   "<fim_suffix>",   "<fim_middle>",   "<fim_pad>",         "<reponame>",       "<fim-prefix>",
    "<fim-suffix>",   "<fim-middle>",   "<fim-pad>",      "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>",
};

[[nodiscard]] constexpr bool is_end(std::string_view token) noexcept {
    return std::find(ends.begin(), ends.end(), token) != ends.end();
}

[[nodiscard]] constexpr bool is_control(std::string_view token) noexcept {
    return is_end(token) || std::find(infill.begin(), infill.end(), token) != infill.end();
}

}  // namespace detail::special_names

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/token_index.hpp -----------------------------------------------------------------------------------

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace adainfer::inline v0 {

namespace detail::bpe {

/// Hash from a token's text to its id. Keeps ids only and is given the texts at every call, so an object that
/// holds both can be copied and moved.
class TokenIndex {
  public:
    TokenIndex() = default;

    explicit TokenIndex(std::size_t tokens) : slots_(std::bit_ceil(tokens * 2 + 2), no_token) {}

    /// Puts in token `id` of `texts`; returns the id that already has this text, or no_token.
    TokenId insert(const std::vector<std::string>& texts, TokenId id) {
        const std::size_t slot = find_slot(texts, texts[static_cast<std::size_t>(id)]);
        if (slots_[slot] != no_token) return slots_[slot];
        slots_[slot] = id;
        return no_token;
    }

    [[nodiscard]] TokenId find(const std::vector<std::string>& texts, std::string_view text) const noexcept {
        return slots_[find_slot(texts, text)];
    }

  private:
    [[nodiscard]] std::size_t find_slot(const std::vector<std::string>& texts, std::string_view text) const noexcept {
        const std::size_t mask = slots_.size() - 1;
        std::size_t slot = std::hash<std::string_view>{}(text) & mask;
        while (slots_[slot] != no_token && texts[static_cast<std::size_t>(slots_[slot])] != text) {
            slot = (slot + 1) & mask;
        }
        return slot;
    }

    std::vector<TokenId> slots_ = std::vector<TokenId>(2, no_token);
};

}  // namespace detail::bpe

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/vocabulary.hpp ------------------------------------------------------------------------------------

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace adainfer::inline v0 {

/// The tokenizer part of a model file, as read and not yet checked: the constructor of Tokenizer does that.
struct TokenizerData {
    std::string model{};                      ///< kind of vocabulary; Tokenizer takes "gpt2" (byte-level BPE)
    std::string pre{};                        ///< name of the pre-tokenizer, e.g. "smollm"; empty is "default"
    std::vector<std::string> tokens{};        ///< texts in id order; ordinary tokens in the byte-level spelling
    std::vector<std::int32_t> token_types{};  ///< a TokenType for each token, or empty: all ordinary
    std::vector<std::string> merges{};        ///< "left right" in the byte-level spelling, most important first
    std::optional<TokenId> bos{}, eos{}, eot{}, unknown{}, padding{};
    bool add_bos = false;           ///< bos goes first; where the file is silent: pre_tokenizer_adds_bos(pre)
    bool add_space_prefix = false;  ///< kept for the record; byte-level BPE never adds one
    std::string chat_template{};
};

/// Values of TokenizerData::token_types, numbered as in GGUF.
enum class TokenType : std::int32_t {
    Undefined = 0,
    Normal = 1,
    Unknown = 2,
    Control = 3,      ///< recognised in text only where the caller allows it
    UserDefined = 4,  ///< always recognised in text, before any splitting
    Unused = 5,
    Byte = 6,  ///< spelled <0xHH>
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

namespace detail::bpe {

/// The tokens of a vocabulary: text, kind and bytes of each, and the way back from text to id.
class TokenTable {
  public:
    /// Throws Error(CorruptFile) for no tokens, two equal ones, types that do not fit, or a printable ASCII
    /// character, space or newline without a token. Other bytes may lack one: vocabularies in use do.
    TokenTable(std::vector<std::string> texts, const std::vector<std::int32_t>& types)
        : texts_(std::move(texts)), index_(texts_.size()) {
        if (texts_.empty()) fail(ErrorCode::CorruptFile, "the vocabulary has no tokens");
        if (texts_.size() > static_cast<std::size_t>((std::numeric_limits<TokenId>::max)())) {
            fail(ErrorCode::CorruptFile, "the vocabulary has ", texts_.size(), " tokens, more than ids can number");
        }
        if (!types.empty() && types.size() != texts_.size()) {
            fail(ErrorCode::CorruptFile, "the vocabulary has ", texts_.size(), " tokens but ", types.size(), " types");
        }
        kinds_.reserve(texts_.size());
        ends_.reserve(texts_.size());
        for (std::size_t i = 0; i < texts_.size(); ++i) {
            add(static_cast<TokenId>(i), types.empty() ? TokenType::Normal : checked_type(types[i], i));
        }
        find_bytes();
    }

    [[nodiscard]] std::size_t size() const noexcept { return texts_.size(); }

    [[nodiscard]] bool contains(TokenId id) const noexcept {
        return id >= 0 && static_cast<std::size_t>(id) < texts_.size();
    }

    [[nodiscard]] const std::vector<std::string>& texts() const noexcept { return texts_; }

    /// Requires contains(id), as do the next two.
    [[nodiscard]] TokenType type(TokenId id) const noexcept { return kinds_[static_cast<std::size_t>(id)].type; }
    [[nodiscard]] bool is_end(TokenId id) const noexcept { return kinds_[static_cast<std::size_t>(id)].end; }
    [[nodiscard]] std::string_view bytes(TokenId id) const noexcept {
        const auto i = static_cast<std::size_t>(id);
        const std::size_t first = i == 0 ? 0 : ends_[i - 1];
        return std::string_view(bytes_).substr(first, ends_[i] - first);
    }

    void mark_end(TokenId id) noexcept { kinds_[static_cast<std::size_t>(id)].end = true; }

    /// The id of a text in the vocabulary's own spelling, or no_token.
    [[nodiscard]] TokenId find(std::string_view text) const noexcept {
        return text.empty() ? no_token : index_.find(texts_, text);
    }

    /// The token of a single byte, or no_token.
    [[nodiscard]] TokenId byte_token(char byte) const noexcept { return byte_tokens_[utf8::byte_at(&byte)]; }

  private:
    struct Kind {
        TokenType type;
        bool end;
    };

    [[nodiscard]] static TokenType checked_type(std::int32_t type, std::size_t id) {
        if (type < 0 || type > 6) fail(ErrorCode::CorruptFile, "token ", id, " has the unknown type ", type);
        return static_cast<TokenType>(type);
    }

    void add(TokenId id, TokenType type) {
        const std::string& text = texts_[static_cast<std::size_t>(id)];
        if (!text.empty()) {  // an empty text is a hole that some converters leave; nothing can find it
            const TokenId twin = index_.insert(texts_, id);
            if (twin != no_token) fail(ErrorCode::CorruptFile, "tokens ", twin, " and ", id, " are both \"", text, '"');
        }
        const bool end = special_names::is_end(text);
        if (special_names::is_control(text)) type = TokenType::Control;
        kinds_.push_back({type, end});
        append_bytes(text, type);
        ends_.push_back(bytes_.size());
    }

    void append_bytes(std::string_view text, TokenType type) {
        const bool literal = type == TokenType::Control || type == TokenType::Unknown || type == TokenType::UserDefined;
        if (type == TokenType::Byte) {
            const int byte = parse_byte(text);
            if (byte < 0) fail(ErrorCode::CorruptFile, "byte token \"", text, "\" is not of the form <0xHH>");
            bytes_.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
        } else if (literal || !byte_spelling::append_bytes(bytes_, text)) {
            bytes_.append(text);
        }
    }

    [[nodiscard]] static int parse_byte(std::string_view text) noexcept {
        constexpr std::string_view digits = "0123456789ABCDEF";
        if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
        const std::size_t high = digits.find(text[3]), low = digits.find(text[4]);
        if (high == std::string_view::npos || low == std::string_view::npos) return -1;
        return static_cast<int>(high * 16 + low);
    }

    void find_bytes() {
        constexpr std::string_view hex = "0123456789ABCDEF";
        for (std::size_t b = 0; b < byte_tokens_.size(); ++b) {
            const char byte = static_cast<char>(static_cast<unsigned char>(b));
            byte_tokens_[b] = find(byte_spelling::spelled({&byte, 1}));
            const bool needed = b == '\n' || (b >= 0x20 && b <= 0x7E);
            if (needed && byte_tokens_[b] == no_token) {
                fail(ErrorCode::CorruptFile, "the vocabulary has no token for the byte 0x", hex[b / 16], hex[b % 16]);
            }
        }
    }

    std::vector<std::string> texts_;
    std::vector<Kind> kinds_;
    std::string bytes_;               ///< of all tokens, one after the other
    std::vector<std::size_t> ends_;   ///< where each token's bytes end
    TokenIndex index_;
    std::array<TokenId, 256> byte_tokens_{};
};

}  // namespace detail::bpe

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/word_merger.hpp -----------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace adainfer::inline v0 {

namespace detail::bpe {

/// Merges the symbols of one piece of text: always the pair of lowest rank, among equal ones the leftmost.
/// Holds the scratch memory, so one object serves many pieces; not shared between threads.
class WordMerger {
  public:
    explicit WordMerger(const MergeTable& merges) noexcept : merges_(&merges) {}
    explicit WordMerger(MergeTable&&) = delete;

    /// Longest piece that apply() takes.
    static constexpr std::size_t max_symbols = 0xFFFFFFFE;

    /// Appends what `count` symbols merge to. A no_token among them merges with nothing and is left out.
    void apply(const TokenId* symbols, std::size_t count, std::vector<TokenId>& out) {
        if (count <= short_word) {
            apply_short(symbols, count, out);
        } else {
            apply_long(symbols, count, out);
        }
    }

  private:
    // Up to here, looking at every pair for each merge is faster than a heap.
    static constexpr std::size_t short_word = 32;
    static constexpr std::uint32_t nowhere = 0xFFFFFFFF;

    struct Symbol {
        TokenId token;
        std::uint32_t previous, next;
    };

    struct Candidate {
        std::uint64_t order;  ///< rank, then position of the left symbol
        TokenId left, right, merged;
    };

    struct Later {
        bool operator()(const Candidate& a, const Candidate& b) const noexcept { return a.order > b.order; }
    };

    static void emit(TokenId token, std::vector<TokenId>& out) {
        if (token != no_token) out.push_back(token);
    }

    void apply_short(const TokenId* symbols, std::size_t count, std::vector<TokenId>& out) const {
        std::array<TokenId, short_word> tokens;
        std::array<Merge, short_word> pairs;  // pairs[i]: tokens i and i + 1
        std::copy(symbols, symbols + count, tokens.begin());
        for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = merges_->find(tokens[i], tokens[i + 1]);
        while (count > 1) {
            std::size_t best = 0;
            for (std::size_t i = 1; i + 1 < count; ++i) {
                if (pairs[i].rank < pairs[best].rank) best = i;
            }
            if (pairs[best].rank == no_rank) break;
            tokens[best] = pairs[best].token;
            --count;
            for (std::size_t i = best + 1; i < count; ++i) {
                tokens[i] = tokens[i + 1];
                pairs[i - 1] = pairs[i];
            }
            if (best + 1 < count) pairs[best] = merges_->find(tokens[best], tokens[best + 1]);
            if (best > 0) pairs[best - 1] = merges_->find(tokens[best - 1], tokens[best]);
        }
        for (std::size_t i = 0; i < count; ++i) emit(tokens[i], out);
    }

    void apply_long(const TokenId* symbols, std::size_t count, std::vector<TokenId>& out) {
        list_.resize(count);
        heap_.clear();
        for (std::size_t i = 0; i < count; ++i) {
            const auto at = static_cast<std::uint32_t>(i);
            list_[i] = {symbols[i], i == 0 ? nowhere : at - 1, i + 1 == count ? nowhere : at + 1};
            if (i > 0) add_candidate(at - 1, false);
        }
        std::make_heap(heap_.begin(), heap_.end(), Later{});
        while (!heap_.empty()) {
            std::pop_heap(heap_.begin(), heap_.end(), Later{});
            const Candidate best = heap_.back();
            heap_.pop_back();
            merge(best);
        }
        for (std::uint32_t i = 0; i != nowhere; i = list_[i].next) emit(list_[i].token, out);
    }

    void merge(const Candidate& candidate) {
        const auto at = static_cast<std::uint32_t>(candidate.order & 0xFFFFFFFFU);
        Symbol& left = list_[at];
        if (left.token != candidate.left || left.next == nowhere) return;
        Symbol& right = list_[left.next];
        if (right.token != candidate.right) return;
        left.token = candidate.merged;
        right.token = no_token;
        left.next = right.next;
        if (left.next != nowhere) list_[left.next].previous = at;
        add_candidate(at, true);
        if (left.previous != nowhere) add_candidate(left.previous, true);
    }

    void add_candidate(std::uint32_t at, bool keep_heap) {
        const Symbol& left = list_[at];
        if (left.next == nowhere) return;
        const TokenId right = list_[left.next].token;
        const Merge merge = merges_->find(left.token, right);
        if (merge.rank == no_rank) return;
        heap_.push_back({(std::uint64_t{merge.rank} << 32U) | at, left.token, right, merge.token});
        if (keep_heap) std::push_heap(heap_.begin(), heap_.end(), Later{});
    }

    const MergeTable* merges_;
    std::vector<Symbol> list_;
    std::vector<Candidate> heap_;
};

}  // namespace detail::bpe

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// What to do with bytes that are not UTF-8.
enum class InvalidUtf8 {
    Replace,  ///< encode each as U+FFFD, and overlong forms as the character they spell; agrees with llama.cpp
    Keep,     ///< encode the bytes themselves, so that decoding gives them back
};

/// What to do with bytes that the vocabulary has no token for, such as some control characters.
enum class MissingByte {
    Drop,   ///< leave them out; agrees with llama.cpp
    Throw,  ///< Error(UnknownToken)
};

struct EncodeOptions {
    bool parse_special = true;  ///< recognise control tokens in the text; off for text from untrusted users
    bool add_bos = false;       ///< put bos first; Tokenizer::adds_bos() tells whether the model expects it
    InvalidUtf8 invalid_utf8 = InvalidUtf8::Replace;
    MissingByte missing_byte = MissingByte::Drop;
};

/// Byte-level BPE between text and token ids. Immutable: const members may be called from many threads at once.
class Tokenizer {
  public:
    /// Checks and indexes the vocabulary. Throws Error(Unsupported) for a model other than "gpt2" or an unknown
    /// pre-tokenizer, and Error(CorruptFile), with the offender's name, for a vocabulary without tokens, equal
    /// tokens, ids out of range, missing byte tokens, and merges that are malformed, repeated or name a token
    /// that is not there.
    explicit Tokenizer(TokenizerData data)
        : splitter_(checked_splitter(data)),
          table_(std::move(data.tokens), data.token_types),
          merges_(make_merges(table_, data.merges)),
          bos_(checked_id(data.bos, "bos")),
          eos_(checked_id(data.eos, "eos")),
          eot_(checked_id(data.eot, "eot")),
          unknown_(checked_id(data.unknown, "unknown")),
          padding_(checked_id(data.padding, "padding")),
          adds_bos_(data.add_bos),
          chat_template_(std::move(data.chat_template)) {
        if (eos_) table_.mark_end(*eos_);
        if (eot_) table_.mark_end(*eot_);
        std::vector<TokenId> always, all;
        for (std::size_t i = 0; i < table_.size(); ++i) {
            const auto id = static_cast<TokenId>(i);
            if (table_.texts()[i].empty()) continue;
            if (table_.type(id) == TokenType::UserDefined) always.push_back(id);
            if (table_.type(id) == TokenType::UserDefined || is_special(id)) all.push_back(id);
        }
        user_defined_ = detail::bpe::SpecialTokens(table_.texts(), std::move(always));
        in_text_ = detail::bpe::SpecialTokens(table_.texts(), std::move(all));
    }

    /// Throws Error(InvalidArgument) for add_bos without a bos token, and Error(UnknownToken) as MissingByte says.
    [[nodiscard]] std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const {
        std::vector<TokenId> ids;
        ids.reserve(text.size() / 3 + 1);
        if (options.add_bos) {
            if (!bos_) fail(ErrorCode::InvalidArgument, "add_bos, but the vocabulary has no bos token");
            ids.push_back(*bos_);
        }
        Encoder encoder{*this, options, ids, detail::bpe::WordMerger(merges_), {}, {}};
        const detail::bpe::SpecialTokens& specials = options.parse_special ? in_text_ : user_defined_;
        std::size_t done = 0;
        if (!specials.empty()) {
            for (const auto& found : specials.find_in(text)) {
                encoder.plain(text.substr(done, found.first - done));
                ids.push_back(found.token);
                done = found.first + found.length;
            }
        }
        encoder.plain(text.substr(done));
        return ids;
    }

    /// The bytes of the tokens; not always UTF-8 as a whole, see StreamDecoder for that. Throws
    /// Error(UnknownToken) for an id outside the vocabulary.
    [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool skip_special = false) const {
        std::string text;
        for (const TokenId id : ids) {
            const std::string_view bytes = token_bytes(id);
            if (!skip_special || !is_special(id)) text.append(bytes);
        }
        return text;
    }

    /// What the token stands for, valid as long as this object is neither moved nor destroyed. Throws
    /// Error(UnknownToken) for an id outside the vocabulary.
    [[nodiscard]] std::string_view token_bytes(TokenId id) const {
        if (!table_.contains(id)) {
            fail(ErrorCode::UnknownToken, "token ", id, " in a vocabulary of ", table_.size());
        }
        return table_.bytes(id);
    }

    /// The token of this text in the spelling of the vocabulary, where "Ġ" is a space.
    [[nodiscard]] std::optional<TokenId> find(std::string_view token) const noexcept {
        const TokenId id = table_.find(token);
        return id == no_token ? std::nullopt : std::optional<TokenId>(id);
    }

    [[nodiscard]] std::size_t vocab_size() const noexcept { return table_.size(); }

    /// A control or unknown token, which stands for no text. False for ids outside the vocabulary.
    [[nodiscard]] bool is_special(TokenId id) const noexcept {
        if (!table_.contains(id)) return false;
        const TokenType type = table_.type(id);
        return type == TokenType::Control || type == TokenType::Unknown;
    }

    /// eos, eot and tokens whose name says that a turn or a text ends. False for ids outside the vocabulary.
    [[nodiscard]] bool is_end_of_generation(TokenId id) const noexcept {
        return table_.contains(id) && table_.is_end(id);
    }

    [[nodiscard]] std::optional<TokenId> bos() const noexcept { return bos_; }
    [[nodiscard]] std::optional<TokenId> eos() const noexcept { return eos_; }
    [[nodiscard]] std::optional<TokenId> eot() const noexcept { return eot_; }
    [[nodiscard]] std::optional<TokenId> unknown() const noexcept { return unknown_; }
    [[nodiscard]] std::optional<TokenId> padding() const noexcept { return padding_; }

    /// Whether the model expects bos in front of a text.
    [[nodiscard]] bool adds_bos() const noexcept { return adds_bos_; }

    /// The model's own template source; empty where the file has none.
    [[nodiscard]] const std::string& chat_template() const noexcept { return chat_template_; }

  private:
    /// One call of encode().
    struct Encoder {
        const Tokenizer& tokenizer;
        const EncodeOptions& options;
        std::vector<TokenId>& ids;
        detail::bpe::WordMerger merger;
        std::vector<TokenId> symbols;
        std::string spelling;

        /// Text without tokens written out in it.
        void plain(std::string_view text) {
            const char* const end = text.data() + text.size();
            if (options.invalid_utf8 == InvalidUtf8::Replace && detail::utf8::find_invalid(text.data(), end) != end) {
                split(detail::utf8::repair(text));
            } else {
                split(text);
            }
        }

        void split(std::string_view text) {
            detail::pre_tokenizer::run(tokenizer.splitter_.kind, text, [this](const char* first, const char* last) {
                piece({first, static_cast<std::size_t>(last - first)});
            });
        }

        void piece(std::string_view bytes) {
            if (tokenizer.splitter_.whole_words) {
                spelling.clear();
                detail::byte_spelling::append_spelled(spelling, bytes);
                const TokenId whole = tokenizer.table_.find(spelling);
                if (whole != no_token) {
                    ids.push_back(whole);
                    return;
                }
            }
            if (bytes.size() > detail::bpe::WordMerger::max_symbols) {
                fail(ErrorCode::InvalidArgument, "a word of ", bytes.size(), " bytes");
            }
            if (symbols.size() < bytes.size()) symbols.resize(bytes.size());
            for (std::size_t i = 0; i < bytes.size(); ++i) {
                symbols[i] = tokenizer.table_.byte_token(bytes[i]);
                if (symbols[i] == no_token && options.missing_byte == MissingByte::Throw) {
                    fail(ErrorCode::UnknownToken, "the vocabulary has no token for the byte ",
                         detail::utf8::byte_at(&bytes[i]));
                }
            }
            merger.apply(symbols.data(), bytes.size(), ids);
        }
    };

    [[nodiscard]] static detail::pre_tokenizer::Name checked_splitter(const TokenizerData& data) {
        if (data.model != "gpt2") {
            fail(ErrorCode::Unsupported, "tokenizer model \"", data.model, "\"; supported: gpt2 (byte-level BPE)");
        }
        return detail::pre_tokenizer::find(data.pre);
    }

    [[nodiscard]] std::optional<TokenId> checked_id(std::optional<TokenId> id, std::string_view what) const {
        if (id && !table_.contains(*id)) {
            fail(ErrorCode::CorruptFile, "the ", what, " token is ", *id, " in a vocabulary of ", table_.size());
        }
        return id;
    }

    [[nodiscard]] static detail::bpe::MergeTable make_merges(const detail::bpe::TokenTable& table,
                                                             const std::vector<std::string>& merges) {
        if (merges.size() >= detail::bpe::no_rank) fail(ErrorCode::CorruptFile, merges.size(), " merges");
        detail::bpe::MergeTable result(merges.size());
        std::string joined;
        for (std::size_t i = 0; i < merges.size(); ++i) {
            const std::string_view merge = merges[i];
            const std::size_t blank = merge.find(' ');
            if (blank == 0 || blank == std::string_view::npos || blank + 1 == merge.size() ||
                merge.find(' ', blank + 1) != std::string_view::npos) {
                fail(ErrorCode::CorruptFile, "merge ", i, " \"", merge, "\" is not two tokens with a space between");
            }
            const auto id_of = [&](std::string_view text) {
                const TokenId id = table.find(text);
                if (id == no_token) {
                    fail(ErrorCode::CorruptFile, "merge ", i, " \"", merge, "\" names \"", text, "\", not a token");
                }
                return id;
            };
            const TokenId left = id_of(merge.substr(0, blank)), right = id_of(merge.substr(blank + 1));
            joined.assign(merge.substr(0, blank)).append(merge.substr(blank + 1));
            if (!result.insert(left, right, {static_cast<std::uint32_t>(i), id_of(joined)})) {
                fail(ErrorCode::CorruptFile, "merge ", i, " \"", merge, "\" is there twice");
            }
        }
        return result;
    }

    detail::pre_tokenizer::Name splitter_;
    detail::bpe::TokenTable table_;
    detail::bpe::MergeTable merges_;
    std::optional<TokenId> bos_, eos_, eot_, unknown_, padding_;
    bool adds_bos_;
    std::string chat_template_;
    detail::bpe::SpecialTokens user_defined_;  ///< recognised always
    detail::bpe::SpecialTokens in_text_;       ///< recognised where parse_special is on: those and the control ones
};

}  // namespace adainfer::inline v0

// ---- adainfer/tokenize/stream_decoder.hpp --------------------------------------------------------------------------------

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// Turns tokens into text one at a time. A character may be spread over several tokens; what comes out is always
/// whole characters, with U+FFFD for bytes that cannot be part of one. For one thread; keeps a pointer to the
/// tokenizer, which must outlive it and stay in place.
class StreamDecoder {
  public:
    explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false) noexcept
        : tokenizer_(&tokenizer), skip_special_(skip_special) {}
    explicit StreamDecoder(Tokenizer&&, bool = false) = delete;

    /// The text that is complete with this token; often empty. Throws Error(UnknownToken) for an id outside the
    /// vocabulary, and then nothing has changed.
    [[nodiscard]] std::string push(TokenId id) {
        const std::string_view bytes = tokenizer_->token_bytes(id);
        if (skip_special_ && tokenizer_->is_special(id)) return {};
        tail_.append(bytes);
        return take(false);
    }

    /// The rest, with U+FFFD for an incomplete character. The decoder is then as new.
    [[nodiscard]] std::string finish() { return take(true); }

  private:
    /// Bytes of the sequence at `p` that fit the definition of UTF-8 so far.
    struct Prefix {
        std::size_t length;
        bool complete;
        bool cut_off;  ///< the text ends inside the sequence
    };

    [[nodiscard]] static Prefix prefix_at(const char* p, const char* end) noexcept {
        const std::uint32_t lead = detail::utf8::byte_at(p);
        const std::size_t length = detail::utf8::announced_length(lead);
        if (length == 1) return {1, true, false};
        if (length == 0 || lead < 0xC2U || lead > 0xF4U) return {1, false, false};
        for (std::size_t i = 1; i < length; ++i) {
            if (p + i == end) return {i, false, true};
            const std::uint32_t byte = detail::utf8::byte_at(p + i);
            // The second byte tells overlong forms, surrogates and what is beyond U+10FFFF.
            const bool narrow = i == 1 && ((lead == 0xE0U && byte < 0xA0U) || (lead == 0xEDU && byte > 0x9FU) ||
                                           (lead == 0xF0U && byte < 0x90U) || (lead == 0xF4U && byte > 0x8FU));
            if (narrow || !detail::utf8::is_continuation(byte)) return {i, false, false};
        }
        return {length, true, false};
    }

    std::string take(bool all) {
        std::string text;
        const char* p = tail_.data();
        const char* const end = p + tail_.size();
        while (p < end) {
            const Prefix prefix = prefix_at(p, end);
            if (prefix.cut_off && !all) break;
            if (prefix.complete) {
                text.append(p, prefix.length);
            } else {
                detail::utf8::append(text, detail::utf8::replacement);
            }
            p += prefix.length;
        }
        tail_.erase(0, static_cast<std::size_t>(p - tail_.data()));
        return text;
    }

    const Tokenizer* tokenizer_;
    bool skip_special_;
    std::string tail_;  ///< at most three bytes between calls
};

}  // namespace adainfer::inline v0

// ---- adainfer/generate/chat.hpp ------------------------------------------------------------------------------------------

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// One turn of a conversation.
struct ChatMessage {
    std::string role;  ///< "system", "user" or "assistant"
    std::string content;
};

namespace detail::chat {

/// The literal text between `begin` and `end` in a template, its \n escapes resolved; empty where there is none or where it
/// holds an expression.
[[nodiscard]] inline std::string literal_between(std::string_view source, std::string_view begin, std::string_view end) {
    for (std::size_t at = source.find(begin); at != std::string_view::npos; at = source.find(begin, at + 1)) {
        const std::size_t first = at + begin.size(), last = source.find(end, first);
        if (last == std::string_view::npos) return {};
        const std::string_view raw = source.substr(first, last - first);
        if (raw.find_first_of("'\"{}") != std::string_view::npos) continue;  // the string ends before `end`
        std::string text;
        for (std::size_t i = 0; i < raw.size(); ++i) {
            const bool newline = raw[i] == '\\' && i + 1 < raw.size() && raw[i + 1] == 'n';
            text += newline ? '\n' : raw[i];
            i += newline ? 1 : 0;
        }
        return text;
    }
    return {};
}

/// <|im_start|>role NEWLINE content<|im_end|> NEWLINE; some templates begin with a system message of their own where the
/// conversation has none.
inline std::string render_chatml(std::string_view source, std::span<const ChatMessage> messages, bool add_generation_prompt) {
    std::string text;
    const auto add = [&](std::string_view role, std::string_view content) {
        text.append("<|im_start|>").append(role).append("\n").append(content).append("<|im_end|>\n");
    };
    if (messages.empty() || messages.front().role != "system") {
        std::string preset = literal_between(source, "<|im_start|>system", "<|im_end|>");
        if (!preset.empty() && preset.front() == '\n' && !messages.empty()) add("system", preset.substr(1));
    }
    for (const ChatMessage& message : messages) add(message.role, message.content);
    if (add_generation_prompt) text.append("<|im_start|>assistant\n");
    return text;
}

/// A template's source in one spelling: no blanks, strings in single quotes and joined, line breaks as \n, fields as x.role.
[[nodiscard]] inline std::string normalised(std::string_view source) {
    std::string text;
    for (const char c : source) {
        if (c == '\n') text += "\\n";
        else if (c != ' ') text += c == '"' ? '\'' : c;
    }
    const auto replace = [&](std::string_view from, std::string_view to) {
        for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
            text.replace(at, from.size(), to);
        }
    };
    replace("['role']", ".role");
    replace("['content']", ".content");
    replace("'+'", "");
    return text;
}

/// A family of templates: recognised by what its normalised source holds, and by what it must not hold, because that stands
/// for something that render() does not do.
struct Family {
    std::string_view name;
    std::array<std::string_view, 2> parts;
    std::array<std::string_view, 6> foreign;
    std::string (*render)(std::string_view source, std::span<const ChatMessage> messages, bool add_generation_prompt);
};

inline constexpr std::array families{
    Family{"ChatML",
           {R"('<|im_start|>'+message.role+'\n'+message.content+'<|im_end|>\n')", R"('<|im_start|>assistant\n')"},
           {"tool", "think", "trim", "strip", "bos_token", "raise_exception"}, render_chatml},
};

[[nodiscard]] inline const Family* find_family(std::string_view source) {
    const std::string text = normalised(source);
    const auto holds = [&](std::string_view part) { return text.find(part) != std::string::npos; };
    for (const Family& family : families) {
        bool fits = true;
        for (const std::string_view part : family.parts) fits = fits && holds(part);
        for (const std::string_view part : family.foreign) fits = fits && !holds(part);
        if (fits) return &family;
    }
    return nullptr;
}

}  // namespace detail::chat

/// True where render_chat() knows the template.
[[nodiscard]] inline bool knows_chat_template(std::string_view source) {
    return detail::chat::find_family(source) != nullptr;
}

/// The conversation as the text that the model was trained on; with add_generation_prompt it ends where the assistant's
/// answer begins. `source` is the model's own template, Tokenizer::chat_template(). Encode the result with parse_special.
/// Contents are put in as they are: special tokens written out in them become such tokens, so take care with text from others.
/// Throws Unsupported for a template of no known family, InvalidArgument for a conversation without messages.
[[nodiscard]] inline std::string render_chat(std::string_view source, std::span<const ChatMessage> messages,
                                             bool add_generation_prompt = true) {
    if (source.empty()) fail(ErrorCode::Unsupported, "the model has no chat template: it was not trained to chat");
    const detail::chat::Family* const family = detail::chat::find_family(source);
    if (family == nullptr) {
        std::string names;
        for (const auto& known : detail::chat::families) names.append(names.empty() ? "" : ", ").append(known.name);
        fail(ErrorCode::Unsupported, "the model's chat template is of no known family (known: ", names, "); it begins \"",
             source.substr(0, 60), "\"");
    }
    if (messages.empty()) fail(ErrorCode::InvalidArgument, "a conversation needs at least one message");
    return family->render(source, messages, add_generation_prompt);
}

/// The same with the template of a model's tokenizer.
[[nodiscard]] inline std::string render_chat(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                             bool add_generation_prompt = true) {
    return render_chat(std::string_view(tokenizer.chat_template()), messages, add_generation_prompt);
}

}  // namespace adainfer::inline v0

// ---- adainfer/generate/classify.hpp --------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>


// ---- adainfer/generate/score.hpp -----------------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace adainfer::inline v0 {

/// How likely the dense model finds a text, in nats.
struct Score {
    double log_probability = 0;                     ///< of all tokens together
    std::vector<double> token_log_probabilities;    ///< of each, given what stands before it
};

namespace detail {
/// ln softmax(logits) of a token. The caller has top_two(logits) at hand.
[[nodiscard]] inline double log_probability(std::span<const float> logits, const TopTwo& top, TokenId token) {
    return static_cast<double>(logits[static_cast<std::size_t>(token)]) - static_cast<double>(logits[top.top]) +
           std::log(static_cast<double>(top.top_probability));
}

/// Puts a session back to the length it had.
class RewindAtEnd {
  public:
    explicit RewindAtEnd(Session& session) : session_(session), length_(session.length()) {}
    RewindAtEnd(const RewindAtEnd&) = delete;
    RewindAtEnd& operator=(const RewindAtEnd&) = delete;
    ~RewindAtEnd() { session_.cache.set_length(length_); }

  private:
    Session& session_;
    std::size_t length_;
};

inline void require_tokens(std::span<const TokenId> tokens, std::size_t vocabulary) {
    for (const TokenId token : tokens) {
        if (token < 0 || static_cast<std::size_t>(token) >= vocabulary) {
            fail(ErrorCode::UnknownToken, "token ", token, " is outside the vocabulary of ", vocabulary);
        }
    }
}

inline void add(Score& score, double log_probability) {
    score.token_log_probabilities.push_back(log_probability);
    score.log_probability += log_probability;
}

/// Adds the tokens of `continuation` after its first one, which the session does not hold yet.
template <class Model>
void score_rest(const Model& model, Session& session, std::span<const TokenId> continuation, Score& score,
                const RunOptions& options) {
    if (continuation.size() < 2) return;
    const auto visit = [&](std::size_t t, std::span<const float> logits) {
        add(score, log_probability(logits, top_two(logits), continuation[t + 1]));
    };
    model.for_each_logits(session, continuation.first(continuation.size() - 1), visit, options);
}
}  // namespace detail

/// How likely `continuation` is after the session's positions and `prompt`, at full depth whatever the policy. The session
/// stays as it was. Throws InvalidArgument (either is empty) and what Model::prefill throws; the last token of the
/// continuation needs no room.
template <class Model>
[[nodiscard]] Score score(const Model& model, Session& session, std::span<const TokenId> prompt,
                          std::span<const TokenId> continuation, const RunOptions& options = {}) {
    if (continuation.empty()) fail(ErrorCode::InvalidArgument, "score: the continuation is empty");
    detail::require_tokens(continuation, model.config().vocabulary);
    const detail::RewindAtEnd rewind(session);
    const Prediction next = model.prefill_and_predict(session, prompt, options);
    Score result;
    detail::add(result, detail::log_probability(next.logits, top_two(next.logits), continuation[0]));
    detail::score_rest(model, session, continuation, result, options);
    return result;
}

/// How likely tokens[1], tokens[2], ... are, each after the session's positions and the tokens before it, at full depth.
/// -log_probability / (tokens.size() - 1) is the mean negative log-likelihood, its exponential the perplexity. The session
/// stays as it was. Throws InvalidArgument (fewer than two tokens) and what Model::prefill throws.
template <class Model>
[[nodiscard]] Score log_likelihood(const Model& model, Session& session, std::span<const TokenId> tokens,
                                   const RunOptions& options = {}) {
    if (tokens.size() < 2) {
        fail(ErrorCode::InvalidArgument, "log_likelihood: two tokens or more are needed, found ", tokens.size());
    }
    detail::require_tokens(tokens, model.config().vocabulary);
    Score result;
    result.token_log_probabilities.reserve(tokens.size() - 1);
    detail::score_rest(model, session, tokens, result, options);
    return result;
}

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// The answers that a classification chooses from, as token sequences. A label is the text exactly as it continues the
/// prompt, so mostly with a leading space: " positive" after "Sentiment:".
class LabelSet {
  public:
    /// Throws InvalidArgument, naming the label: no labels, an empty one, the same one twice, or one that begins another
    /// (it is always at least as likely as the longer one, which could never be chosen). Throws UnknownToken where the
    /// vocabulary cannot express a label.
    LabelSet(const Tokenizer& tokenizer, std::vector<std::string> labels) : names_(std::move(labels)) {
        tokens_.reserve(names_.size());
        for (const std::string& name : names_) {
            tokens_.push_back(tokenizer.encode(name, {.parse_special = false, .missing_byte = MissingByte::Throw}));
        }
        check();
    }

    /// From token sequences; the names, for messages, may be left out. Throws InvalidArgument as above.
    [[nodiscard]] static LabelSet from_tokens(std::vector<std::vector<TokenId>> tokens, std::vector<std::string> names = {}) {
        LabelSet set;
        set.tokens_ = std::move(tokens);
        set.names_ = std::move(names);
        if (set.names_.empty()) {
            for (std::size_t i = 0; i < set.size(); ++i) set.names_.push_back("label " + std::to_string(i));
        }
        if (set.names_.size() != set.size()) {
            fail(ErrorCode::InvalidArgument, "a label set of ", set.size(), " token sequences got ", set.names_.size(), " names");
        }
        set.check();
        return set;
    }

    [[nodiscard]] std::size_t size() const noexcept { return tokens_.size(); }
    [[nodiscard]] const std::string& name(std::size_t label) const { return names_[label]; }
    [[nodiscard]] std::span<const TokenId> tokens(std::size_t label) const { return tokens_[label]; }

    /// The first token of each label.
    [[nodiscard]] std::span<const TokenId> first_tokens() const noexcept { return first_; }

    /// True where the first tokens tell the labels apart: then one next-token prediction decides.
    [[nodiscard]] bool distinct() const noexcept { return distinct_; }

  private:
    LabelSet() = default;

    void check() {
        if (tokens_.empty()) fail(ErrorCode::InvalidArgument, "a label set needs at least one label");
        for (std::size_t i = 0; i < tokens_.size(); ++i) {
            if (tokens_[i].empty()) fail(ErrorCode::InvalidArgument, "label ", i, " is empty");
            if (std::find(first_.begin(), first_.end(), tokens_[i][0]) != first_.end()) distinct_ = false;
            first_.push_back(tokens_[i][0]);
            for (std::size_t j = 0; j < i; ++j) {
                if (tokens_[j].size() <= tokens_[i].size()) check_pair(j, i);
                else check_pair(i, j);
            }
        }
    }

    void check_pair(std::size_t shorter, std::size_t longer) const {
        if (!std::equal(tokens_[shorter].begin(), tokens_[shorter].end(), tokens_[longer].begin())) return;
        if (tokens_[shorter].size() == tokens_[longer].size()) {
            fail(ErrorCode::InvalidArgument, "the label '", names_[longer], "' stands twice");
        }
        fail(ErrorCode::InvalidArgument, "the label '", names_[shorter], "' begins '", names_[longer],
             "', which could never be chosen: end both with what follows them, e.g. a line break");
    }

    std::vector<std::string> names_;
    std::vector<std::vector<TokenId>> tokens_;
    std::vector<TokenId> first_;
    bool distinct_ = true;
};

struct Classification {
    std::size_t label = 0;             ///< index of the likeliest label
    std::vector<float> probabilities;  ///< [labels], relative to each other: they sum to 1
    std::size_t exit_layer = 0;        ///< layers run, 1 to layers
    std::size_t layers = 0;            ///< layers of the model
    std::size_t checks = 0;            ///< how often the policy was consulted
};

namespace detail {
template <class Model>
Classification classify_by_first_token(const Model& model, Session& session, std::span<const TokenId> prompt,
                                       const LabelSet& labels, const RunOptions& options) {
    const std::span<const TokenId> candidates = labels.first_tokens();
    const Prediction prediction = model.predict(session, prompt, candidates, options);
    Classification result{0, {}, prediction.exit_layer, prediction.layers, prediction.checks};
    for (const TokenId candidate : candidates) {
        auto column = static_cast<std::size_t>(candidate);
        if (!prediction.columns.empty()) {
            const auto found = std::find(prediction.columns.begin(), prediction.columns.end(), candidate);
            if (found == prediction.columns.end()) {
                fail(ErrorCode::InvalidArgument, "the policy's head computed no logit for the candidate token ", candidate);
            }
            column = static_cast<std::size_t>(std::distance(prediction.columns.begin(), found));
        }
        result.probabilities.push_back(prediction.logits[column]);
    }
    softmax(result.probabilities.data(), result.probabilities.size());
    const auto best = std::find(candidates.begin(), candidates.end(), prediction.token);
    result.label = static_cast<std::size_t>(std::distance(candidates.begin(), best));
    return result;
}

template <class Model>
Classification classify_by_score(const Model& model, Session& session, std::span<const TokenId> prompt, const LabelSet& labels,
                                 const RunOptions& options) {
    for (std::size_t i = 0; i < labels.size(); ++i) require_tokens(labels.tokens(i), model.config().vocabulary);
    const RewindAtEnd rewind(session);
    std::vector<Score> scores(labels.size());
    const Prediction next = model.prefill_and_predict(session, prompt, options);
    const TopTwo top = top_two(next.logits);
    for (std::size_t i = 0; i < labels.size(); ++i) {
        add(scores[i], log_probability(next.logits, top, labels.first_tokens()[i]));
    }
    const RunOptions silent{.stop = options.stop, .progress = {}};  // progress counts the prompt only
    for (std::size_t i = 0; i < labels.size(); ++i) score_rest(model, session, labels.tokens(i), scores[i], silent);

    const auto best = std::max_element(scores.begin(), scores.end(),
                                       [](const Score& a, const Score& b) { return a.log_probability < b.log_probability; });
    Classification result{static_cast<std::size_t>(best - scores.begin()), {}, next.layers, next.layers, 0};
    for (const Score& score : scores) {
        result.probabilities.push_back(static_cast<float>(score.log_probability - best->log_probability));
    }
    softmax(result.probabilities.data(), result.probabilities.size());
    return result;
}
}  // namespace detail

/// Which label follows the session's positions and `prompt`. Where the first tokens tell the labels apart it is the likeliest
/// first token, as deep as the exit policy lets the prompt run; otherwise the likeliest whole label, at full depth. The session
/// stays as it was: run a few-shot prefix once with Model::prefill and classify many prompts after it.
/// Throws what Model::predict throws.
template <class Model>
[[nodiscard]] Classification classify(const Model& model, Session& session, std::span<const TokenId> prompt,
                                      const LabelSet& labels, const RunOptions& options = {}) {
    return labels.distinct() ? detail::classify_by_first_token(model, session, prompt, labels, options)
                             : detail::classify_by_score(model, session, prompt, labels, options);
}

/// The same for text; bos goes first where the session is empty and the model expects it. Special tokens written out in the
/// text are not recognised as such.
template <class Model>
[[nodiscard]] Classification classify(const Model& model, Session& session, const Tokenizer& tokenizer, std::string_view prompt,
                                      const LabelSet& labels, const RunOptions& options = {}) {
    const bool add_bos = session.length() == 0 && tokenizer.adds_bos();
    return classify(model, session, tokenizer.encode(prompt, {.parse_special = false, .add_bos = add_bos}), labels, options);
}

}  // namespace adainfer::inline v0

// ---- adainfer/generate/generate.hpp --------------------------------------------------------------------------------------

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>


// ---- adainfer/generate/sampler.hpp ---------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <random>
#include <span>
#include <vector>

namespace adainfer::inline v0 {

/// How a token is drawn from logits. The steps run in this order, which is that of Hugging Face's `generate`: temperature,
/// top_k, top_p, min_p. (llama.cpp applies the temperature last: there top_p and min_p see unscaled probabilities.)
struct SamplingOptions {
    float temperature = 0;  ///< logits are divided by it; 0: greedy, the largest logit, and the rest is ignored
    std::size_t top_k = 0;  ///< only the k largest logits; 0: all
    float top_p = 1;        ///< only the likeliest tokens that together reach this probability, (0, 1]
    float min_p = 0;        ///< only tokens at least this fraction as likely as the likeliest, [0, 1]
};

/// Throws InvalidArgument, naming the option that is out of range.
inline void validate(const SamplingOptions& options) {
    if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
        fail(ErrorCode::InvalidArgument, "temperature must be finite and at least 0, found ", options.temperature);
    }
    if (!(options.top_p > 0 && options.top_p <= 1)) {
        fail(ErrorCode::InvalidArgument, "top_p must be in (0, 1], found ", options.top_p);
    }
    if (!(options.min_p >= 0 && options.min_p <= 1)) {
        fail(ErrorCode::InvalidArgument, "min_p must be in [0, 1], found ", options.min_p);
    }
}

namespace detail {
/// A number in [0, 1) from as many draws as give 53 bits. The distributions of <random> differ between standard libraries;
/// this does not.
template <std::uniform_random_bit_generator G>
[[nodiscard]] double uniform(G& generator) {
    constexpr double range = static_cast<double>((G::max)() - (G::min)()) + 1.0;
    double value = 0, scale = 1;
    do {
        value += static_cast<double>(generator() - (G::min)()) * scale;
        scale *= range;
    } while (scale < 0x1p53);
    return (std::min)(value / scale, 1.0 - 0x1p-53);
}
}  // namespace detail

/// Draws tokens and keeps its scratch, so that the second draw from a row of the same size allocates nothing. For one thread
/// at a time.
///
/// Equal logits and an equal state of the generator give an equal token, whatever the standard library. (Logits themselves
/// differ in their last bits between backends and compilers.)
class Sampler {
  public:
    /// Throws InvalidArgument as validate() does.
    explicit Sampler(const SamplingOptions& options = {}) : options_(options) { validate(options); }

    [[nodiscard]] const SamplingOptions& options() const noexcept { return options_; }

    /// The index of the drawn logit; of equal logits the lower index is the likelier to stay. Greedy draws nothing from the
    /// generator. Throws NotFinite (NaN or +infinity; -infinity is a logit that is never drawn), InvalidArgument (empty row).
    template <std::uniform_random_bit_generator G>
    [[nodiscard]] TokenId operator()(std::span<const float> logits, G& generator) {
        const std::size_t top = top_two(logits).top;
        if (options_.temperature == 0) return static_cast<TokenId>(top);

        scale(logits, logits[top]);
        if (options_.top_k != 0 && options_.top_k < items_.size()) {
            const auto kept = static_cast<std::ptrdiff_t>(options_.top_k);
            std::partial_sort(items_.begin(), items_.begin() + kept, items_.end(), likelier);
            items_.resize(options_.top_k);
        }
        const double enough = options_.top_p < 1 ? static_cast<double>(options_.top_p) * total() : 0;
        // The tokens that pass min_p are the first ones in order of likelihood, as are those that pass top_p: dropping them
        // first leaves less to order.
        std::erase_if(items_, [&](const Item& item) { return item.weight < options_.min_p; });
        if (options_.top_p < 1) keep_top(enough);

        const double target = detail::uniform(generator) * total();
        double sum = 0;
        for (const Item& item : items_) {
            sum += static_cast<double>(item.weight);
            if (sum > target) return item.index;
        }
        return items_.back().index;  // the sum of all may round to the target
    }

  private:
    struct Item {
        float weight;  // probability relative to the likeliest token's
        TokenId index;
    };

    static bool likelier(const Item& a, const Item& b) noexcept {
        return a.weight != b.weight ? a.weight > b.weight : a.index < b.index;
    }

    void scale(std::span<const float> logits, float largest) {
        items_.resize(logits.size());
        for (std::size_t i = 0; i < logits.size(); ++i) {
            items_[i] = {exp_approx((logits[i] - largest) / options_.temperature), static_cast<TokenId>(i)};
        }
    }

    [[nodiscard]] double total() const noexcept {
        double sum = 0;
        for (const Item& item : items_) sum += static_cast<double>(item.weight);
        return sum;
    }

    /// Keeps the likeliest items, in order, until their weights reach `enough`. A heap, because few are wanted of many.
    void keep_top(double enough) {
        const auto less_likely = [](const Item& a, const Item& b) { return likelier(b, a); };
        std::make_heap(items_.begin(), items_.end(), less_likely);
        auto end = items_.end();
        for (double sum = 0; end != items_.begin() && sum < enough; --end) {
            sum += static_cast<double>(items_.front().weight);
            std::pop_heap(items_.begin(), end, less_likely);
        }
        std::reverse(end, items_.end());  // popped from the back: likeliest last
        items_.erase(items_.begin(), end);
    }

    SamplingOptions options_;
    std::vector<Item> items_;
};

/// One draw. Throws as Sampler does. To draw many, keep a Sampler: it reuses its memory.
template <std::uniform_random_bit_generator G>
[[nodiscard]] TokenId sample(std::span<const float> logits, const SamplingOptions& options, G& generator) {
    return Sampler(options)(logits, generator);
}

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// What a callback wants next.
enum class Flow { Continue, Stop };

/// One token as it is delivered.
struct GeneratedToken {
    TokenId token = no_token;
    std::size_t exit_layer = 0;  ///< layers that ran to choose it; the first token follows the prompt and takes all
    std::size_t layers = 0;      ///< layers of the model
    std::size_t checks = 0;      ///< how often the exit policy was consulted
};

struct GenerateOptions {
    std::size_t max_new_tokens = 128;
    SamplingOptions sampling{};
    std::uint64_t seed = 0;                  ///< of the generator, where the caller brings none
    std::function<bool(TokenId)> is_end{};   ///< true for tokens that end the text, e.g. Tokenizer::is_end_of_generation
    RunOptions run{};                        ///< progress counts the prompt's tokens
};

enum class FinishReason {
    StopToken,    ///< the model chose a token that is_end() knows; it is not delivered
    Callback,     ///< the callback returned Flow::Stop
    MaxTokens,    ///< max_new_tokens were delivered
    ContextFull,  ///< the session has no room for another token
};

[[nodiscard]] constexpr std::string_view to_string(FinishReason reason) noexcept {
    switch (reason) {
        case FinishReason::StopToken: return "stop token";
        case FinishReason::Callback: return "callback";
        case FinishReason::MaxTokens: return "max tokens";
        case FinishReason::ContextFull: return "context full";
    }
    return "unknown reason";
}

struct GenerateResult {
    std::size_t tokens = 0;  ///< delivered
    FinishReason reason = FinishReason::MaxTokens;
    double mean_layers = 0;  ///< of exit_layer over the delivered tokens; 0 where there are none
    /// The last token that the model chose, delivered or an end: the session does not hold it yet. Put it in front of the
    /// next prompt to go on. no_token where max_new_tokens is 0.
    TokenId pending = no_token;
};

/// Appends the prompt at full depth, then chooses tokens one by one, each as deep as the model's exit policy lets it run,
/// and calls on_token(const GeneratedToken&) for each: it returns Flow, or nothing to go on.
///
/// Afterwards the session holds the prompt and all delivered tokens except result.pending. So
/// `generate(model, session, {{result.pending}}, ...)` goes on where this call ended.
///
/// Throws what Model::prefill throws where the prompt is empty or does not fit (then the session is as it was), and
/// InvalidArgument for sampling options out of range. A requested stop throws Cancelled, as a NaN throws NotFinite; the
/// session then holds the tokens delivered so far but the last.
template <class Model, std::uniform_random_bit_generator Generator, class OnToken>
    requires std::invocable<OnToken&, const GeneratedToken&>
GenerateResult generate(const Model& model, Session& session, std::span<const TokenId> prompt, const GenerateOptions& options,
                        Generator& generator, OnToken&& on_token) {
    Sampler sampler(options.sampling);
    GenerateResult result;
    if (options.max_new_tokens == 0) {
        model.prefill(session, prompt, options.run);
        return result;
    }
    std::size_t layers_run = 0;
    Prediction next = model.prefill_and_predict(session, prompt, options.run);
    for (;;) {
        TokenId token = next.token;
        if (options.sampling.temperature != 0) {
            token = sampler(next.logits, generator);
            if (!next.columns.empty()) token = next.columns[static_cast<std::size_t>(token)];
        }
        result.pending = token;
        if (options.is_end && options.is_end(token)) {
            result.reason = FinishReason::StopToken;
            break;
        }
        ++result.tokens;
        layers_run += next.exit_layer;
        const GeneratedToken delivered{token, next.exit_layer, next.layers, next.checks};
        if constexpr (std::same_as<std::invoke_result_t<OnToken&, const GeneratedToken&>, Flow>) {
            if (on_token(delivered) == Flow::Stop) {
                result.reason = FinishReason::Callback;
                break;
            }
        } else {
            static_assert(std::is_void_v<std::invoke_result_t<OnToken&, const GeneratedToken&>>,
                          "adainfer: the callback of generate() must return Flow or void");
            on_token(delivered);
        }
        if (result.tokens == options.max_new_tokens) break;
        if (session.length() == session.capacity()) {
            result.reason = FinishReason::ContextFull;
            break;
        }
        next = model.decode(session, token, options.run);
    }
    if (result.tokens != 0) result.mean_layers = static_cast<double>(layers_run) / static_cast<double>(result.tokens);
    return result;
}

/// The same with a generator of its own, std::mt19937_64 seeded with options.seed.
template <class Model, class OnToken>
    requires std::invocable<OnToken&, const GeneratedToken&>
GenerateResult generate(const Model& model, Session& session, std::span<const TokenId> prompt, const GenerateOptions& options,
                        OnToken&& on_token) {
    std::mt19937_64 generator(options.seed);
    return generate(model, session, prompt, options, generator, std::forward<OnToken>(on_token));
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/binomial.hpp -----------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace adainfer::inline v0 {

/// P(X >= k) for X ~ Binomial(n, p), 0 <= p <= 1.
[[nodiscard]] inline double binomial_upper_tail(std::size_t k, std::size_t n, double p) noexcept {
    if (k == 0) return 1;
    if (k > n || p <= 0) return 0;
    if (p >= 1) return 1;
    // Down from n by the ratio of neighbours, in logs: p^n underflows. Not lgamma, which is no thread-safe call in glibc.
    const double log_odds = std::log1p(-p) - std::log(p);
    double log_mass = static_cast<double>(n) * std::log(p), tail = std::exp(log_mass);
    for (std::size_t i = n; i > k; --i) {
        log_mass += std::log(static_cast<double>(i) / static_cast<double>(n - i + 1)) + log_odds;
        tail += std::exp(log_mass);
    }
    return (std::min)(tail, 1.0);
}

/// Least k for which k successes in n trials show a success rate >= rate at the given one-sided confidence;
/// n + 1 where not even n do. The same as success_lower_bound(k, n, confidence) >= rate.
[[nodiscard]] inline std::size_t least_successes(std::size_t n, double rate, double confidence) noexcept {
    std::size_t low = 0, high = n + 1;  // the tail falls with k
    while (low < high) {
        const std::size_t k = low + (high - low) / 2;
        if (rate <= 0 || binomial_upper_tail(k, n, rate) <= 1 - confidence) high = k;
        else low = k + 1;
    }
    return low;
}

/// One-sided lower confidence bound of a success rate after k successes in n trials: the rate p at which k or more
/// successes have probability 1 - confidence. Source: Clopper and Pearson, "The use of confidence or fiducial limits
/// illustrated in the case of the binomial" (Biometrika 26(4), 1934).
[[nodiscard]] inline double success_lower_bound(std::size_t k, std::size_t n, double confidence) noexcept {
    if (k == 0) return 0;
    double low = 0, high = 1;
    for (int i = 0; i < 60; ++i) {
        const double p = 0.5 * (low + high);
        (binomial_upper_tail(k, n, p) <= 1 - confidence ? low : high) = p;
    }
    return low;
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/calibrate.hpp ----------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>


// ---- adainfer/train/dataset.hpp ------------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// What a dense run says about one prompt, a step per checked layer.
struct Trace {
    std::size_t n_layers = 0;                ///< decoder layers of the model
    std::size_t n_features = 0;
    std::vector<std::size_t> layers;         ///< [steps], ascending: layers that have run at the check, 1 to n_layers - 1
    std::vector<float> features;             ///< [steps, n_features], row-major
    std::vector<TokenId> tokens;             ///< [steps], the layer's top-1 token
    std::vector<std::uint8_t> agrees;        ///< [steps], 1 where it is the last layer's top-1 token
    std::vector<std::uint8_t> matches_gold;  ///< [steps], 1 where it is the right answer; empty where none is known
    TokenId final_token = no_token;          ///< the last layer's top-1 token
    bool final_matches_gold = false;         ///< the same for the last layer
    bool final_reachable = true;             ///< false where a shortlist left final_token out: full depth misses it too
    int group = 0;                           ///< task the prompt belongs to

    [[nodiscard]] std::size_t steps() const noexcept { return layers.size(); }
};

/// Which answer counts as a good place to stop.
enum class Label {
    AgreesWithFinal,  ///< the layer's top-1 token is the last layer's
    MatchesGold,      ///< the layer's top-1 token is the right answer
};

/// What a classifier is trained on: one prompt, a step per checked layer.
struct Sequence {
    std::size_t n_features = 0;
    std::vector<float> features;       ///< [steps, n_features], row-major
    std::vector<std::uint8_t> labels;  ///< [steps], 1 = stopping here is right, 0 = it is not
    int group = 0;

    [[nodiscard]] std::size_t steps() const noexcept { return labels.size(); }
};

/// The chosen labels of a trace, [steps]. Throws InvalidArgument where the trace does not have them.
[[nodiscard]] inline const std::vector<std::uint8_t>& labels_of(const Trace& trace, Label label) {
    const auto& labels = label == Label::AgreesWithFinal ? trace.agrees : trace.matches_gold;
    if (labels.size() != trace.steps())
        fail(ErrorCode::InvalidArgument, label == Label::AgreesWithFinal ? "trace agrees" : "trace matches_gold",
             ": expected one label for each of ", trace.steps(), " steps, found ", labels.size());
    return labels;
}

/// Training sequences of traces, one a trace. Throws InvalidArgument where a trace lacks the labels.
[[nodiscard]] inline std::vector<Sequence> to_sequences(std::span<const Trace> traces,
                                                        Label label = Label::AgreesWithFinal) {
    std::vector<Sequence> sequences;
    sequences.reserve(traces.size());
    for (const Trace& trace : traces)
        sequences.push_back({trace.n_features, trace.features, labels_of(trace, label), trace.group});
    return sequences;
}

/// Indices of prompts to train on and of those kept back.
struct Split {
    std::vector<std::size_t> train, held_out;
};

/// Draws the share `held_out` of the prompts of every group at random (rounded down, at least one of a group of two or
/// more). Whole prompts: the layers of one prompt resemble each other too much to stand on both sides.
/// `items` are traces or sequences. The same seed gives the same split everywhere. Throws InvalidArgument unless 0 < held_out < 1.
template <class Item>
[[nodiscard]] Split split_by_prompt(const std::vector<Item>& items, double held_out, std::uint64_t seed = 0) {
    if (!(held_out > 0 && held_out < 1))
        fail(ErrorCode::InvalidArgument, "share of prompts held out must lie between 0 and 1, found ", held_out);
    std::map<int, std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < items.size(); ++i) groups[items[i].group].push_back(i);
    std::mt19937_64 random(seed);
    Split split;
    for (auto& [group, members] : groups) {
        const std::size_t n = members.size();
        // Not std::shuffle: standard libraries differ in how they draw.
        for (std::size_t i = n; i > 1; --i) std::swap(members[i - 1], members[random() % i]);
        auto count = static_cast<std::size_t>(held_out * static_cast<double>(n));
        if (count == 0 && n > 1) count = 1;
        for (std::size_t i = 0; i < n; ++i) (i < count ? split.held_out : split.train).push_back(members[i]);
    }
    std::sort(split.train.begin(), split.train.end());
    std::sort(split.held_out.begin(), split.held_out.end());
    return split;
}

/// The items at `indices`, in that order. Precondition: every index < items.size().
template <class Item>
[[nodiscard]] std::vector<Item> select_prompts(const std::vector<Item>& items, std::span<const std::size_t> indices) {
    std::vector<Item> chosen;
    chosen.reserve(indices.size());
    for (const std::size_t i : indices) chosen.push_back(items[i]);
    return chosen;
}

/// Checks that `sequences` can train a two-class model and returns their number of features. Throws Error
/// InvalidArgument: no steps, no features, a label other than 0 and 1, or one class only;
/// ShapeMismatch: sequences of different widths, or features that do not fill [steps, n_features];
/// NotFinite: a NaN or infinite feature. The message names sequence, step and feature.
[[nodiscard]] inline std::size_t validate_sequences(std::span<const Sequence> sequences) {
    std::size_t n_steps = 0, n_stop = 0;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
        const Sequence& sequence = sequences[s];
        const std::size_t width = sequences[0].n_features;
        if (width == 0) fail(ErrorCode::InvalidArgument, "training sequences have no features");
        if (sequence.n_features != width)
            fail(ErrorCode::ShapeMismatch, "training sequence ", s, ": expected ", width, " features a step, found ",
                 sequence.n_features);
        if (sequence.features.size() != sequence.steps() * width)
            fail(ErrorCode::ShapeMismatch, "training sequence ", s, ": expected ", sequence.steps(), " x ", width,
                 " feature values, found ", sequence.features.size());
        for (std::size_t t = 0; t < sequence.steps(); ++t) {
            if (sequence.labels[t] > 1)
                fail(ErrorCode::InvalidArgument, "training sequence ", s, ", step ", t, ": label must be 0 or 1, found ",
                     static_cast<int>(sequence.labels[t]));
            n_stop += sequence.labels[t];
            for (std::size_t i = 0; i < width; ++i)
                if (const float value = sequence.features[t * width + i]; !std::isfinite(value))
                    fail(ErrorCode::NotFinite, "training sequence ", s, ", step ", t, ", feature ", i, " is ", value);
        }
        n_steps += sequence.steps();
    }
    if (n_steps == 0) fail(ErrorCode::InvalidArgument, "no training data: ", sequences.size(), " sequences, 0 steps");
    if (n_stop == 0 || n_stop == n_steps)
        fail(ErrorCode::InvalidArgument, "training labels are of one class only: all ", n_steps, " steps are labelled ",
             n_stop == 0 ? 0 : 1, "; both 0 and 1 are needed");
    return sequences[0].n_features;
}

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// The scores of one held-out prompt, a step per checked layer. The inference stops after the first step whose
/// score > threshold, and after the last layer where there is none.
struct ScoredPrompt {
    std::size_t n_layers = 0;         ///< decoder layers of the model
    std::vector<std::size_t> layers;  ///< [steps], ascending: layers that have run at the check, 1 to n_layers - 1
    std::vector<float> scores;        ///< [steps]
    std::vector<std::uint8_t> good;   ///< [steps], 1 where stopping there gives an acceptable answer
    bool good_at_end = true;          ///< the same for the last layer
    int group = 0;                    ///< task the prompt belongs to
    std::vector<std::uint8_t> right{};  ///< [steps], 1 where the answer there is the right one; empty where that is not known
    bool right_at_end = false;          ///< the same for the last layer
};

struct CalibrateOptions {
    /// Least share of prompts with an acceptable answer. Where `good` means "agrees with the dense model" this is the
    /// agreement; where it means "right answer", take full_depth_share(prompts) minus the accuracy one may lose.
    double target = 0.99;

    /// 0: the share counted on the given prompts must reach the target. The threshold is picked on the very prompts it is
    /// judged by, so on few of them the share is optimistic. A confidence such as 0.95 asks instead that the one-sided
    /// Clopper-Pearson lower bound of the share reach it, which takes 299 prompts without a miss for 0.99 at 0.95. The bound
    /// holds for one threshold fixed in advance; choosing among many uses up a part of it, so measure on fresh prompts.
    double confidence = 0;

    /// Where set, a second condition: the share of right answers may fall below that of the last layer by at most this much
    /// (0.01 = one point). It lets a prompt go early whose answers all are wrong, or equally right. Needs ScoredPrompt::right.
    std::optional<double> max_accuracy_loss{};
};

struct Calibration {
    float threshold = std::numeric_limits<float>::infinity();  ///< stop where score > threshold; +infinity = never stop
    double agreement = 1;        ///< share of prompts with an acceptable answer at this threshold
    double lower_bound = 0;      ///< of that share, at CalibrateOptions::confidence; 0 where that is off
    double mean_layers = 0;      ///< layers run, mean over the prompts
    double mean_full_layers = 0; ///< layers of the model, mean over the prompts
    double exit_rate = 0;        ///< share of prompts stopped before the last layer
    std::size_t prompts = 0;
    bool met = false;            ///< the target holds; where no threshold meets it, the threshold is +infinity

    /// Share of layers not run.
    [[nodiscard]] double pruning_ratio() const noexcept { return 1 - mean_layers / mean_full_layers; }
};

/// Runs `classifier` over every trace as at inference time and pairs its scores with the chosen label.
/// Throws Error where classifier or labels do not fit the traces.
template <class Classifier>
[[nodiscard]] std::vector<ScoredPrompt> score_traces(const Classifier& classifier, std::span<const Trace> traces,
                                                     Label good = Label::AgreesWithFinal) {
    std::vector<ScoredPrompt> prompts;
    prompts.reserve(traces.size());
    for (const Trace& trace : traces) {
        classifier.validate(trace.n_features);
        if (trace.features.size() != trace.steps() * trace.n_features)
            fail(ErrorCode::ShapeMismatch, "trace ", prompts.size(), ": expected ", trace.steps(), " x ", trace.n_features,
                 " feature values, found ", trace.features.size());
        ScoredPrompt prompt{.n_layers = trace.n_layers, .layers = trace.layers, .scores = {}, .good = labels_of(trace, good),
                            .good_at_end = trace.final_reachable && (good == Label::AgreesWithFinal || trace.final_matches_gold),
                            .group = trace.group, .right = trace.matches_gold, .right_at_end = trace.final_matches_gold};
        auto state = classifier.begin();
        for (std::size_t t = 0; t < trace.steps(); ++t)
            prompt.scores.push_back(
                classifier.score(std::span(trace.features).subspan(t * trace.n_features, trace.n_features), state));
        prompts.push_back(std::move(prompt));
    }
    return prompts;
}

namespace detail::calibrate {

using Prompts = std::vector<const ScoredPrompt*>;

/// Pointers to `prompts`, checked.
[[nodiscard]] inline Prompts checked(std::span<const ScoredPrompt> prompts, const CalibrateOptions& options = {}) {
    if (prompts.empty()) fail(ErrorCode::InvalidArgument, "calibration: no prompts");
    Prompts pointers;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
        const ScoredPrompt& prompt = prompts[p];
        const std::size_t steps = prompt.layers.size();
        if (prompt.n_layers == 0) fail(ErrorCode::InvalidArgument, "calibration prompt ", p, ": n_layers must be >= 1, found 0");
        if (prompt.scores.size() != steps || prompt.good.size() != steps)
            fail(ErrorCode::ShapeMismatch, "calibration prompt ", p, ": ", steps, " layers, ", prompt.scores.size(), " scores, ",
                 prompt.good.size(), " good");
        if (options.max_accuracy_loss && prompt.right.size() != steps)
            fail(ErrorCode::InvalidArgument, "calibration prompt ", p, ": an accuracy loss is limited, but it is not known which answers are right");
        for (std::size_t t = 0; t < steps; ++t) {
            if (prompt.layers[t] == 0 || prompt.layers[t] >= prompt.n_layers || (t > 0 && prompt.layers[t] <= prompt.layers[t - 1]))
                fail(ErrorCode::InvalidArgument, "calibration prompt ", p, ", step ", t, ": layers must ascend and stay below ",
                     prompt.n_layers, ", found ", prompt.layers[t]);
            if (!std::isfinite(prompt.scores[t]))
                fail(ErrorCode::NotFinite, "calibration prompt ", p, ", step ", t, ": score is ", prompt.scores[t]);
        }
        pointers.push_back(&prompt);
    }
    return pointers;
}

inline void check(const CalibrateOptions& options) {
    if (!(options.target >= 0 && options.target <= 1))
        fail(ErrorCode::InvalidArgument, "calibration target must lie in [0, 1], found ", options.target);
    if (!(options.confidence >= 0 && options.confidence < 1))
        fail(ErrorCode::InvalidArgument, "calibration confidence must lie in [0, 1), found ", options.confidence);
    if (options.max_accuracy_loss && !(*options.max_accuracy_loss >= 0 && *options.max_accuracy_loss <= 1))
        fail(ErrorCode::InvalidArgument, "calibration max_accuracy_loss must lie in [0, 1], found ", *options.max_accuracy_loss);
}

/// Least number of acceptable answers among n prompts that meets the target; n + 1 where not even n do.
[[nodiscard]] inline std::size_t required_good(std::size_t n, const CalibrateOptions& options) {
    if (options.confidence > 0) return least_successes(n, options.target, options.confidence);
    // The slack forgives the rounding of e.g. 0.99 * 100.
    return static_cast<std::size_t>(std::ceil((std::max)(0.0, options.target * static_cast<double>(n) - 1e-9)));
}

/// What happens at a given threshold.
[[nodiscard]] inline Calibration measure(const Prompts& prompts, float threshold, const CalibrateOptions& options) {
    std::size_t good = 0, layers = 0, full = 0, early = 0;
    for (const ScoredPrompt* prompt : prompts) {
        std::size_t t = 0;
        while (t < prompt->scores.size() && !(prompt->scores[t] > threshold)) ++t;
        const bool stopped = t < prompt->scores.size();
        const std::size_t depth = stopped ? prompt->layers[t] : prompt->n_layers;
        good += (stopped ? prompt->good[t] != 0 : prompt->good_at_end) ? 1U : 0U;
        layers += depth;
        full += prompt->n_layers;
        early += depth < prompt->n_layers ? 1U : 0U;
    }
    const double n = static_cast<double>(prompts.size());
    Calibration result;
    result.threshold = threshold;
    result.agreement = static_cast<double>(good) / n;
    if (options.confidence > 0) result.lower_bound = success_lower_bound(good, prompts.size(), options.confidence);
    result.mean_layers = static_cast<double>(layers) / n;
    result.mean_full_layers = static_cast<double>(full) / n;
    result.exit_rate = static_cast<double>(early) / n;
    result.prompts = prompts.size();
    result.met = good >= required_good(prompts.size(), options);
    return result;
}

/// Lowering the threshold below `score` moves the exit of `prompt` forward to `step`.
struct Event {
    float score;
    std::size_t prompt, step;
};

/// Only a score above all earlier ones of its prompt can ever be the first above a threshold.
[[nodiscard]] inline std::vector<Event> exit_events(const Prompts& prompts) {
    std::vector<Event> events;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
        float highest = -std::numeric_limits<float>::infinity();
        for (std::size_t t = 0; t < prompts[p]->scores.size(); ++t)
            if (const float score = prompts[p]->scores[t]; score > highest) {
                events.push_back({score, p, t});
                highest = score;
            }
    }
    std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.score > b.score; });
    return events;
}

/// A threshold with lower <= threshold < upper, in the middle where floats allow.
[[nodiscard]] inline float between(float lower, float upper) noexcept {
    const auto middle = static_cast<float>(0.5 * (static_cast<double>(lower) + static_cast<double>(upper)));
    return middle >= lower && middle < upper ? middle : lower;
}

/// Sweeps the threshold from +infinity down over every value at which a prompt's exit moves. Depth only falls on the way,
/// but the share of acceptable answers can rise again, so the sweep goes to the end.
[[nodiscard]] inline Calibration run(const Prompts& prompts, const CalibrateOptions& options) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const std::vector<Event> events = exit_events(prompts);
    const std::size_t required = required_good(prompts.size(), options);
    std::size_t n_good = 0, n_right = 0, layers = 0;
    std::vector<std::uint8_t> good, right;
    std::vector<std::size_t> depth;
    for (const ScoredPrompt* prompt : prompts) {
        good.push_back(prompt->good_at_end ? 1 : 0);
        right.push_back(prompt->right_at_end ? 1 : 0);
        depth.push_back(prompt->n_layers);
        n_good += good.back();
        n_right += right.back();
        layers += depth.back();
    }
    const double loss = options.max_accuracy_loss.value_or(1.0) * static_cast<double>(prompts.size());
    const double required_right = static_cast<double>(n_right) - loss - 1e-9;
    float best = infinity;
    std::size_t best_good = n_good, best_layers = layers;
    bool met = n_good >= required;
    for (std::size_t e = 0; e < events.size();) {
        const float score = events[e].score;
        for (; e < events.size() && !(events[e].score < score); ++e) {  // equal scores move together
            const auto [unused, p, t] = events[e];
            const std::uint8_t now = prompts[p]->good[t] != 0 ? 1 : 0;
            n_good = n_good + now - good[p];
            layers = layers + prompts[p]->layers[t] - depth[p];
            good[p] = now;
            if (options.max_accuracy_loss) {
                const std::uint8_t right_now = prompts[p]->right[t] != 0 ? 1 : 0;
                n_right = n_right + right_now - right[p];
                right[p] = right_now;
            }
            depth[p] = prompts[p]->layers[t];
        }
        if (n_good < required || static_cast<double>(n_right) < required_right) continue;
        // On equal depth (the last layer itself was checked) the higher threshold stays.
        if (met && (layers > best_layers || (layers == best_layers && n_good <= best_good))) continue;
        met = true;
        best_good = n_good;
        best_layers = layers;
        best = e < events.size() ? between(events[e].score, score) : std::nextafter(score, -infinity);
    }
    return measure(prompts, best, options);
}

}  // namespace detail::calibrate

/// Share of prompts whose answer is acceptable at full depth: the accuracy of the dense model where `good` means right.
/// Throws Error like calibrate().
[[nodiscard]] inline double full_depth_share(std::span<const ScoredPrompt> prompts) {
    return detail::calibrate::measure(detail::calibrate::checked(prompts), std::numeric_limits<float>::infinity(), {}).agreement;
}

/// Share of acceptable answers, depth and exit rate of `prompts` at a given threshold; to report on prompts that were used
/// neither for training nor for calibration. Throws Error like calibrate().
[[nodiscard]] inline Calibration measure_threshold(std::span<const ScoredPrompt> prompts, float threshold,
                                                   const CalibrateOptions& options = {}) {
    detail::calibrate::check(options);
    if (std::isnan(threshold)) fail(ErrorCode::NotFinite, "calibration threshold is ", threshold);
    return detail::calibrate::measure(detail::calibrate::checked(prompts), threshold, options);
}

/// The threshold of least mean depth among all that meet the target on `prompts`, which must be held out from training.
/// Exact: every distinct outcome is looked at, in O(steps log steps); the threshold lies midway between the neighbouring
/// scores that change an outcome. +infinity where none meets the target.
/// Throws Error: InvalidArgument (no prompts, target or confidence out of range, layers not ascending),
/// ShapeMismatch (layers, scores and good of different lengths), NotFinite (a score).
[[nodiscard]] inline Calibration calibrate(std::span<const ScoredPrompt> prompts, const CalibrateOptions& options = {}) {
    detail::calibrate::check(options);
    return detail::calibrate::run(detail::calibrate::checked(prompts, options), options);
}

/// calibrate() for the prompts of each group on their own: group -> calibration.
[[nodiscard]] inline std::map<int, Calibration> calibrate_per_group(std::span<const ScoredPrompt> prompts,
                                                                    const CalibrateOptions& options = {}) {
    detail::calibrate::check(options);
    std::map<int, detail::calibrate::Prompts> groups;
    for (const ScoredPrompt* prompt : detail::calibrate::checked(prompts, options)) groups[prompt->group].push_back(prompt);
    std::map<int, Calibration> calibrations;
    for (const auto& [group, members] : groups) calibrations[group] = detail::calibrate::run(members, options);
    return calibrations;
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/collect_trace.hpp ------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

namespace detail {

/// Never exits; writes down what a policy with these features would have read at each check of a schedule.
template <class FeaturesList, class Lens, class Head>
class Recorder;

template <class... Fs, class Lens, class Head>
class Recorder<FeatureList<Fs...>, Lens, Head> : public ReadsWith<Lens, Head> {
  public:
    static constexpr bool needs_dense_answer = true;
    using Features = FeatureList<Fs..., TopToken>;
    struct State {};

    Recorder(Schedule schedule, Lens lens, Head head, Trace& trace)
        : ReadsWith<Lens, Head>(std::move(lens), std::move(head)), schedule_(std::move(schedule)), trace_(&trace) {}

    [[nodiscard]] bool wants(std::size_t layer) const { return schedule_.contains(layer) && ReadsWith<Lens, Head>::wants(layer); }

    [[nodiscard]] ExitDecision decide(std::size_t layer, const typename Features::Values& values, State&) const {
        trace_->layers.push_back(layer);
        trace_->features.insert(trace_->features.end(), values.all().begin(), values.all().end() - 1);
        trace_->tokens.push_back(static_cast<TokenId>(values.all().back()));
        return ExitDecision::Continue;
    }

  private:
    Schedule schedule_;
    Trace* trace_;
};

}  // namespace detail

/// Runs the model to its full depth on the tokens that follow the session's positions, and records what a policy with these
/// features, lens and head would have read after each layer of the schedule, together with the answers there and at the
/// end. `candidates` as in Model::predict(); `gold`, where known, is the right answer. The session stays as it was.
/// Throws as predict() does.
template <class Features, class Lens, class Head, class Backend, class Policy, class Completion>
[[nodiscard]] Trace collect_trace(const Model<Backend, Policy, Completion>& model, Session& session, std::span<const TokenId> tokens,
                                  std::span<const TokenId> candidates, std::optional<TokenId> gold, const Schedule& schedule,
                                  const Lens& lens, const Head& head, int group = 0) {
    Trace trace;
    trace.n_layers = model.config().layers;
    trace.n_features = Features::size;
    trace.group = group;
    const auto recorder = model.with_policy(detail::Recorder<Features, Lens, Head>(schedule, lens, head, trace));
    trace.final_token = recorder.predict(session, tokens, candidates).token;
    const std::vector<TokenId>& shortlist = session.work.shortlist;
    trace.final_reachable = shortlist.empty() || std::binary_search(shortlist.begin(), shortlist.end(), trace.final_token);
    for (const TokenId token : trace.tokens) {
        trace.agrees.push_back(token == trace.final_token ? 1 : 0);
        if (gold) trace.matches_gold.push_back(token == *gold ? 1 : 0);
    }
    trace.final_matches_gold = gold && trace.final_token == *gold;
    return trace;
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/lbfgs.hpp --------------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

struct LbfgsOptions {
    std::size_t history = 10;           ///< pairs of steps and gradient changes kept, >= 1
    std::size_t max_iterations = 1000;
    std::size_t max_evaluations = 50;   ///< of the objective, in one line search
    double tolerance = 1e-6;            ///< done where |gradient| <= tolerance * max(1, |x|)
};

enum class LbfgsStop {
    Converged,      ///< the gradient is as small as asked for
    NoProgress,     ///< no point further down was found: rounding, or a gradient that is not the objective's
    MaxIterations,
};

struct LbfgsResult {
    std::vector<double> x;     ///< [n], the best point found
    double value = 0;          ///< objective there
    double gradient_norm = 0;  ///< Euclidean
    std::size_t iterations = 0, evaluations = 0;
    LbfgsStop stop = LbfgsStop::MaxIterations;
};

namespace detail::lbfgs {

[[nodiscard]] inline double inner(std::span<const double> a, std::span<const double> b) noexcept {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

/// a += factor * b
inline void add_scaled(std::span<double> a, double factor, std::span<const double> b) noexcept {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
}

/// One remembered iteration: s = change of x, y = change of the gradient.
struct Pair {
    std::vector<double> s, y;
    double sy = 0;
};

/// Turns a gradient into the quasi-Newton direction -H * gradient, in place: the two-loop recursion of Nocedal and Wright,
/// "Numerical Optimization" (2nd ed., 2006), Algorithm 7.4, with the initial scaling of (7.20).
inline void to_direction(const std::deque<Pair>& pairs, std::span<double> gradient) {
    std::vector<double> a(pairs.size());
    for (std::size_t i = pairs.size(); i-- > 0;) {
        a[i] = inner(pairs[i].s, gradient) / pairs[i].sy;
        add_scaled(gradient, -a[i], pairs[i].y);
    }
    const double scale = pairs.empty() ? 1.0 : pairs.back().sy / inner(pairs.back().y, pairs.back().y);
    for (double& value : gradient) value *= scale;
    for (std::size_t i = 0; i < pairs.size(); ++i)
        add_scaled(gradient, a[i] - inner(pairs[i].y, gradient) / pairs[i].sy, pairs[i].s);
    for (double& value : gradient) value = -value;
}

}  // namespace detail::lbfgs

/// Minimises a smooth function from `start` by limited-memory BFGS.
/// `objective(std::span<const double> x, std::span<double> gradient) -> double` returns the value at x and fills the
/// gradient, both [n]; a value that is not finite counts as too far and shortens the step.
/// Step lengths satisfy the weak Wolfe conditions, found by the bracketing of Lewis and Overton ("Nonsmooth optimization
/// via quasi-Newton methods", Mathematical Programming 141, 2013, section 2), so every remembered pair has s.y > 0.
/// Throws Error: InvalidArgument for history 0, NotFinite where value or gradient at the start is not finite.
template <class Objective>
[[nodiscard]] LbfgsResult minimize_lbfgs(Objective&& objective, std::vector<double> start, const LbfgsOptions& options = {}) {
    static_assert(std::is_invocable_r_v<double, Objective&, std::span<const double>, std::span<double>>,
                  "the objective must be callable as double(std::span<const double> x, std::span<double> gradient)");
    if (options.history == 0) fail(ErrorCode::InvalidArgument, "lbfgs history must be >= 1");
    const std::size_t n = start.size();
    std::vector<double> gradient(n), direction(n), next_x(n), next_gradient(n);
    std::deque<detail::lbfgs::Pair> pairs;

    LbfgsResult result;
    result.x = std::move(start);
    result.value = objective(std::span<const double>(result.x), std::span<double>(gradient));
    result.evaluations = 1;
    result.gradient_norm = std::sqrt(detail::lbfgs::inner(gradient, gradient));
    if (!std::isfinite(result.value) || !std::isfinite(result.gradient_norm))
        fail(ErrorCode::NotFinite, "lbfgs objective at the start: value ", result.value, ", gradient norm ", result.gradient_norm);

    const auto converged = [&] {
        return result.gradient_norm <= options.tolerance * (std::max)(1.0, std::sqrt(detail::lbfgs::inner(result.x, result.x)));
    };
    while (!converged() && result.iterations < options.max_iterations) {
        direction = gradient;
        detail::lbfgs::to_direction(pairs, direction);
        const double slope = detail::lbfgs::inner(gradient, direction);

        // Near the minimum the decrease asked for drowns in rounding; the slack leaves the decision to the slope.
        const double slack = 4 * std::numeric_limits<double>::epsilon() * std::abs(result.value);
        double low = 0, high = std::numeric_limits<double>::infinity(), value = 0;
        double t = pairs.empty() ? (std::min)(1.0, 1.0 / result.gradient_norm) : 1.0;
        bool found = false;
        for (std::size_t tries = 0; tries < options.max_evaluations && slope < 0; ++tries) {
            next_x = result.x;
            detail::lbfgs::add_scaled(next_x, t, direction);
            value = objective(std::span<const double>(next_x), std::span<double>(next_gradient));
            ++result.evaluations;
            if (!(value <= result.value + 1e-4 * t * slope + slack)) {
                high = t;
            } else if (!(detail::lbfgs::inner(next_gradient, direction) >= 0.9 * slope)) {
                low = t;
            } else {
                found = true;
                break;
            }
            t = std::isinf(high) ? 2 * low : 0.5 * (low + high);
        }
        if (!found) {
            if (pairs.empty()) break;
            pairs.clear();  // a stale model of the curvature: once more, straight downhill
            continue;
        }

        detail::lbfgs::Pair pair{next_x, next_gradient, 0};
        detail::lbfgs::add_scaled(pair.s, -1, result.x);
        detail::lbfgs::add_scaled(pair.y, -1, gradient);
        pair.sy = detail::lbfgs::inner(pair.s, pair.y);
        if (pair.sy > 0) {
            if (pairs.size() == options.history) pairs.pop_front();
            pairs.push_back(std::move(pair));
        }
        result.x.swap(next_x);
        gradient.swap(next_gradient);
        result.value = value;
        result.gradient_norm = std::sqrt(detail::lbfgs::inner(gradient, gradient));
        ++result.iterations;
    }
    result.stop = converged()                                     ? LbfgsStop::Converged
                  : result.iterations >= options.max_iterations ? LbfgsStop::MaxIterations
                                                                : LbfgsStop::NoProgress;
    return result;
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/standardize.hpp --------------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace adainfer::inline v0 {

/// Brings features to mean 0 and variance 1: (x - mean) / scale. In float, as a classifier stores and applies it.
struct Scaling {
    std::vector<float> mean;   ///< [n_features]
    std::vector<float> scale;  ///< [n_features], population standard deviation; 1 for a constant feature
};

/// Mean and standard deviation (divisor: number of steps) over all steps. Precondition: validate_sequences() passed.
[[nodiscard]] inline Scaling fit_scaling(std::span<const Sequence> sequences) {
    const std::size_t width = sequences[0].n_features;
    double count = 0;
    std::vector<double> mean(width), variance(width);
    for (const Sequence& sequence : sequences) {
        count += static_cast<double>(sequence.steps());
        for (std::size_t i = 0; i < sequence.features.size(); ++i) mean[i % width] += static_cast<double>(sequence.features[i]);
    }
    for (double& value : mean) value /= count;
    for (const Sequence& sequence : sequences)
        for (std::size_t i = 0; i < sequence.features.size(); ++i) {
            const double d = static_cast<double>(sequence.features[i]) - mean[i % width];
            variance[i % width] += d * d;
        }
    Scaling scaling;
    for (std::size_t i = 0; i < width; ++i) {
        const double deviation = std::sqrt(variance[i] / count);
        // A constant feature leaves only rounding noise; scaling that up to variance 1 would invent a signal.
        const bool constant = deviation <= 1e-7 * std::abs(mean[i]) || !(static_cast<float>(deviation) > 0);
        scaling.mean.push_back(static_cast<float>(mean[i]));
        scaling.scale.push_back(constant ? 1.0F : static_cast<float>(deviation));
    }
    return scaling;
}

/// All steps of all sequences, one after the other, in standardised features and one more that is always 1.
struct StandardizedData {
    std::size_t cols = 0;              ///< n_features + 1
    std::vector<double> rows;          ///< [steps, cols], row-major
    std::vector<std::uint8_t> labels;  ///< [steps]
    std::vector<std::size_t> starts;   ///< [sequences + 1], first step of each sequence, then the number of steps

    [[nodiscard]] std::size_t steps() const noexcept { return labels.size(); }
    [[nodiscard]] std::span<const double> row(std::size_t step) const noexcept { return {rows.data() + step * cols, cols}; }
};

/// Precondition: validate_sequences() passed, and `scaling` has as many features.
[[nodiscard]] inline StandardizedData standardize(std::span<const Sequence> sequences, const Scaling& scaling) {
    const std::size_t width = scaling.mean.size();
    StandardizedData data;
    data.cols = width + 1;
    data.starts.push_back(0);
    for (const Sequence& sequence : sequences) {
        for (std::size_t t = 0; t < sequence.steps(); ++t) {
            for (std::size_t i = 0; i < width; ++i)
                data.rows.push_back((static_cast<double>(sequence.features[t * width + i]) - static_cast<double>(scaling.mean[i])) /
                                    static_cast<double>(scaling.scale[i]));
            data.rows.push_back(1.0);
            data.labels.push_back(sequence.labels[t]);
        }
        data.starts.push_back(data.labels.size());
    }
    return data;
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/train_crf.hpp ----------------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

struct CrfOptions {
    double c2 = 1.0;                     ///< weight of the regulariser c2 * |parameters|^2, >= 0
    std::size_t max_iterations = 1000;
    double tolerance = 1e-5;             ///< see LbfgsOptions::tolerance
};

struct CrfFit {
    LinearChainCrf model;       ///< threshold 0
    double objective = 0;       ///< -log_likelihood + c2 * |parameters|^2
    double log_likelihood = 0;  ///< sum over the sequences of log P(labels | features)
    double gradient_norm = 0;   ///< of the objective
    std::size_t iterations = 0;
    bool converged = false;
};

namespace detail::crf {

using lbfgs::add_scaled;
using lbfgs::inner;

/// Sums over all label paths of one sequence in log space: Lafferty, McCallum and Pereira, "Conditional Random Fields"
/// (ICML 2001), section 3, by the recursions of Rabiner's HMM tutorial (Proceedings of the IEEE 77(2), 1989, section III.A).
struct Lattice {
    using Pair = std::array<double, 2>;  ///< a value per state
    std::vector<Pair> emission, alpha, beta;
    std::array<double, 4> transitions{};  ///< [2, 2], from, to
    double log_z = 0;

    [[nodiscard]] static double log_sum_exp(double a, double b) noexcept {
        return (std::max)(a, b) + std::log1p(std::exp(-std::abs(a - b)));
    }

    void resize(std::size_t steps) {
        emission.resize(steps);
        alpha.resize(steps);
        beta.resize(steps);
    }

    /// Fills alpha, beta and log_z from emission and transitions. Precondition: at least one step.
    void run() noexcept {
        const std::size_t n = emission.size();
        alpha[0] = emission[0];
        for (std::size_t t = 1; t < n; ++t)
            for (std::size_t to = 0; to < 2; ++to)
                alpha[t][to] = emission[t][to] + log_sum_exp(alpha[t - 1][0] + transitions[to], alpha[t - 1][1] + transitions[2 + to]);
        beta[n - 1] = {0, 0};
        for (std::size_t t = n - 1; t-- > 0;)
            for (std::size_t from = 0; from < 2; ++from)
                beta[t][from] = log_sum_exp(transitions[2 * from] + emission[t + 1][0] + beta[t + 1][0],
                                            transitions[2 * from + 1] + emission[t + 1][1] + beta[t + 1][1]);
        log_z = log_sum_exp(alpha[n - 1][0], alpha[n - 1][1]);
    }

    /// P(state at t = state | all features)
    [[nodiscard]] double marginal(std::size_t t, std::size_t state) const noexcept {
        return std::exp(alpha[t][state] + beta[t][state] - log_z);
    }

    /// P(state at t = from and state at t + 1 = to | all features)
    [[nodiscard]] double marginal(std::size_t t, std::size_t from, std::size_t to) const noexcept {
        return std::exp(alpha[t][from] + transitions[2 * from + to] + emission[t + 1][to] + beta[t + 1][to] - log_z);
    }
};

/// The regularised negative log-likelihood as a function of [W (2 x cols), transitions (2 x 2)]; the last column of W is
/// the bias. Every parameter is regularised, as in CRFsuite.
class Objective {
  public:
    Objective(const StandardizedData& data, double c2) : data_(data), c2_(c2) {}

    [[nodiscard]] std::size_t size() const noexcept { return 2 * data_.cols + 4; }

    double operator()(std::span<const double> parameters, std::span<double> gradient) {
        const std::size_t cols = data_.cols;
        double value = c2_ * inner(parameters, parameters);
        for (std::size_t i = 0; i < parameters.size(); ++i) gradient[i] = 2 * c2_ * parameters[i];
        const std::span<double> transition_gradient = gradient.subspan(2 * cols);
        std::copy_n(parameters.begin() + static_cast<std::ptrdiff_t>(2 * cols), 4, lattice_.transitions.begin());

        for (std::size_t s = 0; s + 1 < data_.starts.size(); ++s) {
            const std::size_t begin = data_.starts[s], steps = data_.starts[s + 1] - begin;
            if (steps == 0) continue;
            lattice_.resize(steps);
            for (std::size_t t = 0; t < steps; ++t)
                for (std::size_t state = 0; state < 2; ++state)
                    lattice_.emission[t][state] = inner(parameters.subspan(state * cols, cols), data_.row(begin + t));
            lattice_.run();
            double loss = lattice_.log_z;  // summed up per sequence: one long sum would round more
            for (std::size_t t = 0; t < steps; ++t) {
                const std::size_t label = data_.labels[begin + t];
                loss -= lattice_.emission[t][label];
                for (std::size_t state = 0; state < 2; ++state)
                    add_scaled(gradient.subspan(state * cols, cols), lattice_.marginal(t, state) - (state == label ? 1 : 0),
                               data_.row(begin + t));
                if (t + 1 == steps) break;
                const std::size_t pair = 2 * label + data_.labels[begin + t + 1];
                loss -= lattice_.transitions[pair];
                for (std::size_t k = 0; k < 4; ++k)
                    transition_gradient[k] += lattice_.marginal(t, k / 2, k % 2) - (k == pair ? 1 : 0);
            }
            value += loss;
        }
        return value;
    }

  private:
    const StandardizedData& data_;
    double c2_;
    Lattice lattice_;
};

}  // namespace detail::crf

/// Trains a linear-chain CRF by maximum likelihood, a chain per prompt:
///     minimise -sum over sequences of log P(labels | features) + c2 * |parameters|^2
/// over standardised features, a bias per state and four transitions, all regularised. This is what CRFsuite minimises with
/// its lbfgs algorithm, c1 = 0, all possible states and transitions, and an attribute that is always 1.
/// Throws Error for bad options (InvalidArgument) and bad data (see validate_sequences).
[[nodiscard]] inline CrfFit train_crf(std::span<const Sequence> sequences, const CrfOptions& options = {}) {
    if (!(options.c2 >= 0) || !std::isfinite(options.c2)) fail(ErrorCode::InvalidArgument, "crf c2 must be >= 0, found ", options.c2);
    if (!(options.tolerance > 0)) fail(ErrorCode::InvalidArgument, "crf tolerance must be > 0, found ", options.tolerance);

    const std::size_t n_features = validate_sequences(sequences);
    Scaling scaling = fit_scaling(sequences);
    const StandardizedData data = standardize(sequences, scaling);
    detail::crf::Objective objective(data, options.c2);
    LbfgsOptions minimizer;
    minimizer.max_iterations = options.max_iterations;
    minimizer.tolerance = options.tolerance;
    const LbfgsResult found = minimize_lbfgs(objective, std::vector<double>(objective.size()), minimizer);

    CrfFit fit;
    fit.objective = found.value;
    fit.log_likelihood = options.c2 * detail::crf::inner(found.x, found.x) - found.value;
    fit.gradient_norm = found.gradient_norm;
    fit.iterations = found.iterations;
    fit.converged = found.stop == LbfgsStop::Converged;
    LinearChainCrf& model = fit.model;
    for (std::size_t state = 0; state < 2; ++state) {
        const double* row = found.x.data() + state * data.cols;
        for (std::size_t i = 0; i < n_features; ++i) model.weights.push_back(static_cast<float>(row[i]));
        model.bias[state] = static_cast<float>(row[n_features]);
    }
    for (std::size_t k = 0; k < 4; ++k) model.transitions[k] = static_cast<float>(found.x[2 * data.cols + k]);
    model.mean = std::move(scaling.mean);
    model.scale = std::move(scaling.scale);
    model.validate(n_features);
    return fit;
}

/// P(stop) at each of the steps of a whole sequence, earlier and later steps considered: [steps].
/// For analysis; while a model runs, only LinearChainCrf::score() applies. `features` is [steps, n_features], row-major.
/// Throws Error where `model` is not valid, or ShapeMismatch where `features` does not fill whole steps.
[[nodiscard]] inline std::vector<double> crf_marginals(const LinearChainCrf& model, std::span<const float> features) {
    const std::size_t width = model.feature_count();
    model.validate(width);
    if (width == 0 || features.size() % width != 0)
        fail(ErrorCode::ShapeMismatch, "crf features: expected a multiple of ", width, " values, found ", features.size());
    const std::size_t steps = features.size() / width;
    if (steps == 0) return {};
    detail::crf::Lattice lattice;
    lattice.resize(steps);
    std::copy(model.transitions.begin(), model.transitions.end(), lattice.transitions.begin());
    for (std::size_t t = 0; t < steps; ++t)
        for (std::size_t state = 0; state < 2; ++state) {
            double sum = static_cast<double>(model.bias[state]);
            for (std::size_t i = 0; i < width; ++i) {
                const float x = (features[t * width + i] - model.mean[i]) / model.scale[i];
                sum += static_cast<double>(model.weights[state * width + i] * x);
            }
            lattice.emission[t][state] = sum;
        }
    lattice.run();
    std::vector<double> stop(steps);
    for (std::size_t t = 0; t < steps; ++t) stop[t] = lattice.marginal(t, 1);
    return stop;
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/train_svm.hpp ----------------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// Loss of a step with margin m = y * score(x), y in {-1, 1}.
enum class SvmLoss {
    Hinge,         ///< max(0, 1 - m)
    SquaredHinge,  ///< max(0, 1 - m)^2
};

struct SvmOptions {
    SvmLoss loss = SvmLoss::SquaredHinge;
    double c = 1.0;                            ///< weight of the losses against the regulariser, > 0
    bool balanced = false;                     ///< weigh each class by steps / (2 * steps of the class)
    std::array<double, 2> class_weight{1, 1};  ///< further factor on C for labels 0 and 1, > 0
    double tolerance = 1e-4;                   ///< largest spread of the projected gradient at the end, > 0
    std::size_t max_passes = 10000;            ///< work allowed: steps looked at / steps of the data
    std::uint64_t seed = 0;                    ///< order in which steps are visited
};

struct SvmFit {
    LinearSvm model;             ///< threshold 0
    double primal = 0;           ///< 1/2 |w|^2 + sum_i C_i loss_i, the bias counted in w
    double duality_gap = 0;      ///< primal - dual objective: how far the primal can still be from its minimum
    std::size_t passes = 0;      ///< work done: steps looked at / steps of the data, rounded up
    bool converged = false;
};

namespace detail::svm {

/// Dual coordinate descent for the L2-regularised linear SVM; the columns of `data` include the constant 1 of the bias.
/// Source: Hsieh, Chang, Lin, Keerthi, Sundararajan, "A Dual Coordinate Descent Method for Large-scale Linear SVM"
/// (ICML 2008), Algorithm 1, with the shrinking of section 3.2 (Algorithm 3).
class Solver {
  public:
    Solver(const StandardizedData& data, const SvmOptions& options)
        : data_(data), options_(options), w_(data.cols), alpha_(data.steps()), q_diagonal_(data.steps()) {
        const double n = static_cast<double>(data.steps());
        const double n_stop = static_cast<double>(std::accumulate(data.labels.begin(), data.labels.end(), std::size_t{0}));
        const std::array<double, 2> count{n - n_stop, n_stop};
        for (std::size_t k = 0; k < 2; ++k)
            cost_[k] = options.c * options.class_weight[k] * (options.balanced ? n / (2 * count[k]) : 1.0);
        for (std::size_t i = 0; i < data.steps(); ++i)
            q_diagonal_[i] = dot(data.row(i), data.row(i)) + diagonal(i);
    }

    void solve(SvmFit& fit) {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        std::vector<std::size_t> active(data_.steps());
        std::iota(active.begin(), active.end(), std::size_t{0});
        std::mt19937_64 random(options_.seed);
        std::size_t n_active = active.size();
        double shrink_above = infinity, shrink_below = -infinity;  // extremes of the pass before
        // Shrinking makes most rounds short, so the limit is on the steps looked at, not on the rounds.
        double visits = 0;
        const double n_steps = static_cast<double>(data_.steps()), limit = static_cast<double>(options_.max_passes) * n_steps;
        while (visits < limit) {
            visits += static_cast<double>(n_active);
            double highest = -infinity, lowest = infinity;
            for (std::size_t i = n_active; i > 1; --i) std::swap(active[i - 1], active[random() % i]);
            for (std::size_t a = 0; a < n_active;) {
                const std::size_t i = active[a];
                const double gradient = y(i) * dot(w_, data_.row(i)) - 1 + diagonal(i) * alpha_[i];
                double projected = gradient;
                if (alpha_[i] <= 0) {
                    if (gradient > shrink_above) {
                        std::swap(active[a], active[--n_active]);
                        continue;
                    }
                    projected = (std::min)(gradient, 0.0);
                } else if (alpha_[i] >= upper(i)) {
                    if (gradient < shrink_below) {
                        std::swap(active[a], active[--n_active]);
                        continue;
                    }
                    projected = (std::max)(gradient, 0.0);
                }
                highest = (std::max)(highest, projected);
                lowest = (std::min)(lowest, projected);
                if (std::abs(projected) > 0) step(i, gradient);
                ++a;
            }
            if (n_active == 0 || highest - lowest <= options_.tolerance) {
                if (n_active == active.size()) {
                    fit.converged = true;
                    break;
                }
                // Good on what is left: the steps set aside must be looked at again before it counts.
                n_active = active.size();
                shrink_above = infinity;
                shrink_below = -infinity;
            } else {
                shrink_above = highest > 0 ? highest : infinity;
                shrink_below = lowest < 0 ? lowest : -infinity;
            }
        }
        fit.passes = static_cast<std::size_t>(std::ceil(visits / n_steps));
        report(fit);
    }

    /// [cols], the bias last.
    [[nodiscard]] const std::vector<double>& weights() const noexcept { return w_; }

  private:
    [[nodiscard]] static double dot(std::span<const double> a, std::span<const double> b) noexcept {
        double sum = 0;
        for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
        return sum;
    }
    [[nodiscard]] double y(std::size_t i) const noexcept { return data_.labels[i] ? 1.0 : -1.0; }
    [[nodiscard]] double cost(std::size_t i) const noexcept { return cost_[data_.labels[i]]; }
    [[nodiscard]] double diagonal(std::size_t i) const noexcept {  // D_ii
        return options_.loss == SvmLoss::Hinge ? 0.0 : 0.5 / cost(i);
    }
    [[nodiscard]] double upper(std::size_t i) const noexcept {  // U
        return options_.loss == SvmLoss::Hinge ? cost(i) : std::numeric_limits<double>::infinity();
    }

    /// Minimises the dual over alpha_i alone and keeps w = sum_i y_i alpha_i x_i.
    void step(std::size_t i, double gradient) noexcept {
        const double before = alpha_[i];
        alpha_[i] = (std::min)((std::max)(before - gradient / q_diagonal_[i], 0.0), upper(i));
        const double change = (alpha_[i] - before) * y(i);
        const std::span<const double> x = data_.row(i);
        for (std::size_t k = 0; k < x.size(); ++k) w_[k] += change * x[k];
    }

    void report(SvmFit& fit) const noexcept {
        const double half_norm = 0.5 * dot(w_, w_);
        double losses = 0, dual = -half_norm;
        for (std::size_t i = 0; i < data_.steps(); ++i) {
            const double short_of = (std::max)(0.0, 1 - y(i) * dot(w_, data_.row(i)));
            losses += cost(i) * (options_.loss == SvmLoss::Hinge ? short_of : short_of * short_of);
            dual += alpha_[i] - 0.5 * diagonal(i) * alpha_[i] * alpha_[i];
        }
        fit.primal = half_norm + losses;
        fit.duality_gap = fit.primal - dual;
    }

    const StandardizedData& data_;
    const SvmOptions& options_;
    std::vector<double> w_, alpha_, q_diagonal_;
    std::array<double, 2> cost_{};
};

}  // namespace detail::svm

/// Trains a linear SVM on all steps of `sequences`, each a sample of its own:
///     minimise 1/2 (|w|^2 + b^2) + sum_i C_i loss(y_i (w x_i + b))
/// over standardised features x. The bias is regularised like a weight, as in LIBLINEAR and in scikit-learn's LinearSVC,
/// whose coefficients this reproduces. The same seed gives the same model.
/// Throws Error for bad options (InvalidArgument) and bad data (see validate_sequences).
[[nodiscard]] inline SvmFit train_svm(std::span<const Sequence> sequences, const SvmOptions& options = {}) {
    const auto positive = [](const char* name, double value) {
        if (!(value > 0) || !std::isfinite(value)) fail(ErrorCode::InvalidArgument, "svm ", name, " must be > 0, found ", value);
    };
    positive("c", options.c);
    positive("tolerance", options.tolerance);
    positive("class_weight[0]", options.class_weight[0]);
    positive("class_weight[1]", options.class_weight[1]);

    const std::size_t n_features = validate_sequences(sequences);
    Scaling scaling = fit_scaling(sequences);
    const StandardizedData data = standardize(sequences, scaling);
    detail::svm::Solver solver(data, options);
    SvmFit fit;
    solver.solve(fit);
    for (std::size_t i = 0; i < n_features; ++i) fit.model.weights.push_back(static_cast<float>(solver.weights()[i]));
    fit.model.bias = static_cast<float>(solver.weights()[n_features]);
    fit.model.mean = std::move(scaling.mean);
    fit.model.scale = std::move(scaling.scale);
    fit.model.validate(n_features);
    return fit;
}

}  // namespace adainfer::inline v0

// ---- adainfer/io/atomic_file.hpp -----------------------------------------------------------------------------------------

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

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

// ---- adainfer/io/gguf.hpp ------------------------------------------------------------------------------------------------

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>


// ---- adainfer/io/gguf_cursor.hpp -----------------------------------------------------------------------------------------

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace adainfer::inline v0::detail::gguf {

static_assert(std::endian::native == std::endian::little, "files are read as little-endian bytes");

/// Text from a file as an error message may show it: in quotes; control characters, quotes and everything beyond ASCII
/// replaced, cut to a length that fits a line.
[[nodiscard]] inline std::string quoted(std::string_view text) {
    constexpr std::size_t longest = 80;
    std::string shown = "'";
    for (const char c : text.substr(0, longest)) shown += c >= ' ' && c <= '~' && c != '\'' ? c : '?';
    return shown + (text.size() > longest ? "...'" : "'");
}

/// Whether the text is well-formed UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF.
[[nodiscard]] inline bool is_utf8(std::string_view text) noexcept {
    const auto byte_at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    std::size_t i = 0;
    while (i < text.size()) {
        const unsigned lead = byte_at(i);
        if (lead < 0x80) {
            ++i;
            continue;
        }
        const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
        if (lead < 0xC2 || lead > 0xF4 || text.size() - i < length) return false;
        // Only the second byte has bounds that depend on the first.
        const unsigned lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        const unsigned highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (byte_at(i + 1) < lowest || byte_at(i + 1) > highest) return false;
        for (std::size_t k = 2; k < length; ++k)
            if (byte_at(i + k) < 0x80 || byte_at(i + k) > 0xBF) return false;
        i += length;
    }
    return true;
}

/// A little-endian number at an address without alignment.
template <class T>
[[nodiscard]] T load_number(const std::byte* bytes) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    T number;
    std::memcpy(&number, bytes, sizeof number);
    return number;
}

/// Reads a file's header front to back and never past its end. Does not own the bytes or the name.
class Cursor {
  public:
    Cursor(std::span<const std::byte> bytes, std::string_view name) noexcept : bytes_(bytes), name_(name) {}

    [[nodiscard]] std::size_t position() const noexcept { return position_; }
    [[nodiscard]] std::size_t left() const noexcept { return bytes_.size() - position_; }

    template <class T>
    [[nodiscard]] T number(std::string_view what) {
        return load_number<T>(take(sizeof(T), what));
    }

    /// A 64-bit length and that many bytes. The view is into the file.
    [[nodiscard]] std::string_view string(std::string_view what) {
        const auto length = number<std::uint64_t>(what);
        return {reinterpret_cast<const char*>(take(length, what)), static_cast<std::size_t>(length)};
    }

    /// Steps over `count` bytes and returns where they begin. Throws Error (CorruptFile) where fewer are left.
    const std::byte* take(std::uint64_t count, std::string_view what) {
        if (count > left())
            corrupt("cut short: ", what, " needs ", count, " bytes at byte ", position_, ", ", left(), " are left");
        const std::byte* const begin = bytes_.data() + position_;
        position_ += static_cast<std::size_t>(count);
        return begin;
    }

    template <class... Parts>
    [[noreturn]] void corrupt(const Parts&... parts) const {
        fail(ErrorCode::CorruptFile, "'", name_, "': ", parts...);
    }

    template <class... Parts>
    [[noreturn]] void unsupported(const Parts&... parts) const {
        fail(ErrorCode::Unsupported, "'", name_, "': ", parts...);
    }

  private:
    std::span<const std::byte> bytes_;
    std::string_view name_;
    std::size_t position_ = 0;
};

}  // namespace adainfer::inline v0::detail::gguf

// ---- adainfer/io/gguf_index.hpp ------------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace adainfer::inline v0::detail::gguf {

/// From names to their positions in a list that is kept elsewhere: name_of(i) returns the name at position i. Hashes
/// in sorted order rather than a hash table: names that were made to collide cost n log n, not n^2.
class NameIndex {
  public:
    /// Indexes positions [0, count). Returns the position of a name that is there twice, if one is.
    template <class NameOf>
    std::optional<std::size_t> build(std::size_t count, const NameOf& name_of) {
        slots_.resize(count);
        for (std::size_t i = 0; i < count; ++i) slots_[i] = {hash(name_of(i)), i};
        std::sort(slots_.begin(), slots_.end(), [&](const Slot& a, const Slot& b) {
            return a.hash != b.hash ? a.hash < b.hash : name_of(a.position) < name_of(b.position);
        });
        const auto twice = std::adjacent_find(slots_.begin(), slots_.end(), [&](const Slot& a, const Slot& b) {
            return a.hash == b.hash && name_of(a.position) == name_of(b.position);
        });
        return twice == slots_.end() ? std::nullopt : std::optional<std::size_t>(twice->position);
    }

    template <class NameOf>
    [[nodiscard]] std::optional<std::size_t> find(std::string_view name, const NameOf& name_of) const noexcept {
        const std::uint64_t wanted = hash(name);
        auto slot = std::lower_bound(slots_.begin(), slots_.end(), wanted, [&](const Slot& a, std::uint64_t value) {
            return a.hash != value ? a.hash < value : name_of(a.position) < name;
        });
        if (slot == slots_.end() || slot->hash != wanted || name_of(slot->position) != name) return std::nullopt;
        return slot->position;
    }

  private:
    struct Slot {
        std::uint64_t hash;
        std::size_t position;
    };

    /// FNV-1a.
    static std::uint64_t hash(std::string_view name) noexcept {
        std::uint64_t value = 0xCBF29CE484222325U;
        for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
        return value;
    }

    std::vector<Slot> slots_;
};

}  // namespace adainfer::inline v0::detail::gguf

// ---- adainfer/io/gguf_split.hpp ------------------------------------------------------------------------------------------

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace adainfer::inline v0::detail::gguf {

/// The metadata keys of a model that is split over several files, and the most parts that their names can count.
inline constexpr std::string_view split_count_key = "split.count";
inline constexpr std::string_view split_number_key = "split.no";  // from 0
inline constexpr std::string_view split_tensors_key = "split.tensors.count";
inline constexpr std::uint64_t most_split_parts = 65535;

/// "-00002-of-00003.gguf" for number 1 of 3.
[[nodiscard]] inline std::string split_suffix(std::uint64_t number, std::uint64_t count) {
    const auto five_digits = [](std::uint64_t value) {
        const std::string digits = std::to_string(value);
        return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
    };
    return "-" + five_digits(number + 1) + "-of-" + five_digits(count) + ".gguf";
}

/// Where part `number` of a split model is, given where its first part is. Nothing if the first part's name does not
/// end as it must.
[[nodiscard]] inline std::optional<std::filesystem::path> split_part_path(const std::filesystem::path& first,
                                                                          std::uint64_t number, std::uint64_t count) {
    const std::string name = first.filename().string(), suffix = split_suffix(0, count);
    if (!name.ends_with(suffix)) return std::nullopt;
    return first.parent_path() / (name.substr(0, name.size() - suffix.size()) + split_suffix(number, count));
}

}  // namespace adainfer::inline v0::detail::gguf

// ---- adainfer/io/gguf_types.hpp ------------------------------------------------------------------------------------------

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// Types of a metadata value; the numbers are those of the file format.
enum class GgufValueType : std::uint32_t {
    UInt8 = 0,
    Int8 = 1,
    UInt16 = 2,
    Int16 = 3,
    UInt32 = 4,
    Int32 = 5,
    Float32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    UInt64 = 10,
    Int64 = 11,
    Float64 = 12,
};

struct GgufValueTypeInfo {
    std::string_view name;
    std::size_t bytes;  ///< of one value; 0 for strings and arrays, whose size is in the file
};

/// Name and size of a value type, or nothing for a number that is not one.
[[nodiscard]] constexpr std::optional<GgufValueTypeInfo> info(GgufValueType type) noexcept {
    switch (type) {
        case GgufValueType::UInt8: return GgufValueTypeInfo{"uint8", 1};
        case GgufValueType::Int8: return GgufValueTypeInfo{"int8", 1};
        case GgufValueType::UInt16: return GgufValueTypeInfo{"uint16", 2};
        case GgufValueType::Int16: return GgufValueTypeInfo{"int16", 2};
        case GgufValueType::UInt32: return GgufValueTypeInfo{"uint32", 4};
        case GgufValueType::Int32: return GgufValueTypeInfo{"int32", 4};
        case GgufValueType::Float32: return GgufValueTypeInfo{"float32", 4};
        case GgufValueType::Bool: return GgufValueTypeInfo{"bool", 1};
        case GgufValueType::String: return GgufValueTypeInfo{"string", 0};
        case GgufValueType::Array: return GgufValueTypeInfo{"array", 0};
        case GgufValueType::UInt64: return GgufValueTypeInfo{"uint64", 8};
        case GgufValueType::Int64: return GgufValueTypeInfo{"int64", 8};
        case GgufValueType::Float64: return GgufValueTypeInfo{"float64", 8};
    }
    return std::nullopt;
}

/// A tensor storage type of GGUF files, also those that this library cannot compute with: their sizes are needed to
/// check a file, and their names to say what is not supported.
struct GgmlTypeInfo {
    std::uint32_t id;
    std::string_view name;
    std::uint32_t block_size;   ///< elements a block
    std::uint32_t block_bytes;  ///< bytes a block
    std::optional<DType> dtype;
};

namespace detail::gguf {

inline constexpr std::array ggml_types{
    GgmlTypeInfo{0, "f32", 1, 4, DType::F32},
    GgmlTypeInfo{1, "f16", 1, 2, DType::F16},
    GgmlTypeInfo{2, "q4_0", 32, 18, DType::Q4_0},
    GgmlTypeInfo{3, "q4_1", 32, 20, DType::Q4_1},
    GgmlTypeInfo{6, "q5_0", 32, 22, DType::Q5_0},
    GgmlTypeInfo{7, "q5_1", 32, 24, DType::Q5_1},
    GgmlTypeInfo{8, "q8_0", 32, 34, DType::Q8_0},
    GgmlTypeInfo{9, "q8_1", 32, 36, std::nullopt},
    GgmlTypeInfo{10, "q2_k", 256, 84, std::nullopt},
    GgmlTypeInfo{11, "q3_k", 256, 110, std::nullopt},
    GgmlTypeInfo{12, "q4_k", 256, 144, DType::Q4_K},
    GgmlTypeInfo{13, "q5_k", 256, 176, DType::Q5_K},
    GgmlTypeInfo{14, "q6_k", 256, 210, DType::Q6_K},
    GgmlTypeInfo{15, "q8_k", 256, 292, std::nullopt},
    GgmlTypeInfo{16, "iq2_xxs", 256, 66, std::nullopt},
    GgmlTypeInfo{17, "iq2_xs", 256, 74, std::nullopt},
    GgmlTypeInfo{18, "iq3_xxs", 256, 98, std::nullopt},
    GgmlTypeInfo{19, "iq1_s", 256, 50, std::nullopt},
    GgmlTypeInfo{20, "iq4_nl", 32, 18, std::nullopt},
    GgmlTypeInfo{21, "iq3_s", 256, 110, std::nullopt},
    GgmlTypeInfo{22, "iq2_s", 256, 82, std::nullopt},
    GgmlTypeInfo{23, "iq4_xs", 256, 136, std::nullopt},
    GgmlTypeInfo{24, "i8", 1, 1, std::nullopt},
    GgmlTypeInfo{25, "i16", 1, 2, std::nullopt},
    GgmlTypeInfo{26, "i32", 1, 4, std::nullopt},
    GgmlTypeInfo{27, "i64", 1, 8, std::nullopt},
    GgmlTypeInfo{28, "f64", 1, 8, std::nullopt},
    GgmlTypeInfo{29, "iq1_m", 256, 56, std::nullopt},
    GgmlTypeInfo{30, "bf16", 1, 2, DType::BF16},
    GgmlTypeInfo{34, "tq1_0", 256, 54, std::nullopt},
    GgmlTypeInfo{35, "tq2_0", 256, 66, std::nullopt},
    GgmlTypeInfo{39, "mxfp4", 32, 17, std::nullopt},
    GgmlTypeInfo{40, "nvfp4", 64, 36, std::nullopt},
    GgmlTypeInfo{41, "q1_0", 128, 18, std::nullopt},
};

/// The sizes in the two tables must agree.
[[nodiscard]] constexpr bool ggml_types_match_dtypes() noexcept {
    for (const GgmlTypeInfo& type : ggml_types)
        if (type.dtype && (info(*type.dtype).name != type.name || info(*type.dtype).block_size != type.block_size ||
                           info(*type.dtype).block_bytes != type.block_bytes))
            return false;
    return true;
}
static_assert(ggml_types_match_dtypes());

}  // namespace detail::gguf

/// The type with this number in a file, or null: numbers of removed types and of types newer than this table.
[[nodiscard]] constexpr const GgmlTypeInfo* find_ggml_type(std::uint32_t id) noexcept {
    for (const GgmlTypeInfo& type : detail::gguf::ggml_types)
        if (type.id == id) return &type;
    return nullptr;
}

/// The number of a storage type in files.
[[nodiscard]] constexpr std::uint32_t ggml_type_id(DType dtype) noexcept {
    for (const GgmlTypeInfo& type : detail::gguf::ggml_types)
        if (type.dtype == dtype) return type.id;
    return ~0U;  // not reached: the table has every DType
}

/// The names of the storage types that this library computes with, separated by ", ".
[[nodiscard]] inline std::string supported_ggml_types() {
    std::string names;
    for (const GgmlTypeInfo& type : detail::gguf::ggml_types) {
        if (!type.dtype) continue;
        if (!names.empty()) names += ", ";
        names += type.name;
    }
    return names;
}

}  // namespace adainfer::inline v0

// ---- adainfer/io/gguf_value.hpp ------------------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace adainfer::inline v0 {

/// A metadata value: its type and where its bytes are in the file. Nothing is copied until a value is asked for, so
/// that a vocabulary of 10^5 tokens costs nothing to a reader that does not want it.
class GgufValue {
  public:
    /// Reads one value and checks it: lengths against the bytes left, booleans to be 0 or 1, no arrays of arrays.
    /// `key` is for messages. Throws Error (CorruptFile, Unsupported).
    [[nodiscard]] static GgufValue read(detail::gguf::Cursor& cursor, std::string_view key) {
        const auto type = read_type(cursor, key);
        if (type != GgufValueType::Array) {
            GgufValue value(type, type, 1);
            value.read_elements(cursor, key);
            return value;
        }
        const auto element_type = read_type(cursor, key);
        if (element_type == GgufValueType::Array)
            cursor.unsupported("metadata key ", detail::gguf::quoted(key), " is an array of arrays");
        GgufValue value(type, element_type, cursor.number<std::uint64_t>("an array's length"));
        value.read_elements(cursor, key);
        return value;
    }

    [[nodiscard]] GgufValueType type() const noexcept { return type_; }
    /// Of an array, the type of its elements; otherwise type().
    [[nodiscard]] GgufValueType element_type() const noexcept { return element_type_; }
    [[nodiscard]] bool is_array() const noexcept { return type_ == GgufValueType::Array; }
    /// Elements of an array; 1 for anything else.
    [[nodiscard]] std::uint64_t size() const noexcept { return count_; }

    /// E.g. "uint32" or "array of string".
    [[nodiscard]] std::string type_name() const {
        return (is_array() ? "array of " : "") + std::string(info(element_type_)->name);
    }

    // The value as a C++ type; nothing where the file has another type or a number that the C++ type cannot hold.

    [[nodiscard]] std::optional<std::uint64_t> as_uint() const noexcept {
        if (type_ == GgufValueType::UInt64) return detail::gguf::load_number<std::uint64_t>(data_);
        const auto number = as_int();
        if (!number || *number < 0) return std::nullopt;
        return static_cast<std::uint64_t>(*number);
    }

    [[nodiscard]] std::optional<std::int64_t> as_int() const noexcept {
        return is_array() ? std::nullopt : int_at(element_type_, data_);
    }

    [[nodiscard]] std::optional<double> as_float() const noexcept {
        if (type_ == GgufValueType::Float32) return static_cast<double>(detail::gguf::load_number<float>(data_));
        if (type_ == GgufValueType::Float64) return detail::gguf::load_number<double>(data_);
        return std::nullopt;
    }

    [[nodiscard]] std::optional<bool> as_bool() const noexcept {
        if (type_ != GgufValueType::Bool) return std::nullopt;
        return *data_ != std::byte{0};
    }

    /// The view is into the file. Any bytes: the format says UTF-8, vocabularies have been seen that do not keep to it.
    [[nodiscard]] std::optional<std::string_view> as_string() const noexcept {
        if (type_ != GgufValueType::String) return std::nullopt;
        return string_at(data_);
    }

    [[nodiscard]] std::optional<std::vector<std::string>> as_string_array() const {
        if (!is_array() || element_type_ != GgufValueType::String) return std::nullopt;
        std::vector<std::string> strings;
        strings.reserve(static_cast<std::size_t>(count_));
        const std::byte* at = data_;
        for (std::uint64_t i = 0; i < count_; ++i) {
            const std::string_view text = string_at(at);
            strings.emplace_back(text);
            at += sizeof(std::uint64_t) + text.size();
        }
        return strings;
    }

    [[nodiscard]] std::optional<std::vector<std::int64_t>> as_int_array() const {
        if (!is_array() || !is_integer(element_type_)) return std::nullopt;
        std::vector<std::int64_t> numbers;
        numbers.reserve(static_cast<std::size_t>(count_));
        const std::size_t step = info(element_type_)->bytes;
        for (std::uint64_t i = 0; i < count_; ++i) {
            const auto number = int_at(element_type_, data_ + i * step);
            if (!number) return std::nullopt;
            numbers.push_back(*number);
        }
        return numbers;
    }

    /// float64 elements are rounded to float, those beyond its range to infinity.
    [[nodiscard]] std::optional<std::vector<float>> as_float_array() const {
        if (!is_array()) return std::nullopt;
        std::vector<float> numbers;
        if (element_type_ == GgufValueType::Float32) {
            numbers.resize(static_cast<std::size_t>(count_));
            if (count_ != 0) std::memcpy(numbers.data(), data_, numbers.size() * sizeof(float));
        } else if (element_type_ == GgufValueType::Float64) {
            numbers.reserve(static_cast<std::size_t>(count_));
            for (std::uint64_t i = 0; i < count_; ++i)
                numbers.push_back(to_float(detail::gguf::load_number<double>(data_ + 8 * i)));
        } else {
            return std::nullopt;
        }
        return numbers;
    }

  private:
    GgufValue(GgufValueType type, GgufValueType element_type, std::uint64_t count) noexcept
        : type_(type), element_type_(element_type), count_(count) {}

    static GgufValueType read_type(detail::gguf::Cursor& cursor, std::string_view key) {
        const auto type = cursor.number<std::uint32_t>("a value type");
        if (!info(GgufValueType{type}))
            cursor.corrupt("metadata key ", detail::gguf::quoted(key), " has the unknown value type ", type);
        return GgufValueType{type};
    }

    /// Sets data_ and steps over count_ elements.
    void read_elements(detail::gguf::Cursor& cursor, std::string_view key) {
        const std::string_view what = "a metadata value";
        const std::size_t bytes = info(element_type_)->bytes;
        // Every element takes bytes of the file, so this bounds the loops below and all later allocations.
        const std::size_t least = bytes != 0 ? bytes : sizeof(std::uint64_t);
        if (count_ > cursor.left() / least)
            cursor.corrupt("cut short: metadata key ", detail::gguf::quoted(key), " (", type_name(), ") has ", count_,
                           " elements at byte ", cursor.position(), ", ", cursor.left(), " bytes are left");
        data_ = cursor.take(0, what);
        if (bytes == 0) {
            for (std::uint64_t i = 0; i < count_; ++i) (void)cursor.string(what);
            return;
        }
        (void)cursor.take(count_ * bytes, what);
        if (element_type_ != GgufValueType::Bool) return;
        for (std::uint64_t i = 0; i < count_; ++i)
            if (const auto flag = detail::gguf::load_number<std::uint8_t>(data_ + i); flag > 1)
                cursor.corrupt("metadata key ", detail::gguf::quoted(key), " has the boolean ", unsigned{flag},
                               ", expected 0 or 1");
    }

    static bool is_integer(GgufValueType type) noexcept {
        return type != GgufValueType::Float32 && type != GgufValueType::Float64 && type != GgufValueType::Bool &&
               type != GgufValueType::String && type != GgufValueType::Array;
    }

    static std::optional<std::int64_t> int_at(GgufValueType type, const std::byte* at) noexcept {
        switch (type) {
            case GgufValueType::UInt8: return detail::gguf::load_number<std::uint8_t>(at);
            case GgufValueType::Int8: return detail::gguf::load_number<std::int8_t>(at);
            case GgufValueType::UInt16: return detail::gguf::load_number<std::uint16_t>(at);
            case GgufValueType::Int16: return detail::gguf::load_number<std::int16_t>(at);
            case GgufValueType::UInt32: return detail::gguf::load_number<std::uint32_t>(at);
            case GgufValueType::Int32: return detail::gguf::load_number<std::int32_t>(at);
            case GgufValueType::Int64: return detail::gguf::load_number<std::int64_t>(at);
            case GgufValueType::UInt64: {
                const auto number = detail::gguf::load_number<std::uint64_t>(at);
                if (number > std::uint64_t{(std::numeric_limits<std::int64_t>::max)()}) return std::nullopt;
                return static_cast<std::int64_t>(number);
            }
            case GgufValueType::Float32:
            case GgufValueType::Float64:
            case GgufValueType::Bool:
            case GgufValueType::String:
            case GgufValueType::Array: break;
        }
        return std::nullopt;
    }

    static std::string_view string_at(const std::byte* at) noexcept {
        const auto length = detail::gguf::load_number<std::uint64_t>(at);
        return {reinterpret_cast<const char*>(at + sizeof length), static_cast<std::size_t>(length)};
    }

    static float to_float(double number) noexcept {
        // Out of range the language leaves the conversion undefined.
        if (std::abs(number) > static_cast<double>((std::numeric_limits<float>::max)()))
            return std::copysign(std::numeric_limits<float>::infinity(), number < 0 ? -1.0F : 1.0F);
        return static_cast<float>(number);
    }

    GgufValueType type_, element_type_;
    std::uint64_t count_;
    const std::byte* data_ = nullptr;
};

}  // namespace adainfer::inline v0

// ---- adainfer/io/mapped_file.hpp -----------------------------------------------------------------------------------------

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

namespace adainfer::inline v0 {

/// The bytes of a file, read-only: mapped where the system can (POSIX), read into memory elsewhere. The bytes are at
/// the same address until the object dies, also after a move. A mapped file must not be cut short by somebody else
/// while it is in use: reading past its new end stops the process (SIGBUS).
class MappedFile {
  public:
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

namespace adainfer::inline v0 {

/// A key and its value; the key is a view into the file.
struct GgufEntry {
    std::string_view key;
    GgufValue value;
};

/// A tensor of a GGUF file. The data lie in the file and need no alignment of their own.
struct GgufTensor {
    std::string name;
    std::uint32_t type = 0;           ///< number of the storage type in the file
    std::string_view type_name;       ///< e.g. "q4_1"; a literal
    std::vector<std::uint64_t> dims;  ///< at most 4, the innermost (contiguous) first; none for a scalar
    std::uint64_t offset = 0;         ///< from the start of the data section of its file
    std::uint64_t bytes = 0;          ///< of the data; 0 where a dimension is 0
    const std::byte* data = nullptr;  ///< never null
};

/// A GGUF file, version 2 or 3, little-endian: what a model file holds, not what it means. Everything that does not
/// follow the format is refused when the file is opened, so a GgufFile is consistent: every tensor lies inside the
/// file, in the order of the table, with no gap but alignment padding. (Bytes behind the last tensor are ignored, and
/// the padding after it may be missing.)
///
/// Immutable; may be used from several threads. A copy shares the bytes.
class GgufFile {
  public:
    /// Maps and checks a file. Of a model split over several files, `path` is the first
    /// ("...-00001-of-00003.gguf"); the others are opened too and their tensors added.
    /// Throws Error: Io (a file cannot be opened), CorruptFile, Unsupported (version, byte order).
    [[nodiscard]] static GgufFile open(const std::filesystem::path& path) {
        GgufFile file = open_part(path);
        if (const auto count = file.find_uint(detail::gguf::split_count_key); count && *count > 1)
            file.add_parts(path, *count);
        return file;
    }

    /// Checks a file in memory. `name` is for messages; `storage` keeps the bytes alive (null: the caller does).
    /// Throws Error (CorruptFile; Unsupported, also for a part of a split model).
    [[nodiscard]] static GgufFile parse(std::span<const std::byte> bytes, std::string name,
                                        std::shared_ptr<const void> storage = nullptr) {
        GgufFile file = parse_part(bytes, std::move(name), std::move(storage));
        if (const auto count = file.find_uint(detail::gguf::split_count_key); count && *count > 1)
            fail(ErrorCode::Unsupported, "'", file.name_, "': one of ", *count,
                 " parts of a split model, which can only be opened from files");
        return file;
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
    /// Of tensor offsets, in bytes; a power of two.
    [[nodiscard]] std::uint64_t alignment() const noexcept { return alignment_; }
    /// Keeps the bytes of all tensors alive.
    [[nodiscard]] const std::shared_ptr<const void>& storage() const noexcept { return storage_; }

    // Metadata. find_* returns nothing where the key is absent; get_* throws Error (CorruptFile) then. Both throw
    // Error (CorruptFile) where the value is of another type: the message names file, key, expected and found type.

    /// All entries in the order of the file.
    [[nodiscard]] std::span<const GgufEntry> metadata() const noexcept { return entries_; }

    /// The value of a key, or null.
    [[nodiscard]] const GgufValue* find(std::string_view key) const noexcept {
        const auto index = entry_index_.find(key, [this](std::size_t i) { return entries_[i].key; });
        return index ? &entries_[*index].value : nullptr;
    }

    [[nodiscard]] bool has(std::string_view key) const noexcept { return find(key) != nullptr; }

    /// Any integer type; not negative.
    [[nodiscard]] std::optional<std::uint64_t> find_uint(std::string_view key) const {
        return convert(key, "a non-negative integer", &GgufValue::as_uint);
    }
    /// Any integer type; up to 2^63 - 1.
    [[nodiscard]] std::optional<std::int64_t> find_int(std::string_view key) const {
        return convert(key, "an integer", &GgufValue::as_int);
    }
    /// float32 or float64.
    [[nodiscard]] std::optional<double> find_float(std::string_view key) const {
        return convert(key, "a floating-point number", &GgufValue::as_float);
    }
    [[nodiscard]] std::optional<bool> find_bool(std::string_view key) const {
        return convert(key, "a boolean", &GgufValue::as_bool);
    }
    /// Bytes as they are in the file.
    [[nodiscard]] std::optional<std::string> find_string(std::string_view key) const {
        const auto text = convert(key, "a string", &GgufValue::as_string);
        return text ? std::optional<std::string>(*text) : std::nullopt;
    }
    /// Bytes as they are in the file.
    [[nodiscard]] std::optional<std::vector<std::string>> find_string_array(std::string_view key) const {
        return convert(key, "an array of strings", &GgufValue::as_string_array);
    }
    /// Elements of any integer type, each up to 2^63 - 1.
    [[nodiscard]] std::optional<std::vector<std::int64_t>> find_int_array(std::string_view key) const {
        return convert(key, "an array of integers", &GgufValue::as_int_array);
    }
    /// Elements float32 or float64; the latter are rounded.
    [[nodiscard]] std::optional<std::vector<float>> find_float_array(std::string_view key) const {
        return convert(key, "an array of floating-point numbers", &GgufValue::as_float_array);
    }

    [[nodiscard]] std::uint64_t get_uint(std::string_view key) const { return present(find_uint(key), key); }
    [[nodiscard]] std::int64_t get_int(std::string_view key) const { return present(find_int(key), key); }
    [[nodiscard]] double get_float(std::string_view key) const { return present(find_float(key), key); }
    [[nodiscard]] bool get_bool(std::string_view key) const { return present(find_bool(key), key); }
    [[nodiscard]] std::string get_string(std::string_view key) const { return present(find_string(key), key); }
    [[nodiscard]] std::vector<std::string> get_string_array(std::string_view key) const {
        return present(find_string_array(key), key);
    }
    [[nodiscard]] std::vector<std::int64_t> get_int_array(std::string_view key) const {
        return present(find_int_array(key), key);
    }
    [[nodiscard]] std::vector<float> get_float_array(std::string_view key) const {
        return present(find_float_array(key), key);
    }

    // Tensors.

    /// All tensors in the order of the file.
    [[nodiscard]] std::span<const GgufTensor> tensors() const noexcept { return tensors_; }

    /// The tensor of this name, or null. The pointer is valid as long as this object.
    [[nodiscard]] const GgufTensor* find_tensor(std::string_view tensor_name) const noexcept {
        const auto index =
            tensor_index_.find(tensor_name, [this](std::size_t i) { return std::string_view(tensors_[i].name); });
        return index ? &tensors_[*index] : nullptr;
    }

    /// The tensor of this name. Throws Error (CorruptFile) where the file has none.
    [[nodiscard]] const GgufTensor& tensor(std::string_view tensor_name) const {
        const GgufTensor* const found = find_tensor(tensor_name);
        if (found == nullptr)
            fail(ErrorCode::CorruptFile, "'", name_, "': no tensor ", detail::gguf::quoted(tensor_name));
        return *found;
    }

    /// The tensor as a matrix [rows, cols]: cols is the innermost dimension, rows the product of the others (one row
    /// for a vector or scalar). Throws Error (Unsupported) for a storage type that the library does not compute with.
    [[nodiscard]] WeightView weight(const GgufTensor& tensor) const {
        const GgmlTypeInfo* const type = find_ggml_type(tensor.type);
        if (type == nullptr || !type->dtype)
            fail(ErrorCode::Unsupported, "'", name_, "': tensor ", detail::gguf::quoted(tensor.name), " is of type ",
                 tensor.type_name, "; supported are ", supported_ggml_types());
        std::uint64_t rows = 1;
        for (std::size_t i = 1; i < tensor.dims.size(); ++i) rows *= tensor.dims[i];  // fits: see read_tensor
        const std::uint64_t cols = tensor.dims.empty() ? 1 : tensor.dims[0];
        return {*type->dtype, static_cast<std::size_t>(rows), static_cast<std::size_t>(cols), tensor.data};
    }

  private:
    static constexpr std::size_t longest_key = 65535;       // of the format's specification
    static constexpr std::size_t longest_tensor_name = 63;  // llama.cpp keeps names in 64 bytes with a final NUL
    static constexpr std::uint32_t most_dims = 4;
    static constexpr auto largest = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());

    GgufFile() = default;

    static GgufFile parse_part(std::span<const std::byte> bytes, std::string name,
                               std::shared_ptr<const void> storage) {
        GgufFile file;
        file.name_ = std::move(name);
        file.storage_ = std::move(storage);
        detail::gguf::Cursor cursor(bytes, file.name_);
        file.read_header(cursor, bytes);
        return file;
    }

    static GgufFile open_part(const std::filesystem::path& path) {
        auto mapped = std::make_shared<const MappedFile>(MappedFile::open(path));
        const auto bytes = mapped->bytes();
        return parse_part(bytes, path.string(), std::move(mapped));
    }

    /// This is the first of `count` parts: opens the others and takes over their tensors and storage.
    void add_parts(const std::filesystem::path& path, std::uint64_t count) {
        using namespace detail::gguf;
        if (count > most_split_parts)
            fail(ErrorCode::CorruptFile, "'", name_, "': split into ", count, " parts, at most ", most_split_parts,
                 " are possible");
        check_part(*this, 0, count);
        auto storages = std::make_shared<std::vector<std::shared_ptr<const void>>>();
        storages->push_back(std::move(storage_));
        for (std::uint64_t number = 1; number < count; ++number) {
            const auto part_path = split_part_path(path, number, count);
            if (!part_path)
                fail(ErrorCode::Unsupported, "'", name_, "': the first of ", count,
                     " parts of a split model, expected a file name ending in ", split_suffix(0, count));
            GgufFile part = open_part(*part_path);
            check_part(part, number, count);
            std::move(part.tensors_.begin(), part.tensors_.end(), std::back_inserter(tensors_));
            storages->push_back(std::move(part.storage_));
        }
        storage_ = std::move(storages);
        index_tensors();
        if (const auto expected = find_uint(split_tensors_key); expected && *expected != tensors_.size())
            fail(ErrorCode::CorruptFile, "'", name_, "': its ", count, " parts have ", tensors_.size(),
                 " tensors, expected ", *expected);
    }

    /// Throws unless the file says that it is part `number` of `count`.
    static void check_part(const GgufFile& part, std::uint64_t number, std::uint64_t count) {
        const std::uint64_t found_number = part.get_uint(detail::gguf::split_number_key);
        const std::uint64_t found_count = part.get_uint(detail::gguf::split_count_key);
        if (found_number != number || found_count != count)
            fail(number == 0 ? ErrorCode::Unsupported : ErrorCode::CorruptFile, "'", part.name_,
                 "': part number ", found_number, " of ", found_count, " of a split model (counted from 0), expected ",
                 number, " of ", count);
    }

    void index_tensors() {
        const auto name_of = [this](std::size_t i) { return std::string_view(tensors_[i].name); };
        if (const auto twice = tensor_index_.build(tensors_.size(), name_of))
            fail(ErrorCode::CorruptFile, "'", name_, "': tensor ", detail::gguf::quoted(name_of(*twice)),
                 " is there more than once");
    }

    template <class T>
    std::optional<T> convert(std::string_view key, std::string_view expected,
                             std::optional<T> (GgufValue::*as)() const) const {
        const GgufValue* const value = find(key);
        if (value == nullptr) return std::nullopt;
        std::optional<T> converted = (value->*as)();
        if (!converted) wrong_type(key, expected, *value);
        return converted;
    }

    [[noreturn]] void wrong_type(std::string_view key, std::string_view expected, const GgufValue& value) const {
        std::string found = value.type_name();
        if (const auto number = value.as_uint()) {
            found += " " + std::to_string(*number);
        } else if (const auto negative = value.as_int()) {
            found += " " + std::to_string(*negative);
        }
        fail(ErrorCode::CorruptFile, "'", name_, "': metadata key ", detail::gguf::quoted(key), " is of type ", found,
             ", expected ", expected);
    }

    template <class T>
    T present(std::optional<T> value, std::string_view key) const {
        if (!value) fail(ErrorCode::CorruptFile, "'", name_, "': no metadata key ", detail::gguf::quoted(key));
        return *std::move(value);
    }

    void read_header(detail::gguf::Cursor& cursor, std::span<const std::byte> bytes) {
        if (std::memcmp(cursor.take(4, "the magic number"), "GGUF", 4) != 0)
            cursor.corrupt("not a GGUF file (its first four bytes are not \"GGUF\")");
        version_ = cursor.number<std::uint32_t>("the version");
        if (version_ != 0 && (version_ & 0xFFFFU) == 0) cursor.unsupported("big-endian GGUF file");
        if (version_ != 2 && version_ != 3)
            cursor.unsupported("GGUF version ", version_, ", supported are versions 2 and 3");
        const auto tensor_count = cursor.number<std::uint64_t>("the number of tensors");
        const auto entry_count = cursor.number<std::uint64_t>("the number of metadata keys");
        // The shortest entry: a length, one byte of key, a type, one byte. The shortest tensor: a length, one byte of
        // name, the number of dimensions (none), a type, an offset.
        check_count(cursor, "metadata keys", entry_count, 8 + 1 + 4 + 1);
        check_count(cursor, "tensors", tensor_count, 8 + 1 + 4 + 4 + 8);

        for (std::uint64_t i = 0; i < entry_count; ++i) {
            const std::string_view key = read_name(cursor, "metadata key", longest_key);
            entries_.push_back({key, GgufValue::read(cursor, key)});
        }
        const auto key_of = [this](std::size_t i) { return entries_[i].key; };
        if (const auto twice = entry_index_.build(entries_.size(), key_of))
            cursor.corrupt("metadata key ", detail::gguf::quoted(key_of(*twice)), " is there more than once");
        read_alignment(cursor);

        std::uint64_t expected_offset = 0;
        for (std::uint64_t i = 0; i < tensor_count; ++i) read_tensor(cursor, expected_offset);
        index_tensors();
        locate_tensors(cursor, bytes);
    }

    static void check_count(const detail::gguf::Cursor& cursor, std::string_view what, std::uint64_t count,
                            std::uint64_t least_bytes) {
        if (count > cursor.left() / least_bytes)
            cursor.corrupt("cut short: ", count, " ", what, " are announced, ", cursor.left(), " bytes are left");
    }

    static std::string_view read_name(detail::gguf::Cursor& cursor, std::string_view what, std::size_t longest) {
        const std::string_view name = cursor.string(what);
        if (name.empty()) cursor.corrupt("a ", what, " is empty");
        if (name.size() > longest)
            cursor.corrupt(what, " ", detail::gguf::quoted(name), " has ", name.size(), " bytes, at most ", longest,
                           " are allowed");
        if (name.find('\0') != std::string_view::npos || !detail::gguf::is_utf8(name))
            cursor.corrupt(what, " ", detail::gguf::quoted(name), " is not UTF-8 text without NUL");
        return name;
    }

    void read_alignment(const detail::gguf::Cursor& cursor) {
        const std::string_view key = "general.alignment";
        const GgufValue* const value = find(key);
        if (value == nullptr) return;
        if (value->type() != GgufValueType::UInt32) wrong_type(key, "uint32", *value);
        alignment_ = *value->as_uint();
        if (!std::has_single_bit(alignment_))
            cursor.corrupt("the alignment (", key, ") is ", alignment_, ", expected a power of two");
    }

    /// `value` rounded up to the alignment. Throws where that does not fit 64 bits.
    [[nodiscard]] std::uint64_t aligned(const detail::gguf::Cursor& cursor, std::uint64_t value) const {
        const auto raised = checked_add(value, alignment_ - 1);
        if (!raised) cursor.corrupt("the tensors are larger than 2^64 bytes");
        return *raised & ~(alignment_ - 1);
    }

    /// Reads one entry of the tensor table. `expected_offset`: where its data must begin; moved behind them.
    void read_tensor(detail::gguf::Cursor& cursor, std::uint64_t& expected_offset) {
        GgufTensor tensor;
        tensor.name = read_name(cursor, "tensor name", longest_tensor_name);
        const auto corrupt = [&](const auto&... parts) {
            cursor.corrupt("tensor ", detail::gguf::quoted(tensor.name), " ", parts...);
        };
        const auto dim_count = cursor.number<std::uint32_t>("a tensor's number of dimensions");
        if (dim_count > most_dims) corrupt("has ", dim_count, " dimensions, at most ", most_dims, " are allowed");
        // Zeros count as ones here: every product of some of the dimensions must fit, also that of the rows of a
        // tensor without elements.
        std::uint64_t elements = 1;
        bool has_elements = true;
        for (std::uint32_t i = 0; i < dim_count; ++i) {
            const auto dim = cursor.number<std::uint64_t>("a tensor's dimensions");
            const auto product = checked_mul(elements, (std::max)(dim, std::uint64_t{1}));
            if (!product || *product > largest) corrupt("has more than 2^63 - 1 elements");
            elements = *product;
            has_elements = has_elements && dim != 0;
            tensor.dims.push_back(dim);
        }
        if (!has_elements) elements = 0;

        tensor.type = cursor.number<std::uint32_t>("a tensor's type");
        const GgmlTypeInfo* const type = find_ggml_type(tensor.type);
        if (type == nullptr)
            cursor.unsupported("tensor ", detail::gguf::quoted(tensor.name), " is of the unknown type ", tensor.type,
                               "; supported are ", supported_ggml_types());
        tensor.type_name = type->name;
        const std::uint64_t row = tensor.dims.empty() ? 1 : tensor.dims[0];
        if (row % type->block_size != 0)
            corrupt("has rows of ", row, " elements, expected a multiple of ", type->block_size, " for type ",
                    type->name);
        const auto bytes = checked_mul(elements / type->block_size, type->block_bytes);
        if (!bytes || *bytes > largest) corrupt("has more than 2^63 - 1 bytes");
        tensor.bytes = *bytes;

        tensor.offset = cursor.number<std::uint64_t>("a tensor's offset");
        if (tensor.offset != expected_offset)
            corrupt(tensor.offset % alignment_ != 0     ? "is not aligned"
                    : tensor.offset < expected_offset ? "overlaps the tensor before it"
                                                      : "leaves a gap to the tensor before it",
                    ": its offset is ", tensor.offset, ", expected ", expected_offset, " (alignment ", alignment_, ")");
        const auto end = checked_add(tensor.offset, tensor.bytes);
        if (!end) corrupt("ends beyond 2^64 bytes");
        expected_offset = aligned(cursor, *end);
        tensors_.push_back(std::move(tensor));
    }

    /// The tensor table is read: now it is known where the data begin.
    void locate_tensors(const detail::gguf::Cursor& cursor, std::span<const std::byte> bytes) {
        const std::uint64_t start = aligned(cursor, cursor.position());
        for (GgufTensor& tensor : tensors_) {
            const auto begin = checked_add(start, tensor.offset);
            const auto end = begin ? checked_add(*begin, tensor.bytes) : std::nullopt;
            if (tensor.bytes == 0) {  // nowhere to read from, so a file that ends before the padding does no harm
                tensor.data = bytes.data() + (std::min)(begin.value_or(bytes.size()), std::uint64_t{bytes.size()});
                continue;
            }
            if (!end || *end > bytes.size())
                cursor.corrupt("cut short: tensor ", detail::gguf::quoted(tensor.name), " has ", tensor.bytes,
                               " bytes at byte ", start, " + ", tensor.offset, ", the file has ", bytes.size());
            tensor.data = bytes.data() + *begin;
        }
    }

    std::string name_;
    std::shared_ptr<const void> storage_;
    std::uint32_t version_ = 0;
    std::uint64_t alignment_ = 32;
    std::vector<GgufEntry> entries_;
    std::vector<GgufTensor> tensors_;
    detail::gguf::NameIndex entry_index_, tensor_index_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/io/gguf_model.hpp ------------------------------------------------------------------------------------------

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>


// ---- adainfer/io/identity.hpp --------------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace adainfer::inline v0 {

/// Incremental 64-bit FNV-1a, for telling files apart, not for security.
class Fingerprint {
  public:
    Fingerprint& add(std::span<const std::byte> bytes) noexcept {
        for (const std::byte byte : bytes) hash_ = (hash_ ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3U;
        return *this;
    }
    Fingerprint& add(std::string_view text) noexcept {
        return add(std::as_bytes(std::span(text.data(), text.size()))).add(std::uint64_t{text.size()});
    }
    Fingerprint& add(std::uint64_t number) noexcept { return add(std::as_bytes(std::span(&number, 1))); }

    /// The first and the last `most` bytes and the size: enough to tell weights apart without reading them all.
    Fingerprint& add_ends(std::span<const std::byte> bytes, std::size_t most = 256) noexcept {
        const std::size_t n = (std::min)(most, bytes.size());
        return add(std::uint64_t{bytes.size()}).add(bytes.first(n)).add(bytes.last(n));
    }

    /// 16 hexadecimal digits.
    [[nodiscard]] std::string text() const {
        constexpr std::string_view digits = "0123456789abcdef";
        std::string result(16, '0');
        for (std::size_t i = 0; i < 16; ++i) result[i] = digits[(hash_ >> (60 - 4 * i)) & 15U];
        return result;
    }

  private:
    std::uint64_t hash_ = 0xCBF29CE484222325U;
};

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// Architectures that load_weights() reads.
inline constexpr std::string_view supported_architectures = "llama";

namespace detail {

/// Reads the tensors of one file by name and remembers which, so that a tensor nobody asked for is noticed.
class TensorReader {
  public:
    explicit TensorReader(const GgufFile& file) : file_(file) {}

    [[nodiscard]] bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

    /// A matrix [rows, cols]. Throws CorruptFile (missing), ShapeMismatch, Unsupported (storage type).
    [[nodiscard]] WeightView matrix(const std::string& name, std::size_t rows, std::size_t cols) {
        const GgufTensor& tensor = file_.tensor(name);
        const WeightView weight = file_.weight(tensor);
        if (tensor.dims.size() > 2) {
            fail(ErrorCode::ShapeMismatch, "'", file_.name(), "': tensor '", name, "' has ", tensor.dims.size(),
                 " dimensions, expected [", rows, ", ", cols, "]");
        }
        if (weight.rows != rows || weight.cols != cols) {
            fail(ErrorCode::ShapeMismatch, "'", file_.name(), "': tensor '", name, "' is [", weight.rows, ", ", weight.cols,
                 "], expected [", rows, ", ", cols, "]");
        }
        read_.insert(name);
        return weight;
    }

    /// A vector [size] as floats. Throws as matrix() does, and NotFinite.
    [[nodiscard]] std::vector<float> vector(const std::string& name, std::size_t size) {
        const WeightView weight = matrix(name, 1, size);
        std::vector<float> values(size);
        dequantize_row(weight.dtype, weight.data, size, values.data());
        if (!all_finite(values.data(), size)) {
            fail(ErrorCode::NotFinite, "'", file_.name(), "': tensor '", name, "' holds NaN or infinity");
        }
        return values;
    }

    [[nodiscard]] LinearWeights linear(const std::string& name, std::size_t out, std::size_t in) {
        LinearWeights result{matrix(name + ".weight", out, in), {}};
        if (has(name + ".bias")) result.bias = vector(name + ".bias", out);
        return result;
    }

    /// Throws Unsupported for the first tensor that nobody read: a model that needs it would be silently wrong.
    void require_all_read(const ModelConfig& config) const {
        for (const GgufTensor& tensor : file_.tensors()) {
            if (read_.contains(tensor.name)) continue;
            fail(ErrorCode::Unsupported, "'", file_.name(), "': tensor '", tensor.name, "' is not part of a ",
                 config.architecture, " model of ", config.layers, " layers as this library runs it");
        }
    }

  private:
    const GgufFile& file_;
    std::set<std::string, std::less<>> read_;
};

inline ModelConfig read_config(const GgufFile& file) {
    ModelConfig config;
    config.architecture = file.get_string("general.architecture");
    if (config.architecture != "llama") {
        fail(ErrorCode::Unsupported, "'", file.name(), "': architecture '", config.architecture, "'; supported: ",
             supported_architectures);
    }
    config.name = file.find_string("general.name").value_or(config.architecture);
    const auto key = [&](std::string_view name) { return config.architecture + "." + std::string(name); };
    const auto number = [&](std::string_view name) { return static_cast<std::size_t>(file.get_uint(key(name))); };
    const auto number_or = [&](std::string_view name, std::size_t otherwise) {
        return static_cast<std::size_t>(file.find_uint(key(name)).value_or(otherwise));
    };

    config.layers = number("block_count");
    config.hidden = number("embedding_length");
    config.heads = number("attention.head_count");
    config.kv_heads = number_or("attention.head_count_kv", config.heads);
    config.feed_forward = number("feed_forward_length");
    config.context = number("context_length");
    const bool divides = config.heads != 0 && config.hidden % config.heads == 0;
    if (!divides && !file.has(key("attention.key_length"))) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("attention.head_count"), " is ", config.heads,
             ", which does not divide the hidden size ", config.hidden);
    }
    config.head_dim = number_or("attention.key_length", divides ? config.hidden / config.heads : 0);
    if (number_or("attention.value_length", config.head_dim) != config.head_dim) {
        fail(ErrorCode::Unsupported, "'", file.name(), "': key and value heads of different sizes");
    }
    const GgufTensor& embedding = file.tensor("token_embd.weight");
    config.vocabulary = embedding.dims.size() == 2 ? static_cast<std::size_t>(embedding.dims[1]) : 0;
    if (number_or("vocab_size", config.vocabulary) != config.vocabulary) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("vocab_size"), " is ", number("vocab_size"),
             ", but token_embd.weight has ", config.vocabulary, " rows");
    }
    config.norm_eps = static_cast<float>(file.get_float(key("attention.layer_norm_rms_epsilon")));
    config.attention_scale = 1.0F / std::sqrt(static_cast<float>(config.head_dim));

    config.rope.dims = number_or("rope.dimension_count", config.head_dim);
    if (config.rope.dims == 0 && config.head_dim != 0) {  // a model without rotary positions is something else than a llama
        fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("rope.dimension_count"), " is 0");
    }
    config.rope.base = file.find_float(key("rope.freq_base")).value_or(10000.0);
    config.rope.interleaved = true;
    const std::string scaling = file.find_string(key("rope.scaling.type")).value_or("none");
    if (scaling == "linear") {
        config.rope.linear_factor = file.get_float(key("rope.scaling.factor"));
    } else if (scaling != "none") {
        fail(ErrorCode::Unsupported, "'", file.name(), "': rotary scaling '", scaling,
             "'; supported: none, linear, and Llama 3's by its tensor rope_freqs.weight");
    }
    return config;
}

inline std::string identity_of(const GgufFile& file, const ModelConfig& config) {
    Fingerprint fingerprint;
    for (const GgufTensor& tensor : file.tensors()) {
        fingerprint.add(tensor.name).add(std::uint64_t{tensor.type});
        for (const std::uint64_t dim : tensor.dims) fingerprint.add(dim);
        fingerprint.add_ends({tensor.data, static_cast<std::size_t>(tensor.bytes)});
    }
    return config.architecture + "-" + std::to_string(config.layers) + "x" + std::to_string(config.hidden) + "-" + fingerprint.text();
}

}  // namespace detail

/// The decoder of a GGUF file; matrices stay in the file's format, over the file's own bytes. Throws Unsupported
/// (architecture, storage type, a tensor that the library would ignore), CorruptFile, ShapeMismatch, NotFinite, Cancelled.
[[nodiscard]] inline ModelWeights load_weights(const GgufFile& file, const BuildOptions& options = {}) {
    ModelWeights model;
    model.config = detail::read_config(file);
    ModelConfig& config = model.config;
    detail::TensorReader tensors(file);
    if (tensors.has("rope_freqs.weight")) {
        config.rope.frequency_factors = tensors.vector("rope_freqs.weight", config.rope.dims / 2);
    }
    validate(config, "'" + file.name() + "'");

    model.token_embedding = tensors.matrix("token_embd.weight", config.vocabulary, config.hidden);
    for (std::size_t i = 0; i < config.layers; ++i) {
        if (options.stop.stop_requested()) fail(ErrorCode::Cancelled, "loading '", file.name(), "' was cancelled");
        const std::string prefix = std::string("blk.").append(std::to_string(i)).append(".");
        LayerWeights layer;
        layer.attention_norm = tensors.vector(prefix + "attn_norm.weight", config.hidden);
        layer.q = tensors.linear(prefix + "attn_q", config.q_size(), config.hidden);
        layer.k = tensors.linear(prefix + "attn_k", config.kv_size(), config.hidden);
        layer.v = tensors.linear(prefix + "attn_v", config.kv_size(), config.hidden);
        layer.attention_output = tensors.linear(prefix + "attn_output", config.hidden, config.q_size());
        layer.feed_forward_norm = tensors.vector(prefix + "ffn_norm.weight", config.hidden);
        layer.gate = tensors.linear(prefix + "ffn_gate", config.feed_forward, config.hidden);
        layer.up = tensors.linear(prefix + "ffn_up", config.feed_forward, config.hidden);
        layer.down = tensors.linear(prefix + "ffn_down", config.hidden, config.feed_forward);
        model.layers.push_back(std::move(layer));
        if (options.progress) options.progress({"read layers", i + 1, config.layers});
    }
    model.final_norm = tensors.vector("output_norm.weight", config.hidden);
    model.head = tensors.has("output.weight") ? tensors.linear("output", config.vocabulary, config.hidden)
                                              : LinearWeights{model.token_embedding, {}};
    tensors.require_all_read(config);
    model.identity = detail::identity_of(file, config);
    model.storage = file.storage();
    return model;
}

}  // namespace adainfer::inline v0

// ---- adainfer/io/gguf_tokenizer.hpp --------------------------------------------------------------------------------------

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace adainfer::inline v0 {

namespace detail {

/// Calls what knows the vocabulary but not the file, and puts the file's name in front of the message of its Error.
template <class Call>
auto naming_file(const GgufFile& file, Call&& call) {
    try {
        return call();
    } catch (const Error& error) {
        const std::size_t prefix = to_string(error.code()).size() + 2;  // "corrupt file: "
        fail(error.code(), "'", file.name(), "': ", std::string_view(error.what()).substr(prefix));
    }
}

}  // namespace detail

/// The tokenizer keys of a GGUF file, unchecked beyond their types and ids. Throws CorruptFile where the file has none, and
/// Unsupported (pre-tokenizer).
[[nodiscard]] inline TokenizerData read_tokenizer_data(const GgufFile& file) {
    if (!file.has("tokenizer.ggml.model")) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': the file holds no tokenizer (no key tokenizer.ggml.model)");
    }
    const auto key = [](std::string_view name) { return std::string("tokenizer.ggml.").append(name); };
    TokenizerData data;
    data.model = file.get_string(key("model"));
    data.pre = file.find_string(key("pre")).value_or("");
    data.tokens = file.get_string_array(key("tokens"));
    data.merges = file.find_string_array(key("merges")).value_or(std::vector<std::string>{});
    if (const auto types = file.find_int_array(key("token_type"))) {
        for (const std::int64_t type : *types) {
            if (type < 0 || type > static_cast<std::int64_t>(TokenType::Byte)) {
                fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key("token_type"), " of token ", data.token_types.size(),
                     " is ", type);
            }
            data.token_types.push_back(static_cast<std::int32_t>(type));
        }
    }
    const auto id = [&](std::string_view name) -> std::optional<TokenId> {
        const auto value = file.find_uint(key(name));
        if (!value || *value == 0xFFFFFFFFU) return std::nullopt;  // some writers say "none" so
        if (*value >= data.tokens.size()) {
            fail(ErrorCode::CorruptFile, "'", file.name(), "': ", key(name), " is ", *value, ", the vocabulary has ",
                 data.tokens.size());
        }
        return static_cast<TokenId>(*value);
    };
    data.bos = id("bos_token_id");
    data.eos = id("eos_token_id");
    data.eot = id("eot_token_id");
    data.unknown = id("unknown_token_id");
    data.padding = id("padding_token_id");
    const bool usual = detail::naming_file(file, [&] { return pre_tokenizer_adds_bos(data.pre); });
    data.add_bos = file.find_bool(key("add_bos_token")).value_or(usual);
    data.add_space_prefix = file.find_bool(key("add_space_prefix")).value_or(false);
    data.chat_template = file.find_string("tokenizer.chat_template").value_or("");
    return data;
}

/// The tokenizer of a GGUF file. Throws CorruptFile (none there, or inconsistent) and Unsupported.
[[nodiscard]] inline Tokenizer load_tokenizer(const GgufFile& file) {
    TokenizerData data = read_tokenizer_data(file);
    return detail::naming_file(file, [&] { return Tokenizer(std::move(data)); });
}

}  // namespace adainfer::inline v0

// ---- adainfer/io/model_file.hpp ------------------------------------------------------------------------------------------

#include <filesystem>

namespace adainfer::inline v0 {

/// What a program needs of a model file.
struct ModelFile {
    ModelWeights weights;
    Tokenizer tokenizer;
};

/// Reads a GGUF file. Throws as load_weights() and load_tokenizer() do, and CorruptFile where the vocabulary does not fit
/// the embedding.
[[nodiscard]] inline ModelFile load_model(const std::filesystem::path& path, const BuildOptions& options = {}) {
    const GgufFile file = GgufFile::open(path);
    ModelFile result{load_weights(file, options), load_tokenizer(file)};
    if (result.tokenizer.vocab_size() != result.weights.config.vocabulary) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': the tokenizer has ", result.tokenizer.vocab_size(),
             " tokens, the embedding ", result.weights.config.vocabulary);
    }
    return result;
}

}  // namespace adainfer::inline v0

// ---- adainfer/io/safetensors_types.hpp -----------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace adainfer::inline v0 {

/// A tensor of a safetensors file. The data belong to somebody else and need no alignment of their own.
struct SafetensorsTensor {
    std::string name;
    std::string_view dtype;            ///< as the file spells it, e.g. "F16"; a literal
    std::vector<std::uint64_t> shape;  ///< outermost first; none for a scalar
    std::span<const std::byte> data;
};

namespace detail::safetensors {

inline constexpr std::size_t max_header_bytes = 100'000'000;  ///< the format's own limit
inline constexpr std::size_t max_depth = 127;                 ///< of the header's JSON, as the official reader
inline constexpr std::size_t max_rank = 64;                   ///< ours: bounds what a list of zeros can take

struct DTypeBits {
    std::string_view name;
    std::size_t bits;
};

inline constexpr std::array<DTypeBits, 22> dtypes{{
    {"BOOL", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8}, {"I8", 8}, {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},
    {"I32", 32}, {"U32", 32}, {"F32", 32}, {"C64", 64}, {"F64", 64}, {"I64", 64}, {"U64", 64},
}};

/// The entry of a type, or null.
[[nodiscard]] inline const DTypeBits* find_dtype(std::string_view name) noexcept {
    const auto found = std::find_if(dtypes.begin(), dtypes.end(), [name](const DTypeBits& d) { return d.name == name; });
    return found == dtypes.end() ? nullptr : &*found;
}

/// Bits an element. Throws Error (Unsupported), which lists the types there are.
[[nodiscard]] inline std::size_t dtype_bits(std::string_view name) {
    if (const DTypeBits* const found = find_dtype(name)) return found->bits;
    std::string known;
    for (const DTypeBits& d : dtypes) known += (known.empty() ? "" : ", ") + std::string(d.name);
    fail(ErrorCode::Unsupported, "safetensors: unknown type ", gguf::quoted(name), "; known: ", known);
}

/// Bytes that a tensor takes; nothing where its bits overflow 64 bits or do not fill whole bytes.
[[nodiscard]] inline std::optional<std::uint64_t> data_bytes(std::string_view dtype, std::span<const std::uint64_t> shape) {
    std::optional<std::uint64_t> bits = 1;
    for (const std::uint64_t extent : shape) {
        if (bits) bits = checked_mul(*bits, extent);
    }
    if (bits) bits = checked_mul(*bits, dtype_bits(dtype));
    if (!bits || *bits % 8 != 0) return std::nullopt;
    return *bits / 8;
}

}  // namespace detail::safetensors

}  // namespace adainfer::inline v0

#if !defined(ADAINFER_NO_EIGEN) && !__has_include(<Eigen/Core>)
#error "adainfer: Eigen 3.4 is not on the include path: add it, or define ADAINFER_NO_EIGEN"
#endif
#if !defined(ADAINFER_NO_EIGEN)

// ---- adainfer/backend/eigen.hpp ------------------------------------------------------------------------------------------

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

namespace adainfer::inline v0 {

/// Products by Eigen, on blocks of weight rows dequantised just before. Copies share one team of threads.
class EigenBackend {
  public:
    using Weight = WeightView;

    explicit EigenBackend(std::size_t threads = 1) : pool_(std::make_shared<ThreadPool>(threads)) {}

    [[nodiscard]] std::size_t threads() const noexcept { return pool_->threads(); }

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }

    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
        pool_->parallel_for(n, grain, f);
    }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        if (x.rows() == 1) {
            matvec(*this, weight, x.data(), y.data(), [](const float* w, const float* row, std::size_t n) {
                return ConstVector(w, index(n)).dot(ConstVector(row, index(n)));
            });
            return;
        }
        for_each_row_block(*this, weight, [&](std::size_t first, std::size_t rows, const float* block) {
            view(y.cols(first, rows)).noalias() = view(x) * view(MatrixView<const float>(block, rows, weight.cols)).transpose();
        });
    }

    /// Blocks of queries against all the keys they see, as two matrix products around a causal softmax.
    void attention(const AttentionArgs& args) const {
        constexpr std::size_t queries = 32;
        const std::size_t tokens = args.q.rows(), d = args.head_dim, blocks = (tokens + queries - 1) / queries;
        parallel_for(args.heads * blocks, 1, [&](std::size_t begin, std::size_t end) {
            struct Slot;
            for (std::size_t item = begin; item < end; ++item) {
                const std::size_t head = item % args.heads, t0 = item / args.heads * queries;
                const std::size_t count = (std::min)(queries, tokens - t0), keys = args.first + t0 + count;
                // A single query takes what the whole context will need: a decode that grows allocates once.
                float* scores = thread_scratch<Slot>(count == 1 ? args.capacity : count * keys).data();
                if (count == 1) {
                    ops::attend(args, t0, head, scores);
                    continue;
                }
                const std::size_t kv = head / (args.heads / args.kv_heads) * args.capacity * d;
                const MatrixView<float> s(scores, count, keys);
                view(s).noalias() = view(args.q.rows(t0, count).cols(head * d, d)) *
                                    view(MatrixView<const float>(args.k + kv, keys, d)).transpose();
                for (std::size_t i = 0; i < count; ++i) {
                    const std::size_t seen = args.first + t0 + i + 1;
                    const std::size_t hidden = args.window != 0 && seen > args.window ? seen - args.window : 0;
                    float* row = s.row(i).data();
                    for (std::size_t j = hidden; j < seen; ++j) row[j] *= args.scale;
                    softmax(row + hidden, seen - hidden);
                    std::fill(row, row + hidden, 0.0F);
                    std::fill(row + seen, row + keys, 0.0F);
                }
                view(args.out.rows(t0, count).cols(head * d, d)).noalias() =
                    view(s) * view(MatrixView<const float>(args.v + kv, keys, d));
            }
        });
    }

  private:
    template <class Scalar>
    using RowMajor = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using ConstVector = Eigen::Map<const Eigen::VectorXf>;
    using Stride = Eigen::OuterStride<>;

    static Eigen::Index index(std::size_t n) noexcept { return static_cast<Eigen::Index>(n); }

    static Eigen::Map<RowMajor<float>, 0, Stride> view(MatrixView<float> m) noexcept {
        return {m.data(), index(m.rows()), index(m.cols()), Stride(index(m.stride()))};
    }
    static Eigen::Map<const RowMajor<float>, 0, Stride> view(MatrixView<const float> m) noexcept {
        return {m.data(), index(m.rows()), index(m.cols()), Stride(index(m.stride()))};
    }

    std::shared_ptr<ThreadPool> pool_;
};

}  // namespace adainfer::inline v0

// ---- adainfer/train/fit_lens.hpp -----------------------------------------------------------------------------------------

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

struct LensOptions {
    Schedule schedule{};         ///< only the layers that will be checked get a map
    double ridge = 1e-4;         ///< penalty on the squared weights, relative to the mean square of the inputs (which is 1)
    std::size_t chunk = 256;     ///< tokens a pass
    std::size_t skip = 4;        ///< positions left out at the start of a pass: the first ones are unlike all others
    RunOptions run{};
};

/// Positions kept as they are: what a lens reads of each after the checked layers, and the final normed state.
struct LensSamples {
    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

    std::vector<std::vector<float>> inputs;  ///< a checked layer: [count, hidden + 1], the last column 1
    std::vector<float> finals;               ///< [count, hidden]
    std::size_t count = 0;

    void add(const std::vector<RowMajor>& x, const RowMajor& y) {
        inputs.resize(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) inputs[i].insert(inputs[i].end(), x[i].data(), x[i].data() + x[i].size());
        finals.insert(finals.end(), y.data(), y.data() + y.size());
        count += static_cast<std::size_t>(y.rows());
    }
};

/// Collects the normal equations of a linear lens while text streams by. For each checked layer the ridge regression
///     min over M of  sum_t w_t |x_t M - y_t|^2 + ridge (sum_t w_t) |M|^2,
/// x_t = [lens_input(hidden state after the layer), 1], y_t = the final normed state of the same position. Memory: two
/// matrices [hidden + 1, hidden + 1] of doubles a layer.
template <class Backend>
class LensFitter {
  public:
    LensFitter(const Decoder<Backend>& decoder, LensOptions options)
        : decoder_(decoder), options_(std::move(options)), layers_(options_.schedule.layers(decoder.config().layers)),
          session_(KvCache(decoder.config(), (std::min)((std::max)(options_.chunk, std::size_t{1}), decoder.config().context)),
                   decoder.weights().identity) {
        if (layers_.empty()) fail(ErrorCode::InvalidArgument, "the lens schedule names no layer of the model");
        const auto n = index(decoder.config().hidden);
        equations_.assign(layers_.size(), {Eigen::MatrixXd::Zero(n + 1, n + 1), Eigen::MatrixXd::Zero(n + 1, n)});
        inputs_.resize(layers_.size());
    }

    /// Adds every position of the text but the first `skip` of each chunk. Throws as Model::prefill() does.
    void add_text(std::span<const TokenId> tokens) {
        const std::size_t chunk = session_.capacity();
        for (std::size_t done = 0; done < tokens.size(); done += chunk) {
            const auto part = tokens.subspan(done, (std::min)(chunk, tokens.size() - done));
            std::vector<std::size_t> positions;
            for (std::size_t t = options_.skip; t < part.size(); ++t) positions.push_back(t);
            if (!positions.empty()) add_chunk(part, positions, {});
            if (options_.run.progress) options_.run.progress({"fit lens", done + part.size(), tokens.size()});
        }
    }

    /// Adds one prompt whose positions count as much as `weights` [tokens] says; 0 leaves a position out. For prompts like
    /// those that a policy will see, with more weight where the answers are read. Throws ContextOverflow where the prompt is
    /// longer than the chunk size, ShapeMismatch where weights and tokens differ in number, and as Model::prefill() does.
    void add_prompt(std::span<const TokenId> tokens, std::span<const float> weights) {
        if (weights.size() != tokens.size()) {
            fail(ErrorCode::ShapeMismatch, "a prompt of ", tokens.size(), " tokens came with ", weights.size(), " weights");
        }
        if (tokens.size() > session_.capacity()) {
            fail(ErrorCode::ContextOverflow, "a prompt of ", tokens.size(), " tokens exceeds the chunk size of ", session_.capacity());
        }
        std::vector<std::size_t> positions;
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            if (weights[t] > 0) positions.push_back(t);
        }
        if (!positions.empty()) add_chunk(tokens, positions, weights);
    }

    /// From now on every position is also kept in `samples` (null: no longer), for refine_lens().
    void keep_samples(LensSamples* samples) noexcept { samples_ = samples; }

    /// Positions added so far.
    [[nodiscard]] std::size_t positions() const noexcept { return positions_; }

    /// Solves for the maps, closed form by Cholesky (LDLT). Throws InvalidArgument where too few positions were added.
    [[nodiscard]] LinearLens solve() const {
        const std::size_t hidden = decoder_.config().hidden;
        if (positions_ < hidden) {
            fail(ErrorCode::InvalidArgument, "a lens for ", hidden, " hidden units needs at least as many positions, found ", positions_);
        }
        std::vector<LinearLens::Map> maps;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            Eigen::MatrixXd gram = equations_[i].gram.template selfadjointView<Eigen::Lower>();
            gram.diagonal().array() += options_.ridge * total_weight_;
            const Eigen::MatrixXd solution = gram.ldlt().solve(equations_[i].target);
            LinearLens::Map map{layers_[i], std::vector<float>((hidden + 1) * hidden)};
            Rows(map.matrix.data(), index(hidden + 1), index(hidden)) = solution.cast<float>();
            maps.push_back(std::move(map));
        }
        return LinearLens(decoder_.weights().identity, hidden, std::move(maps));
    }

  private:
    using RowMajor = LensSamples::RowMajor;
    using Rows = Eigen::Map<RowMajor>;

    struct Equations {
        Eigen::MatrixXd gram;    // [hidden + 1, hidden + 1], lower half
        Eigen::MatrixXd target;  // [hidden + 1, hidden]
    };

    static Eigen::Index index(std::size_t n) noexcept { return static_cast<Eigen::Index>(n); }

    /// Adds some positions of the tokens, all with weight 1 where `weights` is empty.
    void add_chunk(std::span<const TokenId> tokens, std::span<const std::size_t> positions, std::span<const float> weights) {
        const std::size_t hidden = decoder_.config().hidden, rows = positions.size();
        decoder_.begin(session_, tokens);
        std::size_t next = 0;
        for (std::size_t layer = 1; layer <= decoder_.config().layers; ++layer) {
            if (options_.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "fitting the lens was cancelled");
            decoder_.run_layer(session_, layer - 1);
            if (next == layers_.size() || layers_[next] != layer) continue;
            RowMajor& x = inputs_[next++];
            x.resize(index(rows), index(hidden + 1));
            for (std::size_t i = 0; i < rows; ++i) {
                float* row = x.row(index(i)).data();
                lens_input(session_.work.hidden.row(positions[i]), {row, hidden});
                row[hidden] = 1.0F;
            }
        }
        RowMajor y(index(rows), index(hidden));
        for (std::size_t i = 0; i < rows; ++i) {
            decoder_.final_norm(session_.work.hidden.row(positions[i]), {y.row(index(i)).data(), hidden});
        }
        if (samples_ != nullptr) samples_->add(inputs_, y);
        Eigen::VectorXf weight = Eigen::VectorXf::Ones(index(rows));
        if (!weights.empty()) {
            for (std::size_t i = 0; i < rows; ++i) weight[index(i)] = weights[positions[i]];
        }
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            // Products of one chunk in float, their sum over chunks in double.
            const RowMajor weighted = weight.asDiagonal() * inputs_[i];
            const RowMajor gram = weighted.transpose() * inputs_[i], target = weighted.transpose() * y;
            equations_[i].gram += gram.template cast<double>();
            equations_[i].target += target.template cast<double>();
        }
        positions_ += rows;
        total_weight_ += static_cast<double>(weight.sum());
    }

    const Decoder<Backend>& decoder_;
    LensOptions options_;
    std::vector<std::size_t> layers_;
    Session session_;
    std::vector<Equations> equations_;
    std::vector<RowMajor> inputs_;
    std::size_t positions_ = 0;
    double total_weight_ = 0;
    LensSamples* samples_ = nullptr;
};

/// The lens of a text in one call. Throws as LensFitter does.
template <class Backend, class Policy, class Completion>
[[nodiscard]] LinearLens fit_lens(const Model<Backend, Policy, Completion>& model, std::span<const TokenId> text, const LensOptions& options = {}) {
    LensFitter<Backend> fitter(model.decoder(), options);
    fitter.add_text(text);
    return fitter.solve();
}

}  // namespace adainfer::inline v0

// ---- adainfer/train/refine_lens.hpp --------------------------------------------------------------------------------------

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

struct RefineOptions {
    std::size_t steps = 200;          ///< Adam steps a map
    std::size_t batch = 128;          ///< positions a step
    double learning_rate = 5e-4;      ///< falls linearly to 0
    std::size_t tokens = 2048;        ///< random tokens a step, beside the likeliest ones of the batch
    std::size_t likeliest = 16;       ///< of each position: tokens that always take part
    std::uint64_t seed = 0;
    RunOptions run{};
};

namespace detail::refine {

using RowMajor = LensSamples::RowMajor;
using ConstRows = Eigen::Map<const RowMajor>;

[[nodiscard]] inline Eigen::Index index(std::size_t n) noexcept { return static_cast<Eigen::Index>(n); }

/// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) on one matrix.
class Adam {
  public:
    Adam(Eigen::Index rows, Eigen::Index cols) : first_(RowMajor::Zero(rows, cols)), second_(RowMajor::Zero(rows, cols)) {}

    void step(RowMajor& parameters, const RowMajor& gradient, double rate) {
        constexpr float beta1 = 0.9F, beta2 = 0.99F, epsilon = 1e-8F;
        ++steps_;
        first_ = beta1 * first_ + (1 - beta1) * gradient;
        second_ = beta2 * second_ + (1 - beta2) * gradient.cwiseProduct(gradient);
        const float correction1 = 1 - std::pow(beta1, static_cast<float>(steps_)), correction2 = 1 - std::pow(beta2, static_cast<float>(steps_));
        const float scale = static_cast<float>(rate) / correction1;
        parameters.array() -= scale * first_.array() / ((second_.array() / correction2).sqrt() + epsilon);
    }

  private:
    RowMajor first_, second_;
    std::size_t steps_ = 0;
};

/// Replaces each row by its softmax.
inline void softmax_rows(RowMajor& logits) {
    for (Eigen::Index i = 0; i < logits.rows(); ++i) softmax(logits.row(i).data(), static_cast<std::size_t>(logits.cols()));
}

}  // namespace detail::refine

/// Refines a ridge lens to a tuned lens (Belrose et al., arXiv 2303.08112, section 3): some Adam steps, a map at a time, on
/// the cross-entropy between the model's final distribution and the one read through the map, at the positions kept by
/// LensFitter::keep_samples(). Both distributions are taken over a random part of the vocabulary that holds the likeliest
/// tokens of the batch, which makes a step cost a tenth of one over all of it. Throws InvalidArgument where the samples are
/// none or of other layers than the lens, and Cancelled.
template <class Backend>
[[nodiscard]] LinearLens refine_lens(const Decoder<Backend>& decoder, const LinearLens& lens, const LensSamples& samples, const RefineOptions& options = {}) {
    using namespace detail::refine;
    const std::size_t hidden = decoder.config().hidden, vocabulary = decoder.config().vocabulary, n = samples.count;
    if (n == 0 || samples.inputs.size() != lens.maps().size()) {
        fail(ErrorCode::InvalidArgument, "refine_lens: samples of ", samples.inputs.size(), " layers and ", n, " positions, the lens has ",
             lens.maps().size(), " maps");
    }
    lens.check_model(decoder.weights());
    const WeightView head = decoder.weights().head.weight;

    // The likeliest tokens of each position, once.
    const std::size_t kept = (std::min)(options.likeliest, vocabulary);
    std::vector<TokenId> likeliest(n * kept), order(vocabulary);
    std::vector<float> logits(vocabulary);
    for (std::size_t t = 0; t < n; ++t) {
        if (options.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "refining the lens was cancelled");
        decoder.logits(std::span(samples.finals).subspan(t * hidden, hidden), logits);
        for (std::size_t v = 0; v < vocabulary; ++v) order[v] = static_cast<TokenId>(v);
        std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept - 1), order.end(), [&](TokenId a, TokenId b) {
            return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
        });
        std::copy_n(order.begin(), kept, likeliest.begin() + static_cast<std::ptrdiff_t>(t * kept));
        if (options.run.progress && t % 64 == 0) options.run.progress({"likeliest tokens", t + 1, n});
    }

    std::mt19937_64 random(options.seed);
    const std::size_t batch = (std::min)(options.batch, n);
    std::vector<LinearLens::Map> maps;
    RowMajor x(index(batch), index(hidden + 1)), y(index(batch), index(hidden));
    for (std::size_t m = 0; m < lens.maps().size(); ++m) {
        LinearLens::Map map = lens.maps()[m];
        RowMajor matrix = ConstRows(map.matrix.data(), index(hidden + 1), index(hidden));
        Adam adam(matrix.rows(), matrix.cols());
        for (std::size_t step = 0; step < options.steps; ++step) {
            if (options.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "refining the lens was cancelled");
            std::vector<TokenId> tokens;
            for (std::size_t i = 0; i < batch; ++i) {
                const std::size_t t = static_cast<std::size_t>(random() % n);
                std::copy_n(samples.inputs[m].begin() + static_cast<std::ptrdiff_t>(t * (hidden + 1)), hidden + 1, x.row(index(i)).data());
                std::copy_n(samples.finals.begin() + static_cast<std::ptrdiff_t>(t * hidden), hidden, y.row(index(i)).data());
                tokens.insert(tokens.end(), likeliest.begin() + static_cast<std::ptrdiff_t>(t * kept),
                              likeliest.begin() + static_cast<std::ptrdiff_t>((t + 1) * kept));
            }
            for (std::size_t i = 0; i < options.tokens; ++i) tokens.push_back(static_cast<TokenId>(random() % vocabulary));
            std::sort(tokens.begin(), tokens.end());
            tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
            RowMajor rows(index(tokens.size()), index(hidden));  // of the head
            for (std::size_t i = 0; i < tokens.size(); ++i) {
                dequantize_row(head.dtype, head.row(static_cast<std::size_t>(tokens[i])), hidden, rows.row(index(i)).data());
            }
            const RowMajor read = x * matrix;
            RowMajor probabilities = read * rows.transpose(), wanted = y * rows.transpose();
            softmax_rows(probabilities);
            softmax_rows(wanted);
            // d cross-entropy / d logits = p - wanted; back through the head's rows and the map.
            probabilities -= wanted;
            const RowMajor back = probabilities * rows;
            RowMajor gradient = x.transpose() * back;
            gradient /= static_cast<float>(batch);
            adam.step(matrix, gradient, options.learning_rate * (1 - static_cast<double>(step) / static_cast<double>(options.steps)));
            if (options.run.progress) options.run.progress({"refine lens", m * options.steps + step + 1, lens.maps().size() * options.steps});
        }
        std::copy_n(matrix.data(), map.matrix.size(), map.matrix.begin());
        maps.push_back(std::move(map));
    }
    return LinearLens(decoder.weights().identity, hidden, std::move(maps));
}

}  // namespace adainfer::inline v0
#endif

#if defined(ADAINFER_WITH_XTENSOR)

// ---- adainfer/backend/xtensor.hpp ----------------------------------------------------------------------------------------

#include <array>
#include <cstddef>
#include <memory>
#include <span>

// xtensor moved its headers into folders in 0.26.
#if __has_include(<xtensor/containers/xadapt.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/core/xnoalias.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xnoalias.hpp>
#endif

namespace adainfer::inline v0 {

/// Products as xtensor expressions, on blocks of weight rows dequantised just before. A product is a sum of scaled rows
/// of the transposed block, because xtensor vectorises assignments but not lazy row reductions.
class XtensorBackend {
  public:
    using Weight = WeightView;

    explicit XtensorBackend(std::size_t threads = 1) : pool_(std::make_shared<ThreadPool>(threads)) {}

    [[nodiscard]] std::size_t threads() const noexcept { return pool_->threads(); }

    [[nodiscard]] Weight prepare(WeightView weight) const { return weight; }

    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
        pool_->parallel_for(n, grain, f);
    }

    void matmul(const Weight& weight, MatrixView<const float> x, MatrixView<float> y) const {
        for_each_row_block(*this, weight, [&](std::size_t first, std::size_t rows, const float* block) {
            struct Slot;
            const std::size_t cols = weight.cols;
            float* transposed = thread_scratch<Slot>(rows * cols).data();
            for (std::size_t r = 0; r < rows; ++r) {
                for (std::size_t i = 0; i < cols; ++i) transposed[i * rows + r] = block[r * cols + i];
            }
            for (std::size_t t = 0; t < x.rows(); ++t) add_scaled_rows(transposed, x.row(t), y.row(t).subspan(first, rows));
        });
    }

  private:
    static void add_scaled_rows(const float* rows, std::span<const float> scales, std::span<float> out) {
        const std::array<std::size_t, 1> shape{out.size()};
        const auto row = [&](std::size_t i) { return xt::adapt(rows + i * out.size(), out.size(), xt::no_ownership(), shape); };
        auto sum = xt::adapt(out.data(), out.size(), xt::no_ownership(), shape);
        sum.fill(0.0F);
        std::size_t i = 0;
        for (; i + 4 <= scales.size(); i += 4) {
            xt::noalias(sum) += scales[i] * row(i) + scales[i + 1] * row(i + 1) + scales[i + 2] * row(i + 2) +
                                scales[i + 3] * row(i + 3);
        }
        for (; i < scales.size(); ++i) xt::noalias(sum) += scales[i] * row(i);
    }

    std::shared_ptr<ThreadPool> pool_;
};

}  // namespace adainfer::inline v0
#endif

#if defined(ADAINFER_WITH_JSON)

// ---- adainfer/io/json_reader.hpp -----------------------------------------------------------------------------------------

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

// What the readers of JSON files share. The parser is nlohmann's, which works without recursion; on top of it stand the
// checks that a file of a stranger needs and it leaves out: repeated keys, depth, and bytes that it would skip.

namespace adainfer::inline v0::detail::json {

using Value = nlohmann::json;

/// The parser's own words as one printable line, without its tag in brackets.
[[nodiscard]] inline std::string reason(const nlohmann::json::exception& error) {
    constexpr std::size_t longest = 200;
    std::string_view text = error.what();
    if (const std::size_t tag = text.find("] "); tag != std::string_view::npos) text.remove_prefix(tag + 2);
    std::string shown;
    for (const char c : text.substr(0, longest)) shown += c >= ' ' && c <= '~' ? c : '?';
    return text.size() > longest ? shown + "..." : shown;
}

/// What an error says without the name of its code, for a message that passes it on.
[[nodiscard]] inline std::string_view message_of(const Error& error) {
    return std::string_view(error.what()).substr(to_string(error.code()).size() + 2);
}

/// Refuses what the parser accepts though it is not JSON: it skips a byte order mark and takes NUL for the end.
inline void check_text(std::string_view text, std::string_view file) {
    if (text.starts_with("\xEF\xBB\xBF"))
        fail(ErrorCode::CorruptFile, "'", file, "': not valid JSON: it starts with a byte order mark");
    if (const std::size_t at = text.find('\0'); at != std::string_view::npos) {
        fail(ErrorCode::CorruptFile, "'", file, "': not valid JSON: a NUL byte at byte ", at);
    }
}

/// Parses a document. Throws Error (CorruptFile) where it is not JSON in UTF-8, nests deeper than `max_depth`, or an object
/// has a key twice; the message names `file`.
[[nodiscard]] inline Value parse(std::string_view text, std::string_view file, std::size_t max_depth = 32) {
    using Event = Value::parse_event_t;
    check_text(text, file);
    std::vector<std::set<std::string>> keys;  // of the objects that are open; an array has an empty set
    const auto watch = [&](int, Event event, Value& value) {
        switch (event) {
            case Event::object_start:
            case Event::array_start:
                if (keys.size() == max_depth)
                    fail(ErrorCode::CorruptFile, "'", file, "': nested deeper than ", max_depth, " levels");
                keys.emplace_back();
                break;
            case Event::key:
                if (!keys.back().insert(value.get<std::string>()).second) {
                    fail(ErrorCode::CorruptFile, "'", file, "': the key ", gguf::quoted(value.get<std::string>()),
                         " stands twice in an object");
                }
                break;
            case Event::object_end:
            case Event::array_end: keys.pop_back(); break;
            case Event::value: break;
        }
        return true;
    };
    try {
        return Value::parse(text.begin(), text.end(), watch);
    } catch (const nlohmann::json::exception& error) {
        fail(ErrorCode::CorruptFile, "'", file, "': not valid JSON: ", reason(error));
    }
}

/// Parses a file. Throws Error (Io) where it cannot be read, Unsupported where it is larger than `max_bytes`, and as parse().
[[nodiscard]] inline Value parse_file(const std::filesystem::path& path, std::size_t max_bytes) {
    const MappedFile file = MappedFile::open(path);
    const std::span<const std::byte> bytes = file.bytes();
    if (bytes.size() > max_bytes) {
        fail(ErrorCode::Unsupported, "'", path.string(), "': ", bytes.size(), " bytes, at most ", max_bytes, " are read");
    }
    return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

/// A value of a document and where it stands, for messages such as "'a.json': field 'train[3].output' must be a string, found
/// null". Every member throws Error (CorruptFile). Views the document and the name.
class Field {
  public:
    Field(const Value& value, std::string_view file, std::string path = {})
        : value_(&value), file_(file), path_(std::move(path)) {}

    /// The member of an object, or nothing. Throws where this is no object.
    [[nodiscard]] std::optional<Field> find(std::string_view key) const {
        if (!value_->is_object()) wrong("an object");
        const auto it = value_->find(std::string(key));
        if (it == value_->end()) return std::nullopt;
        return Field(*it, file_, member(key));
    }

    /// The member of an object.
    [[nodiscard]] Field at(std::string_view key) const {
        const auto field = find(key);
        if (!field) fail(ErrorCode::CorruptFile, "'", file_, "': field '", member(key), "' is missing");
        return *field;
    }

    /// The elements of an array.
    [[nodiscard]] std::vector<Field> elements() const {
        if (!value_->is_array()) wrong("an array");
        std::vector<Field> fields;
        fields.reserve(value_->size());
        for (const Value& value : *value_)
            fields.emplace_back(value, file_, path_ + '[' + std::to_string(fields.size()) + ']');
        return fields;
    }

    /// The members of an object, by key.
    [[nodiscard]] std::vector<std::pair<std::string, Field>> members() const {
        if (!value_->is_object()) wrong("an object");
        std::vector<std::pair<std::string, Field>> fields;
        for (const auto& [key, value] : value_->items()) fields.emplace_back(key, Field(value, file_, member(key)));
        return fields;
    }

    /// Throws where an object has members that are not among these.
    void only(std::initializer_list<std::string_view> known) const {
        for (const auto& [key, field] : members()) {
            if (std::find(known.begin(), known.end(), key) != known.end()) continue;
            std::string list;
            for (const std::string_view k : known) list += (list.empty() ? "" : ", ") + std::string(k);
            fail(ErrorCode::CorruptFile, "'", file_, "': unknown field '", field.path_, "'; known here: ", list);
        }
    }

    [[nodiscard]] bool is_string() const noexcept { return value_->is_string(); }

    [[nodiscard]] const std::string& text() const {
        if (!value_->is_string()) wrong("a string");
        return value_->get_ref<const std::string&>();
    }

    /// A whole number from 0 to `most`.
    [[nodiscard]] std::size_t count(std::size_t most) const {
        if (!value_->is_number_unsigned()) wrong("a whole number, 0 or more");
        const auto number = value_->get<std::uint64_t>();
        if (number > most)
            fail(ErrorCode::CorruptFile, "'", file_, "': field '", path_, "' is ", number, ", at most ", most, " is allowed");
        return static_cast<std::size_t>(number);
    }

    [[nodiscard]] double number() const {
        if (!value_->is_number()) wrong("a number");
        return value_->get<double>();
    }

    /// A number in the range of a float.
    [[nodiscard]] float real() const {
        const double wide = number();
        if (std::abs(wide) > static_cast<double>((std::numeric_limits<float>::max)()))
            wrong("a number in the range of a float");
        return static_cast<float>(wide);
    }

    /// Throws: the field is not `expected`.
    [[noreturn]] void wrong(std::string_view expected) const {
        const std::string where = path_.empty() ? "the document" : "field '" + path_ + "'";
        std::string found = value_->type_name();
        if (value_->is_number()) found = value_->dump();
        if (value_->is_string()) found = gguf::quoted(value_->get_ref<const std::string&>());
        fail(ErrorCode::CorruptFile, "'", file_, "': ", where, " must be ", expected, ", found ", found);
    }

  private:
    /// Keys come from the file: only printable characters of them may reach a message.
    [[nodiscard]] std::string member(std::string_view key) const {
        const std::string shown = gguf::quoted(key);
        return (path_.empty() ? "" : path_ + '.') + shown.substr(1, shown.size() - 2);
    }

    const Value* value_;
    std::string_view file_;
    std::string path_;
};

}  // namespace adainfer::inline v0::detail::json

// ---- adainfer/io/lens_file.hpp -------------------------------------------------------------------------------------------

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>


// ---- adainfer/io/safetensors.hpp -----------------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>


// ---- adainfer/io/safetensors_header.hpp ----------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace adainfer::inline v0 {

namespace detail::safetensors {

/// What the JSON of a header says of a tensor.
struct TensorEntry {
    std::string name;
    std::string_view dtype;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin = 0, end = 0;  // from the start of the data section
};

/// Takes the events of the JSON parser and keeps what the format knows, so that a header costs memory for its tensors and
/// not for a document tree. The official reader accepts further members of a tensor and ignores them, and so do we.
class HeaderHandler {
  public:
    explicit HeaderHandler(std::string_view file) : file_(file) {}

    std::vector<TensorEntry> tensors;
    std::map<std::string, std::string> metadata;

    bool null() { return at() == At::Header && key_ == metadata_key ? true : other("null"); }
    bool boolean(bool) { return other("a boolean"); }
    bool number_integer(std::int64_t) { return other("a negative number"); }
    bool number_float(double, const std::string&) { return other("a fraction or a number beyond 64 bits"); }
    bool binary(nlohmann::json::binary_t&) { return other("binary data"); }

    bool number_unsigned(std::uint64_t number) {
        if (at() == At::Shape) {
            if (tensors.back().shape.size() == max_rank)
                corrupt("tensor ", gguf::quoted(tensors.back().name), " has more than ", max_rank, " dimensions");
            tensors.back().shape.push_back(number);
        } else if (at() == At::Offsets) {
            if (offsets_ == 2) corrupt("tensor ", gguf::quoted(tensors.back().name), ": more than two data_offsets");
            (offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = number;
        } else {
            return other("a number");
        }
        return true;
    }

    bool string(std::string& text) {
        if (at() == At::Metadata) {
            if (!metadata.emplace(key_, text).second) corrupt("the metadata key ", gguf::quoted(key_), " stands twice");
        } else if (at() == At::Tensor && field_ == dtype_field) {
            const DTypeBits* const found = find_dtype(text);
            if (found == nullptr) {
                fail(ErrorCode::Unsupported, "'", file_, "': tensor ", gguf::quoted(tensors.back().name),
                     " is of unknown type ", gguf::quoted(text));
            }
            tensors.back().dtype = found->name;
        } else {
            return other("a string");
        }
        return true;
    }

    bool key(std::string& key) {
        key_ = key;
        if (at() == At::Header && key == metadata_key && std::exchange(has_metadata_, true))
            corrupt("the key '__metadata__' stands twice");
        if (at() == At::Tensor) {
            field_ = key == "dtype"          ? dtype_field
                     : key == "shape"        ? shape_field
                     : key == "data_offsets" ? offsets_field
                                             : unknown_field;
            if (field_ != unknown_field && (seen_ & field_) != 0)
                corrupt("tensor ", gguf::quoted(tensors.back().name), ": ", key, " stands twice");
            seen_ |= field_;
        }
        return true;
    }

    bool start_object(std::size_t) {
        if (open_.empty()) return enter(At::Header);
        if (at() == At::Header && key_ == metadata_key) return enter(At::Metadata);
        if (at() == At::Header) {
            tensors.push_back({key_, {}, {}, 0, 0});
            seen_ = 0;
            offsets_ = 0;
            return enter(At::Tensor);
        }
        return other("an object") && enter(At::Ignored);
    }

    bool start_array(std::size_t) {
        if (at() == At::Tensor && field_ == shape_field) return enter(At::Shape);
        if (at() == At::Tensor && field_ == offsets_field) return enter(At::Offsets);
        return other("an array") && enter(At::Ignored);
    }

    bool end_object() {
        if (at() == At::Tensor) {
            for (const auto& [bit, name] :
                 {std::pair{dtype_field, "dtype"}, {shape_field, "shape"}, {offsets_field, "data_offsets"}}) {
                if ((seen_ & bit) == 0) corrupt("tensor ", gguf::quoted(tensors.back().name), ": ", name, " is missing");
            }
            if (offsets_ != 2)
                corrupt("tensor ", gguf::quoted(tensors.back().name), ": expected two data_offsets, found ", offsets_);
        }
        open_.pop_back();
        return true;
    }

    bool end_array() {
        open_.pop_back();
        return true;
    }

    [[noreturn]] bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) {
        corrupt("the header is not valid JSON: ", json::reason(error));
    }

    template <class... Parts>
    [[noreturn]] void corrupt(const Parts&... parts) const {
        fail(ErrorCode::CorruptFile, "'", file_, "': ", parts...);
    }

  private:
    enum class At { Nowhere, Header, Metadata, Tensor, Shape, Offsets, Ignored };
    static constexpr std::string_view metadata_key = "__metadata__";
    static constexpr unsigned dtype_field = 1, shape_field = 2, offsets_field = 4, unknown_field = 8;

    [[nodiscard]] At at() const noexcept { return open_.empty() ? At::Nowhere : open_.back(); }

    bool enter(At place) {
        if (open_.size() == max_depth) corrupt("the header nests deeper than ", max_depth, " levels");
        open_.push_back(place);
        return true;
    }

    /// A value that the format has no use for here: ignored inside unknown members, refused elsewhere.
    bool other(std::string_view found) {
        if (at() == At::Ignored || (at() == At::Tensor && field_ == unknown_field)) return true;
        if (at() == At::Nowhere) corrupt("the header must be an object, found ", found);
        if (at() == At::Metadata) corrupt("the metadata value of ", gguf::quoted(key_), " must be a string, found ", found);
        if (at() == At::Header) corrupt("the value of ", gguf::quoted(key_), " must be an object, found ", found);
        const std::string_view field = field_ == dtype_field ? "dtype" : field_ == shape_field ? "shape" : "data_offsets";
        corrupt("tensor ", gguf::quoted(tensors.back().name), ": bad ", field, ": found ", found);
    }

    std::string_view file_;
    std::vector<At> open_;
    std::string key_;
    unsigned field_ = 0, seen_ = 0;
    std::size_t offsets_ = 0;
    bool has_metadata_ = false;
};

struct Header {
    std::vector<SafetensorsTensor> tensors;  // in the order of their data
    std::vector<std::size_t> by_name;        // indices into tensors, names ascending
    std::map<std::string, std::string> metadata;
};

/// Checks the tensors against each other and the data section, and gives them their bytes.
[[nodiscard]] inline std::vector<SafetensorsTensor> place(std::vector<TensorEntry> entries, std::span<const std::byte> data,
                                                          const HeaderHandler& handler) {
    std::stable_sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    std::vector<SafetensorsTensor> tensors;
    tensors.reserve(entries.size());
    std::uint64_t previous_end = 0;
    for (TensorEntry& entry : entries) {
        const std::string name = gguf::quoted(entry.name);
        if (entry.begin != previous_end || entry.end < entry.begin) {
            handler.corrupt("tensor ", name, ": bytes ", entry.begin, " to ", entry.end, ", expected to start at ",
                            previous_end);
        }
        const auto bytes = data_bytes(entry.dtype, entry.shape);
        if (!bytes) handler.corrupt("tensor ", name, ": its shape overflows 64 bits or fills no whole number of bytes");
        if (*bytes != entry.end - entry.begin) {
            handler.corrupt("tensor ", name, ": shape and type take ", *bytes, " bytes, data_offsets span ",
                            entry.end - entry.begin);
        }
        if (entry.end > data.size()) {
            handler.corrupt("tensor ", name, ": ends at byte ", entry.end, " of the data, which has ", data.size());
        }
        previous_end = entry.end;
        tensors.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                           data.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(*bytes))});
    }
    if (previous_end != data.size()) {
        handler.corrupt("the tensors cover ", previous_end, " bytes of the data, which has ", data.size());
    }
    return tensors;
}

/// Reads and checks everything in front of the data. Throws Error (CorruptFile, Unsupported).
[[nodiscard]] inline Header read_header(std::span<const std::byte> bytes, std::string_view file) {
    HeaderHandler handler(file);
    gguf::Cursor cursor(bytes, file);
    const auto length = cursor.number<std::uint64_t>("the length of the header");
    if (length > max_header_bytes)
        handler.corrupt("a header of ", length, " bytes, at most ", max_header_bytes, " are allowed");
    const std::byte* const start = cursor.take(length, "the header");
    const std::string_view text(reinterpret_cast<const char*>(start), static_cast<std::size_t>(length));
    if (!gguf::is_utf8(text)) handler.corrupt("the header is not UTF-8");
    json::check_text(text, file);
    static_cast<void>(nlohmann::json::sax_parse(text.begin(), text.end(), &handler));

    Header header;
    header.tensors = place(std::move(handler.tensors), bytes.subspan(cursor.position()), handler);
    header.metadata = std::move(handler.metadata);
    for (std::size_t i = 0; i < header.tensors.size(); ++i) header.by_name.push_back(i);
    const auto name_of = [&](std::size_t i) -> const std::string& { return header.tensors[i].name; };
    std::sort(header.by_name.begin(), header.by_name.end(),
              [&](std::size_t a, std::size_t b) { return name_of(a) < name_of(b); });
    const auto twice = std::adjacent_find(header.by_name.begin(), header.by_name.end(),
                                          [&](std::size_t a, std::size_t b) { return name_of(a) == name_of(b); });
    if (twice != header.by_name.end()) handler.corrupt("the tensor ", gguf::quoted(name_of(*twice)), " stands twice");
    return header;
}

}  // namespace detail::safetensors

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// A safetensors file. Everything that does not follow the format is refused when it is opened, as the official reader does,
/// and also what that lets pass though it is ambiguous: a key that stands twice. So the tensors lie one after the other and
/// cover the data section exactly.
///
/// Immutable; may be used from several threads. A copy shares the bytes.
class SafetensorsFile {
  public:
    /// Maps and checks a file. Throws Error: Io (it cannot be opened), CorruptFile, Unsupported (data type).
    [[nodiscard]] static SafetensorsFile open(const std::filesystem::path& path) {
        const auto file = std::make_shared<const MappedFile>(MappedFile::open(path));
        return parse(file->bytes(), path.string(), file);
    }

    /// Checks a file in memory. `name` is for messages; `storage` keeps the bytes alive (null: the caller does).
    /// Throws Error (CorruptFile, Unsupported).
    [[nodiscard]] static SafetensorsFile parse(std::span<const std::byte> bytes, std::string name,
                                               std::shared_ptr<const void> storage = nullptr) {
        SafetensorsFile file;
        file.bytes_ = bytes;
        file.storage_ = std::move(storage);
        detail::safetensors::Header header = detail::safetensors::read_header(bytes, name);
        file.tensors_ = std::move(header.tensors);
        file.by_name_ = std::move(header.by_name);
        file.metadata_ = std::move(header.metadata);
        file.name_ = std::move(name);
        return file;
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// The whole file.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
    /// Keeps the bytes alive.
    [[nodiscard]] const std::shared_ptr<const void>& storage() const noexcept { return storage_; }

    /// All tensors, in the order of their data.
    [[nodiscard]] std::span<const SafetensorsTensor> tensors() const noexcept { return tensors_; }

    /// A tensor, or null.
    [[nodiscard]] const SafetensorsTensor* find(std::string_view name) const noexcept {
        const auto at =
            std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [this](std::size_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
        return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
    }

    /// A tensor. Throws Error (CorruptFile) where there is none of that name.
    [[nodiscard]] const SafetensorsTensor& get(std::string_view name) const {
        const SafetensorsTensor* const tensor = find(name);
        if (tensor == nullptr) fail(ErrorCode::CorruptFile, "'", name_, "': no tensor ", detail::gguf::quoted(name));
        return *tensor;
    }

    /// The texts that come with the tensors.
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

    /// One of them. Throws Error (CorruptFile) where it is absent.
    [[nodiscard]] const std::string& get_metadata(const std::string& key) const {
        const auto found = metadata_.find(key);
        if (found == metadata_.end())
            fail(ErrorCode::CorruptFile, "'", name_, "': the metadata lack ", detail::gguf::quoted(key));
        return found->second;
    }

    /// The elements of a tensor of type F32, F16 or BF16 as floats. Throws Error (Unsupported) for other types.
    [[nodiscard]] std::vector<float> to_f32(const SafetensorsTensor& tensor) const {
        const std::byte* const data = tensor.data.data();
        const auto half = [data](std::size_t i) { return detail::gguf::load_number<std::uint16_t>(data + 2 * i); };
        std::vector<float> values;
        if (tensor.dtype == "F32") {
            values.resize(tensor.data.size() / 4);
            if (!values.empty()) std::memcpy(values.data(), data, tensor.data.size());
        } else if (tensor.dtype == "F16") {
            values.resize(tensor.data.size() / 2);
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = f16_to_f32(half(i));
        } else if (tensor.dtype == "BF16") {
            values.resize(tensor.data.size() / 2);
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = bf16_to_f32(half(i));
        } else {
            fail(ErrorCode::Unsupported, "'", name_, "': tensor ", detail::gguf::quoted(tensor.name), " is of type ",
                 tensor.dtype, "; only F32, F16 and BF16 are read as floats");
        }
        return values;
    }

  private:
    SafetensorsFile() = default;

    std::string name_;
    std::span<const std::byte> bytes_;
    std::shared_ptr<const void> storage_;
    std::vector<SafetensorsTensor> tensors_;
    std::vector<std::size_t> by_name_;  // indices into tensors_, names ascending
    std::map<std::string, std::string> metadata_;
};

namespace detail::safetensors {
struct Layout {
    std::string header;
    std::vector<std::size_t> order;
};

/// The bytes of a safetensors file up to the data, and the order in which the data of the tensors follow: large elements
/// first, then by name, so that every tensor is aligned to its elements and equal tensors give equal files.
/// Throws Error (InvalidArgument; Unsupported for the type).
[[nodiscard]] inline Layout lay_out(std::span<const SafetensorsTensor> tensors,
                                    const std::map<std::string, std::string>& metadata) {
    const auto text = [](const std::string& s) {
        if (!gguf::is_utf8(s)) fail(ErrorCode::InvalidArgument, "safetensors: the text ", gguf::quoted(s), " is not UTF-8");
        return nlohmann::json(s).dump();
    };
    Layout layout;
    for (std::size_t i = 0; i < tensors.size(); ++i) layout.order.push_back(i);
    std::sort(layout.order.begin(), layout.order.end(), [&](std::size_t a, std::size_t b) {
        const std::size_t bits_a = dtype_bits(tensors[a].dtype), bits_b = dtype_bits(tensors[b].dtype);
        return bits_a != bits_b ? bits_a > bits_b : tensors[a].name < tensors[b].name;
    });
    std::string json = "{";
    if (!metadata.empty()) {
        json += "\"__metadata__\":{";
        for (const auto& [key, value] : metadata) json += (json.ends_with('{') ? "" : ",") + text(key) + ':' + text(value);
        json += '}';
    }
    std::uint64_t end = 0;
    std::vector<std::string_view> names;
    for (const std::size_t i : layout.order) {
        const SafetensorsTensor& tensor = tensors[i];
        if (tensor.name == "__metadata__")
            fail(ErrorCode::InvalidArgument, "safetensors: no tensor may have the name __metadata__");
        const auto bytes = data_bytes(tensor.dtype, tensor.shape);
        if (!bytes || *bytes != tensor.data.size()) {
            fail(ErrorCode::InvalidArgument, "safetensors: tensor ", gguf::quoted(tensor.name), " has ", tensor.data.size(),
                 " bytes, which is not what its shape and type ", tensor.dtype, " take");
        }
        json.append(json.size() == 1 ? "" : ",").append(text(tensor.name));
        json.append(":{\"dtype\":\"").append(tensor.dtype).append("\",\"shape\":[");
        for (std::size_t d = 0; d < tensor.shape.size(); ++d) {
            json.append(d == 0 ? "" : ",").append(std::to_string(tensor.shape[d]));
        }
        json += "],\"data_offsets\":[" + std::to_string(end) + ',' + std::to_string(end + *bytes) + "]}";
        end += *bytes;
        names.push_back(tensor.name);
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end())
        fail(ErrorCode::InvalidArgument, "safetensors: two tensors have the name ", gguf::quoted(*twice));
    json += '}';
    json.resize((json.size() + 7) / 8 * 8, ' ');
    if (json.size() > max_header_bytes) {
        fail(ErrorCode::InvalidArgument, "safetensors: the header would take ", json.size(), " bytes, at most ",
             max_header_bytes, " are allowed");
    }
    const std::uint64_t size = json.size();
    std::array<char, sizeof size> length{};
    std::memcpy(length.data(), &size, sizeof size);
    layout.header.assign(length.begin(), length.end());
    layout.header += json;
    return layout;
}
}  // namespace detail::safetensors

/// Writes a file, whole or not at all. `dtype`, `shape` and `data` of every tensor must fit each other. Throws Error:
/// InvalidArgument (they do not, a name stands twice, a text is not UTF-8), Unsupported (type), Io.
inline void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
    const detail::safetensors::Layout layout = detail::safetensors::lay_out(tensors, metadata);
    std::vector<std::string_view> parts{layout.header};
    for (const std::size_t i : layout.order)
        parts.emplace_back(reinterpret_cast<const char*>(tensors[i].data.data()), tensors[i].data.size());
    write_file_atomically(path, parts);
}

}  // namespace adainfer::inline v0

// A linear lens as a safetensors file: for each map the tensors "lens.<layer>.matrix" [in, out] and "lens.<layer>.bias" [out],
// F16. In the 8-bit form the matrix is I8 and "lens.<layer>.scale" [in], F16, has what each of its rows is multiplied with.

namespace adainfer::inline v0 {

/// How the matrices are stored.
enum class LensPrecision {
    F16,
    I8,  ///< half the size: whole numbers from -127 to 127 and a scale a row
};

/// What a lens file says besides the maps.
struct LensInfo {
    std::map<std::string, std::string> training;  ///< how it was fitted, free text by key
};

/// A lens as loaded, with what a policy file needs to name it.
struct LensFile {
    LinearLens lens;
    LensInfo info;
    std::string hash;  ///< lens_hash() of the file
};

/// Names the content of a lens file: 16 hexadecimal digits, for telling files apart, not for security.
[[nodiscard]] inline std::string lens_hash(std::span<const std::byte> bytes) { return Fingerprint().add(bytes).text(); }

/// The same for a file. Throws Error (Io).
[[nodiscard]] inline std::string lens_hash(const std::filesystem::path& path) {
    return lens_hash(MappedFile::open(path).bytes());
}

namespace detail::lens {

inline constexpr std::string_view format = "adainfer-lens-1";
inline constexpr std::string_view format_family = "adainfer-lens-";
inline constexpr std::string_view training_prefix = "training.";
inline constexpr std::size_t max_layer = 100'000;  // bounds the table of layers

using Halves = std::vector<std::uint16_t>;

/// Throws NotFinite where a number is outside the range of F16.
[[nodiscard]] inline Halves to_halves(std::span<const float> values, std::size_t layer) {
    Halves halves;
    halves.reserve(values.size());
    for (const float value : values) {
        halves.push_back(f32_to_f16(value));
        if (!std::isfinite(f16_to_f32(halves.back()))) {
            fail(ErrorCode::NotFinite, "linear lens: the map of layer ", layer, " holds ", value,
                 ", which F16 cannot express (at most 65504)");
        }
    }
    return halves;
}

/// matrix [rows, cols] as whole numbers times a scale a row.
struct Quantized {
    std::vector<std::int8_t> values;  // [rows, cols]
    Halves scales;                    // [rows]
};

[[nodiscard]] inline Quantized quantize(std::span<const float> matrix, std::size_t cols, std::size_t layer) {
    Quantized result;
    result.values.reserve(matrix.size());
    for (std::size_t begin = 0; begin < matrix.size(); begin += cols) {
        const std::span<const float> row = matrix.subspan(begin, cols);
        float largest = 0;
        for (const float value : row) largest = (std::max)(largest, std::abs(value));
        const float wanted = largest / 127;
        std::uint16_t bits = to_halves({&wanted, 1}, layer).front();
        if (bits == 0 && largest > 0) bits = 1;  // the smallest step there is
        const float scale = f16_to_f32(bits);
        for (const float value : row) {
            const float steps = scale > 0 ? std::round(value / scale) : 0;
            result.values.push_back(static_cast<std::int8_t>(std::clamp(steps, -127.0F, 127.0F)));
        }
        result.scales.push_back(bits);
    }
    return result;
}

/// The layer in "lens.<layer>.<part>", or nothing where the name is not of that form.
[[nodiscard]] inline std::optional<std::size_t> layer_of(std::string_view name) {
    constexpr std::string_view prefix = "lens.";
    if (!name.starts_with(prefix)) return std::nullopt;
    std::size_t layer = 0;
    const auto [rest, error] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
    if (error != std::errc{} || layer > max_layer) return std::nullopt;
    const std::string_view part(rest, static_cast<std::size_t>(name.data() + name.size() - rest));
    const bool known = part == ".matrix" || part == ".bias" || part == ".scale";
    return known && name == "lens." + std::to_string(layer) + std::string(part) ? std::optional(layer) : std::nullopt;
}

/// The tensor as floats. Throws CorruptFile where it has another shape.
[[nodiscard]] inline std::vector<float> read(const SafetensorsFile& file, const std::string& name,
                                             std::vector<std::uint64_t> shape) {
    const SafetensorsTensor& tensor = file.get(name);
    if (tensor.shape != shape) {
        const auto text = [](std::span<const std::uint64_t> extents) {
            std::string list;
            for (const std::uint64_t extent : extents) list += (list.empty() ? "" : ", ") + std::to_string(extent);
            return '[' + list + ']';
        };
        fail(ErrorCode::CorruptFile, "'", file.name(), "': tensor '", name, "' is ", text(tensor.shape), ", expected ",
             text(shape));
    }
    if (tensor.dtype != "I8") return file.to_f32(tensor);
    std::vector<float> values;
    values.reserve(tensor.data.size());
    for (const std::byte byte : tensor.data) values.push_back(static_cast<float>(static_cast<std::int8_t>(byte)));
    return values;
}

[[nodiscard]] inline LinearLens::Map read_map(const SafetensorsFile& file, std::size_t layer, std::size_t hidden) {
    const std::string prefix = "lens." + std::to_string(layer);
    const std::uint64_t n = hidden;
    LinearLens::Map map{layer, read(file, prefix + ".matrix", {n, n})};
    if (file.get(prefix + ".matrix").dtype == "I8") {
        const std::vector<float> scale = read(file, prefix + ".scale", {n});
        for (std::size_t i = 0; i < map.matrix.size(); ++i) map.matrix[i] *= scale[i / hidden];
    } else if (file.find(prefix + ".scale") != nullptr) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': tensor '", prefix, ".scale' belongs to an I8 matrix, this one is ",
             file.get(prefix + ".matrix").dtype);
    }
    const std::vector<float> bias = read(file, prefix + ".bias", {n});
    map.matrix.insert(map.matrix.end(), bias.begin(), bias.end());
    return map;
}

[[nodiscard]] inline LensFile read_file(const SafetensorsFile& file) {
    if (!file.metadata().contains("format") || !file.get_metadata("format").starts_with(format_family)) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': not a lens file: its metadata do not say format ", format);
    }
    if (file.get_metadata("format") != format) {
        fail(ErrorCode::Unsupported, "'", file.name(), "': format ", gguf::quoted(file.get_metadata("format")),
             ", this version reads ", format);
    }
    const std::string& identity = file.get_metadata("model_identity");
    const std::string& width = file.get_metadata("hidden");
    std::size_t hidden = 0;
    const auto parsed = std::from_chars(width.data(), width.data() + width.size(), hidden);
    // A map has to fit the file, so a width beyond 2^24 cannot be true; below it, (hidden + 1) * hidden cannot overflow.
    if (parsed.ec != std::errc{} || parsed.ptr != width.data() + width.size() || hidden == 0 || hidden > (1U << 24U)) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': metadata 'hidden' must be the width of the model, found ",
             gguf::quoted(width));
    }
    std::set<std::size_t> layers;
    for (const SafetensorsTensor& tensor : file.tensors()) {
        const auto layer = layer_of(tensor.name);
        if (!layer) {
            fail(ErrorCode::CorruptFile, "'", file.name(), "': tensor ", gguf::quoted(tensor.name),
                 " is none of a lens (lens.<layer>.matrix, .bias or .scale, layer up to ", max_layer, ")");
        }
        layers.insert(*layer);
    }
    if (layers.empty()) fail(ErrorCode::CorruptFile, "'", file.name(), "': the lens has no maps");
    std::vector<LinearLens::Map> maps;
    for (const std::size_t layer : layers) maps.push_back(read_map(file, layer, hidden));
    LensFile result{{}, {}, lens_hash(file.bytes())};
    try {
        result.lens = LinearLens(identity, hidden, std::move(maps));
    } catch (const Error& error) {
        fail(error.code(), "'", file.name(), "': ", json::message_of(error));
    }
    for (const auto& [key, value] : file.metadata()) {
        if (key.starts_with(training_prefix)) result.info.training.emplace(key.substr(training_prefix.size()), value);
    }
    return result;
}

}  // namespace detail::lens

/// Writes a lens, whole or not at all. What is loaded again differs from `lens` by rounding: calibrate on the loaded one.
/// Throws Error: InvalidArgument (no maps), NotFinite (a number beyond 65504), Io.
inline void save_lens(const std::filesystem::path& path, const LinearLens& lens, const LensInfo& info = {},
                      LensPrecision precision = LensPrecision::F16) {
    if (lens.maps().empty()) fail(ErrorCode::InvalidArgument, "the linear lens has no maps to save");
    const std::size_t n = lens.hidden();
    std::vector<detail::lens::Halves> halves;
    std::vector<detail::lens::Quantized> quantized;
    halves.reserve(2 * lens.maps().size());  // the tensors point into both: they must not move
    quantized.reserve(lens.maps().size());
    std::vector<SafetensorsTensor> tensors;
    const auto add = [&](std::size_t layer, const char* part, std::string_view dtype, std::vector<std::uint64_t> shape,
                         const auto& values) {
        tensors.push_back(
            {"lens." + std::to_string(layer) + part, dtype, std::move(shape), std::as_bytes(std::span(values))});
    };
    for (const LinearLens::Map& map : lens.maps()) {
        if (map.layer > detail::lens::max_layer)
            fail(ErrorCode::InvalidArgument, "linear lens: layer ", map.layer, " is too large to save");
        const std::span<const float> all(map.matrix);
        if (precision == LensPrecision::F16) {
            add(map.layer, ".matrix", "F16", {n, n},
                halves.emplace_back(detail::lens::to_halves(all.first(n * n), map.layer)));
        } else {
            const auto& q = quantized.emplace_back(detail::lens::quantize(all.first(n * n), n, map.layer));
            add(map.layer, ".matrix", "I8", {n, n}, q.values);
            add(map.layer, ".scale", "F16", {n}, q.scales);
        }
        add(map.layer, ".bias", "F16", {n}, halves.emplace_back(detail::lens::to_halves(all.last(n), map.layer)));
    }
    std::map<std::string, std::string> metadata{{"format", std::string(detail::lens::format)},
                                                {"model_identity", lens.model_identity()}, {"hidden", std::to_string(n)}};
    for (const auto& [key, value] : info.training) metadata.emplace(std::string(detail::lens::training_prefix) + key, value);
    write_safetensors(path, tensors, metadata);
}

/// Reads a lens with what the file says of it. That it fits a model is checked where it is used (LinearLens::check_model).
/// Throws Error: Io, CorruptFile (no lens file, metadata or tensors missing, wrong shapes), Unsupported (format version, type),
/// NotFinite.
[[nodiscard]] inline LensFile load_lens_file(const std::filesystem::path& path) {
    return detail::lens::read_file(SafetensorsFile::open(path));
}

/// The same from bytes; `name` is for messages.
[[nodiscard]] inline LensFile parse_lens_file(std::span<const std::byte> bytes, std::string name) {
    return detail::lens::read_file(SafetensorsFile::parse(bytes, std::move(name)));
}

/// The lens alone.
[[nodiscard]] inline LinearLens load_lens(const std::filesystem::path& path) { return load_lens_file(path).lens; }

}  // namespace adainfer::inline v0

// ---- adainfer/io/load_policy.hpp -----------------------------------------------------------------------------------------

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>


// ---- adainfer/io/policy_file.hpp -----------------------------------------------------------------------------------------

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

namespace adainfer::inline v0 {

/// Everything that the file of a trained policy records.
struct PolicyFile {
    std::string kind;  ///< of the classifier: "svm" or "crf"
    std::variant<LinearSvm, LinearChainCrf> classifier;  ///< its own threshold counts for nothing: the file has those below
    std::vector<std::string> features;             ///< FeatureList::names()
    std::string lens = "logit";                    ///< name of the lens type
    std::string lens_hash;                         ///< of a linear lens: lens_hash(); else empty
    std::string lens_file;                         ///< of a linear lens: relative to the policy file's folder; else empty
    std::string head = "full";                     ///< name of the head type
    std::vector<std::size_t> layers;               ///< asked when so many layers have run; ascending, from 1
    float threshold = 0;                           ///< shared by all tasks; infinity: never stop
    std::map<std::string, float> task_thresholds;  ///< by task, where calibrated so
    std::map<std::string, std::size_t> task_first_layers;  ///< by task: not asked before so many layers have run
    std::string label_rule = "agrees";             ///< "agrees" (with the last layer) or "gold"
    double agreement = 0;                          ///< share that it was calibrated to, 0 to 1
    std::string model_identity;                    ///< ModelWeights::identity
    std::string model_name;                        ///< for people
    std::map<std::string, std::string> training;   ///< how it was trained, free text by key

    /// The threshold of a task, or the shared one where the task has none.
    [[nodiscard]] float threshold_for(const std::string& task) const {
        const auto found = task_thresholds.find(task);
        return found == task_thresholds.end() ? threshold : found->second;
    }

    /// The layers after which the policy is asked for a task.
    [[nodiscard]] std::vector<std::size_t> layers_for(const std::string& task) const {
        const auto found = task_first_layers.find(task);
        const std::size_t first = found == task_first_layers.end() ? 0 : found->second;
        return {std::lower_bound(layers.begin(), layers.end(), first), layers.end()};
    }
};

namespace detail::policy {

inline constexpr std::string_view format = "adainfer-policy-1";
inline constexpr std::string_view format_family = "adainfer-policy-";
inline constexpr std::size_t max_bytes = std::size_t{16} << 20U;
inline constexpr std::size_t max_layer = 100'000;

/// Throws what is wrong with a policy; `where` starts the message.
inline void check(const PolicyFile& policy, const std::string& where, ErrorCode code) {
    const auto refuse = [&](const auto&... parts) { fail(code, where, parts...); };
    const std::string_view kind =
        std::visit([](const auto& c) { return std::remove_cvref_t<decltype(c)>::kind; }, policy.classifier);
    if (policy.kind != kind) refuse("kind is ", gguf::quoted(policy.kind), ", the classifier is of kind ", kind);
    if (policy.features.empty()) refuse("features: none");
    std::set<std::string> features;
    for (const std::string& feature : policy.features) {
        if (feature.empty()) refuse("features: a name is empty");
        if (!features.insert(feature).second) refuse("features: ", gguf::quoted(feature), " stands twice");
    }
    try {
        std::visit([&](const auto& c) { c.validate(policy.features.size()); }, policy.classifier);
    } catch (const Error& error) {
        fail(error.code(), where, json::message_of(error));
    }
    if (policy.lens.empty()) refuse("lens: no name");
    if (policy.head.empty()) refuse("head: no name");
    if (policy.lens == LinearLens::name) {
        const auto hexadecimal = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
        if (policy.lens_hash.size() != 16 || !std::all_of(policy.lens_hash.begin(), policy.lens_hash.end(), hexadecimal)) {
            refuse("lens hash: expected 16 hexadecimal digits, found ", gguf::quoted(policy.lens_hash));
        }
        if (policy.lens_file.empty() || std::filesystem::path(policy.lens_file).is_absolute()) {
            refuse("lens file: expected a path relative to the policy file, found ", gguf::quoted(policy.lens_file));
        }
    } else if (!policy.lens_hash.empty() || !policy.lens_file.empty()) {
        refuse("lens: only a linear lens has a file and a hash, this one is ", gguf::quoted(policy.lens));
    }
    if (policy.layers.empty()) refuse("layers: none");
    for (std::size_t i = 0; i < policy.layers.size(); ++i) {
        if (policy.layers[i] <= (i == 0 ? 0 : policy.layers[i - 1]) || policy.layers[i] > max_layer) {
            refuse("layers[", i, "] is ", policy.layers[i], "; they must ascend from 1 or more to at most ", max_layer);
        }
    }
    if (std::isnan(policy.threshold)) fail(ErrorCode::NotFinite, where, "threshold is not a number");
    for (const auto& [task, threshold] : policy.task_thresholds) {
        if (task.empty()) refuse("task_thresholds: a task has no name");
        if (std::isnan(threshold))
            fail(ErrorCode::NotFinite, where, "the threshold of task ", gguf::quoted(task), " is not a number");
    }
    for (const auto& [task, layer] : policy.task_first_layers) {
        if (task.empty()) refuse("task_first_layers: a task has no name");
        if (layer > policy.layers.back()) {
            refuse("task_first_layers: task ", gguf::quoted(task), " starts at layer ", layer, ", the last check is after ",
                   policy.layers.back());
        }
    }
    if (policy.label_rule != "agrees" && policy.label_rule != "gold") {
        refuse("label_rule must be 'agrees' or 'gold', found ", gguf::quoted(policy.label_rule));
    }
    if (!(policy.agreement >= 0 && policy.agreement <= 1)) refuse("agreement must lie in 0 to 1, found ", policy.agreement);
    if (policy.model_identity.empty()) refuse("model identity: empty");
}

/// The double that prints as briefly as the float does and reads back as it.
[[nodiscard]] inline double brief(float value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value).ptr;
    double wide = 0;
    std::from_chars(text, end, wide);
    // The shortest text of the largest float spells a little more than that float.
    const bool in_range = std::abs(wide) <= static_cast<double>((std::numeric_limits<float>::max)());
    return in_range && static_cast<float>(wide) == value ? wide : static_cast<double>(value);
}

template <class Floats>
[[nodiscard]] nlohmann::ordered_json to_json(const Floats& values) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const float value : values) list.push_back(brief(value));
    return list;
}

inline constexpr std::string_view never = "never", always = "always";

[[nodiscard]] inline nlohmann::ordered_json threshold_to_json(float threshold) {
    if (std::isinf(threshold)) return threshold > 0 ? never : always;
    return brief(threshold);
}

[[nodiscard]] inline nlohmann::ordered_json to_json(const PolicyFile& policy) {
    nlohmann::ordered_json classifier;
    std::visit(
        [&](const auto& c) {
            classifier["mean"] = to_json(c.mean);
            classifier["scale"] = to_json(c.scale);
            classifier["weights"] = to_json(c.weights);
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(c)>, LinearSvm>) {
                classifier["bias"] = brief(c.bias);
            } else {
                classifier["bias"] = to_json(c.bias);
                classifier["transitions"] = to_json(c.transitions);
            }
        },
        policy.classifier);
    nlohmann::ordered_json thresholds = nlohmann::ordered_json::object(), training = thresholds, json;
    for (const auto& [task, threshold] : policy.task_thresholds) thresholds[task] = threshold_to_json(threshold);
    for (const auto& [key, value] : policy.training) training[key] = value;
    json["format"] = format;
    json["model"] = {{"name", policy.model_name}, {"identity", policy.model_identity}};
    json["lens"] = {{"kind", policy.lens}};
    if (policy.lens == LinearLens::name) json["lens"].update({{"file", policy.lens_file}, {"hash", policy.lens_hash}});
    json["head"] = policy.head;
    json["layers"] = policy.layers;
    json["features"] = policy.features;
    json["kind"] = policy.kind;
    json["classifier"] = std::move(classifier);
    json["label_rule"] = policy.label_rule;
    json["agreement"] = policy.agreement;
    json["threshold"] = threshold_to_json(policy.threshold);
    json["task_thresholds"] = std::move(thresholds);
    if (!policy.task_first_layers.empty()) json["task_first_layers"] = policy.task_first_layers;
    json["training"] = std::move(training);
    return json;
}

[[nodiscard]] inline std::vector<float> read_floats(const json::Field& field) {
    std::vector<float> values;
    for (const json::Field& element : field.elements()) values.push_back(element.real());
    return values;
}

template <std::size_t N>
void read_floats(const json::Field& field, std::array<float, N>& values) {
    const std::vector<float> found = read_floats(field);
    if (found.size() != N) field.wrong("an array of " + std::to_string(N) + " numbers");
    std::copy(found.begin(), found.end(), values.begin());
}

[[nodiscard]] inline float read_threshold(const json::Field& field) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    if (!field.is_string()) return field.real();
    if (field.text() == never) return infinity;
    if (field.text() == always) return -infinity;
    field.wrong("a number, \"never\" or \"always\"");
}

[[nodiscard]] inline PolicyFile read(const json::Value& document, const std::string& file) {
    const json::Field root(document, file);
    const auto format_field = root.find("format");
    if (!format_field || !format_field->is_string() || !format_field->text().starts_with(format_family)) {
        fail(ErrorCode::CorruptFile, "'", file, "': not a policy file: it does not say \"format\": \"", format, "\"");
    }
    if (format_field->text() != format) {
        fail(ErrorCode::Unsupported, "'", file, "': format ", gguf::quoted(format_field->text()), ", this version reads ",
             format);
    }
    root.only({"format", "model", "lens", "head", "layers", "features", "kind", "classifier", "label_rule", "agreement",
               "threshold", "task_thresholds", "task_first_layers", "training"});
    PolicyFile policy;
    const json::Field model = root.at("model"), lens = root.at("lens"), classifier = root.at("classifier");
    model.only({"name", "identity"});
    policy.model_name = model.at("name").text();
    policy.model_identity = model.at("identity").text();
    policy.lens = lens.at("kind").text();
    if (policy.lens == LinearLens::name) {
        lens.only({"kind", "file", "hash"});
        policy.lens_file = lens.at("file").text();
        policy.lens_hash = lens.at("hash").text();
    } else {
        lens.only({"kind"});
    }
    policy.head = root.at("head").text();
    for (const json::Field& layer : root.at("layers").elements()) policy.layers.push_back(layer.count(max_layer));
    for (const json::Field& feature : root.at("features").elements()) policy.features.push_back(feature.text());
    policy.kind = root.at("kind").text();
    const auto read_common = [&](auto& c) {
        c.mean = read_floats(classifier.at("mean"));
        c.scale = read_floats(classifier.at("scale"));
        c.weights = read_floats(classifier.at("weights"));
    };
    policy.threshold = read_threshold(root.at("threshold"));
    if (policy.kind == LinearSvm::kind) {
        classifier.only({"mean", "scale", "weights", "bias"});
        LinearSvm svm;
        read_common(svm);
        svm.bias = classifier.at("bias").real();
        svm.threshold = policy.threshold;
        policy.classifier = std::move(svm);
    } else if (policy.kind == LinearChainCrf::kind) {
        classifier.only({"mean", "scale", "weights", "bias", "transitions"});
        LinearChainCrf crf;
        read_common(crf);
        read_floats(classifier.at("bias"), crf.bias);
        read_floats(classifier.at("transitions"), crf.transitions);
        crf.threshold = policy.threshold;
        policy.classifier = std::move(crf);
    } else {
        fail(ErrorCode::Unsupported, "'", file, "': classifiers of kind ", gguf::quoted(policy.kind), "; known: svm, crf");
    }
    for (const auto& [task, threshold] : root.at("task_thresholds").members())
        policy.task_thresholds.emplace(task, read_threshold(threshold));
    if (const auto first_layers = root.find("task_first_layers")) {
        for (const auto& [task, layer] : first_layers->members()) policy.task_first_layers.emplace(task, layer.count(max_layer));
    }
    policy.label_rule = root.at("label_rule").text();
    policy.agreement = root.at("agreement").number();
    for (const auto& [key, value] : root.at("training").members()) policy.training.emplace(key, value.text());
    check(policy, "'" + file + "': ", ErrorCode::CorruptFile);
    return policy;
}

}  // namespace detail::policy

/// Writes a policy, whole or not at all; equal policies give equal bytes. Throws Error: InvalidArgument (a field that
/// load_policy_file() would refuse, a text that is not UTF-8), ShapeMismatch and NotFinite (classifier), Io.
inline void save_policy(const std::filesystem::path& path, const PolicyFile& policy) {
    detail::policy::check(policy, "policy: ", ErrorCode::InvalidArgument);
    std::string text;
    try {
        text = detail::policy::to_json(policy).dump(2) + '\n';
    } catch (const nlohmann::json::exception& error) {  // the one thing that cannot be written
        fail(ErrorCode::InvalidArgument, "policy: a text is not UTF-8: ", detail::json::reason(error));
    }
    write_file_atomically(path, text);
}

/// Reads a policy from text; `name` is for messages. Throws as load_policy_file().
[[nodiscard]] inline PolicyFile parse_policy_file(std::string_view text, const std::string& name) {
    return detail::policy::read(detail::json::parse(text, name), name);
}

/// Reads a policy without looking at its lens or at a model. Throws Error: Io, CorruptFile (not JSON, fields missing,
/// unknown, of the wrong type or inconsistent), Unsupported (format version, kind, size), and ShapeMismatch, NotFinite,
/// InvalidArgument for the classifier.
[[nodiscard]] inline PolicyFile load_policy_file(const std::filesystem::path& path) {
    return detail::policy::read(detail::json::parse_file(path, detail::policy::max_bytes), path.string());
}

/// How a policy file names a lens file: relative to its own folder, with forward slashes. Both paths may be relative to the
/// current folder; neither needs to exist.
[[nodiscard]] inline std::string lens_reference(const std::filesystem::path& policy_path,
                                                const std::filesystem::path& lens_path) {
    return std::filesystem::relative(lens_path, std::filesystem::absolute(policy_path).parent_path()).generic_string();
}

/// Where the lens of a policy file lies.
[[nodiscard]] inline std::filesystem::path lens_path(const std::filesystem::path& policy_path, const PolicyFile& policy) {
    return policy_path.parent_path() / std::filesystem::path(policy.lens_file);
}

}  // namespace adainfer::inline v0

// From a policy file to a typed AdaInferPolicy, and back.

namespace adainfer::inline v0 {

namespace detail::policy {

/// The parts of a policy type that a file can be loaded into.
template <class Policy>
struct Parts;

template <class C, class F, class L, class H>
struct Parts<AdaInferPolicy<C, F, L, H>> {
    using Classifier = C;
    using Features = F;
    using Lens = L;
    using Head = H;
};

[[nodiscard]] inline std::string joined(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + gguf::quoted(name);
    return list;
}

/// Throws IdentityMismatch where the file was trained for another policy type or model.
template <class Policy, class Weights>
void check_fits(const PolicyFile& policy, const Weights& weights, const std::string& where) {
    using P = Parts<Policy>;
    const auto compare = [&](std::string_view what, const std::vector<std::string>& found,
                             const std::vector<std::string>& expected) {
        if (found == expected) return;
        fail(ErrorCode::IdentityMismatch, where, "the policy was trained with ", what, ' ', joined(found),
             ", it is loaded into one with ", what, ' ', joined(expected));
    };
    compare("classifier", {policy.kind}, {std::string(P::Classifier::kind)});
    compare("features", policy.features, P::Features::names());
    compare("lens", {policy.lens}, {std::string(P::Lens::name)});
    compare("head", {policy.head}, {std::string(P::Head::name)});
    if (policy.model_identity != weights.identity) {
        fail(ErrorCode::IdentityMismatch, where, "the policy was trained on model ", gguf::quoted(policy.model_identity),
             " (", gguf::quoted(policy.model_name), "), the model at hand is ", gguf::quoted(weights.identity));
    }
    if (policy.layers.back() >= weights.config.layers) {
        fail(ErrorCode::IdentityMismatch, where, "the policy is asked after layer ", policy.layers.back(), ", the model has ",
             weights.config.layers);
    }
}

}  // namespace detail::policy

/// A policy file with what the policy's type says filled in: kind, features, lens, head. The rest is the caller's.
template <class Policy>
[[nodiscard]] PolicyFile policy_file_for(typename detail::policy::Parts<Policy>::Classifier classifier) {
    using P = detail::policy::Parts<Policy>;
    PolicyFile policy;
    policy.kind = P::Classifier::kind;
    policy.threshold = classifier.threshold;
    policy.classifier = std::move(classifier);
    policy.features = P::Features::names();
    policy.lens = P::Lens::name;
    policy.head = P::Head::name;
    return policy;
}

/// The policy that a file describes, as type Policy, an AdaInferPolicy<...>: with the threshold of `task` where the file has
/// one, else the shared one. `weights` are a ModelWeights. Throws Error (IdentityMismatch, naming both sides) where the
/// file was trained for another classifier, feature list, lens type, head or model, or the lens was fitted on another model.
/// Whether it is the right linear lens of that model only its file tells: load_policy() checks the hash too.
template <class Policy, class Weights>
[[nodiscard]] Policy make_policy(const PolicyFile& file, const Weights& weights,
                                 typename detail::policy::Parts<Policy>::Lens lens = {}, const std::string& task = {},
                                 const std::string& name = "policy") {
    using P = detail::policy::Parts<Policy>;
    detail::policy::check(file, name + ": ", ErrorCode::InvalidArgument);
    detail::policy::check_fits<Policy>(file, weights, name + ": ");
    if constexpr (requires { lens.check_model(weights); }) lens.check_model(weights);
    for (const std::size_t layer : file.layers) {
        if (!lens.reads(layer))
            fail(ErrorCode::IdentityMismatch, name, ": the policy is asked after layer ", layer,
                 ", the lens has no map for it");
    }
    auto classifier = std::get<typename P::Classifier>(file.classifier);
    classifier.threshold = file.threshold_for(task);
    return Policy(std::move(classifier), Schedule::only(file.layers_for(task)), std::move(lens));
}

namespace detail::policy {
template <class Policy, class Weights>
[[nodiscard]] Policy make_through(const PolicyFile& file, const Weights& weights, const LensFile& lens,
                                  const std::string& task, const std::string& name) {
    check_fits<Policy>(file, weights, name + ": ");
    if (file.lens_hash != lens.hash) {
        fail(ErrorCode::IdentityMismatch, name, ": the policy was trained through the lens '", file.lens_file, "' with hash ",
             file.lens_hash, ", the lens at hand has hash ", lens.hash);
    }
    return make_policy<Policy>(file, weights, lens.lens, task, name);
}
}  // namespace detail::policy

/// The same from a file and a linear lens that is loaded already, so that many policies can share one.
template <class Policy, class Weights>
[[nodiscard]] Policy load_policy(const std::filesystem::path& path, const Weights& weights, const LensFile& lens,
                                 const std::string& task = {}) {
    return detail::policy::make_through<Policy>(load_policy_file(path), weights, lens, task, "'" + path.string() + "'");
}

/// The same from a file alone; a linear lens is loaded from where the policy file says. Throws what load_policy_file(),
/// load_lens_file() and make_policy() throw.
template <class Policy, class Weights>
[[nodiscard]] Policy load_policy(const std::filesystem::path& path, const Weights& weights, const std::string& task = {}) {
    const PolicyFile file = load_policy_file(path);
    const std::string name = "'" + path.string() + "'";
    if constexpr (std::is_same_v<typename detail::policy::Parts<Policy>::Lens, LinearLens>) {
        detail::policy::check_fits<Policy>(file, weights, name + ": ");  // before a lens is read that belongs to nothing here
        return detail::policy::make_through<Policy>(file, weights, load_lens_file(lens_path(path, file)), task, name);
    } else {
        return make_policy<Policy>(file, weights, {}, task, name);
    }
}

}  // namespace adainfer::inline v0

// ---- adainfer/eval/evaluate.hpp ------------------------------------------------------------------------------------------

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>


// ---- adainfer/eval/policy_spec.hpp ---------------------------------------------------------------------------------------

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>


// ---- adainfer/eval/task.hpp ----------------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// A question and its right answer.
struct Example {
    std::string input, output;
};

/// A few-shot task: how a prompt is put together, and examples to learn from and to be judged by.
struct Task {
    std::string name;
    std::string template_text;        ///< with {input} and {output} once each, e.g. "Q: {input}\nA: {output}\n\n"
    std::size_t shots = 0;            ///< how many train examples stand before a question
    std::vector<std::string> labels;  ///< the answers to choose from; empty: any text
    std::vector<Example> train, test;
};

namespace detail::task {

inline constexpr std::string_view input_slot = "{input}", output_slot = "{output}";
inline constexpr std::size_t max_bytes = std::size_t{256} << 20U;

/// Throws `code` with what is wrong with a task; `where` starts the message.
inline void check(const Task& task, const std::string& where, ErrorCode code) {
    const auto refuse = [&](const auto&... parts) { fail(code, where, parts...); };
    if (task.name.empty()) refuse("field 'name' is empty");
    const auto position = [&](std::string_view slot) {
        const std::size_t first = task.template_text.find(slot);
        if (first == std::string::npos) refuse("field 'template' has no ", slot);
        if (task.template_text.find(slot, first + 1) != std::string::npos)
            refuse("field 'template' has ", slot, " more than once");
        return first;
    };
    if (position(output_slot) < position(input_slot)) refuse("field 'template' has {output} before {input}");
    if (task.shots > task.train.size())
        refuse("field 'shots' is ", task.shots, ", there are ", task.train.size(), " train examples");
    const std::set<std::string_view> labels(task.labels.begin(), task.labels.end());
    if (task.labels.size() == 1)
        refuse("field 'labels' has one label; there must be two or more, or no such field for open answers");
    for (std::size_t i = 0; i < task.labels.size(); ++i) {
        if (task.labels[i].empty()) refuse("field 'labels[", i, "]' is empty");
        if (std::find(task.labels.begin(), task.labels.begin() + static_cast<std::ptrdiff_t>(i), task.labels[i]) !=
            task.labels.begin() + static_cast<std::ptrdiff_t>(i)) {
            refuse("field 'labels[", i, "]' repeats ", gguf::quoted(task.labels[i]));
        }
    }
    const auto check_examples = [&](std::string_view field, const std::vector<Example>& examples) {
        for (std::size_t i = 0; i < examples.size(); ++i) {
            const std::string& output = examples[i].output;
            if (output.empty()) refuse("field '", field, '[', i, "].output' is empty");
            if (!labels.empty() && !labels.contains(output)) {
                refuse("field '", field, '[', i, "].output' is ", gguf::quoted(output), ", which is none of the labels");
            }
        }
    };
    check_examples("train", task.train);
    if (task.test.empty()) refuse("field 'test' has no examples");
    check_examples("test", task.test);
}

[[nodiscard]] inline std::vector<Example> read_examples(const json::Field& field) {
    std::vector<Example> examples;
    for (const json::Field& example : field.elements())
        examples.push_back({example.at("input").text(), example.at("output").text()});
    return examples;
}

[[nodiscard]] inline Task read(const json::Value& document, const std::string& file) {
    const json::Field root(document, file);
    // A misspelt "labels" would turn a choice into an open question, so unknown fields are refused here. Examples may
    // carry more than they need, such as a number of their own.
    root.only({"name", "template", "shots", "labels", "train", "test"});
    Task task;
    task.name = root.at("name").text();
    task.template_text = root.at("template").text();
    task.shots = root.at("shots").count((std::numeric_limits<std::size_t>::max)());
    if (const auto labels = root.find("labels")) {
        for (const json::Field& label : labels->elements()) task.labels.push_back(label.text());
        if (task.labels.empty()) labels->wrong("two or more labels, or left out for open answers");
    }
    task.train = read_examples(root.at("train"));
    task.test = read_examples(root.at("test"));
    check(task, "'" + file + "': ", ErrorCode::CorruptFile);
    return task;
}

}  // namespace detail::task

/// Throws InvalidArgument where a task that was put together by hand does not hold together: what a task file may not say either.
inline void validate(const Task& task) {
    detail::task::check(task, "task " + detail::gguf::quoted(task.name) + ": ", ErrorCode::InvalidArgument);
}

/// Reads a task from JSON text; `name` is for messages. Throws Error (CorruptFile).
[[nodiscard]] inline Task parse_task(std::string_view text, const std::string& name) {
    return detail::task::read(detail::json::parse(text, name), name);
}

/// Reads a task file:
///
///     {"name": "sentiment", "template": "Review: {input}\nSentiment: {output}\n\n", "shots": 8,
///      "labels": ["negative", "positive"],                 (left out: open answers)
///      "train": [{"input": "...", "output": "..."}, ...], "test": [...]}
///
/// Throws Error: Io, Unsupported (size), and CorruptFile with file, field and index where it is no JSON in UTF-8, nests too
/// deep, has a key twice, fields that are missing, unknown or of the wrong type, a template without {input} and then
/// {output} once each, more shots than train examples, an empty or repeated label, an answer that is empty or none of the
/// labels, or no test.
[[nodiscard]] inline Task load_task(const std::filesystem::path& path) {
    return detail::task::read(detail::json::parse_file(path, detail::task::max_bytes), path.string());
}

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// A policy that a user named, for programs that find out at run time which one it is.
struct NamedPolicy {
    std::string name;
    std::function<Scheduled<AnyPolicy>(const std::string& task)> make;  ///< for a task of that name; empty: none in particular
    bool chooses_fixed_layer = false;  ///< "fixed:best": evaluate() picks the layer for each task, then calls make_fixed
    std::function<Scheduled<AnyPolicy>(std::size_t layer)> make_fixed{};
    AnyLens lens{};                    ///< through which it reads
};

/// The forms that parse_policy_spec() takes, for messages and help texts.
inline constexpr std::string_view policy_spec_forms =
    "dense, fixed:N, fixed:best, gap:T, top:T, entropy:T, patience:K, saturation:T, oracle, each with ,lens=FILE ,head=full|candidates|shortlist "
    ",layers=FIRST-LAST or FIRST-LAST/STRIDE; or the path of a policy file";

namespace detail::spec {

struct Parts {
    std::string kind, value, lens, head, layers;
};

[[noreturn]] inline void wrong(std::string_view spec, std::string_view why) {
    fail(ErrorCode::InvalidArgument, "policy '", spec, "': ", why, "; known are ", policy_spec_forms);
}

template <class Number>
[[nodiscard]] Number number(std::string_view spec, std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        wrong(spec, std::string("'").append(text).append("' is not a number that fits here"));
    }
    return value;
}

[[nodiscard]] inline Parts split(std::string_view spec) {
    Parts parts;
    std::string_view rest = spec;
    for (bool first = true; first || !rest.empty(); first = false) {
        const std::size_t comma = rest.find(',');
        const std::string_view item = rest.substr(0, comma);
        rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
        if (first) {
            const std::size_t colon = item.find(':');
            parts.kind = item.substr(0, colon);
            if (colon != std::string_view::npos) parts.value = item.substr(colon + 1);
            continue;
        }
        const std::size_t equals = item.find('=');
        const std::string_view key = item.substr(0, equals);
        std::string* field = key == "lens" ? &parts.lens : key == "head" ? &parts.head : key == "layers" ? &parts.layers : nullptr;
        if (field == nullptr || equals == std::string_view::npos) {
            wrong(spec, std::string("unknown option '").append(item).append("'"));
        }
        *field = item.substr(equals + 1);
    }
    return parts;
}

[[nodiscard]] inline Schedule schedule(std::string_view spec, std::string_view text) {
    if (text.empty()) return {};
    const std::size_t slash = text.find('/'), dash = text.find('-');
    if (dash == std::string_view::npos) wrong(spec, "layers must be FIRST-LAST or FIRST-LAST/STRIDE");
    const auto first = number<std::size_t>(spec, text.substr(0, dash));
    const auto last = number<std::size_t>(spec, text.substr(dash + 1, slash == std::string_view::npos ? slash : slash - dash - 1));
    const auto stride = slash == std::string_view::npos ? std::size_t{1} : number<std::size_t>(spec, text.substr(slash + 1));
    if (first == 0 || last < first || last > 10'000 || stride == 0) wrong(spec, "layers must ascend from 1");
    std::vector<std::size_t> layers;
    for (std::size_t layer = first; layer <= last; layer += stride) layers.push_back(layer);
    return Schedule::only(std::move(layers));
}

template <template <class, class> class Policy, class Value>
[[nodiscard]] NamedPolicy simple(std::string name, Schedule when, AnyLens lens, AnyHead head, Value value) {
    NamedPolicy result{std::move(name), {}};
    result.lens = lens;
    result.make = [=](const std::string&) { return Scheduled<AnyPolicy>(when, AnyPolicy(Policy<AnyLens, AnyHead>(value, lens, head))); };
    return result;
}

[[nodiscard]] inline std::string printable(std::vector<std::string> names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

/// An AdaInferPolicy over whichever list has these names; nothing where no list that AnyPolicy knows has.
template <class Classifier, class Features>
[[nodiscard]] std::optional<AnyPolicy> with_features(const std::vector<std::string>& names, const Classifier& classifier, const Schedule& when,
                                                     const AnyLens& lens, const AnyHead& head) {
    if (names != Features::names()) return std::nullopt;
    return AnyPolicy(AdaInferPolicy<Classifier, Features, AnyLens, AnyHead>(classifier, when, lens, head));
}

/// A policy file as AnyPolicy.
[[nodiscard]] inline NamedPolicy from_file(const std::filesystem::path& path, const ModelWeights& weights) {
    auto file = std::make_shared<PolicyFile>(load_policy_file(path));
    const std::string where = "'" + path.string() + "'";
    if (file->model_identity != weights.identity) {
        fail(ErrorCode::IdentityMismatch, where, ": the policy was trained on model ", file->model_identity, " (", file->model_name,
             "), the model at hand is ", weights.identity);
    }
    AnyLens lens;
    if (file->lens == LinearLens::name) {
        const LensFile loaded = load_lens_file(lens_path(path, *file));
        if (loaded.hash != file->lens_hash) {
            fail(ErrorCode::IdentityMismatch, where, ": the policy was trained through a lens with hash ", file->lens_hash, ", '",
                 file->lens_file, "' has hash ", loaded.hash);
        }
        lens = AnyLens(loaded.lens);
    } else if (file->lens != LogitLens::name) {
        fail(ErrorCode::Unsupported, where, ": lens '", file->lens, "'; known: logit, linear");
    }
    lens.check_model(weights);
    const AnyHead head = AnyHead::named(file->head);
    if (file->features != PaperFeatures::names() && file->features != DepthFeatures::names() && file->features != WideFeatures::names()) {
        fail(ErrorCode::Unsupported, where, ": features ", printable(file->features), "; at run time the lists known are (",
             printable(PaperFeatures::names()), "), (", printable(DepthFeatures::names()), ") and (", printable(WideFeatures::names()), ")");
    }
    NamedPolicy result{path.stem().string(), {}};
    result.lens = lens;
    result.make = [=](const std::string& task) {
        const Schedule when = Schedule::only(file->layers_for(task));
        return std::visit(
            [&](auto classifier) {
                using Classifier = decltype(classifier);
                classifier.threshold = file->threshold_for(task);
                auto policy = with_features<Classifier, PaperFeatures>(file->features, classifier, when, lens, head);
                if (!policy) policy = with_features<Classifier, DepthFeatures>(file->features, classifier, when, lens, head);
                if (!policy) policy = with_features<Classifier, WideFeatures>(file->features, classifier, when, lens, head);
                return Scheduled<AnyPolicy>(when, *std::move(policy));
            },
            file->classifier);
    };
    return result;
}

}  // namespace detail::spec

/// The policy that a user named. Throws InvalidArgument, listing the forms, where it is none, and what load_policy_file() and
/// load_lens_file() throw, and IdentityMismatch where policy or lens belong to another model.
[[nodiscard]] inline NamedPolicy parse_policy_spec(std::string_view spec, const ModelWeights& weights) {
    namespace s = detail::spec;
    if (std::filesystem::path path(spec); std::filesystem::is_regular_file(path)) return s::from_file(path, weights);
    const s::Parts parts = s::split(spec);
    AnyLens lens;
    if (!parts.lens.empty() && parts.lens != LogitLens::name) lens = AnyLens(load_lens(parts.lens));
    lens.check_model(weights);
    const Schedule when = s::schedule(spec, parts.layers);
    const AnyHead head = AnyHead::named(parts.head.empty() ? FullHead::name : std::string_view(parts.head));
    const AnyHead label_head = AnyHead::named(parts.head.empty() ? CandidateHead::name : std::string_view(parts.head));
    const std::string name(spec);
    const auto threshold = [&] { return s::number<float>(spec, parts.value); };
    const auto count = [&] {
        const auto value = s::number<std::size_t>(spec, parts.value);
        if (value == 0) s::wrong(spec, "the number must be at least 1");
        return value;
    };
    const auto fixed = [=](std::size_t layer) {
        return Scheduled<AnyPolicy>(Schedule{}, AnyPolicy(ExitAtLayer<AnyLens, AnyHead>(layer, lens, label_head)));
    };
    if (parts.kind == "dense") {
        return {name, [](const std::string&) { return Scheduled<AnyPolicy>(Schedule::only({}), AnyPolicy(NeverExit{})); }};
    }
    if (parts.kind == "fixed" && parts.value == "best") return {name, {}, true, fixed, lens};
    if (parts.kind == "fixed") {
        const std::size_t layer = count();
        if (layer > weights.config.layers) {
            s::wrong(spec, std::string("the model has ").append(std::to_string(weights.config.layers)).append(" layers"));
        }
        if (layer < weights.config.layers && !lens.reads(layer)) {
            s::wrong(spec, std::string("the lens has no map for layer ").append(std::to_string(layer)));
        }
        NamedPolicy result{name, [=](const std::string&) { return fixed(layer); }};
        result.lens = lens;
        return result;
    }
    if (parts.kind == "gap") return s::simple<GapThreshold>(name, when, lens, head, threshold());
    if (parts.kind == "top") return s::simple<TopProbThreshold>(name, when, lens, head, threshold());
    if (parts.kind == "entropy") return s::simple<EntropyThreshold>(name, when, lens, head, threshold());
    if (parts.kind == "saturation") return s::simple<HiddenSaturation>(name, when, lens, label_head, threshold());
    if (parts.kind == "patience") return s::simple<Patience>(name, when, lens, head, count());
    if (parts.kind == "oracle") {
        NamedPolicy result{name, [=](const std::string&) { return Scheduled<AnyPolicy>(when, AnyPolicy(Oracle<AnyLens, AnyHead>(lens, label_head))); }};
        result.lens = lens;
        return result;
    }
    s::wrong(spec, "no such policy, and no such file");
}

}  // namespace adainfer::inline v0

// ---- adainfer/eval/prompt.hpp --------------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// How the prompts of a task are put together.
//
//     few_shot_prefix(task, default_shots(task)) + question(task, input)    what the model reads
//     answer(task, output)                                                  what it should say next
//
// The prefix is the same for all questions, so a model runs it once and goes on from a clone. It must not be tokenized by
// itself, though: "\n\n" at its end is one word, "\n\nQ" are two ("\n", then "\n" before Q), so the tokens would be
// others than those of the whole prompt (measured: with SmolLM2, for every question of the demo tasks). encode_prompts() finds
// where the token sequences of whole prompts part, which is right for every tokenizer.

namespace adainfer::inline v0 {

namespace detail::task {
/// A template cut at its slots; the spaces before {output} belong to the answer.
struct Template {
    std::string_view before, between, spaces, after;
};

/// Throws InvalidArgument where a slot is missing or in the wrong place.
[[nodiscard]] inline Template cut(const Task& task) {
    const std::string_view text = task.template_text;
    const std::size_t input = text.find(input_slot), output = text.find(output_slot);
    if (input == std::string_view::npos || output == std::string_view::npos || output < input) {
        fail(ErrorCode::InvalidArgument, "task ", gguf::quoted(task.name),
             ": the template needs {input} and after it {output}");
    }
    const std::size_t begin = input + input_slot.size();
    const std::string_view between = text.substr(begin, output - begin);
    const std::size_t kept = between.find_last_not_of(' ') + 1;  // npos + 1 = 0: nothing but spaces
    return {text.substr(0, input), between.substr(0, kept), between.substr(kept), text.substr(output + output_slot.size())};
}
}  // namespace detail::task

/// What the model should go on with after question(): the answer with the spaces that the template has before it, because
/// tokens of byte-level vocabularies begin with a space rather than end with one.
[[nodiscard]] inline std::string answer(const Task& task, std::string_view output) {
    return std::string(detail::task::cut(task).spaces) += output;
}

/// The template up to {output}, without spaces at the end. What stands in `input` is not looked at for slots.
[[nodiscard]] inline std::string question(const Task& task, std::string_view input) {
    const detail::task::Template parts = detail::task::cut(task);
    return std::string(parts.before).append(input).append(parts.between);
}

/// The train examples at these indices, each as the whole template. Throws InvalidArgument for an index that is out of range.
[[nodiscard]] inline std::string few_shot_prefix(const Task& task, std::span<const std::size_t> shots) {
    const std::string_view after = detail::task::cut(task).after;
    std::string text;
    for (const std::size_t shot : shots) {
        if (shot >= task.train.size()) {
            fail(ErrorCode::InvalidArgument, "task ", detail::gguf::quoted(task.name), ": shot ", shot, ", there are ",
                 task.train.size(), " train examples");
        }
        const Example& example = task.train[shot];
        text.append(question(task, example.input)).append(answer(task, example.output)).append(after);
    }
    return text;
}

/// The first task.shots train examples: the same for every prompt, so that the prefix runs once.
[[nodiscard]] inline std::vector<std::size_t> default_shots(const Task& task) {
    std::vector<std::size_t> shots(task.shots);
    std::iota(shots.begin(), shots.end(), std::size_t{0});
    return shots;
}

/// Other shots, for training on prompts of many kinds: task.shots different train examples in random order, never `without`
/// (the question itself). The same seed gives the same shots everywhere. Throws InvalidArgument where there are too few.
[[nodiscard]] inline std::vector<std::size_t> pick_shots(const Task& task, std::uint64_t seed,
                                                         std::optional<std::size_t> without = std::nullopt) {
    std::vector<std::size_t> pool;
    for (std::size_t i = 0; i < task.train.size(); ++i) {
        if (i != without) pool.push_back(i);
    }
    if (pool.size() < task.shots) {
        fail(ErrorCode::InvalidArgument, "task ", detail::gguf::quoted(task.name), ": ", task.shots, " shots asked for, ",
             pool.size(), " train examples to pick from");
    }
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < task.shots; ++i) {
        // Own arithmetic: what std::shuffle and std::uniform_int_distribution make of a seed differs from library to library.
        const std::uint64_t n = pool.size() - i;
        const std::uint64_t bound = (std::numeric_limits<std::uint64_t>::max)() / n * n;
        std::uint64_t drawn = random();
        while (drawn >= bound) drawn = random();
        std::swap(pool[i], pool[i + static_cast<std::size_t>(drawn % n)]);
    }
    pool.resize(task.shots);
    return pool;
}

/// Token sequences that begin alike: sequence i is `prefix`, then `rests[i]`.
struct EncodedPrompts {
    std::vector<TokenId> prefix;
    std::vector<std::vector<TokenId>> rests;  ///< none is empty
};

/// Cuts what all sequences have in common off, but leaves each at least one token, which is where its answer is read.
/// Throws InvalidArgument where there are no sequences or one is empty.
[[nodiscard]] inline EncodedPrompts share_prefix(std::vector<std::vector<TokenId>> sequences) {
    if (sequences.empty()) fail(ErrorCode::InvalidArgument, "no prompts");
    std::size_t common = sequences.front().size();
    for (const std::vector<TokenId>& ids : sequences) {
        if (ids.empty()) fail(ErrorCode::InvalidArgument, "a prompt has no tokens");
        const std::size_t most = (std::min)(common, ids.size() - 1);
        common = static_cast<std::size_t>(
            std::mismatch(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(most), sequences.front().begin()).first -
            ids.begin());
    }
    const auto cut = static_cast<std::ptrdiff_t>(common);
    EncodedPrompts result{{sequences.front().begin(), sequences.front().begin() + cut}, std::move(sequences)};
    for (std::vector<TokenId>& ids : result.rests) ids.erase(ids.begin(), ids.begin() + cut);
    return result;
}

/// The tokens of prefix + question for each question, exactly as if each prompt had been tokenized as a whole; with bos in
/// front where the model expects it. Text that spells a special token is plain text here. Throws InvalidArgument where there are
/// no questions or a prompt has no tokens.
[[nodiscard]] inline EncodedPrompts encode_prompts(const Tokenizer& tokenizer, std::string_view prefix,
                                                   std::span<const std::string> questions) {
    EncodeOptions options;
    options.parse_special = false;
    options.add_bos = tokenizer.adds_bos();
    std::vector<std::vector<TokenId>> sequences;
    sequences.reserve(questions.size());
    for (const std::string& text : questions) sequences.push_back(tokenizer.encode(std::string(prefix) += text, options));
    return share_prefix(std::move(sequences));
}

}  // namespace adainfer::inline v0

// ---- adainfer/eval/task_prompts.hpp --------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// Prompts of one task as tokens, ready to run: one prefix, and for each prompt what follows it and the right answer.
struct TaskPrompts {
    std::vector<TokenId> prefix;                ///< what all prompts begin with: runs once
    std::vector<std::vector<TokenId>> prompts;  ///< what each adds to it
    std::vector<TokenId> gold;                  ///< first token of each right answer
    std::vector<TokenId> candidates;            ///< first token of each label; empty for open answers

    /// The longest prefix + prompt, in tokens.
    [[nodiscard]] std::size_t longest() const noexcept {
        std::size_t most = 0;
        for (const auto& prompt : prompts) most = (std::max)(most, prompt.size());
        return prefix.size() + most;
    }
};

/// The first token of an answer as it follows the prompt, its leading space included. Throws UnknownToken where it has none.
[[nodiscard]] inline TokenId first_token(const Tokenizer& tokenizer, const Task& task, const std::string& output) {
    EncodeOptions plain;
    plain.parse_special = false;
    const std::vector<TokenId> ids = tokenizer.encode(answer(task, output), plain);
    if (ids.empty()) fail(ErrorCode::UnknownToken, "task '", task.name, "': the answer '", output, "' has no token");
    return ids.front();
}

/// First token of each label. Throws InvalidArgument where two labels begin alike: a one-token choice could not tell them apart.
[[nodiscard]] inline std::vector<TokenId> label_tokens(const Tokenizer& tokenizer, const Task& task) {
    std::vector<TokenId> tokens;
    for (const std::string& label : task.labels) {
        const TokenId token = first_token(tokenizer, task, label);
        if (const auto twin = std::find(tokens.begin(), tokens.end(), token); twin != tokens.end()) {
            fail(ErrorCode::InvalidArgument, "task '", task.name, "': the labels '",
                 task.labels[static_cast<std::size_t>(twin - tokens.begin())], "' and '", label, "' begin with the same token");
        }
        tokens.push_back(token);
    }
    return tokens;
}

/// Prompts that ask for these examples after these shots. Throws InvalidArgument (no examples) and as label_tokens() does.
[[nodiscard]] inline TaskPrompts make_prompts(const Tokenizer& tokenizer, const Task& task, std::span<const std::size_t> shots,
                                              std::span<const Example> examples) {
    std::vector<std::string> questions;
    TaskPrompts result;
    for (const Example& example : examples) {
        questions.push_back(question(task, example.input));
        result.gold.push_back(first_token(tokenizer, task, example.output));
    }
    EncodedPrompts encoded = encode_prompts(tokenizer, few_shot_prefix(task, shots), questions);
    result.prefix = std::move(encoded.prefix);
    result.prompts = std::move(encoded.rests);
    result.candidates = label_tokens(tokenizer, task);
    return result;
}

/// The train examples that are no shots fall into two halves, so that what a lens has seen is not what a policy is
/// calibrated on.
enum class TrainHalf { Lens, Policy };

/// Every second train example after the shots.
[[nodiscard]] inline std::vector<Example> train_half(const Task& task, TrainHalf half) {
    std::vector<Example> examples;
    for (std::size_t i = task.shots + (half == TrainHalf::Lens ? 0 : 1); i < task.train.size(); i += 2) examples.push_back(task.train[i]);
    return examples;
}

/// The task with the shots and the lens half as its only train examples: what few-shot prefixes may be drawn from without
/// showing an example of the policy half.
[[nodiscard]] inline Task without_policy_half(const Task& task) {
    Task result = task;
    result.train.resize(task.shots);
    for (Example& example : train_half(task, TrainHalf::Lens)) result.train.push_back(std::move(example));
    return result;
}

}  // namespace adainfer::inline v0

namespace adainfer::inline v0 {

/// How one policy did on the test prompts of one task.
struct Evaluation {
    std::string task, policy;
    double accuracy = 0;         ///< share of prompts whose answer begins with the right token
    double accuracy_dense = 0;   ///< the same for the dense model, on the same prompts
    double agreement = 0;        ///< share of prompts with the dense model's answer
    double mean_layers = 0;      ///< layers run
    double sd_layers = 0;        ///< their standard deviation over the prompts
    std::size_t layers = 0;      ///< of the model
    double pruning_ratio = 0;    ///< share of the layers not run
    double seconds_per_prompt = 0;  ///< wall clock: what follows the shared prefix, the answer included
    double speedup_vs_dense = 0;    ///< dense seconds / these seconds; both measured in this run, prompt by prompt in turn
    double checks_per_prompt = 0;
    std::size_t prompts = 0;
};

struct EvaluateOptions {
    std::size_t limit = 0;  ///< test prompts at most; 0: all
    RunOptions run{};
};

/// The smallest fixed depth that keeps `agreement` with the dense model on the task's train prompts (those that no lens was
/// fitted on); the model's depth where none does. Throws as evaluate().
template <class Backend>
[[nodiscard]] std::size_t best_fixed_layer(const Model<Backend>& dense, const Tokenizer& tokenizer, const Task& task, const AnyLens& lens,
                                           double agreement, const RunOptions& run = {}) {
    const std::vector<Example> examples = train_half(task, TrainHalf::Policy);
    const std::size_t layers = dense.config().layers;
    const TaskPrompts prompts = make_prompts(tokenizer, task, default_shots(task), examples);
    Session session = dense.new_session(prompts.longest());
    dense.prefill(session, prompts.prefix, run);
    std::vector<std::size_t> agrees(layers + 1);
    for (const auto& tokens : prompts.prompts) {
        const Trace trace = collect_trace<WideFeatures>(dense, session, tokens, prompts.candidates, std::nullopt, Schedule{}, lens, CandidateHead{});
        for (std::size_t i = 0; i < trace.steps(); ++i) agrees[trace.layers[i]] += trace.agrees[i];
        if (run.stop.stop_requested()) fail(ErrorCode::Cancelled, "choosing a fixed layer was cancelled");
    }
    for (std::size_t layer = 1; layer < layers; ++layer) {
        if (static_cast<double>(agrees[layer]) >= agreement * static_cast<double>(examples.size())) return layer;
    }
    return layers;
}

/// Runs the dense model and each policy on every test prompt of a task, in turn so that whatever else the machine does falls
/// on all alike. The few-shot prefix runs once, at full depth. Returns one row a policy. Throws ContextOverflow where a
/// prompt does not fit, and as make_prompts() and Model::predict() do.
template <class Backend>
[[nodiscard]] std::vector<Evaluation> evaluate(const Model<Backend>& dense, const Tokenizer& tokenizer, const Task& task,
                                               std::span<const NamedPolicy> policies, const EvaluateOptions& options = {}) {
    using Clock = std::chrono::steady_clock;
    const std::size_t count = options.limit == 0 ? task.test.size() : (std::min)(options.limit, task.test.size());
    const TaskPrompts prompts = make_prompts(tokenizer, task, default_shots(task), std::span(task.test).first(count));
    Session session = dense.new_session(prompts.longest());
    dense.prefill(session, prompts.prefix, RunOptions{options.run.stop, {}});

    std::vector<Model<Backend, Scheduled<AnyPolicy>>> models;
    for (const NamedPolicy& policy : policies) {
        if (policy.chooses_fixed_layer) {
            models.push_back(dense.with_policy(policy.make_fixed(best_fixed_layer(dense, tokenizer, task, policy.lens, 0.99, options.run))));
        } else {
            models.push_back(dense.with_policy(policy.make(task.name)));
        }
    }

    struct Sums {
        double seconds = 0, right = 0, agrees = 0, layers = 0, squares = 0, checks = 0;
    };
    std::vector<Sums> sums(models.size() + 1);  // the last: dense
    std::vector<Prediction> answers(sums.size());
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t turn = 0; turn < sums.size(); ++turn) {
            const std::size_t which = (i + turn) % sums.size();
            const auto start = Clock::now();
            answers[which] = which < models.size() ? models[which].predict(session, prompts.prompts[i], prompts.candidates, RunOptions{options.run.stop, {}})
                                                   : dense.predict(session, prompts.prompts[i], prompts.candidates, RunOptions{options.run.stop, {}});
            sums[which].seconds += std::chrono::duration<double>(Clock::now() - start).count();
        }
        for (std::size_t which = 0; which < sums.size(); ++which) {
            const Prediction& answer = answers[which];
            const auto depth = static_cast<double>(answer.exit_layer);
            sums[which].right += answer.token == prompts.gold[i] ? 1 : 0;
            sums[which].agrees += answer.token == answers.back().token ? 1 : 0;
            sums[which].layers += depth;
            sums[which].squares += depth * depth;
            sums[which].checks += static_cast<double>(answer.checks);
        }
        if (options.run.progress) options.run.progress({task.name, i + 1, count});
    }

    std::vector<Evaluation> rows;
    const auto n = static_cast<double>(count), layers = static_cast<double>(dense.config().layers);
    for (std::size_t p = 0; p < policies.size(); ++p) {
        const Sums& s = sums[p];
        const double mean = s.layers / n;
        rows.push_back({.task = task.name, .policy = policies[p].name, .accuracy = s.right / n, .accuracy_dense = sums.back().right / n,
                        .agreement = s.agrees / n, .mean_layers = mean, .sd_layers = std::sqrt((std::max)(0.0, s.squares / n - mean * mean)),
                        .layers = dense.config().layers, .pruning_ratio = 1 - mean / layers, .seconds_per_prompt = s.seconds / n,
                        .speedup_vs_dense = sums.back().seconds / s.seconds, .checks_per_prompt = s.checks / n, .prompts = count});
    }
    return rows;
}

}  // namespace adainfer::inline v0

// ---- adainfer/eval/train_policy.hpp --------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

struct TrainPolicyOptions {
    std::string classifier = "svm";    ///< "svm" or "crf"
    std::vector<std::string> features = PaperFeatures::names();  ///< some of WideFeatures::names(), in any order
    AnyLens lens{};
    AnyHead head{};                    ///< for open answers; a task with labels reads its candidates
    Label label = Label::AgreesWithFinal;
    Schedule schedule{};
    CalibrateOptions calibration{};
    bool per_task = false;             ///< a threshold and a first layer for each task, beside the shared ones
    std::size_t prefixes = 3;          ///< few-shot prefixes each example is asked behind: the task's own, then random ones
    double first_layer_share = 0.4;    ///< per task: checks begin at the first layer that gives this share of the answers
    std::uint64_t seed = 0;
    RunOptions run{};
};

/// What came of it: the record for the policy file (lens file and hash are the caller's), and each task's calibration.
struct TrainedPolicy {
    PolicyFile file;
    Calibration shared;
    std::map<std::string, Calibration> tasks;
};

namespace detail::train_policy {

/// Keeps the named columns of a trace of WideFeatures.
inline void keep_features(Trace& trace, const std::vector<std::string>& names) {
    const std::vector<std::string> all = WideFeatures::names();
    std::vector<float> kept;
    for (std::size_t t = 0; t < trace.steps(); ++t) {
        for (const std::string& name : names) {
            const auto column = static_cast<std::size_t>(std::find(all.begin(), all.end(), name) - all.begin());
            if (column == all.size()) fail(ErrorCode::InvalidArgument, "unknown feature '", name, "'");
            kept.push_back(trace.features[t * all.size() + column]);
        }
    }
    trace.features = std::move(kept);
    trace.n_features = names.size();
}

/// What the policy half of a task's train examples gives, with the options' features, `prefixes` times as many traces.
/// All built-in features are collected and the wanted ones kept, so that one instantiation serves every list.
template <class Backend>
[[nodiscard]] std::vector<Trace> traces_of(const Model<Backend>& dense, const Tokenizer& tokenizer, const Task& task, int group,
                                           const Schedule& schedule, const AnyHead& head, std::size_t prefixes, const TrainPolicyOptions& options) {
    const std::vector<Example> examples = train_half(task, TrainHalf::Policy);
    if (examples.size() < 4) {
        fail(ErrorCode::InvalidArgument, "task '", task.name, "': ", task.train.size(), " train examples and ", task.shots,
             " shots leave too few to train on; at least ", task.shots + 8, " are needed");
    }
    const Task pool = without_policy_half(task);
    std::vector<Trace> traces;
    for (std::size_t number = 0; number < prefixes; ++number) {  // number 0 is the task's own prefix
        const std::vector<std::size_t> shots = number == 0 ? default_shots(pool) : pick_shots(pool, options.seed + number);
        const TaskPrompts prompts = make_prompts(tokenizer, pool, shots, examples);
        Session session = dense.new_session(prompts.longest());
        dense.prefill(session, prompts.prefix, RunOptions{options.run.stop, {}});
        for (std::size_t i = 0; i < prompts.prompts.size(); ++i) {
            if (options.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "training was cancelled");
            Trace trace = collect_trace<WideFeatures>(dense, session, prompts.prompts[i], prompts.candidates, prompts.gold[i], schedule, options.lens, head, group);
            keep_features(trace, options.features);
            traces.push_back(std::move(trace));
            if (options.run.progress) options.run.progress({task.name, traces.size(), prefixes * prompts.prompts.size()});
        }
    }
    return traces;
}

/// The first layer of the schedule after which `share` of the answers stand; the last of the schedule where none does.
[[nodiscard]] inline std::size_t first_layer(std::span<const Trace> traces, double share) {
    std::map<std::size_t, std::size_t> agrees;
    for (const Trace& trace : traces) {
        for (std::size_t t = 0; t < trace.steps(); ++t) agrees[trace.layers[t]] += trace.agrees[t];
    }
    for (const auto& [layer, count] : agrees) {
        if (static_cast<double>(count) >= share * static_cast<double>(traces.size())) return layer;
    }
    return agrees.empty() ? 1 : agrees.rbegin()->first;
}

}  // namespace detail::train_policy

/// Trains one exit classifier on few-shot prompts of some tasks and calibrates its threshold. Only the policy half of the
/// train examples is asked; every third of them trains the classifier, the rest calibrate (whole examples: all prompts that
/// ask for one stand on one side). Throws InvalidArgument (no task, too few examples, unknown classifier) and as
/// collect_trace(), train_svm(), train_crf() and calibrate() do.
template <class Backend>
[[nodiscard]] TrainedPolicy train_policy(const Model<Backend>& dense, const Tokenizer& tokenizer, std::span<const Task> tasks,
                                         const TrainPolicyOptions& options) {
    namespace d = detail::train_policy;
    if (tasks.empty()) fail(ErrorCode::InvalidArgument, "training needs at least one task");
    if (options.classifier != "svm" && options.classifier != "crf") {
        fail(ErrorCode::InvalidArgument, "unknown classifier '", options.classifier, "'; known: svm, crf");
    }
    TrainedPolicy result;
    PolicyFile& file = result.file;
    for (const std::size_t layer : options.schedule.layers(dense.config().layers)) {
        if (options.lens.reads(layer)) file.layers.push_back(layer);
    }
    if (file.layers.empty()) fail(ErrorCode::InvalidArgument, "the lens reads none of the layers of the schedule");

    std::vector<Trace> training, calibration;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const Task& task = tasks[i];
        if (options.per_task) {
            const auto survey = d::traces_of(dense, tokenizer, task, 0, Schedule::only(file.layers), AnyHead(CandidateHead{}), 1, options);
            file.task_first_layers[task.name] = d::first_layer(survey, options.first_layer_share);
        }
        const Schedule schedule = Schedule::only(file.layers_for(task.name));
        const auto traces = d::traces_of(dense, tokenizer, task, static_cast<int>(i), schedule, options.head, options.prefixes, options);
        const std::size_t examples = traces.size() / options.prefixes;
        for (std::size_t t = 0; t < traces.size(); ++t) (t % examples % 3 == 0 ? training : calibration).push_back(traces[t]);
    }

    const std::vector<Sequence> sequences = to_sequences(training, options.label);
    std::vector<ScoredPrompt> scored;
    const auto adopt = [&](const auto& fit) {
        scored = score_traces(fit.model, calibration, options.label);
        file.training["converged"] = fit.converged ? "yes" : "no";
        file.classifier = fit.model;
    };
    if (options.classifier == "svm") {
        adopt(train_svm(sequences, {.max_passes = 5000}));
    } else {
        adopt(train_crf(sequences, {}));
    }
    result.shared = calibrate(scored, options.calibration);
    file.threshold = result.shared.threshold;
    if (options.per_task) {
        for (const auto& [group, calibrated] : calibrate_per_group(scored, options.calibration)) {
            const std::string& name = tasks[static_cast<std::size_t>(group)].name;
            file.task_thresholds[name] = calibrated.threshold;
            result.tasks[name] = calibrated;
        }
    }

    file.kind = options.classifier;
    file.features = options.features;
    file.lens = options.lens.kind();
    file.head = options.head.kind();
    file.label_rule = options.label == Label::AgreesWithFinal ? "agrees" : "gold";
    file.agreement = options.calibration.target;
    file.model_identity = dense.decoder().weights().identity;
    file.model_name = dense.config().name;
    file.training["prompts_trained"] = std::to_string(training.size());
    file.training["prompts_calibrated"] = std::to_string(calibration.size());
    for (const Task& task : tasks) file.training["tasks"] += (file.training["tasks"].empty() ? "" : ", ") + task.name;
    return result;
}

}  // namespace adainfer::inline v0
#endif

#if defined(ADAINFER_WITH_JSON) && !defined(ADAINFER_NO_EIGEN)

// ---- adainfer/eval/task_lens.hpp -----------------------------------------------------------------------------------------

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace adainfer::inline v0 {

/// How prompts of tasks enter a lens.
struct TaskLensOptions {
    std::size_t prompts = 40;      ///< few-shot prompts a task
    float answer_weight = 10.0F;   ///< of a position where an answer is read; all other positions count 0
    std::uint64_t seed = 0;
};

/// Adds few-shot prompts of a task to a lens: questions and answers of the lens half of its train examples (and of its
/// shots) in random order, each position where an answer is read with its weight. Nothing of the policy half or of the test
/// examples is seen. Throws as LensFitter::add_prompt().
template <class Backend>
void add_task(LensFitter<Backend>& fitter, const Tokenizer& tokenizer, const Task& task, const TaskLensOptions& options = {}) {
    Task pool = without_policy_half(task);
    pool.shots = (std::min)(task.shots + 1, pool.train.size());
    EncodeOptions plain;
    plain.parse_special = false;
    for (std::size_t p = 0; p < options.prompts; ++p) {
        const std::vector<std::size_t> shots = pick_shots(pool, options.seed + p);
        std::vector<TokenId> tokens = tokenizer.encode(few_shot_prefix(pool, shots), plain);
        std::vector<float> weights(tokens.size());
        // An answer is read at the last token of its question. The first question has nothing to go by.
        for (std::size_t shot = 0; shot < shots.size(); ++shot) {
            const std::string up_to = few_shot_prefix(pool, std::span(shots).first(shot)) + question(pool, pool.train[shots[shot]].input);
            const std::size_t length = tokenizer.encode(up_to, plain).size();
            if (shot > 0 && length > 0 && length <= tokens.size()) weights[length - 1] = options.answer_weight;
        }
        fitter.add_prompt(tokens, weights);
    }
}

}  // namespace adainfer::inline v0
#endif

#endif  // ADAINFER_SINGLE_HEADER_HPP
