#pragma once

#include <cstddef>
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

namespace detail {
/// Text from a file as an error message may show it: in quotes; control characters, quotes and everything beyond ASCII
/// replaced, cut to a length that fits a line.
[[nodiscard]] inline std::string quoted(std::string_view text, std::size_t longest = 80) {
    std::string shown = "'";
    for (const char c : text.substr(0, longest)) shown += c >= ' ' && c <= '~' && c != '\'' ? c : '?';
    return shown + (text.size() > longest ? "...'" : "'");
}
}  // namespace detail

}  // namespace adainfer::inline v0
