#!/usr/bin/env python3
"""Tests of the command line.

test_cli.py usage ADAINFER FIXTURES    what needs no real model
test_cli.py model ADAINFER FIXTURES    what does: the file that ADAINFER_SMOLLM2 names; code 77 (skipped) where there is none
"""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = FIXTURES = MODEL = None

POLICY_FORMS = ["dense", "fixed:N", "gap:T", "top:T", "entropy:T", "patience:K", "saturation:T", "oracle"]
EVALUATION_FIELDS = ["task", "policy", "accuracy", "accuracy_dense", "agreement", "mean_layers", "sd_layers", "layers",
                     "pruning_ratio", "seconds_per_prompt", "speedup_vs_dense", "checks_per_prompt", "check_cost", "break_even_layer"]


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def run(*arguments, stdin=None):
    done = subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=300)
    return Result(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


class CliTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def succeed(self, *arguments, stdin=None):
        result = run(*arguments, stdin=stdin)
        self.assertEqual(result.code, 0, result.err)
        self.assertNotIn("\r", result.err)  # no progress in a pipe
        self.assertNotIn("\x1b", result.out + result.err)
        return result

    def succeed_json(self, *arguments, stdin=None):
        result = self.succeed(*arguments, "--json", stdin=stdin)
        self.assertTrue(result.out.endswith("\n"))
        return json.loads(result.out)

    def refuse(self, code, *arguments, says=(), stdin=None):
        """The message is one line that begins 'adainfer: ', perhaps with one more, indented, that says what to do."""
        result = run(*arguments, stdin=stdin)
        self.assertEqual(result.code, code, result.err)
        self.assertEqual(result.out, "")
        lines = result.err.splitlines()
        self.assertTrue(lines and lines[0].startswith("adainfer: "), result.err)
        self.assertLessEqual(len(lines), 2, result.err)
        for line in lines[1:]:
            self.assertTrue(line.startswith("  "), result.err)
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, result.err)
        return result


class Usage(CliTest):
    def test_help_lists_every_command(self):
        out = self.succeed("--help").out
        for command in ["inspect", "tokenize", "run", "chat", "perplexity", "classify", "lens", "train", "evaluate", "influence", "trace"]:
            self.assertIn(f"  {command} ", out)
            self.assertIn("--backend", self.succeed(command, "--help").out)
            self.assertIn("--threads", self.succeed(command, "--help").out)

    def test_version(self):
        self.assertRegex(self.succeed("--version").out, r"^\d+\.\d+\.\d+\n$")

    def test_commands_and_options_that_are_wrong(self):
        model = FIXTURES / "llama_gqa.gguf"
        self.refuse(2)
        self.refuse(2, "frobnicate", says=["no command 'frobnicate'", "adainfer --help"])
        self.refuse(2, "inspect", says=["MODEL", "adainfer inspect --help"])
        self.refuse(2, "inspect", model, "--nonsense", says="nonsense")
        self.refuse(2, "inspect", model, model)
        self.refuse(2, "run", model, says="--prompt")
        self.refuse(2, "run", model, "--prompt")
        self.refuse(2, "tokenize", model, says=["--text", "--file"])
        self.refuse(2, "tokenize", model, "--text", "a", "--file", "b")
        self.refuse(2, "perplexity", model, says="--file")
        self.refuse(2, "classify", model, "--labels", "a,b", "text", says="--template")
        self.refuse(2, "classify", model, "--labels", "a,b", "--template", "{input}", says="TEXT")
        self.refuse(2, "trace", model, says="--prompt")
        self.refuse(2, "train", model, says="--task")
        self.refuse(2, "evaluate", model, says="--task")
        self.refuse(2, "influence", model, says=["--file", "--task"])
        self.refuse(2, "trace", model, "--prompt", "x", "--limit", "3", says="--task")
        self.refuse(2, "plot", says="RESULTS")
        self.refuse(2, "plot", "results.json", says="--output")
        self.refuse(2, "lens", model, says="--output")

    def test_values_that_are_wrong(self):
        prompt = ["run", FIXTURES / "llama_gqa.gguf", "--prompt", "x"]
        for option, value in [("-n", "0"), ("-n", "-3"), ("-n", "many"), ("--threads", "0"), ("--threads", "-1"), ("--backend", "cuda"),
                              ("--kv", "f8"), ("--products", "float"), ("--temperature", "-1"), ("--temperature", "nan"), ("--top-p", "0"),
                              ("--top-p", "1.5"), ("--min-p", "2"),
                              ("--top-k", "-1"), ("--seed", "x")]:
            with self.subTest(option=option, value=value):
                self.refuse(2, *prompt, option, value, says=option.lstrip("-") if option != "-n" else "tokens")
        self.refuse(2, *prompt, "--system", "s", says="--chat")
        for option, value in [("-n", "0"), ("--context", "0"), ("--temperature", "nan"), ("--top-p", "0")]:
            self.refuse(2, "chat", FIXTURES / "llama_gqa.gguf", option, value)
        self.refuse(2, "perplexity", FIXTURES / "llama_gqa.gguf", "--file", "f", "--chunk", "1", says="chunk")

    def test_templates_and_labels_that_are_wrong(self):
        classify = ["classify", FIXTURES / "llama_gqa.gguf"]
        self.refuse(2, *classify, "--template", "nothing", "--labels", "a,b", "text", says="{input}")
        self.refuse(2, *classify, "--template", "{input} {input}", "--labels", "a,b", "text", says="more than once")
        self.refuse(2, *classify, "--template", "{output} {input}", "--labels", "a,b", "text", says="before")
        self.refuse(2, *classify, "--template", "{input}", "--labels", "a", "text", says="two or more")
        self.refuse(2, *classify, "--template", "{input}", "--labels", "a,a", "text", says="repeats")
        self.refuse(2, *classify, "--template", "{input}", "--labels", "a,,b", "text", says="empty")

    def test_model_file_that_is_missing(self):
        for arguments in [["inspect"], ["tokenize", "--text", "x"], ["run", "--prompt", "x"], ["trace", "--prompt", "x"],
                          ["classify", "--template", "{input}", "--labels", "a,b", "text"]]:
            with self.subTest(command=arguments[0]):
                path = self.folder / "missing.gguf"
                self.refuse(1, arguments[0], path, *arguments[1:], says=[str(path), "No such file", "examples/get_model.sh smollm2"])
        empty = self.folder / "empty folder"
        empty.mkdir()
        self.refuse(1, "inspect", empty, says=["neither model.safetensors nor", "a folder needs config.json"])

    def test_model_file_that_is_broken(self):
        whole = (FIXTURES / "llama_gqa.gguf").read_bytes()
        for name, content in {"empty": b"", "text": b"This is not a model.\n" * 100, "cut": whole[:-1000], "head": whole[:200],
                              "magic": b"GGUG" + whole[4:]}.items():
            with self.subTest(name=name):
                path = self.write(f"{name}.gguf", content)
                result = self.refuse(1, "inspect", path, says=str(path))
                self.assertIn("get_model.sh", result.err)
                self.refuse(1, "run", path, "--prompt", "x", says=str(path))

    def test_model_file_without_tokenizer(self):
        model = FIXTURES / "llama_gqa.gguf"
        facts = self.succeed_json("inspect", model)
        self.assertEqual((facts["architecture"], facts["layers"], facts["hidden"], facts["tokenizer"]), ("llama", 3, 60, None))
        self.assertIn("none in the file", self.succeed("inspect", model).out)
        self.refuse(1, "tokenize", model, "--text", "x", says="no tokenizer")
        self.refuse(1, "run", model, "--prompt", "x", says="no tokenizer")
        self.refuse(1, "chat", model, says="no tokenizer", stdin=b"hello")

    def test_inspect_adds_up(self):
        for path in sorted(FIXTURES.glob("llama_*.gguf")):
            with self.subTest(path=path.name):
                facts = self.succeed_json("inspect", path, "--tensors")
                tensors = facts["tensors"]["list"]
                self.assertEqual(len(tensors), facts["tensors"]["count"])
                self.assertEqual(sum(tensor["bytes"] for tensor in tensors), facts["tensors"]["bytes"])
                self.assertEqual(sum(kind["count"] for kind in facts["tensors"]["by_type"].values()), facts["tensors"]["count"])
                self.assertEqual(sum(kind["bytes"] for kind in facts["tensors"]["by_type"].values()), facts["tensors"]["bytes"])
                self.assertEqual(facts["memory"]["file_bytes"], path.stat().st_size)
                elements = 2 * facts["layers"] * facts["kv_heads"] * facts["head_dim"]
                self.assertEqual(facts["memory"]["kv_bytes_per_token"], 4 * elements)
                of_type = {"f32": 4 * elements, "f16": 2 * elements}
                if facts["head_dim"] % 32 == 0:
                    of_type["q8_0"] = elements // 32 * 34
                self.assertEqual(facts["memory"]["kv_bytes_per_token_of"], of_type)
                embedding = next(tensor for tensor in tensors if tensor["name"] == "token_embd.weight")
                self.assertEqual(embedding["shape"], [facts["vocabulary"], facts["hidden"]])
                ratio, layers = facts["head_layer_ratio"], facts["layers"]
                self.assertAlmostEqual(ratio, facts["head_bytes"] / facts["layer_bytes"])
                self.assertAlmostEqual(facts["break_even_layer"], (layers + ratio) / (1 + ratio))
                self.assertNotIn("list", self.succeed_json("inspect", path)["tensors"])
                out = self.succeed("inspect", path, "--tensors").out
                self.assertIn("(L + r) / (1 + r)", out)
                for tensor in tensors:
                    self.assertIn(tensor["name"], out)

    def rows(self, tasks, policies):
        """What `evaluate --json` prints; policies: name, accuracy, mean layers."""
        return [{"task": task, "policy": name, "accuracy": accuracy, "accuracy_dense": 0.75, "mean_layers": layers, "layers": 30}
                for task in tasks for name, accuracy, layers in policies]

    def traces(self, tasks):
        rows = [{"layer": layer, "gap": layer / 40, "top_prob": layer / 30} for layer in range(1, 31)]
        return {"lens": "linear", "layers": 30, "tasks": [{"task": task, "prompts": 5, "rows": rows} for task in tasks]}

    def plot(self, results, *more):
        path = self.folder / "picture.svg"
        self.succeed("plot", self.write("results.json", json.dumps(results)), "-o", path, *more)
        root = xml.etree.ElementTree.parse(path).getroot()  # throws unless it is well-formed
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        return root, texts

    def test_plot(self):
        policies = [("dense", 0.75, 30), ("best fixed layer", 0.74, 29), ("CRF <lens> & \"quotes\"", 0.76, 22.5)]
        root, texts = self.plot(self.rows(["one", "two"], policies))
        for text in ["dense", "best fixed layer", 'CRF <lens> & "quotes"', "Accuracy, mean of 2 tasks", "mean layers run, of 30", "accuracy, %"]:
            self.assertIn(text, texts)
        titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
        self.assertIn('CRF <lens> & "quotes": 22.5, 76', titles)
        self.assertTrue(root.get("role") == "img" and root.get("aria-labelledby"))

        tasks = [f"task <{i}> " + "long " * i for i in range(20)]
        trace = self.write("trace.json", json.dumps(self.traces(tasks)))
        wide, texts = self.plot(self.rows(tasks, policies), "--trace", trace, "--title", "Twenty & more")
        self.assertIn("Twenty & more", texts)
        self.assertEqual(sum(1 for _ in wide.iter("{http://www.w3.org/2000/svg}polyline")), 2 * 20 + 20 + 2)  # two panels, legend; dense
        self.assertGreater(float(wide.get("height")), float(root.get("height")))
        for element in wide.iter("{http://www.w3.org/2000/svg}text"):
            self.assertTrue(0 <= float(element.get("x")) <= float(wide.get("width")), element.text)
            self.assertTrue(0 <= float(element.get("y")) <= float(wide.get("height")), element.text)

        one_prompt = {"lens": "logit", "layers": 30, "rows": self.traces(["x"])["tasks"][0]["rows"]}
        _, texts = self.plot(self.rows(["one"], policies), "--trace", self.write("trace.json", json.dumps(one_prompt)))
        self.assertIn("the prompt", texts)
        models = {"models": [{"name": name, "rows": self.rows(["one"], policies), "trace": self.traces(["one"])} for name in ("first", "second")]}
        _, texts = self.plot(models)
        self.assertEqual((texts.count("first"), texts.count("second"), texts.count("dense")), (1, 1, 1))

    def test_plot_of_what_cannot_be_drawn(self):
        picture = self.folder / "picture.svg"
        good = self.rows(["one", "two"], [("dense", 0.75, 30), ("other", 0.5, 20)])
        for name, content, says in [
                ("empty", [], "a row or more"), ("text", "no JSON", "not valid JSON"), ("number", 7, "must be an object"),
                ("not a number", [dict(good[0], accuracy=math.nan)], "not valid JSON"), ("null", [dict(good[0], mean_layers=None)], "mean_layers"),
                ("without a field", [{"task": "one", "policy": "p"}], "accuracy"), ("a task less", good[:-1], "same tasks"),
                ("a task twice", good + good[:1], "another task"), ("too large", [dict(good[1], mean_layers=1e300)], "too large"),
                ("no models", {"models": []}, "nothing to draw")]:
            with self.subTest(name=name):
                results = self.write("results.json", content if isinstance(content, str) else json.dumps(content))
                self.refuse(1, "plot", results, "-o", picture, says=says)
                self.assertFalse(picture.exists())
        results = self.write("results.json", json.dumps(good))
        self.refuse(1, "plot", results, "-o", picture, "--trace", self.write("trace.json", '{"lens": "logit", "layers": 3}'), says="rows")
        self.refuse(1, "plot", self.folder / "missing.json", "-o", picture, says="No such file")
        self.refuse(2, "plot", self.write("m.json", '{"models": []}'), "-o", picture, "--trace", results, says="--trace")


class Model(CliTest):
    def test_inspect(self):
        facts = self.succeed_json("inspect", MODEL)
        self.assertEqual((facts["architecture"], facts["layers"], facts["hidden"], facts["vocabulary"], facts["context"]),
                         ("llama", 30, 576, 49152, 8192))
        self.assertEqual((facts["heads"], facts["kv_heads"], facts["head_dim"], facts["tied"]), (9, 3, 64, True))
        self.assertEqual((facts["tokenizer"]["pre"], facts["tokenizer"]["chat_template"]), ("smollm", True))
        self.assertAlmostEqual(facts["head_layer_ratio"], 13.6, places=1)
        self.assertIn("13.60", self.succeed("inspect", MODEL).out)

    def test_tokenize(self):
        text = "Héllo wörld,\n\tdef f(x): return x ** 2  # 👋 1234"
        tokens = self.succeed_json("tokenize", MODEL, "--text", text)
        self.assertEqual(sorted(tokens), ["ids", "pieces", "tokens"])
        self.assertEqual(tokens["tokens"], len(tokens["ids"]))
        self.assertEqual(len(tokens["pieces"]), len(tokens["ids"]))
        self.assertEqual(self.succeed_json("tokenize", MODEL, "--text", "Hello, world")["pieces"], ["Hello", ",", " world"])
        self.assertEqual(self.succeed_json("tokenize", MODEL, "--file", self.write("text", text)), tokens)
        self.assertEqual(self.succeed_json("tokenize", MODEL, "--file", "-", stdin=text.encode()), tokens)
        lines = self.succeed("tokenize", MODEL, "--text", text).out.splitlines()
        self.assertEqual([int(line.split("\t")[0]) for line in lines], tokens["ids"])
        special = self.succeed_json("tokenize", MODEL, "--text", "<|im_end|>")
        self.assertEqual(special["tokens"], 1)
        self.assertGreater(self.succeed_json("tokenize", MODEL, "--text", "<|im_end|>", "--plain")["tokens"], 1)
        self.assertEqual(self.succeed_json("tokenize", MODEL, "--text", ""), {"tokens": 0, "ids": [], "pieces": []})
        self.assertEqual(self.succeed_json("tokenize", MODEL, "--text", "-n")["pieces"], ["-", "n"])
        self.refuse(1, "tokenize", MODEL, "--file", self.folder / "missing", says="No such file")
        self.refuse(1, "tokenize", MODEL, "--file", self.folder, says="folder")

    def test_run(self):
        arguments = ["run", MODEL, "--prompt", "The capital of France is", "-n", "12"]
        dense = self.succeed_json(*arguments)
        for field in ["ids", "text", "exit_layers", "layers", "mean_layers", "policy", "prompt_tokens", "prompt_seconds", "seconds",
                      "tokens_per_second", "finish_reason"]:
            self.assertIn(field, dense)
        self.assertEqual(len(dense["ids"]), 12)
        self.assertEqual(dense["exit_layers"], [30] * 12)
        self.assertEqual((dense["layers"], dense["finish_reason"], dense["prompt_tokens"]), (30, "max tokens", 5))
        self.assertTrue(dense["text"].startswith(" Paris"), dense["text"])
        self.assertGreater(dense["tokens_per_second"], 0)
        self.assertGreater(dense["seconds"], dense["prompt_seconds"])

        plain = self.succeed(*arguments)
        self.assertEqual(plain.out, dense["text"] + "\n")
        self.assertRegex(plain.err, r"^12 tokens .*mean exit layer 30\.0 of 30, [\d.]+ tokens/s.*\n$")

        full = self.succeed_json(*arguments, "--policy", "fixed:30")
        self.assertEqual((full["ids"], full["exit_layers"]), (dense["ids"], dense["exit_layers"]))
        early = self.succeed_json(*arguments, "--policy", "fixed:20")
        self.assertEqual(early["exit_layers"], [30] + [20] * 11)  # the first token follows the prompt, which runs whole
        self.assertAlmostEqual(early["mean_layers"], 250 / 12)
        gap = self.succeed_json(*arguments, "--policy", "gap:0.9,layers=20-28/4")
        self.assertTrue(set(gap["exit_layers"]) <= {20, 24, 28, 30}, gap["exit_layers"])
        self.assertEqual(self.succeed_json(*arguments, "--policy", "gap:2")["ids"], dense["ids"])
        exact = self.succeed_json(*arguments, "--policy", "fixed:20", "--exact-kv")  # no later token runs deeper
        self.assertEqual((exact["ids"], exact["exit_layers"]), (early["ids"], early["exit_layers"]))
        mixed = self.succeed_json(*arguments, "--policy", "gap:0.9,layers=20-28/4", "--exact-kv")
        self.assertTrue(set(mixed["exit_layers"]) <= {20, 24, 28, 30}, mixed["exit_layers"])

    def test_run_samples(self):
        arguments = ["run", MODEL, "--prompt", "Once upon a time", "-n", "12", "--temperature", "1.5", "--top-p", "0.95", "--top-k", "200"]
        one, again, other = [self.succeed_json(*arguments, "--seed", seed)["ids"] for seed in (1, 1, 2)]
        self.assertEqual(one, again)
        self.assertNotEqual(one, other)

    def test_run_chats(self):
        answer = self.succeed_json("run", MODEL, "--chat", "--prompt", "What is the capital of France? Answer in one word.", "-n", "40")
        self.assertIn("Paris", answer["text"])
        self.assertNotIn("<|im_end|>", answer["text"])
        self.assertEqual(answer["finish_reason"], "stop token")
        self.assertLess(len(answer["ids"]), 40)
        system = self.succeed_json("run", MODEL, "--chat", "--prompt", "Hi", "--system", "You are a pirate.", "-n", "1")
        self.assertNotEqual(system["prompt_tokens"], self.succeed_json("run", MODEL, "--chat", "--prompt", "Hi", "-n", "1")["prompt_tokens"])

    def chat(self, lines, *arguments):
        out = self.succeed("chat", MODEL, "--backend", "eigen", "--json", *arguments, stdin=lines.encode()).out
        return [json.loads(line) for line in out.splitlines()]

    def test_chat(self):
        lines = "What is the capital of France?\n\n  \nAnd of Italy?\r\n/reset\nWhat is the capital of France?\n/exit\nnever read\n"
        first, second, again = self.chat(lines, "-n", "30")
        for turn in first, second, again:
            self.assertEqual(list(turn), ["prompt_tokens", "reused_tokens", "text", "exit_layers", "layers", "mean_layers",
                                          "prompt_seconds", "seconds", "finish_reason"])
            self.assertEqual((turn["layers"], turn["finish_reason"]), (30, "stop token"))
            self.assertEqual(turn["exit_layers"], [30] * len(turn["exit_layers"]))
        self.assertIn("Paris", first["text"])
        self.assertIn("Rome", second["text"])  # it knows what was asked before
        self.assertEqual(first["reused_tokens"], 0)
        # The session holds the first turn, answer and all, so that only what comes after it ran: the turn's end and the question.
        self.assertEqual(second["reused_tokens"], first["prompt_tokens"] + len(first["exit_layers"]))
        self.assertGreater(second["prompt_tokens"], second["reused_tokens"])
        for field in "prompt_tokens", "reused_tokens", "text":
            self.assertEqual(again[field], first[field])
        # The same as run, and the same without --json.
        alone = self.succeed_json("run", MODEL, "--chat", "--prompt", "What is the capital of France?", "-n", "30", "--backend", "eigen")
        self.assertEqual(alone["text"], first["text"])
        plain = self.succeed("chat", MODEL, "-n", "30", "--backend", "eigen", stdin=lines.encode())
        self.assertEqual((plain.out, plain.err), ("".join(turn["text"] + "\n" for turn in (first, second, again)), ""))
        self.assertEqual(self.chat(""), [])
        self.assertEqual(self.chat("\n"), [])

    def test_chat_options(self):
        plain, = self.chat("Hi", "-n", "2")
        piped, = self.chat("Hi\n", "-n", "6", "--system", "You are a pirate.", "--policy", "fixed:20", "--temperature", "1", "--seed", "7")
        self.assertNotEqual(piped["prompt_tokens"], plain["prompt_tokens"])
        self.assertEqual(piped["exit_layers"], ([30] + [20] * 5)[:len(piped["exit_layers"])])
        self.assertEqual(plain["finish_reason"], "max tokens")
        same, = self.chat("Hi\n", "-n", "6", "--system", "You are a pirate.", "--policy", "fixed:20", "--temperature", "1", "--seed", "7")
        self.assertEqual(same["text"], piped["text"])
        self.refuse(2, "chat", MODEL, "--context", "9000", says="8192", stdin=b"Hi")
        self.refuse(2, "chat", MODEL, "--policy", "nonsense", says="nonsense", stdin=b"Hi")

    def test_chat_with_a_full_context(self):
        result = run("chat", MODEL, "--context", "60", "-n", "100", "--json", stdin=b"Tell me a story.\nAnd another one.\n")
        self.assertEqual(result.code, 1)
        self.assertEqual([json.loads(line)["finish_reason"] for line in result.out.splitlines()], ["context full"])
        for part in ["The context of 60 tokens is full", "its session holds 60", "/reset begins anew", "--context"]:
            self.assertIn(part, result.err)
        one, = self.chat("Tell me a story.\n/reset\n", "--context", "60", "-n", "5")
        self.assertEqual(len(one["exit_layers"]), 5)

    def test_chat_without_a_known_template(self):
        content = pathlib.Path(MODEL).read_bytes()
        at = content.index(b"{% for message in messages %}")
        self.assertEqual(content.count(b"{% for message in messages %}"), 1)
        path = self.write("unknown.gguf", content[:at] + b"{% for message in messages%}x" + content[at + 29:])
        self.refuse(1, "chat", path, says=["no known family", "ChatML, Llama 2", "adainfer run MODEL --prompt"], stdin=b"Hi")
        self.refuse(1, "run", path, "--chat", "--prompt", "Hi", says="no known family")
        key = b"tokenizer.chat_template"
        path = self.write("none.gguf", content.replace(key, b"tokenizer.chat_templatX", 1))
        self.refuse(1, "chat", path, says=["no chat template", "adainfer run MODEL --prompt"], stdin=b"Hi")

    def test_chat_on_a_terminal(self):
        try:
            import pty
            ours, theirs = pty.openpty()
        except (ImportError, OSError) as error:
            self.skipTest(f"no terminal to be had: {error}")
        process = subprocess.Popen([PROGRAM, "chat", MODEL, "-n", "4000", "--backend", "eigen"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(theirs)
        self.addCleanup(os.close, ours)
        os.write(ours, b"Tell me a long story about the sea.\n")
        out = process.stdout.read(10)  # the answer is on its way
        process.send_signal(signal.SIGINT)
        while not out.endswith(b"\n"):  # it ends, the program does not
            out += process.stdout.read1(1000)
        os.write(ours, b"What is the capital of France?\n\x04")
        more, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0)
        self.assertIn(b"Paris", more)
        self.assertEqual(err.count(b"> "), 3)

    def test_backends_and_threads_agree(self):
        arguments = ["run", MODEL, "--prompt", "The capital of France is", "-n", "4"]
        expected = self.succeed_json(*arguments)["ids"]
        for more in [["--backend", "xtensor"], ["--backend", "reference"], ["--backend", "eigen", "--threads", "1"], ["--threads", "3"]]:
            with self.subTest(more=more):
                self.assertEqual(self.succeed_json(*arguments, *more)["ids"], expected)

    def test_kv_cache_types(self):
        arguments = ["run", MODEL, "--prompt", "The capital of France is", "-n", "4"]
        expected = self.succeed_json(*arguments)["ids"]
        for kv in ["f16", "q8_0"]:
            for backend in ["simd", "eigen"]:
                with self.subTest(kv=kv, backend=backend):
                    self.assertEqual(self.succeed_json(*arguments, "--kv", kv, "--backend", backend)["ids"], expected)
        text = self.write("text", (ROOT / "LICENSE").read_bytes()[:1200])
        measure = ["perplexity", MODEL, "--file", text, "--products", "exact"]
        nats = {kv: self.succeed_json(*measure, "--kv", kv)["nats_per_token"] for kv in ["f32", "f16", "q8_0"]}
        self.assertAlmostEqual(nats["f16"], nats["f32"], delta=0.002)
        self.assertAlmostEqual(nats["q8_0"], nats["f32"], delta=0.02)
        self.assertEqual(len(set(nats.values())), 3)

    def test_products_and_repacking(self):
        text = self.write("text", (ROOT / "LICENSE").read_bytes()[:1200])
        nats = lambda *how: self.succeed_json("perplexity", MODEL, "--file", text, *how)["nats_per_token"]
        exact = nats("--products", "exact")
        # Logits of 16 positions at once: activations rounded to 16 bits where the head is repacked, else in float.
        self.assertAlmostEqual(nats("--products", "exact", "--no-repack"), exact, delta=5e-5)
        self.assertAlmostEqual(nats("--products", "bfloat16"), exact, delta=0.01)  # of 1200 bytes; 0.5 % is asked of a long text
        self.assertAlmostEqual(nats("--products", "bits12"), exact, delta=0.002)
        self.assertAlmostEqual(nats("--products", "bits8"), exact, delta=0.05)
        measure = ["bench", MODEL, "-p", "64", "-n", "2", "--after", "8", "-r", "1", "--threads", "1"]
        for how in ["exact", "fast"]:
            rows = self.succeed_json(*measure, "--products", how)
            self.assertEqual([row["test"] for row in rows], ["pp64", "tg2"])
            self.assertIn(rows[0]["products"], ["exact"] if how == "exact" else ["exact", "bfloat16", "bits12"])
            self.assertGreater(rows[0]["load_seconds"], rows[0].get("repack_seconds", 0))
        self.assertNotIn("repacked_bytes", self.succeed_json(*measure, "--no-repack")[0])

    def test_prompts_that_are_wrong(self):
        self.refuse(2, "run", MODEL, "--prompt", "", says="prompt is empty")
        self.refuse(2, "trace", MODEL, "--prompt", "", says="prompt is empty")
        self.refuse(1, "run", MODEL, "--prompt", "word " * 9000, "-n", "1", says=["8192", "context"])

    def test_perplexity(self):
        text = self.write("text", (ROOT / "LICENSE").read_bytes()[:1200])
        whole = self.succeed_json("perplexity", MODEL, "--file", text)
        for field in ["perplexity", "tokens", "nats", "nats_per_token", "chunk", "chunks", "seconds"]:
            self.assertIn(field, whole)
        tokens = self.succeed_json("tokenize", MODEL, "--file", text, "--plain")["tokens"]
        self.assertEqual((whole["tokens"], whole["chunk"], whole["chunks"]), (tokens - 1, 8192, 1))
        self.assertAlmostEqual(whole["perplexity"], math.exp(whole["nats"] / whole["tokens"]))
        self.assertTrue(1 < whole["perplexity"] < 100, whole)
        parts = self.succeed_json("perplexity", MODEL, "--file", text, "--chunk", "50")
        chunks = (tokens + 49) // 50 - (1 if tokens % 50 == 1 else 0)
        self.assertEqual((parts["chunk"], parts["chunks"], parts["tokens"]), (50, chunks, tokens - (tokens + 49) // 50))
        self.assertGreater(parts["nats_per_token"], whole["nats_per_token"])  # less to go by
        self.assertIn(f"{whole['perplexity']:.4f}", self.succeed("perplexity", MODEL, "--file", text).out)
        self.refuse(2, "perplexity", MODEL, "--file", text, "--chunk", "9000", says="8192")
        self.refuse(1, "perplexity", MODEL, "--file", self.write("short", "a"), says="too short")
        self.refuse(1, "perplexity", MODEL, "--file", self.folder / "missing", says="No such file")

    TEMPLATE = (r"Review: A dull, endless film.\nSentiment: negative\n\nReview: What a joy from start to finish!\nSentiment: positive\n\n"
                r"Review: {input}\nSentiment:")
    TEXTS = ["I want my two hours back.", "One of the best evenings I have had in years.", "run"]

    def test_classify(self):
        arguments = ["classify", MODEL, "--template", self.TEMPLATE, "--labels", "negative,positive"]
        dense = self.succeed_json(*arguments, *self.TEXTS)
        self.assertEqual([item["text"] for item in dense], self.TEXTS)
        for item in dense:
            self.assertEqual(list(item["probabilities"]), ["negative", "positive"])
            self.assertAlmostEqual(sum(item["probabilities"].values()), 1, places=5)
            self.assertEqual(item["label"], max(item["probabilities"], key=item["probabilities"].get))
            self.assertEqual((item["exit_layer"], item["layers"], item["checks"]), (30, 30, 0))
        self.assertEqual(dense[1]["label"], "positive")
        alone = self.succeed_json(*arguments, self.TEXTS[1])
        self.assertAlmostEqual(alone[0]["probabilities"]["positive"], dense[1]["probabilities"]["positive"], places=3)
        lines = self.succeed(*arguments, *self.TEXTS).out.splitlines()
        self.assertEqual([line.split("\t")[0] for line in lines], [item["label"] for item in dense])
        self.assertIn("30/30", lines[0])

        # Spelling the answer's place out, real line breaks and a space at the end change nothing.
        for template in [self.TEMPLATE + " {output}", self.TEMPLATE.replace(r"\n", "\n"), self.TEMPLATE + " "]:
            self.assertEqual(self.succeed_json("classify", MODEL, "--template", template, "--labels", "negative,positive", *self.TEXTS), dense)

        early = self.succeed_json(*arguments, "--policy", "fixed:12", *self.TEXTS)
        self.assertEqual([item["exit_layer"] for item in early], [12] * 3)
        oracle = self.succeed_json(*arguments, "--policy", "oracle", *self.TEXTS)
        self.assertEqual([item["label"] for item in oracle], [item["label"] for item in dense])
        self.assertTrue(all(1 <= item["exit_layer"] <= 30 and item["checks"] == 29 for item in oracle))

    def test_trace(self):
        arguments = ["trace", MODEL, "--prompt", "The capital of France is"]
        dense = self.succeed_json(*arguments)
        self.assertEqual([row["layer"] for row in dense["rows"]], list(range(1, 31)))
        self.assertEqual((dense["dense"]["text"], dense["answer"], dense["exit_layer"], dense["lens"]),
                         (" Paris", dense["dense"], 30, "logit"))
        self.assertEqual([row["decision"] for row in dense["rows"]], ["not asked"] * 29 + ["end"])
        for row in dense["rows"]:
            self.assertEqual(list(row), ["layer", "token", "text", "gap", "top_prob", "agrees", "decision"])
            self.assertTrue(0 <= row["gap"] <= row["top_prob"] <= 1, row)
            self.assertEqual(row["agrees"], row["token"] == dense["dense"]["token"])

        gaps = [row["gap"] for row in dense["rows"]]
        threshold = sorted(gaps[9:25])[-2]  # passed by one of the layers 10 to 25
        asked = self.succeed_json(*arguments, "--policy", f"gap:{threshold + 1e-4},layers=10-25")
        exit_layer = max(range(10, 26), key=lambda layer: gaps[layer - 1])
        self.assertEqual(asked["exit_layer"], exit_layer)
        self.assertEqual([row["decision"] for row in asked["rows"]],
                         ["not asked"] * 9 + ["continue"] * (exit_layer - 10) + ["exit"] + ["not run"] * (30 - exit_layer))
        self.assertEqual(asked["answer"]["token"], asked["rows"][exit_layer - 1]["token"])
        self.assertEqual([row["gap"] for row in asked["rows"]], gaps)

        lines = self.succeed(*arguments, "--policy", "fixed:20").out.splitlines()
        self.assertEqual(len(lines), 32)
        self.assertIn("exit", lines[20])
        self.assertIn("Paris", lines[30])

    def test_policies_that_are_wrong(self):
        for command in [["run", MODEL, "--prompt", "x"], ["trace", MODEL, "--prompt", "x"],
                        ["classify", MODEL, "--template", "{input}", "--labels", "a,b", "text"]]:
            self.refuse(2, *command, "--policy", "nonsense", says=["nonsense", *POLICY_FORMS])
        run_one = ["run", MODEL, "--prompt", "x", "-n", "1", "--policy"]
        for spec in ["", "gap", "gap:", "gap:x", "fixed:0", "fixed:31", "fixed:-1", "patience:0", "gap:0.5,colour=red", "gap:0.5,head=huge",
                     "gap:0.5,layers=9-3", "gap:0.5,layers=1-2/9223372036854775808", "fixed:best", "/no/such/policy.json"]:
            with self.subTest(spec=spec):
                self.refuse(2, *run_one, spec)
        self.refuse(1, *run_one, "gap:0.5,lens=/no/such/lens", says="/no/such/lens")
        self.refuse(1, *run_one, self.write("policy.json", "{}"), says="policy.json")
        self.refuse(1, *run_one, self.write("cut.json", '{"format": "adai'), says="cut.json")
        self.refuse(1, "trace", MODEL, "--prompt", "x", "--lens", self.write("lens.safetensors", b"\0" * 100), says="lens.safetensors")

    def test_model_file_cut_off(self):
        with open(MODEL, "rb") as file:
            head = file.read(20_000_000)
        path = self.write("cut.gguf", head)
        for arguments in [["inspect", path], ["tokenize", path, "--text", "x"], ["run", path, "--prompt", "x"]]:
            self.refuse(1, *arguments, says=["cut.gguf", "get_model.sh"])

    def task(self):
        words = ("river kettle honest window garden silver pencil summer market bridge forest hammer letter mirror orange planet "
                 "rabbit saddle ticket valley winter yellow basket candle").split()
        examples = [{"input": word, "output": word[0].upper() + word[1:]} for word in words]
        return self.write("task.json", json.dumps({"name": "capitalize", "template": "{input} -> {output}\n", "shots": 4,
                                                   "train": examples[:18], "test": examples[18:]}))

    def test_evaluate(self):
        rows = self.succeed_json("evaluate", MODEL, "--task", self.task(), "--policy", "dense", "--policy", "fixed:20", "--policy",
                                 "oracle", "--limit", "3")
        self.assertEqual([(row["task"], row["policy"]) for row in rows],
                         [("capitalize", "dense"), ("capitalize", "fixed:20"), ("capitalize", "oracle")])
        for row in rows:
            for field in EVALUATION_FIELDS:
                self.assertIn(field, row)
            self.assertEqual(row["layers"], 30)
            self.assertAlmostEqual(row["pruning_ratio"], 1 - row["mean_layers"] / 30, places=6)
            self.assertEqual(row["accuracy_dense"], rows[0]["accuracy"])
        self.assertEqual((rows[0]["agreement"], rows[0]["mean_layers"], rows[1]["mean_layers"], rows[2]["agreement"]), (1, 30, 20, 1))
        self.assertEqual([(row["check_cost"] > 0, row["break_even_layer"]) for row in rows], [(False, 0), (False, 20), (True, 0)])
        out = self.succeed("evaluate", MODEL, "--task", self.task(), "--policy", "fixed:20", "--limit", "2").out
        header, row = out.splitlines()
        self.assertEqual(header.split()[-4:], ["speed-up", "checks", "cost", "pays"])
        self.assertTrue(row.startswith("capitalize  fixed:20 "), row)
        self.assertEqual(row.split()[-4:], ["1.0", "0.0", "%", "20"])

    def test_evaluate_costs(self):
        specs = ["gap:0.9", "gap:0.9,layers=1-10", "gap:0.9,head=shortlist:64", "gap:0.9,head=shortlist:64+confirm"]
        policies = [part for spec in specs for part in ("--policy", spec)]
        whole, ten, shortlist, confirmed = self.succeed_json("evaluate", MODEL, "--task", self.task(), "--limit", "3", *policies)
        # A head after each of 29 layers, and after 10 of them.
        self.assertAlmostEqual(whole["check_cost"], 2.9 * ten["check_cost"], places=9)
        # By hand: a head is of one position, a layer of all of the 2 to 12 of a prompt, whatever the attention.
        cost = self.succeed_json("inspect", MODEL)["token_cost"]
        heads, layers = 29 * cost["head"]["multiply_adds"], cost["layers"]["multiply_adds"]
        self.assertLess(whole["check_cost"], heads / (2 * layers + heads / 29))
        self.assertGreater(whole["check_cost"], heads / (12 * layers + heads / 29))
        # One head and 28 times 64 rows of its 49,152.
        self.assertAlmostEqual(shortlist["check_cost"], whole["check_cost"] * (1 + 28 * 64 / 49152) / 29, places=9)
        self.assertEqual(confirmed["check_cost"], shortlist["check_cost"])
        self.assertLess(confirmed["break_even_layer"], shortlist["break_even_layer"])

    def test_costs_warn(self):
        for command in [["inspect", MODEL], ["run", MODEL, "--prompt", "x", "-n", "1"], ["evaluate", MODEL, "--task", self.task(), "--limit", "1"]]:
            with self.subTest(command=command[0]):
                said = self.succeed(*command, "--policy", "gap:0.9").err
                self.assertRegex(said, r"warning: policy 'gap:0\.9' costs a (token|prompt) that exits nowhere .* more than the dense model")
                self.assertIn("head=shortlist", said)
                self.assertNotIn("warning", self.succeed(*command, "--policy", "gap:0.9,head=shortlist,layers=24-29").err)

    def test_evaluate_refuses(self):
        self.refuse(1, "evaluate", MODEL, "--task", self.write("broken.json", "{"), says="broken.json")
        self.refuse(2, "evaluate", MODEL, "--task", self.task(), "--policy", "nonsense", says=POLICY_FORMS)

    def test_lens_train_and_use(self):
        lens, policy = self.folder / "lens.safetensors", self.folder / "policy.json"
        self.refuse(2, "lens", MODEL, "-o", lens, says="--file")
        text = self.write("text", (FIXTURES / "smollm2_text.txt").read_text() + "\n" + (ROOT / "LICENSE").read_text())
        self.succeed("lens", MODEL, "--file", text, "--layers", "20,24,28", "-o", lens)
        traced = self.succeed_json("trace", MODEL, "--prompt", "The capital of France is", "--lens", lens)
        self.assertEqual(([row["layer"] for row in traced["rows"]], traced["lens"]), ([20, 24, 28, 30], "linear"))
        self.succeed("train", MODEL, "--task", self.task(), "--classifier", "svm", "--lens", lens, "--agreement", "0.5", "-o", policy)
        self.assertEqual([json.loads(policy.read_text())[key] for key in ("kind", "head")], ["svm", "full"])
        self.succeed("train", MODEL, "--task", self.task(), "--classifier", "svm", "--lens", lens, "--agreement", "0", "--accuracy-price", "5",
                     "--examples", "6", "--prefixes", "1", "-o", self.folder / "priced.json")
        priced = json.loads((self.folder / "priced.json").read_text())["training"]
        self.assertEqual((float(priced["accuracy_price"]), int(priced["prompts_trained"]) + int(priced["prompts_calibrated"])), (5, 6))
        both = ["train", MODEL, "--task", self.task(), "--lens", lens, "--agreement", "0.5", "--classifier", "crf", "-o", self.folder / "crf.json",
                "--classifier", "svm"]
        self.succeed(*both, "-o", self.folder / "svm.json")
        self.assertEqual(json.loads((self.folder / "svm.json").read_text()), json.loads(policy.read_text()))
        self.assertEqual(json.loads((self.folder / "crf.json").read_text())["kind"], "crf")
        self.refuse(2, *both, says="one -o for each --classifier")
        self.refuse(2, "train", MODEL, "--task", self.task(), "--classifier", "svm", "-o", policy, "--classifier", "crf", "-o", policy, says="two classifiers")
        self.refuse(2, "train", MODEL, "--task", self.task(), "--classifier", "svm", "--lens", lens, "--accuracy-price", "-1", "-o", policy,
                    says="--accuracy-price")
        self.refuse(2, "train", MODEL, "--task", self.task(), "--classifier", "svm", "--head", "shortlist:1", "-o", policy, says="shortlist:K+confirm")
        used = self.succeed_json("run", MODEL, "--prompt", "river -> River\nkettle ->", "-n", "6", "--policy", policy)
        self.assertTrue(set(used["exit_layers"]) <= {20, 24, 28, 30}, used["exit_layers"])
        lens.unlink()
        self.refuse(1, "run", MODEL, "--prompt", "x", "--policy", policy, says="lens.safetensors")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "tokenize", MODEL, "--text", "x"], stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot write", done.stderr)

    def test_progress_on_a_terminal(self):
        try:
            import pty
            ours, theirs = pty.openpty()
        except (ImportError, OSError) as error:
            self.skipTest(f"no terminal to be had: {error}")
        text = self.write("text", (ROOT / "LICENSE").read_bytes())
        process = subprocess.Popen([PROGRAM, "perplexity", MODEL, "--file", text, "--chunk", "16", "--backend", "xtensor", "--json"],
                                   stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:
            pass  # the other end is closed
        out, _ = process.communicate(timeout=300)
        os.close(ours)
        self.assertEqual(process.returncode, 0)
        json.loads(out)
        self.assertRegex(shown.decode(), r"perplexity \[#*\.*\] +\d+%  \d+/\d+  [\d.]+/s  \d+:\d\d left")
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-80:])  # the line is taken away

    def test_trace_of_tasks(self):
        task = ROOT / "examples/demo/capitals.json"
        trace = self.succeed_json("trace", MODEL, "--task", task, "--limit", "2")
        self.assertEqual((trace["lens"], trace["layers"], len(trace["tasks"])), ("logit", 30, 1))
        rows = trace["tasks"][0]["rows"]
        self.assertEqual([row["layer"] for row in rows], list(range(1, 31)))
        self.assertEqual((trace["tasks"][0]["task"], trace["tasks"][0]["prompts"], rows[-1]["agreement"]), ("capitals", 2, 1))
        for row in rows:
            self.assertTrue(0 <= row["gap"] <= row["top_prob"] <= 1, row)
        # The mean of one prompt is what the prompt itself gives.
        file = json.loads(task.read_text())
        few = "".join(file["template"].replace("{input}", x["input"]).replace("{output}", x["output"]) for x in file["train"][:file["shots"]])
        question = file["template"].replace("{input}", file["test"][0]["input"])
        prompt = few + question[:question.index("{output}")].rstrip()
        exact = ["trace", MODEL, "--products", "exact"]  # the task's few-shot prefix runs on its own
        one = self.succeed_json(*exact, "--task", task, "--limit", "1")["tasks"][0]["rows"]
        for mean, row in zip(one, self.succeed_json(*exact, "--prompt", prompt)["rows"]):
            self.assertAlmostEqual(mean["gap"], row["gap"], delta=2e-3)
            self.assertAlmostEqual(mean["top_prob"], row["top_prob"], delta=2e-3)
        self.refuse(2, "trace", MODEL, "--task", task, "--prompt", "x")

    def test_foreign_policy(self):
        # A model is no stranger to itself: the classifier decides as from its own file.
        file = ROOT / "examples/demo/smollm2/svm_paper.json"
        rows = self.succeed_json("evaluate", MODEL, "--task", ROOT / "examples/demo/capitals.json", "--limit", "3", "--policy", file,
                                 "--policy", f"foreign:{file},layers=1-29", "--policy", f"foreign:{file},layers=28-29")
        for field in ["accuracy", "agreement", "mean_layers", "checks_per_prompt"]:
            self.assertEqual(rows[0][field], rows[1][field])
        self.assertLessEqual(rows[2]["checks_per_prompt"], 2)
        task = ["evaluate", MODEL, "--task", ROOT / "examples/demo/capitals.json", "--policy"]
        self.refuse(1, *task, f"foreign:{ROOT}/examples/demo/smollm2/svm_lens.json", says=["layer_fraction", "gap, top_prob"])
        self.refuse(1, *task, "foreign:missing.json", says="No such file")

    def test_influence(self):
        text = self.write("text", (ROOT / "LICENSE").read_bytes())
        found = self.succeed_json("influence", MODEL, "--file", text, "--skip", "2")
        self.assertEqual((found["layers"], len(found["influence"]), found["sequences"]), (30, 30, 1))
        self.assertEqual(found["order"], sorted(range(1, 31), key=lambda layer: found["influence"][layer - 1]))
        self.assertEqual(found["skip"], sorted(found["order"][:2]))
        self.assertTrue(all(0 < value < 1 for value in found["influence"]), found)
        out = self.succeed("influence", MODEL, "--file", text, "--skip", "2").out
        self.assertIn("--policy skip:{}+{}".format(*found["skip"]), out)
        of_task = self.succeed_json("influence", MODEL, "--task", ROOT / "examples/demo/plural.json", "--prompts", "3")
        self.assertEqual(of_task["sequences"], 3)
        self.refuse(2, "influence", MODEL, "--file", text, "--skip", "30", says="30 layers")

    def test_interrupt(self):
        process = subprocess.Popen([PROGRAM, "run", MODEL, "--prompt", "Once upon a time", "-n", "4000"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdout.read(1)  # it is at work
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, err), (1, b"adainfer: cancelled\n"))
        self.assertLess(time.monotonic() - start, 10)


def main():
    global PROGRAM, FIXTURES, MODEL
    suite, PROGRAM, FIXTURES = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    if suite == "model":
        MODEL = os.environ.get("ADAINFER_SMOLLM2") or str(ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
        if not os.path.exists(MODEL):
            print(f"skipped: no model at {MODEL}; set ADAINFER_SMOLLM2 or fetch one with examples/get_model.sh smollm2")
            sys.exit(77)
    cases = unittest.defaultTestLoader.loadTestsFromTestCase(Model if suite == "model" else Usage)
    only = sys.argv[4:]  # names of single tests, for the one who repairs them
    if only:
        cases = unittest.TestSuite(case for case in cases if case.id().rsplit(".", 1)[-1] in only)
    outcome = unittest.TextTestRunner(verbosity=2).run(cases)
    sys.exit(0 if outcome.wasSuccessful() and outcome.testsRun > 0 else 1)


if __name__ == "__main__":
    main()
