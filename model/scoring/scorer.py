"""Scores of review texts by one merged model: the same code in evaluation, in Spark's workers and on
the command line.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from model.bundle.bundle import read_serving, verify_serving_folder
from model.errors import ReviewriskError
from model.evaluation.calibrators import Calibrator, sigmoid
from model.files import read_json
from model.network.backbone import encode, load_tokenizer
from model.network.classifier import ReviewClassifier, share_equal_tensors
from model.scoring.ahead import READ_AHEAD, ahead
from model.scoring.batches import length_batches, pad_rows, padded_length
from model.scoring.engines.interface import REFERENCE, Engine, EngineKind
from model.scoring.engines.openvino_engine import OpenVinoEngine
from model.scoring.engines.torch_engine import TorchEngine
from model.scoring.faults import Failure, NoRoomError, isolate_failures
from model.settings import ScoringSettings
from model.text.compose import NO_TEXT, HeadlineMode, text_and_rating

if TYPE_CHECKING:
    from model.evaluation.baseline import StoredBaseline
    from model.scoring.cascade import CalibratedBaseline

# Token counts are exact up to this many and stop there: nobody needs to know how much of a megabyte was not read.
TOKEN_COUNT_LIMIT = 8192
_CHARACTERS_AT_ONCE = 65_536
_ARRAYS = ("logit", "raw_probability", "probability", "token_count", "is_truncated", "has_rating_phrase", "by_baseline")
_SPECIAL_TOKENS = 2  # [CLS] and [SEP]: of a text with no more the model reads nothing


@dataclass
class Scores:
    """One entry per input row, in the input's order; where `error` is set, the three numbers are NaN.

    `token_count` is taken before truncation, with [CLS] and [SEP], and stops at TOKEN_COUNT_LIMIT (0 where the text
    could not be tokenised at all). `has_rating_phrase`: headline or body states the rating ("One Star"), whether or not
    the model read it. `by_baseline`: the row skipped the network (see `cascade`). `padded_tokens` is what the model
    computed, once for identical texts, `real_tokens` what of it was text.
    """

    logit: NDArray[np.float64]
    raw_probability: NDArray[np.float64]
    probability: NDArray[np.float64]
    token_count: NDArray[np.int32]
    is_truncated: NDArray[np.bool_]
    has_rating_phrase: NDArray[np.bool_]
    by_baseline: NDArray[np.bool_]
    error: list[str | None]
    real_tokens: int = 0
    padded_tokens: int = 0

    @classmethod
    def empty(cls, rows: int) -> Scores:
        """Nothing known yet of `rows` rows."""
        logit, raw_probability, probability = (np.full(rows, np.nan) for _ in range(3))
        return cls(
            logit,
            raw_probability,
            probability,
            np.zeros(rows, np.int32),
            np.zeros(rows, np.bool_),
            np.zeros(rows, np.bool_),
            np.zeros(rows, np.bool_),
            [None] * rows,
        )

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of consecutive rows."""
        whole = cls.empty(sum(len(part.error) for part in parts))
        for name in _ARRAYS if parts else ():
            setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
        whole.error = [error for part in parts for error in part.error]
        whole.real_tokens = sum(part.real_tokens for part in parts)
        whole.padded_tokens = sum(part.padded_tokens for part in parts)
        return whole


@dataclass(frozen=True)
class Reading:
    """Reviews as the model reads them: all of their scores but the logits, and (token ids, position among them) of the
    rows that the network is to compute.
    """

    scores: Scores
    rows: list[tuple[list[int], int]]


@dataclass(frozen=True)
class EncodedText:
    """Token ids as the model reads them, [CLS] and [SEP] included, and the number of tokens before truncation."""

    ids: list[int]
    token_count: int


@dataclass(eq=False)
class Scorer:
    """A merged classifier behind an engine, with its tokenizer and calibrator."""

    engine: Engine
    tokenizer: PreTrainedTokenizerFast
    calibrator: Calibrator
    model_version: str
    max_length: int
    headline_mode: HeadlineMode
    settings: ScoringSettings
    folder: Path | None = None  # that it was loaded from
    # padded tokens that the device has room for at once, as far as this process knows
    tokens_at_once: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens_at_once = self.settings.tokens_per_batch

    @classmethod
    def load(
        cls,
        serving_folder: Path,
        settings: ScoringSettings,
        threads: int | None = None,
        device: str = "cpu",
        beside: Scorer | None = None,
    ) -> Scorer:
        """The scorer of a serving folder (see `bundle.build_serving_folder`), on the engine that the settings name.

        An `engine` or `precision` of auto is the reference's: whoever wants the fastest that is let through names it
        (see `engine_choice`). `threads` limits torch in this whole process. With `beside`, weights that are those of
        that scorer's model are kept once for both. Raises ReviewriskError where the folder is none or damaged, or the
        device is absent: a model is never quietly run elsewhere than where it was asked to.
        """
        target = find_device(device)
        serving = verify_serving_folder(serving_folder)
        set_threads(target, threads)
        engine = _load_engine(serving_folder, engine_kind(settings), target, threads)
        if isinstance(engine, TorchEngine) and beside is not None and isinstance(beside.engine, TorchEngine):
            share_equal_tensors(engine.model, beside.engine.model)
        return cls(
            engine=engine,
            tokenizer=load_tokenizer(serving_folder / "tokenizer"),
            calibrator=Calibrator.from_json(read_json(serving_folder / "calibrator.json")),
            model_version=serving["model_version"],
            max_length=serving["max_length"],
            headline_mode=serving["headline_mode"],
            settings=settings,
            folder=serving_folder,
        )

    @cached_property
    def baseline(self) -> CalibratedBaseline:
        """The TF-IDF baseline of the model's bundle, read when a cascade first asks for it."""
        from model.scoring.cascade import CalibratedBaseline

        assert self.folder is not None, "a scorer that was put together by hand has no baseline"
        return CalibratedBaseline.load(self.folder)

    @property
    def model(self) -> ReviewClassifier:
        """The classifier itself, for what goes beyond scores; only PyTorch has one."""
        return self._torch_engine.model

    @property
    def device(self) -> torch.device:
        return self._torch_engine.device

    @property
    def read_ahead(self) -> int:
        """Buffers that are read by a thread of their own while the device computes: none on a CPU, whose cores both
        need.
        """
        on_gpu = isinstance(self.engine, TorchEngine) and self.engine.device.type == "cuda"
        return READ_AHEAD if on_gpu else 0

    @property
    def _torch_engine(self) -> TorchEngine:
        if not isinstance(self.engine, TorchEngine):
            raise TypeError(f"a scorer on {self.engine.kind} has no PyTorch module")
        return self.engine

    def score(
        self,
        headlines: Sequence[str | None],
        bodies: Sequence[str | None],
        mode: HeadlineMode | None = None,
        score_blank: bool = False,
        cut: float | None = None,
    ) -> Scores:
        """One score per review, in the input's order. A review of which the model reads nothing has the error NO_TEXT.

        `mode` says what of a review is read; None: what the model was trained to read. With `score_blank`, the empty
        text is scored like any other: figures of a test split must count every row. With a `cut` (`cascade.fit_cut`),
        reviews that the baseline finds so satisfied skip the network; what evaluates a model gives none.

        A row that fails carries its error, and the others are scored as if it were not there; raises MachineFaultError
        where it is not the row that fails. Rows are batched by length, so a logit may differ by about 1e-6 (float32) or
        1e-2 (bfloat16) with the rows that it is computed beside.
        """
        reviews, size = list(zip(headlines, bodies, strict=True)), self.settings.rows_per_buffer
        starts = range(0, len(reviews), size)
        buffers = (self.read(reviews[start : start + size], mode, score_blank, cut) for start in starts)
        return Scores.joined([self.compute(reading) for reading in ahead(buffers, self.read_ahead)])

    def read(
        self,
        reviews: list[tuple[str | None, str | None]],
        mode: HeadlineMode | None = None,
        score_blank: bool = False,
        cut: float | None = None,
    ) -> Reading:
        """The first half of `score`, without the network, for reviews of (headline, body): one thread may read what
        another one computes later.
        """
        scores = Scores.empty(len(reviews))
        rows = self._read_rows(reviews, mode or self.headline_mode, scores, cut)
        return Reading(scores, [row for row in rows if score_blank or self._has_text(*row, scores)])

    def compute(self, reading: Reading) -> Scores:
        """The other half of `score`: the reading's scores, complete."""
        scores = reading.scores
        self._score_rows(reading.rows, scores)
        scored = np.isfinite(scores.logit)
        scores.raw_probability[scored] = sigmoid(scores.logit[scored])
        scores.probability[scored] = self.calibrator.apply(scores.logit[scored])
        if (skipped := scores.by_baseline).any():
            scores.probability[skipped] = self.baseline.calibrator.apply(scores.logit[skipped])
        return scores

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Each text as the model reads it; a huge text is not tokenised to its end, see `readable_start`."""
        ids, counts = encode(self.tokenizer, [readable_start(self.tokenizer, text) for text in texts], self.max_length)
        return [EncodedText(row, min(count, TOKEN_COUNT_LIMIT)) for row, count in zip(ids, counts, strict=True)]

    def _read_rows(
        self, reviews: list[tuple[str | None, str | None]], mode: HeadlineMode, scores: Scores, cut: float | None
    ) -> list[tuple[list[int], int]]:
        """(token ids, position) of the rows that can be read and do not skip the network; what reading tells goes into
        `scores`.
        """
        rows: list[tuple[list[int], int]] = []
        baseline = None if cut is None else self.baseline.model  # here, as a file's fault is none of a text
        read = isolate_failures(lambda some: self._read(some, mode, baseline), reviews, (None, "good"))
        for position, found in enumerate(read):
            if isinstance(found, Failure):
                scores.error[position] = found.error
                continue
            encoded, scores.has_rating_phrase[position], logit = found
            scores.token_count[position] = encoded.token_count
            scores.is_truncated[position] = encoded.token_count > len(encoded.ids)
            if cut is not None and logit <= cut and len(encoded.ids) > _SPECIAL_TOKENS:
                scores.logit[position], scores.by_baseline[position] = logit, True
            else:
                rows.append((encoded.ids, position))
        return rows

    @staticmethod
    def _has_text(ids: list[int], position: int, scores: Scores) -> bool:
        """Whether a row has a token of its own; one that has none gets its error."""
        if len(ids) > _SPECIAL_TOKENS:
            return True
        scores.error[position] = NO_TEXT
        return False

    def _score_rows(self, rows: list[tuple[list[int], int]], scores: Scores) -> None:
        """Fill in the logits of rows of (token ids, position); of identical rows the model computes one."""
        places: dict[tuple[int, ...], list[int]] = {}
        for ids, position in rows:
            places.setdefault(tuple(ids), []).append(position)
        first = [(list(ids), positions[0]) for ids, positions in places.items()]
        few_shapes = self.engine.few_shapes
        for length, batch in length_batches(first, self.max_length, self.tokens_at_once, few_shapes):
            self._score_batch(length, batch, scores)
        for one, *others in places.values():
            for other in others:
                scores.logit[other], scores.error[other] = scores.logit[one], scores.error[one]

    def _read(
        self, reviews: Sequence[tuple[str | None, str | None]], mode: HeadlineMode, baseline: StoredBaseline | None
    ) -> list[tuple[EncodedText, bool, float]]:
        """Each review as the model reads it, whether it states the rating, whatever of it is read, and the baseline's
        log-odds of the text (0 without one).
        """
        read = [text_and_rating(headline, body, mode) for headline, body in reviews]
        encoded = self.encode([text for text, _ in read])
        logits = [0.0 if baseline is None else baseline.logit(text) for text, _ in read]
        return [(one, has_rating, logit) for one, (_, has_rating), logit in zip(encoded, read, logits, strict=True)]

    def _score_batch(self, length: int, batch: list[tuple[list[int], int]], scores: Scores) -> None:
        ids = [ids for ids, _ in batch]
        logits = isolate_failures(self._logits, ids, [ids[0][0], ids[0][-1]])
        for (_, position), logit in zip(batch, logits, strict=True):
            if isinstance(logit, Failure):
                scores.error[position] = logit.error
            elif not np.isfinite(logit):
                scores.error[position] = f"FloatingPointError: the model's logit is {logit}"
            else:
                scores.logit[position] = logit
        scores.real_tokens += sum(len(ids) for ids, _ in batch)
        scores.padded_tokens += len(batch) * length

    def _logits(self, rows: Sequence[list[int]]) -> list[float]:
        """The log-odds of each row of token ids, all padded to one length: in one pass, or in smaller ones, then and in
        future, where the device has no room for it.

        Raises NoRoomError where it has none for a single row.
        """
        length = padded_length(max(len(row) for row in rows), self.max_length)
        logits: list[float] = []
        while len(logits) < len(rows):
            part = rows[len(logits) :][: max(1, self.tokens_at_once // length)]
            try:
                logits += self.engine.logits(*pad_rows(part, length, self.pad_id)).tolist()
                continue
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise NoRoomError(f"the device has no room for a text padded to {length} tokens") from None
            # here and not above, where the error's traceback keeps the memory of the pass
            self.tokens_at_once = len(part) // 2 * length
            torch.cuda.empty_cache()
        return logits

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)


_LOADED: dict[tuple[str, ScoringSettings, str], Scorer] = {}


def cached(
    serving_folder: Path,
    settings: ScoringSettings,
    threads: int | None = None,
    device: str = "cpu",
    beside: Collection[str] = (),
) -> Scorer:
    """The process's one scorer for this model version, settings and device.

    It stays alone in the process, but for the versions in `beside`, with which it shares the weights that are equal: a
    process holds the models of one pass, each on one engine, and what they have in common once.
    """
    key = (read_serving(serving_folder)["model_version"], settings, device)
    for other in [other for other in _LOADED if other != key and (other[0] not in beside or other[0] == key[0])]:
        del _LOADED[other]  # models of another pass would need the memory of theirs
        torch.cuda.empty_cache()
    if key not in _LOADED:
        _LOADED[key] = Scorer.load(serving_folder, settings, threads, device, next(iter(_LOADED.values()), None))
    return _LOADED[key]


def engine_kind(settings: ScoringSettings) -> EngineKind:
    """The engine that the settings name, or the reference's name or precision where they say auto."""
    return EngineKind(
        REFERENCE.name if settings.engine == "auto" else settings.engine,
        REFERENCE.precision if settings.precision == "auto" else settings.precision,
    )


def _load_engine(serving_folder: Path, kind: EngineKind, device: torch.device, threads: int | None) -> Engine:
    if kind.name == "torch":
        return TorchEngine.load(serving_folder, device, kind.precision)
    if device.type != "cpu":
        raise ReviewriskError(
            f"The engine {kind.name} computes on CPUs, not on {device}: set score.engine to torch for a GPU."
        )
    return OpenVinoEngine.load(serving_folder, kind.precision, threads)


def readable_start(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    """The text, or so much of a huge one that its first TOKEN_COUNT_LIMIT tokens are sure to be those of the whole
    text.

    A tokenizer works word by word, so cutting the text can change no token but those of the last word that is left.
    """
    size = _CHARACTERS_AT_ONCE
    while size < len(text):
        words = tokenizer.backend_tokenizer.encode(text[:size], add_special_tokens=False).word_ids
        if sum(word != words[-1] for word in words) >= TOKEN_COUNT_LIMIT:
            return text[:size]
        size *= 4
    return text


def set_threads(device: torch.device, threads: int | None) -> None:
    """Have PyTorch, and for a GPU the tokenizer, compute with so many threads in this whole process.

    Beside a CPU's engine the tokenizer has one thread: its own deadlock in processes that were forked after use.
    """
    if threads is not None:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if device.type == "cuda" else "false"


def find_device(name: str) -> torch.device:
    """The device of that name; an error where this machine does not have it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ReviewriskError(f"{name!r} is no device: say cpu, cuda or cuda:0.") from error
    if device.type not in ("cpu", "cuda"):
        raise ReviewriskError(f"Device {name!r} is not supported: say cpu, cuda or cuda:0.")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ReviewriskError(
                f"Device {name!r} was asked for, but this machine has {found} CUDA devices: say cpu, or use another"
                " machine."
            )
    return device
