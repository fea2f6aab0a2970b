#!/usr/bin/env bash
# build.sh COMPILER ROOT EIGEN SCRATCH MODEL: the single header without CMake. The library's header is an ordinary include,
# so that its own warnings would show; Eigen's are silenced.
set -euo pipefail
compiler=$1 root=$2 eigen=$3 scratch=$4 model=$5
source="$root/tests/consumer/consumer.cpp"
mkdir -p "$scratch"

"$compiler" -std=c++20 -O1 -Wall -Wextra -Wconversion -Werror -I "$root/single_include" -isystem "$eigen" -pthread \
    "$source" -o "$scratch/with_eigen"
"$scratch/with_eigen" "$model"

"$compiler" -std=c++20 -O1 -Wall -Wextra -Wconversion -Werror -DADAINFER_NO_EIGEN -I "$root/single_include" -pthread \
    "$source" -o "$scratch/without_eigen"
"$scratch/without_eigen" "$model"

# The command of the README, word for word.
"$compiler" -std=c++20 -I "$root/single_include" -I "$eigen" -fsyntax-only "$source"

# xtensor and nlohmann/json on top, everything at once.
"$compiler" -std=c++20 -Wall -Wextra -Wconversion -Werror -DADAINFER_WITH_XTENSOR -DADAINFER_WITH_JSON -I "$root/single_include" \
    -isystem "$eigen" -fsyntax-only "$source"
