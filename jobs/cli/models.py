"""`reviewrisk models …`: what is registered, which model decides, its thresholds, and how models are combined and
given away.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

import click

from jobs.cli.options import conf_option, load, output_option


@click.group()
def models() -> None:
    """List, show, promote, retire, combine and export registered models, and set their thresholds."""


@models.command("list")
@conf_option
def models_list(conf: Path | None) -> None:
    """The registered models with their test figures, newest first."""
    from jobs.registry.models import list_models

    click.echo("\n".join(list_models(load(conf).root)))


@models.command("show")
@conf_option
@click.argument("version", required=False)
def models_show(conf: Path | None, version: str | None) -> None:
    """All that is known of VERSION (default: the champion): counts, figures, thresholds, its bundle and whether that is
    whole, promotions, settings.
    """
    from jobs.registry.models import run_show

    run_show(load(conf), version, click.echo)


@models.command("promote")
@conf_option
@click.argument("version", required=False)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Score only reviews of this day and later.")
@click.option(
    "--override",
    help=(
        "Promote the model although it is significantly worse, was not compared, or was trained on some reviews only."
        " The value is your reason; models.promotion_reason keeps it."
    ),
)
def models_promote(
    conf: Path | None, version: str | None, since: datetime.datetime | None, override: str | None
) -> None:
    """Make VERSION (default: the newest candidate for all reviews) the champion.

    It must reach the config's limits on its test split, be made for all reviews (not by `train --only`), be comparable
    with the champion on the old period, and may not lose significantly against it on the old or the new one.
    """
    from jobs.registry.promote import run_promote

    run_promote(load(conf), version, since.date() if since else None, override, click.echo)


@models.command("compile")
@conf_option
@click.argument("version", required=False)
def models_compile(conf: Path | None, version: str | None) -> None:
    """Try the engines of the config on this machine for VERSION (default: the champion): speed and parity with the
    reference, as a table. `score` does so by itself where it finds no trial of this processor, and takes the fastest
    that decides like the reference; there slower ones are not compared.
    """
    from jobs.registry.models import named_or_champion
    from jobs.scoring.engines import run_compile

    config = load(conf)
    threads = int(config.spark.options.get("spark.task.cpus", 1))
    run_compile(config, named_or_champion(config.root, version), threads, click.echo, every=True)


@models.command("retire")
@conf_option
@click.argument("version")
def models_retire(conf: Path | None, version: str) -> None:
    """Mark VERSION as retired: it is no candidate any more; its scores and bundle stay. No route may name it."""
    from jobs.registry.models import run_retire

    run_retire(load(conf).root, version, click.echo)


@models.command("thresholds")
@conf_option
@click.argument("version", required=False)
def models_thresholds(conf: Path | None, version: str | None) -> None:
    """Fit the config's model.thresholds anew for VERSION (default: the champion), from its own predictions: nothing is
    scored.
    """
    from jobs.registry.refit_thresholds import run_thresholds

    run_thresholds(load(conf), version, click.echo)


@models.command("evaluate")
@conf_option
@click.argument("version")
@click.argument("root")
@click.option(
    "--rows",
    type=click.IntRange(min=100),
    help="At most so many of its labelled reviews, drawn by product; default: all.",
)
@output_option
def models_evaluate(conf: Path | None, version: str, root: str, rows: int | None, output: Path | None) -> None:
    """Judge VERSION on the labelled reviews of another ROOT, which `ingest` made: another category, shop or time.
    Nothing is fitted on them.
    """
    from jobs.training.evaluate import run_evaluate

    for line in run_evaluate(load(conf), version, root, rows, output, click.echo):
        click.echo(line)


@models.command("merge")
@conf_option
@click.argument("versions", nargs=-1, required=True)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="With one version: where the merged model goes."
)
@click.option(
    "--method",
    type=click.Choice(["average", "arithmetic", "ties", "dare_linear", "dare_ties"]),
    default="average",
    show_default=True,
    help="With several: how they are combined.",
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    type=float,
    help="One per version, in their order; arithmetic (task arithmetic) takes negative ones too.",
)
@click.option(
    "--density", default=0.5, show_default=True, help="ties, dare: share of each adapter's entries that is kept."
)
@click.option("--rank", type=click.IntRange(min=1), help="Rank of the combined adapter.")
@click.option("--seed", default=17, show_default=True, help="dare: which entries are dropped.")
def models_merge(
    conf: Path | None,
    versions: tuple[str, ...],
    output: Path | None,
    method: Literal["average", "arithmetic", "ties", "dare_linear", "dare_ties"],
    weights: tuple[float, ...],
    density: float,
    rank: int | None,
    seed: int,
) -> None:
    """Fold one version's adapter into its base, or combine the adapters of several into a new candidate."""
    from jobs.registry.publish import run_merge

    run_merge(load(conf), versions, click.echo, output, method, weights or None, density, rank, seed)


_form = click.option(
    "--form",
    type=click.Choice(["adapter", "merged"]),
    default="adapter",
    show_default=True,
    help="The peft adapter, or the merged model.",
)


@models.command("export")
@conf_option
@_form
@click.argument("version")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def models_export(conf: Path | None, form: Literal["adapter", "merged"], version: str, folder: Path) -> None:
    """Write VERSION to FOLDER for use without reviewrisk: a peft adapter, or the merged model as a
    transformers folder.
    """
    from jobs.registry.publish import run_export

    run_export(load(conf), version, folder, form, click.echo)


@models.command("push")
@conf_option
@_form
@click.argument("version")
@click.argument("repository")
@click.option("--dry-run", is_flag=True, help="Say what would go where; contact nobody.")
@click.option("--endpoint", help="Another hub than the usual one.")
@click.option("--public", is_flag=True, help="Make a new repository public; it is private otherwise.")
def models_push(
    conf: Path | None,
    form: Literal["adapter", "merged"],
    version: str,
    repository: str,
    dry_run: bool,
    endpoint: str | None,
    public: bool,
) -> None:
    """Put VERSION into the hub repository REPOSITORY (owner/name); the token stands in the environment variable
    HF_TOKEN.
    """
    from jobs.registry.publish import run_push

    run_push(load(conf), version, repository, dry_run, click.echo, endpoint, form, public)
