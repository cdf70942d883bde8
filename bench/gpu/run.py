#!/usr/bin/env python3
"""Measures gomlx's mlx backend on a GPU, and mlx-lm beside it where it can be imported.

    run.py ENGINE [--models gemma3-1b:4,gemma3-1b:16] [--peers] [--out FILE]

ENGINE is the binary of benches/engine (`scripts/mlx/cargo build --release --features mlx --bench engine`). Checkpoints
of published shapes with random weights are made in /tmp by bench/make_model.py. Each figure is the best of several; the
first run of each shape warms up. See README.md beside this file.
"""
import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SHAPES = [
    ("prompt 2,048", dict(do="prompt", tokens=2048), 5),
    ("decode 1", dict(do="decode", sequences=1, context=32, steps=128), 3),
    ("decode 64", dict(do="decode", sequences=64, context=32, steps=64), 3),
    ("classify 20 tokens", dict(do="classify", shared=0, tokens=20, texts=4096), 3),
]


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
        for batch in (256, 512, 1024):
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
    return max(side.ask(request)["rate"] for _ in range(times))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("engine")
    arguments.add_argument("--models", default="gemma3-1b:4,gemma3-1b:16,llama3.2-1b:4,llama3.2-1b:16")
    arguments.add_argument("--peers", action="store_true")
    arguments.add_argument("--out")
    a = arguments.parse_args()
    table = []
    for model in a.models.split(","):
        preset, bits = model.split(":")
        folder = checkpoint(preset, int(bits))
        engine = Engine(a.engine, folder)
        print(model, engine.opened, flush=True)
        peer = None
        if a.peers:
            peer = MlxLm(folder)
        for name, request, times in SHAPES:
            row = dict(model=model, shape=name)
            for side, who in ((engine, "gomlx"), (peer, "mlx-lm")):
                try:
                    row[who] = measure(side, request, times) if side else None
                except Exception as fault:  # a peer that cannot is a blank in the table
                    row[who] = None
                    print(f"{who}, {model}, {name}: {fault}", flush=True)
                    if who == "gomlx":
                        engine = Engine(a.engine, folder)
            row["GB"] = engine.ask(dict(do="memory"))["peak"] / 1e9
            table.append(row)
            print(row, flush=True)
        engine.process.stdin.close()
        engine.process.wait()
    print("| model | shape | gomlx | mlx-lm | ratio | gomlx GB |\n|---|---|---|---|---|---|")
    for row in table:
        ours, theirs = row["gomlx"], row["mlx-lm"]
        ratio = f"{ours / theirs:.2f}" if ours and theirs else ""
        cells = [f"{x:,.0f}" if x else "" for x in (ours, theirs)]
        print(f"| {row['model']} | {row['shape']} | {cells[0]} | {cells[1]} | {ratio} | {row['GB']:.1f} |")
    if a.out:
        with open(a.out, "w") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
