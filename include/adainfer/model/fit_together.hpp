#pragma once

#include <type_traits>
#include <utility>

#include "adainfer/backend/concept.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/exit_policy.hpp"
#include "adainfer/model/kv_completion.hpp"
#include "adainfer/model/readout.hpp"

namespace adainfer::inline v0 {

namespace detail {
template <class Policy>
using LensOf = decltype(adainfer::lens_of(std::declval<const Policy&>()));

template <class Policy>
using HeadOf = decltype(adainfer::head_of(std::declval<const Policy&>()));

/// Optional members that are there have the right signature.
template <class Policy>
concept OptionsFit = (HasStart<Policy> || !NamesStart<Policy>)&&(HasSkips<Policy> || !NamesSkips<Policy>);

template <class Backend, class Policy>
concept ReadoutFits =
    Lens<std::remove_cvref_t<LensOf<Policy>>, Decoder<Backend>> && LmHead<std::remove_cvref_t<HeadOf<Policy>>, Decoder<Backend>>;
}  // namespace detail

/// What Model<Backend, Policy, Completion> needs of its arguments.
template <class Backend, class Policy, class Completion>
concept FitTogether = TensorBackend<Backend> && ExitPolicy<Policy> && detail::OptionsFit<Policy> &&
    detail::ReadoutFits<Backend, Policy> && KvCompletion<Completion>;

/// Turns a lens or head that does not fit into one readable line.
template <class Backend, class Policy>
consteval void require_readout() {
    if constexpr (TensorBackend<Backend> && ExitPolicy<Policy>) {
        // Bools, so that the compiler does not explain them.
        constexpr bool lens_fits = Lens<std::remove_cvref_t<detail::LensOf<Policy>>, Decoder<Backend>>;
        constexpr bool head_fits = LmHead<std::remove_cvref_t<detail::HeadOf<Policy>>, Decoder<Backend>>;
        static_assert(lens_fits,
                      "adainfer: the policy's lens lacks 'void apply(const Decoder&, std::size_t layer, "
                      "std::span<const float> hidden, std::span<float> out) const' (see LogitLens)");
        static_assert(head_fits,
                      "adainfer: the policy's head lacks 'std::span<const TokenId> run(const Decoder&, "
                      "std::span<const float> state, std::span<const TokenId> candidates, Workspace&) const' (see FullHead)");
    }
}

}  // namespace adainfer::inline v0
