from vidiff_cli.commands.cascade import cascade as cascade
from vidiff_cli.commands.distill import distill as distill
from vidiff_cli.commands.evaluate import evaluate as evaluate
from vidiff_cli.commands.extend import extend as extend
from vidiff_cli.commands.interpolate import interpolate as interpolate
from vidiff_cli.commands.prep import prep as prep
from vidiff_cli.commands.sample import sample as sample
from vidiff_cli.commands.train import train as train
from vidiff_cli.commands.upscale import upscale as upscale
from vidiff_cli.generation.load_model import load_model as load_model

__all__ = [
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
__version__: str
