"""The byte-level BPE tokenizer of every tiny checkpoint: 256 bytes, a few merges, a few special tokens, 288 entries in all."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCAB = 288
SPECIALS = ["<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|end|>"]
FIRST_SPECIAL = VOCAB - len(SPECIALS)
PAD, BOS, EOS = (FIRST_SPECIAL + i for i in range(3))

MERGES_FROM = ["the river asked the fox where the other bridge was, and the fox answered that there is one near the water mill"]


def build():
    """A tokenizer that puts <|bos|> first; bytes are ids 0..255, merges follow, special tokens are the last ids."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=FIRST_SPECIAL, initial_alphabet=alphabet, min_frequency=1, show_progress=False)
    learned.train_from_iterator(MERGES_FROM, trainer)

    assert learned.get_vocab_size() == FIRST_SPECIAL, learned.get_vocab_size()
    learned.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    learned.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)])
    learned.decoder = decoders.ByteLevel()
    return learned


def save(folder):
    """tokenizer.json and tokenizer_config.json as transformers writes them, and the tokenizer itself."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build(), bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>", clean_up_tokenization_spaces=False
    )
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.backend_tokenizer.to_str(pretty=False), encoding="utf-8")
    return tokenizer
