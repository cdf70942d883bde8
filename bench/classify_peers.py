#!/usr/bin/env python3
"""mlx-lm or transformers as a peer for classification, told what to do on standard input, one JSON object a line.

    classify_peers.py mlx|transformers
    {"do": "open", "model": DIR}
    {"do": "domains", "texts": TSV, "template": …, "labels": […], "most": 256, "way": "float32"}
        → {"rate": texts a second, "right": …, "texts": …, "batch": …}

Ways of mlx: "float32" (4-bit weights, float32 activations), "dense float32" (dequantised once); as stored, with
bfloat16 activations, its CPU device takes minutes for what these do in seconds. transformers reads no MLX checkpoint: it gets the dequantised
weights, "dense float32" or "dense bfloat16". Texts are sorted by length and padded to the right (attention is causal,
so padding changes nothing); the batch size is the best of a probe; the head sees only each text's last position.
"""
import json
import sys
import time

import numpy as np


class Mlx:
    def __init__(self, path, way):
        import mlx.core as mx
        import mlx.nn as nn
        from mlx.utils import tree_map, tree_unflatten
        from mlx_lm import load

        mx.set_default_device(mx.cpu)
        self.mx = mx
        self.model, tokenizer = load(path)
        self.encode = tokenizer.encode
        self.model.update(tree_map(lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a,
                                   self.model.parameters()))
        if way == "dense float32":
            new = []
            for name, layer in self.model.named_modules():
                if isinstance(layer, (nn.QuantizedLinear, nn.QuantizedEmbedding)):
                    embedding = isinstance(layer, nn.QuantizedEmbedding)
                    plain = nn.Embedding(1, 1) if embedding else nn.Linear(1, 1, bias=False)
                    plain.weight = mx.dequantize(layer.weight, layer.scales, layer.biases, layer.group_size, layer.bits)
                    new.append((name, plain))
            self.model.update_modules(tree_unflatten(new))

    def logits(self, tokens, last):
        mx = self.mx
        hidden = self.model.model(mx.array(tokens))[mx.arange(len(last)), mx.array(last)]
        return np.array(self.model.model.embed_tokens.as_linear(hidden).astype(mx.float32))


class Transformers:
    def __init__(self, path, way):
        import mlx.core as mx
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

        torch.set_num_threads(2)
        self.torch = torch
        config = AutoConfig.from_pretrained(path)
        quantisation = json.load(open(f"{path}/config.json"))["quantization"]
        for key in ("quantization", "quantization_config"):
            if hasattr(config, key):
                delattr(config, key)
        stored, weights = mx.load(f"{path}/model.safetensors"), {}
        for name, value in stored.items():
            base = name.removesuffix(".weight")
            if f"{base}.scales" in stored and name.endswith(".weight"):
                value = mx.dequantize(value, stored[f"{base}.scales"], stored[f"{base}.biases"],
                                      quantisation["group_size"], quantisation["bits"])
            if not name.endswith((".scales", ".biases")):
                weights[name] = torch.from_numpy(np.array(value.astype(mx.float32)))
        self.model = AutoModelForCausalLM.from_config(config)
        missing = self.model.load_state_dict(weights, strict=False)
        assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
        self.model.tie_weights()
        self.model = self.model.to(torch.bfloat16 if way == "dense bfloat16" else torch.float32).eval()
        self.encode = PreTrainedTokenizerFast.from_pretrained(path).encode

    def logits(self, tokens, last):
        torch = self.torch
        with torch.inference_mode():
            hidden = self.model.model(torch.from_numpy(tokens).long(), use_cache=False).last_hidden_state
            return self.model.lm_head(hidden[torch.arange(len(last)), torch.tensor(last)]).float().numpy()


def answers(model, prompts, labels, batch):
    """The index of the most probable label for every prompt, by the labels' first tokens."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    result = [None] * len(prompts)
    for first in range(0, len(order), batch):
        chosen = order[first:first + batch]
        tokens = np.zeros((len(chosen), len(prompts[chosen[-1]])), np.int32)
        for row, i in enumerate(chosen):
            tokens[row, :len(prompts[i])] = prompts[i]
        logits = model.logits(tokens, [len(prompts[i]) - 1 for i in chosen])
        for i, label in zip(chosen, logits[:, labels].argmax(axis=1)):
            result[i] = int(label)
    return result


def domains(engine, path, texts, template, labels, most, way):
    model = engine(path, way)
    rows = [line.split("\t") for line in open(texts).read().splitlines()[1:]]
    rows = rows[:: max(1, len(rows) // most)][:most]  # from all over the table, which is sorted by intent
    firsts = [model.encode(label, add_special_tokens=False)[0] for label in labels]
    prompts = [model.encode(template.replace("{text}", row[0])) for row in rows]
    rates = {}
    for batch in (1, 8, 32):
        few = prompts[:batch]
        answers(model, few, firsts, batch)
        begin = time.perf_counter()
        answers(model, few, firsts, batch)
        rates[batch] = len(few) / (time.perf_counter() - begin)
    batch = max(rates, key=rates.get)
    begin = time.perf_counter()
    prompts = [model.encode(template.replace("{text}", row[0])) for row in rows]
    found = answers(model, prompts, firsts, batch)
    seconds = time.perf_counter() - begin
    right = sum(labels[label].strip() == row[2].replace("_", " ") for label, row in zip(found, rows))
    return dict(rate=len(rows) / seconds, seconds=seconds, right=right, texts=len(rows), batch=batch, way=way)


def main():
    engine = {"mlx": Mlx, "transformers": Transformers}[sys.argv[1]]
    path = None
    for line in sys.stdin:
        request = json.loads(line)
        if request.pop("do") == "open":
            path = request["model"]
            answer = dict(engine=sys.argv[1])
        else:
            answer = domains(engine, path, **request) | dict(engine=sys.argv[1])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
