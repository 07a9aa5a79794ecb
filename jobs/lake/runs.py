"""`job_runs`: one row for every run that ended, whatever its end, of a command that changes the root (see
docs/operations.md).
"""

from __future__ import annotations

import datetime
import json
import sys
import uuid
from types import TracebackType
from typing import Any

from jobs.lake import tables
from jobs.outages import redacted
from jobs.storage import Root


class JobRun:
    """A run being made. On leaving the block its row is appended: succeeded, or failed with the error's text."""

    def __init__(self, root: Root, command: str) -> None:
        self._root = root
        self._command = command
        self._started = datetime.datetime.now(datetime.UTC)
        self._figures: dict[str, Any] = {}
        self.run_id = f"{self._started:%Y%m%dT%H%M%S}-{command}-{uuid.uuid4().hex[:6]}"

    @property
    def started_at(self) -> datetime.datetime:
        return self._started

    def finish(
        self,
        model_version: str | None = None,
        rows_read: int | None = None,
        rows_written: int | None = None,
        rows_failed: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Keep the run's figures for its row; call it when the work is published."""
        self._figures = {
            "model_version": model_version,
            "rows_read": rows_read,
            "rows_written": rows_written,
            "rows_failed": rows_failed,
            "details": json.dumps(details or {}, default=str),
        }

    def __enter__(self) -> JobRun:
        tables.add_missing_columns(self._root)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        finished = datetime.datetime.now(datetime.UTC)
        message = None if error is None else redacted(f"{type(error).__name__}: {error}")[:2000]
        row = {
            "run_id": self.run_id,
            "command": self._command,
            "status": "succeeded" if error is None else "failed",
            "started_at": self._started,
            "finished_at": finished,
            "wall_seconds": (finished - self._started).total_seconds(),
            "details": "{}",
            "error": message,
            **self._figures,
        }
        try:
            tables.append_row(self._root, "job_runs", row, self.run_id)
        except Exception as unwritten:
            if error is None:
                raise
            # What failed is to be seen, and that job_runs does not tell of it as well.
            print(f"job_runs has no row of this failed run {self.run_id}: {redacted(str(unwritten))}", file=sys.stderr)
