"""The tokenizer, and torchvision where its compiled operators do not load; both apart from this process's imports."""

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vidiff_cli.text.clip_names import import_open_clip
from vidiff_cli.text.tokenizer import is_punctuation, token_ids, word_ids, words

WITHOUT_OPERATORS = """
import importlib.util, sys, types
from pathlib import Path
import torch
from vidiff_cli.text import patch_torchvision

def refuse(path):
    raise OSError(f"{Path(path).name}: wrong build")

loads = torch.ops.load_library
torch.ops.load_library = refuse
assert patch_torchvision.patch_torchvision_nms() == "_C.so: wrong build"
assert patch_torchvision.patch_torchvision_nms() is None, "mended twice"
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
from vidiff_cli.text import patch_torchvision

library = torch.library.Library("torchvision", "DEF")

def load(path):
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

torch.ops.load_library = load
assert patch_torchvision.patch_torchvision_nms() is None and patch_torchvision._mended is None
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


@pytest.fixture(scope="module")
def theirs():
    """open_clip's tokenizer."""
    import_open_clip()
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


ENGLISH = st.text(st.sampled_from("etaoinshrdlucmfwyp'  .,"), max_size=60)
ASCII = st.text(st.characters(max_codepoint=126), max_size=30)


@settings(max_examples=300)
@given(st.one_of(ENGLISH, ASCII, st.text(st.characters(exclude_categories=["Cs"]), max_size=30)))
@example("a red square, moving")
@example("ein Käsebrot 😀 12")
@example("it's <b>b</b> &amp; 日本語; they've SHE'LL \t i'm")
@example("banana bananananas internationalization aaaaaaaaaa")
@example("<START_OF_TEXT> a <end_of_text> schÃ¶n &amp;lt; 3½ \x1b[31mred")
def test_a_caption_has_the_ids_of_open_clip(theirs, caption):
    assert token_ids(caption) == tuple(theirs.encode(caption))
    assert words(caption) == tuple(theirs.pat.findall(theirs.clean_fn(caption)))


def test_captions_are_read_without_torch():
    program = (
        "import sys; from vidiff_cli.text.tokenizer import token_ids; token_ids('a red square'); "
        "print({'torch', 'open_clip', 'numpy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_punctuation_is_told_from_words():
    assert is_punctuation("...") and is_punctuation("!?")
    assert not is_punctuation("a") and not is_punctuation("7") and not is_punctuation("😀")
