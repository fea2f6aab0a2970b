#!/usr/bin/env python3
"""Writes single_include/adainfer/adainfer.hpp: include/adainfer/adainfer.hpp with every project header it includes put in
its place, once. System and third-party includes stay where they stand, so what is inside a conditional stays inside.

    python3 single_include/amalgamate.py            write the file
    python3 single_include/amalgamate.py --check    fail if the file is not what would be written
"""

import argparse
import difflib
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "include"
UMBRELLA = "adainfer/adainfer.hpp"
OUTPUT = ROOT / "single_include" / UMBRELLA
COMMAND = "python3 single_include/amalgamate.py"

# Macros that a program sees after the include; every other one must be undefined by the header that defines it.
PUBLIC_MACROS = {"ADAINFER_VERSION_MAJOR", "ADAINFER_VERSION_MINOR", "ADAINFER_VERSION_PATCH",
                 "ADAINFER_X86", "ADAINFER_TARGET_AVX2", "ADAINFER_TARGET_AVX512", "ADAINFER_TARGET_BFLOAT16",
                 "ADAINFER_TARGET_AMX", "ADAINFER_ARM64", "ADAINFER_TARGET_DOTPROD"}  # the kernels share them

DIRECTIVE = re.compile(r"^\s*#\s*(\w+)\s*(.*?)\s*$")
PROJECT_INCLUDE = re.compile(r'^"(adainfer/[^"]+)"')


class Problem(Exception):
    pass


class Amalgamation:
    def __init__(self):
        self.lines = []
        self.where = {}  # header -> what must hold where it was put
        self.conditions = []  # of the #if blocks open here, each a set of parts joined by &&
        self.macros = {}  # name -> header that leaves it defined

    def holds(self):
        return set().union(*self.conditions)

    def add(self, header, included_by=None):
        path = INCLUDE / header
        if header in self.where:
            missing = self.where[header] - self.holds()
            if missing:
                raise Problem(f"{included_by} needs {header}, which stands only under '#if {' && '.join(sorted(missing))}': "
                              f"in {UMBRELLA}, include {header} before that conditional")
            return
        if not path.is_file():
            raise Problem(f"{included_by} includes {header}, which does not exist")
        self.where[header] = self.holds()
        depth = len(self.conditions)
        banner = "// " + f"---- {header} ".ljust(122, "-")
        self.lines += ["", banner]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            self.line(header, number, line)
        if len(self.conditions) != depth:
            raise Problem(f"{header}: an #if without #endif")

    def line(self, header, number, line):
        match = DIRECTIVE.match(line)
        if not match:
            self.emit(line)
            return
        name, rest = match.groups()
        if name == "include" and "adainfer/" in rest:
            project = PROJECT_INCLUDE.match(rest)
            if not project:
                raise Problem(f'{header}:{number}: project headers are included as "adainfer/folder/file.hpp", not {rest}')
            self.add(project.group(1), header)
            return
        if name == "include" and rest.startswith('"'):
            raise Problem(f"{header}:{number}: {rest} is not a header of the project")
        if name == "pragma" and rest == "once":
            return
        if name in ("if", "ifdef", "ifndef"):
            self.conditions.append(set(rest.split(" && ")) if name == "if" else {f"{name} {rest}"})
        elif name in ("elif", "else"):
            self.conditions[-1] = {f"{name} of {' && '.join(sorted(self.conditions[-1]))} {rest}".rstrip()}
        elif name == "endif":
            self.conditions.pop()
        elif name == "define":
            self.macros[re.match(r"\w+", rest).group()] = header
        elif name == "undef":
            self.macros.pop(rest.split()[0], None)
        self.emit(line)

    def emit(self, line):
        if line or (self.lines and self.lines[-1]):  # at most one blank line
            self.lines.append(line)


def amalgamate():
    result = Amalgamation()
    result.add(UMBRELLA)
    for macro, header in sorted(result.macros.items()):
        if macro not in PUBLIC_MACROS:
            raise Problem(f"{header} leaves macro {macro} defined: #undef it, or list it in PUBLIC_MACROS of {COMMAND.split()[1]}")
    top = [
        f"// Generated from include/adainfer by '{COMMAND}'. Do not edit.",
        "// SPDX-License-Identifier: MIT",
        "//",
    ]
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8").strip().splitlines()
    top += [f"// {line}".rstrip() for line in licence]
    guard = "ADAINFER_SINGLE_HEADER_HPP"
    body = "\n".join(top + ["", f"#ifndef {guard}", f"#define {guard}"] + result.lines + ["", f"#endif  // {guard}"]) + "\n"
    if re.search(r'^\s*#\s*include\s*["<]adainfer/', body, re.MULTILINE):
        raise Problem("a project include is left in the result")
    return body


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    arguments = parser.parse_args()
    try:
        body = amalgamate()
    except Problem as problem:
        sys.exit(f"amalgamate.py: {problem}")
    if arguments.check:
        found = OUTPUT.read_text(encoding="utf-8") if OUTPUT.is_file() else ""
        if found == body:
            return
        diff = difflib.unified_diff(found.splitlines(), body.splitlines(), "found", "expected", lineterm="", n=1)
        for line, _ in zip(diff, range(40)):
            print(line)
        sys.exit(f"\n{OUTPUT.relative_to(ROOT)} is not what include/ gives. Run\n\n    {COMMAND}\n\nand commit the result.")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(body, encoding="utf-8")
    print(f"{OUTPUT.relative_to(ROOT)}: {body.count(chr(10))} lines, {len(body) // 1024} KiB")


if __name__ == "__main__":
    main()
