"""Time by operation and by layer, from the trace that the engine writes itself (GOMLX_TRACE)."""
import json
from collections import defaultdict
from statistics import median


def read(path, rows):
    """The steps of `rows` rows: milliseconds of the median step, of each operation (all layers together), and of each layer."""
    with open(path) as file:
        spans = [event for event in json.load(file) if event["ph"] == "X"]
    steps = [span for span in spans if span["name"] == "step" and span["args"]["rows"] == rows]
    threads = {step["tid"] for step in steps}
    inner = sorted((span for span in spans if span["name"] != "step" and span["tid"] in threads), key=lambda span: span["ts"])
    operations, layers = defaultdict(list), defaultdict(list)
    at = 0
    for step in sorted(steps, key=lambda span: span["ts"]):
        by_name, by_layer = defaultdict(float), defaultdict(float)
        while at < len(inner) and inner[at]["ts"] < step["ts"]:
            at += 1
        while at < len(inner) and inner[at]["ts"] < step["ts"] + step["dur"]:
            span = inner[at]
            by_name[span["name"]] += span["dur"] / 1000
            if "layer" in span["args"]:
                by_layer[span["args"]["layer"]] += span["dur"] / 1000
            at += 1
        by_name["between operations"] = step["dur"] / 1000 - sum(by_name.values())
        for name, took in by_name.items():
            operations[name].append(took)
        for layer, took in by_layer.items():
            layers[layer].append(took)
    last = max(layers)  # holds the last norm only
    return dict(rows=rows, steps=len(steps), step=median(step["dur"] / 1000 for step in steps),
                operations={name: median(took) for name, took in operations.items()},
                layers=[median(layers[layer]) for layer in sorted(layers) if layer != last])


def markdown(decode, prompt):
    """A table of both, the longest operation first."""
    def share(side, name):
        took = side["operations"].get(name, 0.0)
        return [f"{took:.3f}", f"{100 * took / side['step']:.1f} %"]

    names = sorted(decode["operations"] | prompt["operations"],
                   key=lambda name: -decode["operations"].get(name, 0.0) - prompt["operations"].get(name, 0.0) / prompt["rows"])
    lines = [["operation", "decode 1, ms", "share", f"prompt {prompt['rows']}, ms", "share"],
             ["---", "--:", "--:", "--:", "--:"]]
    lines += [[name, *share(decode, name), *share(prompt, name)] for name in names]
    lines.append(["**step**", f"{decode['step']:.3f}", "", f"{prompt['step']:.3f}", ""])
    out = ["| " + " | ".join(line) + " |" for line in lines]
    for name, side in (("decode 1", decode), (f"prompt {prompt['rows']}", prompt)):
        took = side["layers"]
        out.append("")
        out.append(f"A layer, {name}: {median(took):.3f} ms ({min(took):.3f}–{max(took):.3f} over {len(took)} layers).")
    return out
