// The include path of this file begins with single_include/, see two_forms_headers.cpp.
#include "adainfer/adainfer.hpp"
#if !defined(ADAINFER_SINGLE_HEADER_HPP)
#error "this is not the single header"
#endif
#include "two_forms.hpp"

namespace {
struct ThirdCheck {
    struct Features {
        struct Values {};
    };
    struct State {
        std::size_t asked = 0;
    };
    bool wants(std::size_t) const { return true; }
    adainfer::ExitDecision decide(std::size_t, const Features::Values&, State& state) const {
        return ++state.asked == 3 ? adainfer::ExitDecision::Exit : adainfer::ExitDecision::Continue;
    }
};
}  // namespace

std::size_t patient_exit(const Dense& dense, const std::vector<adainfer::TokenId>& prompt) {
    const adainfer::Model model = dense.with_policy(ThirdCheck{});
    adainfer::Session session = model.new_session();
    return model.predict(session, prompt).exit_layer;
}

adainfer::Error error_of_other_file() {
    try {
        (void)patient_exit(Dense(adainfer::make_random_model({.layers = 6})), {});
    } catch (const adainfer::Error& error) {
        return error;
    }
    return {adainfer::ErrorCode::Io, "nothing was thrown"};
}
