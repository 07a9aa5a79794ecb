"""Scores from a serving folder: the same numbers as a plain forward pass, one row per review whatever its text is."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from model.bundle.bundle import build_serving_folder
from model.errors import ReviewriskError
from model.evaluation.calibrators import Calibrator
from model.files import write_json
from model.network.backbone import encode
from model.network.classifier import margin
from model.scoring.engines.interface import REFERENCE
from model.scoring.faults import MachineFaultError
from model.scoring.scorer import TOKEN_COUNT_LIMIT, Scorer, cached, readable_start, set_threads
from model.settings import ScoringSettings
from model.text.compose import NO_TEXT, HeadlineMode, model_text
from tests.support.adapter_bundles import adapter_bundle
from tests.support.tiny_models import tiny_bundle, tiny_encoder, tiny_tokenizer

SMALL = ScoringSettings(tokens_per_batch=512, rows_per_buffer=8)
REVIEWS: list[tuple[str | None, str | None]] = [
    ("Five Stars", "Love this chair, easy to put together"),
    ("Broken", "the leg broke after two weeks<br />awful &#34;quality&#34;"),
    ("One Star", None),
    (None, "wobbles"),
    (None, None),
    ("", ""),
    ("\U0001f600\U0001f600", "cafe\u0301 \U0001f44d\U0001f3fd \u6905\u5b50 \ud83d \x00"),
    ("Looks nice", "but it broke again and again and again " * 40),
    ("Not bad at all", "sturdy and comfortable, " * 3),
    ("Waste of money", "!!! ??? ..."),
]


@pytest.fixture(scope="module", params=["distilbert", "bert"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return build_serving_folder(tiny_bundle(folder, request.param), folder / "serving", tolerance=1e-3)


@pytest.fixture(scope="module")
def scorer(serving: Path) -> Scorer:
    return Scorer.load(serving, SMALL, threads=1)


def columns(reviews: list[tuple[str | None, str | None]]) -> tuple[list[str | None], list[str | None]]:
    return [headline for headline, _ in reviews], [body for _, body in reviews]


def plain_logit(scorer: Scorer, headline: str | None, body: str | None) -> float:
    """One text alone, without padding, by the tokenizer's own truncation."""
    tokenizer = scorer.tokenizer
    encoded = tokenizer(model_text(headline, body), truncation=True, max_length=scorer.max_length, return_tensors="pt")
    tokenizer.backend_tokenizer.no_truncation()
    with torch.no_grad():
        return float(margin(scorer.model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])))


def test_scores_equal_a_plain_forward_pass_of_each_text(scorer: Scorer) -> None:
    scores = scorer.score(*columns(REVIEWS), score_blank=True)
    expected = [plain_logit(scorer, headline, body) for headline, body in REVIEWS]
    assert scores.error == [None] * len(REVIEWS)
    np.testing.assert_allclose(scores.logit, expected, atol=1e-5)
    np.testing.assert_allclose(scores.raw_probability, 1 / (1 + np.exp(-np.array(expected))), atol=1e-5)
    assert np.ptp(scores.logit) > 0.01


BLANK: list[tuple[str | None, str | None]] = [
    (None, None),
    ("", ""),
    (None, ""),
    (" \r\n", "\t"),
    ("<br />", "\x00"),
    (None, "\u200d"),
]


def test_a_review_that_says_nothing_has_a_reason_and_no_score(scorer: Scorer) -> None:
    scores = scorer.score(*columns([*BLANK, (None, "chair")]))
    assert scores.error == [NO_TEXT] * len(BLANK) + [None]
    assert scores.token_count.tolist() == [2] * len(BLANK) + [3]
    for numbers in (scores.logit, scores.raw_probability, scores.probability):
        assert np.isnan(numbers[:-1]).all() and np.isfinite(numbers[-1])
    assert (scores.real_tokens, scores.padded_tokens) == (3, 16), "nothing is computed for the others"
    assert scorer.score([], []).logit.shape == (0,)


def test_the_columns_of_scores_have_the_types_of_the_table(scorer: Scorer) -> None:
    scores = scorer.score([None, "5 stars"], ["chair", None])
    columns = (scores.logit, scores.raw_probability, scores.probability)
    assert {column.dtype for column in columns} == {np.dtype(np.float64)}
    assert (scores.token_count.dtype, scores.is_truncated.dtype) == (np.int32, np.bool_)
    assert (scores.has_rating_phrase.dtype, scores.has_rating_phrase.tolist()) == (np.bool_, [False, True])


def test_headlines_and_bodies_of_different_numbers_are_refused(scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="longer"):
        scorer.score(["Nice"], ["sofa", "chair"])


def test_what_is_no_text_depends_on_what_the_model_reads(scorer: Scorer) -> None:
    found = {mode: scorer.score(["One Star"], [None], mode).error[0] for mode in get_args(HeadlineMode)}
    assert found == {"keep": None, "mask_ratings": NO_TEXT, "drop": NO_TEXT}


def test_for_figures_of_all_rows_the_empty_texts_are_one_text_with_a_score(scorer: Scorer) -> None:
    scores = scorer.score(*columns(BLANK), score_blank=True)
    assert scores.error == [None] * len(BLANK)
    assert len(set(scores.logit.tolist())) == 1 and np.isfinite(scores.probability).all()


def test_token_counts_are_taken_before_truncation(scorer: Scorer) -> None:
    exactly = "chair " * (scorer.max_length - 2)
    scores = scorer.score([None, None, None], ["chair", exactly, exactly + "chair"])
    assert scores.token_count.tolist() == [3, scorer.max_length, scorer.max_length + 1]
    assert scores.is_truncated.tolist() == [False, False, True]
    assert abs(scores.logit[1] - scores.logit[2]) < 1e-5


def test_scores_do_not_depend_on_the_order_of_the_rows(scorer: Scorer) -> None:
    words = ["the", "leg", "broke", "chair", "nice", "love", "awful", "again", "good", "smell", "two", "weeks"]
    random = np.random.default_rng(5)
    reviews = [(None, " ".join(random.choice(words, size=length))) for length in random.integers(0, 90, size=60)]
    before = scorer.score(*columns(reviews))
    order = random.permutation(len(reviews))
    after = scorer.score(*columns([reviews[index] for index in order]))
    np.testing.assert_allclose(after.logit, before.logit[order], atol=1e-5)
    np.testing.assert_array_equal(after.token_count, before.token_count[order])


def test_padding_is_counted(scorer: Scorer) -> None:
    scores = scorer.score([None] * 3, ["chair " * 14, "chair " * 15, "chair"])
    assert (scores.real_tokens, scores.padded_tokens) == (16 + 17 + 3, 16 + 32 + 16)


def test_identical_texts_are_computed_once_and_have_one_score(scorer: Scorer) -> None:
    bodies = ["chair", "sofa good", "chair", "chair", "sofa good", "sofa"]
    scores = scorer.score([None] * 6, bodies)
    assert scores.padded_tokens == 3 * 16
    alone = {body: scorer.score([None], [body]).logit[0] for body in set(bodies)}
    np.testing.assert_allclose(scores.logit, [alone[body] for body in bodies], atol=1e-5)
    assert len(set(scores.logit.tolist())) == 3


def test_identical_texts_fail_together(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scorer.engine.logits
    monkeypatch.setattr(scorer.engine, "logits", lambda ids, mask: np.where(mask.sum(1) == 4, np.nan, whole(ids, mask)))
    scores = scorer.score([None] * 4, ["chair", "sofa good", "chair", "sofa good"])
    assert scores.error == [None, "FloatingPointError: the model's logit is nan"] * 2


def poison(scorer: Scorer, monkeypatch: pytest.MonkeyPatch, word: str, act: Any) -> None:
    """Let the model's forward pass do `act(rows that hold the word, logits)`; everything around it stays real."""
    token = scorer.tokenizer.convert_tokens_to_ids(word)
    forward = scorer.model.forward

    def poisoned(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return act((input_ids == token).any(dim=1), forward(input_ids=input_ids, attention_mask=attention_mask))

    monkeypatch.setattr(scorer.model, "forward", poisoned)


def test_a_row_that_breaks_the_model_is_alone_with_its_error(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    reviews = [(None, f"nice {'table ' * (index % 5)}{'poor' if index in (3, 12) else 'sofa'}") for index in range(20)]
    expected = scorer.score(*columns([(None, body.replace("poor", "sofa") if body else body) for _, body in reviews]))

    def fail(found: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        if found.any():
            raise RuntimeError("the poor row")
        return logits

    poison(scorer, monkeypatch, "poor", fail)
    scores = scorer.score(*columns(reviews))
    assert {index: error for index, error in enumerate(scores.error) if error} == {
        3: "RuntimeError: the poor row",
        12: "RuntimeError: the poor row",
    }
    good = [index for index in range(20) if index not in (3, 12)]
    np.testing.assert_allclose(scores.probability[good], expected.probability[good], atol=1e-5)
    assert np.isnan([scores.logit[3], scores.raw_probability[3], scores.probability[3]]).all()
    assert scores.token_count[3] == expected.token_count[3]


def test_a_machine_that_fails_gives_no_row_an_error(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(found: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    poison(scorer, monkeypatch, "poor", out_of_memory)
    with pytest.raises(MachineFaultError, match=r"The machine failed, not a text \(RuntimeError: .*allocate memory\)"):
        scorer.score([None] * 3, ["nice chair", "poor chair", "good chair"])


def test_a_model_that_fails_on_every_text_gives_no_row_an_error(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(found: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("size mismatch")

    poison(scorer, monkeypatch, "poor", broken)
    with pytest.raises(MachineFaultError, match="size mismatch"):
        scorer.score([None], ["poor chair"])


def test_a_logit_that_is_no_number_is_that_rows_error(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(scorer, monkeypatch, "poor", lambda found, logits: logits.masked_fill(found[:, None], float("inf")))
    scores = scorer.score([None] * 3, ["nice chair", "poor chair", "good chair"])
    assert scores.error == [None, "FloatingPointError: the model's logit is nan", None]
    assert np.isfinite(scores.probability[[0, 2]]).all()


def test_what_is_no_text_is_that_rows_error(scorer: Scorer) -> None:
    not_text: Any = 3.5
    scores = scorer.score([None] * 3, ["nice", not_text, "good, 5 stars"])
    assert [error is None for error in scores.error] == [True, False, True]
    assert scores.has_rating_phrase.tolist() == [False, False, True]
    assert str(scores.error[1]).startswith("TypeError: ")
    assert scores.token_count.tolist() == [3, 0, 6]


@pytest.mark.parametrize(
    "text",
    [
        "the chair broke, " * 15_000,
        "a.b'c!" * 40_000,
        "x" * 250_000,
        " " * 250_000 + "good chair",
        ("x" * 300 + " ") * 900,
        "\U0001f600\u0301" * 125_000,
        "\u200d" * 250_000,
        "chair e" + "\u0301" * 250_000,
    ],
    ids=["words", "no-spaces", "one-word", "spaces", "unknown-words", "emoji", "joiners", "combining"],
)
def test_the_start_of_a_huge_text_has_the_tokens_of_the_whole(text: str) -> None:
    tokenizer = tiny_tokenizer()
    (whole,) = tokenizer.backend_tokenizer.encode_batch([text])
    start = readable_start(tokenizer, text)
    assert text.startswith(start)
    (ids,), (count,) = encode(tokenizer, [start], 512)
    assert ids[:-1] == whole.ids[:-1][:511]
    assert min(count, TOKEN_COUNT_LIMIT) == min(len(whole.ids), TOKEN_COUNT_LIMIT)


@pytest.mark.parametrize(
    ("first", "read"), [("the leg ", 65_536), ("chair   ", 8 * 9000)], ids=["enough", "one too few"]
)
def test_a_huge_text_is_cut_where_exactly_as_many_words_as_are_counted_stand_before_the_last(
    first: str, read: int
) -> None:
    """A word has eight characters here, and the last of those that are read at once may be cut: it does not count."""
    text = first + "chair   " * 8999
    assert len(readable_start(tiny_tokenizer(), text)) == read


def test_a_huge_text_is_scored_without_being_read_to_its_end(scorer: Scorer) -> None:
    huge, ordinary = "the chair broke, " * 60_000, "the chair broke, " * 300
    assert len(readable_start(scorer.tokenizer, huge)) < 100_000
    assert readable_start(scorer.tokenizer, ordinary) == ordinary
    scores = scorer.score([None, None], [huge, ordinary])
    assert scores.token_count.tolist() == [TOKEN_COUNT_LIMIT, 1202]
    assert scores.is_truncated.tolist() == [True, True]
    assert abs(scores.logit[0] - scores.logit[1]) < 1e-5


def test_the_probability_is_calibrated(scorer: Scorer) -> None:
    plain = scorer.score(*columns(REVIEWS))
    np.testing.assert_array_equal(plain.probability, plain.raw_probability)
    moved = dataclasses.replace(scorer, calibrator=Calibrator("temperature", 1.5, (2.0,))).score(*columns(REVIEWS))
    np.testing.assert_allclose(moved.probability, 1 / (1 + np.exp(-(moved.logit - 1.5) / 2)), rtol=1e-12)
    np.testing.assert_array_equal(moved.logit, plain.logit)
    np.testing.assert_array_equal(moved.raw_probability, plain.raw_probability)


def test_a_calibrator_that_ties_rows_leaves_the_logit_to_rank_them(scorer: Scorer) -> None:
    steps = dataclasses.replace(scorer, calibrator=Calibrator("isotonic", 0.0, (), (0.0, 1.0), (0.3, 0.3))).score(
        *columns(REVIEWS)
    )
    scored = [error is None for error in steps.error]
    assert scored.count(False) == 2, "the two empty ones"
    assert set(steps.probability[scored].tolist()) == {0.3}
    assert len(set(steps.logit[scored].tolist())) == len(REVIEWS) - 2


@pytest.mark.parametrize("mode", get_args(HeadlineMode))
def test_a_review_is_read_as_the_model_was_trained_to_read_it_or_as_it_is_told(
    scorer: Scorer, mode: HeadlineMode
) -> None:
    reviews = [*REVIEWS, ("One Star", "broke, I give it 1 star"), ("Five Stars", None)]
    expected = [plain_logit(scorer, None, model_text(headline, body, mode)) for headline, body in reviews]
    np.testing.assert_allclose(scorer.score(*columns(reviews), mode, score_blank=True).logit, expected, atol=1e-5)
    trained_so = dataclasses.replace(scorer, headline_mode=mode)
    np.testing.assert_allclose(trained_so.score(*columns(reviews), score_blank=True).logit, expected, atol=1e-5)


def test_the_bundle_says_what_of_a_review_is_read(tmp_path: Path) -> None:
    bundle = adapter_bundle(tmp_path, tiny_encoder(tmp_path / "encoder"), text_headline="drop")
    found = Scorer.load(build_serving_folder(bundle, tmp_path / "serving", 1e-3), SMALL, threads=1)
    assert found.headline_mode == "drop"
    with_headline, without = found.score(["Awful", None], ["nice chair", "nice chair"]).logit
    assert with_headline == without


def test_rows_that_state_their_rating_are_marked_whatever_the_model_reads(scorer: Scorer) -> None:
    reviews = [
        ("One Star", "broke"),
        ("Broke", "I give it 1 star"),
        ("Star chair", "a star on it"),
        (None, None),
        ("5 out of 5", None),
        ("Fine", "10 legs"),
    ]
    for mode in get_args(HeadlineMode):
        assert scorer.score(*columns(reviews), mode).has_rating_phrase.tolist() == [
            True,
            True,
            False,
            False,
            True,
            False,
        ]


def test_bfloat16_says_nearly_the_same_in_few_shapes(
    scorer: Scorer, serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["chair", "sofa", "good", "nice", "love", "awful", "smell"]
    reviews = [(None, "the leg broke " * (1 + index % 9) + words[index // 9]) for index in range(60)]
    half = Scorer.load(serving, ScoringSettings(tokens_per_batch=512, precision="bfloat16"))
    forward, shapes = half.model.forward, []

    def seen(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, attention_mask=attention_mask)

    monkeypatch.setattr(half.model, "forward", seen)
    scores = half.score(*columns(reviews))
    np.testing.assert_allclose(scores.logit, scorer.score(*columns(reviews)).logit, atol=0.05)
    assert all(rows in (1, 2, 4, 8, 16, 32) for rows, _ in shapes)
    assert sum(rows for rows, _ in shapes) == len(reviews)
    assert scores.padded_tokens == sum(rows * length for rows, length in shapes)


def test_tokenizers_and_torch_use_the_threads_they_are_given(
    serving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    Scorer.load(serving, SMALL)
    assert (given, os.environ["TOKENIZERS_PARALLELISM"]) == ([], "false")
    cached(serving, SMALL.model_copy(update={"tokens_per_batch": 500}), threads=3)
    assert given == [3]


def test_load_reads_what_the_bundle_says_and_sets_the_threads(scorer: Scorer, serving: Path) -> None:
    assert scorer.model_version.startswith("encoder-")
    assert not hasattr(scorer, "thresholds") and not (serving / "thresholds.json").exists(), "scoring decides nothing"
    assert (scorer.max_length, scorer.headline_mode) == (64, "keep")
    assert torch.get_num_threads() == 1
    assert not scorer.model.training
    assert all(
        parameter.dtype == torch.float32 and not parameter.requires_grad for parameter in scorer.model.parameters()
    )


def test_one_scorer_per_process_and_model_version(serving: Path, tmp_path: Path) -> None:
    first = cached(serving, SMALL, threads=1)
    assert cached(shutil.copytree(serving, tmp_path / "moved"), SMALL, threads=1) is first
    other = cached(serving, SMALL.model_copy(update={"precision": "bfloat16"}), threads=1)
    assert other is not first
    assert cached(serving, SMALL, threads=1) is not first


def test_float32_runs_as_many_rows_at_once_as_the_budget_allows(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, shapes = scorer.model.forward, []

    def seen(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, attention_mask=attention_mask)

    monkeypatch.setattr(scorer.model, "forward", seen)
    scorer.score([None] * 7, ["chair " * number for number in range(1, 8)])
    assert shapes == [(7, 16)]


@pytest.mark.parametrize(
    ("name", "devices", "driver", "usable"),
    [("cuda", 0, False, 0), ("cuda:0", 0, False, 0), ("cuda:1", 1, True, 1), ("cuda", 1, False, 0)],
)
def test_a_graphics_card_beyond_those_there_are_is_an_error(
    serving: Path, name: str, devices: int, driver: bool, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: driver)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with pytest.raises(ReviewriskError, match=f"Device '{name}' was asked for, but this machine has {usable} CUDA"):
        Scorer.load(serving, SMALL, device=name)


@pytest.mark.parametrize("device", ["cuda:63", "mps", "no-such-device"])
def test_a_device_that_is_absent_is_an_error(serving: Path, device: str) -> None:
    with pytest.raises(ReviewriskError, match=device):
        Scorer.load(serving, SMALL, device=device)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "calibrator.json", "tokenizer/tokenizer.json"])
def test_a_damaged_file_is_not_loaded(serving: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(serving, tmp_path / "serving")
    flip_a_bit(folder / name)
    with pytest.raises(ReviewriskError, match=rf"{name} is damaged: run the command again"):
        Scorer.load(folder, SMALL)


def test_every_flipped_byte_of_the_description_is_noticed(serving: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(serving, tmp_path / "serving")
    whole = (folder / "serving.json").read_bytes()
    places = [place for place, byte in enumerate(whole) if chr(byte).isalnum()]
    for place in places[:: max(1, len(places) // 40)]:
        (folder / "serving.json").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ReviewriskError, match=r"serving\.json is damaged"):
            cached(folder, SMALL)


def flip_a_bit(path: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_folder_that_is_no_serving_folder_is_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {})
    with pytest.raises(ReviewriskError, match=r"serving\.json"):
        Scorer.load(tmp_path, SMALL)


class SmallDevice:
    """An engine on a device that has room for so many padded tokens at once; a row's logit is the sum of its ids."""

    kind, few_shapes = REFERENCE, False

    def __init__(self, room: int) -> None:
        self.room, self.passes = room, list[tuple[int, int]]()

    def logits(self, ids: Any, mask: Any) -> Any:
        self.passes.append(ids.shape)
        if ids.size > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return (ids * mask).sum(axis=1).astype(np.float32)


def on_device(scorer: Scorer, room: int, tokens_per_batch: int = 4096) -> Scorer:
    settings = scorer.settings.model_copy(update={"tokens_per_batch": tokens_per_batch, "rows_per_buffer": 1000})
    return dataclasses.replace(scorer, engine=SmallDevice(room), settings=settings)


def passes(scorer: Scorer) -> list[tuple[int, int]]:
    """(rows, length) of each pass that its small device was given."""
    assert isinstance(scorer.engine, SmallDevice)
    return scorer.engine.passes


def test_where_the_device_has_no_room_for_a_batch_it_computes_smaller_ones_from_then_on(scorer: Scorer) -> None:
    words = ["the", "leg", "broke", "chair", "nice", "love", "awful", "again", "good", "smell"]
    texts = [f"{one} {other}" for one in words for other in words]
    expected = on_device(scorer, room=10**6).score([None] * 100, texts)
    small = on_device(scorer, room=16 * 30)
    found = small.score([None] * 100, texts)
    np.testing.assert_array_equal(found.logit, expected.logit)
    assert found.error == [None] * 100
    assert passes(small) == [(100, 16), (50, 16), (25, 16), (25, 16), (25, 16), (25, 16)]
    assert small.tokens_at_once == 25 * 16
    small.score([None] * 100, texts)
    assert passes(small)[6:] == [(25, 16)] * 4, "remembered"


def test_a_text_that_has_no_room_by_itself_fails_alone(scorer: Scorer) -> None:
    small = on_device(scorer, room=16 * 2)
    found = small.score([None] * 3, ["nice chair", "again and again " * 20, "wobbles"])
    assert found.error[0] is None and found.error[2] is None
    assert re.fullmatch(r"NoRoomError: the device has no room for a text padded to \d+ tokens", found.error[1] or "")


def test_a_device_without_room_for_anything_is_no_fault_of_a_text(scorer: Scorer) -> None:
    with pytest.raises(MachineFaultError, match="no room"):
        on_device(scorer, room=0).score([None], ["nice chair"])


def test_what_is_read_first_and_computed_later_is_what_score_gives(scorer: Scorer) -> None:
    expected = scorer.score(*columns(REVIEWS))
    found = scorer.compute(scorer.read(REVIEWS))
    assert found.error == expected.error
    np.testing.assert_array_equal(found.token_count, expected.token_count)
    np.testing.assert_allclose(found.probability, expected.probability, rtol=1e-4)


def test_scores_read_ahead_are_those_of_one_thread(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scorer.score(*columns(REVIEWS * 5))
    monkeypatch.setattr(Scorer, "read_ahead", 2)
    found = scorer.score(*columns(REVIEWS * 5))
    assert len(REVIEWS * 5) > 2 * SMALL.rows_per_buffer, "several buffers"
    for name in ("logit", "raw_probability", "probability", "token_count", "is_truncated", "has_rating_phrase"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.error, found.real_tokens, found.padded_tokens) == (
        expected.error,
        expected.real_tokens,
        expected.padded_tokens,
    )


def test_no_reviews_have_no_scores(scorer: Scorer) -> None:
    found = scorer.score([], [])
    assert len(found.logit) == 0 and found.error == []


@pytest.mark.parametrize(("device", "expected"), [("cpu", ("false", None)), ("cuda", ("true", "3"))])
def test_the_tokenizer_has_threads_beside_a_gpu_alone(
    device: str, expected: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "")
    monkeypatch.setenv("RAYON_NUM_THREADS", "")
    monkeypatch.delenv("RAYON_NUM_THREADS")
    set_threads(torch.device(device), 3)
    assert (os.environ["TOKENIZERS_PARALLELISM"], os.environ.get("RAYON_NUM_THREADS")) == expected
