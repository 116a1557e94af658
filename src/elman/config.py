"""Settings: frozen dataclasses from which TOML files, command-line flags, help texts and saved runs follow.

A settings class has one dataclass a section, and each field of a section is made by `option`:

    @dataclass(frozen=True)
    class Model:
        hidden: Count = option(256, "width of each recurrent layer", unit="UNITS")

    @dataclass(frozen=True)
    class Settings:
        model: Model = field(default_factory=Model)

which gives the TOML key `hidden` under `[model]`, the flag `--hidden UNITS`, its line in `--help`, and the check that
the value is a whole number from 1 up. Names of fields are unique over all sections, so flags need no prefix.
"""

from __future__ import annotations

import errno
import json
import math
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from elman.errors import UserError, check_regular, nearest

__all__ = [
    "Amount",
    "Count",
    "Flag",
    "Fold",
    "Option",
    "OptionalSeed",
    "Positive",
    "Seed",
    "Share",
    "UserError",
    "Whole",
    "build",
    "check_effects",
    "check_regular",
    "full_disk",
    "nearest",
    "option",
    "options",
    "pasted",
    "read_settings",
    "require",
    "tables",
    "values_of",
]

Settings = TypeVar("Settings")

Count = Annotated[int, msgspec.Meta(ge=1)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
# More layers than any network has, and few enough for a model to be built before its size is judged.
Layers = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
# What torch's generators take.
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
# The same, or -1 for one that nobody knows.
OptionalSeed = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
Flag = bool
# A part of the data that is tested on: "2/5" is the second of five, "" none.
Fold = Annotated[str, msgspec.Meta(pattern=r"^([1-9]\d*/[1-9]\d*)?$")]


@dataclass(frozen=True)
class Option:
    """One field of a settings class, with all that the file, the flag and the help need to know of it."""

    section: str
    name: str
    type: Any
    default: Any
    help: str
    unit: str
    flag: str
    late: bool
    positional: bool
    needs: Mapping[str, Any]

    @property
    def path(self) -> str:
        """`section.name`, the key under which values travel."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that the option allows; empty where any value of its type will do."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def plain_type(self) -> Any:
        """The type without its bounds."""
        return get_args(self.type)[0] if get_origin(self.type) is Annotated else self.type


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    flag: str = "",
    late: bool = False,
    positional: bool = False,
    needs: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """A field of a section.

    unit: what the value counts, for the help (`UNITS`, `STEPS`). flag: the flag's word where it is not the field's
    name. late: the value may be changed when a saved run is continued. positional: a list that the command line takes
    without a flag. needs: other options of the section without which this one has no effect, see `check_effects`: the
    words of which one must be chosen (a tuple), True where the other must be given, False where it must not.
    """
    known = {"help": help, "unit": unit, "flag": flag, "late": late, "positional": positional, "needs": needs}
    return field(default=default, metadata=known)


def options(settings: type) -> list[Option]:
    """All options of a settings class, section by section; a class that is one section itself has the section ""."""
    if any("help" in entry.metadata for entry in fields(settings)):
        return _section_options("", settings)
    hints = get_type_hints(settings)
    return [
        found for section in fields(settings) for found in _section_options(section.name, hints[section.name])
    ]


def _section_options(section: str, part: type) -> list[Option]:
    hints = get_type_hints(part, include_extras=True)
    found = []
    for entry in fields(part):
        meta = entry.metadata
        flag = "--" + (meta["flag"] or entry.name).replace("_", "-")
        known = (
            entry.default,
            meta["help"],
            meta["unit"],
            flag,
            meta["late"],
            meta["positional"],
            meta["needs"],
        )
        found.append(Option(section, entry.name, hints[entry.name], *known))
    return found


def pasted(path: object) -> str:
    """A path as a shell takes it, for a command that is to be copied."""
    return shlex.quote(str(path))


def full_disk(error: OSError, path: Path, size: int) -> UserError | None:
    """What to say where a file of `size` bytes could not be written for want of room; None for any other trouble."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return None
    return UserError(
        f"no room for {path} ({size / 1e6:,.1f} MB): {error.strerror}; make room there, or choose another place; what "
        f"was saved before is as it was"
    )


def read_settings(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, or of a run: its run.json, or the folder that holds it."""
    path = path / "run.json" if (path / "run.json").is_file() else path
    if not path.exists():
        beside = [entry.name for entry in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise UserError(f"no such config file: {path}{nearest(path.name, beside)}")
    check_regular(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _of_run(path, json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise UserError(f"{path} is not valid {kind}: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _of_run(path: Path, manifest: Any) -> dict[str, Any]:
    config = manifest.get("config") if isinstance(manifest, dict) else None
    if not isinstance(config, dict):
        raise UserError(f"{path} is no run.json: it has no settings under 'config'")
    return config


def values_of(settings: type, nested: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """`{section.name: raw value}` of nested tables; an unknown table or key is an error that names the nearest one.

    A key is the name of the field or that of the flag, with `-` or `_`.

    source: where the tables come from, for the message.
    """
    known = options(settings)
    sections = {entry.section for entry in known}
    paths = {(entry.section, word): entry.path for entry in known for word in _words(entry)}
    values: dict[str, Any] = {}
    for section, table in nested.items():
        if section not in sections or not isinstance(table, Mapping):
            raise UserError(f"{source}: {_unknown_section(section, known)}")
        for name, value in table.items():
            path = paths.get((section, name.replace("-", "_")))
            if path is None:
                raise UserError(f"{source}: {_unknown_key(section, name, known)}")
            if path in values:
                raise UserError(f"{source}: {name!r} in [{section}] is given twice, under two names")
            values[path] = value
    return values


def _words(entry: Option) -> set[str]:
    """The names of an option in a file: the field's, and the flag's."""
    return {entry.name, entry.flag.removeprefix("--").replace("-", "_")}


def _unknown_section(section: str, known: list[Option]) -> str:
    home = [entry.section for entry in known if section.replace("-", "_") in _words(entry)]
    if home:
        return f"{section!r} belongs under [{home[0]}]"
    names = dict.fromkeys(entry.section for entry in known)
    hint = nearest(section, names, form="[{}]") or f"; the tables are {', '.join(f'[{n}]' for n in names)}"
    return f"unknown table [{section}]{hint}"


def _unknown_key(section: str, name: str, known: list[Option]) -> str:
    home = [entry.section for entry in known if name.replace("-", "_") in _words(entry)]
    if home:
        return f"{name!r} stands under [{section}]; it belongs under [{home[0]}]"
    same = sorted({word for entry in known if entry.section == section for word in _words(entry)})
    hint = nearest(name, same, form="'{}'") or f"; the keys are {', '.join(same)}"
    return f"unknown key {name!r} in [{section}]{hint}"


def build(settings: type[Settings], values: Mapping[str, Any], *, text: Iterable[str] = ()) -> Settings:
    """The settings object: defaults, overridden by `values` (`{section.name: value}`).

    text: the paths whose values are words from the command line, still to be read as their type.
    Raises UserError for a value of the wrong type or outside its bounds, and what the sections themselves check.
    """
    spoken = set(text)
    parts: dict[str, dict[str, Any]] = {}
    for entry in options(settings):
        section = parts.setdefault(entry.section, {})
        if entry.path in values:
            section[entry.name] = _convert(entry, values[entry.path], spoken=entry.path in spoken)
    if "" in parts:
        return settings(**parts[""])
    hints = get_type_hints(settings)
    return settings(**{section: hints[section](**given) for section, given in parts.items()})


def check_effects(settings: Any, given: Iterable[str]) -> None:
    """Raise UserError for an option that was given (by its path) and has no effect beside the others.

    settings: the settings object; what each option needs stands in its `option(needs=...)`.
    """
    known = {entry.path: entry for entry in options(type(settings))}
    for entry in (known[path] for path in given if path in known):
        part = getattr(settings, entry.section) if entry.section else settings
        for name, needed in entry.needs.items():
            other = known[f"{entry.section}.{name}" if entry.section else name]
            value = getattr(part, name)
            if value in needed if isinstance(needed, tuple) else bool(value) == needed:
                continue
            raise UserError(f"{entry.flag} has no effect {_missing(other, value, needed)}")


def _missing(other: Option, value: Any, needed: Any) -> str:
    if isinstance(needed, tuple):
        return (
            f"with {other.flag} {value}; take {other.flag} {' or '.join(map(str, needed))}, or leave it out"
        )
    if needed and other.plain_type in {int, float}:
        return f"with {other.flag} {value:g}; give that another value, or leave this out"
    if needed:
        return f"without {other.flag}; give that too, or leave it out"
    return f"beside {other.flag}; leave one of them out"


def _convert(entry: Option, value: Any, *, spoken: bool) -> Any:
    name = entry.flag if spoken else f"{entry.name!r} in [{entry.section}]"
    if entry.choices and value not in entry.choices:
        hint = nearest(str(value), entry.choices, form="'{}'")
        raise UserError(f"{name}: {value!r} is not one of {', '.join(entry.choices)}{hint}")
    if spoken and entry.plain_type in {int, float} and isinstance(value, str):
        value = value.strip()
    number = _number(value) if spoken and entry.plain_type is float and isinstance(value, str) else value
    try:
        found = msgspec.convert(number, entry.type, strict=not spoken)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise UserError(f"{name}: {_shortened(value)} is not {_in_words(str(error))}") from None
    if isinstance(found, float) and not math.isfinite(found):
        raise UserError(f"{name}: {_shortened(value)} is not a finite number")
    if "\0" in str(found):
        raise UserError(f"{name}: {_shortened(value)} holds a zero byte")
    return found


def _number(text: str) -> float | str:
    """Numbers are typed as `.5`, `5.`, `+1e-3` too, which JSON's grammar does not know."""
    try:
        return float(text)
    except ValueError:
        return text


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-10:]}"


def _in_words(error: str) -> str:
    """`a whole number >= 1` of msgspec's "Expected `int` >= 1 - at `$`"."""
    wanted = error.removeprefix("Expected ").split(" - at ")[0].split(", got")[0].replace("`", "")
    kind, _, bound = wanted.partition(" ")
    words = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a text",
        "array": "a list",
    }
    return f"{words.get(kind, kind)} {bound}".strip()


def tables(settings: Any) -> dict[str, dict[str, Any]]:
    """The nested tables of a settings object, as JSON and TOML write them; `values_of` and `build` read them back."""
    return {
        section.name: {
            entry.name: _plain(getattr(getattr(settings, section.name), entry.name))
            for entry in fields(getattr(settings, section.name))
        }
        for section in fields(settings)
        if is_dataclass(getattr(settings, section.name))
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def require(module: str, *, extra: str, what: str) -> None:
    """Raise UserError unless a package of an extra is installed. what: the flag or feature that needs it."""
    if find_spec(module) is None:
        raise UserError(
            f"{what} needs the package {module}, which is not installed: pip install 'elman[{extra}]'"
        )
