#!/usr/bin/env python3
"""Turns a public data set on disk into a task file for `adainfer evaluate` and `adainfer train`.

    convert_dataset.py sst2 FOLDER -o TASK.json         GLUE SST-2: FOLDER/train.tsv and dev.tsv (label, sentence)
    convert_dataset.py pairs FILE.json -o TASK.json     a JSON list of {"input", "output"}, split in halves
        [--template "Q: {input}\\nA: {output}\\n\\n"] [--labels A,B] [--shots 10]
    both: [--train 300] [--test 300] [--seed 0] [--name NAME]

The rows are shuffled with the seed; the test rows of SST-2 come from its dev split.
"""
import argparse
import json
import random
from pathlib import Path


def sst2(folder):
    def rows(split):
        lines = Path(folder, f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        cells = [line.split("\t") for line in lines if line]
        label = 0 if cells[1][0] in ("0", "1") else 1  # distributions differ in the order of columns and in the header
        cells = [c for c in cells if c[label] in ("0", "1")]
        return [(c[1 - label].strip(), ("negative", "positive")[int(c[label])]) for c in cells if len(c[1 - label]) > 30]

    return rows("train"), rows("dev")


def pairs(file, generator):
    rows = [(str(r["input"]), str(r["output"])) for r in json.loads(Path(file).read_text(encoding="utf-8"))]
    generator.shuffle(rows)
    return rows[: len(rows) // 2], rows[len(rows) // 2:]


def balanced_start(rows, labels):
    """The same rows; the labels take turns as long as each has a row left. The first rows are the shots of a prompt, and a
    small model repeats what it saw more often."""
    queues = {label: [row for row in rows if row[1] == label] for label in labels}
    turns = min(len(queue) for queue in queues.values())
    start = [queues[label][i] for i in range(turns) for label in labels]
    chosen = set(start)
    return start + [row for row in rows if row not in chosen]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["sst2", "pairs"])
    parser.add_argument("source")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--name")
    parser.add_argument("--template")
    parser.add_argument("--labels")
    parser.add_argument("--shots", type=int)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    generator = random.Random(args.seed)
    if args.kind == "sst2":
        train, test = sst2(args.source)
        template, labels, shots = "Review: {input}\nSentiment: {output}\n\n", ["negative", "positive"], 12
        generator.shuffle(train)
        generator.shuffle(test)
    else:
        train, test = pairs(args.source, generator)
        template, labels, shots = "Q: {input}\nA: {output}\n\n", None, 10
    template = args.template.replace("\\n", "\n") if args.template else template
    labels = args.labels.split(",") if args.labels else labels
    if labels:
        train = balanced_start(train, labels)
    task = {"name": args.name or Path(args.output).stem, "template": template, "shots": args.shots or shots}
    if labels:
        task["labels"] = labels
    for key, rows, limit in (("train", train, args.train), ("test", test, args.test)):
        task[key] = [{"input": i, "output": o} for i, o in rows[:limit]]
    Path(args.output).write_text(json.dumps(task, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
