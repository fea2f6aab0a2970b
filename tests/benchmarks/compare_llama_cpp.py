#!/usr/bin/env python3
"""How fast adainfer and llama.cpp run the same files on this machine, in alternation.

    compare_llama_cpp.py MODEL.gguf... [--threads 1,2] [-p 64,256] [-n 32] [--after 256] [--rounds 5] [-r 3]
                         [--adainfer PATH] [--adainfer-arguments "--backend eigen"] [--llama-python PYTHON] [--json FILE]

Prints a Markdown table. Needs llama-cpp-python 0.3.36 in PYTHON, by default the one that runs this script. Build it for the
CPU (20 minutes on two cores), leaving out instruction sets that /proc/cpuinfo does not name:

    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=ON \\
        -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_BF16=ON -DLLAVA_BUILD=OFF" \\
        pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36

(AMX is left out: with it, that version has crashed on a Q4_1 file.) Each round runs the one engine, then the other, each in a
process of its own that loads the model, does everything once untimed and then -r times; its figure is the median. Which engine
comes first changes from round to round. A table entry is the median over the rounds; a ratio is taken within a round, and its
spread is smallest..largest. ppN: a prompt of N tokens in one batch, logits of the last one only. tgN: N tokens one by one
after --after others, logits of each. Both read the same tokens. llama.cpp has its defaults: memory mapping, repacked weights, f16
cache. Loading is what comes before the first prompt: reading the file, repacking. "Of peak" is the share that adainfer reaches of
this machine's memory bandwidth (tg) or of the products that it computes prompts with (pp: float, bfloat16 or 8 bits), both
measured by `adainfer bench --machine`; caches, and products of 16-bit integers, which count as float ones, can take it past 100 %.

Nothing else may run on the machine: beside a program that used one of two cores, llama.cpp on two threads decoded 0.5 tokens/s
where one thread did 38. What other programs use is measured before each round, and a warning printed where it is something.
"""
import argparse
import ctypes
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

TELLING_FLAGS = re.compile(r"avx|fma|f16c|amx|asimd|sve|i8mm|bf16")


def some_tokens(n, vocabulary):
    """The tokens that `adainfer bench` takes."""
    return [(i * 7919 + 104729) % vocabulary for i in range(n)]


class LlamaCpp:
    """One model in llama.cpp, by the low-level API: no sampling, no Python objects on the way."""

    def __init__(self, path, threads, positions):
        import llama_cpp
        self.api = llama_cpp
        self.silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot load {path}")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = positions
        parameters.n_batch = max(parameters.n_batch, positions)
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not self.context:
            sys.exit(f"llama.cpp has no context of {positions} positions for {path}")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(positions, 0, 1)

    def run(self, tokens, position):
        """Appends the tokens at the position, in one batch, with logits of the last."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i + 1 == len(tokens)
        begin = time.perf_counter()
        if self.api.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        self.api.llama_synchronize(self.context)
        return time.perf_counter() - begin

    def forget_from(self, position):
        self.api.llama_memory_seq_rm(self.memory, 0, position, -1)

    def prompt_seconds(self, n):
        self.forget_from(0)
        return self.run(some_tokens(n, self.vocabulary), 0)

    def decode_seconds(self, n, after):
        self.forget_from(after)
        return sum(self.run([token], after + i) for i, token in enumerate(some_tokens(n, self.vocabulary)))


def speed(tokens, repetitions, seconds):
    """Tokens a second, median of the repetitions after one that does not count."""
    seconds()
    return statistics.median(tokens / seconds() for _ in range(repetitions))


def measure_here(path, threads, prompts, generated, after, repetitions):
    """What a process of llama.cpp measures: test -> tokens a second, and the library's name for itself."""
    begin = time.perf_counter()
    engine = LlamaCpp(path, threads, max([*prompts, after + generated]))
    load_seconds = time.perf_counter() - begin
    speeds = {f"pp{n}": speed(n, repetitions, lambda n=n: engine.prompt_seconds(n)) for n in prompts}
    if generated:
        engine.forget_from(0)
        if after:
            engine.run(some_tokens(after, engine.vocabulary), 0)
        speeds[f"tg{generated}"] = speed(generated, repetitions, lambda: engine.decode_seconds(generated, after))
    print(json.dumps({"speeds": speeds, "load_seconds": load_seconds, "version": engine.api.__version__,
                      "system_info": engine.api.llama_print_system_info().decode().strip(" |")}))


def output_of(command):
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{shlex.join(command)} returned {run.returncode}:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout[run.stdout.index("[" if command[1] == "bench" else "{"):])


def run_llama_cpp(options, path, threads):
    work = [path, threads, options.prompts, options.generated, options.after, options.repetitions]
    return output_of([options.llama_python, __file__, "--worker", json.dumps(work)])


def run_adainfer(options, path, threads, repetitions, *more):
    """The rows of `adainfer bench`."""
    command = [options.adainfer, "bench", path, "--json", "--threads", str(threads), "-n", str(options.generated), "--after",
               str(options.after), "-r", str(repetitions), *shlex.split(options.adainfer_arguments), *more]
    return output_of(command + ["-p", ",".join(map(str, options.prompts))])


def busy_cores(seconds=0.5):
    """How many cores other programs keep busy, watched for so long."""
    def times():
        fields = [int(n) for n in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields)  # idle or waiting for a disk, all
    before = times()
    time.sleep(seconds)
    idle, everything = (b - a for a, b in zip(before, times()))
    return os.cpu_count() * (1 - idle / everything) if everything else 0.0


def compare(options, path, threads):
    """The rows of one file at one number of threads, and what llama.cpp says of itself."""
    # Brings the file into memory, and gives the share of the machine's peak that one token a second is.
    first = run_adainfer(options, path, threads, 1, "--machine")
    of_peak = {row["test"]: row["share_of_peak"] / row["tokens_per_second"] for row in first if "test" in row}
    machine = next(row for row in first if "test" not in row)
    rounds, loads, peer, busy = [], [], None, 0.0
    for index in range(options.rounds):
        busy = max(busy, busy_cores())
        ours = theirs = None
        for engine in ("adainfer", "llama.cpp")[::1 if index % 2 == 0 else -1]:
            if engine == "adainfer":
                found = run_adainfer(options, path, threads, options.repetitions)
                ours, our_load = {row["test"]: row["tokens_per_second"] for row in found}, found[0]["load_seconds"]
            else:
                peer = run_llama_cpp(options, path, threads)
                theirs = peer["speeds"]
        rounds.append((ours, theirs))
        loads.append((our_load, peer["load_seconds"]))
    rows = []
    for test, each in of_peak.items():
        ours, theirs = [a[test] for a, _ in rounds], [b[test] for _, b in rounds]
        ratios = [a / b for a, b in zip(ours, theirs)]
        rows.append({"model": Path(path).name, "threads": threads, "test": test, "adainfer": ours, "llama_cpp": theirs,
                     "adainfer_median": statistics.median(ours), "llama_cpp_median": statistics.median(theirs),
                     "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
                     "adainfer_of_peak": each * statistics.median(ours), "busy_cores": busy,
                     "adainfer_load_seconds": statistics.median(load for load, _ in loads),
                     "llama_cpp_load_seconds": statistics.median(load for _, load in loads)})
    return rows, machine, {key: peer[key] for key in ("version", "system_info")}


def describe_machine():
    """What /proc tells of the CPU."""
    try:
        cpu = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE))
    except OSError:
        cpu = {}
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    name = f"{cpu.get('model name', os.uname().machine)} (family {cpu.get('cpu family', '?')}, model {cpu.get('model', '?')})"
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)),
            "flags": sorted(flag for flag in flags if TELLING_FLAGS.search(flag)),
            "load_average_before": os.getloadavg()[0]}


def print_row(row):
    print(f"| {row['model']} | {row['threads']} | {row['test']} | {row['adainfer_median']:.1f} | {row['llama_cpp_median']:.1f} | "
          f"{row['ratio']:.2f} ({row['ratio_min']:.2f}..{row['ratio_max']:.2f}) | "
          f"{100 * row['adainfer_of_peak']:.0f} % |", flush=True)


def print_notes(report):
    machine, peer = report["machine"], report["llama_cpp"]
    print(f"\n{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; load before: "
          f"{machine['load_average_before']:.2f}")
    for measured in report["measured_machine"]:
        print(f"{measured['threads']} thread(s), {measured['cpu_level']}: reads "
              f"{measured['read_bytes_per_second'] / 1e9:.1f} GB/s, "
              f"float products {2e-9 * measured['float_multiply_adds_per_second']:.0f} GFLOP/s, bfloat16 products "
              f"{2e-9 * measured['bfloat16_multiply_adds_per_second']:.0f} GFLOP/s")
    for path, threads, ours, theirs in dict.fromkeys((row["model"], row["threads"], row["adainfer_load_seconds"],
                                                      row["llama_cpp_load_seconds"]) for row in report["results"]):
        print(f"{path}, {threads} thread(s): loaded in {ours:.2f} s, by llama.cpp in {theirs:.2f} s")
    busy = max(row["busy_cores"] for row in report["results"])
    if busy > 0.1:
        print(f"WARNING: other programs kept up to {busy:.1f} cores busy; these ratios say nothing.")
    print(f"adainfer arguments: {report['settings']['adainfer_arguments'] or 'none'}; "
          f"llama-cpp-python {peer['version']}: {peer['system_info']}")


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def main():
    if sys.argv[1:2] == ["--worker"]:
        return measure_here(*json.loads(sys.argv[2]))
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="+", metavar="MODEL.gguf")
    arguments.add_argument("--threads", type=numbers, default=[1, 2], metavar="N,...")
    arguments.add_argument("-p", dest="prompts", type=numbers, default=[64, 256], metavar="N,...", help="prompt lengths")
    arguments.add_argument("-n", dest="generated", type=int, default=32, metavar="N", help="tokens to decode; 0: none")
    arguments.add_argument("--after", type=int, default=256, metavar="N", help="positions before the decoded tokens")
    arguments.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each engine, in alternation")
    arguments.add_argument("-r", dest="repetitions", type=int, default=3, metavar="N", help="timed repetitions within a run")
    arguments.add_argument("--adainfer", default="build/examples/adainfer", metavar="PATH")
    arguments.add_argument("--adainfer-arguments", default="", metavar="TEXT", help="further arguments of `adainfer bench`")
    arguments.add_argument("--llama-python", default=sys.executable, metavar="PYTHON", help="a Python that has llama_cpp")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="every figure of every round")
    options = arguments.parse_args()
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    report = {"machine": describe_machine(), "settings": settings, "llama_cpp": {}, "measured_machine": [], "results": []}
    print("| model | threads | test | adainfer, tokens/s | llama.cpp, tokens/s | ratio | adainfer of peak |\n" + "|---" * 7 + "|")
    for path in options.models:
        for threads in options.threads:
            rows, machine, report["llama_cpp"] = compare(options, path, threads)
            if all(machine["threads"] != known["threads"] for known in report["measured_machine"]):
                report["measured_machine"].append(machine)
            report["results"] += rows
            for row in rows:
                print_row(row)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_notes(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
