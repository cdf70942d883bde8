"""What is measured, and the bars that issue by issue it must pass."""
from dataclasses import dataclass, field
from typing import Optional

THREADS = 2
MODELS = {  # preset → (bits measured for it, the name people know)
    "gemma3-1b": ((4, 8, 16), "Gemma-3-1B"),
    "llama3.2-1b": ((4, 8, 16), "Llama-3.2-1B"),
    "qwen3-0.6b": ((4, 8, 16), "Qwen3-0.6B"),
}


@dataclass(frozen=True)
class Shape:
    """One line of the table: what both sides are told to do, and how much faster gomlx must be."""

    name: str
    kind: str  # prompt, decode, context, callers, classify
    request: dict = field(hash=False)
    bar: Optional[float] = None


def prompt(tokens, bar=None):
    return Shape(f"prompt {tokens}", "prompt", dict(do="prompt", tokens=tokens), bar)


def decode(sequences, bar=None, steps=32):
    name = f"decode {sequences}" if sequences > 1 else "decode 1 sequence"
    return Shape(name, "decode", dict(do="decode", sequences=sequences, context=32, steps=steps), bar)


def context(tokens, steps=24):
    return Shape(f"decode 1 at {tokens}", "context", dict(do="decode", sequences=1, context=tokens, steps=steps))


def shapes(preset, bits, quick):
    """The shapes of one checkpoint. The bars are those of the table in README.md."""
    if bits == 4:
        chosen = [prompt(16, 1.5), prompt(128, 1.5), prompt(512, 2.0), prompt(2048),
                  decode(1, 1.10), decode(2), decode(4), decode(8, 3.0), decode(16, 3.0), decode(32)]
        if preset == "gemma3-1b":
            chosen += [
                context(2048), context(8192),
                *(Shape(f"{n} callers", "callers", dict(do="callers", callers=n, prompt=16, tokens=48))
                  for n in (1, 2, 4, 8, 16, 32)),
                Shape("classify 200 + 20", "classify", dict(do="classify", shared=200, tokens=20, texts=96), 3.0),
            ]
        if quick:
            wanted = {"prompt 16", "prompt 512", "decode 1 sequence", "decode 8", "decode 16"}
            chosen = [shape for shape in chosen if shape.name in wanted]
        return chosen
    bars = {8: (1.5, 1.05), 16: (1.3, 1.0)}[bits]
    return [prompt(512, bars[0]), decode(1, bars[1])] + ([] if quick else [prompt(128), decode(8)])


def matrix_weights(preset):
    """(weights in the layers' matrices, weights in the head) of a preset."""
    from make_model import PRESETS, matrices

    sizes = [(name, n * k) for name, _, n, k in matrices(PRESETS[preset])]
    head = sum(size for name, size in sizes if name == "model.embed_tokens")
    return sum(size for _, size in sizes) - head, head


def bytes_a_weight(bits):
    """With the scale and bias, two bytes each, that 64 weights share."""
    return 2.0 if bits == 16 else bits / 8 + 4 / 64


def cache_bytes(preset, tokens):
    """Keys and values in f16 of one sequence; sliding layers keep their window."""
    from make_model import PRESETS

    s = PRESETS[preset]
    positions = sum(min(tokens, 512) if s.gemma and (layer + 1) % 6 else tokens for layer in range(s.layers))
    return positions * 2 * s.kv_heads * s.head_dim * 2
