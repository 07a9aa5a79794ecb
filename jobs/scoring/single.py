"""Score and explain single texts with the model that decides for them, without Spark."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion, default_threshold, registered
from jobs.registry.routes import published_routes
from model.errors import ReviewriskError
from model.settings import ROW_COLUMNS, route_key

if TYPE_CHECKING:
    from model.scoring.scorer import Scorer

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class SingleText:
    """One text. `places` are the columns that routes may go by; a route decides where its column is among them."""

    headline: str | None
    body: str | None
    places: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class SingleResult:
    """One text's score. `words` is empty where no explanation was asked for."""

    text: SingleText
    model_version: str
    score: float | None
    is_flagged: bool | None
    threshold_name: str
    threshold: float
    words: list[dict[str, Any]]
    error: str | None

    def to_json(self) -> str:
        """One JSON object on one line: score, is_flagged, model_version, words, and error where the text could not be
        scored.
        """
        values = {
            "score": self.score,
            "is_flagged": self.is_flagged,
            "model_version": self.model_version,
            "words": self.words,
        }
        return json.dumps(values | ({"error": self.error} if self.error else {}), ensure_ascii=False)


@dataclass(frozen=True)
class _Decider:
    """A model with its default threshold."""

    version: str
    scorer: Scorer
    threshold_name: str
    threshold: float


def run_single(config: Config, texts: Iterable[SingleText], with_words: bool) -> Iterator[SingleResult]:
    """Score texts at the default threshold of the model that decides for each; results in the order of the texts.

    That is the champion, but where the text has the column of the routes in force, and its value has a route.
    """
    chosen = champion(config.root)["model_version"]
    routes = published_routes(config.root)
    deciders: dict[str, _Decider] = {}
    for batch in _batches(texts):
        versions = [
            (
                routes.models.get(route_key(text.places[routes.column] or ""), chosen)
                if routes.column in text.places
                else chosen
            )
            for text in batch
        ]
        results: dict[int, SingleResult] = {}
        for version in dict.fromkeys(versions):
            decider = deciders.get(version) or _decider(config, version)
            deciders[version] = decider
            places = [place for place, other in enumerate(versions) if other == version]
            results.update(
                zip(places, _decided(config, decider, [batch[place] for place in places], with_words), strict=True)
            )
        yield from (results[place] for place in range(len(batch)))


def _decider(config: Config, version: str) -> _Decider:
    row, default = registered(config.root, version), default_threshold(config.root, version)
    folder = serving_folder(config, row)
    from model.scoring.scorer import Scorer

    return _Decider(version, Scorer.load(folder, config.score), default["threshold_name"], default["threshold"])


def _decided(config: Config, decider: _Decider, texts: list[SingleText], with_words: bool) -> Iterator[SingleResult]:
    """The results of texts for which one model decides."""
    scores = decider.scorer.score([text.headline for text in texts], [text.body for text in texts])
    words: dict[int, list[dict[str, Any]]] = {}
    if with_words:
        from model.explanation.integrated_gradients import explain

        scored = [place for place, error in enumerate(scores.error) if error is None]
        explained = explain(
            decider.scorer,
            [texts[place].headline for place in scored],
            [texts[place].body for place in scored],
            config.explain,
        )
        words = {
            place: [asdict(word) for word in explanation.words]
            for place, explanation in zip(scored, explained, strict=True)
        }
    for place, text in enumerate(texts):
        error = scores.error[place]
        probability = None if error else float(scores.probability[place])
        flagged = None if probability is None else probability >= decider.threshold
        yield SingleResult(
            text,
            decider.version,
            probability,
            flagged,
            decider.threshold_name,
            decider.threshold,
            words.get(place, []),
            error,
        )


def _batches(texts: Iterable[SingleText]) -> Iterator[list[SingleText]]:
    batch: list[SingleText] = []
    for text in texts:
        batch.append(text)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def read_jsonl(path: Path) -> Iterator[SingleText]:
    """The text of each line that is not blank, and the columns that routes may go by; an error names the line that is
    no such object.
    """
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
            for key in ("headline", "body", *ROW_COLUMNS):
                if not isinstance(value.get(key), str | None):
                    raise ReviewriskError(f"{path}, line {number}: {key} must be text or null.")
            places = {column: value[column] for column in ROW_COLUMNS if column in value}
            yield SingleText(value.get("headline"), value.get("body"), places)
