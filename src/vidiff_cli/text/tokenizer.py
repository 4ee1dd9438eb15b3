"""Words and byte-pair token ids of a caption: those of CLIP's tokenizer (offline, 49,408 ids).

open_clip has the table of merges and a tokenizer. Its table is read; its tokenizer is not imported: with open_clip come
torch, torchvision and timm, seconds that `vidiff prep` and `vidiff sample` need for nothing else.
"""

import gzip
import html
import importlib.util
import unicodedata
from functools import lru_cache
from itertools import count, pairwise
from pathlib import Path

from vidiff_cli.errors import VidiffError

CACHED_CAPTIONS = 65_536
TABLE = "bpe_simple_vocab_16e6.txt.gz"  # in the package open_clip
MERGES = 49_152 - 256 - 2  # lines of the table that are used, after the first
END = "</w>"  # of a word
MARKS = ("<start_of_text>", "<end_of_text>")


class BytePairs:
    """CLIP's byte-pair encoding (Radford et al. 2021): words are cut into the table's merges, lowest rank first."""

    def __init__(self, table: Path) -> None:
        import regex

        with gzip.open(table, "rt", encoding="utf-8") as lines:
            merges = lines.read().split("\n", MERGES + 1)[1:-1]  # such as "r ed</w>"
        self._letters = _byte_letters()
        tokens = [*self._letters.values(), *(letter + END for letter in self._letters.values())]
        tokens += [*"\n".join(merges).replace(" ", "").split("\n"), *MARKS]
        self._id = dict(zip(tokens, count()))
        self._rank = dict(zip(merges, count()))
        self._words = regex.compile(
            "|".join(MARKS) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
        )

    def words(self, caption: str) -> tuple[str, ...]:
        """The words of a caption: lower case, HTML and broken encodings resolved."""
        clean = caption
        if not (caption.isascii() and caption.isprintable() and "&" not in caption):  # what ftfy leaves as it is
            import ftfy

            clean = html.unescape(html.unescape(ftfy.fix_text(caption)))
        return tuple(self._words.findall(" ".join(clean.split()).lower()))

    def ids(self, word: str) -> tuple[int, ...]:
        """The token ids of one word."""
        if word in MARKS:
            return (self._id[word],)
        letters = [self._letters[byte] for byte in word.encode("utf-8")]
        parts = [*letters[:-1], letters[-1] + END]
        while len(parts) > 1:
            pairs = set(pairwise(parts))
            merge = min(pairs, key=lambda pair: self._rank.get(" ".join(pair), MERGES))
            if " ".join(merge) not in self._rank:
                break
            parts = _merged(parts, merge)
        return tuple(self._id[part] for part in parts)


def _merged(parts: list[str], merge: tuple[str, ...]) -> list[str]:
    """The parts with every occurrence of a pair joined, from the left."""
    joined: list[str] = []
    place = 0
    while place < len(parts):
        both = tuple(parts[place : place + 2]) == merge
        joined.append("".join(merge) if both else parts[place])
        place += 2 if both else 1
    return joined


def _byte_letters() -> dict[int, str]:
    """A printable character for each byte, in the order of the first token ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


@lru_cache(maxsize=1)
def _tokenizer() -> BytePairs:
    spec = importlib.util.find_spec("open_clip")  # finds the package, does not import it
    folders = spec.submodule_search_locations if spec else None
    table = next((path for folder in folders or () if (path := Path(folder) / TABLE).is_file()), None)
    if table is None:
        raise VidiffError(f"{TABLE} of the package open_clip is not on this machine", fix="install open-clip-torch")
    return BytePairs(table)


@lru_cache(maxsize=CACHED_CAPTIONS)
def words(caption: str) -> tuple[str, ...]:
    """The words of a caption as the tokenizer cuts it: lower case, digits and runs of punctuation apart."""
    return _tokenizer().words(caption)


@lru_cache(maxsize=CACHED_CAPTIONS)
def word_ids(word: str) -> tuple[int, ...]:
    """The token ids of one word of `words`: several when it is no token of its own."""
    return _tokenizer().ids(word)


@lru_cache(maxsize=CACHED_CAPTIONS)
def token_ids(caption: str) -> tuple[int, ...]:
    """The token ids of a caption, without start and end marks: those of its words, one after the other."""
    return tuple(token for word in words(caption) for token in word_ids(word))


def is_punctuation(word: str) -> bool:
    """True when every character is punctuation: nothing that a caption is about."""
    return all(unicodedata.category(character).startswith("P") for character in word)
