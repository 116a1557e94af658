"""Settings: files, flags and saved forms read into the same values, and mistakes are named."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest

from elman.config import (
    Amount,
    Count,
    Flag,
    Share,
    UserError,
    build,
    nearest,
    option,
    options,
    read_settings,
    tables,
    values_of,
)
from elman.tasks.base import TASKS, find


@dataclass(frozen=True)
class Kitchen:
    """A section."""

    spoons: Count = option(3, "spoons", unit="SPOONS")
    salt: Share = option(0.1, "salt")
    heat: Amount = option(1.0, "heat", late=True)
    lid: Flag = option(False, "lid")
    pot: Literal["iron", "clay"] = option("iron", "pot")
    soups: tuple[str, ...] = option((), "soups", flag="soup")


@dataclass(frozen=True)
class House:
    """Settings of two sections."""

    kitchen: Kitchen = field(default_factory=Kitchen)


def spoken(**values: Any) -> House:
    return build(
        House,
        {f"kitchen.{name}": value for name, value in values.items()},
        text=[f"kitchen.{n}" for n in values],
    )


def test_defaults() -> None:
    assert build(House, {}) == House()


def test_words_of_the_command_line_become_values() -> None:
    house = spoken(spoons="7", salt="0.25", lid=True, pot="clay", soups=["leek", "pea"], heat="2")
    assert house.kitchen == Kitchen(7, 0.25, 2.0, True, "clay", ("leek", "pea"))
    assert isinstance(house.kitchen.heat, float)


def test_a_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "house.toml"
    path.write_text(
        '[kitchen]\nspoons = 7\nsalt = 0.25\nlid = true\npot = "clay"\nsoups = ["leek", "pea"]\nheat = 2\n'
    )
    values = values_of(House, read_settings(path), source="house.toml")
    assert build(House, values).kitchen == Kitchen(7, 0.25, 2.0, True, "clay", ("leek", "pea"))


def test_a_flag_comes_after_the_file() -> None:
    house = build(House, {"kitchen.spoons": "9", "kitchen.salt": 0.5}, text=["kitchen.spoons"])
    assert (house.kitchen.spoons, house.kitchen.salt) == (9, 0.5)


def test_the_saved_form_reads_back() -> None:
    house = spoken(spoons="7", soups=["leek"])
    again = json.loads(json.dumps(tables(house)))
    assert build(House, values_of(House, again, source="saved")) == house


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"spoons": "many"}, "--spoons: 'many' is not a whole number"),
        ({"spoons": "0"}, "--spoons: '0' is not a whole number >= 1"),
        ({"spoons": "1.5"}, "--spoons: '1.5' is not a whole number"),
        ({"salt": "1"}, "--salt: '1' is not a number < 1"),
        ({"salt": "x"}, "--salt: 'x' is not a number"),
        ({"pot": "clai"}, "--pot: 'clai' is not one of iron, clay; did you mean 'clay'?"),
    ],
)
def test_wrong_words(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        spoken(**values)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("nested", "says"),
    [
        ({"kitchn": {}}, "unknown table [kitchn]; did you mean [kitchen]?"),
        ({"cellar": {}}, "unknown table [cellar]; the tables are [kitchen]"),
        ({"spoons": 3}, "'spoons' belongs under [kitchen]"),
        ({"kitchen": {"spons": 3}}, "unknown key 'spons' in [kitchen]; did you mean 'spoons'?"),
        ({"kitchen": {"zzz": 3}}, "unknown key 'zzz' in [kitchen]; the keys are heat, lid, pot, salt, soup"),
        ({"kitchen": {"spoons": "3"}}, "'spoons' in [kitchen]: '3' is not a whole number"),
        ({"kitchen": {"lid": 1}}, "'lid' in [kitchen]: 1 is not true or false"),
        ({"kitchen": {"soups": "pea"}}, "'soups' in [kitchen]: 'pea' is not a list"),
    ],
)
def test_wrong_files(nested: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        build(House, values_of(House, nested, source="house.toml"))
    assert says in str(error.value)


def test_wrong_paths_and_broken_toml(tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text("[a\n")
    with pytest.raises(UserError, match=r"no such config file: .*demos\.toml; did you mean demo\.toml\?"):
        read_settings(tmp_path / "demos.toml")
    with pytest.raises(UserError, match="is not valid TOML"):
        read_settings(tmp_path / "demo.toml")
    with pytest.raises(UserError, match="cannot read"):
        read_settings(tmp_path)


def test_nearest() -> None:
    assert nearest("hiden", ["layers", "hidden"]) == "; did you mean hidden?"
    assert nearest("xyz", ["layers", "hidden"]) == ""


@pytest.mark.parametrize("typed", [".34", "0.34", "+.34", " 34e-2", "3.4E-1"])
def test_numbers_as_people_type_them(typed: str) -> None:
    assert spoken(salt=typed).kitchen.salt == 0.34


@pytest.mark.parametrize("name", TASKS)
def test_every_option_of_every_task_has_one_flag_a_help_and_a_unit(name: str) -> None:
    task = find(name)
    entries = options(task.settings)
    own = ["--config", "--run", "--overwrite", "--resume", "--quiet", "--help"]
    flags = [entry.flag for entry in entries] + own
    assert len(flags) == len(set(flags))
    for entry in entries:
        assert entry.help
        assert entry.unit or entry.choices or entry.plain_type is bool, f"{entry.flag} has no unit"
        assert build(task.settings, {}) is not None
    assert {section.name for section in fields(task.settings)} >= {"optimizer", "training"}


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "configs").glob("*/*.toml")), ids=lambda p: p.stem
)
def test_every_config_in_the_repository_is_valid(path: Path) -> None:
    task = find(path.parent.name.replace("_", "-"))
    assert (
        build(task.settings, values_of(task.settings, read_settings(path), source=str(path)))
        != task.settings()
    )
