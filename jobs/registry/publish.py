"""What is made of registered models: folded, combined, exported, and pushed to a model hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs.config import Config
from jobs.lake.labelled import newest_labelled, stored_reviews
from jobs.lake.runs import JobRun
from jobs.registry.bundles import local_bundle, serving_folder
from jobs.registry.models import default_threshold, registered
from jobs.registry.register import figures_on_test, next_step, register
from model.errors import OutageError, ReviewriskError, needs_extra
from model.files import folder_sha256, temporary_folder_beside
from model.progress import Report, progress

if TYPE_CHECKING:
    from model.merging.combine import Folded, Method

TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105 (a name, not a secret)
# Folding compares the newest validation and test rows, at most so many.
COMPARED_ROWS = 2000
Form = Literal["adapter", "merged"]


def run_merge(
    config: Config,
    versions: Sequence[str],
    report: Report,
    output: Path | None = None,
    method: Method = "average",
    weights: Sequence[float] | None = None,
    density: float = 0.5,
    rank: int | None = None,
    seed: int = 17,
) -> str:
    """Fold one model's adapter into its base and report what that changes, or combine several into a new candidate; the
    version.

    One version: the merged model goes to `output` as a serving folder, where that is given. Several: the rest is as
    `model.merging.combine.make_recipe` takes it; parents and the new model are reported side by side on the test rows
    of this root.
    """
    if len(set(versions)) < len(versions) or not versions:
        raise ReviewriskError("Name one model to fold it into its base, or several different ones to combine them.")
    if len(versions) == 1:
        return _fold(config, versions[0], output, report)
    if output is not None:
        raise ReviewriskError(
            "Combining writes the new model under the root: leave --output out, and use `reviewrisk models export` to"
            " write it elsewhere."
        )
    return _combine(config, versions, (method, len(versions), weights, density, rank, seed), report)


def run_export(config: Config, version: str, folder: Path, form: Form, report: Report) -> None:
    """Write a model to an empty or new folder: `adapter` as peft loads it, or `merged` as transformers does."""
    bundle = local_bundle(config, registered(config.root, version))
    _export(config, bundle, folder, form)
    report(f"  {version}, {form}, is in {folder}; its README.md says how to load it:")
    for line in _sizes(folder):
        report(line)


def run_push(
    config: Config,
    version: str,
    repo_id: str,
    dry_run: bool,
    report: Report,
    endpoint: str | None = None,
    form: Form = "adapter",
    public: bool = False,
) -> None:
    """Upload an export of a model to the hub's repository owner/name in one commit; it is made, private unless
    `public`, where it is not there.

    The token stands in the environment variable HF_TOKEN. `endpoint` is another hub than the one of huggingface_hub's
    own settings. With `dry_run`, report what would go where; nobody is contacted.
    """
    _check_repository(repo_id)
    row = registered(config.root, version)
    with temporary_folder_beside(config.scratch / "push" / version) as work:
        folder = work / form
        _export(config, local_bundle(config, row), folder, form)
        target = f"{_endpoint(endpoint)}/{repo_id}"
        if dry_run:
            report(
                f"  would push {version}, {form}, to {target} ({'public' if public else 'private'}, where it is new):"
            )
        else:
            with JobRun(config.root, "push") as run:
                with progress(f"pushing to {target}", report):
                    commit = _push(folder, repo_id, endpoint, f"{version}, {form}", public)
                run.finish(model_version=version, details={"repository": target, "form": form, "commit": commit})
            report(f"  pushed {version}, {form}, to {target}, commit {commit}:")
        for line in _sizes(folder):
            report(line)


def _fold(config: Config, version: str, output: Path | None, report: Report) -> str:
    with needs_extra("train", "Merging"):
        from model.bundle.bundle import build_serving_folder
        from model.bundle.export import check_empty
        from model.merging.combine import compare_folded
    with JobRun(config.root, "merge") as run:
        row = registered(config.root, version)
        if output is not None:
            check_empty(output)
        with progress("merging", report):
            serving = serving_folder(config, row)
        reviews = newest_labelled(
            config.root, ("review_headline", "review_body"), ["validation", "test"], COMPARED_ROWS
        )
        threshold = default_threshold(config.root, version)
        with progress(f"scoring {reviews.num_rows:,} reviews twice", report):
            texts = reviews["review_headline"].to_pylist(), reviews["review_body"].to_pylist()
            folded = compare_folded(local_bundle(config, row), serving, *texts, threshold["threshold"])
        if output is not None:
            build_serving_folder(local_bundle(config, row), output, config.score.parity_tolerance)
        run.finish(model_version=version, rows_read=folded.rows, details=asdict(folded))
    for line in _folded_lines(version, folded, threshold, output):
        report(line)
    return version


def _folded_lines(version: str, folded: Folded, threshold: dict[str, Any], output: Path | None) -> list[str]:
    ratio = folded.unmerged_seconds / folded.merged_seconds
    return [
        f"  {version}, adapter + base against merged (float32), {folded.rows:,} validation and test reviews:",
        (
            f"  logits differ by {folded.greatest_difference:.2g} at most and {folded.mean_difference:.2g} on average;"
            f" {folded.flipped} decisions at {threshold['threshold_name']} {threshold['threshold']:.4f} are flipped"
        ),
        (
            f"  unmerged, a forward pass takes {ratio:.2f} times as long as merged (medians over the same batches, one"
            " thread)"
        ),
        (
            "  This is a one-way door: the adapter cannot be taken out of merged weights again, nor combined with"
            " others. Keep the bundle."
        ),
        (
            f"  The merged model is in {output}."
            if output
            else "  Nothing was written: --output FOLDER keeps the merged model."
        ),
    ]


def _combine(config: Config, versions: Sequence[str], recipe_parts: tuple[Any, ...], report: Report) -> str:
    with needs_extra("train", "Combining"):
        from model.data.reviews import COLUMNS, SPLITS
        from model.merging.combine import combined_rows, load_parent, make_recipe
        from model.merging.merged_adapter import make_combined_model
    root = config.root
    with JobRun(root, "merge") as run:
        rows = [registered(root, version) for version in versions]
        recipe = make_recipe(*recipe_parts)
        parents = [load_parent(local_bundle(config, row)) for row in rows]
        limits = {version: float(default_threshold(root, version)["threshold"]) for version in versions}
        with progress("reading the reviews", report):
            reviews = stored_reviews(root, COLUMNS, SPLITS, combined_rows(parents))
        output = root.local_path / "models" if root.is_local else config.scratch / "models"
        combined = make_combined_model(
            parents, limits, recipe, reviews, output, config.scratch / "merge", config.score.parity_tolerance, report
        )
        register(root, combined, run)
        details = {
            "parents": list(versions),
            "method": recipe.method,
            "weights": recipe.weights,
            **figures_on_test(combined),
        }
        run.finish(model_version=combined.model_version, rows_read=len(reviews), details=details)
    report(next_step(combined))
    return combined.model_version


def _export(config: Config, bundle: Path, folder: Path, form: Form) -> None:
    with needs_extra("train", "Exporting"):
        from model.bundle.export import export_adapter, export_merged
    if form == "adapter":
        export_adapter(bundle, folder)
    else:
        export_merged(bundle, folder, config.score.parity_tolerance)


def _sizes(folder: Path) -> list[str]:
    files = {name: (folder / name).stat().st_size for name in folder_sha256(folder)}
    return [
        *(f"  {size:>13,} bytes  {name}" for name, size in files.items()),
        f"  {sum(files.values()):>13,} bytes  in {len(files)} files",
    ]


def _check_repository(repo_id: str) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id, flags=re.ASCII):
        raise ReviewriskError(
            f"{repo_id!r} is not the name of a hub repository: write owner/name in letters, digits, hyphens, dots and"
            " underscores."
        )


def _endpoint(endpoint: str | None) -> str:
    from huggingface_hub import constants

    return (endpoint or str(constants.ENDPOINT)).rstrip("/")


def _push(folder: Path, repo_id: str, endpoint: str | None, message: str, public: bool) -> str:
    """The commit in which the folder's files arrived in the repository, which is made where it is not there."""
    from huggingface_hub import CommitOperationAdd, HfApi

    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise ReviewriskError(
            f"Pushing needs a token with write access in the environment variable {TOKEN_VARIABLE}, which is not set:"
            " set it, or give --dry-run."
        )
    api = HfApi(endpoint=endpoint, token=token)
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in folder_sha256(folder)
    ]
    try:
        api.create_repo(repo_id, private=not public, exist_ok=True)
        return str(api.create_commit(repo_id, operations, commit_message=message).oid)
    # the library's own errors, those of its HTTP client and of its upload threads have no common class
    except Exception as error:
        problem, kind = _push_problem(error, repo_id, _endpoint(endpoint))
        raise kind(problem.replace(token, "***")) from None


def _push_problem(error: Exception, repo_id: str, endpoint: str) -> tuple[str, type[ReviewriskError]]:
    """What went wrong, in words, and whether it is to be mended or will pass."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{endpoint} has no repository {repo_id} that this token may write to: check the name, and the rights of"
            f" the token in {TOKEN_VARIABLE}."
        ), ReviewriskError
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401:
        return (
            f"{endpoint} does not accept the token in {TOKEN_VARIABLE}: make a new one with write access."
        ), ReviewriskError
    if status == 403:
        return (
            f"The token in {TOKEN_VARIABLE} may not write to {repo_id} on {endpoint}: give it write access there, or"
            " push to a name of your own."
        ), ReviewriskError
    cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
    # without an answer, the HTTP client's own errors are of the network
    is_outage = isinstance(error, HfHubHTTPError.__bases__) if status is None else status >= 500
    return (
        f"Pushing to {repo_id} on {endpoint} failed: {type(error).__name__}: {error}{cause}; a push arrives whole"
        " or not at all, so run the command again."
    ), OutageError if is_outage else ReviewriskError
