"""Turns what was measured into a table, a list of bars met or missed, and a chart."""
import json
from statistics import median

import operations
from chart import bars_svg
from shapes import MODELS, bytes_a_weight, cache_bytes, matrix_weights
from workers import quiet_share

PEER_NAMES = {"mlx": "mlx-lm", "transformers": "transformers"}
LABEL = {4: "4-bit", 8: "8-bit", 16: "bf16"}


def write(result, folder, name):
    """Writes `name`.md, .json and .svg into `folder`; returns the text of the first."""
    ceilings = {key: max(c[key] for c in result["ceilings"]) for key in ("read", "int8", "bf16", "f32")}
    lines = [figures(row, ceilings) for row in result["rows"]]
    bars = [(*bar[:3], None) if line["noisy"] else bar for line in lines for bar in line["bars"]] + more_bars(result, lines)
    text = markdown(result, ceilings, lines, bars)
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(plain(result), indent=1))
    (folder / f"{name}.svg").write_text(chart(result, lines))
    return text


def plain(result):
    rows = [row | dict(shape=row["shape"].name, request=row["shape"].request) for row in result["rows"]]
    return result | dict(rows=rows)


def figures(row, ceilings):
    """The medians of one line, the ratio with its spread, the share of the ceiling that binds it, and its bars."""
    shape, bits, preset = row["shape"], row["bits"], row["model"]
    rate = median(s["rate"] for s in row["gomlx"])
    line = dict(name=f"{MODELS[preset][1]} {LABEL[bits]}, {shape.name}", model=preset, bits=bits, shape=shape, rate=rate,
                noisy=quiet_share(row["gomlx"] + row["llama"]) < 0.5, bars=[], share=share(shape, preset, bits, row["gomlx"], ceilings))
    if row["llama"]:
        ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(row["gomlx"], row["llama"])]
        line |= dict(llama=median(s["rate"] for s in row["llama"]), ratio=median(ratios), low=min(ratios), high=max(ratios))
        if shape.bar:
            line["bars"].append((line["name"], f"{shape.bar:.2f} × llama.cpp", f"{line['ratio']:.2f} ×", line["ratio"] >= shape.bar))
    if shape.name == "decode 1 sequence" and bits == 4:
        line["bars"].append((line["name"], "92 % of what reading allows", f"{100 * line['share'][0]:.0f} %", line["share"][0] >= 0.92))
    return line


def share(shape, preset, bits, samples, ceilings):
    """(share, of what): a prompt is bound by dot products, decoding by reading memory; None where neither is known.
    What reading gives changes from second to second on a shared machine, so each sample is held against its own."""
    body, head = matrix_weights(preset)
    rate = median(s["rate"] for s in samples)
    if shape.kind == "prompt":
        tokens = shape.request["tokens"]
        operations = 2 * (body * tokens + head)  # only the last position needs the head
        kind = "bf16" if bits == 16 else "int8"
        return operations / (tokens / rate) / ceilings[kind], kind
    if shape.kind in ("decode", "context"):
        sequences, context = shape.request["sequences"], shape.request["context"]
        read = (body + head) * bytes_a_weight(bits) + sequences * cache_bytes(preset, context)
        return median(read * s["rate"] / sequences / s["read"] for s in samples), "read"
    return None


def more_bars(result, lines):
    """The bars that are not ratios of one line: (what, needed, measured, met or None where noise decides)."""
    found = {(line["model"], line["bits"], line["shape"].name): line for line in lines}

    def line(name, key="rate"):
        return found.get(("gemma3-1b", 4, name), {}).get(key)

    def quiet(met, *names):
        return None if any(line(name, "noisy") for name in names) else met

    bars = []
    short, long = line("decode 1 sequence"), line("decode 1 at 8192")
    if long and line("decode 1 at 8192", "llama"):
        ours, theirs = long / short, line("decode 1 at 8192", "llama") / line("decode 1 sequence", "llama")
        bars.append(("Gemma-3-1B 4-bit, speed kept at a context of 8,192", f"{100 * theirs:.0f} % (llama.cpp)", f"{100 * ours:.0f} %",
                     quiet(ours >= theirs, "decode 1 sequence", "decode 1 at 8192")))
    for callers, times in ((8, 4.0), (16, 6.0)):
        if line(f"{callers} callers"):
            got = line(f"{callers} callers") / line("1 callers")
            bars.append((f"Gemma-3-1B 4-bit, {callers} callers against one", f"{times:.0f} ×", f"{got:.2f} ×",
                         quiet(got >= times, f"{callers} callers", "1 callers")))
    if start := result.get("start"):
        seconds = median(s["seconds"] for s in start["gomlx"])
        bars.append(("Gemma-3-1B 4-bit, load and first token of a prompt of 16", "0.25 s", f"{seconds:.3f} s", seconds <= 0.25))
        beyond = (start["resident"]["peak"] - start["resident"]["file"] - cache_bytes("gemma3-1b", 4096)) / 1e6
        bars.append(("Gemma-3-1B 4-bit, memory beyond file and cache at a context of 4,096", "120 MB", f"{beyond:.0f} MB", beyond <= 120))
        idle = start["idle"]["cores"]
        bars.append(("Loaded and idle", "0.1 % of a core", f"{100 * idle:.3f} %", idle < 0.001))
    if found := result.get("operations"):
        share = found["decode"]["operations"]["sampling"] / found["decode"]["step"]
        bars.append(("Gemma-3-1B 4-bit, sampling in a decode step", "2 %", f"{100 * share:.2f} %", share < 0.02))
    if task := result.get("classification"):
        rate = median(s["rate"] for s in task["gomlx"])
        bars.append(("CLINC150 domains, 4,500 sentences", "2,000 a second", f"{rate:.0f} a second", rate >= 2000))
        other = task["alone"]["different"]
        bars.append(("CLINC150 domains, answers that differ from those given one at a time", "0", str(other), other == 0))
        for engine in sorted({s["engine"] for s in task.get("peers", [])}):
            best = max(s["rate"] for s in task["peers"] if s["engine"] == engine)
            bars.append((f"CLINC150 domains, against {PEER_NAMES[engine]} at its best", "3 ×", f"{rate / best:.1f} ×", rate >= 3 * best))
    return bars


def markdown(result, ceilings, lines, bars):
    about, peers = result["about"], "peers" in result["about"]
    out = [f"{about['date']}, {about['machine']}, {about['threads']} threads; {about['rustc']}; gomlx {about['commit']}"
           + (f"; peers: {about['peers']}" if peers else "") + "."]
    out += ["", f"Ceilings measured in this run: reading {ceilings['read'] / 1e9:.1f} GB/s, 8-bit dot products {ceilings['int8'] / 1e12:.2f} Top/s, "
            f"bf16 {ceilings['bf16'] / 1e12:.2f} Tflop/s, f32 {ceilings['f32'] / 1e12:.2f} Tflop/s.", ""]
    head = ["work", "gomlx", "share of ceiling"] + (["llama.cpp", "ratio", "spread", "bar"] if peers else [])
    out += [cells(head), cells(["---"] + ["--:"] * (len(head) - 1))]
    for line in lines:
        share = f"{100 * line['share'][0]:.0f} % {line['share'][1]}" if line["share"] else ""
        row = [line["name"] + (" ~" if line["noisy"] else ""), f"{line['rate']:.1f}", share]
        if peers:
            bar = f"{line['shape'].bar:.2f}" if line["shape"].bar else ""
            row += [f"{line['llama']:.1f}", f"{line['ratio']:.2f}", f"{line['low']:.2f}–{line['high']:.2f}", bar]
        out.append(cells(row))
    out += ["", "Rates are tokens a second (classification: texts a second), medians of the rounds, all sequences together."]
    if any(line["noisy"] for line in lines):
        out.append("`~`: other processes used the machine during most of this line's samples.")
    out += start_lines(result, peers)
    if bars:
        out += ["", cells(["bar", "needed", "measured", ""]), cells(["---", "--:", "--:", "---"])]
        out += [cells([what, needed, measured, "met" if met else "**missed**" if met is False else "too noisy to say"]) for what, needed, measured, met in bars]
    if found := result.get("operations"):
        out += ["", "Gemma-3-1B 4-bit by operation, all layers together (medians, from a trace written meanwhile):", ""]
        out += operations.markdown(found["decode"], found["prompt"])
    return "\n".join(out) + "\n"


def start_lines(result, peers):
    out = []
    if start := result.get("start"):
        ours = median(s["seconds"] for s in start["gomlx"])
        loading = median(s["load"] for s in start["gomlx"])
        out += ["", f"Load and first token (prompt of 16, files in the page cache): {ours:.3f} s, {loading:.3f} s of it loading"
                + (f"; llama.cpp {median(s['seconds'] for s in start['llama']):.3f} s" if peers else "") + "."]
        resident = start["resident"]
        out.append(f"Resident with a full context of 4,096: {resident['resident'] / 1e6:.0f} MB (peak {resident['peak'] / 1e6:.0f}), "
                   f"the file is {resident['file'] / 1e6:.0f}"
                   + (f"; llama.cpp in Python {start['resident_llama']['resident'] / 1e6:.0f} MB" if peers else "") + ".")
        out.append(f"Loaded and idle: {100 * start['idle']['cores']:.3f} % of a core.")
    if task := result.get("classification"):
        first = task["gomlx"][0]
        out.append(f"CLINC150 domains: {first['right']} of {first['texts']} right, "
                   f"{median(s['rate'] for s in task['gomlx']):.0f} sentences a second.")
        out.append(f"The same one sentence at a time: {task['alone']['right']} right, {task['alone']['rate']:.0f} a second.")
        for other in task.get("peers", []):
            out.append(f"{PEER_NAMES[other['engine']]}, {other['way']}, batches of {other['batch']}: {other['right']} of {other['texts']} right, {other['rate']:.1f} a second.")
    return out


def cells(row):
    return "| " + " | ".join(row) + " |"


def chart(result, lines):
    if "peers" in result["about"]:
        rows = [(line["name"], line["ratio"], f"{line['ratio']:.2f} ×", line["shape"].bar) for line in lines]
        return bars_svg("gomlx against llama.cpp (× its rate; the tick is the bar)", rows, unit_line=1.0)
    rows = [(line["name"], 100 * line["share"][0], f"{100 * line['share'][0]:.0f} % of {line['share'][1]}, {line['rate']:.0f}/s", None)
            for line in lines if line["share"]]
    return bars_svg("gomlx: share of the ceiling that binds (%), tokens a second", rows, unit_line=100.0)
