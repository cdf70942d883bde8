#!/usr/bin/env python3
"""Measures gomlx's mlx backend on a GPU, and mlx-lm beside it where it can be imported.

    run.py ENGINE [--models gemma3-1b:4,gemma3-1b:16] [--peers] [--out FILE] [--tiny]

ENGINE is the binary of benches/engine (`scripts/mlx/cargo build --release --features mlx --bench engine`). Checkpoints
of published shapes with random weights are made in /tmp by bench/make_model.py. Each figure is the best of several; the
first run of each shape warms up. GB is the peak that MLX's allocator saw in that shape. --tiny rehearses
with few tokens. See README.md beside this file.
"""
import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPES = [
    ("classify 20 tokens", dict(do="classify", shared=0, tokens=20, texts=8192), 2),
    ("decode 1", dict(do="decode", sequences=1, context=32, steps=128), 3),
    ("decode 64", dict(do="decode", sequences=64, context=32, steps=64), 3),
    ("prompt 2,048", dict(do="prompt", tokens=2048), 5),
]
TINY = [
    ("classify 20 tokens", dict(do="classify", shared=0, tokens=4, texts=6), 1),
    ("decode 1", dict(do="decode", sequences=1, context=4, steps=3), 1),
    ("decode 64", dict(do="decode", sequences=3, context=4, steps=3), 1),
    ("prompt 2,048", dict(do="prompt", tokens=9), 1),
]
# Nobody classifies with these here.
LARGE = ("llama3.1-8b",)


def checkpoint(preset, bits):
    folder = f"/tmp/gpu-{preset}-{bits}"
    if not os.path.exists(folder + "/model.safetensors"):
        make = os.path.join(HERE, "..", "make_model.py")
        subprocess.run([sys.executable, make, preset, folder, "--bits", str(bits)], check=True)
    return folder


class Engine:
    def __init__(self, binary, folder):
        environment = dict(os.environ, GOMLX_BACKEND="mlx", GOMLX_LOG="warn")
        environment.setdefault("MLX_MAX_OPS_PER_BUFFER", "400")
        environment.setdefault("MLX_MAX_MB_PER_BUFFER", "10000")
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.opened = self.ask(dict(do="open", model=folder, threads=4, sequences=64, context=4096))

    def peak(self):
        return self.ask(dict(do="memory", reset=True))["peak"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine ended at {request}")
        return json.loads(line)


class MlxLm:
    """mlx-lm's own ways: generate_step, BatchGenerator, and one forward pass over a batch of sentences."""

    def __init__(self, folder):
        import mlx.core as mx
        from mlx_lm import load

        self.mx = mx
        self.model, self.tokenizer = load(folder)
        self.seed = 0

    def peak(self):
        peak = self.mx.get_peak_memory()
        self.mx.reset_peak_memory()
        return peak

    def close(self):
        self.model = None
        self.mx.clear_cache()

    def tokens(self, n):
        self.seed += 1
        return self.mx.random.randint(300, 20000, (n,), key=self.mx.random.key(self.seed))

    def ask(self, request):
        mx = self.mx
        if request["do"] == "prompt":
            from mlx_lm.models.cache import make_prompt_cache

            prompt = self.tokens(request["tokens"])
            mx.eval(prompt)
            began = time.perf_counter()
            logits = self.model(prompt[None], cache=make_prompt_cache(self.model))[:, -1]
            mx.eval(mx.argmax(logits, -1))
            return dict(rate=request["tokens"] / (time.perf_counter() - began))
        if request["do"] == "decode":
            from mlx_lm.models.cache import make_prompt_cache

            n, steps = request["sequences"], request["steps"]
            cache = make_prompt_cache(self.model)
            prompts = mx.stack([self.tokens(request["context"]) for _ in range(n)])
            y = mx.argmax(self.model(prompts, cache=cache)[:, -1], -1)
            mx.eval(y)
            began = time.perf_counter()
            for _ in range(steps):
                following = mx.argmax(self.model(y[:, None], cache=cache)[:, -1], -1)
                mx.async_eval(following)
                mx.eval(y)
                y = following
            mx.eval(y)
            return dict(rate=n * steps / (time.perf_counter() - began))
        rate = 0
        for batch in (256, 512, 1024) if request["texts"] > 1024 else (4,):
            texts = mx.stack([self.tokens(request["tokens"]) for _ in range(batch)])
            mx.eval(texts)
            began = time.perf_counter()
            for _ in range(3):
                mx.eval(mx.argmax(self.head(texts), -1))
            rate = max(rate, 3 * batch / (time.perf_counter() - began))
        return dict(rate=rate)

    def head(self, texts):
        """Logits behind the last token only, as a careful user would write it."""
        inner = getattr(self.model, "model", None)
        hidden = inner(texts)[:, -1]
        return inner.embed_tokens.as_linear(hidden)


def measure(side, request, times):
    side.ask(request)
    side.peak()
    rate = max(side.ask(request)["rate"] for _ in range(times))
    return dict(rate=rate, GB=side.peak() / 1e9)


def rows(model, who, start, shapes, table):
    """Adds one side's figures of one model to the table. What fails is a blank in it."""
    side = None
    for name, request, times in shapes:
        try:
            side = side or start()
            table[model, name, who] = measure(side, request, times)
            print(f"{model} | {name} | {who}: {table[model, name, who]}", flush=True)
        except Exception as fault:
            print(f"{model} | {name} | {who} failed: {fault!r}", flush=True)
            side = None
    if side:
        side.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("engine")
    arguments.add_argument("--models", default="gemma3-1b:4,gemma3-1b:16,llama3.2-1b:4,llama3.2-1b:16,llama3.1-8b:4")
    arguments.add_argument("--peers", action="store_true")
    arguments.add_argument("--out")
    arguments.add_argument("--tiny", action="store_true")
    a = arguments.parse_args()
    table = {}
    print("| model | shape | gomlx | GB | mlx-lm | GB | ratio |\n|---|---|---|---|---|---|---|", flush=True)
    for model in a.models.split(","):
        preset, bits = model.split(":")
        folder = checkpoint(preset, int(bits))
        shapes = [shape for shape in (TINY if a.tiny else SHAPES) if preset not in LARGE or shape[1]["do"] != "classify"]
        rows(model, "gomlx", lambda: Engine(a.engine, folder), shapes, table)
        if a.peers:
            rows(model, "mlx-lm", lambda: MlxLm(folder), shapes, table)
        for name, *_ in shapes:
            ours, theirs = (table.get((model, name, who), {}) for who in ("gomlx", "mlx-lm"))
            cells = [f"{side[key]:,.{digits}f}" if side else ""
                     for side in (ours, theirs) for key, digits in (("rate", 0), ("GB", 1))]
            ratio = f"{ours['rate'] / theirs['rate']:.2f}" if ours and theirs else ""
            print(f"| {model} | {name} | " + " | ".join(cells) + f" | {ratio} |", flush=True)
    if a.out:
        with open(a.out, "w") as file:
            json.dump({" | ".join(key): value for key, value in table.items()}, file, indent=1)


if __name__ == "__main__":
    main()
