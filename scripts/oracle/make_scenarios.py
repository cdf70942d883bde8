#!/usr/bin/env python3
"""Fills in what tests/scenarios/*.json expect: texts and token counts by transformers, in float32.

A scenario whose `expect` has a `text` gets it anew: mlx's own dequantisation unpacks the checkpoint in float32, transformers runs it, greedily;
stop texts are cut off here. Everything else in the files is written by hand and left as it is.
"""

import json
from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

ROOT = Path(__file__).resolve().parents[2]


@cache
def load(name):
    """The model in float32, and its tokenizer."""
    folder = ROOT / "models" / name
    config = AutoConfig.from_pretrained(folder)
    quantisation = config.quantization
    for key in ("quantization", "quantization_config"):
        delattr(config, key)
    stored = mx.load(str(folder / "model.safetensors"))
    state = {}
    for key, value in stored.items():
        base = key.removesuffix(".weight")
        if key.endswith((".scales", ".biases")):
            continue
        if f"{base}.scales" in stored:
            scales, biases = (stored[f"{base}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
            value = mx.dequantize(value, scales, biases, quantisation["group_size"], quantisation["bits"])
        state[key] = torch.from_numpy(np.array(value.astype(mx.float32)))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("lm_head" in key for key in missing), (missing, unexpected)
    model.tie_weights()
    return model, AutoTokenizer.from_pretrained(folder)


class Bias(LogitsProcessor):
    """Adds numbers to single tokens' logits."""

    def __init__(self, entries):
        self.entries = entries

    def __call__(self, ids, scores):
        for entry in self.entries:
            scores[:, entry["token"]] += entry["bias"]
        return scores


def prompt_of(request, tokenizer):
    if "tokens" in request:
        return request["tokens"]
    if "prompt" in request:
        return tokenizer(request["prompt"])["input_ids"]
    messages = request.get("messages") or json.loads(request["messages_json"])
    variables = json.loads(request.get("template_variables", "{}"))
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **variables)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def fill(scenario):
    request, expect = scenario["request"], scenario["expect"]
    assert scenario["options"]["precision"] == "exact" and request.get("temperature", 0) == 0, scenario["name"]
    model, tokenizer = load(scenario["model"])
    prompt = prompt_of(request, tokenizer)
    context = scenario["options"].get("context_length", model.config.max_position_embeddings)
    room = min(context - len(prompt), request.get("max_tokens", context))
    eos = model.generation_config.eos_token_id
    eos = list(eos) if isinstance(eos, (list, tuple)) else [eos]
    ends = ([] if "ignore_end" in request.get("flags", []) else eos) + request.get("stop_tokens", [])
    ids = torch.tensor([prompt])
    with torch.no_grad():
        answer = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=room,
            eos_token_id=ends or None,
            pad_token_id=0,
            repetition_penalty=request.get("repetition_penalty", 1.0),
            logits_processor=[Bias(request.get("logit_bias", []))],
        )[0, len(prompt) :].tolist()
    if answer and answer[-1] in ends:
        answer = answer[:-1]
    shown = prompt + answer if "echo" in request.get("flags", []) else answer
    text = tokenizer.decode(shown, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    cuts = [text.find(stop) for stop in request.get("stop", []) if stop in text]
    expect["text"] = text[: min(cuts)] if cuts else text
    expect["prompt_tokens"] = len(prompt)


def main():
    for path in sorted((ROOT / "tests/scenarios").glob("*.json")):
        scenarios = json.loads(path.read_text())
        for scenario in scenarios:
            if "text" in scenario["expect"]:
                fill(scenario)
                print(path.name, scenario["name"], repr(scenario["expect"]["text"]))
        path.write_text(json.dumps(scenarios, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
