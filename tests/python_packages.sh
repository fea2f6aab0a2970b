#!/usr/bin/env bash
# Prints the path of a Python that has the packages which tests compare the library with. Usage: tests/python_packages.sh FOLDER
# FOLDER is a virtual environment: made where it is not there, left alone where it has them already. Messages go to stderr; where
# there is no Python with venv, or the package index is out of reach, the last one says so and the exit code is 1.
set -euo pipefail

packages=(safetensors==0.8.0 tokenizers==0.23.3 numpy)

say() { printf 'python_packages.sh: %s\n' "$*" >&2; }

[ $# -eq 1 ] || { say 'usage: tests/python_packages.sh FOLDER'; exit 2; }
python=$1/bin/python3

complete() {
    [ -x "$python" ] && "$python" - "${packages[@]}" <<'PYTHON' 2>/dev/null
import importlib.metadata, sys
for package in sys.argv[1:]:
    name, _, version = package.partition("==")
    __import__(name)
    assert version in ("", importlib.metadata.version(name))
PYTHON
}

if ! complete; then
    python3 -m venv --clear "$1" >&2 \
        || { say 'python3 cannot make a virtual environment (Debian: apt-get install python3-venv)'; exit 1; }
    # None of them needs the packages that it names for what is used here.
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --retries 2 --timeout 20 \
        "${packages[@]}" >&2 || { say "pip could not install ${packages[*]} (its message is above)"; exit 1; }
    complete || { say "${packages[*]} are installed but cannot be imported"; exit 1; }
fi
printf '%s\n' "$python"
