#!/usr/bin/env bash
# run.sh PROGRAM SCRATCH SEED...: fuzzes for ADAINFER_FUZZ_SECONDS (30), starting from the seeds; what it finds stays in SCRATCH.
# Ten minutes of one target, built by the preset "sanitize":
#     ADAINFER_FUZZ_SECONDS=600 ctest --test-dir build-sanitize -V -R fuzz.gguf
# A seed is a file, or a folder of a model, of which one file is made as fuzz_hf_folder.cpp reads it.
set -euo pipefail
program=$1 scratch=$2
shift 2
rm -rf "$scratch/seeds"
mkdir -p "$scratch/corpus" "$scratch/seeds"

join_folder() {  # its texts, each followed by a byte 0x1E, and the header of its tensors without the length in front
    local part tensors=$1/model.safetensors
    for part in config.json tokenizer.json tokenizer_config.json special_tokens_map.json generation_config.json; do
        if [ -f "$1/$part" ]; then cat "$1/$part"; fi
        printf '\036'
    done
    if [ -f "$tensors" ]; then tail -c +9 "$tensors" | head -c "$(od -An -t u8 -N 8 "$tensors" | tr -d ' ')" || true; fi
}

number=0  # many are called config.json
for seed; do
    number=$((number + 1))
    if [ -d "$seed" ]; then
        join_folder "$seed" >"$scratch/seeds/$number-$(basename "$seed")"
    else
        cp -- "$seed" "$scratch/seeds/$number-$(basename "$seed")"
    fi
done
cd "$scratch"
exec "$program" -max_total_time="${ADAINFER_FUZZ_SECONDS:-30}" -timeout=25 -rss_limit_mb=4096 -print_final_stats=1 corpus seeds
