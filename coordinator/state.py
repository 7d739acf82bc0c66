"""Which database keeps a coordinator's state, from its settings and its folder."""

from __future__ import annotations

from coordinator.config import CoordinatorConfig, read_config
from coordinator.folder import Folder
from coordinator.store import Store
from coordinator.store.address import Address, address_of
from reefleet.errors import MissingFile


def prepare(folder: Folder) -> None:
    """Make the empty state of a new folder; one on a server is made by the first start."""
    address = state_address(folder, read_config(folder.root))
    if not address.is_postgresql:
        Store(address).close()


def state_address(folder: Folder, config: CoordinatorConfig) -> Address:
    """The database that the settings name, or `state.db` in the folder; raises ConfigError.

    A password that the URL leaves out is read from `pki/database.password` or the credential of
    that name, where there is one; else PostgreSQL's own PGPASSWORD and ~/.pgpass serve.
    """
    try:
        password = folder.key(folder.database_password).decode().strip()
    except MissingFile:
        password = None
    return address_of(config.database, folder.state, password)
