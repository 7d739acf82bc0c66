"""Where the state is: a SQLite file, or a database of a PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from reefleet.errors import ConfigError

POSTGRESQL = "postgresql"
_DRIVER = "postgresql+psycopg"


@dataclass(frozen=True, slots=True)
class Address:
    """A database; `shown` names it without its password, which is nobody's to read."""

    url: URL = field(repr=False)
    shown: str

    @property
    def is_postgresql(self) -> bool:
        """Whether a server keeps the state."""
        return self.url.get_backend_name() == POSTGRESQL


def file_address(path: Path) -> Address:
    """The SQLite file at `path`."""
    return Address(URL.create("sqlite", database=str(path)), str(path))


def address_of(database: str, path: Path, password: str | None = None) -> Address:
    """The database of that URL, or the file at `path` where the URL is empty.

    `password` is for a URL without one. Raises ConfigError for a URL that is no PostgreSQL's.
    """
    if not database:
        return file_address(path)
    wanted = f"it must be {_DRIVER}://USER@HOST/DATABASE, or empty for a file"
    try:
        url = make_url(database)
    except ArgumentError as error:  # its text would show a password
        msg = f"the setting `database` is no URL; {wanted}"
        raise ConfigError(msg) from error
    if url.drivername not in {POSTGRESQL, _DRIVER} or not url.database:
        msg = f"the setting `database` begins with {url.drivername[:40]!r}; {wanted}"
        raise ConfigError(msg)
    if password and not url.password:
        url = url.set(password=password)
    host = url.host or url.query.get("host") or "this machine"
    port = f":{url.port}" if url.port else ""
    shown = f"database {url.database} of {url.username or 'PostgreSQL'} at {host}{port}"
    return Address(url.set(drivername=_DRIVER), shown)
