"""`reviewrisk try` on single texts and on files as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from jobs.config import Config
from tests.support.command_line import run, written

BAD, GOOD = '{"headline": "Bad", "body": "broke broken waste"}', '{"body": "love it great"}'


@pytest.fixture
def conf(trained: Config, tmp_path: Path) -> Path:
    return written(trained, tmp_path / "conf.yml")


def tried(conf: Path, content: bytes, file: Path, *options: str) -> tuple[Result, list[dict[str, Any]]]:
    """What `try --jsonl` makes of a file's bytes: the result, and its lines of output."""
    file.write_bytes(content)
    result = CliRunner().invoke(main, ["try", "--conf", str(conf), "--jsonl", str(file), *options])
    return result, [json.loads(row) for row in result.stdout.splitlines()]


def test_a_byte_order_mark_is_no_part_of_the_first_line(conf: Path, tmp_path: Path) -> None:
    content = f"{BAD}\n{GOOD}\n".encode()
    result, found = tried(conf, b"\xef\xbb\xbf" + content, tmp_path / "texts.jsonl", "--no-explain")
    assert result.exit_code == 0 and [row["is_flagged"] for row in found] == [True, False]
    assert found == tried(conf, content, tmp_path / "texts.jsonl", "--no-explain")[1]


def test_texts_come_from_standard_input(conf: Path) -> None:
    arguments = ["try", "--conf", str(conf), "--no-explain", "--jsonl", "-"]
    result = CliRunner().invoke(main, arguments, input=f"{BAD}\n{GOOD}\n")
    assert result.exit_code == 0
    assert [json.loads(row)["is_flagged"] for row in result.stdout.splitlines()] == [True, False]


LATIN_1 = '{"body": "tr\u00e8s bon"}'.encode("latin-1")
WRONG = [
    pytest.param(LATIN_1, "line 2 is not UTF-8 (byte 0xe8 at 12): save the file as UTF-8", id="latin-1"),
    pytest.param(b'{"body": ', "line 2 is not JSON (Expecting value)", id="cut"),
    pytest.param(b"[" * 100_000, "line 2 is not JSON (nested too deep)", id="deep"),
    pytest.param(b'{"text": 1}', "line 2 is no object with headline or body", id="other-keys"),
    pytest.param(b'"broke"', "line 2 is no object with headline or body", id="no-object"),
    pytest.param(b'{"body": 7}', "line 2 has a body that is neither text nor null", id="number"),
    pytest.param(
        b'{"body": "it broke", "product_category": 7}',
        "line 2 has a product_category that is neither text nor null",
        id="category",
    ),
]


@pytest.mark.parametrize(("line", "error"), WRONG)
def test_a_bad_line_has_its_error_in_its_place_and_the_others_their_results(
    conf: Path, tmp_path: Path, line: bytes, error: str
) -> None:
    file = tmp_path / "texts.jsonl"
    result, found = tried(conf, b"\n".join([BAD.encode(), line, GOOD.encode(), b""]), file, "--no-explain")
    assert [row["is_flagged"] for row in found] == [True, None, False]
    assert found[1] == {"score": None, "is_flagged": None, "model_version": None, "words": [], "error": error}
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == (
        f"error: {file} has 1 invalid lines: correct each one as its `error` in the output says."
    )


def test_blank_lines_are_counted_and_are_no_texts(conf: Path, tmp_path: Path) -> None:
    result, found = tried(conf, f"\n{GOOD}\n \n[]\n".encode(), tmp_path / "texts.jsonl", "--no-explain")
    assert len(found) == 2 and found[1]["error"].startswith("line 4 ")
    assert result.exit_code == 3


def test_a_text_that_says_nothing_has_no_score(conf: Path, tmp_path: Path) -> None:
    result = run("try", "--conf", conf, "<br />")
    assert result.output == "not scored: the model reads nothing of this text\n" and result.exit_code == 0
    result, found = tried(conf, b'{"headline": "", "body": null}\n', tmp_path / "texts.jsonl")
    assert (found[0]["score"], found[0]["is_flagged"], found[0]["words"], found[0]["error"]) == (
        None,
        None,
        [],
        "no_text",
    )
    assert result.exit_code == 0, "it is a text, and this is what is known of it"


def test_a_text_that_cannot_be_explained_keeps_its_score(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import model.explanation.word_attributions as module

    real = module.explain

    def explain(scorer: Any, headlines: list[str | None], bodies: list[str | None], settings: Any) -> Any:
        if any("broke" in (body or "") for body in bodies):
            raise ValueError("odd")
        return real(scorer, headlines, bodies, settings)

    monkeypatch.setattr(module, "explain", explain)
    result, found = tried(conf, f"{BAD}\n{GOOD}\n".encode(), tmp_path / "texts.jsonl")
    assert result.exit_code == 0 and found[0]["score"] > 0.5 and found[0]["words"] == []
    assert found[0]["error"] == "not explained: ValueError: odd"
    assert found[1]["words"] and "error" not in found[1]
