"""How the process ends: one sentence and an exit code for what a user can mend, for Ctrl-C and for nothing new."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from jobs.outages import is_outage, outage
from model.errors import ReviewriskError
from model.terminal import printable

if TYPE_CHECKING:
    from jobs.ingest.accounting import IngestSummary

NOTHING_NEW = 4
INTERRUPTED = 130


class CommandGroup(click.Group):
    """Shows what a user can mend as one sentence, without a traceback, and exits with the code of its kind.

    docs/operations.md lists the codes. A defect of ours keeps its traceback and exits with 1.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReviewriskError as error:
            _end(f"error: {error}", error.exit_code)
        except KeyboardInterrupt:
            _end("interrupted: what was published stays whole, and the same command goes on from there", INTERRUPTED)
        except OSError as error:
            if not is_outage(error):
                raise
            refused = outage(error, error.filename or "A file")
            _end(f"error: {refused}", refused.exit_code)


def _end(message: str, code: int) -> None:
    click.secho(printable(message, keep="\n"), fg="red", err=True)
    sys.exit(code)


def exit_where_nothing_is_new(summary: IngestSummary) -> None:
    """End the process with NOTHING_NEW where an ingest found no new source."""
    if summary.is_nothing_new:
        sys.exit(NOTHING_NEW)
