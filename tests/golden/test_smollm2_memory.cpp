#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/model/model.hpp"
#include "real_model.hpp"

namespace {

/// Anonymous (not file-backed) resident memory of this process, bytes; 0 where the system does not tell.
std::size_t anonymous_memory() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        std::size_t kilobytes = 0;
        if (word == "RssAnon:" && status >> kilobytes) return kilobytes * 1024;
    }
    return 0;
}

}  // namespace

TEST_CASE("a loaded model takes the mapped file and less than a tenth of it beside") {
    const auto path = real_model("ADAINFER_SMOLLM2");
    if (!path) return;
    const std::size_t before = anonymous_memory();
    if (before == 0) {
        MESSAGE("skipped: this system does not tell the resident memory");
        return;
    }
    const adainfer::ModelFile file = adainfer::load_model(*path);
    const adainfer::Model<adainfer::EigenBackend> model(file.weights);
    const adainfer::Session session = model.new_session();
    const std::size_t after = anonymous_memory();
    CHECK(after - before < std::filesystem::file_size(*path) / 10);
    CHECK(session.length() == 0);
}
