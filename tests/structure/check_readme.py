#!/usr/bin/env python3
"""Compiles every C++ snippet of README.md and checks that the files it names exist.

    check_readme.py [compiler, default $CXX or g++]

A comment line before each ```cpp block says what it is:
    <!-- snippet: program -->       a whole program
    <!-- snippet: declarations -->  at namespace scope, with the umbrella included and `using namespace adainfer`
    <!-- snippet: statements -->    in a function with `file` (ModelFile), `model` (Model<EigenBackend>) and `session` (Session)
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = "#include <adainfer/adainfer.hpp>\nusing namespace adainfer;\n"
FRAMES = {
    "program": "{}",
    "declarations": PRELUDE + "{}",
    "statements": PRELUDE + "void snippet([[maybe_unused]] const ModelFile& file, [[maybe_unused]] const Model<EigenBackend>& model,\n"
                            "             [[maybe_unused]] Session& session) {{\n{}\n}}\n",
}
FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-variable", "-Wno-unused-but-set-variable", "-Werror",
         "-DADAINFER_WITH_JSON", f"-I{ROOT / 'include'}", "-isystem", "/usr/include/eigen3"]


def snippets(text):
    """Yields (line number, kind, code) of each C++ block."""
    for match in re.finditer(r"^(?P<before>[^\n]*)\n```cpp\n(?P<code>.*?)^```", text, re.MULTILINE | re.DOTALL):
        marker = re.search(r"<!-- snippet: (\w+) -->\s*$", match["before"])
        yield text[: match.start("code")].count("\n") + 1, marker and marker[1], match["code"]


def missing_files(text):
    prose = re.sub(r"^```cpp\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"\]\(([^)#:]+)\)", prose)) | set(re.findall(r"(?:bash|python3) ([\w./-]+\.(?:sh|py))", prose))
    return sorted(name for name in names if not (ROOT / name).exists())


def main():
    compiler = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CXX", "g++")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    problems = [f"README.md names {name}, which is not there" for name in missing_files(text)]
    count = 0
    for line, kind, code in snippets(text):
        if kind not in FRAMES:
            problems.append(f"README.md:{line}: the C++ block has no '<!-- snippet: ... -->' line of a known kind before it")
            continue
        count += 1
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, f"readme_line_{line}.cpp")
            source.write_text(FRAMES[kind].format(code), encoding="utf-8")
            run = subprocess.run([compiler, *FLAGS, str(source)], capture_output=True, text=True)
        if run.returncode != 0:
            problems.append(f"README.md:{line}: the {kind} snippet does not compile:\n{run.stderr[:3000]}")
    if count == 0:
        problems.append("README.md holds no C++ snippet")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"README.md: {count} snippets compiled, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
