"""What it costs to choose a calibrator on validation: log-loss on test of the one chosen, less that of the best one.

    python benchmarks/calibrator_choice.py --source reviews.tsv.gz [--source others.tsv.gz] [--bundle ROOT/models/MODEL]

Of a raw file the first 55% to 100% of its labelled reviews in order of time make the splits, each cut by time into 70%,
15% and 15% for training, validation and test. TF-IDF with logistic regression is fitted on nine tenths of the training
rows, drawn with the split's seed: once as the project's baseline, and once hardly regularised (C = 1000), which is as
sure of itself as a network that was trained for too long. Calibrators are fitted on the later half of validation, as in
training. Of a bundle the log-odds in predictions.parquet are read, and each split keeps seven tenths of the products.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
from sklearn.base import clone

from model.data.reviews import LabelledReviews, cut_by_time, drawn_positions, drop_texts_of, prior_shift, reviews_of
from model.evaluation.baseline import TFIDF_WEIGHTING, fit_tfidf
from model.evaluation.calibrators import LADDER, FloatArray, Method, fit_calibrator, probability_losses
from model.evaluation.cross_fitting import CalibrationRows, choose_calibrator, out_of_fold, standard_error
from model.evaluation.markdown import table
from model.evaluation.metrics import Scored, intervals

SHARES = (0.7, 0.15, 0.15)
KEPT_PRODUCTS = 0.7
STRENGTHS = {"TF-IDF": 10.0, "TF-IDF, C = 1000": 1000.0}
PARAMETERS: dict[Method, float] = {"none": 0, "prior_shift": 0, "temperature": 1, "beta": 3, "isotonic": np.inf}
BUNDLE_MODELS = {"model": "network", "tfidf": "TF-IDF"}


@dataclass(frozen=True, eq=False)
class Split:
    """One model's log-odds of the rows that calibrators are fitted on and of test, and its prior shift."""

    shift: float
    rows: CalibrationRows
    test: CalibrationRows

    def on_test(self, method: Method) -> FloatArray:
        """Test probabilities of the method fitted on all calibration rows."""
        return fit_calibrator(method, self.shift, self.rows.logit, self.rows.label).apply(self.test.logit)

    @cached_property
    def out_of_fold(self) -> dict[Method, FloatArray]:
        """Each calibration row's loss by each method, fitted without the row's product."""
        return {name: probability_losses(out_of_fold(name, self.shift, self.rows), self.rows.label) for name in LADDER}

    @cached_property
    def losses(self) -> dict[Method, float]:
        """Log-loss on test of each method."""
        return {name: float(probability_losses(self.on_test(name), self.test.label).mean()) for name in LADDER}

    def regret(self, method: Method) -> float:
        """The method's log-loss on test, less the least one's."""
        return self.losses[method] - min(self.losses.values())

    @cache  # noqa: B019 (a few splits, for as long as the script runs)
    def error_limit(self, method: Method) -> float:
        """Upper limit of the method's debiased calibration error on test: of 95%, drawing whole products."""
        scored = Scored(self.test.logit, self.on_test(method), self.test.label, 0.5)
        found = intervals(scored, 10, self.test.products, 0.95, 0, names=("ece_debiased",))["ece_debiased"]["high"]
        return np.nan if found is None else found


def later_half(split: Split) -> Method:
    """The rule before: fitted on the earlier half of the rows, the least log-loss on the later one."""
    rows, half = split.rows, len(split.rows.label) // 2
    losses = {}
    for method in LADDER:
        probability = fit_calibrator(method, split.shift, rows.logit[:half], rows.label[:half]).apply(rows.logit[half:])
        losses[method] = float(probability_losses(probability, rows.label[half:]).mean())
    return min(LADDER, key=losses.__getitem__)


def least_out_of_fold(split: Split) -> Method:
    """The least log-loss out of fold."""
    return min(LADDER, key=lambda name: float(split.out_of_fold[name].mean()))


def fewest_parameters(split: Split) -> Method:
    """The fewest parameters within one standard error of the least log-loss out of fold (of equally few the better)."""
    losses, best = split.out_of_fold, least_out_of_fold(split)
    worse = {name: float((losses[name] - losses[best]).mean()) for name in LADDER}
    near = [name for name in LADDER if worse[name] <= standard_error(losses[name] - losses[best], split.rows.products)]
    return min(near, key=lambda name: (PARAMETERS[name], worse[name]))


def auto(split: Split) -> Method:
    """What training takes."""
    return choose_calibrator("auto", split.shift, split.rows).calibrator.method


RULES: dict[str, Callable[[Split], Method]] = {
    "least loss on the later half (before)": later_half,
    "least loss out of fold": least_out_of_fold,
    "fewest parameters within 1 SE": fewest_parameters,
    "`auto`": auto,
    "always temperature": lambda _: "temperature",
    "always beta": lambda _: "beta",
    "the best on test, unknown beforehand": lambda split: min(LADDER, key=split.losses.__getitem__),
}


def read_reviews(source: Path) -> LabelledReviews:
    """The labelled reviews of a raw file."""
    names = ["review_id", "product_id", "product_category", "marketplace", "verified_purchase", "star_rating"]
    names += ["review_headline", "review_body", "review_date"]
    kinds = {name: pa.string() for name in names} | {"star_rating": pa.int64(), "review_date": pa.date32()}
    found = pc_csv.read_csv(
        source,
        parse_options=pc_csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pc_csv.ConvertOptions(include_columns=names, column_types=kinds),
    )
    verified = pc.equal(found["verified_purchase"], "Y")
    return reviews_of(found.set_column(names.index("verified_purchase"), "verified_purchase", verified), "keep")


def splits_of_reviews(reviews: LabelledReviews, splits: int) -> Iterator[tuple[str, Split]]:
    """(model, split) of so many temporal cuts of the reviews."""
    for seed, share in enumerate(np.linspace(0.55, 1, splits)):
        training, validation, test = cut_by_time(reviews.take(np.arange(round(share * len(reviews)))), SHARES)
        training = drop_texts_of(training, [*validation.texts, *test.texts])
        training = training.take(drawn_positions(len(training), len(training) * 9 // 10, seed))
        calibration = cut_by_time(validation)[1]
        shift = prior_shift(training.labels, TFIDF_WEIGHTING)
        vectors, regression = fit_tfidf(training.texts, training.labels)
        for name, strength in STRENGTHS.items():
            if strength != regression.C:
                regression = clone(regression).set_params(C=strength)
                regression.fit(vectors.transform(training.texts), training.labels)
            rows = [
                _rows(regression.decision_function(vectors.transform(part.texts)), part) for part in (calibration, test)
            ]
            yield name, Split(shift, *rows)


def _rows(logit: FloatArray, reviews: LabelledReviews) -> CalibrationRows:
    return CalibrationRows(logit, reviews.labels, np.asarray(reviews.product_ids), reviews.dates)


def splits_of_bundle(bundle: Path, splits: int) -> Iterator[tuple[str, Split]]:
    """(model, split) of so many draws of the bundle's products, among validation's and test's rows alike."""
    predictions = pq.read_table(bundle / "predictions.parquet")
    calibration = json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))["calibration"]
    names = np.unique(predictions["product_id"].to_numpy())
    for seed in range(splits):
        kept = names[np.random.default_rng(seed).random(len(names)) < KEPT_PRODUCTS]
        drawn = predictions.filter(pc.is_in(predictions["product_id"], value_set=pa.array(kept)))
        parts = [drawn.filter(of(drawn["part"], "test")) for of in (pc.not_equal, pc.equal)]
        for model, name in BUNDLE_MODELS.items():
            columns = (f"{model}_logit", "label", "product_id", "review_date")
            rows = [CalibrationRows(*(part[column].to_numpy() for column in columns)) for part in parts]
            yield name, Split(calibration[model]["prior_shift"], *rows)


def summary(splits: list[Split]) -> list[list[str]]:
    """One row of the table per rule."""
    found = []
    for name, rule in RULES.items():
        chosen = [rule(split) for split in splits]
        regret = np.array([split.regret(method) for split, method in zip(splits, chosen, strict=True)])
        limit = np.array([split.error_limit(method) for split, method in zip(splits, chosen, strict=True)])
        error = regret.std(ddof=1) / np.sqrt(len(regret)) if len(regret) > 1 else float("nan")
        counts = ", ".join(f"{method} {chosen.count(method)}" for method in LADDER if method in chosen)
        figures = [f"{regret.mean():.4f} ± {error:.4f}", f"{regret.max():.4f}"]
        found.append([name, *figures, f"{np.nanmean(limit):.4f}", f"{np.nanmax(limit):.4f}", counts])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, action="append", default=[])
    parser.add_argument("--bundle", type=Path, action="append", default=[])
    parser.add_argument("--splits", type=int, default=10)
    options = parser.parse_args()
    of_files = [(path, splits_of_reviews(read_reviews(path), options.splits)) for path in options.source]
    head = ["rule", "regret, mean", "regret, worst", "ECE limit, mean", "ECE limit, worst", "chosen"]
    for path, found in [*of_files, *((path, splits_of_bundle(path, options.splits)) for path in options.bundle)]:
        by_model: dict[str, list[Split]] = {}
        for name, split in found:
            by_model.setdefault(name, []).append(split)
        for name, splits in by_model.items():
            rows, tests = [len(one.rows.label) for one in splits], [len(one.test.label) for one in splits]
            print(
                f"\n{name} on {path.name}: {len(splits)} splits, {min(rows):,} to {max(rows):,} rows to calibrate on,"
                f" {min(tests):,} to {max(tests):,} of test\n"
            )
            print("\n".join(table(head, summary(splits))))


if __name__ == "__main__":
    main()
