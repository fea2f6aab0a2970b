#!/usr/bin/env python3
"""How long files that use the library take to compile, as medians: a Markdown table.

    compile_time.py [--compiler g++] [--runs 5] [--include FOLDER] [--only TEXT]

Seconds of processor time (user and system), which other programs disturb less than seconds of the clock, and those of the clock.
The cases take turns, one run of each before the first counts, ccache is off. FOLDER: include/ of the repository, or
single_include/, for which the narrow headers have no case.
"""
import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSUMER = ROOT / "tests/consumer/extern_template"
UMBRELLA = "#include <adainfer/adainfer.hpp>\n"
# What review_model.hpp includes: narrow headers in place of the umbrella.
NARROW = "".join(line + "\n" for line in (CONSUMER / "review_model.hpp").read_text(encoding="utf-8").splitlines()
                 if line.startswith("#include <adainfer/"))
CLASSIFY = "#include <adainfer/generate/classify.hpp>\n"
MODEL = "adainfer::Model<adainfer::SimdBackend, adainfer::AdaInferPolicy<adainfer::LinearSvm>>"
CALL = f"""adainfer::Classification adainfer::classify(const {MODEL}&, adainfer::Session&, const adainfer::Tokenizer&,
    std::string_view, const adainfer::LabelSet&, const adainfer::RunOptions&);
"""
EXTERN = f"extern template class {MODEL};\nextern template {CALL}"
INSTANTIATE = f"template class {MODEL};\ntemplate {CALL}"
MODEL_ALONE = NARROW.replace(CLASSIFY, "") + f"template class {MODEL};\n"
# A program constructs its backend somewhere, and with it the kernels.
BACKEND = "adainfer::SimdBackend backend() { return adainfer::SimdBackend(2); }\n"
LOADS = f"""
adainfer::Classification answer(const char* path) {{
    const adainfer::ModelFile file = adainfer::load_model(path);
    const adainfer::LinearSvm svm{{.mean = {{0, 0}}, .scale = {{1, 1}}, .weights = {{1, 1}}}};
    const {MODEL} model(file.weights, adainfer::AdaInferPolicy<adainfer::LinearSvm>(svm));
    adainfer::Session session = model.new_session(512);
    const adainfer::LabelSet labels(file.tokenizer, {{" positive", " negative"}});
    return adainfer::classify(model, session, file.tokenizer, "Review: A joy to watch.\\nSentiment:", labels);
}}
"""
ASKS = f"""
std::size_t answer(const {MODEL}& model, adainfer::Session& session, const adainfer::Tokenizer& tokenizer,
                   const adainfer::LabelSet& labels) {{
    return adainfer::classify(model, session, tokenizer, "Review: A joy to watch.\\nSentiment:", labels).label;
}}
"""
LIGHT = ["-DADAINFER_NO_EIGEN"]
ELSEWHERE = [*LIGHT, "-DADAINFER_COMPILED_KERNELS"]
EIGEN = ["-isystem", "/usr/include/eigen3"]
CASES = [  # what it is, source, flags, needs the narrow headers
    ("nothing but the umbrella header, read", UMBRELLA, ["-fsyntax-only", *LIGHT], False),
    ("nothing but the umbrella header, -O2", UMBRELLA, ["-O2", *LIGHT], False),
    ("the umbrella header with Eigen, read", UMBRELLA, ["-fsyntax-only", *EIGEN], False),
    ("the model, narrow headers, -O2", MODEL_ALONE, ["-O2", *LIGHT], True),
    ("the model and its backend, narrow headers, -O2", MODEL_ALONE + BACKEND, ["-O2", *LIGHT], True),
    ("the same, kernels elsewhere, -O2", MODEL_ALONE + BACKEND, ["-O2", *ELSEWHERE], True),
    ("loads a model and classifies, -O2", UMBRELLA + LOADS, ["-O2", *LIGHT], False),
    ("the same, kernels elsewhere, -O2", UMBRELLA + LOADS, ["-O2", *ELSEWHERE], False),
    ("classifies with a model it is given, -O2", UMBRELLA + ASKS, ["-O2", *LIGHT], False),
    ("classifies with a model it is given, after `extern template`, -O2", UMBRELLA + EXTERN + ASKS, ["-O2", *LIGHT], False),
    ("the same with narrow headers, -O2", NARROW + EXTERN + ASKS, ["-O2", *LIGHT], True),
    ("the one file of its `template`, kernels elsewhere, narrow headers, -O2", NARROW + INSTANTIATE + BACKEND, ["-O2", *ELSEWHERE], True),
]


def compile_seconds(command):
    """(processor, clock) seconds of a compilation."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CCACHE_DISABLE": "1"}, check=False)
    clock, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)} returned {run.returncode}:\n{run.stderr[:3000]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--include", type=Path, default=ROOT / "include", metavar="FOLDER")
    arguments.add_argument("--only", default="", metavar="TEXT", help="cases whose description has this in it")
    options = arguments.parse_args()
    narrow = (options.include / "adainfer/model/model.hpp").is_file()
    cases = [case for case in CASES if options.only in case[0] and (narrow or not case[3])]
    seconds = [[] for _ in cases]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.runs + 1):
            for index, (_, source, flags, _) in enumerate(cases):
                file = Path(folder, f"case{index}.cpp")
                file.write_text(source, encoding="utf-8")
                measured = compile_seconds([options.compiler, "-std=c++20", "-I", str(options.include), *flags, "-c", str(file),
                                            "-o", str(Path(folder, "out.o"))])
                if number > 0:  # the first run reads the headers from disk
                    seconds[index].append(measured)
    print("| what | processor, s | clock, s |\n|---|---|---|")
    for (what, *_), runs in zip(cases, seconds):
        processor, clock = (statistics.median(run[i] for run in runs) for i in (0, 1))
        print(f"| {what} | {processor:.2f} | {clock:.2f} |")
    version = subprocess.run([options.compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    print(f"\n{version}, {platform.machine()}, medians of {options.runs}; load now: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
