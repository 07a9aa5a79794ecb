"""`reviewrisk try`: single texts, for a person or as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from jobs.cli.options import conf_option, load
from model.errors import ReviewriskError
from model.text.compose import NO_TEXT

if TYPE_CHECKING:
    from jobs.scoring.single import SingleResult

SHADES = 4  # a word with this share of the greatest attribution, or less, stays uncoloured: 1 in SHADES


@click.command("try")
@conf_option
@click.argument("text", required=False)
@click.option("--headline", help="The review's headline; TEXT is then its body.")
@click.option(
    "--jsonl",
    type=click.File("rb"),
    help=(
        "A file, or - for standard input, with one JSON object a line: headline, body, and for routes product_category"
        " or marketplace."
    ),
)
@click.option(
    "--product-category",
    help="Where routes go by it: the model of this category decides. Without it the champion does.",
)
@click.option("--marketplace", help="Where routes go by it: the model of this marketplace decides.")
@click.option("--no-explain", is_flag=True, help="Scores alone.")
@click.pass_context
def try_text(
    context: click.Context,
    conf: Path | None,
    text: str | None,
    headline: str | None,
    jsonl: BinaryIO | None,
    product_category: str | None,
    marketplace: str | None,
    no_explain: bool,
) -> None:
    """Score and explain one TEXT, or a file of texts, with the model that decides for it: the champion, or one that a
    route names. A line of the file that is no text has an error in its place, and the exit code is then 3.
    """
    from jobs.scoring.single import SingleText, read_jsonl, run_single

    if (text is None) == (jsonl is None):
        raise click.UsageError("Give either TEXT or --jsonl FILE.")
    places = {
        name: value
        for name, value in (("product_category", product_category), ("marketplace", marketplace))
        if value is not None
    }
    if jsonl and (headline is not None or places):
        raise click.UsageError(
            "--headline, --product-category and --marketplace belong to one TEXT; with --jsonl each line has its own."
        )
    config = load(conf)
    texts = read_jsonl(jsonl) if jsonl else [SingleText(headline, text, places)]
    bad_lines = 0
    for result in run_single(config, texts, with_words=not no_explain):
        click.echo(result.to_json() if jsonl else _for_a_person(result))
        bad_lines += result.text.error is not None
    if jsonl and bad_lines:
        name = getattr(jsonl, "name", "standard input")
        sentence = f"{name} has {bad_lines:,} invalid lines: correct each one as its `error` in the output says."
        click.secho(f"error: {sentence}", fg="red", err=True)
        context.exit(ReviewriskError.exit_code)


def _for_a_person(result: SingleResult) -> str:
    """A result for a person: score, decision, and the text with its weightiest words coloured."""
    if result.error == NO_TEXT:
        return click.style("not scored: the model reads nothing of this text", fg="red")
    if result.score is None:
        return click.style(f"not scored: {result.error}", fg="red")
    decision = (
        click.style("flagged as critically dissatisfied", fg="red", bold=True)
        if result.is_flagged
        else click.style("not flagged", fg="green", bold=True)
    )
    lines = [
        f"probability of 1-2 stars (given not 3): {result.score:.3f}",
        f"decision of {result.model_version} at {result.threshold_name} = {result.threshold:.3f}: {decision}",
    ]
    for field, text in (("headline", result.text.headline), ("body", result.text.body)):
        if text:
            words = [word for word in result.words if word["field"] == field]
            lines.append(f"{field}: {_coloured(text, words, _greatest(result.words))}")
    if result.by_baseline:
        lines.append("decided by the TF-IDF baseline (score.cascade): the network did not read it, so no word weighs")
    if result.error:
        lines.append(click.style(result.error, fg="red"))
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
        parts += [
            text[end : word["char_start"]],
            click.style(text[word["char_start"] : word["char_end"]], fg=colour, bold=share > 1 / 2),
        ]
        end = word["char_end"]
    return "".join([*parts, text[end:]])
