#!/usr/bin/env python3
"""Makes tests/golden/quant/: small checkpoints quantised and saved by mlx-lm, with logits of mlx's own dequantisation.

    make_quantised.py [NAME ...]        (everything, matrix.safetensors too, without a name)

For 2, 3, 4, 5, 6 and 8 bits × groups of 32, 64 and 128: mlx-lm's `convert` writes the folder, `mx.dequantize` unpacks it in float32 (scales and
biases cast up first), and transformers computes the logits from that in float32. mlx-lm's own forward in float32 must agree within 1e-4.
"""

import contextlib
import io
import json
import shutil
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import mlx.core as mx
import mlx_lm
import mlx_lm.utils
import numpy as np
import torch
from mlx.utils import tree_map
from safetensors.numpy import load_file as load_numpy
from safetensors.numpy import save_file as save_numpy
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen2Config, Qwen3Config

import golden
import tiny_tokenizer
from tiny_tokenizer import BOS, EOS, PAD, VOCAB

QUANT = golden.GOLDEN / "quant"
LAST = 4
BITS, GROUPS, SCALES = (2, 3, 4, 5, 6, 8), (32, 64, 128), ("f32", "f16", "bf16")
MX = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
ROPE = dict(rope_type="default", rope_theta=10000.0)

# Two or three groups along every K where that fits in some ten kB.
SHAPES = {
    32: dict(hidden_size=96, intermediate_size=96, num_attention_heads=3, num_key_value_heads=1, head_dim=32, num_hidden_layers=1),
    64: dict(hidden_size=64, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_hidden_layers=1),
    128: dict(hidden_size=128, intermediate_size=256, num_attention_heads=4, num_key_value_heads=1, head_dim=32, num_hidden_layers=1),
}
COMMON = dict(vocab_size=VOCAB, max_position_embeddings=256, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, tie_word_embeddings=True)

FAMILIES = {
    "llama": lambda shape: LlamaConfig(**COMMON | shape, rope_parameters=ROPE),
    "qwen2": lambda shape: Qwen2Config(**COMMON | shape, rope_parameters=ROPE),
    "qwen3": lambda shape: Qwen3Config(**COMMON | shape, rope_parameters=ROPE),
    # Hidden 64 only: mlx-lm rounds Gemma's sqrt(hidden) to bfloat16, transformers in float32 does not; 8 is 8 in both.
    "gemma3": lambda shape: Gemma3TextConfig(
        **COMMON | shape | dict(num_hidden_layers=2, intermediate_size=128), sliding_window=8, query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={"sliding_attention": ROPE, "full_attention": ROPE | {"rope_theta": 1e6}}),
}  # fmt: skip
OTHER_FAMILY = {(4, 64): "gemma3", (6, 64): "qwen3", (5, 32): "qwen2", (8, 64): "gemma3", (4, 32): "qwen3", (3, 128): "qwen2"}


@dataclass
class Variant:
    config: object
    bits: int
    group: int
    scales: str
    why: str
    predicate: Callable | None = None
    left_out: tuple = ()


def all_variants():
    out = {}
    for i, bits in enumerate(BITS):
        for j, group in enumerate(GROUPS):
            scales, family = SCALES[(i + j) % 3], OTHER_FAMILY.get((bits, group), "llama")
            config = FAMILIES[family](SHAPES[group])
            out[f"{family}-{bits}bit-g{group}-{scales}"] = Variant(config, bits, group, scales, f"{family}, {bits} bits, groups of {group}, {scales} scales")
    overrides = {
        "model.embed_tokens": {"bits": 6, "group_size": 32},
        "model.layers.0.self_attn.v_proj": {"bits": 8, "group_size": 64},
        "model.layers.1.mlp.down_proj": {"bits": 3, "group_size": 128},
        "lm_head": {"bits": 8, "group_size": 32},
    }
    left_out = ("model.layers.1.mlp.gate_proj",)
    config = LlamaConfig(
        **COMMON | SHAPES[64] | dict(num_hidden_layers=2, intermediate_size=128, tie_word_embeddings=False, head_dim=16), rope_parameters=ROPE
    )
    out["llama-mixed"] = Variant(
        config, 4, 64, "bf16", "bits and groups of four layers differ from the rest, one layer is `false` in the config and plain bf16, untied",
        lambda path, module: False if path in left_out else overrides.get(path, True), left_out,
    )  # fmt: skip
    return out


def write_source(folder, variant, seed):
    """The unquantised checkpoint, with yesterday's keys beside today's: mlx-lm reads the former, transformers the latter."""
    model = AutoModelForCausalLM.from_config(variant.config, dtype=TORCH[variant.scales])
    gemma = variant.config.model_type == "gemma3_text"
    # Scores and layers calm enough that a forward pass with 8-bit activations stays near 2 %.
    one = variant.config.hidden_size**-0.5
    golden.randomise(model, seed, scale=lambda n: 1.5 * one if "v_proj" in n or "o_proj" in n else one, embed=0.35 if gemma else 1.0)
    # The head is tied: without random signs in the last norm every token would mostly follow itself.
    norm = model.model.norm.weight
    sign = torch.randint(0, 2, norm.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    shift = 1.0 if gemma else 0.0
    norm.copy_((norm.float() + shift) * sign - shift)
    model.save_pretrained(folder)
    path = folder / "config.json"
    c = json.loads(path.read_text())
    rope = c["rope_parameters"]
    c["torch_dtype"] = c["dtype"]
    if gemma:
        c |= {"rope_theta": rope["full_attention"]["rope_theta"], "rope_local_base_freq": rope["sliding_attention"]["rope_theta"]}
        c["sliding_window_pattern"] = 2
        c.pop("_sliding_window_pattern")
    else:
        c["rope_theta"] = rope["rope_theta"]
    path.write_text(json.dumps(c))
    return tiny_tokenizer.save(folder)


def quantise(source, folder, variant):
    """What `mlx_lm.convert -q` does, less the model card it writes."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        mlx_lm.convert(
            str(source), str(folder), quantize=True, q_bits=variant.bits, q_group_size=variant.group,
            dtype={"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[variant.scales], quant_predicate=variant.predicate,
        )  # fmt: skip
    (folder / "README.md").unlink(missing_ok=True)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    shutil.copy(source / "tokenizer.json", folder)  # the same, not pretty-printed
    if variant.left_out:
        path = folder / "config.json"
        c = json.loads(path.read_text())
        for block in ("quantization", "quantization_config"):
            c[block] |= {name: False for name in variant.left_out}
        path.write_text(json.dumps(c, indent=4))


def quant_of(block, name):
    """(group size, bits) of a layer by the config's block and its overrides."""
    own = block.get(name, {}) or {}
    return own.get("group_size", block["group_size"]), own.get("bits", block["bits"])


def dequantised(folder):
    """name -> float32 torch tensor, every packed matrix unpacked by mlx from scales and biases cast to float32."""
    block = json.loads((folder / "config.json").read_text())["quantization"]
    raw, out = mx.load(str(folder / "model.safetensors")), {}
    for name, a in raw.items():
        layer, _, kind = name.rpartition(".")
        if kind in ("scales", "biases"):
            continue
        if kind == "weight" and f"{layer}.scales" in raw:
            group, bits = quant_of(block, layer)
            a = mx.dequantize(a, raw[f"{layer}.scales"].astype(mx.float32), raw[f"{layer}.biases"].astype(mx.float32), group_size=group, bits=bits)
        out[name] = torch.from_numpy(np.array(a.astype(mx.float32)))
    return out


def reference(folder):
    """transformers' model in float32 with mlx's dequantised weights."""
    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    missing, unexpected = model.load_state_dict(dequantised(folder), strict=False)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    assert set(missing) <= tied and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def mlx_logits(folder, ids):
    """mlx-lm's own forward of the packed folder, all floating-point parameters cast to float32."""
    model, _ = mlx_lm.utils.load_model(folder)
    model.update(tree_map(lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a, model.parameters()))
    return np.array(model(mx.array([ids]))[0])


def with_8_bit_activations(model, ids, group):
    """Logits when every matrix sees its input rounded to 8 bits per group: what a fast integer kernel may do, to know how well conditioned this is."""

    def rounded(module, args):
        x = args[0]
        g = x.reshape(*x.shape[:-1], -1, group)
        s = g.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
        return ((g / s).round() * s).reshape(x.shape)

    hooks = [m.register_forward_pre_hook(rounded) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    out = golden.logits_of(model, ids)[-LAST:]
    for h in hooks:
        h.remove()
    return out


def least_matrix(model, ids, logits):
    """The smallest relative change of the logits when one matrix of the layers is all zeros, and its name."""
    out = []
    for name, m in model.named_modules():
        if isinstance(m, torch.nn.Linear) and name != "lm_head":
            kept = m.weight.clone()
            m.weight.zero_()
            out.append((golden.relative_error(golden.logits_of(model, ids)[-LAST:], logits), name.removeprefix("model.layers.")))
            m.weight.copy_(kept)
    return min(out)


def make(name, variant):
    folder, first = QUANT / name, zlib.crc32(name.encode()) % 10**6
    text = golden.PROMPTS[first % len(golden.PROMPTS)]
    for seed in range(first, first + 100):
        with tempfile.TemporaryDirectory() as tmp:
            ids = write_source(Path(tmp), variant, seed).encode(text)
            quantise(Path(tmp), folder, variant)
        model = reference(folder)
        found, margin = golden.compute(model, ids, LAST)
        if golden.good(found, margin):
            break
    else:
        sys.exit(f"{name}: no seed gives a telling continuation; the last: {found['greedy'].tolist()}, margin {margin:.4f}")
    # From the saved folder again, in float64, and by mlx-lm.
    noise = golden.relative_error(found["logits"], golden.logits_of(reference(folder).double(), ids)[-LAST:])
    assert noise < 2e-5, f"{name}: too chaotic for a golden: {noise:.1e}"
    mlx = mlx_logits(folder, ids)
    theirs = golden.relative_error(mlx[-LAST:], found["logits"])
    assert theirs < 1e-4, f"{name}: mlx-lm differs by {theirs:.1e}"
    assert (mlx.argmax(-1) == found["argmax"]).all()
    dtypes = {k.rpartition(".")[2]: str(v.dtype) for k, v in mx.load(str(folder / "model.safetensors")).items()}
    assert dtypes["scales"] == dtypes["biases"] == str(MX[variant.scales]), dtypes
    fast = golden.relative_error(with_8_bit_activations(model, ids, min(variant.group, 64)), found["logits"])
    least, where = least_matrix(model, ids, found["logits"])
    assert least > 0.1, f"{name}: {where} changes next to nothing: {least:.2f}"
    golden.save_golden(folder, found, {"prompt": text, "variant": variant.why, "seed": str(seed), "quantised_by": f"mlx-lm, mlx {mx.__version__}"})
    print(
        f"{name:24} T {len(ids):3}  f64 {noise:.0e}  mlx-lm {theirs:.0e}  8-bit activations {fast:.1e}  margin {margin:.3f}  least {least:.2f} {where:20} {golden.folder_bytes(folder) / 1000:6.1f} kB",
        flush=True,
    )


def make_matrix():
    """One [6, 256] matrix a combination of bits, group and scale type, its packed form and mlx's float32 dequantisation."""
    rng, tensors = np.random.default_rng(7), {}
    for i, bits in enumerate(BITS):
        for j, group in enumerate(GROUPS):
            scales = SCALES[(i + j) % 3]
            w = rng.standard_normal((6, 256), dtype=np.float32) * rng.uniform(0.05, 2.0, (6, 1)).astype(np.float32)
            w[1] = np.abs(w[1])  # a row of one sign
            w[2, :group] = 0.0  # a group of zeros
            w[3, :group] = 0.75  # a group of one value
            w[4, 5] = 40.0  # an outlier
            q, s, b = mx.quantize(mx.array(w).astype(MX[scales]), group_size=group, bits=bits)
            d = mx.dequantize(q, s.astype(mx.float32), b.astype(mx.float32), group_size=group, bits=bits)
            assert d.dtype == mx.float32 and bool(mx.isfinite(d).all())
            key = f"{bits}bit-g{group}-{scales}"
            tensors |= {f"{key}.weight": q, f"{key}.scales": s, f"{key}.biases": b, f"{key}.dequantised": d}
    path = QUANT / "matrix.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(path), tensors, metadata={"made_by": f"mlx {mx.__version__}: mx.quantize, mx.dequantize in float32"})
    path.chmod(0o644)
    check_matrix(path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def check_matrix(path):
    """Unpacks the saved file with plain numpy: values lie in each row's bit stream, least significant bits first."""
    raw = mx.load(str(path))
    for key in sorted({k.rpartition(".")[0] for k in raw}):
        bits, group = int(key[0]), int(key.split("-")[1][1:])
        q, s, b, d = (np.array(raw[f"{key}.{k}"].astype(mx.float32) if k != "weight" else raw[f"{key}.{k}"]) for k in ("weight", "scales", "biases", "dequantised"))
        stream = np.unpackbits(np.ascontiguousarray(q).view(np.uint8).reshape(len(q), -1), axis=1, bitorder="little")
        v = (stream.reshape(len(q), -1, bits) << np.arange(bits)).sum(-1).astype(np.float32)
        mine = v * np.repeat(s, group, 1) + np.repeat(b, group, 1)
        assert np.allclose(mine, d, rtol=1e-6, atol=1e-6), key


def main():
    mx.set_default_device(mx.cpu)
    variants = all_variants()
    if not sys.argv[1:]:
        make_matrix()
    for name in sys.argv[1:] or variants:
        make(name, variants[name])
    print(f"{golden.folder_bytes(QUANT) / 1000:.0f} kB in {QUANT.relative_to(golden.ROOT)}")


main()
