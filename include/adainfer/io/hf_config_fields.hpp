#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/io/json_reader.hpp"

namespace adainfer::inline v0::detail::hf_config {

/// The members of one object of a config.json with the defaults of transformers' configuration classes: a missing member has
/// its default, and so has one that is null where the class allows that. Everything throws Error (CorruptFile) for a value
/// of another type or out of range. Views the document and the file's name.
class ConfigFields {
  public:
    /// No object: every member is missing.
    ConfigFields(std::optional<json::Field> object, std::string file) : object_(std::move(object)), file_(std::move(file)) {}

    [[nodiscard]] const std::string& file() const noexcept { return file_; }

    /// A member that is there; it may be null.
    [[nodiscard]] std::optional<json::Field> member(std::string_view key) const {
        return object_ ? object_->find(key) : std::nullopt;
    }
    /// A member that is there and not null.
    [[nodiscard]] std::optional<json::Field> find(std::string_view key) const {
        auto field = member(key);
        if (field && field->is_null()) field.reset();
        return field;
    }

    /// A size that may not be null.
    [[nodiscard]] std::size_t count(std::string_view key, std::size_t otherwise) const {
        const auto field = member(key);
        return field ? field->count(largest) : otherwise;
    }
    /// A size that may be: nothing.
    [[nodiscard]] std::optional<std::size_t> count_or_null(std::string_view key,
                                                           std::optional<std::size_t> otherwise = {}) const {
        const auto field = member(key);
        if (!field) return otherwise;
        return field->is_null() ? std::nullopt : std::optional(field->count(largest));
    }
    [[nodiscard]] float real(std::string_view key, float otherwise) const {
        const auto field = member(key);
        return field ? field->real() : otherwise;
    }
    [[nodiscard]] double number(std::string_view key, double otherwise) const {
        const auto field = member(key);
        if (!field) return otherwise;
        static_cast<void>(field->real());  // the range of a float bounds it
        return field->number();
    }
    [[nodiscard]] std::optional<double> find_number(std::string_view key) const {
        return find(key) ? std::optional(number(key, 0)) : std::nullopt;
    }
    [[nodiscard]] bool flag(std::string_view key, bool otherwise) const {
        const auto field = member(key);
        return field ? field->boolean() : otherwise;
    }
    [[nodiscard]] std::string text(std::string_view key, std::string_view otherwise) const {
        const auto field = member(key);
        return field ? field->text() : std::string(otherwise);
    }

    template <class... Parts>
    [[noreturn]] void unsupported(const Parts&... parts) const {
        fail(ErrorCode::Unsupported, "'", file_, "': ", parts...);
    }
    template <class... Parts>
    [[noreturn]] void corrupt(const Parts&... parts) const {
        fail(ErrorCode::CorruptFile, "'", file_, "': ", parts...);
    }

  private:
    static constexpr std::size_t largest = std::size_t{1} << 31U;  // validate() has the narrower limits

    std::optional<json::Field> object_;
    std::string file_;
};

}  // namespace adainfer::inline v0::detail::hf_config
