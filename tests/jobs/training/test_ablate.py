from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from jobs.cli.main import main
from jobs.config import Config
from jobs.lake import tables
from jobs.training.ablate import command_line, run_ablate
from model.errors import ReviewriskError
from model.experiments.ablate.grid import Sweep
from tests.support.tiny_models import planted_reviews, tiny_encoder
from tests.support.trained_root import tiny_config
from tests.support.warehouse_rows import review, write_root

OPTIONS = [
    "--rank",
    "2",
    "--targets",
    "attention",
    "--layers",
    "all",
    "--learning-rate",
    "0.01",
    "--learning-rate",
    "0.001",
]
SIZES = ["--rows", "200", "--validation-rows", "100", "--rounds", "2", "--eta", "2"]


@pytest.fixture
def corpus(config: Config, tmp_path: Path) -> Config:
    """A root with planted reviews whose test rows cannot be read by anyone: their files hold no Parquet."""
    write_root(config.root.local_path, {"reviews": [review(**row) for row in planted_reviews().to_pylist()]})
    files = list(config.root.local_path.glob("tables/reviews/split=test/**/*.parquet"))
    assert files
    for path in files:
        path.write_bytes(bytes(path.stat().st_size))  # nobody may read this
    return tiny_config(config, tiny_encoder(tmp_path / "encoder"))


def test_the_command_prints_and_writes_its_page_without_reading_a_test_row(corpus: Config, tmp_path: Path) -> None:
    with pytest.raises(ReviewriskError, match=r"table reviews of .* is damaged"):
        tables.read_arrow(corpus.root, "reviews")
    conf, output = tmp_path / "conf.yml", tmp_path / "docs" / "page.md"
    conf.write_text(yaml.safe_dump(corpus.model_dump(mode="json")))
    arguments = ["ablate", "--conf", str(conf), *OPTIONS, *SIZES, "--seed", "5", "--output", str(output)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    page = output.read_text()
    assert page.strip() in result.output
    assert f"reviewrisk {' '.join([*arguments[:1], *OPTIONS, *SIZES])} --seed 5\n" in page, (
        "the command in the page makes the same sweep"
    )
    assert "round 1 of 2, setting 1 of 3: rank 4, all-linear, all layers, learning rate 0.01\n" in result.output
    for part in (
        "### Round 2 of 2",
        "### The winner",
        "### The frontier",
        "### The winner's lines for the config",
        "torch 2",
        "cores",
    ):
        assert part in page
    again = CliRunner().invoke(main, [*arguments, "--minutes", "0"])
    assert again.exit_code == 0 and output.read_text() == page, "all is kept, so no time is needed"
    assert list((corpus.scratch / "ablate").glob("*.json"))


def test_the_command_line_spells_every_option_out() -> None:
    assert (
        command_line(Sweep((4, 16), ("attention",), ("all", "0,1"), (2e-4,), 600, 200, 2, 4, 9))
        == "reviewrisk ablate --rank 4 --rank 16 --targets attention --layers all --layers 0,1 --learning-rate 0.0002 "
        "--rows 600 --validation-rows 200 --rounds 2 --eta 4 --seed 9"
    )


def test_a_root_without_rows_to_sweep_on_is_said_to_be_empty(config: Config, tmp_path: Path) -> None:
    rows = [review(**row) for row in planted_reviews(train=0, validation=0, test=40).to_pylist()]
    write_root(config.root.local_path, {"reviews": rows})
    with pytest.raises(ReviewriskError, match="no labelled reviews in train, validation: run `reviewrisk ingest`"):
        run_ablate(tiny_config(config, tmp_path), Sweep(), None, None, lambda _: None)


def test_a_sweep_of_one_category_reads_its_rows_alone(corpus: Config) -> None:
    sweep = Sweep((2,), ("attention",), ("all",), (0.01,), 200, 100, 2, 2, 5)
    every, furniture = (
        run_ablate(config, sweep, 0, None, lambda _: None)
        for config in (corpus, corpus.with_only("product_category=furniture"))
    )
    assert "* Training, validation and test: only reviews with product_category=furniture." in furniture
    rows = [
        int(re.search(r"into ([\d,]+) rows to train on", "\n".join(lines))[1].replace(",", ""))
        for lines in (every, furniture)
    ]  # type: ignore[index]
    assert 0 < rows[1] < rows[0]
    with pytest.raises(ReviewriskError, match="none has product_category=no such"):
        run_ablate(corpus.with_only("product_category=no such"), sweep, 0, None, lambda _: None)
