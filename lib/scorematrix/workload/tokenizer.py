"""Convert text to token ids and back, without special tokens, by a tokenizer.json or a GGUF file's metadata."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

if TYPE_CHECKING:
    from scorematrix.models.gguf_reader import GGUFFile

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    """Return the pre-tokenizer that GGUF names (`tokenizer.ggml.pre`): it cuts text before merging."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name == "smollm":  # each digit alone, then GPT-2's pattern
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    patterns = {"llama-bpe": _LLAMA3, "llama3": _LLAMA3, "qwen2": _QWEN2}
    if name not in patterns:
        raise ValueError(
            f"tokenizer.ggml.pre={name!r} is not supported; supported: smollm, {', '.join(patterns)}; "
            "use the model's Hugging Face folder with its tokenizer.json"
        )
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(patterns[name]), "isolated"), byte_level])


class TextTokenizer:
    """A byte-level BPE tokenizer that adds no tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def from_folder(cls, folder: Path) -> TextTokenizer | None:
        """Read a folder's tokenizer.json; None if it has none."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            return None
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the tokenizers package raises bare Exception
            raise ValueError(f"{path} is not a valid tokenizer file ({error}); fetch the model again") from None

    @classmethod
    def from_gguf(cls, file: GGUFFile) -> TextTokenizer:
        """Make a tokenizer from the tokens, merges and token types of a GGUF file.

        Raises:
            ValueError: if the tokenizer is not byte-level BPE.
        """
        kind = file.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ValueError(
                f"{file.path.name}: tokenizer.ggml.model={kind!r} is not supported; supported: gpt2; "
                "use the model's Hugging Face folder with its tokenizer.json"
            )
        tokens = file.get("tokenizer.ggml.tokens")
        merges = [tuple(merge.split(" ", 1)) for merge in file.get("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, fuse_unk=False))
        tokenizer.pre_tokenizer = _pre_tokenizer(file.get("tokenizer.ggml.pre", "default"))
        tokenizer.decoder = decoders.ByteLevel()
        control, user_defined = 3, 4
        types = file.get("tokenizer.ggml.token_type") or []  # older files have none
        special = [
            AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types, strict=False) if k == control
        ]
        tokenizer.add_special_tokens(special)
        tokenizer.add_tokens(
            [AddedToken(t, normalized=False) for t, k in zip(tokens, types, strict=False) if k == user_defined]
        )
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> TextTokenizer:
        """Make a tokenizer from the text of a tokenizer.json."""
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """Return the full definition as the text of a tokenizer.json."""
        return self._tokenizer.to_str()

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens.

        Raises:
            ValueError: for a text that is no valid Unicode, as bytes that are not UTF-8 become on a command line.
        """
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError):
            raise ValueError(f"text={text[:40]!r} is not valid Unicode; write it in UTF-8") from None

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, including special tokens."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def label_id(self, label: str) -> int:
        """Return the token id of a label.

        Raises:
            ValueError: naming the tokens, if there is not exactly one.
        """
        ids = self.encode(label)
        if len(ids) != 1:
            pieces = [self.decode([i]) for i in ids]
            raise ValueError(
                f"label={label!r} is {len(ids)} tokens {pieces}; choose a label that is one token, "
                "often one with a leading space"
            )
        return ids[0]

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @cached_property
    def longest_token(self) -> int:
        """The most characters of text that one token stands for."""
        return max(map(len, self._tokenizer.get_vocab(with_added_tokens=True)))

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of control and delimiter tokens, which do not occur in text."""
        return frozenset(i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special)

    @cached_property
    def sha256(self) -> str:
        """Hash of the tokenizer's full definition."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
