"""What examples/table.py makes of its measurements: JSON with a line a row, and the Markdown of README.md. Python 3.9 or
newer."""
import json

SENTIMENT = ["sentiment", "sst2", "fv_sentiment"]


def mean(rows, field):
    return sum(row[field] for row in rows) / len(rows)


def by(rows, field):
    groups = {}
    for row in rows:
        groups.setdefault(row[field], []).append(row)
    return groups


def percent(value, digits=1):
    return f"{100 * value:.{digits}f}"


def signed(value):
    """A difference of shares, in points."""
    return f"{100 * value:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def table(head, lines):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines), ""]


def main_table(model):
    lines = []
    for policy, rows in by(model["rows"], "policy").items():
        seconds = mean(rows, "seconds_per_prompt")
        dense = sum(row["seconds_per_prompt"] * row["speedup_vs_dense"] for row in rows) / len(rows)
        accuracy = mean(rows, "accuracy")
        lines.append([policy, percent(accuracy), signed(accuracy - mean(rows, "accuracy_dense")),
                      percent(mean(rows, "agreement")),
                      f"{mean(rows, 'mean_layers'):.1f} ({mean(rows, 'sd_layers'):.1f})",
                      percent(mean(rows, "pruning_ratio")) + " %", f"{1000 * seconds:.1f}", f"{dense / seconds:.2f}"])
    return table(["policy", "accuracy", "against dense", "agreement", "layers (sd)", "saved", "ms", "speed-up"], lines)


def task_table(model):
    lines = []
    for task, rows in by(model["rows"], "task").items():
        row = {r["policy"]: r for r in rows}
        line = [task, percent(rows[0]["accuracy_dense"], 0)]
        for policy in ("SVM, linear lens", "CRF, linear lens"):
            r = row[policy]
            line += [percent(r["pruning_ratio"], 0) + " %", signed(r["accuracy"] - r["accuracy_dense"]),
                     f"{r['speedup_vs_dense']:.2f}"]
        lines.append([*line, percent(row["oracle, linear lens"]["pruning_ratio"], 0) + " %"])
    return table(["task", "dense", "SVM saves", "accuracy", "speed-up", "CRF saves", "accuracy", "speed-up", "oracle"], lines)


def generalisation_table(models):
    lines = []
    for model in models:
        for policy, rows in by(model["generalisation"], "policy").items():
            classifier, source = policy.split("|")
            for tested in ("sentiment", "other tasks"):
                some = [row for row in rows if (row["task"] in SENTIMENT) == (tested == "sentiment")]
                lines.append([classifier, f"{source}, sentiment", f"{model['name']}, {tested}",
                              percent(mean(some, "pruning_ratio")) + " %",
                              signed(mean(some, "accuracy") - mean(some, "accuracy_dense")), percent(mean(some, "agreement"))])
    return table(["classifier", "trained on", "tested on", "saved", "accuracy", "agreement"], lines)


def markdown(result):
    models = result["models"]
    lines = [
        f"{len(result['tasks'])} tasks, mean over them; `python3 examples/table.py`. Times are of a prompt behind its cached "
        "few-shot prefix; dense and all policies take turns prompt by prompt.", "",
        "![Accuracy of the exit policies against layers run; gap and top probability over depth](examples/measured/table.svg)",
        ""]
    for model in models:
        skipped = ", ".join(map(str, model["skipped"]))
        threads = f"{model['threads']} thread{'' if model['threads'] == 1 else 's'}"
        lines += [f"**{model['name']}**, {model['layers']} layers; {model['limit']} test prompts a task at most, "
                  f"{model['machine']['cpu']}, {threads}, commit {model['commit'][:10]}; ShortGPT leaves out {skipped}", "",
                  *main_table(model)]
    lines += ["SkipDecode's depth depends on the position in the answer alone; for one token it is a fixed layer.", ""]
    for model in models:
        lines += [f"<details><summary>{model['name']}, task by task: layers saved, accuracy against dense in points, wall clock"
                  "</summary>", "", *task_table(model), "</details>", ""]
    lines += ["Generalisation: the paper's two features through the linear lens, trained on the sentiment tasks, with one threshold "
              "calibrated to an agreement of 0.95 on their held-out prompts; answers are confirmed with the full head. From model to "
              "model go classifier, scaler and threshold, not the lens (`--policy foreign:FILE`).", "", *generalisation_table(models)]
    return "\n".join(lines).strip() + "\n"


def between_markers(text, content):
    begin, end = "<!-- table: begin -->", "<!-- table: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"table.py: README.md needs one line '{begin}' and after it one line '{end}'")
    return text[: text.index(begin) + len(begin)] + "\n" + content + text[text.index(end):]


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def dump(value):
    """JSON in which a list or object of plain values is one line."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(item, (dict, list)) for item in items):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {dump(item)}" for key, item in value.items()) + "\n}"
    return "[\n" + ",\n".join(map(dump, value)) + "\n]"
