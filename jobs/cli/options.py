"""What commands share: the config option and others, loading the config, a session, headings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.config import Config, load_config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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


def retry_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--retry-failed", is_flag=True, help="Also take up reviews again whose stored result is an error."
    )(command)


def minutes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--minutes",
        type=click.FloatRange(min=0),
        help="Begin no new training after so many minutes; the same command goes on later.",
    )(command)


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--output", type=click.Path(dir_okay=False, path_type=Path), help="Markdown file to write the tables to."
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
