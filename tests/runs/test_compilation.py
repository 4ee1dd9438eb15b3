"""Whether and how the network of a training is compiled, by its settings and its device."""

import pytest
import torch
from tiny_model import tiny_network, tiny_settings
from training_steps import settings_of

from vidiff_cli.runs import compilation


@pytest.mark.parametrize(("problem", "mode"), [(None, "reduce-overhead"), ("no gcc", None)])
def test_auto_tries_the_compiler_on_cuda_and_says_what_it_finds(
    monkeypatch: pytest.MonkeyPatch, problem: str | None, mode: str | None
) -> None:
    tried: list[torch.device] = []
    monkeypatch.setattr(compilation, "compile_problem", lambda device: tried.append(device) or problem)
    settings, model = settings_of(3), tiny_settings(tiny_network())
    assert compilation.choose_compilation(settings, model, torch.device("cpu")).mode is None and not tried
    found = compilation.choose_compilation(settings, model, torch.device("cuda"))
    assert found.mode == mode and len(tried) == 1
    assert [note.level for note in found.notes()] == ([] if problem is None else ["warning"])
    parts = settings.model_copy(update={"grad_accum_steps": 2})
    assert compilation.choose_compilation(parts, model, torch.device("cuda")).mode == (mode and "default")
    sharded = settings.model_copy(update={"parallel": "fsdp"})
    assert compilation.choose_compilation(sharded, model, torch.device("cuda"), world=2).mode is None
