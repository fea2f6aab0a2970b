// The whole library in one header: copy single_include/adainfer/adainfer.hpp into your project and compile with
//     g++ -std=c++20 -O2 -I single_include -I /usr/include/eigen3 embed_single_header.cpp -o embed_single_header -pthread
// Define ADAINFER_NO_EIGEN before the include (or with -D) to leave Eigen out; ReferenceBackend is there always.
#include <adainfer/adainfer.hpp>
#include <iostream>
#include <vector>

int main() {
    using namespace adainfer;
    const Model model(make_random_model(), Patience(2), EigenBackend());

    // predict() says what comes next and keeps nothing, so the prompt itself may run to the exit layer only.
    Session session = model.new_session();
    const std::vector<TokenId> prompt{5, 6, 7, 8};
    const Prediction next = model.predict(session, prompt);
    std::cout << "adainfer " << version.major << '.' << version.minor << '.' << version.patch << ": token " << next.token
              << " after layer " << next.exit_layer << " of " << next.layers << '\n';
}
