#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/calm_threshold.hpp"
#include "adainfer/early_exit/linear_chain_crf.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/early_exit/per_layer.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/early_exit/rbf_svm.hpp"
#include "adainfer/early_exit/shortlist_head.hpp"
#include "adainfer/early_exit/skip_decode.hpp"
#include "adainfer/early_exit/skip_layers.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/generate/classify.hpp"
#include "adainfer/generate/generate.hpp"
#include "adainfer/io/any_model.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_model.hpp"
#include "adainfer/io/gguf_tokenizer.hpp"
#include "adainfer/io/lens_file.hpp"
#include "adainfer/io/policy_file.hpp"
#include "adainfer/model/model.hpp"
#include "file_text.hpp"
#include "sanitized.hpp"
#include "temporary_files.hpp"
#include "tiny_model.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

// Every allocation of this program passes here. They are counted, or made to fail, only while a test says so.
namespace {

std::atomic<bool> counting{false};
std::atomic<std::size_t> counted{0};
constexpr std::size_t never = std::numeric_limits<std::size_t>::max();
std::atomic<std::size_t> until_failure{never};

/// False where this allocation has to fail.
bool may_allocate() noexcept {
    if (counting.load(std::memory_order_relaxed)) counted.fetch_add(1, std::memory_order_relaxed);
    if (until_failure.load(std::memory_order_relaxed) == never) return true;
    return until_failure.fetch_sub(1, std::memory_order_relaxed) != 1;
}

}  // namespace

#if defined(__GLIBC__) && !defined(TESTS_SANITIZED)
// malloc itself, because Eigen calls it; operator new calls it too, and of aligned memory the next.
extern "C" void* __libc_malloc(std::size_t);
extern "C" void* __libc_memalign(std::size_t, std::size_t);
extern "C" void* malloc(std::size_t size) noexcept { return may_allocate() ? __libc_malloc(size) : nullptr; }
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
    return may_allocate() ? __libc_memalign(alignment, size) : nullptr;
}
#else
[[gnu::noinline]] void* operator new(std::size_t size) {
    void* const memory = may_allocate() ? std::malloc(size == 0 ? 1 : size) : nullptr;
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {  // std::stable_sort's
    return may_allocate() ? std::malloc(size == 0 ? 1 : size) : nullptr;
}
[[gnu::noinline]] void* operator new[](std::size_t size) { return operator new(size); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
    const auto line = static_cast<std::size_t>(alignment);
    void* const memory = may_allocate() ? std::aligned_alloc(line, (size + line - 1) / line * line) : nullptr;
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
#endif

using namespace adainfer;

namespace {

/// Allocations of all threads during the call.
template <class Call>
std::size_t allocations(Call&& call) {
    counted = 0;
    counting = true;
    call();
    counting = false;
    return counted;
}

/// Runs the call with its k-th allocation failing; true where it was reached. Anything thrown but bad_alloc and Error escapes.
/// `may_recover`: std::stable_sort does without the memory that it asks for.
template <class Call>
bool fails_at(std::size_t k, Call&& call, bool may_recover = false) {
    std::optional<bool> failed;
    until_failure = k;
    try {
        call();
        failed = false;
    } catch (const std::bad_alloc&) {
        failed = true;
    } catch (const Error&) {
        failed = true;
    } catch (...) {
        until_failure = never;
        throw;
    }
    const std::size_t left = until_failure.exchange(never);
    const bool reached = left == 0 || left > k;  // counted down to 0, or past it
    // Whoever swallows a failed allocation and returns would have to be right all the same: nobody else does.
    CHECK((*failed == reached || (may_recover && reached)));
    return reached;
}

/// Runs the call with each of its allocations failing, or with `most` of them, spread evenly.
template <class Call>
void fail_everywhere(Call&& call, bool may_recover = false) {
    constexpr std::size_t most = 400;
    call();  // what is kept for good, as the names of a locale, is there now
    const std::size_t count = allocations(call), step = (std::max)(count / most, std::size_t{1});
    CHECK(count > 0);
    for (std::size_t k = 1; k <= count; k += step) CHECK(fails_at(k, call, may_recover));
    CHECK_FALSE(fails_at(count + 1, call));
}

ModelWeights long_weights() {
    RandomModelOptions options = tiny::options();
    options.context = 300;
    return make_random_model(options);
}

template <class Backend, class Policy>
void check_decode(std::size_t threads, Policy policy, KvType kv = KvType::F32) {
    const Model<Backend, Policy> model(long_weights(), std::move(policy), Backend(threads));
    Session session = model.new_session({.kv = kv});
    TokenId next = model.prefill_and_predict(session, tiny::tokens(20)).token;
    next = model.decode(session, next).token;
    const std::size_t found = allocations([&] {
        while (session.length() < session.capacity()) next = model.decode(session, next).token;
    });
    CHECK(found == 0);
}

}  // namespace

TEST_CASE("the counter counts") {
    CHECK(allocations([] { std::vector<int> v(100); CHECK_FALSE(v.empty()); }) >= 1);
    CHECK(allocations([] {}) == 0);
    CHECK(fails_at(1, [] { static_cast<void>(std::vector<int>(std::size_t{1} << 12U)); }));
    CHECK_FALSE(fails_at(2, [] { static_cast<void>(std::vector<int>(std::size_t{1} << 12U)); }));
}

TEST_CASE("decode allocates nothing, from the second token to the end of the context") {
    for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
        check_decode<EigenBackend>(threads, NeverExit{});
        check_decode<EigenBackend>(threads, GapThreshold<>(0.5F));
        check_decode<EigenBackend>(threads, EntropyThreshold<>(1.0F));
        check_decode<EigenBackend>(threads, HiddenSaturation<>(0.9F));
    }
    check_decode<XtensorBackend>(1, GapThreshold<>(0.5F));
    check_decode<SimdBackend>(1, GapThreshold<>(0.5F));
    check_decode<SimdBackend>(2, NeverExit{}, KvType::F16);
    // Above every gap: all checks run, and no first exit among the tokens that are counted, which takes scratch of its own once.
    check_decode<EigenBackend>(1, GapThreshold<LogitLens, ShortlistHead>(2.0F, {}, ShortlistHead(8)));
    check_decode<EigenBackend>(1, GapThreshold<LogitLens, ShortlistHead>(2.0F, {}, ShortlistHead(8, Confirm::Yes)));
    check_decode<EigenBackend>(1, CalmThreshold<>(0.5F));
    check_decode<EigenBackend>(1, SkipDecode<>(DepthSchedule{.fewest = 2, .most = 3}));
    check_decode<EigenBackend>(1, SkipLayers<>({2}));
}

TEST_CASE("decode allocates nothing under any of the classifiers") {
    const std::vector<float> mean{0.2F, 0.3F}, scale{0.1F, 0.2F};
    const LinearSvm svm{.mean = mean, .scale = scale, .weights = {1, -0.5F}, .bias = 0.1F};
    check_decode<EigenBackend>(1, AdaInferPolicy<LinearSvm>(svm));
    check_decode<EigenBackend>(1, AdaInferPolicy<PerLayer<LinearSvm>>({.shared = svm, .layers = {2}, .own = {svm}}));
    check_decode<EigenBackend>(1, AdaInferPolicy<LinearChainCrf>({.mean = mean,
                                                                  .scale = scale,
                                                                  .weights = {1, -0.5F, -1, 0.5F},
                                                                  .bias = {0.1F, 0},
                                                                  .transitions = {0.5F, -0.5F, 0.25F, 1}}));
    check_decode<EigenBackend>(
        1, AdaInferPolicy<RbfSvm>({.mean = mean, .scale = scale, .map = RandomFourier(2, 3, 0.5, 1), .weights = {1, -1, 0.5F}}));
}

TEST_CASE("generate allocates nothing between its second token and its last") {
    const Model<EigenBackend, GapThreshold<>> model(long_weights(), GapThreshold<>(0.5F));
    for (const float temperature : {0.0F, 1.0F}) {
        Session session = model.new_session();
        std::size_t tokens = 0, at_second = 0, at_last = 0;
        const GenerateOptions options{.max_new_tokens = 200,
                                      .sampling = {.temperature = temperature, .top_k = 30, .top_p = 0.9F, .min_p = 0.01F}};
        counted = 0;
        counting = true;
        generate(model, session, tiny::tokens(10), options, [&](const GeneratedToken&) {
            if (++tokens == 2) at_second = counted;
            at_last = counted;
        });
        counting = false;
        CHECK(tokens == 200);
        CHECK(at_last == at_second);
    }
}

TEST_CASE("predict allocates nothing when a prompt of the same size comes again") {
    using Policy = GapThreshold<LogitLens, CandidateHead>;
    const Model<EigenBackend, Policy> model(long_weights(), Policy(0.5F));
    Session session = model.new_session();
    model.prefill(session, tiny::tokens(50));
    const auto prompt = tiny::tokens(9);
    const std::vector<TokenId> candidates{1, 2, 3};
    const auto predict = [&] { static_cast<void>(model.predict(session, prompt, candidates)); };
    predict();
    CHECK(allocations(predict) == 0);
}

TEST_CASE("running out of memory while a file is loaded") {
    const std::string path = std::string(ADAINFER_FIXTURES) + "/llama_gqa.gguf";
    REQUIRE(std::filesystem::exists(path));
    const EigenBackend backend(2);
    std::size_t k = 1;
    const auto load = [&] {
        const Model<EigenBackend, GapThreshold<>> model(load_weights(GgufFile::open(path)), GapThreshold<>(0.5F), backend);
        const Session session = model.new_session();
    };
    while (fails_at(k, load)) ++k;
    CHECK(k > 50);
}

TEST_CASE("running out of memory while the vocabulary of a GGUF file is loaded") {
    for (const char* name : {"/tokenizer_sentencepiece.gguf", "/tokenizer_unigram.gguf"}) {
        const std::string path = ADAINFER_FIXTURES + std::string(name);
        fail_everywhere([&] { static_cast<void>(load_tokenizer(GgufFile::open(path))); });
    }
}

TEST_CASE("running out of memory while a Hugging Face folder is loaded") {
    const TemporaryFiles folder;
    const std::filesystem::path model = std::filesystem::path(ADAINFER_FIXTURES) / "families" / "llama_llama3";
    for (const char* name : {"config.json", "model.safetensors"}) std::filesystem::copy(model / name, folder.directory() / name);
    constexpr std::string_view tokenizer =
        R"({"added_tokens":[{"id":3,"content":"</s>","special":true}],"normalizer":null,"post_processor":null,)"
        R"("pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":false},)"
        R"("decoder":{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":false},)"
        R"("model":{"type":"BPE","unk_token":"a","vocab":{"ab":0,"a":1,"b":2},"merges":[["a","b"]]}})";
    folder.write("tokenizer.json", std::as_bytes(std::span(tokenizer)));
    folder.write("tokenizer_config.json", std::as_bytes(std::span(std::string_view(R"({"eos_token":"</s>"})"))));
    fail_everywhere([&] { static_cast<void>(load_any_model(folder.directory())); }, true);
}

TEST_CASE("running out of memory while a lens, a policy or a task is read") {
    const std::filesystem::path seeds = std::filesystem::path(ADAINFER_FIXTURES) / ".." / "fuzz";
    const std::string lens = file_text(seeds / "safetensors" / "lens_f16.safetensors");
    fail_everywhere([&] { static_cast<void>(parse_lens_file(std::as_bytes(std::span(lens)), "lens")); }, true);
    for (const char* name : {"svm.json", "per_layer_svm.json", "crf.json", "rbf.json"}) {
        const std::string policy = file_text(seeds / "policy" / name);
        fail_everywhere([&] { static_cast<void>(parse_policy_file(policy, "policy")); });
    }
    const std::string task = file_text(seeds / "task" / "colour.json");
    fail_everywhere([&] { static_cast<void>(parse_task(task, "task")); });
}

TEST_CASE("running out of memory in prefill, decode, predict and generate: an exception, and the session goes on") {
    const auto prompt = tiny::tokens(6);
    const LabelSet labels = LabelSet::from_tokens({{1, 2}, {1, 3}});
    for (const std::size_t threads : {std::size_t{1}, std::size_t{2}}) {
        // Built anew for every k, and run in a new thread, so that no scratch is there yet.
        const auto attempt = [&](std::size_t k) {
            const Model<EigenBackend, GapThreshold<>> model(tiny::weights(), GapThreshold<>(0.5F), EigenBackend(threads));
            Session session = model.new_session(), sound = model.new_session();
            bool reached = false;
            std::thread([&] {
                std::size_t length = 0;
                reached = fails_at(k, [&] {
                    model.prefill(session, prompt);
                    length = 6;
                    static_cast<void>(model.decode(session, 3));
                    length = 7;
                    static_cast<void>(model.predict(session, prompt));
                    static_cast<void>(classify(model, session, prompt, labels));
                });
                CHECK(session.length() == length);
                if (length < 6) model.prefill(session, prompt);
                if (length < 7) static_cast<void>(model.decode(session, 3));
                model.prefill(sound, prompt);
                static_cast<void>(model.decode(sound, 3));
                CHECK(tiny::copy(model.decode(session, 5).logits) == tiny::copy(model.decode(sound, 5).logits));
                if (!reached) {
                    const GenerateOptions options{.max_new_tokens = 4, .sampling = {.temperature = 1}};
                    for (std::size_t i = 1;; ++i) {
                        Session copy = session.clone();
                        const auto run = [&] { generate(model, copy, prompt, options, [](const GeneratedToken&) {}); };
                        if (!fails_at(i, run)) break;
                        CHECK(copy.length() >= 8);
                    }
                }
            }).join();
            return reached;
        };
        std::size_t k = 1;
        while (attempt(k)) ++k;
        CHECK(k > 10);
    }
}
