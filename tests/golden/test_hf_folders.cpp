#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/io/hf_folder.hpp"
#include "golden.hpp"

// Tiny Hugging Face folders of every family with the logits that transformers computes after every layer
// (fixtures/make_family_fixtures.py).

namespace test_hf_folders {

using namespace adainfer;

namespace {

std::vector<std::filesystem::path> folders() {
    std::set<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(ADAINFER_FIXTURES) / "families")) {
        if (std::filesystem::exists(entry.path() / "config.json")) found.insert(entry.path());
    }
    return {found.begin(), found.end()};
}

template <class Backend>
void check_folders(const Backend& backend) {
    for (const std::filesystem::path& folder : folders()) {
        const std::string name = folder.filename().string();
        CAPTURE(name);
        check_golden(load_hf_weights(folder), read_golden(folder), backend);
    }
}

}  // namespace

TEST_CASE("Hugging Face folders: every family is among the fixtures") {
    std::set<std::string> found;
    for (const std::filesystem::path& folder : folders()) found.insert(load_hf_config(folder).model_type);
    for (const Family& family : families) {
        const std::string type(family.hf_type);
        CAPTURE(type);
        CHECK(found.contains(type));
    }
}

TEST_CASE("Hugging Face folders: reference") { check_folders(ReferenceBackend{}); }

TEST_CASE("Hugging Face folders: Eigen, one thread and two") {
    check_folders(EigenBackend(1));
    check_folders(EigenBackend(2));
}

TEST_CASE("Hugging Face folders: xtensor") { check_folders(XtensorBackend(2)); }

TEST_CASE("Hugging Face folders: SimdBackend at every level") {
    for (const CpuLevel level : cpu_levels()) {
        CAPTURE(to_string(level));
        check_folders(SimdBackend(2, level, SimdBackend::Products::Exact));
    }
}

}  // namespace test_hf_folders
