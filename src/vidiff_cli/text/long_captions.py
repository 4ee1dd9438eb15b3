"""Captions that are longer than their encoder reads: found, told of, and shortened at the end, in the middle or not at
all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from vidiff_cli.config.model import LongCaptions, TextSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Note
from vidiff_cli.text.clip_tower import token_counter
from vidiff_cli.text.encoder import CaptionReader
from vidiff_cli.text.tokenizer import token_ids

CACHED_CAPTIONS = 65_536
SHOWN = 80  # characters of a text in a message
PART = {"cut": "end", "middle": "middle"}


class CaptionLimit:
    """The number of tokens that an encoder reads of a caption, and what becomes of a longer one.

    `count` gives the tokens of a caption; `mode` is cut (the end is left out), middle
    (the middle is) or refuse.
    """

    def __init__(self, count: Callable[[str], int], limit: int, mode: LongCaptions) -> None:
        self.count, self.limit, self.mode = count, limit, mode
        self.shorten = lru_cache(maxsize=CACHED_CAPTIONS)(self._shorten)

    def shortens(self, reader: CaptionReader) -> CaptionReader:
        """A reader that hands the captions to `reader` as they are to be read."""
        return reader if self.mode != "middle" else lambda captions: reader([self.shorten(text) for text in captions])

    def _shorten(self, caption: str) -> str:
        """The caption without its middle, where that is asked for and needed; the end is cut by the encoder itself."""
        if self.mode != "middle" or self.count(caption) <= self.limit:
            return caption
        parts, between, kept = self._parts(caption)
        return between.join([*parts[: kept - kept // 2], *parts[len(parts) - kept // 2 :]])

    def left_out(self, caption: str) -> str:
        """The part of a long caption that is not read."""
        parts, between, kept = self._parts(caption)
        first, last = (kept - kept // 2, kept // 2) if self.mode == "middle" else (kept, 0)
        return between.join(parts[first : len(parts) - last])

    def _parts(self, caption: str) -> tuple[list[str], str, int]:
        """(words, what stands between them, the number of them that can be kept); letters where no word fits."""
        for parts, between in ((caption.split(), " "), (list(caption), "")):
            low, high = 0, len(parts)
            while low < high:  # the largest number that fits
                kept = (low + high + 1) // 2
                back = kept // 2 if self.mode == "middle" else 0
                text = between.join([*parts[: kept - back], *parts[len(parts) - back :]])
                low, high = (kept, high) if self.count(text) <= self.limit else (low, kept - 1)
            if low > 1:
                break
        return parts, between, low

    def notes(self, captions: Iterable[str], *, what: str, fix: str = "") -> Iterator[Note]:
        """Tells how many captions are longer than is read, the longest, and what is left out.

        Args:
            captions: The captions; repetitions count once.
            what: Their noun, such as "prompt".
            fix: Another way to have all of them read.

        Yields:
            A warning, where any is too long.

        Raises:
            VidiffError: One is too long, and `mode` is refuse.
        """
        texts = list(dict.fromkeys(captions))
        lengths = {text: length for text in texts if (length := self.count(text)) > self.limit}
        if not lengths:
            return
        longest = max(lengths, key=lambda text: lengths[text])
        ways = [] if self.mode == "middle" else ["--long-captions middle keeps both ends"]
        ways += [fix.format(tokens=lengths[longest])] if fix else []
        if self.mode == "refuse":
            raise VidiffError(
                f"the {what} is too long for the text encoder: {shown(longest)}"
                if len(texts) == 1
                else f"{len(lengths):,} of {len(texts):,} {what}s are too long for the text encoder",
                found=f"{lengths[longest]} tokens" + ("" if len(texts) == 1 else f" in {shown(longest)}"),
                expected=f"at most {self.limit}",
                fix="; ".join(["shorten it" if len(texts) == 1 else "shorten them", *ways]),
            )
        if len(texts) == 1:
            length = f"The {what} has {lengths[longest]} tokens, and the text encoder reads {self.limit}"
            left = f"its {PART[self.mode]} is left out, {shown(self.left_out(longest))}"
        else:
            length = (
                f"{len(lengths):,} of {len(texts):,} {what}s are longer than the {self.limit} tokens that the text "
            )
            length += f"encoder reads (the longest has {lengths[longest]}: {shown(longest)})"
            left = f"the {PART[self.mode]} of each is left out"
        yield Note(". ".join([f"{length}: {left}", *ways]) + ".", "warning")


def caption_limit(text: TextSettings, mode: LongCaptions | None = None) -> CaptionLimit | None:
    """The longest caption that the encoder of a model reads, marks of start and end included; None without an encoder.

    `mode` is what becomes of longer ones, by default as the model was trained. Words that a learned encoder does not
    know take no room.
    """
    mode, clip = mode or text.long_captions, text.clip
    if clip is not None:

        def count(caption: str) -> int:
            tokens, marks = token_counter(clip.encoder)
            return tokens(caption) + marks

        return CaptionLimit(lru_cache(maxsize=CACHED_CAPTIONS)(count), clip.context, mode)
    known = frozenset(text.vocabulary)
    if text.kind != "learned":
        return None
    return CaptionLimit(lambda caption: sum(token in known for token in token_ids(caption)), text.max_tokens, mode)


def shown(text: str) -> str:
    """A text in quotes, of bounded length."""
    return repr(text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}")
