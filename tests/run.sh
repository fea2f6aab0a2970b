#!/usr/bin/env bash
# Installs what is missing (Debian), builds into build/, fetches the real model and the Python packages that the library is
# compared with, runs every test.
#
#     bash tests/run.sh [arguments of ctest, e.g. -L unit]
#
# ADAINFER_SMOLLM2=FILE   use this model file in place of fetching it; empty: leave its tests out
# ADAINFER_GEMMA3=FILE    likewise; unset: use it where it was fetched before (examples/get_model.sh gemma3); the word
#                         fetch: fetch it, 253 MB, which is to accept the Gemma Terms of Use, https://ai.google.dev/gemma/terms
# ADAINFER_SHARED=FOLDER  more test material; found by itself in ../shared/data: tokenizer vectors, a small real model, a corpus
#
# Tests that need one of these and do not have it skip themselves and say so. What a variable names has to be there:
# ADAINFER_LLAMA_CPP_MODELS=FOLDER  models/ of llama.cpp: vocabularies with vectors of token ids, 14 tokenizers
# ADAINFER_HF_TOKENIZERS=FOLDER     what make_hf_tokenizer_fixture.py wrote there: token ids of real tokenizers, as many as wanted
# ADAINFER_CHAT_TEMPLATES=FOLDER    *.jinja and the expected.json that make_chat_fixture.py made of them: real chat templates
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)

. examples/install_missing.sh
install_missing g++ cmake make ccache libeigen3-dev libxtensor-dev nlohmann-json3-dev libcli11-dev doctest-dev \
    libbenchmark-dev python3 python3-pip python3-venv

configure=(-S . -B build -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" -DADAINFER_WARNINGS_AS_ERRORS=ON
           -DADAINFER_BUILD_TESTS=ON -DADAINFER_BUILD_EXAMPLES=ON -DADAINFER_BUILD_BENCHMARKS=ON)
if command -v ccache >/dev/null; then configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
if python=$(bash tests/python_packages.sh build/python); then
    configure+=("-DADAINFER_TEST_PYTHON=$PWD/$python")
else
    configure+=(-UADAINFER_TEST_PYTHON)
    echo "The comparisons with the Python packages safetensors and tokenizers skip themselves." >&2
fi
cmake "${configure[@]}"
cmake --build build -j "$jobs"

if [ -z "${ADAINFER_SMOLLM2+set}" ]; then
    if model=$(bash examples/get_model.sh smollm2); then
        export ADAINFER_SMOLLM2=$model
    else
        echo "SmolLM2 could not be fetched (see above): the real-model tests skip themselves." >&2
    fi
fi
gemma=models/gemma-3-270m-q4_k_m.gguf
if [ "${ADAINFER_GEMMA3-}" = fetch ]; then
    ADAINFER_GEMMA3=$(bash examples/get_model.sh gemma3)
    export ADAINFER_GEMMA3
elif [ -z "${ADAINFER_GEMMA3+set}" ] && [ -f "$gemma" ]; then
    export ADAINFER_GEMMA3=$PWD/$gemma
fi
if [ -z "${ADAINFER_SHARED+set}" ] && [ -d ../shared/data ]; then
    ADAINFER_SHARED=$(cd ../shared/data && pwd)
    export ADAINFER_SHARED
fi

ctest --test-dir build --output-on-failure --no-tests=error -j "$jobs" "$@"
