"""Schemas for tests of the database: folders of SQL files written on the spot."""

from pathlib import Path

from ops.migrate import Folder, Schema

NOTES = """
CREATE TABLE note (
    tenant text NOT NULL,
    id integer NOT NULL,
    body text NOT NULL CONSTRAINT note_says_something CHECK (body <> ''),
    PRIMARY KEY (tenant, id)
);
"""


def schema(root: Path, name: str, **files: str) -> Schema:
    """A schema with one folder; files by their names without the number, in this order.

    Called again with more files, it is the same schema later on.
    """
    folder = root / name
    folder.mkdir(exist_ok=True)
    for number, (title, sql) in enumerate(files.items(), 1):
        (folder / f"{number:04d}_{title}.sql").write_text(sql)
    return Schema(name, (Folder(name, folder),))


def notes(root: Path, name: str = "notes") -> Schema:
    """A schema with one table of tenants' rows."""
    return schema(root, name, create_notes=NOTES)
