"""For all tests: the examples that property tests draw, and CLIP models so small that a test can make their weights."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

# The same examples every time, however slow the machine; HYPOTHESIS_PROFILE=more draws fresh ones, and more of them.
TESTS = Path(__file__).parent
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "same")
MORE = 5  # times the examples that a test has in the suite
COMMON = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", COMMON, derandomize=True)
settings.register_profile("more", COMMON, print_blob=True)
settings.load_profile(PROFILE)


LONGEST = (
    "fire",
    "commands",
    "gpu",
    "models",
    "training",
    "cli",
    "hostile",
)  # rooms, those whose files take longest first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: two processes that take file after file are then done at the same time.

    Tests state how many examples they draw: `more` multiplies that, but of those that always draw the same.
    """
    places = {room: place for place, room in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(TESTS).parts[0], len(LONGEST)))  # keeps files together
    functions = {getattr(item, "obj", None) for item in items}
    for test in filter(is_hypothesis_test, functions if PROFILE == "more" else ()):
        own: settings = test._hypothesis_internal_use_settings
        if not own.derandomize:
            test._hypothesis_internal_use_settings = settings(own, max_examples=MORE * own.max_examples)


VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 10, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-clip": {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-custom": {  # a text tower of its own, both ways attention, pooled at the end mark
        "embed_dim": 12,
        "custom_text": True,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "eos", "eos_id": 49407, "proj_bias": True},
    },
    "tiny-last": {  # pooled at the last place, as SigLIP
        "embed_dim": 12,
        "custom_text": True,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "last"},
    },
    "tiny-borrowed": {  # a text tower and a tokenizer that would have to be downloaded
        "embed_dim": 12,
        "vision_cfg": VISION,
        "text_cfg": {"hf_model_name": "nobody/nothing", "hf_tokenizer_name": "nobody/nothing"},
    },
    "tiny-tokens": {  # a tokenizer alone that would have to be downloaded
        "embed_dim": 12,
        "vision_cfg": VISION,
        "text_cfg": TEXT | {"hf_tokenizer_name": "nobody/nothing"},
    },
}


@dataclass(frozen=True)
class TinyClip:
    """Weights of random numbers in `folder`; `model(name, seed)` is the open_clip model that they were taken of."""

    folder: Path

    def model(self, name: str = "tiny-clip", seed: int = 0) -> Any:
        import open_clip
        import torch

        from vidiff_cli.text.clip_names import quiet

        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            return open_clip.create_model(name).eval()

    def weights(self, name: str = "tiny-clip", seed: int = 0, suffix: str = ".safetensors") -> Path:
        import torch
        from safetensors.torch import save_file

        path = self.folder / f"{name}-{seed}{suffix}"
        if not path.is_file():
            state = self.model(name, seed).state_dict()
            save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        return path

    def named(self, name: str = "tiny-clip", seed: int = 0, suffix: str = ".safetensors") -> str:
        """As for --clip-model."""
        return f"{name}:{self.weights(name, seed, suffix)}"


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    from vidiff_cli.text.clip_names import import_open_clip

    import_open_clip()
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(folder / f"{name}.json")
    return TinyClip(folder)


@pytest.fixture
def no_network(monkeypatch):
    """Refuses every connection; the list of the hosts that were asked for."""
    import socket

    asked: list[str] = []

    def refuse(host: object, *rest: object, **more: object) -> Any:
        asked.append(str(host))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: refuse(address))
    return asked


# A shell ignores Ctrl-C for what it starts in the background, nohup a hang-up; all that is started there inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
