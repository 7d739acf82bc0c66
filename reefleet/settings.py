"""The one loader of settings: frozen dataclasses from TOML, then environment, then flags.

A configuration is a frozen dataclass whose fields are plain values or further dataclasses (TOML
tables). Defaults live in the class. Whatever is wrong is said with source, key and value.
"""

from __future__ import annotations

import math
import os
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from reefleet.errors import ConfigError, MissingFile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_BOUNDS = "reefleet.bounds"
_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
}


def within(default: T, least: float, most: float) -> T:
    """Give a field's default and the range, ends included, that `load` holds it to."""
    if not isinstance(default, int | float) or not least <= default <= most:
        msg = f"default {default!r} is not within [{least}, {most}]"
        raise ConfigError(msg)
    return field(default=default, metadata={_BOUNDS: (least, most)})


def load(
    cls: type[T],
    path: Path | None = None,
    env_prefix: str = "",
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> T:
    """Build `cls` from a TOML file, `{env_prefix}TABLE_KEY` variables and dotted flags; last wins.

    A flag of value None was not given. Raises MissingFile for an unreadable file and ConfigError
    naming source, key and value for an unknown key, a wrong type, or a value out of range.
    """
    layers, known = _told(cls, read_tables(path) if path else {}, str(path)), _leaves(cls)
    if env_prefix:
        variables = os.environ if environment is None else environment
        for key in known:
            name = env_prefix + key.replace(".", "_").upper()
            if name in variables:
                layers[key] = _Given(variables[name], "environment", name, is_text=True)
    for key, value in (flags or {}).items():
        if value is not None:
            layers[key] = _Given(value, "command line", key)
    return _checked(cls, layers, str(path) if path else cls.__name__)


def from_tables(cls: type[T], tables: Mapping[str, Any], source: str) -> T:
    """Build `cls` from TOML tables already read; raises ConfigError as `load` does."""
    return _checked(cls, _told(cls, tables, source), source)


def read_tables(path: Path) -> dict[str, Any]:
    """A TOML file's tables; raises MissingFile, or ConfigError where it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read the configuration {path}: {error.strerror}"
        raise MissingFile(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not TOML: {error}"
        raise ConfigError(msg) from error


@dataclass(frozen=True, slots=True)
class _Given:
    """A value, where it came from and the name it has there."""

    value: object
    source: str
    name: str
    is_text: bool = False

    def refuse(self, wanted: str) -> ConfigError:
        """Name source, key, value and what was wanted."""
        return ConfigError(f"{self.source}: {self.name} is {self.value!r}; it must be {wanted}")


def _told(cls: type[Any], tables: Mapping[str, Any], source: str) -> dict[str, _Given]:
    flat = _flatten(tables, _leaves(cls))
    return {key: _Given(value, source, key) for key, value in flat.items()}


def _checked(cls: type[T], layers: Mapping[str, _Given], where: str) -> T:
    known = _leaves(cls)
    for key, given in layers.items():
        if key not in known:
            msg = f"{given.source}: unknown key {key} = {given.value!r}"
            raise ConfigError(msg)
    return _build(cls, layers, where, "")


def _leaves(cls: type[Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, hint in get_type_hints(cls).items():
        if _is_table(hint):
            leaves |= _leaves(hint, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = hint
    return leaves


def _is_table(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def _flatten(
    table: Mapping[str, Any], known: Mapping[str, Any], prefix: str = ""
) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict) and any(leaf.startswith(f"{key}.") for leaf in known):
            flat |= _flatten(value, known, f"{key}.")
        else:
            flat[key] = value
    return flat


def _build(cls: type[T], layers: Mapping[str, _Given], where: str, prefix: str) -> T:
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for item in fields(cls):  # type: ignore[arg-type]  # a dataclass by contract of `load`
        key, hint = prefix + item.name, hints[item.name]
        if _is_table(hint):
            values[item.name] = _build(hint, layers, where, f"{key}.")
        elif key in layers:
            values[item.name] = _bounded(_convert(layers[key], hint), item, layers[key])
        elif item.default is MISSING and item.default_factory is MISSING:
            msg = f"{where}: {key} is missing"
            raise ConfigError(msg)
    try:
        return cls(**values)
    except ConfigError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error


def _bounded(value: Any, item: Field[Any], given: _Given) -> Any:
    least, most = item.metadata.get(_BOUNDS, (-math.inf, math.inf))
    if _BOUNDS in item.metadata and value is not None and not least <= value <= most:
        wanted = f"within [{least}, {most}]"
        raise given.refuse(wanted)
    return value


def _convert(given: _Given, hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        if given.is_text and given.value == "":
            return None
        inner = next(a for a in arguments if a is not type(None))
        return _convert(given, inner)
    if origin is Literal:
        if given.value not in arguments:
            wanted = "one of " + ", ".join(str(a) for a in arguments)
            raise given.refuse(wanted)
        return given.value
    if origin is tuple:
        return _convert_each(given, arguments[0])
    return _convert_plain(given, hint)


def _convert_each(given: _Given, hint: Any) -> tuple[Any, ...]:
    items = given.value
    if given.is_text:
        items = [part.strip() for part in str(items).split(",") if part.strip()]
    if not isinstance(items, list | tuple):
        wanted = f"a list, each item {_NAMES.get(hint, 'a value')}"
        raise given.refuse(wanted)
    return tuple(
        _convert(_Given(item, given.source, given.name, given.is_text), hint) for item in items
    )


def _convert_plain(given: _Given, hint: Any) -> Any:
    value = _from_text(given, hint) if given.is_text else given.value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif hint is str and isinstance(value, str):
        return value
    elif hint is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    raise given.refuse(_NAMES.get(hint, f"of type {hint}"))


def _from_text(given: _Given, hint: Any) -> object:
    text = str(given.value)
    try:
        if hint is bool:
            return _TRUTHS[text.lower()]
        return hint(text) if hint in {int, float} else text
    except (KeyError, ValueError) as error:
        raise given.refuse(_NAMES[hint]) from error
