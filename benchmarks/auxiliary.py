"""Effect and cost of the auxiliary losses of `vidiff train`: equal seeds and steps, one loss at a time.

    python -m benchmarks auxiliary [--steps 300] [--seeds 0 1] [--losses NAME ...]

The shapes world (16x16, 8 frames, drawn, not prepared), a network like the preset tiny's with half its width, batches
of 16 with captions and given frames, one thread. The levels are not shifted, so that 22 % of the clips pass the gate
(with tiny's own shift 7 %). There are no weights of a trained video network here: the features are those of r3d_18 with
random weights (seed 0), shown at 16 pixels, and say what the perceptual loss costs, not what it is worth. Control:
the plain squared error under the same gate, with twice the weight, for the flow loss of white errors is twice theirs.

Of the averaged weights, over 64 held-out clips with the same noise for all, at eight levels: the squared error of x_hat
over sigma^2 (v), weighted as `truncated`, and at low noise alone (level 2 and above); `flicker`, the error's change
along the true motion (known here, not measured) over sigma^2, at levels 2, 3 and 4. Of the same clips with 4 frames
given and 4 made: how far the center is off, `motion` (the way of the object along its true way, 1 is right, 0 stands
still), `wobble` (the center's distance from uniform motion, pixels), `warp_error` (mean square difference along the
flow that is found in the result itself; small where nothing moves). The last three also of the real clips.
CPU time per step is the median, as a ratio to the run without. Updates benchmarks/results/auxiliary.json,
or auxiliary-STEPS.json for another number of steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.learning import (
    FPS,
    FRAMES,
    HELD_OUT,
    SAMPLING_STEPS,
    SIDE,
    TRAINING,
    Variant,
    averaged,
    clips,
    model_estimate,
    settings_of,
    source,
    timed,
)
from benchmarks.machine import RESULTS, save
from examples import shapes_report as report
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import ModelSettings, TextSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.diffusion.levels import add_noise, cosine
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.diffusion.targets import WEIGHTINGS
from vidiff_cli.models.optical_flow import raft
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.motion import forward_backward_mask, full_size_flow, warp
from vidiff_cli.text.learned import collect_vocabulary
from vidiff_cli.text.patch_torchvision import patch_torchvision_nms
from vidiff_cli.training.auxiliary_losses import GATE, LowNoiseLosses, Term, subsample_rate
from vidiff_cli.training.flow_loss import ResidualFlow
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.objective import training_loss
from vidiff_cli.training.perceptual_loss import perceptual
from vidiff_cli.training.state import TrainState
from vidiff_cli.worlds import oracle, shapes

CPU = torch.device("cpu")
STEPS, WEIGHT, GIVEN = 300, 0.2, 4
CHANGES = {"network.base_channels": 24, "diffusion.shift": 0.0}
RANDOM = "perceptual 0.2, random features"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--losses", nargs="+", help="some of them; all if not given")
    given = parser.parse_args()
    torch.set_num_threads(1)
    choose_device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        weights = random_weights(Path(folder))
        features = perceptual(weights["r3d_18"], CPU, side=SIDE)
        arms: dict[str, dict[str, tuple[float, Term]]] = {
            "without": {},
            "squared error 0.4": {"squared": (2 * WEIGHT, squared_error)},
            "flow 0.2": {"flow": (WEIGHT, ResidualFlow(full_size_flow))},
            RANDOM: {"perceptual": (WEIGHT, features)},
        }
        figures = {"steps": given.steps, "per_clip": costs(weights), "real": looks(clips(1, HELD_OUT)[0])}
        figures["dtype"] = dtype_name(choose_dtype("auto", CPU))
        record = "auxiliary" if given.steps == STEPS else f"auxiliary-{given.steps}"
        path = RESULTS / f"{record}.json"
        results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
        for seed in map(str, given.seeds):
            for name in given.losses or arms:
                of_seed = results.setdefault(seed, {})
                of_seed[name] = row = run(arms[name], given.steps, int(seed))
                if "without" in of_seed:
                    row["cost"] = row["cpu_seconds_per_step"] / of_seed["without"]["cpu_seconds_per_step"]
                print(seed, name, json.dumps(row), file=sys.stderr, flush=True)
                save(record, figures | {"mean": averages(results), "results": results})


def run(terms: dict[str, tuple[float, Term]], steps: int, seed: int) -> dict[str, Any]:
    """Trains with the terms and measures the averaged weights."""
    settings = settings_of(Variant(changes=CHANGES, batch=16)).model_copy(update={"seed": seed})
    dtype = choose_dtype("auto", CPU)
    state = new_state(settings)
    auxiliary = LowNoiseLosses(terms=terms, keep=subsample_rate(settings.diffusion)) if terms else None
    objective = partial(training_loss, auxiliary=auxiliary)
    logged: list[dict[str, float]] = []

    def updates() -> Iterator[int]:
        schedule = LRSchedule.of_run(steps, settings.optimizer)
        reader = state.video_model.caption_reader()
        for step in train_steps(
            state, source(), settings, schedule, reader=reader, device=CPU, dtype=dtype, objective=objective
        ):
            logged.append(step.terms)
            yield step.step

    seconds = [spent for _, spent in timed(updates())]
    model = averaged(state, dtype)
    last = logged[-max(1, steps // 5) :]
    return (
        {
            "cpu_seconds_per_step": median(seconds[2:]),
            "terms": {name: mean(row[name] for row in last) for name in terms},
        }
        | held_out(model)
        | extended(model)
    )


def squared_error(x_hat: Tensor, video: Tensor, made: Tensor) -> Tensor:
    """The control: the same attention to low noise, and none to motion. Of white errors the flow loss is twice this."""
    return (x_hat - video).square().mean(dim=(1, 3, 4)).sum(dim=1) / made.sum(dim=1)


def new_state(settings: TrainSettings) -> TrainState:
    """The same weights at the start for all losses of a seed."""
    model = ModelSettings(
        width=SIDE,
        height=SIDE,
        frames=FRAMES,
        fps=str(FPS),
        frame_strides=(1, 2),
        network=settings.network,
        diffusion=settings.diffusion,
        text=TextSettings(vocabulary=collect_vocabulary(clips(0, TRAINING)[1])),
    )
    return TrainState(new_video_model(model, settings.seed), settings.optimizer)


@torch.no_grad()
def held_out(model: UNetModel) -> dict[str, float]:
    """Losses and flicker of the estimates of held-out clips."""
    videos, captions, _ = clips(1, HELD_OUT)
    video = torch.from_numpy(videos).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    estimate, given = model_estimate(model), torch.zeros(HELD_OUT, FRAMES, dtype=torch.bool)

    def error(level: float, number: int) -> Tensor:
        levels = torch.full((HELD_OUT, FRAMES), level)
        z = add_noise(video, torch.randn(video.shape, generator=seeded(7, number)), levels)
        parts = [slice(start, start + 16) for start in range(0, HELD_OUT, 16)]
        return torch.cat([estimate(z[part], levels[part], given[part], captions[part]) for part in parts]) - video

    rows = []
    for number in range(8):
        level = cosine(torch.tensor((number + 0.5) / 8, dtype=torch.float64)).float()
        squared = float(error(float(level), number).square().mean())
        rows.append(
            (float(level), squared / float(torch.sigmoid(-level)), squared * float(WEIGHTINGS["truncated"](level)))
        )
    flow, mask = known_flow()
    flicker = []
    for number, level in enumerate((2.0, 3.0, 4.0), start=8):
        wrong = error(level, number)
        left, right = (part.transpose(1, 2).flatten(0, 1) for part in (wrong[:, :, :-1], wrong[:, :, 1:]))
        change = ((left - warp(right, flow)).square() * mask).sum() / (3 * mask.sum())
        flicker.append(float(change / torch.sigmoid(torch.tensor(-level))))
    return {
        "v": mean(row[1] for row in rows),
        "truncated": mean(row[2] for row in rows),
        "v_low_noise": mean(row[1] for row in rows if row[0] >= GATE),
        "flicker": mean(flicker),
    }


def known_flow() -> tuple[Tensor, Tensor]:
    """The true flow of the held-out clips' pairs of frames (n 2 h w) and where it is known (n 1 h w): on the object,
    and on the ground that is seen in both frames."""
    scenes = [shapes.draw_numbered(1, number, canvas=SIDE, frames=FRAMES) for number in range(HELD_OUT)]
    covered = np.stack([shapes.coverage(scene.shape, scene.side_px, scene.positions, SIDE) for scene in scenes])
    steps = np.stack([np.diff(scene.positions, axis=0) for scene in scenes])  # n t-1 2
    on, ground = covered[:, :-1] > 0.99, (covered[:, :-1] == 0) & (covered[:, 1:] == 0)
    flow = steps[..., None, None] * on[:, :, None]
    return torch.from_numpy(flow).float().flatten(0, 1), torch.from_numpy(on | ground).float().flatten(0, 1)[:, None]


def extended(model: UNetModel) -> dict[str, float]:
    """Held-out clips whose last four frames are made anew, without captions."""
    videos, _, paths = clips(1, HELD_OUT)
    settings = GenerationSettings(seed=0, steps=SAMPLING_STEPS, condition="learned", history_guidance=1.0)
    made = report.complete(model, videos, range(GIVEN), settings)
    return looks(made) | {"center_px": report.errors(made, videos, paths, range(GIVEN))["center_px"]}


def looks(made: np.ndarray) -> dict[str, float]:
    """Compare how the objects of clips (n t h w c) move with the true ways of the held-out clips."""
    paths = clips(1, HELD_OUT)[2]
    readings = [oracle.read_shape(clip) for clip in made]
    true = paths[:, -1] - paths[:, GIVEN - 1]
    ways = np.stack([reading.positions[-1] - reading.positions[GIVEN - 1] for reading in readings])
    video = torch.from_numpy(made).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    first, second = video[:, GIVEN - 1 : -1].flatten(0, 1), video[:, GIVEN:].flatten(0, 1)
    forward, backward = full_size_flow(first, second)
    mask = forward_backward_mask(forward, backward)
    warped = ((first - warp(second, forward)).square() * mask).sum() / (3 * mask.sum())
    return {
        "motion": float(np.nanmean((ways * true).sum(1) / np.square(true).sum(1))),
        "wobble": float(np.nanmean([reading.residual_px for reading in readings])),
        "warp_error": float(warped),
    }


def averages(results: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """By loss: the mean over the seeds, and half the difference of the two farthest apart."""
    made: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for of_seed in results.values() for name in of_seed):
        rows = [of_seed[name] for of_seed in results.values() if name in of_seed]
        keys = [key for key, value in rows[0].items() if isinstance(value, float) and all(key in row for row in rows)]
        figures = {key: [row[key] for row in rows] for key in keys}
        made[name] = {key: mean(values) for key, values in figures.items()}
        made[name] |= {f"{key}_spread": (max(values) - min(values)) / 2 for key, values in figures.items()}
    return made


def random_weights(folder: Path) -> dict[str, Path]:
    """State dicts of untrained networks, as safetensors."""
    from safetensors.torch import save_file

    patch_torchvision_nms()
    from torchvision.models import optical_flow, video

    made = {}
    for name, build in (("r3d_18", video.r3d_18), ("s3d", video.s3d), ("raft_small", optical_flow.raft_small)):
        torch.manual_seed(0)
        made[name] = folder / f"{name}.safetensors"
        save_file(build(weights=None).state_dict(), made[name])
    return made


def costs(weights: dict[str, Path]) -> dict[str, float]:
    """CPU seconds that one clip of 8 frames of 16x16 costs, forwards and backwards, by each way."""
    video = torch.from_numpy(clips(1, 4)[0]).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    ways: dict[str, Term] = {
        "flow, dense inverse search": ResidualFlow(full_size_flow),
        "flow, raft_small (at 128 px)": ResidualFlow(raft(weights["raft_small"], CPU)),
        "r3d_18 at 16 px": perceptual(weights["r3d_18"], CPU, side=16),
        "r3d_18 at its 112 px": perceptual(weights["r3d_18"], CPU),
        "s3d at its 224 px": perceptual(weights["s3d"], CPU),
    }
    found = {}
    for name, way in ways.items():
        spent = []
        for _ in range(2):
            x_hat = (0.9 * video).requires_grad_(True)
            began = time.process_time()
            way(x_hat, video, torch.ones(4, FRAMES, dtype=torch.bool)).sum().backward()
            spent.append((time.process_time() - began) / len(video))
        found[name] = spent[-1]
    return found
