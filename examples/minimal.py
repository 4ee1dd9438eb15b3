"""Train a video diffusion model and extend a clip with the core of vidiff alone: models, diffusion, sampling, frames.

    python examples/minimal.py [--steps 400]

The dataset is drawn on the fly: a bright square that moves in a straight line, 16x16 pixels, 8 frames. The model
learns to make frames given none, some or most of them; then a clip is sampled from nothing and extended by 8 frames,
window after window. Shapes: b clips, c channels, t frames, h w pixels in [-1, 1].
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings, ModelSettings, NetworkSettings
from vidiff_cli.diffusion.guidance import hold_known, threshold
from vidiff_cli.diffusion.levels import add_noise, cosine, grid
from vidiff_cli.diffusion.samplers import Denoise, dpmpp_2m
from vidiff_cli.diffusion.targets import loss_weight, target
from vidiff_cli.frames import plan
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.sampling.windows import sample_windows

SIDE, FRAMES, FPS = 16, 8, 8.0
SETTINGS = ModelSettings(
    width=SIDE,
    height=SIDE,
    frames=FRAMES,
    fps="8",
    network=NetworkSettings(
        base_channels=24, channel_mult=(1, 2), num_res_blocks=1, head_dim=12, embedding=96, context_dim=0, patch_size=2
    ),
    diffusion=DiffusionSettings(target="x", weighting="truncated", shift=-2.0),
)


def moving_squares(clips: int, generator: torch.Generator) -> Tensor:
    """Draw clips (b c t h w): a square of 5 pixels that moves by up to a pixel a frame and stays inside."""
    start = 4 + 7 * torch.rand(clips, 2, generator=generator)
    goal = 4 + 7 * torch.rand(clips, 2, generator=generator)
    share = torch.linspace(0, 1, FRAMES)[None, :, None]
    center = (1 - share) * start[:, None] + share * goal[:, None]  # b t 2
    pixels = torch.arange(SIDE) + 0.5
    covered = (3.0 - (pixels - center[..., None]).abs()).clamp(0, 1)  # b t 2 side: coverage of columns and rows
    picture = covered[:, :, 1, :, None] * covered[:, :, 0, None, :]  # b t h w
    color = torch.rand(clips, 3, generator=generator) * 0.7 + 0.3
    return 2 * color[:, :, None, None, None] * picture[:, None] - 1


def conditioning(observed: Tensor) -> Conditioning:
    """Return the inputs of the network besides z and the level: times in seconds, and the observed frames (b t)."""
    times = torch.arange(observed.shape[1]) / FPS
    return Conditioning(times=times.expand(observed.shape), observed=observed)


def training_loss(model: Denoiser, clips: Tensor, generator: torch.Generator) -> Tensor:
    """Return the weighted squared error on the frames that are not observed; half of the clips have observed frames."""
    b, t = len(clips), clips.shape[2]
    count = torch.randint(1, t, (b, 1), generator=generator) * torch.randint(0, 2, (b, 1), generator=generator)
    observed = torch.arange(t) < count  # the first frames
    u = torch.rand(b, 1, generator=generator).expand(b, t)
    settings = model.settings.diffusion
    level = torch.where(observed, settings.high, cosine(u, shift=settings.shift))
    noise = torch.randn(clips.shape, generator=generator)
    z = torch.where(observed[:, None, :, None, None], clips, add_noise(clips, noise, level))
    error = model.predict(z, level, conditioning(observed)) - target(settings.target, clips, noise, level)
    weight = loss_weight(settings.weighting, settings.target, level)
    per_frame = error.square().mean(dim=(1, 3, 4)) * weight
    return (per_frame * ~observed).sum() / (~observed).sum()


def train(steps: int, *, batch_size: int = 16, seed: int = 0) -> tuple[Denoiser, list[float]]:
    """Train a model from nothing; return it, with averaged weights, and the loss of every step."""
    torch.manual_seed(seed)  # for the weights; every other draw has a generator
    generator = torch.Generator().manual_seed(seed)
    model, average = Denoiser(SETTINGS), Denoiser(SETTINGS)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    losses = []
    for step in range(steps):
        loss = training_loss(model, moving_squares(batch_size, generator), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(0.99, (1 + step) / (10 + step))
        for mean, value in zip(average.parameters(), model.parameters(), strict=True):
            mean.data.lerp_(value.data, 1 - decay)
        losses.append(loss.item())
    return average.requires_grad_(False).eval(), losses


def generate(model: Denoiser, total: int, given: Tensor, *, steps: int = 12, seed: int = 0) -> Tensor:
    """Return a clip (1 c total h w) that begins with the `given` frames (1 c k h w), sampled window after window."""
    known = given.shape[2]
    video = torch.full((1, 3, total, SIDE, SIDE), torch.nan)
    video[:, :, :known] = given
    windows = plan(total, range(known), window=FRAMES, overlap=FRAMES // 2)
    levels = grid(steps, shift=model.settings.diffusion.shift)

    def denoise(_windows: object, _known: Tensor, observed: Tensor) -> Denoise:
        return threshold(lambda z, level: model(z, level, conditioning(observed)))

    made = sample_windows(
        windows,
        [range(number, number + 1) for number in range(len(windows))],  # one after another
        lambda frames: video[:, :, list(frames)],
        denoise=denoise,
        sample=lambda denoiser, z, _noise: dpmpp_2m(denoiser, z, levels),
        condition=partial(hold_known, level=model.settings.diffusion.high),
        seeds=[seed],
    )
    with torch.no_grad():
        for window, (frames,) in zip(windows, made, strict=True):
            video[:, :, sorted(window.makes)] = frames
    return video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    asked = parser.parse_args()
    model, losses = train(asked.steps)
    print(f"loss: {losses[0]:.3f} at first, {sum(losses[-20:]) / len(losses[-20:]):.3f} at the end")
    clip = generate(model, FRAMES, torch.zeros(1, 3, 0, SIDE, SIDE))
    longer = generate(model, 2 * FRAMES, clip)
    for frame in longer[0].mean(dim=0)[::5]:  # every fifth frame as signs
        print("\n".join("".join(" .:*#"[int(2.49 * (value + 1))] for value in row.clamp(-1, 1)) for row in frame))


if __name__ == "__main__":
    main()
