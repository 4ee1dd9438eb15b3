"""The tokenizer, and torchvision where its compiled operators do not load; both apart from this process's imports."""

import subprocess
import sys

import pytest

from vidiff_cli.text.tokenizer import is_punctuation, token_ids, word_ids, words

WITHOUT_OPERATORS = """
import importlib.util, sys, types
from pathlib import Path
import torch
from vidiff_cli.text import tokenizer

def refuse(path):
    raise OSError(f"{Path(path).name}: wrong build")

loads = torch.ops.load_library
torch.ops.load_library = refuse
assert tokenizer.patch_torchvision_nms() == "_C.so: wrong build"
assert tokenizer.patch_torchvision_nms() is None, "mended twice"
import torchvision  # its own attempt to load fails as well
torch.ops.load_library = loads
import open_clip
try:
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except RuntimeError as error:
    assert "torchvision" in str(error)
    print("mended")
"""

HEALTHY = """
import torch
from vidiff_cli.text import tokenizer

library = torch.library.Library("torchvision", "DEF")

def load(path):
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

torch.ops.load_library = load
assert tokenizer.patch_torchvision_nms() is None and tokenizer._mended is None
print("untouched")
"""


@pytest.mark.parametrize(("program", "said"), [(WITHOUT_OPERATORS, "mended"), (HEALTHY, "untouched")])
def test_torchvision_is_mended_only_where_it_is_broken(program, said):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(said)


def test_words_and_their_ids():
    assert words("A  red Square, moving LEFT!") == ("a", "red", "square", ",", "moving", "left", "!")
    assert word_ids("red") == (736,)
    assert len(word_ids("zzyzxly")) > 1
    assert words("") == token_ids("   ") == ()


@pytest.mark.parametrize("caption", ["a red square, moving", "ein Käsebrot 😀 12", "it's <b>b</b> &amp; 日本語", ""])
def test_a_caption_is_the_sequence_of_its_words(caption):
    from open_clip.tokenizer import SimpleTokenizer

    assert token_ids(caption) == tuple(SimpleTokenizer().encode(caption))


def test_punctuation_is_told_from_words():
    assert is_punctuation("...") and is_punctuation("!?")
    assert not is_punctuation("a") and not is_punctuation("7") and not is_punctuation("😀")
