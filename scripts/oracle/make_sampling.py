#!/usr/bin/env python3
"""Makes tests/golden/sampling.json: which tokens stay and with what probability, by transformers' own logits processors.

The list of processors and its order come from `generate` itself (`_get_logits_processor`), computed in float64. transformers has no presence and
frequency penalties: OpenAI's formula, logit - count·frequency - (count > 0)·presence over the answer's tokens, is handed to it as a custom
processor, which it puts after its own penalties and before temperature.
"""

import json
import math

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

import golden

PATH = golden.GOLDEN / "sampling.json"
CLEAR = 1e-5  # no token may lie nearer than this to the border of a filter, in share of probability

# name -> (vocabulary, std of the logits, step they are rounded to)
VECTORS = {
    "flat50": (50, 1.0, 0.001),
    "sharp50": (50, 2.5, 0.001),
    "ties50": (50, 2.0, 0.5),  # many equal logits: for top-k, whose border keeps all equals
    "flat1000": (1000, 1.5, 0.001),
    "sharp1000": (1000, 3.5, 0.001),
}

ORDER = ["SequenceBiasLogitsProcessor", "RepetitionPenaltyLogitsProcessor", "OpenAiPenalties", "TemperatureLogitsWarper", "TopKLogitsWarper",
         "TopPLogitsWarper", "MinPLogitsWarper", "TypicalLogitsWarper"]  # fmt: skip

CASES = [
    ("plain", "flat50", {}),
    ("plain", "flat1000", {}),
    ("cooler", "flat50", {"temperature": 0.3}),
    ("hotter", "sharp50", {"temperature": 1.7}),
    ("top-k 1", "flat50", {"top_k": 1}),
    ("top-k 10", "flat50", {"top_k": 10}),
    ("top-k beyond the vocabulary", "sharp50", {"top_k": 60}),
    ("top-k 40", "flat1000", {"top_k": 40}),
    ("top-k with ties", "ties50", {"top_k": 9}),
    ("top-p 0.9", "flat50", {"top_p": 0.9}),
    ("top-p 0.7", "sharp50", {"top_p": 0.7}),
    ("top-p 0.01", "flat1000", {"top_p": 0.01}),
    ("top-p 0.8", "sharp1000", {"top_p": 0.8}),
    ("min-p 0.05", "flat50", {"min_p": 0.05}),
    ("min-p 0.06", "sharp50", {"min_p": 0.06}),
    ("min-p 0.1", "flat1000", {"min_p": 0.1}),
    ("typical 0.2", "flat50", {"typical_p": 0.2}),
    ("typical 0.9", "sharp50", {"typical_p": 0.9}),
    ("typical 0.5", "sharp1000", {"typical_p": 0.5}),
    ("typical 0.3", "flat1000", {"typical_p": 0.3, "temperature": 0.7}),
    ("repetition 1.3", "flat50", {"repetition_penalty": 1.3}),
    ("repetition below 1", "sharp50", {"repetition_penalty": 0.8}),
    ("presence", "flat50", {"presence_penalty": 0.6}),
    ("frequency", "flat50", {"frequency_penalty": 0.4}),
    ("both negative", "sharp50", {"presence_penalty": -0.5, "frequency_penalty": -0.25}),
    ("bias", "flat50", {"logit_bias": [[3, 2.5], [7, -1.5], [49, -100.0]]}),
    ("bias, then repetition of a biased token", "flat50", {"logit_bias": [[3, 4.0], [4, -4.0]], "repetition_penalty": 1.5}),
    ("all penalties and bias", "flat50",
     {"logit_bias": [[3, 1.0], [9, -2.0]], "repetition_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.2}),
    ("temperature before top-p", "flat50", {"temperature": 0.5, "top_p": 0.8}),
    ("temperature before min-p", "flat50", {"temperature": 2.0, "min_p": 0.2}),
    ("temperature before typical", "sharp50", {"temperature": 1.5, "typical_p": 0.6}),
    ("top-k before top-p", "flat1000", {"top_k": 30, "top_p": 0.7}),
    ("top-p before min-p", "flat1000", {"top_p": 0.6, "min_p": 0.2}),
    ("top-p before typical", "sharp1000", {"top_p": 0.9, "typical_p": 0.6}),
    ("min-p before typical", "flat50", {"min_p": 0.1, "typical_p": 0.5}),
    ("all filters", "flat50", {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "typical_p": 0.8}),
    ("all filters", "sharp1000", {"temperature": 1.3, "top_k": 50, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.85}),
    ("everything", "flat50",
     {"temperature": 0.9, "top_k": 25, "top_p": 0.9, "min_p": 0.03, "typical_p": 0.9, "repetition_penalty": 1.15, "presence_penalty": 0.4,
      "frequency_penalty": 0.3, "logit_bias": [[11, 1.5]]}),
    ("everything", "flat1000",
     {"temperature": 0.7, "top_k": 60, "top_p": 0.95, "min_p": 0.05, "typical_p": 0.95, "repetition_penalty": 1.1, "presence_penalty": 0.2,
      "frequency_penalty": 0.1, "logit_bias": [[500, 3.0], [2, -3.0]]}),
]  # fmt: skip


class OpenAiPenalties(LogitsProcessor):
    def __init__(self, answer, presence, frequency):
        self.answer, self.presence, self.frequency = answer, presence, frequency

    def __call__(self, input_ids, scores):
        count = torch.bincount(torch.tensor(self.answer), minlength=scores.shape[-1]).to(scores.dtype)
        return scores - self.frequency * count - self.presence * (count > 0)


def processors(settings, answer, model):
    """What `generate` would apply for these settings, in its order."""
    known = {k: settings[k] for k in ("temperature", "top_p", "min_p", "typical_p", "repetition_penalty") if k in settings}
    known["top_k"] = settings.get("top_k", 0)  # transformers' default would be 50
    if "logit_bias" in settings:
        known["sequence_bias"] = [[[i], b] for i, b in settings["logit_bias"]]
    config = GenerationConfig(do_sample=True, **known)
    own = LogitsProcessorList()
    if "presence_penalty" in settings or "frequency_penalty" in settings:
        own.append(OpenAiPenalties(answer, settings.get("presence_penalty", 0.0), settings.get("frequency_penalty", 0.0)))
    return model._get_logits_processor(config, input_ids_seq_length=1, logits_processor=own, device="cpu", model_kwargs={})


def apply(list_, context, logits):
    return list_(torch.tensor([context]), logits.clone()[None])[0]


def distribution(settings, logits, prompt, answer, model):
    """(ids that stay, their probabilities), or None where a token lies so near to a border that rounding could decide."""
    ours = processors(settings, answer, model)
    scores = apply(ours, prompt + answer, logits.double())
    kept = torch.isfinite(scores)
    nudged = {k: settings[k] for k in settings}
    for sign in (-1, 1):
        for k in ("top_p", "min_p", "typical_p"):
            if k in settings:
                nudged[k] = settings[k] * (1 + sign * CLEAR)
        other = apply(processors(nudged, answer, model), prompt + answer, logits.double())
        if not torch.equal(torch.isfinite(other), kept):
            return None
    in_float32 = apply(ours, prompt + answer, logits.float())
    if not torch.equal(torch.isfinite(in_float32), kept):
        return None
    return kept.nonzero()[:, 0].tolist(), scores.softmax(-1)[kept].tolist()


def check_case(name, settings, ids, logits, context, ours):
    """A case is worth its place only if what its name says decides it."""
    if name == "top-k with ties":
        assert len(ids) > settings["top_k"], len(ids)
    if "before" in name:
        swapped = apply(LogitsProcessorList(reversed(ours)), context or [0], logits)
        assert torch.isfinite(swapped).nonzero()[:, 0].tolist() != ids, f"{name}: the other order keeps the same"
    if name == "everything":
        order = [type(x).__name__ for x in ours]
        assert order == ORDER, order


def vector(vocab, std, step, seed):
    g = np.random.default_rng(seed)
    steps = np.round(g.standard_normal(vocab) * std / step).astype(int)
    if step == 0.001:  # one of each value, so that no order of equals decides
        taken = set()
        for i, v in enumerate(steps):
            while v in taken:
                v += 1
            taken.add(v)
            steps[i] = v
    return [round(float(v * step), 3) for v in steps], g


def significant(x, digits=8):
    return 0.0 if x == 0.0 else round(x, digits - 1 - math.floor(math.log10(abs(x))))


def build(model):
    logits, contexts = {}, {}
    for n, (name, (vocab, std, step)) in enumerate(VECTORS.items()):
        logits[name], g = vector(vocab, std, step, 100 + n)
        pick = lambda count: [int(i) for i in g.integers(0, min(vocab, 60), count)]  # repeats are likely
        contexts[name] = (pick(8) + [3, 4], pick(14) + [5, 5, 9])
    cases = []
    for name, key, settings in CASES:
        prompt, answer = contexts[key] if any(k.endswith("penalty") for k in settings) else ([], [])
        found = distribution(settings, torch.tensor(logits[key], dtype=torch.float64), prompt or [0], answer, model)
        assert found, f"{name} on {key}: a token lies on a border; change the case"
        ids, p = found
        check_case(name, settings, ids, torch.tensor(logits[key], dtype=torch.float64), prompt + answer, processors(settings, answer, model))
        assert abs(sum(p) - 1) < 1e-12
        case = {"name": f"{name}, {key}", "logits": key, "settings": settings, "prompt": prompt, "answer": answer, "ids": ids}
        cases.append(case | {"probabilities": [significant(x) for x in p]})
    return {"logits": logits, "cases": cases}


def compact(document):
    """One line a vector and a case."""
    dump = lambda x: json.dumps(x, separators=(",", ":"))
    vectors = ",\n".join(f"{dump(k)}:{dump(v)}" for k, v in document["logits"].items())
    cases = ",\n".join(dump(c) for c in document["cases"])
    return f'{{"logits":{{\n{vectors}\n}},"cases":[\n{cases}\n]}}\n'


def main():
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
    document = build(model)
    PATH.write_text(compact(document))
    assert json.loads(PATH.read_text()) == document
    for c in document["cases"]:
        print(f"{c['name']:52} {len(c['ids']):4} stay, largest {max(c['probabilities']):.4f}")
    print(f"{PATH.stat().st_size / 1000:.0f} kB")


main()
