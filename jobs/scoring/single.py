"""Score and explain single texts with the model that decides for them, without Spark."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion, default_threshold, registered
from jobs.registry.routes import Routes, published_routes
from jobs.scoring.trade import chosen_cut
from model.scoring.engines.interface import BASELINE
from model.settings import ROW_COLUMNS, route_key

if TYPE_CHECKING:
    from model.scoring.scorer import Scorer

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class SingleText:
    """One text. `places` are the columns that routes may go by; a route decides where its column is among them.

    `error` says why a line of a file is no text: it is then not scored.
    """

    headline: str | None
    body: str | None
    places: Mapping[str, str | None] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class SingleResult:
    """One text's score. `words` is empty where no explanation was asked for, and all is None where nothing decided.

    `error` says why there is no score, or no explanation. Where the review skipped the network (`by_baseline`), there
    are no words of its.
    """

    text: SingleText
    model_version: str | None = None
    score: float | None = None
    is_flagged: bool | None = None
    threshold_name: str | None = None
    threshold: float | None = None
    words: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    by_baseline: bool = False

    def to_json(self) -> str:
        """One JSON object on one line: score, is_flagged, model_version, words, and where there is one an error, or the
        engine that is no network.
        """
        values = {
            "score": self.score,
            "is_flagged": self.is_flagged,
            "model_version": self.model_version,
            "words": self.words,
        }
        engine = {"engine": BASELINE.name} if self.by_baseline else {}
        return json.dumps(values | engine | ({"error": self.error} if self.error else {}), ensure_ascii=False)


@dataclass(frozen=True)
class _Decider:
    """A model with its default threshold."""

    version: str
    scorer: Scorer
    threshold_name: str
    threshold: float
    cut: float | None


def run_single(config: Config, texts: Iterable[SingleText], with_words: bool) -> Iterator[SingleResult]:
    """Score texts at the default threshold of the model that decides for each; results in the order of the texts.

    That is the champion, but where the text has the column of the routes in force, and its value has a route.
    """
    chosen = champion(config.root)["model_version"]
    routes = published_routes(config.root)
    deciders: dict[str, _Decider] = {}
    for batch in _batches(texts):
        results = {place: SingleResult(text, error=text.error) for place, text in enumerate(batch)}
        by_version: dict[str, list[int]] = {}
        for place, text in enumerate(batch):
            if text.error is None:
                by_version.setdefault(_version(text, routes, chosen), []).append(place)
        for version, places in by_version.items():
            if version not in deciders:
                deciders[version] = _decider(config, version)
            decided = _decided(config, deciders[version], [batch[place] for place in places], with_words)
            results.update(zip(places, decided, strict=True))
        yield from (results[place] for place in range(len(batch)))


def _version(text: SingleText, routes: Routes, champion: str) -> str:
    """The model that decides for a text."""
    if routes.column not in text.places:
        return champion
    return routes.models.get(route_key(text.places[routes.column] or ""), champion)


def _decider(config: Config, version: str) -> _Decider:
    row, default = registered(config.root, version), default_threshold(config.root, version)
    folder = serving_folder(config, row)
    from model.scoring.scorer import Scorer

    # words need the network itself; one text gains nothing from bfloat16
    reference = config.score.model_copy(update={"engine": "torch", "precision": "float32", "device": "cpu"})
    scorer, cut = Scorer.load(folder, reference), chosen_cut(config, row, lambda _: None)
    return _Decider(version, scorer, default["threshold_name"], default["threshold"], cut.cut if cut else None)


def _decided(config: Config, decider: _Decider, texts: list[SingleText], with_words: bool) -> Iterator[SingleResult]:
    """The results of texts for which one model decides."""
    headlines, bodies = [text.headline for text in texts], [text.body for text in texts]
    scores = decider.scorer.score(headlines, bodies, cut=decider.cut)
    scored = [place for place, error in enumerate(scores.error) if error is None]
    by_network = [place for place in scored if not scores.by_baseline[place]]
    explanations = _explained(config, decider.scorer, texts, by_network) if with_words else {}
    for place, text in enumerate(texts):
        words, error = explanations.get(place, ([], scores.error[place]))
        probability = float(scores.probability[place]) if place in scored else None
        flagged = None if probability is None else probability >= decider.threshold
        decided = (decider.version, probability, flagged, decider.threshold_name, decider.threshold)
        yield SingleResult(text, *decided, words, error, bool(scores.by_baseline[place]))


def _explained(
    config: Config, scorer: Scorer, texts: list[SingleText], places: list[int]
) -> dict[int, tuple[list[dict[str, Any]], str | None]]:
    """The words of the texts at these places, and what the explaining of one failed with."""
    from model.explanation.word_attributions import explain_each
    from model.scoring.faults import Failure

    some = [texts[place] for place in places]
    found = explain_each(scorer, [text.headline for text in some], [text.body for text in some], config.explain)
    return {
        place: ([], f"not explained: {one.error}")
        if isinstance(one, Failure)
        else ([asdict(word) for word in one.words], None)
        for place, one in zip(places, found, strict=True)
    }


def _batches(texts: Iterable[SingleText]) -> Iterator[list[SingleText]]:
    batch: list[SingleText] = []
    for text in texts:
        batch.append(text)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def read_jsonl(lines: Iterable[bytes]) -> Iterator[SingleText]:
    """The text of each line that is not blank, and the columns that routes may go by; a line that is no such object is
    a text with an error that names it. A byte-order mark at the start is left out.
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            try:
                yield _read_line(line)
            except ValueError as error:
                yield SingleText(None, None, error=f"line {number} {error}")


def _read_line(line: bytes) -> SingleText:
    """The text; a ValueError says what the line is instead."""
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise ValueError(f"is not UTF-8 (byte 0x{wrong:02x} at {error.start}): save the file as UTF-8") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON ({getattr(error, 'msg', 'nested too deep')})") from None
    if not isinstance(value, dict) or not {"headline", "body"} & value.keys():
        raise ValueError("is no object with headline or body")
    for key in ("headline", "body", *ROW_COLUMNS):
        if not isinstance(value.get(key), str | None):
            raise ValueError(f"has a {key} that is neither text nor null")
    places = {column: value[column] for column in ROW_COLUMNS if column in value}
    return SingleText(value.get("headline"), value.get("body"), places)
