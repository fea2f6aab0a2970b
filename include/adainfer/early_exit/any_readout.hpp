#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/model/readout.hpp"

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

    /// Numbers that apply() multiplies with, for the cost model.
    [[nodiscard]] std::size_t numbers(std::size_t hidden) const noexcept {
        return std::holds_alternative<LinearLens>(lens_) ? LinearLens::numbers(hidden) : 0;
    }

    /// Bytes of them that it reads after the layer.
    [[nodiscard]] std::size_t bytes(std::size_t layer) const noexcept {
        const auto* linear = std::get_if<LinearLens>(&lens_);
        return linear == nullptr ? 0 : linear->bytes(layer);
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

    /// By its name in policy files and specs: "full", "candidates" or what ShortlistHead::from_spec() knows. Throws
    /// InvalidArgument, listing the names.
    static AnyHead named(std::string_view name) {
        if (name == FullHead::name) return AnyHead(FullHead{});
        if (name == CandidateHead::name) return AnyHead(CandidateHead{});
        if (const auto list = ShortlistHead::from_spec(name)) return AnyHead(*list);
        fail(ErrorCode::InvalidArgument, "unknown head '", name,
             "'; known: full, candidates, shortlist, shortlist:K (2 or more), shortlist+confirm, shortlist:K+confirm");
    }

    [[nodiscard]] std::string_view kind() const {
        return std::visit([](const auto& head) { return std::remove_cvref_t<decltype(head)>::name; }, head_);
    }

    /// What named() makes the same head of.
    [[nodiscard]] std::string name() const {
        const auto* const list = std::get_if<ShortlistHead>(&head_);
        return list != nullptr ? list->spec() : std::string(kind());
    }

    [[nodiscard]] bool confirms() const {
        return std::visit([](const auto& head) { return adainfer::confirms_of(head); }, head_);
    }

    /// Logits that a check computes, for the cost model.
    [[nodiscard]] std::size_t rows(std::size_t vocabulary, std::size_t candidates, bool first) const {
        return std::visit([&](const auto& head) { return head.rows(vocabulary, candidates, first); }, head_);
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
