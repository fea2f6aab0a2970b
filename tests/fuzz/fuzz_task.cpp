// libFuzzer target: any bytes are either a task that holds together, so that prompts come out of it, or an Error.

#include <cstddef>
#include <cstdint>
#include <string>

#include "adainfer/core/error.hpp"
#include "adainfer/eval/prompt.hpp"
#include "adainfer/eval/task.hpp"
#include "checks.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

/// Everything that a task is used for; none of it may throw.
void use(const Task& task) {
    validate(task);
    const std::string prefix = few_shot_prefix(task, default_shots(task));
    require(few_shot_prefix(task, pick_shots(task, 1)).empty() == (task.shots == 0));
    for (const Example& example : task.test) {
        const std::string asked = question(task, example.input), answered = answer(task, example.output);
        require(asked.find(example.input) != std::string::npos);
        require(answered.ends_with(example.output));
    }
    if (task.shots == 0) return;
    const Example& first = task.train.front();
    require(prefix.starts_with(question(task, first.input) + answer(task, first.output)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    Task task;
    try {
        task = parse_task(text, "fuzzed");
    } catch (const Error& error) {
        fuzzing::check_printable(error);
        return 0;
    }
    use(task);
    return 0;
}
