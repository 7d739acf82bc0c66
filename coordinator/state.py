"""Which database keeps a coordinator's state, from its settings and its folder."""

from __future__ import annotations

from coordinator.config import CoordinatorConfig
from coordinator.folder import Folder
from coordinator.store.address import Address, address_of
from reefleet.errors import MissingFile


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
