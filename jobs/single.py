"""Score and explain single texts with the champion, without Spark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.registry import champion, default_threshold
from jobs.serving import serving_folder
from model.errors import ReviewriskError

if TYPE_CHECKING:
    from model.attribution import Explanation

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class SingleResult:
    """One text's score. `words` is empty where no explanation was asked for."""

    headline: str | None
    body: str | None
    score: float | None
    is_flagged: bool | None
    threshold_name: str
    threshold: float
    words: list[dict[str, Any]]
    error: str | None

    def to_json(self) -> str:
        """One JSON object on one line: score, is_flagged, words, and error where the text could not be scored."""
        values = {"score": self.score, "is_flagged": self.is_flagged, "words": self.words}
        return json.dumps(values | ({"error": self.error} if self.error else {}), ensure_ascii=False)


def run_single(config: Config, texts: Iterator[tuple[str | None, str | None]], with_words: bool) -> Iterator[SingleResult]:
    """Score (headline, body) pairs with the champion at its default threshold; results in the order of the texts."""
    row = champion(config.root)
    default = default_threshold(config.root, row["model_version"])
    folder = serving_folder(config, row)
    from model.attribution import explain
    from model.scorer import Scorer

    scorer = Scorer.load(folder, config.score)
    for batch in _batches(texts):
        headlines, bodies = [headline for headline, _ in batch], [body for _, body in batch]
        scores = scorer.score(headlines, bodies)
        explanations: list[Explanation | None] = [None] * len(batch)
        if with_words:
            scored = [place for place, error in enumerate(scores.error) if error is None]
            for place, explanation in zip(scored, explain(scorer, [headlines[i] for i in scored], [bodies[i] for i in scored], config.explain), strict=True):
                explanations[place] = explanation
        for place, (headline, body) in enumerate(batch):
            explained = explanations[place]
            words = [asdict(word) for word in explained.words] if explained else []
            error = scores.error[place]
            probability = None if error else float(scores.probability[place])
            flagged = None if probability is None else probability >= default["threshold"]
            yield SingleResult(headline, body, probability, flagged, default["threshold_name"], default["threshold"], words, error)


def _batches(texts: Iterator[tuple[str | None, str | None]]) -> Iterator[list[tuple[str | None, str | None]]]:
    batch: list[tuple[str | None, str | None]] = []
    for text in texts:
        batch.append(text)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def read_jsonl(path: Path) -> Iterator[tuple[str | None, str | None]]:
    """(headline, body) of each line that is not blank; an error names the line that is no object with these two."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise ReviewriskError(f"{path}, line {number}: not JSON ({error.msg}).") from None
            if not isinstance(value, dict) or not {"headline", "body"} & value.keys():
                raise ReviewriskError(f"{path}, line {number}: expected an object with headline and body.")
            for key in ("headline", "body"):
                if not isinstance(value.get(key), str | None):
                    raise ReviewriskError(f"{path}, line {number}: {key} must be text or null.")
            yield value.get("headline"), value.get("body")
