#!/usr/bin/env python3
"""Compiles every C++ snippet of README.md and checks that what README.md names exists.

    check_readme.py [COMPILER, default $CXX or g++] [--readme FILE, default README.md of the repository]

The line before each C++ block, blank lines aside, says how the block is compiled:
    <!-- snippet: program -->       a whole program, as it is
    <!-- snippet: declarations -->  in a namespace, after the umbrella header and `using namespace adainfer`
    <!-- snippet: statements -->    in a function there, with the parameters `const ModelFile& file`,
                                    `const Model<EigenBackend>& model` and `Session& session`
Programs are compiled one by one, all others together, each in a namespace of its own.
A C++ block without such a line, and such a line without a C++ block, is an error. What must exist: targets of relative
links and their headings, scripts in commands, paths into the repository's folders anywhere in the text, and for
programs in build/ their source.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = "#include <adainfer/adainfer.hpp>\nusing namespace adainfer;\n"
FRAMES = {  # what stands before and after the block
    "program": ("", ""),
    "declarations": ("namespace snippet_{line} {{\n", "}}\n"),
    "statements": ("namespace snippet_{line} {{\nvoid snippet([[maybe_unused]] const ModelFile& file,\n"
                   "             [[maybe_unused]] const Model<EigenBackend>& model,\n"
                   "             [[maybe_unused]] Session& session) {{\n", "}}\n}}\n"),
}
FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", str(ROOT / "include"),
         "-isystem", "/usr/include/eigen3", "-DADAINFER_WITH_JSON"]
CPP = {"cpp", "c++", "cc", "cxx", "hpp"}
FOLDERS = "examples|tests|include|single_include"
MARKER = re.compile(r"\s*<!--\s*snippet:\s*(.*?)\s*-->\s*")


def parse(text):
    """The README as (blocks, prose): blocks are (line number of the first code line, language, marker or None, code), prose is
    the text outside of blocks. Problems of the form are the third value."""
    blocks, prose, problems = [], [], []
    marker = fence = None  # marker: (line, kind) that waits for its block
    for number, line in enumerate(text.splitlines(), 1):
        opening = re.match(r"\s*(`{3,}|~{3,})\s*([^\s`{]*)", line)
        if fence is None and opening:
            fence, language, start, code = opening[1], opening[2].lower(), number + 1, []
        elif fence is not None and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            blocks.append((start, language, marker and marker[1], "".join(code)))
            if marker and language not in CPP:
                problems.append(f"{marker[0]}: a snippet line before a block that is not C++")
            marker = fence = None
        elif fence is not None:
            code.append(line + "\n")
        else:
            prose.append(line)
            if marker and line.strip():
                problems.append(f"{marker[0]}: a snippet line without a C++ block after it")
                marker = None
            match = MARKER.fullmatch(line)
            if match:
                marker = (number, match[1])
    if fence is not None:
        problems.append(f"{start - 1}: the block does not end")
    if marker:
        problems.append(f"{marker[0]}: a snippet line without a C++ block after it")
    return blocks, "\n".join(prose), problems


def framed(readme, line, kind, code):
    """A block with what stands around it. A compiler's line numbers are then those of the README."""
    before, after = (frame.format(line=line) for frame in FRAMES[kind])
    return f'{before}#line {line} "{readme.name}"\n{code}{after}'


def compile_text(compiler, text):
    """None, or what the compiler says."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "snippet.cpp")
        source.write_text(text, encoding="utf-8")
        run = subprocess.run([compiler, *FLAGS, str(source)], capture_output=True, text=True)
    return None if run.returncode == 0 else run.stderr[:3000] or f"{compiler} returned {run.returncode}"


def headings(text):
    """The anchors that GitHub gives to the headings of a Markdown text."""
    titles = re.findall(r"^#{1,6}\s+(.*?)\s*#*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def missing_links(prose, base):
    """Yields (name, problem) of relative link targets. Inline code is no link."""
    prose = re.sub(r"`[^`\n]*`", "`code`", prose)
    targets = re.findall(r"\]\(\s*<?([^)>\s]+)", prose) + re.findall(r"^\s*\[[^\]]+\]:\s*(\S+)", prose, re.MULTILINE)
    for target in targets + re.findall(r"(?:src|href)=\"([^\"]+)\"", prose):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target):
            continue
        path, _, anchor = target.partition("#")
        if path and not (base / path).exists():
            yield path, f"the link target {path} is not there"
        elif anchor and (not path or path.endswith(".md")):
            text = prose if not path else (base / path).read_text(encoding="utf-8")
            if anchor not in headings(text):
                yield target, f"the link target {target} names a heading that is not there"


def has_source(program):
    """Whether build/<program> is made from a file of this repository: <folder>/<name>.cpp, or the folder cli/ for adainfer."""
    return (ROOT / f"{program}.cpp").is_file() or (program == "examples/adainfer" and (ROOT / "examples/cli").is_dir())


def missing_paths(text):
    """Yields (name, problem) of paths of this repository in prose, code or commands."""
    start = r"(?<![\w./*:-])(?:\./)?"
    for name in re.findall(rf"{start}((?:{FOLDERS})/[\w./*+-]*)", text):
        name = name.rstrip(".")
        if not (any(ROOT.glob(name.rstrip("/"))) if "*" in name else (ROOT / name).exists()):
            yield name, f"the path {name} is not there"
    for name in re.findall(rf"{start}((?:bash|sh|python3?)\s+(?:-\w+\s+)*[\w./-]+\.(?:sh|py))", text):
        script = name.split()[-1]
        if not script.startswith("/") and not (ROOT / script).is_file():
            yield script, f"the script {script} is not there"
    for name in re.findall(rf"{start}\./([\w./-]+\.(?:sh|py))", text):
        if not (ROOT / name).is_file():
            yield name, f"the script {name} is not there"
    for name in re.findall(rf"{start}build[\w-]*/([\w./-]*\w)", text):
        if not has_source(name):
            yield name, f"the program build/{name} has no source in this repository"
    for name in re.findall(rf"{start}(\w[\w/]*/\w+\.hpp)\b", text):
        if not any((ROOT / folder / name).is_file() for folder in ("", "include", "include/adainfer", "single_include")):
            yield name, f"the header {name} is not there"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("compiler", nargs="?", default=os.environ.get("CXX", "g++"))
    arguments.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = arguments.parse_args()
    readme = options.readme
    if not readme.is_file():
        sys.exit(f"{readme} does not exist")
    text = readme.read_text(encoding="utf-8")
    blocks, prose, problems = parse(text)
    programs, together = [], []
    for line, language, kind, code in blocks:
        if language not in CPP:
            continue
        if kind not in FRAMES:
            found = f"'{kind}' is unknown" if kind else "there is none"
            problems.append(f"{line}: a C++ block needs a line <!-- snippet: {' | '.join(FRAMES)} --> before it, {found}")
            continue
        (programs if kind == "program" else together).append((line, framed(readme, line, kind, code)))
    texts = list(programs)
    if together:
        texts.append((together[0][0], PRELUDE + "".join(code for _, code in together)))
    for line, code in texts:
        message = compile_text(options.compiler, code)
        if message:
            problems.append(f"{line}: the snippet does not compile:\n{message}")
    compiled = len(programs) + len(together)
    if compiled == 0:
        problems.append("1: there is no C++ snippet")
    for name, message in dict.fromkeys([*missing_links(prose, ROOT), *missing_paths(text)]):
        problems.append(f"{text[:text.find(name)].count(chr(10)) + 1}: {message}")
    for problem in problems:
        print(f"{readme.name}:{problem}", file=sys.stderr)
    print(f"{readme.name}: {compiled} snippets compiled, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
