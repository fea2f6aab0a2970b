#!/usr/bin/env bash
# Makes the lens and the exit policies of examples/demo/smollm2 again, from nothing but the model and the demo tasks.
# Takes about 10 minutes on two cores; run examples/quickstart.sh first, it fetches the model and builds the program.
#
#     bash examples/retrain.sh [output folder] [task.json ...]      default: examples/demo/smollm2, the tasks of examples/demo
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
out=examples/demo/smollm2
tasks=(examples/demo/*.json)
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
if [ $# -gt 0 ]; then out=$(absolute "$1"); shift; fi
if [ $# -gt 0 ]; then tasks=(); for task in "$@"; do tasks+=("$(absolute "$task")"); done; fi

model=$(bash examples/get_model.sh smollm2)
adainfer=build/examples/adainfer
mkdir -p "$out"
layers=16,18,20,22,23,24,25,26,27,28,29
task_options=()
for task in "${tasks[@]}"; do task_options+=(--task "$task"); done

# The text is the model's own; the prompts are the tasks' train examples. 8-bit maps: 11 layers in 3.7 MB.
"$adainfer" lens "$model" --self 12000 --layers "$layers" "${task_options[@]}" --task-prompts 40 --refine 200 --precision i8 \
    -o "$out/lens.safetensors"

# As in the paper: the model's own norm and head after every layer, one shared threshold.
"$adainfer" train "$model" "${task_options[@]}" --prefixes 1 --agreement 0.99 \
    --classifier svm -o "$out/svm_paper.json" --classifier crf -o "$out/crf_paper.json"
# Through the lens, with the depth as a third feature, thresholds calibrated a task on accuracy and agreement: behind seven
# few-shot prefixes, because it is the number of calibration prompts that keeps the accuracy of unseen ones.
"$adainfer" train "$model" "${task_options[@]}" --lens "$out/lens.safetensors" --features depth \
    --head shortlist --per-task --prefixes 7 --agreement 0.97 --max-accuracy-loss 0.01 \
    --classifier svm -o "$out/svm_lens.json" --classifier crf -o "$out/crf_lens.json"
