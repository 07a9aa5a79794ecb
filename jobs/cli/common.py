"""What all commands share: the config option, loading it, a session, headings, and errors as one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.config import Config, load_config
from jobs.outages import is_outage, outage
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

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
    click.secho(printable(message), fg="red", err=True)
    sys.exit(code)


def printable(text: str) -> str:
    """The text without control characters, which file names and data may bring; line ends stay."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def exit_where_nothing_is_new(summary: IngestSummary) -> None:
    """End the process with NOTHING_NEW where an ingest found no new source."""
    if summary.is_nothing_new:
        sys.exit(NOTHING_NEW)


def conf_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--conf",
        "conf",
        type=click.Path(path_type=Path),
        help=(
            "Config file; a bare name such as `demo` means the one that comes with reviewrisk. May be left out where"
            " REVIEWRISK_ROOT names a root."
        ),
    )(command)


def only_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--only",
        metavar="COLUMN=VALUE",
        help=(
            "Train, validate and test on these reviews alone: product_category=VALUE or marketplace=VALUE; over the"
            " config's model.rows.only."
        ),
    )(command)


def load(conf: Path | None) -> Config:
    if conf is not None and not conf.is_file() and conf.parent == Path() and conf.suffix in ("", ".yml"):
        from jobs.resources import resource_folder

        conf = resource_folder("conf") / f"{conf.stem}.yml"
    config = load_config(conf)
    if conf is not None and "REVIEWRISK_ROOT" in os.environ:
        click.echo(f"root: {config.root.uri} (from REVIEWRISK_ROOT)", err=True)
    return config


def session_of(config: Config) -> SparkSession:
    from jobs.spark.session import build_session

    return build_session(config.spark)


def head(title: str) -> None:
    click.secho(title, bold=True)
