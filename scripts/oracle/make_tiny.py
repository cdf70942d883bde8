#!/usr/bin/env python3
"""Makes tests/golden/tiny/: one small random checkpoint for every variant of every family, with logits by transformers.

    make_tiny.py [NAME ...]        (all variants without a name)

Each golden is computed from the folder as it stands on disk, so `config.json` says to transformers what it says to us. A variant
also lists what it is there for (`matters`): leaving that feature out must change the logits by more than 2 %, or the script fails.
"""

import json
import shutil
import sys
import zlib
from dataclasses import dataclass, field
from typing import Callable

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers import Gemma2Config, Gemma3Config, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

import golden
import tiny_tokenizer
from tiny_tokenizer import BOS, EOS, PAD, VOCAB

TINY = golden.GOLDEN / "tiny"
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
SMALL = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=128, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
)  # fmt: skip
SPARSE_LEFT_OUT = dict(num_attention_heads=8, num_key_value_heads=4, query_pre_attn_scalar=256)  # Gemma3TextConfig's defaults


# ---- what a feature's absence is: edits of the text config or of the weights

def config(**values):
    return dict(edit_config=lambda c: [setattr(c, k, v) for k, v in values.items()])


def no_scaling(c):
    c.rope_parameters = {"rope_type": "default", "rope_theta": c.rope_parameters["rope_theta"]}


def no_scaling_global(c):
    both = c.rope_parameters
    c.rope_parameters = both | {"full_attention": {"rope_type": "default", "rope_theta": both["full_attention"]["rope_theta"]}}


def swap_thetas(c):
    both = c.rope_parameters
    c.rope_parameters = {"full_attention": both["sliding_attention"], "sliding_attention": both["full_attention"]}


def no_attention_factor(c):
    c.rope_parameters = c.rope_parameters | {"attention_factor": 1.0}


def zero(*parts):
    return dict(edit_weights=lambda name, t: torch.zeros_like(t) if any(p in name for p in parts) else t)


def identity_norm(part, gemma=False):
    return dict(edit_weights=lambda name, t: (torch.zeros_like(t) if gemma else torch.ones_like(t)) if part in name else t)


ALL_GLOBAL = dict(edit_config=lambda c: setattr(c, "layer_types", ["full_attention"] * c.num_hidden_layers))
ALL_SLIDING = dict(edit_config=lambda c: setattr(c, "layer_types", ["sliding_attention"] * c.num_hidden_layers))
SANDWICH = {
    f"gemma {n}": identity_norm(n, gemma=True)
    for n in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
}


# ---- rewriting a config.json to the keys of before transformers 5

def yesterday(c):
    """rope_theta / rope_scaling / torch_dtype at the top, no layer_types: as in most published checkpoints."""
    rope = dict(c.pop("rope_parameters"))
    c["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type") == "default":
        rope = None
    c["rope_scaling"] = rope
    c["torch_dtype"] = c.pop("dtype")
    c.pop("layer_types", None)
    c.pop("transformers_version")
    return c


def yesterday_type(c):
    """As above with the still older key `type` for `rope_type`."""
    c = yesterday(c)
    c["rope_scaling"]["type"] = c["rope_scaling"].pop("rope_type")
    return c


def without(*keys):
    def edit(c):
        c = yesterday(c)
        for k in keys:
            c.pop(k, None)
        return c

    return edit


def yesterday_gemma3(c):
    """rope_local_base_freq and sliding_window_pattern, as google/gemma-3-1b-it has them."""
    rope = c.pop("rope_parameters")
    full = dict(rope["full_attention"])
    c["rope_theta"], c["rope_local_base_freq"] = full.pop("rope_theta"), rope["sliding_attention"]["rope_theta"]
    c["rope_scaling"] = None if full["rope_type"] == "default" else full
    layers = c.pop("layer_types")
    c["sliding_window_pattern"] = layers.index("full_attention") + 1
    c["torch_dtype"] = c.pop("dtype")
    c.pop("transformers_version"), c.pop("_sliding_window_pattern")
    return c


def sparse_gemma3(c):
    """text_config with almost everything left to the class's defaults, as google/gemma-3-4b-it has it."""
    t = c["text_config"]
    keep = ("hidden_size", "intermediate_size", "num_hidden_layers", "head_dim", "vocab_size", "sliding_window", "model_type")
    text = {k: t[k] for k in keep} | {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    for k, default in SPARSE_LEFT_OUT.items():
        assert t[k] == default, k
    top = {k: c[k] for k in ("architectures", "boi_token_index", "eoi_token_index", "image_token_index", "mm_tokens_per_image", "model_type")}
    vision = ("hidden_size", "image_size", "intermediate_size", "model_type", "num_attention_heads", "num_hidden_layers", "patch_size", "vision_use_head")
    return top | {
        "eos_token_id": [EOS], "initializer_range": 0.02, "text_config": text, "torch_dtype": c["dtype"],
        "vision_config": {k: c["vision_config"][k] for k in vision},
    }  # fmt: skip


# ---- tensor names of the Gemma-3 wrapper

def published_names(name):
    """google/gemma-3-4b-it: language_model.model.*, vision_tower.vision_model.*, multi_modal_projector.*"""
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def newer_names(name):
    """As a transformers 4.52+ state dict has them: all of it below `model.`"""
    if name.startswith("language_model.model."):
        return "model.language_model." + name.removeprefix("language_model.model.")
    return "model." + published_names(name)


@dataclass
class Variant:
    """`rewrite` turns config.json into another form of the same, `rename` a tensor's name; `matters`: what must change the logits."""

    config: object
    why: str
    dtype: str = "bf16"
    rewrite: Callable | None = None
    rename: Callable | None = None
    shards: str | None = None
    long: int = 0
    embed: float = 0.5  # std of the embedding
    matters: dict = field(default_factory=dict)


def llama(**kw):
    return LlamaConfig(**(SMALL | dict(tie_word_embeddings=True) | kw))


def qwen2(**kw):
    return Qwen2Config(**(SMALL | dict(tie_word_embeddings=True) | kw))


def qwen3(**kw):
    return Qwen3Config(**(SMALL | dict(head_dim=16, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6)) | kw))


def gemma_rope(**full):
    return {
        "full_attention": dict(rope_type="default", rope_theta=1e6) | full,
        "sliding_attention": dict(rope_type="default", rope_theta=1e4),
    }


# Gemma multiplies embeddings by sqrt(hidden) and ties the head: a larger one would drown the layers, and every token follow itself.
GEMMA_EMBED = 0.12
GEMMA3 = SMALL | dict(
    num_hidden_layers=4, intermediate_size=24, num_key_value_heads=1, head_dim=16, sliding_window=8, query_pre_attn_scalar=24,
    layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"], rope_parameters=gemma_rope(),
)  # fmt: skip
VISION = dict(
    model_type="siglip_vision_model", hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
    vision_use_head=False,
)  # fmt: skip


def gemma3_wrapper(**text):
    text = Gemma3TextConfig(**(GEMMA3 | text))
    return Gemma3Config(
        text_config=text.to_dict(), vision_config=dict(VISION), mm_tokens_per_image=4, boi_token_index=283, eoi_token_index=284,
        image_token_index=285, eos_token_id=EOS, bos_token_id=BOS, pad_token_id=PAD,
    )  # fmt: skip


LLAMA3_ROPE = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)

VARIANTS = {
    "llama-gqa-untied": Variant(
        llama(tie_word_embeddings=False), "grouped-query attention, its own lm_head", matters={"lm_head": zero("lm_head")}),
    "llama-mqa-tied-f16": Variant(
        llama(num_key_value_heads=1), "one KV head, tied head, float16; yesterday's keys, no head_dim", "f16", without("head_dim")),
    "llama-mha-f32": Variant(
        llama(hidden_size=24, intermediate_size=40, num_attention_heads=3, num_key_value_heads=3, rms_norm_eps=1e-5),
        "as many KV heads as heads, float32, hidden 24; no num_key_value_heads in the config",
        "f32", without("num_key_value_heads")),
    "llama-rope-llama3": Variant(
        llama(rope_parameters=dict(rope_theta=500.0) | LLAMA3_ROPE, head_dim=16), "Llama-3.1's RoPE scaling, all three bands; yesterday's keys",
        rewrite=yesterday, matters={"scaling": dict(edit_config=no_scaling)}),
    "llama-rope-llama3-long": Variant(
        llama(rope_parameters=dict(rope_theta=50000.0) | LLAMA3_ROPE | dict(original_max_position_embeddings=256), head_dim=16,
              max_position_embeddings=2048),
        "the same beyond 1024 positions; today's keys", long=1100, matters={"scaling": dict(edit_config=no_scaling)}),
    "llama-rope-linear": Variant(
        llama(rope_parameters=dict(rope_theta=1e4, rope_type="linear", factor=4.0)), "linear RoPE scaling, with the old key `type`",
        rewrite=yesterday_type, matters={"scaling": dict(edit_config=no_scaling)}),
    "llama-rope-yarn": Variant(
        llama(rope_parameters=dict(rope_theta=1e4) | YARN, head_dim=16), "YaRN with its attention factor 0.1 ln(4) + 1",
        matters={"scaling": dict(edit_config=no_scaling), "attention factor": dict(edit_config=no_attention_factor)}),
    "llama-biases": Variant(
        llama(attention_bias=True, mlp_bias=True), "biases on q, k, v, o, gate, up, down",
        matters={n: zero(n + ".bias") for n in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")}),
    "llama-head-dim": Variant(llama(head_dim=24), "head_dim 24 where hidden / heads is 8"),
    "llama-sharded": Variant(llama(tie_word_embeddings=False), "three shards and their index", shards="30KB"),
    "qwen2-tied": Variant(
        qwen2(rope_parameters=dict(rope_type="default", rope_theta=1e6)), "biases on q, k, v only; sliding_window set but not used; yesterday's keys",
        rewrite=lambda c: yesterday(c) | {"sliding_window": 8, "use_sliding_window": False, "max_window_layers": 1},
        matters={n: zero(n + ".bias") for n in ("q_proj", "k_proj", "v_proj")}),
    "qwen2-window": Variant(
        qwen2(use_sliding_window=True, sliding_window=8, max_window_layers=1), "a sliding window from layer max_window_layers on",
        matters={"window": ALL_GLOBAL, "first layer is global": ALL_SLIDING}),
    "qwen2-yarn": Variant(
        qwen2(rope_parameters=dict(rope_theta=1e4) | YARN, tie_word_embeddings=False, head_dim=16), "YaRN with the old key `type`, untied",
        rewrite=yesterday_type, matters={"scaling": dict(edit_config=no_scaling)}),
    "qwen3": Variant(
        qwen3(), "q/k norms, head_dim 16 where hidden / heads is 8",
        matters={"q_norm": identity_norm("q_norm"), "k_norm": identity_norm("k_norm")}),
    "qwen3-rope-long": Variant(
        qwen3(rope_parameters=dict(rope_theta=1e6, rope_type="yarn", factor=4.0, original_max_position_embeddings=512),
              max_position_embeddings=2048),
        "YaRN as Qwen3's model card sets it for long texts, beyond 1024 positions; yesterday's keys", rewrite=yesterday, long=1200,
        matters={"scaling": dict(edit_config=no_scaling)}),
    "gemma3-text": Variant(
        Gemma3TextConfig(**GEMMA3), "sliding and global layers, RoPE of each, q/k norms, four norms a layer, query_pre_attn_scalar 24; today's keys",
        embed=GEMMA_EMBED, matters=SANDWICH | {
            "window": config(sliding_window=4096), "global layer": ALL_SLIDING, "two thetas": dict(edit_config=swap_thetas),
            "query_pre_attn_scalar": config(query_pre_attn_scalar=16), "q_norm": identity_norm("q_norm", True),
            "k_norm": identity_norm("k_norm", True), "tanh gelu against silu": config(hidden_activation="silu"),
        }),
    "gemma3-text-rope-linear": Variant(
        Gemma3TextConfig(**GEMMA3 | dict(rope_parameters=gemma_rope(rope_type="linear", factor=8.0, rope_theta=100.0),
                                         layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2, num_hidden_layers=6,
                                         head_dim=8)),
        "linear scaling of the global layers only, pattern 3; yesterday's keys", "f16", yesterday_gemma3,
        embed=GEMMA_EMBED, matters={"scaling": dict(edit_config=no_scaling_global), "window": config(sliding_window=4096)}),
    "gemma3-wrapper-sparse": Variant(
        gemma3_wrapper(**SPARSE_LEFT_OUT, hidden_size=16, intermediate_size=32, num_hidden_layers=6, head_dim=8, layer_types=None,
                       rope_parameters=gemma_rope(rope_type="linear", factor=8.0)),
        "model_type gemma3 as published: sparse text_config, vision tensors to be passed over, names language_model.model.*",
        rewrite=sparse_gemma3, rename=published_names, embed=GEMMA_EMBED, matters={"query_pre_attn_scalar": config(query_pre_attn_scalar=8),
                                                                 "window": config(sliding_window=4096)}),
    "gemma3-wrapper-newer": Variant(
        gemma3_wrapper(num_hidden_layers=3, layer_types=GEMMA3["layer_types"][:3]), "model_type gemma3 with today's config and names model.language_model.*", rename=newer_names,
        embed=GEMMA_EMBED, matters={"window": config(sliding_window=4096)}),
    "mistral-window": Variant(
        MistralConfig(**SMALL | dict(sliding_window=8, intermediate_size=32, tie_word_embeddings=False)), "a sliding window in every layer",
        matters={"window": config(sliding_window=None)}),
    "gemma2-softcap": Variant(
        Gemma2Config(**SMALL | dict(head_dim=16, query_pre_attn_scalar=24, sliding_window=8, attn_logit_softcapping=2.0,
                                    final_logit_softcapping=4.0)),
        "soft caps on attention scores and logits, no q/k norms, every second layer sliding",
        embed=GEMMA_EMBED, matters=SANDWICH | {"window": config(sliding_window=4096), "attention cap": config(attn_logit_softcapping=None),
                            "logit cap": config(final_logit_softcapping=None)}),
}  # fmt: skip


def ids_for(name, variant, tokenizer):
    """The prompt's text and ids: one of four texts, or for a long variant words drawn from them."""
    seed = zlib.crc32(name.encode())
    if not variant.long:
        text = golden.PROMPTS[seed % len(golden.PROMPTS)]
        return text, tokenizer.encode(text)
    g, words, text = torch.Generator().manual_seed(seed), " ".join(golden.PROMPTS).split(" "), ""
    while len(ids := tokenizer.encode(text)) < variant.long:
        text += (" " if text else "") + words[int(torch.randint(len(words), (1,), generator=g))]
    return text, ids


def write_checkpoint(folder, variant, seed):
    """config.json, the weights and the tokenizer."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = AutoModelForCausalLM.from_config(variant.config, dtype=DTYPES[variant.dtype])
    golden.randomise(model, seed, embed=variant.embed)
    model.save_pretrained(folder, **(dict(max_shard_size=variant.shards) if variant.shards else {}))
    if variant.rename:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        assert any(n.startswith("language_model.model.") for n in tensors) and any(n.startswith("vision_tower.") for n in tensors)
        save_file({variant.rename(n): t for n, t in tensors.items()}, path, metadata={"format": "pt"})
    return tiny_tokenizer.save(folder)


def rewrite_config(folder, variant, ids):
    """Writes the other form of config.json and checks that transformers reads the same model from it."""
    before = golden.logits_of(golden.load(folder), ids)
    path = folder / "config.json"
    path.write_text(json.dumps(variant.rewrite(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")
    assert torch.equal(before, golden.logits_of(golden.load(folder), ids)), f"{folder.name}: the rewritten config means something else"


def make(name, variant):
    folder = TINY / name
    first = zlib.crc32(name.encode()) % 10**6
    for seed in range(first, first + 100):
        tokenizer = write_checkpoint(folder, variant, seed)
        text, ids = ids_for(name, variant, tokenizer)
        if variant.rewrite:
            rewrite_config(folder, variant, ids)
        model = golden.load(folder)
        if variant.long:
            found, margin = {"ids": torch.tensor(ids, dtype=torch.int32).numpy(), "logits": golden.logits_of(model, ids)[-golden.LAST:].numpy().copy()}, 1.0
            break
        found, margin = golden.compute(model, ids)
        if golden.good(found, margin):
            break
    else:
        sys.exit(f"{name}: no seed gives a telling continuation; the last: {found['greedy'].tolist()}, margin {margin:.4f}")
    noise = golden.check(folder, found, ids, long=bool(variant.long))
    weights = {what: golden.relative_error(golden.changed(folder, ids, **edit), found["logits"]) for what, edit in variant.matters.items()}
    idle = {what: e for what, e in weights.items() if not e > 0.02}
    assert not idle, f"{name}: these change next to nothing: {idle}"
    golden.save_golden(folder, found, {"prompt": text, "variant": variant.why, "seed": str(seed)})
    least = min(weights.items(), key=lambda kv: kv[1], default=("-", 0.0))
    print(f"{name:26} T {len(ids):4}  f32/f64 {noise:.0e}  margin {margin:.3f}  {golden.folder_bytes(folder) / 1000:6.1f} kB  least: {least[0]} {least[1]:.2f}")


def main():
    for name in sys.argv[1:] or VARIANTS:
        make(name, VARIANTS[name])
    print(f"{golden.folder_bytes(TINY) / 1000:.0f} kB in {TINY.relative_to(golden.ROOT)}")


main()
