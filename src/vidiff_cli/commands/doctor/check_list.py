"""What `vidiff doctor` looks at: one function per row. Each tries the thing for real where that is quick.

Nothing but the standard library is imported with these modules: a library that is missing or broken is a finding.
"""

from __future__ import annotations

from vidiff_cli.commands.doctor import machine, video
from vidiff_cli.commands.doctor.check import Check, Finding, Status

__all__ = ["FIRST", "THEN", "Check", "Finding", "Status"]

# In the order of the rows. The first ones are run one after the other: torch is imported, its speed measured.
REINSTALL = "pip install --force-reinstall "
FIRST = (
    Check(name="vidiff", look=machine.vidiff, fix=REINSTALL + "vidiff-cli"),
    Check(name="libraries", look=machine.libraries, fix=REINSTALL + "vidiff-cli"),
    Check(name="torch", look=machine.torch_itself, fix=REINSTALL + "torch"),
    Check(name="device", look=machine.device, fix="use --device cpu"),
    Check(name="precision", look=machine.precision, fix="pass --precision fp32 to train, --dtype fp32 elsewhere"),
    Check(name="torchvision", look=machine.torchvision, fix=REINSTALL + "torchvision"),
)
THEN = (
    Check(name="captions", look=machine.captions, fix=REINSTALL + "open-clip-torch"),
    Check(name="clip", look=machine.clip, fix="train with --text learned"),
    Check(name="ffmpeg", look=video.ffmpeg, fix=REINSTALL + "imageio-ffmpeg"),
    Check(name="codecs", look=video.codecs, fix=REINSTALL + "imageio-ffmpeg"),
    Check(name="writing", look=video.writing, fix=REINSTALL + "imageio-ffmpeg"),
    Check(name="reading-ffmpeg", look=video.read_by_ffmpeg, fix=REINSTALL + "imageio-ffmpeg"),
    Check(name="reading-decord", look=video.read_by_decord, fix="use --decoder ffmpeg"),
    Check(name="memory", look=machine.memory, fix="nothing to do: other checks do not depend on it"),
    Check(
        name="working-folder", look=machine.working_folder, fix="change to a folder that is there and can be written"
    ),
    Check(name="temporary-folder", look=machine.temporary_folder, fix="set TMPDIR to a folder that can be written"),
)
