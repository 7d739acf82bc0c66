from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from reefleet.errors import ConfigError, MissingFile
from reefleet.settings import load, within


@dataclass(frozen=True, slots=True)
class Rounds:
    total: int = within(8, 1, 1000)
    quorum: float = within(0.6, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Config:
    name: str
    codec: Literal["float16", "int8"] = "float16"
    boards: tuple[str, ...] = ()
    depths: tuple[int, ...] = (2, 4)
    cache: Path | None = None
    verbose: bool = False
    rounds: Rounds = field(default_factory=Rounds)


def written(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_live_in_the_class() -> None:
    assert load(Config, flags={"name": "reef"}) == Config(name="reef")


def test_later_sources_win_file_then_environment_then_flags(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "file"\n[rounds]\ntotal = 3\nquorum = 1\n')
    loaded = load(
        Config,
        path,
        "REEFLEET_",
        {"rounds.total": 5, "name": None},
        {"REEFLEET_ROUNDS_TOTAL": "4", "REEFLEET_NAME": "environment"},
    )
    assert loaded == Config(name="environment", rounds=Rounds(total=5, quorum=1.0))


def test_environment_text_becomes_each_type() -> None:
    loaded = load(
        Config,
        env_prefix="X_",
        environment={
            "X_NAME": "reef",
            "X_BOARDS": "rpi-4b, rpi-5",
            "X_DEPTHS": "1,3",
            "X_CACHE": "",
            "X_VERBOSE": "yes",
            "X_ROUNDS_QUORUM": "0.5",
        },
    )
    assert loaded == Config(
        name="reef",
        boards=("rpi-4b", "rpi-5"),
        depths=(1, 3),
        verbose=True,
        rounds=Rounds(quorum=0.5),
    )


def test_paths_are_kept_as_written(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "reef"\ncache = "bundles"\n')
    assert load(Config, path).cache == Path("bundles")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ('name = "r"\nround = 3\n', "round", "3"),
        ('name = "r"\n[rounds]\ntotals = 3\n', "rounds.totals", "3"),
        ('name = "r"\n[fleet]\nsize = 3\n', "fleet", "size"),
        ('name = "r"\nrounds = 3\n', "rounds", "3"),
        ("name = 7\n", "name", "7"),
        ('name = "r"\nverbose = 1\n', "verbose", "1"),
        ('name = "r"\ncodec = "zip"\n', "codec", "zip"),
        ('name = "r"\nboards = "rpi-4b"\n', "boards", "rpi-4b"),
        ('name = "r"\ndepths = [1, "two"]\n', "depths", "two"),
        ('name = "r"\ncache = ""\n', "cache", "''"),
        ('name = "r"\n[rounds]\ntotal = "many"\n', "rounds.total", "many"),
        ('name = "r"\n[rounds]\ntotal = true\n', "rounds.total", "True"),
        ('name = "r"\n[rounds]\ntotal = 0\n', "rounds.total", "0"),
        ('name = "r"\n[rounds]\nquorum = nan\n', "rounds.quorum", "nan"),
        ('name = "r"\n[rounds]\nquorum = 1.5\n', "rounds.quorum", "1.5"),
    ],
)
def test_a_bad_value_is_refused_naming_file_key_and_value(
    tmp_path: Path, text: str, key: str, value: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refusal:
        load(Config, path)
    assert str(path) in str(refusal.value)
    assert key in str(refusal.value)
    assert value in str(refusal.value)


def test_a_bad_variable_is_named_as_the_user_wrote_it() -> None:
    with pytest.raises(ConfigError, match="X_ROUNDS_TOTAL is 'lots'; it must be a whole number"):
        load(Config, env_prefix="X_", environment={"X_NAME": "r", "X_ROUNDS_TOTAL": "lots"})


def test_a_flag_of_another_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"command line: rounds.total is '3'"):
        load(Config, flags={"name": "r", "rounds.total": "3"})


def test_a_value_without_default_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fleet.toml: name is missing"):
        load(Config, written(tmp_path, "verbose = true\n"))


def test_text_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not TOML"):
        load(Config, written(tmp_path, "name = \n"))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"none.toml"):
        load(Config, tmp_path / "none.toml")


def test_a_refusal_of_the_class_itself_names_the_file(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Picky:
        low: int = 1
        high: int = 2

        def __post_init__(self) -> None:
            if self.low >= self.high:
                msg = f"low {self.low} is not below high {self.high}"
                raise ConfigError(msg)

    with pytest.raises(ConfigError, match=r"fleet.toml: low 5 is not below high 2"):
        load(Picky, written(tmp_path, "low = 5\n"))


def test_a_default_out_of_its_own_range_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="not within"):
        within(0, 1, 2)
