#!/usr/bin/env python3
"""Rules for include/adainfer that no compiler checks. Prints every breach; exit code 1 if there is any."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "single_include"))
sys.dont_write_bytecode = True
from amalgamate import DIRECTIVE, INCLUDE, PROJECT_INCLUDE, PUBLIC_MACROS, UMBRELLA  # noqa: E402

# A header includes its own folder and those before it.
FOLDERS = ["core", "tensor", "kernels", "backend", "model", "early_exit", "tokenize", "generate", "train", "io", "eval"]

# Where third-party headers may stand, and the condition under which the umbrella brings what needs them.
THIRD_PARTY = {
    "Eigen": re.compile(r"backend/eigen\.hpp|train/.*"),
    "xtensor": re.compile(r"backend/xtensor\.hpp"),
    "nlohmann": re.compile(r"(io|eval)/.*"),
}
CONDITIONS = {
    "!defined(ADAINFER_NO_EIGEN)": "Eigen",
    "defined(ADAINFER_WITH_XTENSOR)": "xtensor",
    "defined(ADAINFER_WITH_JSON)": "nlohmann",
}
SYSTEM_DOT_H = {"fcntl.h", "unistd.h", "cpuid.h", "sys/auxv.h", "sys/syscall.h", "sys/mman.h", "sys/stat.h", "sys/types.h", "windows.h", "immintrin.h", "arm_neon.h"}

problems = []


def problem(header, number, text):
    problems.append(f"include/{header}:{number}: {text}")


class Header:
    def __init__(self, name):
        self.name = name
        self.text = (INCLUDE / name).read_text(encoding="utf-8")
        self.project = []  # (line, header, condition)
        self.third_party = set()
        self.scan()

    def scan(self):
        conditions, macros = [], {}
        lines = self.text.splitlines()
        if not lines or lines[0] != "#pragma once":
            problem(self.name, 1, "the first line must be '#pragma once'")
        for number, line in enumerate(lines, 1):
            match = DIRECTIVE.match(line)
            if not match:
                continue
            directive, rest = match.groups()
            if directive in ("if", "ifdef", "ifndef"):
                conditions.append(rest)
            elif directive == "endif":
                conditions.pop()
            elif directive == "define":
                macro = re.match(r"\w+", rest).group()
                macros.setdefault(macro, number)
                if not macro.startswith("ADAINFER_"):
                    problem(self.name, number, f"macro {macro} must be called ADAINFER_...")
            elif directive == "undef":
                macros.pop(rest, None)
            elif directive == "include":
                self.include(number, rest, tuple(conditions))
        for macro, number in macros.items():
            if macro not in PUBLIC_MACROS:
                problem(self.name, number, f"macro {macro} is left defined at the end of the header")

    def include(self, number, rest, conditions):
        project = PROJECT_INCLUDE.match(rest)
        if project:
            if conditions and self.name != UMBRELLA:
                problem(self.name, number, "project headers are not included inside a conditional")
            self.project.append((number, project.group(1), conditions))
            return
        if rest.startswith('"') or rest.startswith("<adainfer/"):
            problem(self.name, number, f'{rest}: project headers are included as "adainfer/folder/file.hpp"')
            return
        name = rest.split(">")[0].lstrip("<")
        library = name.split("/")[0]
        if library in THIRD_PARTY:
            if THIRD_PARTY[library].fullmatch(self.name.removeprefix("adainfer/")):
                self.third_party.add(library)
            else:
                problem(self.name, number, f"{rest} may not stand in this folder")
        elif ("/" in name or "." in name) and name not in SYSTEM_DOT_H:
            problem(self.name, number, f"{rest} is neither of the standard library nor one of the system headers allowed")


def folder_of(header):
    return header.split("/")[1] if header.count("/") == 2 else ""


def needs(header, headers, active=()):
    """Third-party libraries a header needs, itself or through others."""
    if header in active:
        problem(header, 1, "includes itself through " + " -> ".join(active))
        return set()
    found = set(headers[header].third_party)
    for _, included, _ in headers[header].project:
        if included in headers:
            found |= needs(included, headers, (*active, header))
    return found


def check_layers(headers):
    for header in headers.values():
        if header.name == UMBRELLA:
            continue
        folder = folder_of(header.name)
        if folder not in FOLDERS:
            problem(header.name, 1, f"not in one of the folders {' '.join(FOLDERS)}")
            continue
        if "\nnamespace adainfer::inline v0" not in header.text:
            problem(header.name, 1, "does not open 'namespace adainfer::inline v0'")
        for number, included, _ in header.project:
            if included not in headers:
                problem(header.name, number, f"{included} does not exist")
            elif included == UMBRELLA:
                problem(header.name, number, "a header may not include the umbrella")
            elif folder_of(included) in FOLDERS and FOLDERS.index(folder_of(included)) > FOLDERS.index(folder):
                problem(header.name, number, f"{folder}/ may not include {folder_of(included)}/: it comes later in {' '.join(FOLDERS)}")


def check_umbrella(headers, needed):
    listed = {}
    for number, included, conditions in headers[UMBRELLA].project:
        if included in listed:
            problem(UMBRELLA, number, f"{included} is listed twice")
        parts = [part for condition in conditions for part in condition.split(" && ")]
        listed[included] = {CONDITIONS.get(part, part) for part in parts}
    for name in sorted(set(headers) - {UMBRELLA}):
        if name not in listed:
            where = " and ".join(sorted(needed[name])) or "plain"
            problem(UMBRELLA, 1, f'add #include "{name}" to the {where} part')
        elif listed[name] != needed[name]:
            problem(UMBRELLA, 1, f"{name} needs {sorted(needed[name]) or 'nothing'} but is included where {sorted(listed[name]) or 'nothing'} is on")


def main():
    names = sorted(path.relative_to(INCLUDE).as_posix() for path in INCLUDE.rglob("*") if path.is_file())
    for name in names:
        if not name.endswith(".hpp"):
            problem(name, 1, "headers end in .hpp")
    headers = {name: Header(name) for name in names if name.endswith(".hpp")}
    check_layers(headers)
    needed = {name: needs(name, headers) for name in headers}
    check_umbrella(headers, needed)
    print("\n".join(problems) if problems else f"{len(headers)} headers: ok")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
