#!/usr/bin/env bash
# build.sh COMPILER ROOT EIGEN SCRATCH MODEL: both forms of the library without CMake. The library's headers are ordinary includes, so
# that their own warnings would show; Eigen's are silenced.
set -euo pipefail
compiler=$1 root=$2 eigen=$3 scratch=$4 model=$5
source="$root/tests/consumer/consumer.cpp"
warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wcast-align -Wcast-qual -Wnon-virtual-dtor
          -Woverloaded-virtual -Wdouble-promotion -Wformat=2 -Wextra-semi -Wundef -Werror)
mkdir -p "$scratch"

for form in single_include include; do
    "$compiler" -std=c++20 -O1 "${warnings[@]}" -I "$root/$form" -isystem "$eigen" -pthread "$source" -o "$scratch/$form-with_eigen"
    "$scratch/$form-with_eigen" "$model"

    "$compiler" -std=c++20 -O1 "${warnings[@]}" -DADAINFER_NO_EIGEN -I "$root/$form" -pthread "$source" -o "$scratch/$form-without_eigen"
    "$scratch/$form-without_eigen" "$model"
done

# The command of README.md, which has the library's own warnings off.
"$compiler" -std=c++20 -O2 -I "$root/single_include" -I "$eigen" "$source" -pthread -o "$scratch/readme"
"$scratch/readme" "$model"

# xtensor and nlohmann/json on top, everything at once.
"$compiler" -std=c++20 -O1 "${warnings[@]}" -DADAINFER_WITH_XTENSOR -DADAINFER_WITH_JSON -I "$root/single_include" -isystem "$eigen" \
    -c "$source" -o "$scratch/everything.o"
