"""Prompts as the states of a public model's text encoder, which is opened once for all of them and then freed.

Shapes: l tokens, d the encoder's width.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vidiff_cli.config.model import LongCaptions
from vidiff_cli.models.families import Family
from vidiff_cli.models.public.folder import PublicFolder
from vidiff_cli.models.public.loading import open_part, open_tokenizer
from vidiff_cli.text.long_captions import CaptionLimit


class PromptStates:
    """States (l d) by prompt on the CPU. The encoder is in memory during `embed` alone."""

    def __init__(
        self, folder: PublicFolder, device: torch.device, dtype: torch.dtype, long_captions: LongCaptions = "cut"
    ) -> None:
        self._folder, self._device, self._dtype = folder, device, dtype
        self._long_captions: LongCaptions = long_captions
        self._states: dict[str, Tensor] = {}

    def embed(self, prompts: Sequence[str]) -> None:
        """Embed prompts that have no states yet; "" is among them always, for guidance."""
        missing = [prompt for prompt in dict.fromkeys([*prompts, ""]) if prompt not in self._states]
        if not missing:
            return
        encoder = self.open_encoder()
        for prompt in missing:  # one by one: in a batch the last bits would depend on the others
            self._states[prompt] = self.encode(encoder, prompt)
        del encoder
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def states(self, prompts: Sequence[str]) -> Tensor:
        """States (b l d) of prompts on the device."""
        self.embed(prompts)
        return torch.stack([self._states[prompt] for prompt in prompts]).to(self._device)

    def keep(self, prompt: str, states: Tensor) -> None:
        """Take over states (l d) of a prompt that were made before."""
        self._states[prompt] = states.cpu()

    @cached_property
    def limit(self) -> CaptionLimit:
        """The number of tokens that the encoder reads, its marks of start and end included."""
        most = min(self._folder.family.tokens, int(self.tokenizer.model_max_length))

        def count(prompt: str) -> int:
            return len(self.tokenizer(clean(self._folder.family, prompt), truncation=False).input_ids)

        return CaptionLimit(count, most, self._long_captions)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the folder."""
        return open_tokenizer(self._folder.path / "tokenizer", self._folder.classes["tokenizer"])

    def open_encoder(self) -> Any:
        """The text encoder with its weights."""
        name = self._folder.classes["text_encoder"]
        return open_part(self._folder.path / "text_encoder", "transformers", name, self._dtype, self._device)

    @torch.no_grad()
    def encode(self, encoder: Any, prompt: str) -> Tensor:
        """States (l d) of a prompt by the opened encoder, on the CPU."""
        family = self._folder.family
        read = self.tokenizer(
            clean(family, self.limit.shorten(prompt)),
            padding="max_length",
            max_length=self.limit.limit,
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = read.input_ids.to(self._device), read.attention_mask.to(self._device)
        if family.encoders == ("UMT5EncoderModel",):  # states after the end are zero
            states = encoder(ids, mask).last_hidden_state[0]
            return torch.where(mask[0, :, None] > 0, states, torch.zeros_like(states)).cpu()
        masked = getattr(encoder.config, "use_attention_mask", False)
        return encoder(ids, attention_mask=mask if masked else None)[0][0].cpu()


def clean(family: Family, prompt: str) -> str:
    """The text that a family's tokenizer is handed: Wan's own pipeline resolves entities and joins white space."""
    if family.encoders != ("UMT5EncoderModel",):
        return prompt
    return " ".join(html.unescape(html.unescape(prompt)).split())
