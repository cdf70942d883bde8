#!/usr/bin/env python3
"""Write a checkpoint with a published model's exact shapes and random weights, for measuring speed.

    make_model.py PRESET OUT_DIR [--bits 4|8|16] [--gguf OUT.gguf] [--tokenizer DIR]

OUT_DIR gets what a published MLX checkpoint has: config.json, model.safetensors (affine, groups of 64, bfloat16
scales and biases; plain bfloat16 with --bits 16) and a byte-level BPE tokenizer of the model's own vocabulary size
(or copies of the tokenizer files in DIR), so that loading costs what it costs for the real one. --gguf writes the
twin for peers that read GGUF: Q4_0, Q8_0 or BF16. Q4_0 and an affine group of 64 at 4 bits take the same 4.5 bits a
weight; Q8_0 and affine 8 bits the same 8.5. Values are random in both and differ; speed does not depend on them.
Needs Python's standard library; --gguf needs the `gguf` package.
"""
import argparse
import itertools
import json
import os
import random
import shutil
import struct
from dataclasses import dataclass

GROUP = 64
MOST_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Shape:
    family: str
    hidden: int
    layers: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    bos: int
    eos: tuple
    tied: bool = True

    @property
    def gemma(self):
        return self.family == "gemma3_text"


# From the config.json of google/gemma-3-1b-it, google/gemma-3-270m, meta-llama/Llama-3.2-1B, meta-llama/Llama-3.1-8B,
# Qwen/Qwen3-0.6B and Qwen/Qwen2.5-0.5B. All but the 8B tie the output head to the embedding.
PRESETS = {
    "gemma3-1b": Shape("gemma3_text", 1152, 26, 6912, 4, 1, 256, 262144, 32768, 2, (1, 106)),
    "gemma3-270m": Shape("gemma3_text", 640, 18, 2048, 4, 1, 256, 262144, 32768, 2, (1,)),
    "llama3.2-1b": Shape("llama", 2048, 16, 8192, 32, 8, 64, 128256, 131072, 128000, (128001,)),
    "llama3.1-8b": Shape("llama", 4096, 32, 14336, 32, 8, 128, 128256, 131072, 128000, (128001,), tied=False),
    "qwen3-0.6b": Shape("qwen3", 1024, 28, 3072, 16, 8, 128, 151936, 40960, 151643, (151645,)),
    "qwen2.5-0.5b": Shape("qwen2", 896, 24, 4864, 14, 2, 64, 151936, 32768, 151643, (151643,)),
}
ARCHITECTURE = {
    "gemma3_text": "Gemma3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
}
LLAMA3_ROPE = dict(
    rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)


def config(s, bits):
    c = dict(
        architectures=[ARCHITECTURE[s.family]],
        model_type=s.family,
        hidden_size=s.hidden,
        num_hidden_layers=s.layers,
        intermediate_size=s.ffn,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        head_dim=s.head_dim,
        vocab_size=s.vocabulary,
        max_position_embeddings=s.context,
        rms_norm_eps=1e-5 if s.family == "llama" else 1e-6,
        rope_theta=5e5 if s.family == "llama" else 1e6,
        tie_word_embeddings=s.tied,
        torch_dtype="bfloat16",
        bos_token_id=s.bos,
        eos_token_id=list(s.eos),
    )
    if s.gemma:
        c |= dict(
            hidden_activation="gelu_pytorch_tanh",
            query_pre_attn_scalar=s.head_dim,
            rope_local_base_freq=10000.0,
            sliding_window=512,
            sliding_window_pattern=6,
            pad_token_id=0,
        )
    else:
        c["hidden_act"] = "silu"
    if s.family == "llama":
        c["rope_scaling"] = LLAMA3_ROPE
    if bits != 16:
        c["quantization"] = c["quantization_config"] = dict(group_size=GROUP, bits=bits)
    return c


def matrices(s):
    """(MLX name, GGUF name, rows, columns) of every matrix."""
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    yield "model.embed_tokens", "token_embd", s.vocabulary, s.hidden
    if not s.tied:
        yield "lm_head", "output", s.vocabulary, s.hidden
    for i in range(s.layers):
        m, g = f"model.layers.{i}.", f"blk.{i}."
        yield m + "self_attn.q_proj", g + "attn_q", q, s.hidden
        yield m + "self_attn.k_proj", g + "attn_k", kv, s.hidden
        yield m + "self_attn.v_proj", g + "attn_v", kv, s.hidden
        yield m + "self_attn.o_proj", g + "attn_output", s.hidden, q
        yield m + "mlp.gate_proj", g + "ffn_gate", s.ffn, s.hidden
        yield m + "mlp.up_proj", g + "ffn_up", s.ffn, s.hidden
        yield m + "mlp.down_proj", g + "ffn_down", s.hidden, s.ffn


def vectors(s):
    """(MLX name, GGUF name, value in MLX's checkpoint, value in GGUF, length) of every vector: identity norms, zero biases.

    Gemma's checkpoints store a norm's weight less one; GGUF has the one added.
    """
    def norm(mlx, gguf, length):
        return mlx, gguf, 0.0 if s.gemma else 1.0, 1.0, length

    yield norm("model.norm.weight", "output_norm.weight", s.hidden)
    for i in range(s.layers):
        m, g = f"model.layers.{i}.", f"blk.{i}."
        yield norm(m + "input_layernorm.weight", g + "attn_norm.weight", s.hidden)
        if s.gemma:
            yield norm(m + "post_attention_layernorm.weight", g + "post_attention_norm.weight", s.hidden)
            yield norm(m + "pre_feedforward_layernorm.weight", g + "ffn_norm.weight", s.hidden)
            yield norm(m + "post_feedforward_layernorm.weight", g + "post_ffw_norm.weight", s.hidden)
        else:
            yield norm(m + "post_attention_layernorm.weight", g + "ffn_norm.weight", s.hidden)
        if s.family in ("gemma3_text", "qwen3"):
            yield norm(m + "self_attn.q_norm.weight", g + "attn_q_norm.weight", s.head_dim)
            yield norm(m + "self_attn.k_norm.weight", g + "attn_k_norm.weight", s.head_dim)
        if s.family == "qwen2":
            for letter, heads in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads)):
                yield m + f"self_attn.{letter}_proj.bias", g + f"attn_{letter}.bias", 0.0, 0.0, heads * s.head_dim


def bf16(value):
    """The two bytes of `value` cut to bfloat16."""
    return struct.pack("<f", value)[2:]


# Makes any byte the upper half of a bfloat16 of size 2^-7 … 2^-6, of either sign; its lower half may be any byte.
SMALL_BF16 = bytes(0xBC if b & 1 else 0x3C for b in range(256))


def random_bf16(rng, count):
    out = bytearray(2 * count)
    out[0::2] = rng.randbytes(count)
    out[1::2] = rng.randbytes(count).translate(SMALL_BF16)
    return out


def random_blocks(rng, count, size, scale):
    """GGUF's Q4_0 or Q8_0: a float16 scale, then the packed weights."""
    out = bytearray(rng.randbytes(count * size))
    out[0::size], out[1::size] = (bytes([b]) * count for b in struct.pack("<e", scale))
    return out


def in_parts(count):
    """Cuts `count` so that generating holds little in memory."""
    while count > 0:
        yield min(count, MOST_AT_ONCE)
        count -= MOST_AT_ONCE


def write_safetensors(path, s, bits, rng):
    """Writes the checkpoint part by part and returns the bytes of its tensors."""
    plan = []  # (name, dtype, shape, bytes, the contents in parts)
    for name, _, n, k in matrices(s):
        if bits == 16:
            plan.append((name + ".weight", "BF16", [n, k], n * k * 2,
                         lambda count=n * k: (random_bf16(rng, part) for part in in_parts(count))))
            continue
        scale = 0.08 / (2**bits - 1)  # weights spread evenly over -0.04 … 0.04
        size, groups = n * k * bits // 8, n * k // GROUP
        plan += [
            (name + ".weight", "U32", [n, k * bits // 32], size,
             lambda size=size: (rng.randbytes(part) for part in in_parts(size))),
            (name + ".scales", "BF16", [n, k // GROUP], groups * 2, lambda groups=groups: [bf16(scale) * groups]),
            (name + ".biases", "BF16", [n, k // GROUP], groups * 2, lambda groups=groups: [bf16(-0.04) * groups]),
        ]
    for name, _, value, _, length in vectors(s):
        plan.append((name, "BF16", [length], length * 2, lambda value=value, length=length: [bf16(value) * length]))

    header, at = {"__metadata__": {"format": "mlx"}}, 0
    for name, dtype, shape, size, _ in plan:
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=[at, at + size])
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)  # tensors begin at a multiple of 64
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for *_, parts in plan:
            f.writelines(parts())
    return at


def write_gguf(path, s, bits, rng):
    import gguf
    import numpy as np
    from gguf import GGMLQuantizationType as Type

    arch = {"gemma3_text": "gemma3"}.get(s.family, s.family)
    w = gguf.GGUFWriter(path, arch)
    w.add_name(arch)
    w.add_context_length(s.context)
    w.add_block_count(s.layers)
    w.add_embedding_length(s.hidden)
    w.add_feed_forward_length(s.ffn)
    w.add_head_count(s.heads)
    w.add_head_count_kv(s.kv_heads)
    w.add_key_length(s.head_dim)
    w.add_value_length(s.head_dim)
    w.add_vocab_size(s.vocabulary)
    w.add_tokenizer_model("no_vocab")
    w.add_layer_norm_rms_eps(1e-5 if s.family == "llama" else 1e-6)
    w.add_rope_freq_base(5e5 if s.family == "llama" else 1e6)
    w.add_rope_dimension_count(s.head_dim)
    w.add_file_type({4: gguf.LlamaFileType.MOSTLY_Q4_0, 8: gguf.LlamaFileType.MOSTLY_Q8_0,
                     16: gguf.LlamaFileType.MOSTLY_BF16}[bits])
    if s.gemma:
        w.add_sliding_window(512)

    contents = []  # (bytes, the contents in parts)
    kind, block, scale = {4: (Type.Q4_0, 18, 0.0025), 8: (Type.Q8_0, 34, 0.0002), 16: (Type.BF16, 64, None)}[bits]
    for _, name, n, k in matrices(s):
        size = n * k // 32 * block
        w.add_tensor_info(name + ".weight", (n, k // 32 * block), np.dtype(np.uint8), size, raw_dtype=kind)
        if bits == 16:
            contents.append((size, lambda count=n * k: (random_bf16(rng, part) for part in in_parts(count))))
        else:
            contents.append((size, lambda count=n * k // 32:
                             (random_blocks(rng, part, block, scale) for part in in_parts(count))))
    small = [(name, value, length) for _, name, _, value, length in vectors(s)]
    if s.family == "llama":
        # What the llama3 scaling of the frequencies costs does not depend on its factors.
        small.append(("rope_freqs.weight", 1.0, s.head_dim // 2))
    for name, value, length in small:
        w.add_tensor_info(name, (length,), np.dtype(np.float32), 4 * length)
        contents.append((4 * length, lambda value=value, length=length: [struct.pack("<f", value) * length]))

    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    out = w.fout[0]
    w.write_padding(out, out.tell())
    for size, parts in contents:
        out.writelines(parts())
        w.write_padding(out, size)
    w.close()


def byte_letters():
    """GPT-2's printable stand-in for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in keep}
    for i, b in enumerate(b for b in range(256) if b not in letters):
        letters[b] = chr(256 + i)
    return [letters[b] for b in range(256)]


def tokenizer(s):
    """A byte-level BPE with as many entries as the model has rows, and about two merges an entry, as published
    vocabularies have: the bytes, then every word of two, three and four lower-case letters until the places run out.
    """
    special = {s.bos: "<bos>"} | {id: f"<end_{id}>" for id in s.eos if id != s.bos}
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    words = ("".join(w) for length in (2, 3, 4) for w in itertools.product(alphabet, repeat=length))
    entries = itertools.chain(byte_letters(), words)
    vocabulary, merges = {}, []
    for id in range(s.vocabulary):
        if id in special:
            vocabulary[special[id]] = id
            continue
        word = next(entries)
        vocabulary[word] = id
        if len(word) > 1:
            merges += [[word[:cut], word[cut:]] for cut in ((2, 3) if len(word) == 4 else range(1, len(word)))]
    added = [
        dict(id=id, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for id, text in sorted(special.items())
    ]
    bytes_ = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    first = dict(SpecialToken=dict(id="<bos>", type_id=0))
    return dict(
        version="1.0",
        truncation=None,
        padding=None,
        added_tokens=added,
        normalizer=None,
        pre_tokenizer=bytes_,
        post_processor=dict(
            type="TemplateProcessing",
            single=[first, dict(Sequence=dict(id="A", type_id=0))],
            pair=[first, dict(Sequence=dict(id="A", type_id=0)), dict(Sequence=dict(id="B", type_id=1))],
            special_tokens={"<bos>": dict(id="<bos>", ids=[s.bos], tokens=["<bos>"])},
        ),
        decoder=bytes_,
        model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                   fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocabulary, merges=merges),
    )


def write_tokenizer(folder, s, copied_from):
    if copied_from:
        for name in os.listdir(copied_from):
            if name.endswith((".json", ".jinja", ".model")) and name != "config.json":
                shutil.copyfile(os.path.join(copied_from, name), os.path.join(folder, name))
        return
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(tokenizer(s), f, ensure_ascii=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<bos>", eos_token=f"<end_{s.eos[0]}>"
                       if s.eos[0] != s.bos else "<bos>", add_bos_token=True), f, indent=2)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("preset", choices=PRESETS)
    arguments.add_argument("out")
    arguments.add_argument("--bits", type=int, choices=(4, 8, 16), default=4)
    arguments.add_argument("--gguf", help="also write the GGUF twin here")
    arguments.add_argument("--tokenizer", help="copy this folder's tokenizer instead of making one")
    a = arguments.parse_args()
    shape = PRESETS[a.preset]
    os.makedirs(a.out, exist_ok=True)
    with open(os.path.join(a.out, "config.json"), "w") as f:
        json.dump(config(shape, a.bits), f, indent=2)
    write_tokenizer(a.out, shape, a.tokenizer)
    size = write_safetensors(os.path.join(a.out, "model.safetensors"), shape, a.bits, random.Random(0))
    if a.gguf:
        write_gguf(a.gguf, shape, a.bits, random.Random(1))
    print(f"{a.preset}, {a.bits} bits: {size / 1e9:.3f} GB of tensors in {a.out}")


if __name__ == "__main__":
    main()
