"""Gradient checkpointing: the same gradient, less that is kept, the same names. Compiling: the same steps."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import tiny_network, tiny_settings, tiny_video_model
from torch import Tensor
from training_steps import settings_of, train

from vidiff_cli.errors import VidiffError
from vidiff_cli.models import acceleration
from vidiff_cli.models.acceleration import (
    WORTH_PASSES,
    LaterCompilation,
    compile_mode,
    compile_network,
    is_compiled,
    keep_kernels,
    recompute_stages,
)
from vidiff_cli.models.blocks import ClipDropout
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.unet3d import UNet3D
from vidiff_cli.models.video_model import VideoNetwork, new_video_model
from vidiff_cli.training.state import TrainState


def passed(video_model: VideoNetwork, dtype: torch.dtype) -> tuple[dict[str, Tensor], int]:
    """The gradients of a loss, and the bytes that were kept for the backward pass."""
    torch.manual_seed(3)
    network, kept = video_model.denoiser.network, dict[int, int]()
    z, level = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 4)
    seeds = torch.tensor([1, 2])
    conditioning = Conditioning(times=torch.arange(4.0).expand(2, -1) / 8, observed=level > 1, seeds=seeds)

    def keep(value: Tensor) -> Tensor:
        kept[value.data_ptr()] = value.nbytes
        return value

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
    ):
        loss = network(z, level, conditioning).float().square().mean()
    loss.backward()
    return {name: value.grad for name, value in video_model.named_parameters() if value.grad is not None}, sum(
        kept.values()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointing_gives_the_same_gradient_and_keeps_less(dtype: torch.dtype, dropout: float) -> None:
    plain, wrapped = (tiny_video_model(noise=0.1) for _ in range(2))
    for video_model in (plain, wrapped):
        for part in video_model.modules():
            if isinstance(part, ClipDropout):
                part.p = dropout
    recompute_stages(wrapped.denoiser.network)
    assert plain.state_dict().keys() == wrapped.state_dict().keys()
    (wanted, much), (found, little) = passed(plain, dtype), passed(wrapped, dtype)
    assert wanted.keys() == found.keys() and len(wanted) > 50
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []
    assert little < much / 2


@pytest.mark.slow
def test_a_compiled_network_makes_the_same_step() -> None:
    """By a backend that traces both passes but writes no C++, which would take a minute; dropout draws the same."""
    plain, compiled = state_of(), state_of()
    compile_network(compiled.video_model.denoiser.network, backend="aot_eager")
    (wanted,), (found,) = (train(state, settings_of(3), until=1) for state in (plain, compiled))
    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-4)
    for name, value in plain.video_model.state_dict().items():
        torch.testing.assert_close(compiled.video_model.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def with_captions(length: int, *, images: bool = False) -> tuple[Tensor, Tensor, Conditioning]:
    """The inputs of a network in training, with captions of so many tokens."""
    b, t, width = 2, 4, 8
    is_image = torch.arange(t).expand(b, -1) > 2
    conditioning = Conditioning(
        times=torch.arange(t).expand(b, -1) / 8,
        observed=torch.zeros(b, t, dtype=torch.bool),
        is_image=is_image if images else None,
        tokens=torch.ones(b, length, width),
        token_mask=torch.ones(b, length, dtype=torch.bool),
        pooled=torch.ones(b, width),
        dropped=torch.tensor([True, False]),
        seeds=torch.tensor([1, 2]),
    )
    return torch.ones(b, 3, t, 4, 4), torch.zeros(b, t), conditioning


def smallest_network(**more: Any) -> UNet3D:
    return tiny_video_model(channel_mult=(1,), dropout=0.1, **more).train().denoiser.network


def test_the_network_in_training_is_one_graph() -> None:
    """With images, captions, dropout and checkpointing: nothing asks a tensor, which would also stop a GPU."""
    network = smallest_network()
    recompute_stages(network)
    torch._dynamo.reset()
    with torch.autocast("cpu", torch.bfloat16):
        told = torch._dynamo.explain(network)(*with_captions(5, images=True))
    assert (told.graph_count, told.graph_break_count) == (1, 0), told.break_reasons


def test_one_graph_takes_captions_of_any_length() -> None:
    """One of the first length, and one of all others."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Any:
        graphs.append(graph)
        return graph

    network = smallest_network(temporal="convolution")
    torch._dynamo.reset()
    compile_network(network, backend=backend)
    for length in (3, 5, 2, 9, 7):
        network(*with_captions(length))
    assert len(graphs) == 2


def test_a_network_that_cannot_be_compiled_is_one_sentence() -> None:
    def backend(graph: object, inputs: object) -> Any:
        raise RuntimeError("No working C++ compiler found in a list:\n of places")

    state = state_of()
    before = {name: value.clone() for name, value in state.video_model.state_dict().items()}
    compile_network(state.video_model.denoiser.network, backend=backend)
    with pytest.raises(VidiffError, match=r"cannot compile the network: found .*No working C\+\+ compiler") as error:
        train(state, settings_of(3))
    text = str(error.value)
    assert "\n" not in text and text.endswith("; use --compile off, or install a C++ compiler (g++).")
    assert state.step == 0 and all(value.equal(before[name]) for name, value in state.video_model.state_dict().items())


@pytest.mark.parametrize(
    ("choice", "device", "works", "small", "static", "mode"),
    [
        ("auto", "cpu", True, True, True, None),
        ("auto", "mps", True, True, True, None),
        ("auto", "cuda", True, False, True, "default"),
        ("auto", "cuda", True, True, False, "default"),
        ("auto", "cuda", True, True, True, "reduce-overhead"),
        ("auto", "cuda", False, True, True, None),
        ("on", "cuda", False, False, False, "default"),
        ("on", "cuda", True, True, True, "reduce-overhead"),
        ("on", "cpu", True, True, True, "default"),
        ("off", "cuda", True, True, True, None),
    ],
)
def test_a_choice_is_a_mode_by_the_device(
    choice: str, device: str, works: bool, small: bool, static: bool, mode: str | None
) -> None:
    assert compile_mode(choice, device, works=works, small=small, static=static) == mode


def test_kernels_are_kept_where_the_next_process_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    keep_kernels()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere", "a place that was chosen stays"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    keep_kernels()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "vidiff" / "kernels")


def test_a_model_of_the_averages_is_compiled_where_the_network_is_and_by_the_same_graphs() -> None:
    torch.compiler.reset()  # what other tests have compiled
    state, graphs = state_of(), list[object]()

    def backend(graph: Any, inputs: object) -> Any:
        graphs.append(graph)
        return graph.forward

    def look(network: Any) -> None:
        plain = Conditioning(times=torch.arange(4.0).expand(2, -1) / 8, observed=torch.zeros(2, 4, dtype=torch.bool))
        with torch.no_grad():
            network(torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 4), plain)

    assert not is_compiled(state.video_model.with_weights(state.ema.shadow, torch.device("cpu")))
    compile_network(state.video_model.denoiser.network, backend=backend)
    for _ in range(2):
        other = state.video_model.with_weights(state.ema.shadow, torch.device("cpu"))
        assert is_compiled(other)
        other.denoiser.network.compile(backend=backend)
        look(other.denoiser.network)
    assert len(graphs) == 1, "the second one is not compiled again"


@pytest.mark.parametrize(
    ("choice", "device", "problem", "compiled"),
    [
        ("auto", "cuda", None, 2),
        ("auto", "cuda", "no gcc", 0),
        ("auto", "cpu", None, 0),
        ("off", "cuda", None, 0),
        ("on", "cuda", None, 1),
        ("on", "cpu", None, 1),
    ],
)
def test_a_network_that_generates_is_compiled_once_it_is_worth_it(
    monkeypatch: pytest.MonkeyPatch, choice: Any, device: str, problem: str | None, compiled: int
) -> None:
    monkeypatch.setattr(acceleration, "compile_problem", lambda device: problem)
    network, later = tiny_video_model().denoiser.network, LaterCompilation(choice)
    asked = [later.before(WORTH_PASSES // 2, network, torch.device(device)) for _ in range(3)]
    assert [number for number, done in enumerate(asked, start=1) if done] == ([compiled] if compiled else [])
    assert is_compiled(network) == bool(compiled)


def state_of() -> TrainState:
    """The smallest network, with dropout."""
    network = tiny_network(channel_mult=(1,), temporal="attention", dropout=0.3)
    return TrainState(new_video_model(tiny_settings(network), 0), settings_of(3).optimizer)
