// What every consumer project here compiles: loads a model, decodes a few tokens under an exit policy.
#include <adainfer/adainfer.hpp>
#include <cstddef>
#include <exception>
#include <iostream>
#include <vector>

#if defined(ADAINFER_NO_EIGEN)
using Backend = adainfer::ReferenceBackend;
#else
using Backend = adainfer::EigenBackend;
#endif

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: consumer MODEL\n";
        return 2;
    }
    try {
        const auto file = adainfer::GgufFile::open(argv[1]);
        const adainfer::Model<Backend, adainfer::GapThreshold<>> model(adainfer::load_weights(file), adainfer::GapThreshold<>(0.001F));
        adainfer::Session session = model.new_session();
        adainfer::TokenId token = 1;
        std::size_t layers_run = 0;
        for (int i = 0; i < 8; ++i) {
            const adainfer::Prediction prediction = model.decode(session, token);
            token = prediction.token;
            layers_run += prediction.exit_layer;
            std::cout << token << " after " << prediction.exit_layer << " of " << prediction.layers << " layers\n";
        }
        return layers_run > 0 && layers_run <= 8 * model.config().layers ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
