#!/usr/bin/env python3
"""Measures every exit policy on every task and real model, and writes the big table of README.md.

    python3 examples/table.py [--data FOLDER] [--limit 100] [--model smollm2] [--model gemma3] [--write]

Writes WORK/table.json (all rows, machine, commit, commands), WORK/table.md and WORK/table.svg; with --write also
examples/measured/table.json, examples/measured/table.svg and what stands in README.md between `<!-- table: begin -->` and
`<!-- table: end -->`. Can be stopped at any time: what is done is kept in WORK and not done again while its command and the
files that the command reads there stay the same.

    --data FOLDER     public data sets: FOLDER/sst2/{train,dev}.tsv, FOLDER/ag_news/*.json, FOLDER/function_vectors/*/*.json
                      (or all of it in FOLDER/datasets); without it the nine demo tasks alone
    --all             all function_vectors tasks, not the chosen ones
    --model NAME      smollm2 or gemma3, any number of times; default: smollm2, and gemma3 where models/ holds it. Of models that
                      are left out the table keeps what examples/measured/table.json says
    --limit N         test prompts a task (100)
    --train-rows N    train rows of a public task, its shots included (250); half of the others fit the lens, half the policies
    --threads N       1: what is timed on one core can be trusted while the others work
    --program FILE    the command line (build/examples/adainfer; examples/quickstart.sh builds it)
    --work FOLDER     what is kept between runs (build/table)

Needs Python 3.9 and nothing else. Takes half an hour a model on one core, with --all more than an hour.
"""
import argparse
import datetime
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
from table_report import SENTIMENT, between_markers, dump, markdown, rounded  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    # layers: those that the lens reads; lens: the shipped one, or what to fit it with beside the train rows of all tasks but
    # LONG_PROMPTS; checked: layers of the policies that read through it, if not all of those; paper: how those that read through
    # none are trained
    "smollm2": {"name": "SmolLM2-135M-Instruct", "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
                "layers": [16, 18, 20, *range(22, 30)], "lens": ROOT / "examples/demo/smollm2/lens.safetensors",
                "checked": [], "paper": []},
    "gemma3": {"name": "Gemma 3 270M", "file": "gemma-3-270m-q4_k_m.gguf",
               "layers": [*range(8, 18)], "lens": ["--self", 6000, "--task-prompts", 40],
               "checked": ["--layers", "8,11,12,13,14,15,16,17"], "paper": ["--examples", 60]},
}
# How policies are trained that read through a lens. Five few-shot prefixes: one alone, or fewer prompts, calibrate thresholds
# that lose a point more on others.
POLICY = ["--head", "shortlist", "--features", "depth", "--per-task", "--prefixes", 5, "--agreement", 0, "--accuracy-price", 7]
LONG_PROMPTS = ["ag_news", "commonsense_qa"]
FUNCTION_VECTORS = ["capitalize", "lowercase_first_letter", "present-past", "country-capital", "landmark-country",
                    "person-occupation", "english-french", "synonym", "next_item", "choose_first_of_3", "choose_last_of_3",
                    "alphabetically_first_3", "animal_v_object_3", "adjective_v_verb_3", "object_v_concept_3"]

class Run:
    """Where things are, and how a command is run once."""

    def __init__(self, options):
        self.options, self.work = options, Path(options.work).resolve()
        self.program, self.commands = Path(options.program).resolve(), []
        self.work.mkdir(parents=True, exist_ok=True)

    def shown(self, command):
        """A command as others would type it: no path of this machine."""
        places = [(str(self.program), "adainfer"), (str(self.work), "WORK"), (str(ROOT) + os.sep, ""),
                  (sys.executable, "python3")]
        if self.options.data:
            places.append((str(Path(self.options.data).resolve()), "DATA"))
        words = []
        for word in map(str, command):
            for place, name in places:
                word = word.replace(place, name)
            words.append(word)
        return words

    def once(self, what, command, output):
        """Runs the command unless `output` came of the very same one and of the files in WORK as they are. Its standard output
        lands in `output` unless the command itself writes that file. Returns the path."""
        output = Path(output)
        record = output.with_name(output.name + ".command")
        text = json.dumps(self.shown(command))
        self.commands.append(self.shown(command))
        if output.exists() and record.exists() and record.read_text(encoding="utf-8") == text:
            read = [self.work / name for name in re.findall(r'WORK/([^",]+)', text)]
            if not any(path.exists() and path.stat().st_mtime > record.stat().st_mtime for path in read if path != output):
                return output
        output.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        start = time.monotonic()
        print(f"{what} ...", end=" ", flush=True)
        own = str(output) in map(str, command)
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        if done.returncode != 0:
            print("failed")
            sys.exit(f"table.py: {shlex.join(self.shown(command))}\n{done.stderr.strip()}")
        if not own:
            scratch = output.with_name(output.name + ".new")
            scratch.write_text(done.stdout, encoding="utf-8")
            scratch.replace(output)
        record.write_text(text, encoding="utf-8")
        print(f"{time.monotonic() - start:.0f} s", flush=True)
        return output

    def commands_about(self, model):
        """Those that name the model's file or none at all, and what trains the policies that models lend to each other."""
        files = [each["file"] for each in MODELS.values()]
        lines = [shlex.join(command) for command in self.commands]
        return [line for line in lines
                if model in line or line.endswith("_sentiment.json") or not any(file in line for file in files)]

    def json_once(self, what, command, output):
        return json.loads(self.once(what, command, output).read_text(encoding="utf-8"))


def find_tasks(run):
    """Task files by name: the demo tasks, and the public data sets converted."""
    tasks = {path.stem: path for path in sorted((ROOT / "examples/demo").glob("*.json"))}
    if not run.options.data:
        return tasks
    data = Path(run.options.data).resolve()
    data = data / "datasets" if (data / "datasets").is_dir() else data
    convert = [sys.executable, ROOT / "examples/convert_dataset.py"]
    rows = ["--train", run.options.train_rows, "--test", 300]

    def add(name, kind, source, *more):
        if not source.exists():
            sys.exit(f"table.py: {source} is missing; see --data in examples/table.py --help")
        output = run.work / "tasks" / f"{name}.json"
        tasks[name] = run.once(f"task {name}", [*convert, kind, source, "-o", output, "--name", name, *rows, *more], output)

    add("sst2", "sst2", data / "sst2")
    news = sorted((data / "ag_news").glob("*.json"))
    add("ag_news", "pairs", news[0] if news else data / "ag_news/*.json", "--shots", 8, "--labels",
        "World,Sports,Business,Science", "--template", "Article: {input}\\nTopic: {output}\\n\\n")
    vectors = {path.stem: path for path in sorted((data / "function_vectors").glob("*/*.json"))}
    common_sense = vectors.pop("commonsense_qa", data / "function_vectors/abstractive/commonsense_qa.json")
    add("commonsense_qa", "pairs", common_sense, "--shots", 5, "--labels", "a,b,c,d,e",
        "--template", "Question: {input}\\nAnswer: {output}\\n\\n")
    for name in (sorted(vectors) if run.options.all else FUNCTION_VECTORS):
        more = ["--labels", "negative,positive"] if name == "sentiment" else []
        add(f"fv_{name}", "pairs", vectors.get(name, data / f"function_vectors/abstractive/{name}.json"), *more)
    return tasks


class Subject:
    """One model: its file, lens and policies, and what they measure."""

    def __init__(self, run, key, tasks):
        self.run, self.key, self.tasks, self.name = run, key, tasks, MODELS[key]["name"]
        self.folder, self.policies = run.work / key, {}
        got = subprocess.run(["bash", ROOT / "examples/get_model.sh", key], stdout=subprocess.PIPE, text=True, check=True)
        self.model = Path(got.stdout.strip())
        self.layers = run.json_once(f"{self.name}: inspect", [run.program, "inspect", self.model, "--json"],
                                    self.folder / "inspect.json")["layers"]

    def task_options(self, names=None):
        return [word for name in (names or self.tasks) for word in ("--task", self.tasks[name])]

    def once(self, what, command, *more, output, name=None):
        command = [self.run.program, command, self.model, "--threads", self.run.options.threads, *more]
        if name != "stdout":
            command += ["-o", output]
        return self.run.once(f"{self.name}: {what}", command, output)

    def fit_lens(self):
        self.lens = MODELS[self.key]["lens"]
        if isinstance(self.lens, list):
            seen = [name for name in self.tasks if name not in LONG_PROMPTS]
            self.lens = self.once("lens", "lens", "--layers", ",".join(map(str, MODELS[self.key]["layers"])), *self.lens,
                                  *self.task_options(seen), "--precision", "i8", output=self.folder / "lens.safetensors")

    def train(self, classifiers, name, tasks, *more):
        """One run of the model for all of the classifiers."""
        files = {classifier: self.policy_file(classifier, name) for classifier in classifiers}
        outputs = [word for classifier, path in files.items() for word in ("--classifier", classifier, "-o", path)]
        first = next(iter(files.values()))
        if not all(path.exists() for path in files.values()):
            first.unlink(missing_ok=True)
        self.run.once(f"{self.name}: train {' and '.join(classifiers)}, {name}",
                      [self.run.program, "train", self.model, "--threads", self.run.options.threads, *self.task_options(tasks),
                       *more, *outputs], first)
        self.policies |= {f"{classifier}_{name}": path for classifier, path in files.items()}

    def train_on_sentiment(self):
        """For the generalisation table: the paper's two features and one threshold."""
        sentiment = [name for name in SENTIMENT if name in self.tasks]
        self.train(["svm", "crf"], "sentiment", sentiment, "--lens", self.lens, "--head", "shortlist", "--features", "paper",
                   "--prefixes", 2, "--agreement", 0.95)

    def train_all(self):
        self.train(["svm", "crf"], "paper", None, "--prefixes", 1, *MODELS[self.key]["paper"], "--agreement", 0.99)
        self.train(["svm", "crf"], "lens", None, "--lens", self.lens, *POLICY, *MODELS[self.key]["checked"])
        demo = [name for name, path in self.tasks.items() if path.parent == ROOT / "examples/demo"]
        influence = self.run.json_once(f"{self.name}: block influence", [
            self.run.program, "influence", self.model, "--threads", self.run.options.threads, *self.task_options(demo), "--json",
            "--skip", max(1, round(0.1 * self.layers))], self.folder / "influence.json")
        self.influence, self.skipped = influence["influence"], influence["skip"]

    def policy_file(self, classifier, name):
        return self.folder / f"{classifier}_{name}.json"

    def has_lens(self):
        lens = MODELS[self.key]["lens"]
        return not isinstance(lens, list) or (self.folder / "lens.safetensors").exists()

    def rows_of_table(self):
        """(name, specification) of every policy."""
        lens, p, last = f"lens={self.lens}", self.policies, self.layers - 1
        first, late = MODELS[self.key]["layers"][0], round(0.8 * self.layers)
        return [
            ("dense", "dense"),
            ("best fixed layer, logit lens", "fixed:best"),
            ("best fixed layer, linear lens", f"fixed:best,{lens}"),
            ("GapThreshold 0.9, logit lens", f"gap:0.9,layers={late}-{last}"),
            ("GapThreshold 0.9, linear lens", f"gap:0.9,{lens},head=shortlist,layers={late}-{last}"),
            ("SkipDecode, linear lens", f"skipdecode:{first}-{self.layers - 2},{lens}"),
            ("ShortGPT", "skip:" + "+".join(map(str, self.skipped))),
            ("SVM, logit lens (paper)", p.get("svm_paper")),
            ("CRF, logit lens (paper)", p.get("crf_paper")),
            ("SVM, linear lens", p["svm_lens"]),
            ("CRF, linear lens", p["crf_lens"]),
            ("oracle, logit lens", "oracle"),
            ("oracle, linear lens", f"oracle,{lens}"),
        ]

    def evaluate(self, kind, policies):
        """Rows of all tasks; one file a task, so that a run that was stopped goes on."""
        rows, started, measured = [], time.monotonic(), 0
        for number, (task, path) in enumerate(self.tasks.items(), 1):
            output = self.folder / f"{kind}_{self.run.options.limit}" / f"{task}.json"
            words = [word for name, spec in policies for word in ("--policy", spec, "--name", name)]
            fresh = not output.exists()
            minutes = (time.monotonic() - started) / max(measured, 1) * (len(self.tasks) - number + 1) / 60
            left = f", about {minutes:.0f} min left" if measured else ""
            found = self.once(f"{kind} {number}/{len(self.tasks)} {task}{left}", "evaluate", "--task", path, "--limit",
                              self.run.options.limit, *words, "--json", output=output, name="stdout")
            rows += json.loads(found.read_text(encoding="utf-8"))
            measured += 1 if fresh else 0
        return rows

    def trace(self):
        limit = min(50, self.run.options.limit)
        found = self.once("gap and top probability over depth", "trace", *self.task_options(), "--lens", self.lens, "--limit",
                          limit, "--json", output=self.folder / f"trace_{limit}.json", name="stdout")
        return json.loads(found.read_text(encoding="utf-8"))

    def generalisation(self, others):
        """Policies of the paper's two features, trained on the sentiment tasks of this model or of another. They know no first
        layer of the other tasks, so their shortlist is confirmed."""
        policies = []
        for classifier in ("svm", "crf"):
            for source in (self, *others):
                spec = f"foreign:{source.policy_file(classifier, 'sentiment')},lens={self.lens},head=shortlist+confirm"
                policies.append((f"{classifier.upper()}|{source.name}", spec))
        return self.evaluate("generalisation", policies)


def machine():
    def first(command):
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            return done.stdout.strip().splitlines()[0]
        except (OSError, IndexError):
            return ""

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
            "compiler": first(["g++", "--version"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--model", action="append", choices=sorted(MODELS))
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--train-rows", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--program", default=ROOT / "build/examples/adainfer")
    parser.add_argument("--work", default=ROOT / "build/table")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not Path(options.program).exists():
        sys.exit(f"table.py: there is no {options.program}; build it first: bash examples/quickstart.sh")
    available = [key for key in MODELS if key == "smollm2" or (ROOT / "models" / MODELS[key]["file"]).exists()]
    keys = options.model or available

    started = time.monotonic()
    run = Run(options)
    tasks = find_tasks(run)
    subjects = [Subject(run, key, tasks) for key in keys]
    others = [other for other in (Subject(run, key, tasks) for key in available if key not in keys) if other.has_lens()]
    for subject in subjects + others:
        subject.fit_lens()
        subject.train_on_sentiment()
    for subject in subjects:
        subject.train_all()
    result = {"tasks": list(tasks), "models": kept(keys, list(tasks))}
    for subject in subjects:
        measured = {
            "name": subject.name, "created": datetime.date.today().isoformat(), "commit": commit(), "machine": machine(),
            "threads": options.threads, "limit": options.limit, "train_rows": options.train_rows,
            "file": MODELS[subject.key]["file"], "layers": subject.layers, "skipped": subject.skipped,
            "influence": subject.influence, "rows": subject.evaluate("table", subject.rows_of_table()), "trace": subject.trace(),
            "generalisation": subject.generalisation([other for other in subjects + others if other.key != subject.key])}
        result["models"].append(measured | {"commands": run.commands_about(measured["file"])})
    order = [each["name"] for each in MODELS.values()]
    result["models"].sort(key=lambda model: order.index(model["name"]))

    written = run.work / "table.json"
    written.write_text(dump(rounded(result)) + "\n", encoding="utf-8")
    assert json.loads(written.read_text(encoding="utf-8")) == rounded(result)
    picture = run.work / "table.svg"
    subprocess.run([run.program, "plot", written, "-o", picture, "--title", "Accuracy and depth of early exit"], check=True,
                   stdout=subprocess.DEVNULL)
    text = markdown(json.loads(written.read_text(encoding="utf-8")))
    (run.work / "table.md").write_text(text, encoding="utf-8")
    if options.write:
        readme = ROOT / "README.md"
        readme.write_text(between_markers(readme.read_text(encoding="utf-8"), text), encoding="utf-8")
        (ROOT / "examples/measured").mkdir(exist_ok=True)
        for path in (written, picture):
            (ROOT / "examples/measured" / path.name).write_bytes(path.read_bytes())
    print(text)
    print(f"{time.monotonic() - started:.0f} s; wrote {run.work}/table.json, table.md, table.svg"
          + (" and README.md" if options.write else ""))


def kept(keys, tasks):
    """What was measured before of the models that are not measured now, with the same tasks."""
    measured = ROOT / "examples/measured/table.json"
    before = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else {"tasks": []}
    if before["tasks"] != tasks:
        return []
    return [model for model in before["models"] if model["name"] not in [MODELS[key]["name"] for key in keys]]


def commit():
    def git(*words):
        done = subprocess.run(["git", "-C", ROOT, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "include", "examples/cli")
        return (git("rev-parse", "HEAD") or "unknown") + ("-changed" if changed else "")
    except OSError:
        return "unknown"


if __name__ == "__main__":
    main()
