"""What the cells of a comparison are, and the rows that all of them read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model.data.folds import check_both_classes, drawn_by_product, nested_draw
from model.data.overlap import Overlap
from model.data.reviews import LabelledReviews, PreparedData, labelled_reviews, prepare
from model.evaluation.calibrators import Calibrator, FloatArray
from model.evaluation.cross_fitting import out_of_fold
from model.evaluation.metrics import Groups, Scored
from model.evaluation.minimal_pairs import Pair, load_pairs
from model.evaluation.views import VIEWS, calibration_rows, rows_of
from model.experiments.methods import METHODS
from model.files import canonical_json
from model.settings import ModelSettings

_PARTS = ("train", "early_stopping", "calibration", "test")
_SHIFTED = "shifted"
POPULATIONS = ("validation", *VIEWS, _SHIFTED)


@dataclass(frozen=True)
class Cell:
    """One method trained on so many rows."""

    method: str
    rows: int

    def __str__(self) -> str:
        return f"{METHODS[self.method].title}, {self.rows:,} rows"


@dataclass(frozen=True)
class Inputs:
    """What all cells read: the splits, the rows of another population, and minimal pairs."""

    data: PreparedData
    shifted: LabelledReviews | None
    pairs: list[Pair] | None

    @property
    def populations(self) -> tuple[str, ...]:
        """Those of POPULATIONS that there are rows of."""
        return POPULATIONS if self.shifted is not None else POPULATIONS[:-1]

    @property
    def checksum(self) -> str:
        """16 hexadecimal digits of the sha256 over every column of every part, what is said of them, and the pairs."""
        digest = hashlib.sha256()
        for name, column in self._columns():
            values = column if isinstance(column, list) else column.astype(str).tolist()
            digest.update(canonical_json([name, values]).encode())
        pairs = None if self.pairs is None else [asdict(pair) for pair in self.pairs]
        digest.update(canonical_json([self.data.rows, self.data.data_version, pairs]).encode())
        return digest.hexdigest()[:16]

    def _columns(self) -> Iterator[tuple[str, Any]]:
        """(its name, its values) of each column of each part."""
        parts = {name: getattr(self.data, name) for name in _PARTS} | {_SHIFTED: self.shifted}
        for name, part in parts.items():
            for column in fields(part) if part is not None else ():
                yield f"{name}.{column.name}", getattr(part, column.name)
        yield "test.exact", self.data.test_overlap.exact
        yield "test.near", self.data.test_overlap.near
        yield "test.product_is_new", self.data.test_product_is_new


def prepare_inputs(
    reviews: pa.Table, shifted: pa.Table | None, pairs: Path | None, settings: ModelSettings, test_rows: int | None
) -> Inputs:
    """The splits with at most `test_rows` test rows, and as many of the labelled rows of `shifted` whatever their
    split.

    Both are drawn by product with the seed, so that intervals that draw whole products stay right. Raises
    ReviewriskError as `prepare` does, and where a class is missing from what was drawn.
    """
    data = prepare(
        reviews, settings.model_copy(update={"training": settings.training.model_copy(update={"max_rows": None})})
    )
    chosen = drawn_by_product(data.test, test_rows, settings.training.seed)
    overlap = Overlap(data.test_overlap.exact[chosen], data.test_overlap.near[chosen])
    data = replace(
        data, test=data.test.take(chosen), test_overlap=overlap, test_product_is_new=data.test_product_is_new[chosen]
    )
    check_both_classes(data.test, "the drawn test rows")
    other = None
    if shifted is not None:
        other = labelled_reviews(shifted, None, settings.text.headline)
        other = other.take(drawn_by_product(other, test_rows, settings.training.seed))
        check_both_classes(other, "the shifted population")
    return Inputs(data, other, load_pairs(pairs) if pairs is not None else None)


def scored_rows(
    population: str, logits: Mapping[str, FloatArray], calibrator: Calibrator, threshold: float, inputs: Inputs
) -> tuple[Scored, Groups]:
    """The rows of one of POPULATIONS as a cell scores and decides them, and each row's product. `logits` are those that
    a cell keeps.

    validation: the rows that calibrator and threshold were fitted on, with their probabilities out of fold; the views
    of `model.evaluation.views`: test rows; shifted: all of those.
    """
    data = inputs.data
    if population == "validation":
        rows = calibration_rows(logits["calibration"], data)
        probability = out_of_fold(calibrator.method, calibrator.shift, rows)
        return Scored(rows.logit, probability, rows.label, threshold), rows.products
    reviews, logit = data.test, logits.get(population, logits["as_is"])
    if population == _SHIFTED:
        assert inputs.shifted is not None
        reviews = inputs.shifted
    products = np.asarray(reviews.product_ids)
    scored = Scored(logit, calibrator.apply(logit), reviews.labels, threshold)
    if population not in VIEWS:
        return scored, products
    chosen = rows_of(population, data)
    return scored.take(chosen), products[chosen]


def rows_for(cell: Cell, data: PreparedData, seed: int) -> PreparedData:
    """The data with the cell's training rows alone, drawn with the seed: a smaller draw is a part of
    every larger one.
    """
    return replace(data, train=nested_draw(data.train, cell.rows, seed))
