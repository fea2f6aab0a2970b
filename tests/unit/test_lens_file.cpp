#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/io/safetensors.hpp"
#include "errors.hpp"
#include "temporary_files.hpp"

namespace test_lens_file {

namespace {

using namespace adainfer;

constexpr std::size_t width = 12;

std::vector<float> random_map(std::uint32_t seed, float size = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, size);
    std::vector<float> map((width + 1) * width);
    for (float& value : map) value = normal(random);
    return map;
}

LinearLens lens_of(std::vector<LinearLens::Map> maps) { return LinearLens("0123456789abcdef", width, std::move(maps)); }

LinearLens two_maps() { return lens_of({{24, random_map(1)}, {7, random_map(2, 1000)}}); }

std::vector<float> floats_of(const LinearLens& lens, std::size_t layer) {
    for (const LinearLens::Map& map : lens.maps()) {
        if (map.layer == layer) return map.matrix.to_floats();
    }
    FAIL("the lens has no map of layer ", layer);
    return {};
}

/// A lens file as its tensors and metadata, to be broken.
struct Parts {
    std::vector<std::uint16_t> matrix = std::vector<std::uint16_t>(4, 0x3C00), bias = std::vector<std::uint16_t>(2, 0x4000),
                               scale = std::vector<std::uint16_t>(2, 0x3800);
    std::vector<std::int8_t> steps{1, -2, 127, -128};
    std::map<std::string, std::string> metadata{
        {"format", "adainfer-lens-1"}, {"model_identity", "m"}, {"hidden", "2"}, {"training.tokens", "9"}};
    std::vector<SafetensorsTensor> tensors{{"lens.3.matrix", "F16", {2, 2}, std::as_bytes(std::span(matrix))},
                                           {"lens.3.bias", "F16", {2}, std::as_bytes(std::span(bias))}};

    Parts() = default;
    Parts(const Parts&) = delete;
    Parts& operator=(const Parts&) = delete;

    void use_8_bit() {
        tensors[0] = {"lens.3.matrix", "I8", {2, 2}, std::as_bytes(std::span(steps))};
        tensors.push_back({"lens.3.scale", "F16", {2}, std::as_bytes(std::span(scale))});
    }

    LensFile load() const {
        const TemporaryFiles files;
        write_safetensors(files.directory() / "lens.safetensors", tensors, metadata);
        return load_lens_file(files.directory() / "lens.safetensors");
    }

    void check_refused(ErrorCode code, std::string_view reason) const {
        const std::string message = error_of(code, [&] { static_cast<void>(load()); });
        CAPTURE(message);
        CHECK(contains(message, reason));
        CHECK(contains(message, "lens.safetensors'"));
    }
};

}  // namespace

TEST_CASE("lens file: F16 keeps every number to half a unit of its last place") {
    const TemporaryFiles files;
    const auto path = files.directory() / "lens.safetensors";
    const LinearLens lens = two_maps();
    save_lens(path, lens, {{{"tokens", "25000"}, {"ridge", "1e-6"}}});
    const LensFile loaded = load_lens_file(path);
    CHECK(loaded.info.training == std::map<std::string, std::string>{{"tokens", "25000"}, {"ridge", "1e-6"}});
    CHECK(loaded.lens.model_identity() == "0123456789abcdef");
    CHECK(loaded.lens.hidden() == width);
    REQUIRE(loaded.lens.maps().size() == 2);
    for (const LinearLens::Map& map : lens.maps()) {
        const std::vector<float> saved = map.matrix.to_floats(), again = floats_of(loaded.lens, map.layer);
        REQUIRE(again.size() == saved.size());
        for (std::size_t i = 0; i < saved.size(); ++i) {
            CHECK(std::abs(again[i] - saved[i]) <= std::abs(saved[i]) * 0x1p-11F + 0x1p-25F);
        }
    }
    // Numbers that F16 has survive exactly, so saving what was loaded gives the same file.
    save_lens(files.directory() / "again.safetensors", loaded.lens, loaded.info);
    CHECK(lens_hash(files.directory() / "again.safetensors") == loaded.hash);
    CHECK(load_lens(path).maps().size() == 2);
}

TEST_CASE("lens file: 8 bits keep every number to half a step of its row, in half the bytes") {
    const TemporaryFiles files;
    const auto path = files.directory() / "lens.safetensors", wide = files.directory() / "wide.safetensors";
    std::vector<float> odd = random_map(3);
    std::fill_n(odd.begin(), width, 0.0F);                   // a row of zeros
    for (std::size_t j = 0; j < width; ++j) {
        odd[width + j] = 1e-9F;                              // a row below the smallest F16
        odd[2 * width + j] = j % 2 == 0 ? 8e6F : -8e6F;      // a row whose numbers F16 could not hold, only their scale
        odd[3 * width + j] = 3e-6F * static_cast<float>(j);  // a row with a subnormal scale
    }
    const LinearLens lens = lens_of({{24, random_map(1)}, {3, odd}});
    save_lens(path, lens, {}, LensPrecision::I8);
    save_lens(wide, two_maps(), {}, LensPrecision::F16);
    CHECK(std::filesystem::file_size(path) < std::filesystem::file_size(wide));
    const LinearLens loaded = load_lens(path);
    for (const LinearLens::Map& map : lens.maps()) {
        const std::vector<float> saved = map.matrix.to_floats(), again = floats_of(loaded, map.layer);
        for (std::size_t row = 0; row < width; ++row) {
            float largest = 0;
            for (std::size_t j = 0; j < width; ++j) largest = (std::max)(largest, std::abs(saved[row * width + j]));
            // Half a step, what rounding the scale itself costs the largest number, and half of the smallest scale there is.
            const float allowed = largest / 127 * 0.5F * 1.001F + largest * 0x1p-11F + 0x1p-24F * 64;
            for (std::size_t j = 0; j < width; ++j) {
                CAPTURE(row);
                CHECK(std::abs(again[row * width + j] - saved[row * width + j]) <= allowed);
            }
        }
        for (std::size_t j = 0; j < width; ++j) {  // the bias is F16 here too
            const float bias = saved[width * width + j];
            CHECK(std::abs(again[width * width + j] - bias) <= std::abs(bias) * 0x1p-11F + 0x1p-25F);
        }
    }
    for (std::size_t j = 0; j < width; ++j) CHECK(floats_of(loaded, 3)[j] == 0);
}

TEST_CASE("lens file: a loaded lens maps as the saved one") {
    const TemporaryFiles files;
    const LinearLens lens = lens_of({{5, random_map(4)}});
    std::vector<float> hidden(width), expected(width), found(width);
    std::mt19937 random(5);
    for (float& value : hidden) value = std::normal_distribution<float>(0, 30)(random);
    lens.apply(0, 5, hidden, expected);
    for (const LensPrecision precision : {LensPrecision::F16, LensPrecision::I8}) {
        save_lens(files.directory() / "lens", lens, {}, precision);
        load_lens(files.directory() / "lens").apply(0, 5, hidden, found);
        for (std::size_t i = 0; i < width; ++i) {
            CHECK(found[i] == doctest::Approx(expected[i]).epsilon(precision == LensPrecision::F16 ? 2e-3 : 3e-2).scale(3));
        }
    }
}

TEST_CASE("lens file: 8 bits stay 8 bits in memory and in the next file") {
    const TemporaryFiles files;
    const auto path = files.directory() / "lens", again = files.directory() / "again";
    std::vector<float> odd = random_map(6);
    std::fill_n(odd.begin(), width, 0.0F);
    odd[width] = -1e-7F;                                                     // a row with the smallest scale
    for (std::size_t j = 0; j < width; ++j) odd[3 * width + j] *= 0x1p-14F;  // a subnormal one
    save_lens(path, lens_of({{24, random_map(1)}, {3, odd}}), {{{"tokens", "9"}}}, LensPrecision::I8);
    const LensFile loaded = load_lens_file(path);
    for (const LinearLens::Map& map : loaded.lens.maps()) REQUIRE(map.matrix.codes() != nullptr);
    CHECK(loaded.lens.bytes(3) == width * width + 8 * width);
    CHECK(loaded.lens.bytes(4) == 0);
    save_lens(again, loaded.lens, loaded.info, LensPrecision::I8);
    CHECK(lens_hash(again) == loaded.hash);
    // A code of -128 is another program's; it is kept all the same.
    Parts parts;
    parts.use_8_bit();
    const LensFile foreign = parts.load();
    save_lens(again, foreign.lens, foreign.info, LensPrecision::I8);
    CHECK(lens_hash(again) == foreign.hash);
    // As F16 it becomes floats.
    save_lens(again, loaded.lens, {}, LensPrecision::F16);
    CHECK(load_lens(again).maps().front().matrix.codes() == nullptr);
    CHECK(load_lens(again).bytes(3) == 4 * (width + 1) * width);
}

TEST_CASE("lens file: a map in 8 bits multiplies as its floats") {
    const TemporaryFiles files;
    const auto path = files.directory() / "lens";
    save_lens(path, lens_of({{5, random_map(7)}}), {}, LensPrecision::I8);
    const LinearLens loaded = load_lens(path);
    const std::vector<float> map = floats_of(loaded, 5);
    std::vector<float> hidden(width), found(width), in_floats(width);
    std::mt19937 random(8);
    for (float& value : hidden) value = std::normal_distribution<float>(0, 30)(random);
    loaded.apply(0, 5, hidden, found);
    lens_of({{5, map}}).apply(0, 5, hidden, in_floats);
    for (std::size_t j = 0; j < width; ++j) {
        float size = std::abs(map[width * width + j]);
        for (std::size_t i = 0; i < width; ++i) size += std::abs(hidden[i] * lens_scale(hidden) * map[i * width + j]);
        CHECK(std::abs(found[j] - in_floats[j]) <= 2 * (width + 4) * 0x1p-24F * size);
    }
}

TEST_CASE("lens file: the hash follows the bytes") {
    const TemporaryFiles files;
    const auto path = files.directory() / "lens";
    save_lens(path, two_maps());
    const std::string hash = lens_hash(path);
    CHECK(hash.size() == 16);
    CHECK(load_lens_file(path).hash == hash);
    save_lens(path, two_maps());
    CHECK(lens_hash(path) == hash);
    save_lens(path, two_maps(), {{{"tokens", "1"}}});
    CHECK(lens_hash(path) != hash);
    save_lens(path, lens_of({{24, random_map(1)}, {7, random_map(3)}}));
    CHECK(lens_hash(path) != hash);
    CHECK(contains(error_of(ErrorCode::Io, [&] { static_cast<void>(lens_hash(files.directory() / "absent")); }), "absent"));
}

TEST_CASE("lens file: what cannot be saved") {
    const TemporaryFiles files;
    const auto path = files.directory() / "lens";
    for (const LensPrecision precision : {LensPrecision::F16, LensPrecision::I8}) {
        std::vector<float> map = random_map(1);
        const auto message = [&] {
            return error_of(ErrorCode::NotFinite, [&] { save_lens(path, lens_of({{9, map}}), {}, precision); });
        };
        map.back() = 70000;  // in the bias
        CHECK(contains(message(), "layer 9 holds 70000"));
        map.back() = 0;
        map.front() = precision == LensPrecision::F16 ? -1e7F : 1e30F;  // in 8 bits only the scale can be too large
        CHECK(contains(message(), precision == LensPrecision::F16 ? "-1e+07" : "layer 9"));
    }
    CHECK(contains(error_of(ErrorCode::InvalidArgument, [&] { save_lens(path, lens_of({})); }), "no maps"));
    CHECK(contains(error_of(ErrorCode::InvalidArgument, [&] { save_lens(path, LinearLens()); }), "empty"));
    CHECK(contains(error_of(ErrorCode::InvalidArgument, [&] { save_lens(path, lens_of({{100'001, random_map(1)}})); }),
                   "too large"));
    CHECK(std::filesystem::is_empty(files.directory()));
}

TEST_CASE("lens file: both forms by hand") {
    Parts parts;
    CHECK(parts.load().lens.maps().front().matrix.to_floats() == std::vector<float>{1, 1, 1, 1, 2, 2});
    CHECK(parts.load().lens.maps().front().layer == 3);
    parts.use_8_bit();
    CHECK(parts.load().lens.maps().front().matrix.to_floats() == std::vector<float>{0.5F, -1, 63.5F, -64, 2, 2});
    const std::vector<float> plain{1, 2, 3, 4};  // F32 and BF16 are read too
    parts.tensors[0] = {"lens.3.matrix", "F32", {2, 2}, std::as_bytes(std::span(plain))};
    parts.tensors.pop_back();
    CHECK(parts.load().lens.maps().front().matrix.to_floats() == std::vector<float>{1, 2, 3, 4, 2, 2});
}

TEST_CASE("lens file: metadata that are missing or wrong") {
    const auto without = [](const std::string& key, ErrorCode code, std::string_view reason) {
        Parts parts;
        parts.metadata.erase(key);
        parts.check_refused(code, reason);
    };
    without("format", ErrorCode::CorruptFile, "not a lens file");
    without("model_identity", ErrorCode::CorruptFile, "lack 'model_identity'");
    without("hidden", ErrorCode::CorruptFile, "lack 'hidden'");
    const auto with = [](const std::string& key, const std::string& value, ErrorCode code, std::string_view reason) {
        Parts parts;
        parts.metadata[key] = value;
        parts.check_refused(code, reason);
    };
    with("format", "pt", ErrorCode::CorruptFile, "not a lens file");
    with("format", "adainfer-lens-2", ErrorCode::Unsupported, "'adainfer-lens-2', this version reads adainfer-lens-1");
    for (const char* hidden : {"", "0", "-2", "2 ", "+2", "0x2", "99999999999999999999999", "16777217"}) {
        with("hidden", hidden, ErrorCode::CorruptFile, "must be the width of the model");
    }
    with("hidden", "3", ErrorCode::CorruptFile, "tensor 'lens.3.matrix' is [2, 2], expected [3, 3]");
    with("hidden", "16777216", ErrorCode::CorruptFile, "is [2, 2], expected [16777216, 16777216]");
}

TEST_CASE("lens file: tensors that are missing or wrong") {
    SUBCASE("no maps") {
        Parts parts;
        parts.tensors.clear();
        parts.check_refused(ErrorCode::CorruptFile, "the lens has no maps");
    }
    SUBCASE("no bias") {
        Parts parts;
        parts.tensors.pop_back();
        parts.check_refused(ErrorCode::CorruptFile, "no tensor 'lens.3.bias'");
    }
    SUBCASE("no matrix") {
        Parts parts;
        parts.tensors.erase(parts.tensors.begin());
        parts.check_refused(ErrorCode::CorruptFile, "no tensor 'lens.3.matrix'");
    }
    SUBCASE("no scale") {
        Parts parts;
        parts.use_8_bit();
        parts.tensors.pop_back();
        parts.check_refused(ErrorCode::CorruptFile, "no tensor 'lens.3.scale'");
    }
    SUBCASE("a scale too many") {
        Parts parts;
        parts.tensors.push_back({"lens.3.scale", "F16", {2}, std::as_bytes(std::span(parts.scale))});
        parts.check_refused(ErrorCode::CorruptFile, "belongs to an I8 matrix");
    }
    SUBCASE("shapes") {
        Parts parts;
        parts.tensors[0].shape = {4, 1};
        parts.check_refused(ErrorCode::CorruptFile, "tensor 'lens.3.matrix' is [4, 1], expected [2, 2]");
        parts.tensors[0].shape = {2, 2};
        parts.tensors[1].shape = {1, 2};
        parts.check_refused(ErrorCode::CorruptFile, "tensor 'lens.3.bias' is [1, 2], expected [2]");
    }
    SUBCASE("types") {
        Parts parts;
        parts.tensors[0].dtype = "I16";
        parts.check_refused(ErrorCode::Unsupported, "'lens.3.matrix' is of type I16");
    }
    SUBCASE("names") {
        for (const char* name :
             {"lens.3.matrices", "lens.03.matrix", "lens.+3.matrix", "lens.-3.matrix", "lens..matrix", "lens.3", "matrix",
              "lens.3.matrix.", "lens.100001.matrix", "lens.99999999999999999999999.matrix", ""}) {
            CAPTURE(name);
            Parts parts;
            parts.tensors[0].name = name;
            parts.check_refused(ErrorCode::CorruptFile, "is none of a lens");
        }
    }
    SUBCASE("types beside an I8 matrix") {
        Parts parts;
        parts.use_8_bit();
        parts.tensors[1] = {"lens.3.bias", "I8", {2}, std::as_bytes(std::span(parts.steps)).first(2)};
        parts.check_refused(ErrorCode::Unsupported, "'lens.3.bias' is of type I8");
    }
    SUBCASE("row scales") {
        Parts parts;
        parts.use_8_bit();
        parts.scale[1] = 0x7C00;
        parts.check_refused(ErrorCode::NotFinite, "the map of layer 3 holds NaN or infinity");
    }
    SUBCASE("numbers") {
        Parts parts;
        parts.matrix[2] = 0x7C00;
        parts.check_refused(ErrorCode::NotFinite, "the map of layer 3 holds NaN or infinity");
        parts.matrix[2] = 0;
        parts.bias[1] = 0x7E00;
        parts.check_refused(ErrorCode::NotFinite, "the map of layer 3 holds NaN or infinity");
    }
    SUBCASE("truncated") {
        const TemporaryFiles files;
        const auto path = files.directory() / "lens.safetensors";
        save_lens(path, two_maps());
        const auto size = std::filesystem::file_size(path);
        for (std::uintmax_t cut = size; cut-- > 0;) {
            std::filesystem::resize_file(path, cut);
            CHECK_THROWS_AS(static_cast<void>(load_lens_file(path)), Error);
        }
    }
}

}  // namespace test_lens_file
