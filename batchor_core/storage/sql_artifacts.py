"""Where a run's files lie: request files by their submissions or documented pointers, raw files by their batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, union

from batchor_core.core.enums import SubmissionState
from batchor_core.storage.columns import decode_text, encode_text
from batchor_core.storage.records import RequestArtifactPointer
from batchor_core.storage.schema import batches, items, request_pointers, submission_intents
from batchor_core.storage.sql_runs import LockedRun

_submissions, _pointers = submission_intents.c, request_pointers.c
_POINTER_COLUMNS = ("item_index", "artifact_path", "line_number", "request_sha256")

_HAS_FILE = and_(_submissions.sha256.is_not(None), _submissions.state != SubmissionState.DROPPED.value)
"""Submissions whose request file is whole; that of a dropped one is thrown away."""


def record_requests(run: LockedRun, pointers: Sequence[RequestArtifactPointer]) -> None:
    """Store where the request lines of items lie; an earlier pointer of an item is replaced."""
    given = {encode_text(pointer.item_id): pointer for pointer in pointers}
    known = select(items.c.item_id, items.c.item_index).where(
        items.c.run_key == run.run_key, run.database.among(items.c.item_id, list(given))
    )
    index_of = {item_id: index for item_id, index in run.connection.execute(known).all()}  # noqa: C416 - rows are no pairs to mypy
    replaced = run.database.among(_pointers.item_index, list(index_of.values()))
    run.connection.execute(request_pointers.delete().where(_pointers.run_key == run.run_key, replaced))
    rows = [
        (index, encode_text(given[item_id].artifact_path), given[item_id].line_number,
         encode_text(given[item_id].request_sha256))
        for item_id, index in index_of.items()
    ]  # fmt: skip
    same = {"run_key": run.run_key}
    run.database.insert_many(run.connection, request_pointers, _POINTER_COLUMNS, rows, same=same)


def request_paths(connection: Connection, run_key: int) -> list[str]:
    """Keys of the request files, each once, sorted."""
    wanted = union(
        select(_pointers.artifact_path).where(_pointers.run_key == run_key),
        select(_submissions.artifact_key).where(
            _submissions.run_key == run_key, _HAS_FILE, _submissions.artifact_key.is_not(None)
        ),
    )
    return sorted(decode_text(path) for path in connection.execute(wanted).scalars())


def clear_requests(run: LockedRun, paths: Sequence[str]) -> int:
    """Forget request files; returns the number of items that pointed there."""
    stored = [encode_text(path) for path in paths]
    pointing = and_(_pointers.run_key == run.run_key, run.database.among(_pointers.artifact_path, stored))
    owning = and_(
        _submissions.run_key == run.run_key, _HAS_FILE, run.database.among(_submissions.artifact_key, stored)
    )
    by_submission = and_(
        items.c.run_key == run.run_key, items.c.intent_key.in_(select(_submissions.intent_key).where(owning))
    )
    pointed = union(
        select(_pointers.item_index).where(pointing), select(items.c.item_index).where(by_submission)
    )
    count = run.connection.execute(select(func.count()).select_from(pointed.subquery())).scalar_one()
    run.connection.execute(request_pointers.delete().where(pointing))
    run.connection.execute(submission_intents.update().where(owning).values(artifact_key=None))
    return int(count)


def output_paths(connection: Connection, run_key: int) -> list[str]:
    """Keys of the kept output files, each once, sorted."""
    return _paths(connection, run_key, batches.c.output_artifact_path)


def error_paths(connection: Connection, run_key: int) -> list[str]:
    """Keys of the kept error files, each once, sorted."""
    return _paths(connection, run_key, batches.c.error_artifact_path)


def _paths(connection: Connection, run_key: int, column: ColumnElement[Any]) -> list[str]:
    wanted = select(column).distinct().where(batches.c.run_key == run_key, column.is_not(None))
    return sorted(decode_text(path) for path in connection.execute(wanted).scalars())


def clear_batches(run: LockedRun, paths: Sequence[str]) -> int:
    """Forget raw files; returns the number of batches that pointed there."""
    stored = [encode_text(path) for path in paths]
    mine = batches.c.run_key == run.run_key
    output = and_(mine, run.database.among(batches.c.output_artifact_path, stored))
    error = and_(mine, run.database.among(batches.c.error_artifact_path, stored))
    count = run.connection.execute(
        select(func.count()).select_from(batches).where(or_(output, error))
    ).scalar_one()
    run.connection.execute(batches.update().where(output).values(output_artifact_path=None))
    run.connection.execute(batches.update().where(error).values(error_artifact_path=None))
    return int(count)
