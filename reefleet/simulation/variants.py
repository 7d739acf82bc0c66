"""Named variants of an experiment: the same file with some values changed, as rows of one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reefleet.errors import ConfigError
from reefleet.settings import from_tables, read_tables
from reefleet.simulation.config import Experiment

KEY = "variants"
OWN = frozenset({"name", "method"})


@dataclass(frozen=True, slots=True)
class Variant:
    """One row: its name, its method, and the experiment with the variant's values."""

    name: str
    method: str
    experiment: Experiment


def read_experiment(path: Path) -> tuple[Experiment, tuple[Variant, ...]]:
    """The experiment in a TOML file, and its `[[variants]]` in order.

    Raises MissingFile, or ConfigError naming the file, the variant and the key.
    """
    tables = read_tables(path)
    told = tables.pop(KEY, [])
    experiment = from_tables(Experiment, tables, str(path))
    if not isinstance(told, list) or not all(isinstance(entry, dict) for entry in told):
        msg = f"{path}: variants must be written as [[variants]] tables"
        raise ConfigError(msg)
    variants = tuple(_variant(tables, entry, path) for entry in told)
    names = [*experiment.methods, *(variant.name for variant in variants)]
    if twice := [name for name in names if names.count(name) > 1]:
        msg = f"{path}: {twice[0]!r} is named twice among methods and variants"
        raise ConfigError(msg)
    if not names:
        msg = f"{path}: methods and variants are empty; name one at least"
        raise ConfigError(msg)
    return experiment, variants


def _variant(tables: Mapping[str, Any], entry: Mapping[str, Any], path: Path) -> Variant:
    name, method = entry.get("name"), entry.get("method")
    if not (isinstance(name, str) and isinstance(method, str)) or not _is_plain(name):
        msg = f"{path}: a variant needs a plain name and a method, found {name!r} and {method!r}"
        raise ConfigError(msg)
    changed = dict(tables)
    for key, value in entry.items():
        if key in OWN:
            continue
        if not isinstance(value, dict):
            msg = f"{path}: variant {name}: {key} = {value!r} must be a table, such as training"
            raise ConfigError(msg)
        changed[key] = {**changed.get(key, {}), **value}
    return Variant(name, method, from_tables(Experiment, changed, f"{path}: variant {name}"))


def _is_plain(name: str) -> bool:
    return bool(name) and all(sign.isalnum() or sign in "-_@.+" for sign in name) and name[0] != "."
