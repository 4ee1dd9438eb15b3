"""Settings resolved from their sources, later ones winning: defaults, a preset, TOML files, flags, `--set a.b=c`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from vidiff_cli.config.reading import read_text
from vidiff_cli.errors import UsageError, VidiffError

M = TypeVar("M", bound=BaseModel)
Place = tuple[str, ...]  # of a setting: ("model", "width")
MAX_DEPTH = 16  # of nested tables


def resolve(
    model_class: type[M],
    *,
    under: Mapping[str, Any] | None = None,
    files: Sequence[Path] = (),
    given: Mapping[str, object] | None = None,
    sets: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> M:
    """Resolve and validate a settings model: defaults < `under` < `files` (in order) < `given` < `sets`.

    Hyphens in TOML keys and in `sets` stand for underscores.

    Args:
        model_class: the settings model.
        under: nested values to start from: a preset, or the settings in a sidecar.
        files: TOML files.
        given: values by dotted name ("fps", "model.width").
        sets: texts "a.b=c", with c read as TOML, else as text.
        names: names of given settings in messages ("fps" -> "--fps").

    Returns:
        The validated model.

    Raises:
        UsageError: one sentence with the setting, its origin, the value found and the value expected.
    """
    layers = [("the preset or sidecar", dict(_leaves(under or {})))]
    layers += [(str(file), dict(_leaves(_read_toml(file)))) for file in files]
    layers += [((names or {}).get(name, _flag(name)), {_place(name): value}) for name, value in (given or {}).items()]
    texts: dict[Place, str] = {}
    for text in sets:
        place, value, written = _read_set(text)
        texts[place] = written
        layers.append((f"--set {text}", {place: value}))

    values: dict[str, Any] = {}
    origins: dict[Place, str] = {}
    for origin, layer in layers:
        for place, value in layer.items():
            _put(values, place, value, origin)
            origins[place] = origin
    try:
        return model_class.model_validate(values)
    except ValidationError as error:
        if _use_texts(values, texts, error):  # `--set prompt=2020` is a number in TOML, but the setting is a text
            return resolve_values(model_class, values, origins)
        raise _as_usage_error(model_class, error, origins) from error


def resolve_values(model_class: type[M], values: Mapping[str, Any], origins: Mapping[Place, str] | None = None) -> M:
    """Validate nested `values`, such as those of a sidecar or a checkpoint. UsageError if they do not fit."""
    try:
        return model_class.model_validate(values)
    except ValidationError as error:
        raise _as_usage_error(model_class, error, origins or {}) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, what="the settings file"))
    except VidiffError as error:
        raise UsageError(error.what, found=error.found, expected=error.expected, fix=error.fix) from error
    except (ValueError, RecursionError) as error:  # a number of many digits is a ValueError too
        raise UsageError(f"the settings file {path} is not valid TOML: {error}") from error


def _read_set(text: str) -> tuple[Place, Any, str]:
    name, equals, written = text.partition("=")
    if not equals or not all(part.strip() for part in name.split(".")):
        raise UsageError(f"--set {text}", expected="NAME=VALUE, such as --set model.width=64")
    written = written.strip()
    try:
        value = tomllib.loads(f"value = {written}")
    except (ValueError, RecursionError):
        value = {"value": written}
    return _place(name.strip()), value["value"] if set(value) == {"value"} else written, written


def _place(name: str) -> Place:
    return tuple(part.strip().replace("-", "_") for part in name.split("."))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _leaves(table: Mapping[str, Any], above: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value of nested tables with its place; an empty table is itself a value."""
    if len(above) > MAX_DEPTH:
        raise UsageError(f"settings are nested too deeply: {'.'.join(above)}", expected=f"at most {MAX_DEPTH} levels")
    for key, value in table.items():
        place = (*above, key.replace("-", "_"))
        if isinstance(value, dict) and value:
            yield from _leaves(value, place)
        else:
            yield place, value


def _put(values: dict[str, Any], place: Place, value: Any, origin: str) -> None:
    *above, last = place
    for part in above:
        inner = values.setdefault(part, {})
        if inner is None:
            inner = values[part] = {}
        elif isinstance(inner, BaseModel):
            inner = values[part] = inner.model_dump()
        if not isinstance(inner, dict):
            raise UsageError(
                f"{origin} sets a part of {part!r}, which was already given as one value", found=repr(inner)
            )
        values = inner
    values[last] = value


def _use_texts(values: dict[str, Any], texts: Mapping[Place, str], error: ValidationError) -> bool:
    """Replace values of --set by their text where the setting is a text. True if there were any."""
    failed = [_names(problem["loc"]) for problem in error.errors() if problem["type"] in ("string_type", "path_type")]
    places = [place for place in failed if place in texts]
    for place in places:
        _put(values, place, texts[place], "--set")
    return bool(places)


def _names(loc: tuple[int | str, ...]) -> Place:
    return tuple(str(part) for part in loc)


def _as_usage_error(model_class: type[BaseModel], error: ValidationError, origins: Mapping[Place, str]) -> UsageError:
    problems = error.errors()
    # an unknown name first, which explains the others; then the first problem (a union reports each of its members)
    problem = next((other for other in problems if other["type"] == "extra_forbidden"), problems[0])
    place = _names(problem["loc"])
    given = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in origins), None)
    given = given or next((full for full in origins if place and full[: len(place)] == place), None)  # a whole table
    origin, name = (origins[given], ".".join(given)) if given else (None, ".".join(place))
    if problem["type"] == "extra_forbidden":
        fix = _suggestion(name, model_class)
        return UsageError(f"unknown setting {name!r}" + (f" in {origin}" if origin else ""), fix=fix)
    if problem["type"] == "missing":
        return UsageError(f"the setting {name!r} is missing", expected="a value", fix=f"give it as {_flag(name)}")
    if isinstance(problem["input"], Mapping):  # a rule over several settings has its own sentence
        return UsageError(_expected(problem))
    what = name if origin is None else origin if origin.startswith("--") else f"{name} in {origin}"
    alternatives = [other for other in problems if _is_same_setting(place, _names(other["loc"]))]
    expected = " or ".join(dict.fromkeys(_expected(other) for other in alternatives))
    return UsageError(what, found=repr(problem["input"]), expected=expected)


def _is_same_setting(first: Place, other: Place) -> bool:
    """True if both locations are one setting: pydantic appends the name of a union's member to the location."""
    return first == other or (
        len(first) == len(other) > 1 and first[:-1] == other[:-1] and not other[-1].isidentifier()
    )


def _expected(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.removeprefix("Input should be ").partition(", unable to")[0]


def _suggestion(name: str, model_class: type[BaseModel]) -> str:
    """The settings that `name` may mean, by the full name or by its last part, else all of the first level."""
    known, last = dict(_known_settings(model_class)), name.rpartition(".")[2]
    close = difflib.get_close_matches(name, known, n=3) or [full for full, key in known.items() if key == last]
    if not close:
        keys = difflib.get_close_matches(last, list(known.values()), n=2)
        close = [full for full, key in known.items() if key in keys]
    if close:
        return "did you mean " + " or ".join(close[:3])
    return "known are " + ", ".join(sorted(full for full in known if "." not in full))


def _known_settings(model_class: type[BaseModel], above: str = "") -> Iterator[tuple[str, str]]:
    for key, field in model_class.model_fields.items():
        yield above + key, key
        for inner in _models_in(field.annotation):
            yield from _known_settings(inner, f"{above}{key}.")


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []
