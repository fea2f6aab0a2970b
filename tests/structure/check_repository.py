#!/usr/bin/env python3
"""Rules for the repository as a whole: what stands at the top, sizes, scripts that parse. Prints every breach."""

import ast
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOP = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "CHANGELOG.md",
       "include", "single_include", "examples", "tests"}  # and names that begin with a dot
LARGEST = 6 * 1024 * 1024
problems = []


def files():
    """Files of the repository: what git knows or would add, or everything where there is no git."""
    try:
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                capture_output=True, check=True).stdout.decode().split("\0")
        return [name for name in listed if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        ignored = re.compile(r"models/|build|\.git/|.*__pycache__")
        names = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
        return [name for name in names if not ignored.match(name)]


def check(name):
    path = ROOT / name
    top = name.split("/")[0]
    if top not in TOP and not top.startswith("."):
        problems.append(f"{name}: the top level holds only {' '.join(sorted(TOP))} and dot files")
    if path.stat().st_size > LARGEST:
        problems.append(f"{name}: {path.stat().st_size} bytes, more than {LARGEST}")
    data = path.read_bytes()
    shell = name.endswith(".sh") or data.startswith(b"#!/usr/bin/env bash")
    if name.endswith(".py"):
        try:
            ast.parse(data, name)
        except SyntaxError as error:
            problems.append(f"{name}: {error}")
    elif shell:
        result = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
        if result.returncode:
            problems.append(f"{name}: {result.stderr.strip()}")
        if b"set -euo pipefail" not in data:
            problems.append(f"{name}: lacks 'set -euo pipefail'")
    if shell or name.endswith((".hpp", ".cpp", ".py", ".cmake", "CMakeLists.txt")):
        for number, line in enumerate(data.decode("utf-8").split("\n"), 1):
            if "\t" in line or line != line.rstrip():
                problems.append(f"{name}:{number}: tab or blanks at the end of the line")


def main():
    for name in files():
        check(name)
    print("\n".join(problems) if problems else "ok")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
