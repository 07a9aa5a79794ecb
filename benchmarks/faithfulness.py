"""How true ways of explaining are to the model, and what they cost.

    python benchmarks/faithfulness.py --conf conf/demo.yml [--rows 100] [--steps 200] [--ways TEXT ...]
        [--causes furniture_reviews.causes.jsonl | --source reviews.tsv.gz]

Takes flagged reviews of 1 and 2 stars, drawn with a fixed seed: of the test split of the config's root, or of a raw
file. Words are ranked by what each way gives them; then the best 10, 20, 30 and 50% of them are taken out of the text
(comprehensiveness: how far the probability falls; higher is better), or all else is (sufficiency: lower is better), by
[MASK] in their places and by deletion. With --causes, the file beside the synthetic reviews: which share of the first
five words lies in a phrase that blames something. CPU time is of this process, with one thread, tokenising left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from jobs.config import Config, load_config
from jobs.lake import tables
from jobs.registry.bundles import serving_folder
from jobs.registry.models import champion, default_threshold
from model.explanation.integrated_gradients import IntegratedGradients, SpecialTokens
from model.explanation.word_attributions import gradient_precision, token_offsets
from model.network.classifier import margin
from model.scoring.batches import length_batches, pad_rows
from model.scoring.engines.openvino_engine import has_graph
from model.scoring.scorer import Scorer
from model.settings import AttributionSettings, ScoringSettings
from model.text.compose import compose
from model.text.words import find_words, sum_pieces

Floats = NDArray[np.float64]
FRACTIONS = (0.1, 0.2, 0.3, 0.5)
FIGURES = ("comprehensiveness", "sufficiency", "… by deletion", "… by deletion")
COUNTED_WORDS = 5
RESAMPLES = 2000
CAPTUM_TEXTS = 4


@dataclass(frozen=True)
class Text:
    """A review as the model reads it: token ids, the word (or -1) of each token, and the words that a planted cause
    holds.
    """

    ids: list[int]
    word_of: NDArray[np.int64]
    causes: frozenset[int]

    @property
    def words(self) -> list[int]:
        return sorted(set(self.word_of[self.word_of >= 0].tolist()))


class OnePass(IntegratedGradients):
    """Gradient × (input − baseline): the gradient at the review itself."""

    @staticmethod
    def places(nodes: int) -> torch.Tensor:
        return torch.ones(nodes)


class Bench:
    """The model on both of its engines, and the texts."""

    def __init__(self, config: Config, options: argparse.Namespace) -> None:
        row = champion(config.root)
        folder = serving_folder(config, row)
        torch.set_num_threads(1)
        self.precision = gradient_precision(config.explain)
        self.network = Scorer.load(folder, ScoringSettings(engine="torch", precision=self.precision), 1)
        served = ScoringSettings(engine="openvino", precision="bfloat16")
        self.served = Scorer.load(folder, served, 1) if has_graph(folder, "bfloat16") else self.network
        threshold = default_threshold(config.root, row["model_version"])["threshold"]
        found = raw_reviews(options.source) if options.source else test_reviews(config)
        causes = planted_causes(options.causes) if options.causes else {}
        self.texts = [self._text(review, causes) for review in self._flagged(found, threshold, options.rows)]
        self.mask = int(self.network.tokenizer.mask_token_id)
        self.known: dict[tuple[int, ...], float] = {}

    def _flagged(self, found: pd.DataFrame, threshold: float, rows: int) -> list[tuple[str, str, str]]:
        """(id, headline, body) of so many flagged reviews."""
        chosen: list[tuple[str, str, str]] = []
        shuffled = found.sort_values("review_id").sample(frac=1, random_state=1)
        for start in range(0, len(shuffled), 256):
            part = shuffled.iloc[start : start + 256]
            headlines, bodies = part.review_headline.tolist(), part.review_body.tolist()
            flags = self.served.score(headlines, bodies).probability >= threshold
            chosen += [
                one
                for one, flag in zip(zip(part.review_id, headlines, bodies, strict=True), flags, strict=True)
                if flag
            ]
            if len(chosen) >= rows:
                break
        return chosen[:rows]

    def _text(self, review: tuple[str, str, str], causes: dict[str, list[dict[str, Any]]]) -> Text:
        identity, headline, body = review
        text = compose(headline, body, self.network.headline_mode)
        [encoded] = self.network.encode([text.text])
        [offsets] = token_offsets(self.network, [text.text], [encoded.ids])
        words = find_words(text)
        word_of = np.full(len(encoded.ids), -1)
        for place, span in enumerate(offsets, start=1):
            for word in sum_pieces(words, [span], [1.0]):
                word_of[place] = words.index(word)
        return Text(encoded.ids, word_of, frozenset(_caused(text, words, causes.get(identity, []))))

    def logits(self, rows: Sequence[list[int]]) -> list[float]:
        """Of the engine that serves, each distinct row computed once in all."""
        missing = [(list(row), 0) for row in {tuple(row) for row in rows} - self.known.keys()]
        for length, batch in length_batches(missing, self.served.max_length, 2048, few_shapes=True):
            part = [row for row, _ in batch]
            values = self.served.engine.logits(*pad_rows(part, length, self.served.pad_id)).tolist()
            self.known.update(zip(map(tuple, part), values, strict=True))
        return [self.known[tuple(row)] for row in rows]

    def integrated_gradients(
        self, kind: type[IntegratedGradients] = IntegratedGradients, **settings: object
    ) -> list[Floats]:
        """Per text the value of each token."""
        chosen = AttributionSettings.model_validate(settings)
        special = SpecialTokens(self.network.pad_id, self.mask)
        method = kind(self.network.model, special, chosen, self.network.device, self.network.max_length)
        return [found.values for found in method.attributions([text.ids for text in self.texts])]

    def occlusion(self) -> list[Floats]:
        """Per text the fall of the logit with each word masked."""
        self.known.clear()
        found = []
        variants = [[text.ids, *(masked(text, [word], self.mask) for word in text.words)] for text in self.texts]
        self.logits([row for rows in variants for row in rows])
        for text, rows in zip(self.texts, variants, strict=True):
            whole, *without = self.logits(rows)
            values = np.zeros(len(text.ids))
            for word, logit in zip(text.words, without, strict=True):
                values[np.flatnonzero(text.word_of == word)[0]] = whole - logit
            found.append(values)
        return found

    def random(self) -> list[Floats]:
        generator = np.random.default_rng(5)
        return [generator.random(len(text.ids)) for text in self.texts]

    def figures(self, values: list[Floats]) -> Floats:
        """Shape (texts, 5): the four figures, and the share of the first words that a cause holds."""
        orders = [ranked(text, value) for text, value in zip(self.texts, values, strict=True)]
        rows = [row for text, order in zip(self.texts, orders, strict=True) for row in self._variants(text, order)]
        falls = self._falls(rows).reshape(len(self.texts), len(FRACTIONS), 4).mean(axis=1)
        held = [
            np.mean([word in text.causes for word in order[:COUNTED_WORDS]])
            for text, order in zip(self.texts, orders, strict=True)
        ]
        return np.column_stack([falls, held])

    def _falls(self, rows: list[list[int]]) -> Floats:
        """By how much the probability falls from the whole text to each row; as many rows a text."""
        whole = np.repeat(self.logits([text.ids for text in self.texts]), len(rows) // len(self.texts))
        return probability(whole) - probability(np.array(self.logits(rows)))

    def _variants(self, text: Text, order: list[int]) -> Iterator[list[int]]:
        for fraction in FRACTIONS:
            top = order[: max(1, math.ceil(fraction * len(order)))]
            yield masked(text, top, self.mask)
            yield masked(text, top, self.mask, others=True)
            yield deleted(text, top)
            yield deleted(text, top, others=True)

    def emptied(self) -> tuple[float, float]:
        """By how much the probability falls where all is masked, and where all is deleted."""
        rows = [
            row
            for text in self.texts
            for row in (masked(text, [], self.mask, others=True), deleted(text, [], others=True))
        ]
        masking, deleting = self._falls(rows).reshape(-1, 2).mean(axis=0)
        return float(masking), float(deleting)


def masked(text: Text, words: Sequence[int], mask: int, others: bool = False) -> list[int]:
    """The ids with these words masked, or with all else masked but [CLS] and [SEP]."""
    chosen = np.isin(text.word_of, words) ^ others
    chosen[[0, -1]] = False
    return [mask if hit else token for token, hit in zip(text.ids, chosen, strict=True)]


def deleted(text: Text, words: Sequence[int], others: bool = False) -> list[int]:
    chosen = np.isin(text.word_of, words) ^ others
    chosen[[0, -1]] = False
    return [token for token, hit in zip(text.ids, chosen, strict=True) if not hit]


def ranked(text: Text, values: Floats) -> list[int]:
    """The text's words, the one that speaks most for dissatisfaction first."""
    sums = {word: float(values[text.word_of == word].sum()) for word in text.words}
    return sorted(sums, key=lambda word: -sums[word])


def probability(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


def test_reviews(config: Config) -> pd.DataFrame:
    columns = ("review_id", "split", "star_rating", "review_headline", "review_body")
    reviews = tables.read_arrow(config.root, "reviews", columns).to_pandas()
    return reviews[(reviews.split == "test") & (reviews.star_rating <= 2)]


def raw_reviews(source: Path) -> pd.DataFrame:
    reviews = pd.read_csv(source, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False)
    return reviews[reviews.star_rating.isin(["1", "2"])].drop_duplicates("review_id")


def planted_causes(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The phrases that blame something, by review."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {
        line["review_id"]: [cause for cause in line["causes"] if cause["polarity"] == "negative"]
        for line in lines
        if "causes" in line and not line["is_superseded"]
    }


def _caused(text: object, words: Sequence[tuple[int, int]], causes: list[dict[str, Any]]) -> Iterator[int]:
    for number, word in enumerate(words):
        field, start, end = text.locate(*word)  # type: ignore[attr-defined]
        if any(one["field"] == field and one["char_start"] < end and start < one["char_end"] for one in causes):
            yield number


def ways(bench: Bench, steps: int) -> dict[str, Callable[[], list[Floats]]]:
    """What is compared, the reference first."""

    def gradients(
        kind: type[IntegratedGradients] = IntegratedGradients, **settings: object
    ) -> Callable[[], list[Floats]]:
        return lambda: bench.integrated_gradients(kind, **{"max_delta": 1e9, **settings})

    found = {f"IG, {steps} nodes, embeddings, [PAD]": gradients(depth=0, baseline="pad", nodes=(steps,))}
    found["random"] = bench.random
    found["occlusion by word"] = bench.occlusion
    for depth, place in ((0.0, "embeddings"), (0.5, "middle")):
        found[f"gradient × (input − baseline), {place}, [PAD]"] = gradients(
            OnePass, depth=depth, baseline="pad", nodes=(1,)
        )
    for baseline in ("pad", "mask", "zero"):
        for nodes in (4, 8, 16, 32):
            found[f"IG, {nodes} nodes, embeddings, {NAMES[baseline]}"] = gradients(
                depth=0, baseline=baseline, nodes=(nodes,)
            )
    for depth, place in ((0.34, "a third up"), (0.5, "middle"), (0.67, "two thirds up")):
        for baseline, nodes in (("pad", 2), ("pad", 4), ("pad", 8), ("mask", 4)):
            found[f"IG, {nodes} nodes, {place}, {NAMES[baseline]}"] = gradients(
                depth=depth, baseline=baseline, nodes=(nodes,)
            )
    found["reviewrisk explain (the defaults)"] = gradients(**AttributionSettings().model_dump())
    return found


NAMES = {"pad": "[PAD]", "mask": "[MASK]", "zero": "zero"}


def interval(values: Floats) -> str:
    """Mean with its 95% interval over reviews."""
    picks = np.random.default_rng(3).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return f"{values.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--causes", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--ways", nargs="*", default=[""], help="Only those with one of these texts in their name.")
    options = parser.parse_args()
    bench = Bench(load_config(options.conf), options)
    lengths = [len(text.ids) for text in bench.texts]
    print(
        f"{len(lengths)} flagged reviews of 1 and 2 stars, {np.mean(lengths):.0f} tokens each; gradients in"
        f" {bench.precision}"
    )
    print("without any word the probability falls by {:.3f} (masked), {:.3f} (deleted)\n".format(*bench.emptied()))
    print(
        "| way | CPU ms a review | "
        + " | ".join(FIGURES)
        + " | in a cause | less the first row: "
        + " | ".join(FIGURES)
        + " |"
    )
    print("|---|" + "---:|" * 10)
    seconds = captum_cost(load_config(options.conf), bench.texts[:CAPTUM_TEXTS], options.steps)
    print(
        f"| captum, {options.steps} steps, float32, {CAPTUM_TEXTS} reviews | {seconds * 1000:.0f} |" + " |" * 9,
        flush=True,
    )
    reference: Floats | None = None
    for name, way in ways(bench, options.steps).items():
        if reference is not None and not any(part in name for part in options.ways):
            continue
        seconds, values = timed(way)
        found = bench.figures(values)
        reference = found if reference is None else reference
        cost = seconds * 1000 / len(lengths)
        means = [f"{mean:.3f}" for mean in found.mean(axis=0)]
        differences = [interval(found[:, column] - reference[:, column]) for column in range(4)]
        print(f"| {name} | {cost:.1f} | " + " | ".join([*means, *differences]) + " |", flush=True)


def captum_cost(config: Config, texts: Sequence[Text], steps: int) -> float:
    """CPU seconds a text of captum's Integrated Gradients from the word embeddings, in float32 and 32 steps at once."""
    from captum.attr import IntegratedGradients as Captum

    folder = serving_folder(config, champion(config.root))
    scorer = Scorer.load(folder, ScoringSettings(engine="torch", precision="float32"), 1)
    embed = scorer.model.encoder.get_input_embeddings()

    def forward(embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return margin(scorer.model(inputs_embeds=embeddings, attention_mask=mask))

    start = time.process_time()
    for text in texts:
        review = embed(torch.tensor([text.ids])).detach()
        empty = embed(torch.tensor([[text.ids[0], *[scorer.pad_id] * (len(text.ids) - 2), text.ids[-1]]])).detach()
        mask = torch.ones(1, len(text.ids), dtype=torch.long)
        Captum(forward).attribute(
            review, empty, additional_forward_args=mask, n_steps=steps, method="riemann_middle", internal_batch_size=32
        )
    return (time.process_time() - start) / len(texts)


def timed(way: Callable[[], list[Floats]]) -> tuple[float, list[Floats]]:
    start = time.process_time()
    values = way()
    return time.process_time() - start, values


if __name__ == "__main__":
    main()
