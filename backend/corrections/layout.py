"""How the corrections' file is laid out, and how an older one is brought to the newest layout."""

import sqlite3

# One entry a version of the layout: what brings the one before to it.
MIGRATIONS = (
    """
    CREATE TABLE inbox (id INTEGER PRIMARY KEY, at REAL NOT NULL, body BLOB NOT NULL);
    CREATE TABLE project (
        key TEXT PRIMARY KEY, number INTEGER NOT NULL, title TEXT NOT NULL, label_config TEXT NOT NULL,
        changed REAL NOT NULL, asked REAL NOT NULL DEFAULT 0, tried_pictures INTEGER NOT NULL DEFAULT 0,
        tried_at REAL NOT NULL DEFAULT 0, pinned INTEGER, in_use INTEGER NOT NULL DEFAULT 0,
        next_number INTEGER NOT NULL DEFAULT 1, state TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID;
    CREATE TABLE annotation (
        project TEXT NOT NULL, id INTEGER NOT NULL, task INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
        who INTEGER, lead_time_s REAL, is_cancelled INTEGER NOT NULL, is_ground_truth INTEGER NOT NULL,
        started_from INTEGER, version TEXT NOT NULL, problems TEXT NOT NULL, waits BLOB,
        PRIMARY KEY (project, id)
    ) WITHOUT ROWID;
    CREATE INDEX annotation_of_task ON annotation (project, task);
    CREATE TABLE task (project TEXT NOT NULL, id INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (project, id))
        WITHOUT ROWID;
    CREATE TABLE picture (
        project TEXT NOT NULL, task INTEGER NOT NULL, data_key TEXT NOT NULL, page INTEGER NOT NULL,
        content TEXT NOT NULL, PRIMARY KEY (project, task, data_key, page)
    ) WITHOUT ROWID;
    CREATE TABLE evidence (
        project TEXT NOT NULL, annotation INTEGER NOT NULL, control TEXT NOT NULL, page INTEGER NOT NULL,
        data_key TEXT NOT NULL, labels TEXT NOT NULL, shares BLOB NOT NULL,
        height INTEGER NOT NULL, width INTEGER NOT NULL,
        PRIMARY KEY (project, annotation, control, page)
    ) WITHOUT ROWID;
    CREATE TABLE agreement (
        project TEXT NOT NULL, annotation INTEGER NOT NULL, control TEXT NOT NULL, page INTEGER NOT NULL,
        label TEXT NOT NULL, state TEXT NOT NULL, iou REAL, score REAL, number INTEGER NOT NULL,
        PRIMARY KEY (project, annotation, control, page, label)
    ) WITHOUT ROWID;
    CREATE TABLE gone (project TEXT NOT NULL, kind TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (project, kind, id))
        WITHOUT ROWID;
    CREATE TABLE fit (
        project TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, pictures INTEGER NOT NULL,
        note TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (project, number)
    ) WITHOUT ROWID;
    CREATE TABLE made_of (
        project TEXT NOT NULL, number INTEGER NOT NULL, annotation INTEGER NOT NULL,
        PRIMARY KEY (project, number, annotation)
    ) WITHOUT ROWID;
    """,
    # What an annotation was read from (`digest.py`); older ones are read once more.
    "ALTER TABLE annotation ADD COLUMN digest BLOB",
    """
    CREATE TABLE beside_words (
        project TEXT NOT NULL, annotation INTEGER NOT NULL, number INTEGER NOT NULL, iou REAL NOT NULL,
        words_iou REAL NOT NULL, PRIMARY KEY (project, annotation)
    ) WITHOUT ROWID;
    """,
)
OF_A_PROJECT = ("annotation", "task", "picture", "evidence", "agreement", "beside_words", "gone", "fit", "made_of")
"""Tables whose rows belong to the project that stands in their first column."""
NO_PAGE = -1
"""Stands for the page of a picture that is the only one."""


def page_of(stored: int) -> int | None:
    """Return the page that a stored number stands for; `None` for a picture that is the only one."""
    return None if stored == NO_PAGE else stored


def stored_page(page: int | None) -> int:
    """Return the number that a page is stored as."""
    return NO_PAGE if page is None else page


def migrate(database: sqlite3.Connection) -> None:
    """Bring the layout to the newest version.

    Raises:
        sqlite3.OperationalError: If it is newer than this program.
    """
    [version] = database.execute("PRAGMA user_version").fetchone()
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise sqlite3.OperationalError(
            f"the corrections' file has layout {version} and was written by a newer release; this one knows "
            f"{len(MIGRATIONS)}"
        )
    database.execute("BEGIN IMMEDIATE")
    [version] = database.execute("PRAGMA user_version").fetchone()  # another process may have been quicker
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        for statement in script.split(";"):
            if statement.strip():
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {number}")
    database.commit()
