#!/usr/bin/env python3
"""llama.cpp as one side of a comparison: measures what it is told on standard input, one JSON object a line.

    {"do": "open", "model": "x.gguf", "threads": 2, "repack": true}
    {"do": "prompt", "tokens": 512}                              → {"rate": prompt tokens a second}
    {"do": "decode", "sequences": 8, "context": 128, "steps": 32} → {"rate": new tokens a second, all sequences together}
    {"do": "callers", "callers": 8, "prompt": 16, "tokens": 48}  → the same from threads that share one context by a lock
    {"do": "classify", "shared": 200, "tokens": 20, "texts": 96} → {"rate": texts a second}
    {"do": "resident", "context": 4096}                            → {"resident": bytes}

Every answer is one JSON line with the seconds taken. `benches/engine/` answers the same lines for gomlx, so that
`run.py` can let the two take turns. Run with --first-token MODEL it loads, computes a prompt of 16, prints the
seconds and ends.

libllama is driven through llama-cpp-python's low-level bindings in the way of llama.cpp's own llama-bench (prompt)
and llama-batched-bench (decode): random tokens, an f16 cache, physical batches of 512, logits only where they are
needed, no sampling. A call through the bindings costs some 10 µs; a step takes milliseconds.
"""
import ctypes
import json
import os
import random
import sys
import threading
import time

import llama_cpp as ll


@ll.llama_log_callback
def quiet(_level, _text, _data):
    pass


class Batch:
    """A llama_batch to which tokens are added."""

    def __init__(self, capacity):
        self.raw = ll.llama_batch_init(capacity, 0, 1)
        self.capacity = capacity

    def clear(self):
        self.raw.n_tokens = 0

    def add(self, token, position, sequence, wants_logits):
        i = self.raw.n_tokens
        assert i < self.capacity
        self.raw.token[i] = token
        self.raw.pos[i] = position
        self.raw.n_seq_id[i] = 1
        self.raw.seq_id[i][0] = sequence
        self.raw.logits[i] = wants_logits
        self.raw.n_tokens = i + 1


class Context:
    """A context of `sequences` × `length` positions over a model."""

    def __init__(self, model, length, sequences, threads, unified=False):
        p = ll.llama_context_default_params()
        p.n_ctx = length if unified else length * sequences
        p.n_seq_max = sequences
        p.n_batch = 2048
        p.n_ubatch = 512
        p.n_outputs_max = sequences + 1  # else it makes room for the logits of all 512 positions
        p.n_threads = p.n_threads_batch = threads
        p.type_k = p.type_v = ll.GGML_TYPE_F16
        p.flash_attn_type = ll.LLAMA_FLASH_ATTN_TYPE_AUTO
        p.swa_full = False  # sliding layers keep their window only: less to read, and what its own tools choose
        p.kv_unified = unified
        p.no_perf = True
        self.raw = ll.llama_init_from_model(model, p)
        if not self.raw:
            sys.exit("peers.py: no llama context")
        self.memory = ll.llama_get_memory(self.raw)
        self.batch = Batch(2048)

    def decode(self):
        status = ll.llama_decode(self.raw, self.batch.raw)
        if status != 0:
            raise RuntimeError(f"llama_decode: {status}")
        ll.llama_synchronize(self.raw)

    def fill(self, length, sequence, token, start=0):
        """Computes `length` positions of a sequence; logits for the last."""
        while start < length:
            self.batch.clear()
            for position in range(start, min(length, start + self.batch.capacity)):
                self.batch.add(token(), position, sequence, position == length - 1)
            start += self.batch.raw.n_tokens
            self.decode()

    def clear(self):
        ll.llama_memory_clear(self.memory, False)


class Peer:
    def __init__(self, model, threads, repack=True):
        p = ll.llama_model_default_params()
        p.n_gpu_layers = 0
        p.use_extra_bufts = repack
        self.model = ll.llama_model_load_from_file(model.encode(), p)
        if not self.model:
            sys.exit(f"peers.py: {model} does not load")
        self.threads = threads
        self.vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.random = random.Random(0)
        self.contexts = {}
        self.at = {}  # context of a decode → position that all its sequences have reached

    def token(self):
        return self.random.randrange(self.vocabulary)

    def context(self, length, sequences, unified=False):
        key = length, sequences, unified
        if key not in self.contexts:
            self.contexts[key] = Context(self.model, length, sequences, self.threads, unified)
            self.contexts[key].fill(16, 0, self.token)  # the first step also builds graphs and touches memory
            self.contexts[key].clear()
        return self.contexts[key]

    def prompt(self, tokens):
        context = self.context(max(tokens, 512) + 64, 1)
        context.clear()
        begin = time.perf_counter()
        context.fill(tokens, 0, self.token)
        seconds = time.perf_counter() - begin
        return dict(rate=tokens / seconds, seconds=seconds)

    def decode(self, sequences, context, steps):
        """Goes on where the last call with the same shape stopped, so a long context is computed once for a session;
        it starts afresh when it has grown by a sixteenth (and 64)."""
        room = context // 16 + 64 + 2 * steps
        c = self.context(context + room, sequences)
        at = self.at.get(c)
        if at is None or at + steps >= context + room:
            c.clear()
            for sequence in range(sequences):
                c.fill(context, sequence, self.token)
            at = context
        begin = time.perf_counter()
        for step in range(steps):
            c.batch.clear()
            for sequence in range(sequences):
                c.batch.add(self.token(), at + step, sequence, True)
            c.decode()
        seconds = time.perf_counter() - begin
        self.at[c] = at + steps
        return dict(rate=sequences * steps / seconds, seconds=seconds)

    def callers(self, callers, prompt, tokens):
        """What users of llama-cpp-python do: one context, a lock, each caller generates its whole answer in turn."""
        c = self.context(512, 1)
        lock = threading.Lock()

        def caller():
            with lock:
                c.clear()
                c.fill(prompt, 0, self.token)
                for step in range(tokens - 1):  # the prompt's logits give the first token
                    logits = ll.llama_get_logits_ith(c.raw, -1)
                    c.batch.clear()
                    c.batch.add(largest(logits, self.vocabulary), prompt + step, 0, True)
                    c.decode()

        threads = [threading.Thread(target=caller) for _ in range(callers)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        return dict(rate=callers * tokens / seconds, seconds=seconds)

    def classify(self, shared, tokens, texts, unified=True):
        """`texts` sentences behind a shared beginning: that is computed once, its cells shared by (unified) or copied
        to every sequence, and as many sentences go into one physical batch of 512 as fit."""
        at_once = max(1, min(512 // tokens, 64))
        c = self.context(shared + at_once * (tokens + 1) if unified else shared + tokens + 1, at_once + 1, unified)
        begin = time.perf_counter()
        c.clear()
        c.fill(shared, 0, self.token)
        for first in range(0, texts, at_once):
            count = min(at_once, texts - first)
            c.batch.clear()
            for sequence in range(1, count + 1):
                ll.llama_memory_seq_rm(c.memory, sequence, -1, -1)
                ll.llama_memory_seq_cp(c.memory, 0, sequence, -1, -1)
                for i in range(tokens):
                    c.batch.add(self.token(), shared + i, sequence, i == tokens - 1)
            c.decode()
        seconds = time.perf_counter() - begin
        return dict(rate=texts / seconds, seconds=seconds)

    def resident(self, context):
        c = self.context(context, 1)
        c.clear()
        c.fill(context - 1, 0, self.token)
        with open("/proc/self/status") as f:
            kib = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        return dict(resident=kib * 1024)


def largest(logits, count):
    """Index of the largest logit, by numpy as llama-cpp-python's users have it."""
    import numpy as np

    return int(np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (count,)).argmax())


def first_token(model, threads):
    begin = time.perf_counter()
    peer = Peer(model, threads)
    c = Context(peer.model, 4096, 1, threads)
    c.fill(16, 0, peer.token)
    largest(ll.llama_get_logits_ith(c.raw, -1), peer.vocabulary)
    return dict(seconds=time.perf_counter() - begin)


def main():
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    ll.llama_backend_init()
    if sys.argv[1:2] == ["--first-token"]:
        print(json.dumps(first_token(sys.argv[2], int(os.environ.get("THREADS", "2")))))
        return
    peer = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        if do == "open":
            peer = Peer(**request)
            answer = dict(system=ll.llama_print_system_info().decode())
        else:
            answer = {"prompt": peer.prompt, "decode": peer.decode, "callers": peer.callers, "classify": peer.classify,
                      "resident": peer.resident}[do](**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
