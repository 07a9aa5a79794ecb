"""What an ablation tries, and the arithmetic of successive halving: settings, rows per round, who goes on, and who is
on the frontier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from model.errors import ReviewriskError
from model.settings import LoraSettings, ModelSettings

FEWEST_ROWS = 50


@dataclass(frozen=True)
class Sweep:
    """The grid (every combination of the first four is tried) and its size.

    Each of `targets` is what lora.targets takes, several joined by commas; each of `layers` is all, upper or lower
    (half), or numbers joined by commas. `rows` train in the last round, an `eta`-th of them in the one before, and so
    on; of every round the best 1 in `eta` goes on. `validation_rows` is the most that a round judges on.
    """

    ranks: tuple[int, ...] = (4, 16)
    targets: tuple[str, ...] = ("attention", "all-linear")
    layers: tuple[str, ...] = ("all", "upper")
    learning_rates: tuple[float, ...] = (2e-4, 5e-4, 1e-3)
    rows: int = 6000
    validation_rows: int = 2000
    rounds: int = 3
    eta: int = 3
    seed: int = 17


@dataclass(frozen=True)
class Candidate:
    """One setting to try. `layers` None are all."""

    rank: int
    targets: tuple[str, ...]
    layers: tuple[int, ...] | None
    learning_rate: float

    def __str__(self) -> str:
        layers = "all layers" if self.layers is None else f"layers {','.join(map(str, self.layers))}"
        return f"rank {self.rank}, {','.join(self.targets)}, {layers}, learning rate {self.learning_rate:g}"

    def lora(self, settings: LoraSettings) -> LoraSettings:
        """The settings with this candidate's in them; an alpha that is set keeps its ratio to the default one of the
        rank.

        So alpha / rank stays, and with rank_stabilised alpha itself.
        """
        made = settings.model_copy(update={"rank": self.rank, "targets": self.targets, "layers": self.layers})
        alpha = None if settings.alpha is None else settings.alpha * made.default_alpha / settings.default_alpha
        return made.model_copy(update={"alpha": alpha})

    def settings(self, settings: ModelSettings) -> ModelSettings:
        """All settings with this candidate's in them."""
        training = settings.training.model_copy(update={"learning_rate": self.learning_rate})
        return settings.model_copy(update={"lora": self.lora(settings.lora), "training": training})


@dataclass(frozen=True)
class Trial:
    """A candidate's average precision in a round, and the parameters that it trains in the encoder."""

    candidate: Candidate
    average_precision: float
    adapter: int


def candidates(sweep: Sweep, settings: ModelSettings, depth: int) -> list[Candidate]:
    """The config's own settings first, then every combination, none twice.

    `depth` is the encoder's number of layers.
    """
    grid = product(
        sweep.ranks, map(_names, sweep.targets), (_layers(words, depth) for words in sweep.layers), sweep.learning_rates
    )
    return list(dict.fromkeys([reference(settings, depth), *(Candidate(*choice) for choice in grid)]))


def reference(settings: ModelSettings, depth: int) -> Candidate:
    """The config's own settings as a candidate."""
    lora = settings.lora
    return Candidate(lora.rank, tuple(lora.targets), _all_or_some(lora.layers, depth), settings.training.learning_rate)


def round_rows(sweep: Sweep, available: int) -> list[int]:
    """Training rows of each round: an eta-th of the next one's, the last having sweep.rows or all there are.

    Raises ReviewriskError where the first would have fewer than 50, on which chance alone would choose.
    """
    most = min(sweep.rows, available)
    rows = [most // sweep.eta**times for times in range(sweep.rounds - 1, -1, -1)]
    if rows[0] < FEWEST_ROWS:
        raise ReviewriskError(
            f"{sweep.rounds} rounds that end at {most:,} training rows begin at {rows[0]:,}, fewer than {FEWEST_ROWS}: "
            "ask for fewer --rounds, a smaller --eta or more --rows, or ingest more reviews."
        )
    return rows


def survivors(trials: Sequence[Trial], eta: int, own: Candidate | None) -> list[Candidate]:
    """The best 1 in eta (rounded up), best first, and then the config's own settings, where they have a trial but
    are not among them.

    Of equal average precision the one with fewer parameters is better.
    """
    ranked = sorted(trials, key=lambda trial: (-trial.average_precision, trial.adapter))
    best = [trial.candidate for trial in ranked[: math.ceil(len(ranked) / eta)]]
    return best + [trial.candidate for trial in ranked if trial.candidate == own and own not in best]


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """Those that no other beats in average precision without training more, or in parameters without being less
    precise; smallest first.
    """
    kept = [trial for trial in trials if not any(_beats(other, trial) for other in trials)]
    return sorted(kept, key=lambda trial: (trial.adapter, -trial.average_precision))


def _beats(one: Trial, other: Trial) -> bool:
    """Whether it is as good in both respects and better in one."""
    gain, saving = one.average_precision - other.average_precision, other.adapter - one.adapter
    return gain >= 0 and saving >= 0 and (gain > 0 or saving > 0)


def _names(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(","))


def _layers(words: str, depth: int) -> tuple[int, ...] | None:
    """Numbers of the layers that the words stand for; whether the encoder has them is checked where
    LoRA is attached.
    """
    named = {"all": None, "upper": tuple(range(depth // 2, depth)), "lower": tuple(range(depth // 2))}
    if words in named:
        return _all_or_some(named[words], depth)
    try:
        return _all_or_some(tuple(sorted({int(word) for word in words.split(",")})), depth)
    except ValueError:
        raise ReviewriskError(
            f"--layers {words!r} is neither all, upper or lower nor numbers joined by commas, such as 0,1,2."
        ) from None


def _all_or_some(layers: tuple[int, ...] | None, depth: int) -> tuple[int, ...] | None:
    """None where every layer is named, so that the same setting is not tried twice."""
    return None if layers is None or set(layers) == set(range(depth)) else tuple(layers)
