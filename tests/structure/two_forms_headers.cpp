// With two_forms_single.cpp: one program whose files include the headers and the single header, each with a policy of its own,
// and share a model.
#include <iostream>

#include "adainfer/adainfer.hpp"
#include "two_forms.hpp"

int main() {
    using namespace adainfer;
    const Dense dense(make_random_model({.layers = 6}), {}, ReferenceBackend{});
    const Model gap = dense.with_policy(GapThreshold<>(-1.0F));  // exits at the first check
    Session session = gap.new_session();
    const std::vector<TokenId> prompt{1, 2, 3};
    const std::size_t here = gap.predict(session, prompt).exit_layer, there = patient_exit(dense, prompt);
    const Error error = error_of_other_file();
    std::cout << "exit layers " << here << " and " << there << "; " << error.what() << '\n';
    return here == 1 && there == 3 && error.code() == ErrorCode::InvalidArgument ? 0 : 1;
}
