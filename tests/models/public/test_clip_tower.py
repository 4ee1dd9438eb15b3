"""Two libraries, one text tower: the states of CLIPTextModel are those of open_clip's tower with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from public_models import open_parts
from torch import Tensor

from vidiff_cli.text.clip_names import import_open_clip

RULES = (
    ("text_model.", ""),
    ("embeddings.token_embedding.", "token_embedding."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.out_proj.", ".attn.out_proj."),
    ("final_layer_norm.", "ln_final."),
)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of transformers under the names of open_clip, whose attention has one matrix for q, k and v."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith("position_ids") or any(f".{part}_proj." in key for part in "kv"):
            continue
        if ".q_proj." in key:
            value = torch.cat([state[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
            kind = "weight" if key.endswith("weight") else "bias"
            key = f"{key.partition('.q_proj.')[0].replace('self_attn', 'attn')}.in_proj_{kind}"
        for theirs, ours in RULES:
            key = key.replace(theirs, ours)
        found[key] = value
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_states_of_both_libraries(folder_of, activation: str) -> None:
    import_open_clip()
    open_clip = pytest.importorskip("open_clip.transformer")
    folder: Path = folder_of("modelscope")
    parts = open_parts(folder)
    theirs: Any = parts["text_encoder"].eval()
    config = theirs.config
    for module in theirs.modules():
        if type(module).__name__ == "CLIPMLP":
            from transformers.activations import ACT2FN

            module.activation_fn = ACT2FN[activation]
    ours: Any = open_clip.TextTransformer(
        context_length=77,
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        layers=config.num_hidden_layers,
        mlp_ratio=config.intermediate_size / config.hidden_size,
        act_layer=open_clip.QuickGELU if activation == "quick_gelu" else torch.nn.GELU,
    ).eval()
    missing, unexpected = ours.load_state_dict(renamed(theirs.state_dict()), strict=False)
    assert set(missing) <= {"text_projection", "attn_mask"} and not unexpected
    tokenizer = parts["tokenizer"]
    for prompt in ("a red cat surfing", "", "a dog, moving left. no blur"):
        ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.no_grad():
            states = theirs(ids)[0]
            x = ours.token_embedding(ids) + ours.positional_embedding
            x = ours.ln_final(ours.transformer(x, attn_mask=ours.attn_mask))
        assert float((states - x).abs().max()) < 1e-6
