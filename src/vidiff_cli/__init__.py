"""vidiff: train and use your own video diffusion model, from a folder of videos to generated, extended and interpolated
video.

The commands as functions that take their settings and return a report:

    from vidiff_cli import sample
    from vidiff_cli.config.generate import SampleSettings

    report = sample(SampleSettings(prompts=("a red square moving right",)))

A function is imported when it is first used: importing vidiff_cli imports no torch. Their types stand in
`__init__.pyi`.
"""

__version__ = "0.1.0"

_MODULES = {
    "cascade": "vidiff_cli.commands.cascade",
    "distill": "vidiff_cli.commands.distill",
    "evaluate": "vidiff_cli.commands.evaluate",
    "extend": "vidiff_cli.commands.extend",
    "interpolate": "vidiff_cli.commands.interpolate",
    "load_model": "vidiff_cli.generation.load_model",
    "prep": "vidiff_cli.commands.prep",
    "sample": "vidiff_cli.commands.sample",
    "train": "vidiff_cli.commands.train",
    "upscale": "vidiff_cli.commands.upscale",
}
__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "__version__",
    "cascade",
    "distill",
    "evaluate",
    "extend",
    "interpolate",
    "load_model",
    "prep",
    "sample",
    "train",
    "upscale",
]


def __getattr__(name: str) -> object:
    """Import an exported function on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # not at the top: the handlers of early signals come first (__main__)

    return getattr(import_module(_MODULES[name]), name)
