"""Preview pictures of a dataset: kept clips with their captions, rejected clips with the reason."""

from __future__ import annotations

from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.events import EventStream, Note
from vidiff_cli.luma import to_rgb
from vidiff_cli.preparation.plan import PREVIEW, REJECTED
from vidiff_cli.preparation.selection import Selection, SelectionInput


def preview(dataset: Dataset, settings: PrepSettings) -> EventStream[None]:
    """preview.png: some clips, evenly spread over the dataset, with their captions."""
    path = settings.output / PREVIEW
    if settings.preview == 0 or path.exists():
        return
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    count = min(settings.preview, len(dataset))
    rows = []
    for index in (number * len(dataset) // count for number in range(count)):
        clip = dataset.clips[index]
        label = f"{clip.source}: {' / '.join(clip.captions) or 'no caption'}"
        rows.append(SheetRow(label=label, frames=dataset.rgb(index)))
    contact_sheet(rows, path)
    yield Note(f"Look at what will be trained on: {path}")


def preview_rejected(inputs: SelectionInput, selection: Selection, settings: PrepSettings) -> EventStream[None]:
    """rejected.png: rejected clips with the reason, at least one per reason."""
    if settings.preview == 0 or not selection.rejected:
        return
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    firsts = {each.reason: each for each in reversed(selection.rejected)}
    count = min(settings.preview, len(selection.rejected))
    spread = [selection.rejected[number * len(selection.rejected) // count] for number in range(count)]
    rows = []
    for each in list(dict.fromkeys([*firsts.values(), *spread]))[: max(count, len(firsts))]:
        candidate = inputs.extracted[each.source.name].candidates[each.number]
        scores = ", ".join(f"{name} {value:g}" for name, value in candidate.scores.items())
        why = f"{each.reason} of {each.like}" if each.like else f"{each.reason} ({scores})"
        frames = to_rgb(inputs.frames(each.source, candidate))
        rows.append(SheetRow(label=f"{why}: {each.source.name}", frames=frames))
    contact_sheet(rows, settings.output / REJECTED)
    yield Note(f"Look at what was left out: {settings.output / REJECTED}")
