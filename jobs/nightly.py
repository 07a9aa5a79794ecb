"""Stages in a row: the night's work on new files, and the whole job from nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jobs.config import Config
from jobs.ingest.accounting import IngestSummary
from jobs.ingest.merge import run_ingest
from jobs.registry.promote import run_promote
from jobs.report.build import run_report
from jobs.sample.write import run_sample
from jobs.scoring.explain import run_explain, with_test_months
from jobs.scoring.score import run_score
from jobs.spark.session import build_session
from jobs.training.train import run_train
from model.progress import Report, progress

Heading = Callable[[str], None]


def run_nightly(config: Config, sources: Sequence[str], report: Report, heading: Heading) -> IngestSummary:
    """Ingest the sources, then score, explain and report; what the ingest did.

    The later stages run even where no file is new: a night before may have died in one of them.
    """
    spark = build_session(config.spark)
    heading("1/4 ingest")
    summary = run_ingest(spark, config, sources, report)
    heading("2/4 score")
    run_score(spark, config, report)
    heading("3/4 explain")
    run_explain(spark, config, report)
    heading("4/4 report")
    run_report(config.root, config.warehouse, config.report, report, config.scratch)
    return summary


def run_demo(config: Config, sources: Sequence[str], report: Report, heading: Heading) -> None:
    """The whole job: ingest the sources (none: a synthetic sample), train, promote, score, explain the test split,
    report.
    """
    report(f"root: {config.root.uri}")
    if not sources:
        heading("0/6 sample")
        sources = [_sample(config, report)]
    spark = build_session(config.spark)
    heading("1/6 ingest")
    run_ingest(spark, config, sources, report)
    heading("2/6 train")
    version = run_train(config, report)
    heading("3/6 promote")
    run_promote(config, version, None, None, report)
    heading("4/6 score")
    run_score(spark, config, report)
    heading("5/6 explain")
    run_explain(spark, with_test_months(config), report)
    heading("6/6 report")
    run_report(config.root, config.warehouse, config.report, report, config.scratch)


def _sample(config: Config, report: Report) -> str:
    """The path of a new synthetic sample under the scratch folder."""
    target = config.scratch / "sample" / "furniture_reviews.tsv.gz"
    with progress("writing the sample", report):
        summary = run_sample(target, config.sample.rows, config.sample.seed)
    report(str(summary))
    return str(target)
