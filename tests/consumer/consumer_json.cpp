// The parts that read JSON files, through find_package(adainfer COMPONENTS json).
#include <adainfer/adainfer.hpp>
#include <exception>
#include <iostream>

int main() {
    try {
        const adainfer::Task task = adainfer::parse_task(
            R"({"name": "n", "template": "{input}: {output}\n", "shots": 0, "train": [], "test": [{"input": "a", "output": "b"}]})",
            "here");
        return task.test.size() == 1 ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
