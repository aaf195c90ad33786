"""Writes the next migration from the differences between the schema and the last migration.

python -m arena.log.migrations MESSAGE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.script import Script

from arena.log import database


def revise(message: str) -> Path:
    """Writes the next migration; returns its file, which needs a careful look."""
    config = database.scripts_config()
    with tempfile.TemporaryDirectory() as folder:
        address = database.parse_address(Path(folder) / "log.db")
        with database.Database(address).writer.begin() as connection:
            database.migrate(connection)
            config.attributes["connection"] = connection
            number = f"{int(database.head()) + 1:04}"
            script = command.revision(config, message, autogenerate=True, rev_id=number)
    assert isinstance(script, Script)
    return Path(script.path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m arena.log.migrations MESSAGE")
    revise(sys.argv[1])
