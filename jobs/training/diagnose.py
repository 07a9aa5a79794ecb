"""Say which known failure a registered model's training looks like. Reads its bundle alone: no Spark, no reviews."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.config import Config
from jobs.registry.bundles import local_bundle
from jobs.registry.models import named_or_champion
from model.errors import needs_extra
from model.progress import Report, progress

if TYPE_CHECKING:
    from model.training.diagnosis import Finding


def run_diagnose(config: Config, version: str | None, report: Report) -> list[Finding]:
    """The findings, the found ones first, reported with their evidence after what training did to each adapted weight.

    The model is the champion where none is named.

    Raises ReviewriskError where there is no such model, or its bundle or its backbone is not the one it was registered
    with.
    """
    with needs_extra("train", "Diagnosing"):
        from model.training.diagnosis import diagnose_bundle
        from model.training.spectrum import weight_table
    row = named_or_champion(config.root, version)
    bundle = local_bundle(config, row)
    with progress("taking the weights apart", report):
        diagnosis = diagnose_bundle(bundle)
    for line in weight_table(diagnosis.weights):
        report(f"  {line}")
    report("")
    if not diagnosis.has_training:
        report(
            "  this bundle was combined from other models and has no record of a training: only its weights are judged"
        )
    findings = diagnosis.findings
    for finding in findings:
        report(f"  {'FOUND' if finding.is_found else 'no':<5}  {finding.name.replace('_', ' ')}: {finding.evidence}")
        if finding.is_found:
            report(f"         try: {finding.advice}")
    found = sum(finding.is_found for finding in findings)
    report(f"  {row['model_version']} shows {found or 'none'} of {len(findings)} known failures")
    return findings
