#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/io/model_file.hpp"
#include "adainfer/model/model.hpp"
#include "real_model.hpp"

namespace test_smollm2_memory {

namespace {

/// Resident memory of this process, bytes: "RssAnon:" what is its own, "RssFile:" what is of files. 0 where the system does not
/// tell.
std::size_t resident(const std::string& kind) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        std::size_t kilobytes = 0;
        if (word == kind && status >> kilobytes) return kilobytes * 1024;
    }
    return 0;
}

std::size_t anonymous_memory() { return resident("RssAnon:"); }

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

TEST_CASE("SimdBackend: repacked weights take the place of the file's pages") {
    const auto path = real_model("ADAINFER_SMOLLM2");
    if (!path) return;
    if (anonymous_memory() == 0) {
        MESSAGE("skipped: this system does not tell the resident memory");
        return;
    }
    for (const auto repack : {adainfer::SimdBackend::Repack::Yes, adainfer::SimdBackend::Repack::No}) {
        using Products = adainfer::SimdBackend::Products;
        const adainfer::ModelFile file = adainfer::load_model(*path);  // its tokenizer takes 7 % of the file
        const std::size_t anonymous = anonymous_memory(), all = anonymous + resident("RssFile:");
        const adainfer::Model<adainfer::SimdBackend> model(file.weights, {}, adainfer::SimdBackend(2, Products::Fast, repack));
        const std::size_t size = std::filesystem::file_size(*path);
        const adainfer::Session session = model.new_session();
        const std::size_t after = anonymous_memory() + resident("RssFile:");
        CAPTURE(after - all);
        CHECK(after - all < size + size / 50);
        const bool repacks = model.decoder().backend().repacks(adainfer::DType::Q4_1);
        CHECK(repacks == (model.decoder().backend().repacked_bytes() != 0));
        CHECK(repacks == (anonymous_memory() - anonymous > size / 2));
        CHECK(session.length() == 0);
    }
}

}  // namespace test_smollm2_memory
