#!/usr/bin/env bash
# run.sh PROGRAM SCRATCH SEED...: fuzzes for ADAINFER_FUZZ_SECONDS (30), starting from the seed files; what it finds stays in
# SCRATCH.
set -euo pipefail
program=$1 scratch=$2
shift 2
mkdir -p "$scratch/corpus" "$scratch/seeds"
[ $# -eq 0 ] || cp -- "$@" "$scratch/seeds/"
cd "$scratch"
exec "$program" -max_total_time="${ADAINFER_FUZZ_SECONDS:-30}" -timeout=25 -rss_limit_mb=4096 -print_final_stats=1 corpus seeds
