"""What make_tiny.py and make_quantised.py share: weights that leave no feature idle, the golden file, and its checks."""

import json
import re
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

import tiny_tokenizer

torch.set_num_threads(1)  # the order of additions, and so the last bits, should not depend on the machine
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
LAST = 8  # positions whose logits are stored, unless a script says otherwise
GREEDY = 16  # tokens of greedy continuation

PROMPTS = [
    "The fox asked the river: where is the 7th bridge? Ünder \u2744, over 🦊!",
    "def f(x):\n\treturn x ** 2  # near the water mill, f(12) = 144; naïve €",
    "{\"other\": [1, 2.5, null], \"tale\": \"the end of the road\"} — ¿qué? 東京",
    "Once, the miller's 3 daughters rowed there & back; it's 9:45 pm… Привет",
]


def randomise(model, seed, scale=0.25, embed=0.5, norm=0.3, bias=0.3):
    """Random weights in which everything matters: matrices of std `scale` (a number or a function of the name), norms spread around their identity, biases far from zero.

    Gemma's norms are stored as w - 1, which transformers shows by initialising them with zeros.
    """
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=g)
        if re.search(r"norm", name) and p.dim() == 1:
            p.copy_(p + norm * noise if name.endswith("weight") else bias * noise)
        elif name.endswith("bias"):
            p.copy_(bias * noise)
        elif "embed_tokens" in name:
            p.copy_(embed * noise)
        else:
            p.copy_((scale(name) if callable(scale) else scale) * noise)


def load(folder, dtype=torch.float32):
    """The checkpoint as transformers reads it from disk, cast up, with the plainest attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    return model.eval()


def logits_of(model, ids):
    """[T, V] logits of one sequence, without a cache."""
    out = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return out


def relative_error(a, b):
    """|a - b| / |b| over all entries (2-norms), in float64."""
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return float((a - b).norm() / b.norm())


def compute(model, ids, last=LAST):
    """ids, last logits, arg-max at every position, greedy continuation without any stop; and how clear the choices are.

    `margin` is the smallest gap between the two largest logits at any arg-max here, in units of that row's standard deviation.
    """
    sequence, margin = list(ids), float("inf")
    logits = logits_of(model, ids)
    step = logits[-1]
    rows = list(logits)
    for _ in range(GREEDY):
        sequence.append(int(step.argmax()))
        step = logits_of(model, sequence)[-1]
        rows.append(step)
    for row in rows[:-1]:
        top = row.topk(2).values
        margin = min(margin, float((top[0] - top[1]) / row.std()))
    return {
        "ids": np.array(ids, np.int32),
        "logits": logits[-last:].float().numpy().copy(),
        "argmax": logits.argmax(-1).numpy().astype(np.int32),
        "greedy": np.array(sequence[len(ids):], np.int32),
    }, margin


def good(found, margin):
    """Whether a golden tells right from wrong: clear arg-maxes, a varied continuation, no special token that would end it early."""
    greedy = found["greedy"]
    return margin > 0.004 and len(set(greedy.tolist())) >= GREEDY // 2 and greedy.max() < tiny_tokenizer.FIRST_SPECIAL


def check(folder, found, ids, long=False):
    """Loads the folder again and holds the golden against float64 and against generation with transformers' own KV cache."""
    exact = logits_of(load(folder, torch.float64), ids)[-LAST:]
    noise = relative_error(found["logits"], exact)
    assert noise < 2e-5, f"{folder.name}: float32 differs from float64 by {noise:.1e}: too chaotic for a golden"
    assert np.isfinite(found["logits"]).all()
    if not long:
        model = load(folder)
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False, max_new_tokens=GREEDY, eos_token_id=None
        )
        assert out[0, len(ids):].tolist() == found["greedy"].tolist(), f"{folder.name}: generation with a cache differs"
    return noise


def changed(folder, ids, edit_config=None, edit_weights=None):
    """Last logits after leaving a feature out: `edit_config(text config)` and `edit_weights(name, tensor) -> tensor`."""
    config = AutoConfig.from_pretrained(folder)
    if edit_config:
        edit_config(config.get_text_config())
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    state = load(folder).state_dict()
    if edit_weights:
        state = {name: edit_weights(name, t) for name, t in state.items()}
    model.load_state_dict(state)
    return logits_of(model, ids)[-LAST:]


def save_golden(folder, found, metadata):
    meta = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    meta |= {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}, float32, eager attention"}
    save_file(found, folder / "golden.safetensors", metadata=meta)
    sort_header(folder / "golden.safetensors")
    for f in folder.iterdir():
        f.chmod(0o644)
    back = load_file(folder / "golden.safetensors")
    assert all(np.array_equal(back[k], v) for k, v in found.items())


def sort_header(path):
    """Puts the header's keys in order, which safetensors' hash map leaves to chance: the same run gives the same bytes."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    assert len(header) == size
    path.write_bytes(data[:8] + header + data[8 + size :])


def folder_bytes(folder):
    return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
