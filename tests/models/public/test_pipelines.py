"""Our samplers over public models against the libraries' own pipelines: prompt states, latents, frames.

Both start from the same noise, with the same timesteps, a prompt and a negative prompt. Where a scheduler of theirs
rounds timesteps down (multistep ones of flow), the loop is written out with its whole ones. SkyReels' pipeline is for
long videos only: its loop is written out too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from public_models import FAMILIES, open_parts
from torch import Tensor

from vidiff_cli.diffusion.samplers import SAMPLERS
from vidiff_cli.models.codec import z_shape
from vidiff_cli.models.public.model import PublicModel
from vidiff_cli.models.public.packages import import_package

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

PROMPT, NEGATIVE, STEPS, FRAMES = "a red cat surfing", "no blur", 8, 5
TOLERANCE = 1e-4  # of the greatest latent
CPU = torch.device("cpu")
KINDS = {"eps": "epsilon", "v": "v_prediction", "x": "sample"}
DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "lower_order_final": True}
every_guidance = pytest.mark.parametrize("guidance", [1.0, 7.5])
every_sampler = pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])


def noise_for(model: PublicModel) -> Tensor:
    shape = z_shape(model.codec, 1, FRAMES, model.height, model.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def ours(model: PublicModel, z: Tensor, *, sampler: str, guidance: float) -> Tensor:
    times = torch.zeros(1, z.shape[2])
    denoise = model.denoiser(times, times > 0, [PROMPT], scale=guidance, negative=NEGATIVE)
    with torch.no_grad():
        return SAMPLERS[sampler](denoise, z, model.levels(STEPS))


def apart(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape and 0.1 < float(other.abs().max()) < 1e3
    return float((one - other).abs().max() / other.abs().max())


def pipeline_of(family: str, parts: dict[str, Any], scheduler: Any) -> Any:
    """The pipeline of the libraries, made of the parts of a folder."""
    if family == "modelscope":
        from diffusers.pipelines.deprecated.text_to_video_synthesis import TextToVideoSDPipeline  # pyright: ignore[reportPrivateImportUsage]

        return TextToVideoSDPipeline(**parts, scheduler=scheduler)
    diffusers = import_package("diffusers")
    if family == "animatediff":
        return diffusers.AnimateDiffPipeline(**parts, motion_adapter=None, scheduler=scheduler)
    return {"wan": diffusers.WanPipeline, "cogvideox": diffusers.CogVideoXPipeline}[family](
        **parts, scheduler=scheduler
    )


def theirs(model: PublicModel, folder: Path, family: str, scheduler: Any, z: Tensor, guidance: float) -> Tensor:
    """Latents (1 c m h w) of the pipeline."""
    pipeline = pipeline_of(family, open_parts(folder), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": model.height, "width": model.width, "num_frames": FRAMES}
    start = z.transpose(1, 2) if family == "cogvideox" else z
    made = pipeline(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        **size,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        latents=start,
        output_type="latent",
    ).frames
    return made.transpose(1, 2) if family == "cogvideox" else made


def scheduler_of(model: PublicModel, sampler: str) -> Any:
    """Theirs that goes with a sampler of ours, with the folder's own configuration."""
    diffusers, config = import_package("diffusers"), dict(model.folder.scheduler)
    config = {key: value for key, value in config.items() if not key.startswith("_")} | {"clip_sample": False}
    if sampler == "dpmpp-2m":
        config = {key: value for key, value in config.items() if key not in ("clip_sample", "snr_shift_scale")}
        return diffusers.DPMSolverMultistepScheduler(**config, **DPM)
    if "snr_shift_scale" in config:
        return diffusers.CogVideoXDDIMScheduler(**config)
    return diffusers.DDIMScheduler(**config)


@every_guidance
@every_sampler
@pytest.mark.parametrize(
    ("family", "kind"), [("modelscope", "eps"), ("modelscope", "v"), ("modelscope", "x"), ("animatediff", "eps")]
)
def test_discrete_latents(folder_of, model_of, family: str, kind: str, sampler: str, guidance: float) -> None:
    scheduler = {"prediction_type": KINDS[kind], "timestep_spacing": "trailing"}
    if sampler == "dpmpp-2m":
        scheduler["_class_name"] = "DPMSolverMultistepScheduler"
    model, folder = model_of(family, **scheduler), folder_of(family, **scheduler)
    z = noise_for(model)
    others = theirs(model, folder, family, scheduler_of(model, sampler), z, guidance)
    assert apart(ours(model, z, sampler=sampler, guidance=guidance), others) < TOLERANCE


@every_guidance
@pytest.mark.parametrize("family", ["modelscope", "cogvideox"])
def test_latents_from_zero_snr(folder_of, model_of, family: str, guidance: float) -> None:
    """From level -inf; CogVideoX with its own shift of the SNR."""
    scheduler = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    model, folder = model_of(family, **scheduler), folder_of(family, **scheduler)
    assert model.levels(STEPS)[0] == -torch.inf
    z = noise_for(model)
    others = theirs(model, folder, family, scheduler_of(model, "ddim"), z, guidance)
    assert apart(ours(model, z, sampler="ddim", guidance=guidance), others) < TOLERANCE


@every_guidance
def test_latents_of_cogvideox_by_the_second_order(folder_of, model_of, guidance: float) -> None:
    """Their second-order solver knows neither the shift of the SNR nor a terminal SNR of zero: without both."""
    scheduler = {"rescale_betas_zero_snr": False, "snr_shift_scale": 1.0, "_class_name": "DPMSolverMultistepScheduler"}
    model, folder = model_of("cogvideox", **scheduler), folder_of("cogvideox", **scheduler)
    z = noise_for(model)
    others = theirs(model, folder, "cogvideox", scheduler_of(model, "dpmpp-2m"), z, guidance)
    assert apart(ours(model, z, sampler="dpmpp-2m", guidance=guidance), others) < TOLERANCE


@every_guidance
def test_latents_of_wan_by_euler(folder_of, model_of, guidance: float) -> None:
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    model, folder = model_of("wan", **scheduler), folder_of("wan", **scheduler)
    euler = import_package("diffusers").FlowMatchEulerDiscreteScheduler(shift=3.0)
    z = noise_for(model)
    others = theirs(model, folder, "wan", euler, z, guidance)
    assert apart(ours(model, z, sampler="ddim", guidance=guidance), others) < TOLERANCE


def loop(model: PublicModel, parts: dict[str, Any], scheduler: Any, z: Tensor, guidance: float) -> Tensor:
    """The loop of a flow pipeline around the raw network, with exact timesteps."""
    scheduler.set_timesteps(STEPS)
    network = parts["transformer"]
    by_frame = type(network).__name__ == "SkyReelsV2Transformer3DModel"
    more = {"enable_diffusion_forcing": True} if by_frame else {}
    encode: Callable[..., Any] = import_package("diffusers").WanPipeline(**parts, scheduler=scheduler).encode_prompt
    shown, against = encode(PROMPT, NEGATIVE, max_sequence_length=512, device=CPU)

    def predict(states: Tensor, z: Tensor, timestep: Tensor) -> Tensor:
        told = timestep.expand(1, z.shape[2]) if by_frame else timestep.expand(1)
        return network(hidden_states=z, timestep=told, encoder_hidden_states=states, return_dict=False, **more)[0]

    with torch.no_grad():
        for step, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            made = predict(shown, z, 1000 * sigma)
            if guidance > 1:
                without = predict(against, z, 1000 * sigma)
                made = without + guidance * (made - without)
            z = scheduler.step(made, step, z, return_dict=False)[0]
    return z


@every_guidance
@every_sampler
@pytest.mark.parametrize("family", ["wan", "skyreels"])
def test_latents_of_flow(folder_of, model_of, family: str, sampler: str, guidance: float) -> None:
    diffusers = import_package("diffusers")
    if sampler == "ddim":
        config: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 8.0}
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=8.0)
    else:
        flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 8.0}
        config = flow | {"_class_name": "DPMSolverMultistepScheduler"}
        scheduler = diffusers.DPMSolverMultistepScheduler(**flow, **DPM)
    model, folder = model_of(family, **config), folder_of(family, **config)
    z = noise_for(model)
    others = loop(model, open_parts(folder), scheduler, z, guidance)
    s = scheduler.sigmas[0]  # they start on the straight path, a little below pure noise
    own = ours(model, z / ((1 - s) ** 2 + s**2).sqrt(), sampler=sampler, guidance=guidance)
    assert apart(own, others) < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_states(folder_of, model_of, family: str) -> None:
    """Those of the pipeline's encode_prompt, bit for bit: entities, spaces, a long prompt, the empty one."""
    model, parts = model_of(family), open_parts(folder_of(family))
    pipeline = pipeline_of(
        "wan" if family == "skyreels" else family, parts, scheduler_of(model_of("modelscope"), "ddim")
    )
    for prompt in (PROMPT, "", "  a&amp;amp;b   cat\n surfing ", "a dog moving left, " * 60):
        arguments: dict[str, Any] = {"device": CPU, "do_classifier_free_guidance": True, "negative_prompt": NEGATIVE}
        arguments |= {"num_images_per_prompt": 1} if family in ("modelscope", "animatediff") else {}
        arguments |= {"max_sequence_length": 512} if family in ("wan", "skyreels") else {}
        with torch.no_grad():
            states, against = pipeline.encode_prompt(prompt, **arguments)
        assert torch.equal(model.prompts.states([prompt, NEGATIVE]), torch.cat([states, against]))


@pytest.mark.parametrize("family", FAMILIES)
def test_decoded_frames(folder_of, model_of, family: str) -> None:
    """Those of the last lines of the pipeline. CogVideoX decodes an odd number of values along time."""
    model, vae = model_of(family), open_parts(folder_of(family))["vae"]
    values = 3 if family == "cogvideox" else noise_for(model).shape[2]
    z = torch.randn(1, model.codec.channels, values, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        if model.codec.temporal == 1:
            images = (z / vae.config.scaling_factor).transpose(1, 2).flatten(0, 1)
            frames = vae.decode(images).sample.unflatten(0, (1, -1)).transpose(1, 2)
        elif family == "cogvideox":
            frames = vae.decode(z / vae.config.scaling_factor).sample
        else:
            config = vae.config
            mean, deviation = (
                torch.tensor(each).view(1, -1, 1, 1, 1) for each in (config.latents_mean, config.latents_std)
            )
            frames = vae.decode(z * deviation + mean).sample
    decoded = model.codec.decode(z)
    assert decoded.shape == frames.shape and decoded.shape[2] == 1 + (values - 1) * model.codec.temporal
    assert float((decoded.clamp(-1, 1) - frames.clamp(-1, 1)).abs().max()) < 1e-5


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 17])
@pytest.mark.parametrize("family", ["wan", "cogvideox"])
def test_every_number_of_groups_is_decoded(model_of, family: str, frames: int) -> None:
    """Also an even one, of which CogVideoX's own decoder makes 4 frames too many."""
    codec = model_of(family).codec
    clip = torch.rand(1, 3, frames, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    z = codec.encode(clip)
    assert z.shape[2] == 1 + (frames - 1) // 4 and codec.decode(z).shape == clip.shape
