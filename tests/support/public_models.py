"""Tiny models of public families with random weights, saved in the diffusers format. Every weight is non-zero, so that
frames are coupled."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch

from vidiff_cli.models.public.packages import import_package

WORDS = ("a", "cat", "surfing", "red", "circle", "moving", "left", "dog", "no", "blur")
DIM = 16  # of prompts


def save_model(family: str, folder: Path, **scheduler: Any) -> Path:
    """A folder of a family, with settings of its scheduler changed; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts, config = FAMILIES[family]()
    index: dict[str, Any] = {"_class_name": "DiffusionPipeline", "_diffusers_version": "0.42.1"}
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                _fill(part)
        part.save_pretrained(folder / name)
        library = "transformers" if name in ("text_encoder", "tokenizer") else "diffusers"
        index[name] = [library, type(part).__name__]
    index["scheduler"] = ["diffusers", config["_class_name"]]
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config | scheduler))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _fill(module: torch.nn.Module) -> None:
    """Give weights that start at zero (last layers, gates) small random values."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)


def _clip() -> dict[str, Any]:
    transformers = import_package("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=1000,
        hidden_size=DIM,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=998,
        eos_token_id=999,
        pad_token_id=999,
    )
    return {"text_encoder": transformers.CLIPTextModel(config), "tokenizer": _clip_tokenizer()}


def _clip_tokenizer() -> Any:
    transformers = import_package("transformers")
    letters = [*string.ascii_lowercase, *string.digits, ",", ".", "!"]
    vocabulary = {token: number for number, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        so_far = word[0] if len(word) > 1 else ""
        for place, letter in enumerate(word[1:], 1):
            following = letter + ("</w>" if place == len(word) - 1 else "")
            if (so_far, following) not in merges:
                merges.append((so_far, following))
            so_far += following
            vocabulary.setdefault(so_far, len(vocabulary))
    vocabulary |= {"<|startoftext|>": 998, "<|endoftext|>": 999}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _t5(kind: str) -> dict[str, Any]:
    transformers = import_package("transformers")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=256, d_model=DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    return {"text_encoder": getattr(transformers, f"{kind}EncoderModel")(config), "tokenizer": _t5_tokenizer()}


def _t5_tokenizer() -> Any:
    transformers = import_package("transformers")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    pieces += [(f"▁{word}", -2.0) for word in WORDS] + [(letter, -4.0) for letter in string.ascii_lowercase]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def _image_vae() -> Any:
    diffusers = import_package("diffusers")
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=0.5,
    )


SCALED = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def modelscope() -> tuple[dict[str, Any], dict[str, Any]]:
    """UNet3DConditionModel: 16 values a side, 32 pixels."""
    diffusers = import_package("diffusers")
    unet = diffusers.UNet3DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=DIM,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    config = {"_class_name": "DDIMScheduler", **SCALED, "prediction_type": "epsilon", "steps_offset": 1}
    return {"unet": unet, "vae": _image_vae(), **_clip()}, config


def animatediff() -> tuple[dict[str, Any], dict[str, Any]]:
    """UNetMotionModel: 16 values a side, 32 pixels."""
    diffusers = import_package("diffusers")
    unet = diffusers.UNetMotionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        layers_per_block=1,
        cross_attention_dim=DIM,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=32,
        norm_num_groups=4,
    )
    config = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear"}
    config |= {"beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "epsilon", "timestep_spacing": "trailing"}
    return {"unet": unet, "vae": _image_vae(), **_clip()}, config


def _video_vae() -> Any:
    diffusers = import_package("diffusers")
    return diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[True, True],
        latents_mean=[0.1, -0.1, 0.0, 0.2],
        latents_std=[0.9, 1.1, 1.0, 0.8],
        scale_factor_temporal=4,
        scale_factor_spatial=4,
    )


def wan() -> tuple[dict[str, Any], dict[str, Any]]:
    """WanTransformer3DModel with an autoencoder of 4x4x4."""
    diffusers = import_package("diffusers")
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=DIM,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    config = {"_class_name": "UniPCMultistepScheduler", "num_train_timesteps": 1000, "use_flow_sigmas": True}
    config |= {"flow_shift": 3.0, "prediction_type": "flow_prediction"}
    return {"transformer": transformer, "vae": _video_vae(), **_t5("UMT5")}, config


def skyreels() -> tuple[dict[str, Any], dict[str, Any]]:
    """SkyReelsV2Transformer3DModel: Wan's shape with a level for every value along time."""
    diffusers = import_package("diffusers")
    transformer = diffusers.SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=DIM,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    config = {"_class_name": "UniPCMultistepScheduler", "num_train_timesteps": 1000, "use_flow_sigmas": True}
    config |= {"flow_shift": 8.0, "prediction_type": "flow_prediction"}
    return {"transformer": transformer, "vae": _video_vae(), **_t5("UMT5")}, config


def cogvideox() -> tuple[dict[str, Any], dict[str, Any]]:
    """CogVideoXTransformer3DModel with an autoencoder of 4x2x2."""
    diffusers = import_package("diffusers")
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=DIM,
        num_layers=2,
        sample_width=16,
        sample_height=8,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=1.15,
    )
    config = {"_class_name": "CogVideoXDDIMScheduler", **SCALED, "prediction_type": "v_prediction"}
    config |= {"rescale_betas_zero_snr": True, "snr_shift_scale": 3.0, "timestep_spacing": "trailing"}
    return {"transformer": transformer, "vae": vae, **_t5("T5")}, config


FAMILIES = {
    "modelscope": modelscope,
    "animatediff": animatediff,
    "wan": wan,
    "skyreels": skyreels,
    "cogvideox": cogvideox,
}


def open_parts(folder: Path) -> dict[str, Any]:
    """The parts of a folder as the libraries open them: those of their pipelines but for the scheduler."""
    parts: dict[str, Any] = {}
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("text_encoder", "tokenizer", "unet", "transformer", "vae"):
        if name in index:
            library, kind = index[name]
            parts[name] = getattr(import_package(library), kind).from_pretrained(folder / name)
    return parts


def save_split(folder: Path) -> tuple[Path, Path, Path]:
    """AnimateDiff as people have it, and joined: (an image model's folder, a motion adapter's, a video model's)."""
    diffusers = import_package("diffusers")
    image, adapter = folder / "image", folder / "adapter"
    joined = save_model("animatediff", folder / "joined")
    save_model("animatediff", image)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        unet = diffusers.UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=DIM,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        motion = diffusers.MotionAdapter(
            block_out_channels=(8, 16),
            motion_layers_per_block=1,
            motion_num_attention_heads=2,
            motion_norm_num_groups=4,
            motion_max_seq_length=32,
        )
        _fill(motion)
    together = diffusers.UNetMotionModel.from_unet2d(unet, motion)
    for place, network in ((image / "unet", unet), (adapter, motion), (joined / "unet", together)):
        for file in place.glob("*"):
            file.unlink()
        network.save_pretrained(place)
    index = json.loads((image / "model_index.json").read_text())
    (image / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "UNet2DConditionModel"]}))
    return image, adapter, joined
