#!/usr/bin/env bash
# The main job in one command: installs what is missing (Debian), fetches SmolLM2-135M-Instruct, builds for this machine's
# CPU, and shows a real model answer few-shot tasks with fewer layers than it has.
#
#     bash examples/quickstart.sh [test prompts a task, default 20]
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${1:-20}

. examples/install_missing.sh
install_missing g++ cmake make libeigen3-dev libxtensor-dev nlohmann-json3-dev libcli11-dev python3 python3-pip

say() { printf '\n== %s\n' "$*"; }

say "The model"
model=$(bash examples/get_model.sh smollm2)

say "Building (a few minutes the first time)"
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake -S . -B build -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" -DADAINFER_NATIVE=ON -DADAINFER_BUILD_TESTS=OFF \
    -DADAINFER_BUILD_BENCHMARKS=OFF "${launcher[@]}" >build-quickstart.log || { cat build-quickstart.log; exit 1; }
cmake --build build --target adainfer_cli -j "$(nproc)" >>build-quickstart.log || { tail -n 40 build-quickstart.log; exit 1; }
adainfer=build/examples/adainfer
demo=examples/demo lens=examples/demo/smollm2/lens.safetensors

say "What it is: adainfer inspect"
"$adainfer" inspect "$model"

say "Few-shot tasks with fewer layers: the mean over the nine tasks of $demo, $limit test prompts each (adainfer evaluate)"
tasks=()
for task in "$demo"/*.json; do tasks+=(--task "$task"); done
"$adainfer" evaluate "$model" "${tasks[@]}" --limit "$limit" --summary \
    --policy dense --name "dense" \
    --policy "fixed:best,lens=$lens" --name "best fixed layer, linear lens" \
    --policy "gap:0.9,lens=$lens,head=shortlist,layers=24-29" --name "GapThreshold 0.9, linear lens" \
    --policy "$demo/smollm2/svm_paper.json" --name "SVM, logit lens (paper)" \
    --policy "$demo/smollm2/crf_paper.json" --name "CRF, logit lens (paper)" \
    --policy "$demo/smollm2/svm_lens.json" --name "SVM, linear lens" \
    --policy "$demo/smollm2/crf_lens.json" --name "CRF, linear lens" \
    --policy "oracle,lens=$lens" --name "oracle, linear lens"
echo "accuracy, dense, agreement: per cent; saved: layers not run; ms: a prompt after the cached few-shot prefix; speed-up: wall clock;
cost: of all checks, per cent of the dense pass; pays: the deepest exit that costs less than the dense pass"

say "Three prompts layer by layer (adainfer trace): top token and gap through the linear lens, decision of GapThreshold 0.9"
for prompt in "Q: kettle, river, honest
A: kettle

Q: window, tiger, maple
A: window

Q: carrot, engine, violin
A:" "The capital of France is" "Two, four, six, eight,"; do
    "$adainfer" trace "$model" --prompt "$prompt" --lens "$lens" --policy "gap:0.9,lens=$lens"
done

say "A short chat (adainfer run --chat)"
"$adainfer" run "$model" --chat -n 60 --prompt "Give me one tip for learning a language."
