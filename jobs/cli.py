"""The command line: each command's body loads the config and calls one function."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from jobs.cli_ablate import ablate
from jobs.cli_common import CommandGroup, conf_option, head, load, session_of
from jobs.cli_models import models

if TYPE_CHECKING:
    from jobs.single import SingleResult

SHADES = 4  # a word with this share of the greatest attribution, or less, stays uncoloured: 1 in SHADES


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
    from jobs.sample import run_sample

    click.echo(str(run_sample(target, rows, seed)))


@main.command()
@conf_option
@click.option("--train-end", type=click.DateTime(["%Y-%m-%d"]), help="Last day of the training split; with the two below, over the config's splits.")
@click.option("--validation-end", type=click.DateTime(["%Y-%m-%d"]))
@click.option("--test-end", type=click.DateTime(["%Y-%m-%d"]))
@click.argument("sources", nargs=-1, required=True)
def ingest(conf: Path | None, sources: tuple[str, ...], **ends: datetime.datetime | None) -> None:
    """Read raw review files (SOURCES: files, folders, globs; .tsv, .gz, .bz2, .zst) into the root's tables."""
    from jobs.ingest import run_ingest

    config = load(conf).with_split_ends(**ends)
    head("ingest")
    run_ingest(session_of(config), config, sources, click.echo)


@main.command()
@conf_option
def train(conf: Path | None) -> None:
    """Fine-tune a model on the training split, calibrate and test it, and register it as a candidate."""
    from jobs.train import run_train

    head("train")
    run_train(load(conf), click.echo)


@main.command()
@conf_option
def plan(conf: Path | None) -> None:
    """Say what `train` would do and cost: parameters, data audit, memory and time estimates, warnings. Trains nothing."""
    from jobs.plan import run_plan

    run_plan(load(conf), click.echo)


@main.command()
@conf_option
def retrain(conf: Path | None) -> None:
    """Train a challenger from the base on old and new reviews, and show it beside the champion on both periods."""
    from jobs.retrain import run_retrain

    head("retrain")
    run_retrain(load(conf), click.echo)


@main.command()
@conf_option
@click.option("--shifted-root", help="A second root: all its labelled reviews are a population that no method was fitted on.")
@click.option("--rows", default=6000, show_default=True, type=click.IntRange(min=100), help="Training rows of each method.")
@click.option("--test-rows", type=click.IntRange(min=100), help="At most so many test rows, drawn by product; default: all.")
@click.option("--minutes", type=float, help="Begin no new cell after so many minutes; the same command goes on later.")
@click.option("--pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of minimal pairs, to be judged too.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Markdown file to write the tables to.")
def compare(
    conf: Path | None, shifted_root: str | None, rows: int, test_rows: int | None, minutes: float | None, pairs: Path | None, output: Path | None
) -> None:
    """Hold methods against each other: TF-IDF, prompts, adapters, LoRA in several places, full fine-tuning. Finished cells are kept."""
    from jobs.compare import run_compare

    head("compare")
    for line in run_compare(load(conf), shifted_root, rows, test_rows, minutes, output, pairs, click.echo):
        click.echo(line)


@main.command()
@conf_option
@click.argument("version")
def diagnose(conf: Path | None, version: str) -> None:
    """Say which failure the training of VERSION looks like, with the evidence and the setting to try."""
    from jobs.diagnose import run_diagnose

    run_diagnose(load(conf), version, click.echo)


@main.command()
@conf_option
def score(conf: Path | None) -> None:
    """Score every new, moved or changed review with the champion, or with the model that the config's routing names for it."""
    from jobs.score import run_score

    config = load(conf)
    head("score")
    run_score(session_of(config), config, click.echo)


@main.command()
@conf_option
def explain(conf: Path | None) -> None:
    """Explain flagged reviews: the words that moved each score most."""
    from jobs.explain import run_explain

    config = load(conf)
    head("explain")
    run_explain(session_of(config), config, click.echo)


@main.command()
@conf_option
def report(conf: Path | None) -> None:
    """Build the dbt models and print the headline figures."""
    from jobs.report import run_report

    config = load(conf)
    head("report")
    run_report(config.root, config.warehouse, config.report, click.echo, config.scratch)


@main.command()
@conf_option
@click.argument("sources", nargs=-1, required=True)
def nightly(conf: Path | None, sources: tuple[str, ...]) -> None:
    """Ingest SOURCES, then score, explain and report."""
    from jobs.explain import run_explain
    from jobs.ingest import run_ingest
    from jobs.report import run_report
    from jobs.score import run_score

    config = load(conf)
    session = session_of(config)
    head("1/4 ingest")
    run_ingest(session, config, sources, click.echo)
    head("2/4 score")
    run_score(session, config, click.echo)
    head("3/4 explain")
    run_explain(session, config, click.echo)
    head("4/4 report")
    run_report(config.root, config.warehouse, config.report, click.echo, config.scratch)


@main.command()
@conf_option
@click.argument("sources", nargs=-1)
def demo(conf: Path | None, sources: tuple[str, ...]) -> None:
    """The whole job from nothing: ingest SOURCES (default: a synthetic sample), train, promote, score, explain the test split, report."""
    from jobs.explain import run_explain, with_test_months
    from jobs.ingest import run_ingest
    from jobs.promotion import run_promote
    from jobs.report import run_report
    from jobs.sample import run_sample
    from jobs.score import run_score
    from jobs.train import run_train
    from model.progress import progress

    config = load(conf or Path("demo"))
    click.echo(f"root: {config.root.uri}")
    if not sources:
        head("0/6 sample")
        target = config.scratch / "sample" / "furniture_reviews.tsv.gz"
        with progress("writing the sample", click.echo):
            summary = run_sample(target, config.sample.rows, config.sample.seed)
        click.echo(str(summary))
        sources = (str(target),)
    session = session_of(config)
    head("1/6 ingest")
    run_ingest(session, config, sources, click.echo)
    head("2/6 train")
    version = run_train(config, click.echo)
    head("3/6 promote")
    run_promote(config, version, None, None, click.echo)
    head("4/6 score")
    run_score(session, config, click.echo)
    head("5/6 explain")
    run_explain(session, with_test_months(config), click.echo)
    head("6/6 report")
    run_report(config.root, config.warehouse, config.report, click.echo, config.scratch)


@main.command("try")
@conf_option
@click.argument("text", required=False)
@click.option("--headline", help="The review's headline; TEXT is then its body.")
@click.option("--jsonl", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file with one JSON object a line: headline and body.")
@click.option("--no-explain", is_flag=True, help="Scores alone.")
def try_text(conf: Path | None, text: str | None, headline: str | None, jsonl: Path | None, no_explain: bool) -> None:
    """Score and explain one TEXT, or a file of texts, with the champion."""
    from jobs.single import read_jsonl, run_single

    if (text is None) == (jsonl is None):
        raise click.UsageError("Give either TEXT or --jsonl FILE.")
    if jsonl and headline is not None:
        raise click.UsageError("--headline belongs to one TEXT; with --jsonl each line has its own headline.")
    config = load(conf)
    texts = read_jsonl(jsonl) if jsonl else iter([(headline, text)])
    for result in run_single(config, texts, with_words=not no_explain):
        click.echo(result.to_json() if jsonl else _shown(result))


def _shown(result: SingleResult) -> str:
    """A result for a person: score, decision, and the text with its weightiest words coloured."""
    if result.score is None:
        return click.style(f"not scored: {result.error}", fg="red")
    decision = (
        click.style("flagged as critically dissatisfied", fg="red", bold=True) if result.is_flagged else click.style("not flagged", fg="green", bold=True)
    )
    lines = [f"probability of 1-2 stars (given not 3): {result.score:.3f}", f"decision at {result.threshold_name} = {result.threshold:.3f}: {decision}"]
    for field, text in (("headline", result.headline), ("body", result.body)):
        if text:
            lines.append(f"{field}: {_coloured(text, [word for word in result.words if word['field'] == field], _greatest(result.words))}")
    for word in result.words:
        lines.append(f"  {word['attribution']:+.3f}  {word['word']}")
    return "\n".join(lines)


def _greatest(words: list[dict[str, Any]]) -> float:
    return max((abs(word["attribution"]) for word in words), default=0.0)


def _coloured(text: str, words: list[dict[str, Any]], greatest: float) -> str:
    """The text with its words red (towards dissatisfied) or green, bold where they weigh most."""
    parts: list[str] = []
    end = 0
    for word in sorted(words, key=lambda word: word["char_start"]):
        share = abs(word["attribution"]) / greatest if greatest else 0.0
        if share <= 1 / SHADES:
            continue
        colour = "red" if word["attribution"] > 0 else "green"
        parts += [text[end : word["char_start"]], click.style(text[word["char_start"] : word["char_end"]], fg=colour, bold=share > 1 / 2)]
        end = word["char_end"]
    return "".join([*parts, text[end:]])


@main.command()
@conf_option
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.argument("query")
def sql(conf: Path | None, form: Literal["table", "csv", "json"], query: str) -> None:
    """Run a read-only QUERY over all tables and marts in DuckDB."""
    from jobs.query import open_warehouse, run_query

    config = load(conf)
    with open_warehouse(config.root, config.warehouse) as connection:
        click.echo(run_query(connection, query, form))


@main.group("tables")
def tables_group() -> None:
    """Export tables, check them, and clear out old files."""


@tables_group.command("export")
@conf_option
@click.option("--parquet", "target", required=True, type=click.Path(file_okay=False), help="Folder to write to; one folder a table.")
@click.argument("names", nargs=-1)
def tables_export(conf: Path | None, target: str, names: tuple[str, ...]) -> None:
    """Write tables (NAMES; default: all) as plain Parquet, for readers that know no Delta."""
    from jobs.tables import export_parquet

    for name, rows in export_parquet(load(conf).root, target, names).items():
        click.echo(f"  {name}: {rows:,} rows")


@tables_group.command("vacuum")
@conf_option
@click.option(
    "--retention-hours",
    default=168,
    show_default=True,
    type=click.IntRange(min=1),
    help="Files younger than this stay, so that running jobs and readers keep theirs.",
)
def tables_vacuum(conf: Path | None, retention_hours: int) -> None:
    """Delete files that no recent version of a table names."""
    from jobs.tables import vacuum

    for name, files in vacuum(load(conf).root, retention_hours).items():
        click.echo(f"  {name}: {files:,} files deleted")


@tables_group.command("check")
@conf_option
def tables_check(conf: Path | None) -> None:
    """Run sql/checks on the published tables; fails where a row comes back."""
    from jobs.checks import run_published_checks

    run_published_checks(load(conf).root, click.echo)


@tables_group.command("ddl")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("sql/tables"))
def tables_ddl(folder: Path) -> None:
    """Write each table's CREATE TABLE statement to FOLDER, from jobs/schemas.py."""
    from jobs.ddl import write_ddl

    write_ddl(folder)


main.add_command(models)
main.add_command(ablate)


if __name__ == "__main__":
    main()
