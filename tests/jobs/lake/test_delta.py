"""Numbers that are given once and for ever, by runs beside each other too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from deltalake import DeltaTable

from jobs.config import Config
from jobs.lake import delta, tables
from tests.support.warehouse_rows import arrow_rows, source


def test_a_key_keeps_its_number_and_no_other_gets_it(config: Config) -> None:
    tables.create_tables(config.root)
    assert delta.take_numbers(config.root, "sources", ["b", "a"]) == {"b": 1, "a": 2}
    assert delta.take_numbers(config.root, "sources", ["c", "a"]) == {"a": 2, "c": 3}
    assert delta.take_numbers(config.root, "sources", ["d"], after=9) == {"d": 10}
    version = tables.current_version(config.root, "sources")
    assert delta.take_numbers(config.root, "sources", ["d", "b"]) == {"d": 10, "b": 1}
    assert tables.current_version(config.root, "sources") == version, "nothing new is no commit"
    assert tables.read_arrow(config.root, "sources").num_rows == 0


def test_numbers_outlive_the_log_s_checkpoint(config: Config) -> None:
    tables.create_tables(config.root)
    delta.take_numbers(config.root, "sources", ["a"])
    tables.replace_rows(config.root, "sources", "run", lambda _: arrow_rows("sources", [source()]))
    DeltaTable(delta.table_uri(config.root, "sources")).create_checkpoint()
    for commit in sorted((config.root.local_path / "tables" / "sources" / "_delta_log").glob("*.json"))[:-1]:
        commit.unlink()
    assert delta.take_numbers(config.root, "sources", ["b", "a"]) == {"a": 1, "b": 2}


def test_runs_at_once_get_different_numbers(config: Config) -> None:
    tables.create_tables(config.root)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda key: delta.take_numbers(config.root, "sources", [key])[key], map(str, range(24))))
    assert sorted(taken) == list(range(1, 25))


def test_rows_are_counted_out_of_the_log(config: Config) -> None:
    tables.create_tables(config.root)
    assert delta.rows_by_partition(config.root, "reviews") == []
