#!/usr/bin/env python3
"""Measures gomlx on checkpoints of published shapes; with --peers beside llama.cpp, by turns in the same run.

    run.py [--peers] [--quick] [--rounds N] [--models gemma3-1b,…] [--bits 4,8,16] [--out bench/out] [--readme]

Writes a table (.md), everything that was measured (.json) and a chart (.svg); --readme also quotes the table in
README.md. `make bench` and `make bench-peers`
call it; README.md says what the lines mean.
"""
import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent))
import operations
import report
from shapes import MODELS, THREADS, shapes
from workers import PEERS, QUIET, ROOT, VENV_PYTHON, Worker, engine_binary, once

MODELS_DIR = ROOT / "target/bench-models"
DOMAINS = ROOT / "models/gemma3-domains-6m-4bit"
# Its packages take 6 GB, so `make bench-peers` does not install them: scripts/oracle/README.md does.
TORCH_PYTHON = ROOT / "target/oracle-venv/bin/python"
# The peer's choice of weight layout is made by a probe of each kind of work.
PROBES = {
    "prompt": dict(do="prompt", tokens=512),
    "decode": dict(do="decode", sequences=8, context=32, steps=8),
    "context": dict(do="decode", sequences=1, context=32, steps=8),
    "classify": dict(do="prompt", tokens=512),
    "callers": dict(do="decode", sequences=1, context=32, steps=8),
}


def checkpoint(preset, bits, gguf):
    """Paths of the checkpoint and its GGUF twin, made where they are missing."""
    folder, twin = MODELS_DIR / f"{preset}-{bits}bit", MODELS_DIR / f"{preset}-{bits}bit.gguf"
    done = folder / ".complete"
    if not done.exists() or (gguf and not twin.exists()):
        command = [str(VENV_PYTHON) if gguf else sys.executable, str(ROOT / "bench/make_model.py"), preset, str(folder),
                   "--bits", str(bits)] + (["--gguf", f"{twin}.part"] if gguf else [])
        subprocess.run(command, check=True, stdout=sys.stderr)
        if gguf:
            Path(f"{twin}.part").rename(twin)
        done.touch()
    return str(folder), str(twin)


def sample(worker, request, retries):
    """The quietest of a few tries; the first that was quiet enough ends them."""
    best = None
    for _ in range(1 + retries):
        answer = worker.ask(**request)
        if best is None or answer["others"] < best["others"]:
            best = answer
        if best["others"] <= QUIET:
            break
    return best


class LlamaCpp:
    """llama.cpp with and without its repacked weight layouts; for each kind of work the better of the two."""

    def __init__(self, model, bits):
        variants = [True] if bits == 16 else [True, False]  # it has no other layout for bfloat16
        self.workers = {repack: Worker(PEERS, model=model, threads=THREADS, repack=repack) for repack in variants}
        self.best = {}

    def worker(self, kind):
        if kind not in self.best:
            probe = PROBES[kind]
            rates = {}
            for repack, worker in self.workers.items():
                worker.ask(**probe)
                rates[repack] = worker.ask(**probe)["rate"]
            self.best[kind] = max(rates, key=rates.get)
        return self.workers[self.best[kind]]

    def sample(self, shape, retries):
        request = dict(shape.request)
        if shape.kind == "callers":
            request["callers"] = min(request["callers"], 2)  # behind a lock the rate of two is the rate of any number
        return sample(self.worker(shape.kind), request, retries)

    def close(self):
        for worker in self.workers.values():
            worker.close()


def beside_reading(worker, shape, retries):
    """A sample of gomlx; of decoding together with what reading memory gave right before and after it (`read`)."""
    def reading():
        return worker.ask(do="reading", threads=THREADS)["rate"]

    if shape.kind not in ("decode", "context"):
        return sample(worker, shape.request, retries)
    before = reading()
    answer = sample(worker, shape.request, retries)
    return answer | dict(read=(before + reading()) / 2)


def measure_checkpoint(engine, preset, bits, arguments):
    """Every shape of one checkpoint, gomlx and llama.cpp by turns; the side that begins changes every round."""
    folder, twin = checkpoint(preset, bits, arguments.peers)
    gomlx = Worker([engine], model=folder, threads=THREADS)
    llama = LlamaCpp(twin, bits) if arguments.peers else None
    rows = [dict(model=preset, bits=bits, shape=shape, gomlx=[], llama=[])
            for shape in shapes(preset, bits, arguments.quick)]
    gomlx.ask(do="prompt", tokens=512)  # touches the weights, so that nobody's first figure pays for the disk
    for turn in range(arguments.rounds):
        for row in rows:
            shape = row["shape"]
            sides = [("gomlx", lambda: beside_reading(gomlx, shape, arguments.retries))]
            if llama:
                sides.append(("llama", lambda: llama.sample(shape, arguments.retries)))
            for side, measure in sides if turn % 2 == 0 else reversed(sides):
                row[side].append(measure())
        said = "  ".join(f"{row['shape'].name} {median(s['rate'] for s in row['gomlx']):.0f}" for row in rows)
        print(f"{preset} {bits} bits, round {turn + 1} of {arguments.rounds}: {said}", file=sys.stderr)
    gomlx.close()
    if llama:
        llama.close()
    return rows


def start_up(engine, arguments):
    """Load and first token, resident memory, idle cost: processes of their own."""
    folder, twin = checkpoint("gemma3-1b", 4, arguments.peers)
    result = dict(gomlx=[], llama=[])
    for _ in range(max(3, arguments.rounds)):
        result["gomlx"].append(once([engine, "--first-token", folder], THREADS))
        if arguments.peers:
            result["llama"].append(once([*PEERS, "--first-token", twin], THREADS))
    result["resident"] = once([engine, "--resident", folder, "4096"], THREADS)
    worker = Worker([engine], model=folder, threads=THREADS)
    worker.ask(do="prompt", tokens=16)
    worker.ask(do="idle", seconds=1)
    result["idle"] = worker.ask(do="idle", seconds=5)
    worker.close()
    if arguments.peers:
        worker = Worker(PEERS, model=twin, threads=THREADS)
        result["resident_llama"] = worker.ask(do="resident", context=4096)
        worker.close()
    return result


def by_operation(engine, arguments):
    """Where a step's time goes, as the engine's own trace tells; writing that takes a little of it."""
    folder, _ = checkpoint("gemma3-1b", 4, arguments.peers)
    arguments.out.mkdir(parents=True, exist_ok=True)
    trace = arguments.out / "gemma3-1b-4bit.trace.json"
    worker = Worker([engine], environment=dict(GOMLX_TRACE=str(trace)), model=folder, threads=THREADS)
    for _ in range(4):
        worker.ask(do="prompt", tokens=512)
        worker.ask(do="decode", sequences=1, context=32, steps=32)
    worker.close()
    return dict(decode=operations.read(trace, 1), prompt=operations.read(trace, 512))


def classification(engine, arguments):
    """CLINC150's test sentences; None where they are not beside the project."""
    table = ROOT.parent / "shared/data/clinc150/test.tsv"
    if not table.exists():
        print(f"skipped: classification, {table} is missing", file=sys.stderr)
        return None
    labels = sorted({line.split("\t")[2] for line in table.read_text().splitlines()[1:]})
    task = dict(do="domains", texts=str(table), template="Sentence: {text}\nDomain:",
                labels=[f" {label.replace('_', ' ')}" for label in labels])
    gomlx = Worker([engine], model=str(DOMAINS), threads=THREADS)
    result = dict(gomlx=[sample(gomlx, task, arguments.retries) for _ in range(arguments.rounds)])
    result["alone"] = gomlx.ask(**(task | dict(do="domains-alone")))
    gomlx.close()
    if arguments.peers:
        script = str(ROOT / "bench/classify_peers.py")
        engines = [("mlx", VENV_PYTHON, ("float32", "dense float32"))]
        if TORCH_PYTHON.exists():
            engines.append(("transformers", TORCH_PYTHON, ("dense float32", "dense bfloat16")))
        else:
            print(f"skipped: classification by transformers, {TORCH_PYTHON} is missing", file=sys.stderr)
        result["peers"] = []
        for name, python, ways in engines:
            peer = Worker([str(python), script, name], model=str(DOMAINS))
            for way in ways:
                request = task | dict(most=32 if name == "mlx" else 1024, way=way)
                result["peers"].append(sample(peer, request, arguments.retries))
            peer.close()
    return result


def versions(peers):
    said = dict(date=time.strftime("%Y-%m-%d %H:%M"), machine=processor(), threads=THREADS, python=platform.python_version(),
                rustc=subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip(),
                commit=subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True,
                                      text=True).stdout.strip())
    if peers:
        wanted = ("llama_cpp_python", "mlx", "mlx-lm")
        code = f"import importlib.metadata as m; print(*(f'{{p}} {{m.version(p)}}' for p in {wanted}), sep=', ')"
        said["peers"] = subprocess.run([VENV_PYTHON, "-c", code], capture_output=True, text=True).stdout.strip()
    return said


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} cores"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="llama.cpp and mlx-lm too (peers_venv.sh makes them)")
    parser.add_argument("--quick", action="store_true", help="the main lines only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--retries", type=int, default=3, help="how often a sample on a busy machine is tried again")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--bits", default="4,8,16")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/out")
    parser.add_argument("--readme", action="store_true", help="quote the result in bench/README.md")
    arguments = parser.parse_args()
    if arguments.peers:
        subprocess.run([str(ROOT / "bench/peers_venv.sh")], check=True)
    engine = engine_binary()
    result = dict(about=versions(arguments.peers), rows=[])
    ceilings = Worker([engine], model=str(DOMAINS), threads=THREADS)
    result["ceilings"] = [sample(ceilings, dict(do="ceilings", threads=THREADS), arguments.retries)]
    wanted_bits = {int(bits) for bits in arguments.bits.split(",")}
    for preset in arguments.models.split(","):
        for bits in MODELS[preset][0]:
            if bits in wanted_bits:
                result["rows"] += measure_checkpoint(engine, preset, bits, arguments)
                result["ceilings"].append(sample(ceilings, dict(do="ceilings", threads=THREADS), arguments.retries))
    ceilings.close()
    if "gemma3-1b" in arguments.models and 4 in wanted_bits:
        result["start"] = start_up(engine, arguments)
        result["operations"] = by_operation(engine, arguments)
    result["classification"] = classification(engine, arguments)
    name = "peers" if arguments.peers else "bench"
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = report.write(result, arguments.out, name)
    print(text)
    if arguments.readme:
        quote(name, text)


def quote(name, text):
    """Replaces what README.md quotes of the last run."""
    readme = ROOT / "bench/README.md"
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = readme.read_text().split(begin)
    readme.write_text(before + begin + text + end + rest.split(end)[1])


if __name__ == "__main__":
    main()
