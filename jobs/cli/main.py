"""The command line: each command's body loads the config and calls one function."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from jobs.cli.ablate import ablate
from jobs.cli.exits import CommandGroup, exit_where_nothing_is_new
from jobs.cli.models import models
from jobs.cli.options import (
    conf_option,
    head,
    load,
    minutes_option,
    only_option,
    output_option,
    retry_option,
    session_of,
)
from jobs.cli.tables import sql, tables
from jobs.cli.try_text import try_text


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reviewrisk")
def main() -> None:
    """Find critically dissatisfied customers in a warehouse's reviews: ingest, train, score, explain, report."""


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--rows", default=20_000, show_default=True, help="Reviews to write.")
@click.option("--seed", default=17, show_default=True)
def sample(target: Path, rows: int, seed: int) -> None:
    """Write synthetic furniture reviews to TARGET (.tsv or .tsv.gz), and their causes beside it."""
    from jobs.sample.write import run_sample

    click.echo(str(run_sample(target, rows, seed)))


@main.command()
@conf_option
@click.option(
    "--train-end",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Last day of the training split; with the two below, over the config's splits.",
)
@click.option("--validation-end", type=click.DateTime(["%Y-%m-%d"]))
@click.option("--test-end", type=click.DateTime(["%Y-%m-%d"]))
@click.argument("sources", nargs=-1, required=True)
def ingest(conf: Path | None, sources: tuple[str, ...], **ends: datetime.datetime | None) -> None:
    """Read raw review files (SOURCES: files, folders, globs; .tsv, .gz, .bz2, .zst) into the root's tables.

    Exits with 4 where no source was new.
    """
    from jobs.ingest.merge import run_ingest

    config = load(conf).with_split_ends(**ends)
    head("ingest")
    exit_where_nothing_is_new(run_ingest(session_of(config), config, sources, click.echo))


@main.command()
@conf_option
@only_option
def train(conf: Path | None, only: str | None) -> None:
    """Fine-tune a model on the training split, calibrate and test it, and register it as a candidate."""
    from jobs.training.train import run_train

    config = load(conf).with_only(only)
    head("train")
    run_train(config, click.echo)


@main.command()
@conf_option
@only_option
def plan(conf: Path | None, only: str | None) -> None:
    """Say what `train` would do and cost: parameters, data audit, memory and time estimates, warnings.

    Trains nothing.
    """
    from jobs.training.plan import run_plan

    run_plan(load(conf).with_only(only), click.echo)


@main.command()
@conf_option
@only_option
def retrain(conf: Path | None, only: str | None) -> None:
    """Train a challenger from the base on old and new reviews, and show it beside the champion on both periods."""
    from jobs.training.retrain import run_retrain

    config = load(conf).with_only(only)
    head("retrain")
    run_retrain(config, click.echo)


@main.command()
@conf_option
@click.option(
    "--shifted-root", help="A second root: all its labelled reviews are a population that no method was fitted on."
)
@click.option(
    "--rows", default=6000, show_default=True, type=click.IntRange(min=100), help="Training rows of each method."
)
@click.option(
    "--test-rows", type=click.IntRange(min=100), help="At most so many test rows, drawn by product; default: all."
)
@click.option(
    "--curve-rows",
    type=click.IntRange(min=100),
    help="Largest training size of the learning curve, above --rows; a very large number uses all rows.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    help="A method to run beside TF-IDF, such as lora_all; may be given several times; default: all.",
)
@click.option(
    "--parallel",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many trainings run at the same time; they share the CPU cores.",
)
@minutes_option
@click.option(
    "--pairs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of minimal pairs, to be judged too.",
)
@output_option
def compare(
    conf: Path | None,
    shifted_root: str | None,
    rows: int,
    test_rows: int | None,
    curve_rows: int | None,
    methods: tuple[str, ...],
    parallel: int,
    minutes: float | None,
    pairs: Path | None,
    output: Path | None,
) -> None:
    """Hold methods against each other: TF-IDF, prompts, adapters, LoRA in several places, full fine-tuning. Finished
    cells are kept.
    """
    from jobs.training.compare import ComparisonOptions, run_compare

    config = load(conf)
    head("compare")
    options = ComparisonOptions(rows, shifted_root, test_rows, curve_rows, methods, pairs, minutes, parallel)
    for line in run_compare(config, options, output, click.echo):
        click.echo(line)


@main.command()
@conf_option
@click.argument("version", required=False)
def diagnose(conf: Path | None, version: str | None) -> None:
    """Say which failure the training of VERSION (default: the champion) looks like, with the evidence and the setting
    to try.
    """
    from jobs.training.diagnose import run_diagnose

    run_diagnose(load(conf), version, click.echo)


@main.command()
@conf_option
@retry_option
def score(conf: Path | None, retry_failed: bool) -> None:
    """Score every new, moved or changed review with the champion, or with the model that the config's routing names for
    it.
    """
    from jobs.scoring.score import run_score

    config = load(conf)
    head("score")
    run_score(session_of(config), config, click.echo, retry_failed)


@main.command()
@conf_option
@retry_option
def explain(conf: Path | None, retry_failed: bool) -> None:
    """Explain flagged reviews: the words that moved each score most."""
    from jobs.scoring.explain import run_explain

    config = load(conf)
    head("explain")
    run_explain(session_of(config), config, click.echo, retry_failed)


@main.command()
@conf_option
def report(conf: Path | None) -> None:
    """Build the dbt models and print the headline figures."""
    from jobs.report.build import run_report

    config = load(conf)
    head("report")
    run_report(config.root, config.warehouse, config.report, click.echo, config.scratch)


@main.command()
@conf_option
@click.argument("sources", nargs=-1, required=True)
def nightly(conf: Path | None, sources: tuple[str, ...]) -> None:
    """Ingest SOURCES, then score, explain and report. Exits with 4 where no source was new."""
    from jobs.nightly import run_nightly

    exit_where_nothing_is_new(run_nightly(load(conf), sources, click.echo, head))


@main.command()
@conf_option
@click.argument("sources", nargs=-1)
def demo(conf: Path | None, sources: tuple[str, ...]) -> None:
    """The whole job from nothing: sample, ingest, train, promote, score, explain, report.

    It takes SOURCES in place of the synthetic sample, and explains the test split.
    """
    from jobs.nightly import run_demo

    run_demo(load(conf or Path("demo")), sources, click.echo, head)


for command in (models, ablate, try_text, sql, tables):
    main.add_command(command)


if __name__ == "__main__":
    main()
