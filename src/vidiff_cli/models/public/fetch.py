"""Plan of a download: the files of a repository on the hub that a model needs.

Taken are configurations, tokenizers, the model card and one variant of the safetensors weights; never a pickle, never
code. A name in a listing counts only if it is a plain name in a known folder: it cannot lead out of the cache.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.models.families import Family
from vidiff_cli.models.public.checks import LARGEST_CONFIG
from vidiff_cli.models.public.client import endpoint, hub_client, hub_errors
from vidiff_cli.models.public.folder import PICKLES, read_index, variant_of, weight_variant
from vidiff_cli.models.public.hub import (
    CASCADE,
    CHECKPOINT,
    COMMIT,
    INDEX,
    JOINED,
    STAGES,
    HubName,
    is_hub_name,
    parse_hub_name,
    repository_folder,
)
from vidiff_cli.models.public.known import find_known
from vidiff_cli.models.public.licence import valid_licence
from vidiff_cli.models.public.transfer import HubFile, Sink, damaged, get_file, hash_of

PLAIN = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
BLOB = re.compile("[0-9a-f]{64}|[0-9a-f]{40}")  # sha256 of a large file, or git's id of a small one
SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
FULL = "full"  # --variant of files without one
CARD = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
OF_RUN = (CHECKPOINT, "config.json", *CARD)
SINGLE = ("MotionAdapter", "AutoencoderKL", "AutoencoderKLWan", "AutoencoderKLCogVideoX")  # a repository of one part
TOKENIZER = re.compile(r"tokenizer/[\w.-]+\.(json|txt|model)", re.ASCII)
HALF, CAREFUL, EXACT = ("fp16", "bf16", None), ("bf16", None, "fp16"), (None, "bf16", "fp16")
PREFERRED: Mapping[str, Sequence[str | None]] = {  # HALF for all others
    "T5EncoderModel": CAREFUL,  # overflows in fp16
    "UMT5EncoderModel": CAREFUL,
    "AutoencoderKLWan": EXACT,  # its authors keep it in full precision
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryPlan:
    """The files to take of one repository, and those of them that are not on this machine."""

    name: HubName
    commit: str
    kind: str
    licence: str | None
    files: tuple[HubFile, ...]
    missing: tuple[HubFile, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listing:
    """A repository at one commit, its files by name."""

    name: HubName
    commit: str
    licence: str | None
    files: Mapping[str, HubFile]


def plan_model(model: str, *, variant: str | None = None) -> tuple[RepositoryPlan, ...]:
    """Plan the download of what --model names: a repository, or a model and a motion adapter. Folders are left out.

    `variant` is that of the weights: "fp16", "bf16" or "full"; None chooses for each part.

    Raises VidiffError: not a name on the hub, not to be reached, not a model that vidiff knows, weights in a pickle.
    """
    first, *more = model.split(JOINED, 1)
    plans = []
    if is_hub_name(first):
        plans.append(_plan(parse_hub_name(first), variant, with_adapter=bool(more)))
    if more and is_hub_name(more[0]):
        plans.append(_plan(parse_hub_name(more[0]), variant, expected="MotionAdapter"))
    if not plans:
        raise UsageError("not a name on the hub", found=model, expected="hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return tuple(plans)


def _plan(
    name: HubName, variant: str | None, *, with_adapter: bool = False, expected: str | None = None
) -> RepositoryPlan:
    listing = _list_files(name)
    if INDEX in listing.files and expected is None:
        family, classes = read_index(str(name), _read_json(listing, INDEX), with_adapter=with_adapter)
        kind, files = family.name, _files_of_family(listing, family, classes, variant)
    elif CHECKPOINT in listing.files and expected is None:
        kind = "cascade of vidiff" if CASCADE in listing.files else "run of vidiff"
        names = (*OF_RUN, CASCADE, *STAGES) if CASCADE in listing.files else OF_RUN
        files = [listing.files[part] for part in names if part in listing.files]
    else:
        kind, files = _single_part(listing, variant, expected)
    folder = repository_folder(name.repository)
    return RepositoryPlan(
        name=name,
        commit=listing.commit,
        kind=kind,
        licence=listing.licence,
        files=tuple(files),
        missing=tuple(file for file in files if not has_blob(folder, file)),
    )


def has_blob(folder: Path, file: HubFile) -> bool:
    """True if the content of a file lies in the cache, by its size."""
    path = folder / "blobs" / file.blob
    return path.is_file() and path.stat().st_size == file.bytes


def _list_files(name: HubName) -> _Listing:
    with hub_errors(name):
        info = hub_client().model_info(name.repository, revision=name.wanted, files_metadata=True)
        commit = str(info.sha or "")
        if not COMMIT.fullmatch(commit):
            raise VidiffError(f"the hub at {endpoint()} names no commit of {name}", found=commit[:60] or "none")
        files = dict(filter(None, map(_hub_file, info.siblings or ())))
        card = info.card_data.to_dict() if info.card_data is not None else {}
    stated = card.get("license_name") if card.get("license") in (None, "other") else None
    known = find_known(name.repository)
    licence = valid_licence(stated) or valid_licence(card.get("license")) or (known and known.licence) or None
    return _Listing(name=name, commit=commit, licence=licence, files=files)


def _hub_file(sibling: Any) -> tuple[str, HubFile] | None:
    """A file of a listing, None for one with a name, size or hash that cannot be used."""
    name, size, large = sibling.rfilename, sibling.size, sibling.lfs
    blob = str((large.get("sha256") if isinstance(large, dict) else large.sha256) if large else sibling.blob_id)
    usable = isinstance(name, str) and PLAIN.fullmatch(name) and BLOB.fullmatch(blob)
    if not usable or type(size) is not int or size < 0:
        return None
    return name, HubFile(name=name, bytes=size, blob=blob)


def _files_of_family(
    listing: _Listing, family: Family, classes: Mapping[str, str], variant: str | None
) -> list[HubFile]:
    names = [INDEX, *CARD, "scheduler/scheduler_config.json"]
    names += [name for name in listing.files if TOKENIZER.fullmatch(name)]
    found = set[str | None]()
    for part in ("text_encoder", family.part, "vae"):
        preferred = PREFERRED.get(classes.get(part, ""), HALF)
        weights, chosen = _weights(listing, f"{part}/", variant, preferred)
        found |= chosen
        names += [f"{part}/config.json", *weights]
    _check_variant(listing, variant, found)
    for needed in ("scheduler/scheduler_config.json", f"{family.part}/config.json", "vae/config.json"):
        if needed not in listing.files:
            raise VidiffError(f"{listing.name} is not complete", found=f"no {needed}")
    return [listing.files[name] for name in dict.fromkeys(names) if name in listing.files]


def _single_part(listing: _Listing, variant: str | None, expected: str | None) -> tuple[str, list[HubFile]]:
    """The files of a motion adapter or an autoencoder with a repository of its own."""
    classes = (expected,) if expected else SINGLE
    kind = _read_json(listing, "config.json").get("_class_name") if "config.json" in listing.files else None
    if kind not in classes:
        if INDEX not in listing.files and (pickles := _pickles(listing, "")):
            raise _only_pickle(listing.name, pickles[0])
        wanted = f"a {expected}" if expected else f"{INDEX}, or a run of vidiff"
        found = str(kind)[:60] if kind else INDEX if INDEX in listing.files else f"no {INDEX}"
        raise VidiffError(f"{listing.name} is not a model that vidiff knows", found=found, expected=wanted)
    weights, found_variants = _weights(listing, "", variant, PREFERRED.get(str(kind), HALF))
    _check_variant(listing, variant, found_variants)
    names = ["config.json", *weights, *CARD]
    return str(kind), [listing.files[name] for name in names if name in listing.files]


def _weights(
    listing: _Listing, folder: str, asked: str | None, preferred: Sequence[str | None]
) -> tuple[list[str], set[str | None]]:
    """Names of the weights of one variant, with their index, and the variants that there are.

    VidiffError: no weights, pickles only, a missing shard.
    """
    stem = "model" if folder == "text_encoder/" else "diffusion_pytorch_model"
    pattern = re.compile(re.escape(folder + stem) + r"[\w.-]*\.safetensors", re.ASCII)
    names = [name for name in listing.files if pattern.fullmatch(name)]
    variants = {variant_of(name.removeprefix(folder)) for name in names}
    if not variants:
        if pickles := _pickles(listing, folder):
            raise _only_pickle(listing.name, pickles[0])
        raise VidiffError(f"{listing.name} has no weights", found=f"no {folder}{stem}.safetensors")
    chosen = next(iter(_by_preference(listing, folder, asked, preferred, variants)))
    taken = [name for name in names if variant_of(name.removeprefix(folder)) == chosen]
    for shards in {int(match[2]) for name in taken if (match := SHARD.search(name))}:
        if len(taken) != shards:
            raise VidiffError(f"{listing.name} is not complete", found=f"{len(taken)} of {shards} files of {taken[0]}")
    index = f"{folder}{stem}.safetensors.index{f'.{chosen}' if chosen else ''}.json"
    return [*taken, index], variants


def _by_preference(
    listing: _Listing, folder: str, asked: str | None, preferred: Sequence[str | None], variants: set[str | None]
) -> Iterator[str | None]:
    """The variants that there are, best first: the one asked for, the one on this machine, the preferred ones."""
    place = repository_folder(listing.name.repository) / "snapshots" / listing.commit / folder
    here = [weight_variant(place)] if any(place.glob("*.safetensors")) else []
    first = [None if asked == FULL else asked] if asked else here
    others = sorted(variant for variant in variants if variant)
    return (variant for variant in [*first, *preferred, *others] if variant in variants)


def _check_variant(listing: _Listing, asked: str | None, found: set[str | None]) -> None:
    """UsageError for a variant that no part has."""
    if asked and (None if asked == FULL else asked) not in found:
        names = sorted(variant or FULL for variant in found)
        raise UsageError(f"{listing.name} has no such variant", found=asked, expected=" or ".join(names))


def _pickles(listing: _Listing, folder: str) -> list[str]:
    return sorted(
        name
        for name in listing.files
        if name.startswith(folder) and Path(name).suffix in PICKLES and name.count("/") == folder.count("/")
    )


def _only_pickle(name: HubName, found: str) -> VidiffError:
    fix = "look for a revision or another upload with .safetensors: a pickle can run any code"
    return VidiffError(f"{name} has weights as a pickle only", found=found, expected=".safetensors", fix=fix)


def _read_json(listing: _Listing, name: str) -> dict[str, Any]:
    """A configuration of the repository, read without keeping it."""
    file = listing.files[name]
    if file.bytes > LARGEST_CONFIG:
        raise VidiffError(f"{listing.name}: {name} is too large for a configuration", found=f"{file.bytes:,} bytes")
    content = io.BytesIO()
    with hub_errors(listing.name):
        get_file(listing.name, listing.commit, file, Sink(content, most=file.bytes))
    if hash_of([content.getvalue()], file) != file.blob:
        raise damaged(listing.name, file)
    try:
        read = json.loads(content.getvalue())
    except (ValueError, RecursionError) as error:
        raise VidiffError(f"{listing.name}: {name} is not valid JSON", found=str(error)[:80]) from error
    if not isinstance(read, dict):
        raise VidiffError(f"{listing.name}: {name} does not hold an object", found=type(read).__name__)
    return read
