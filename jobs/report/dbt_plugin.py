"""What dbt-duckdb needs from us, so that a plain `dbt build` works offline: dbt/profiles.yml names this module as a
plugin.

DuckDB's `install delta` would fetch the extension from the network; here it is loaded from the wheel
duckdb-extension-delta.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError


def delta_extension() -> Path:
    """The file of DuckDB's Delta extension, from the wheel duckdb-extension-delta of DuckDB's own version."""
    install = f"pip install duckdb-extension-delta=={duckdb.__version__}"
    try:
        import duckdb_extension_delta
    except ImportError:
        raise DbtRuntimeError(
            f"dbt reads Delta tables through DuckDB's extension, which is not installed: {install}"
        ) from None
    folder = Path(duckdb_extension_delta.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    file = folder / "delta.duckdb_extension"
    if not file.is_file():
        raise DbtRuntimeError(
            f"The Delta extension that is installed is not that of DuckDB {duckdb.__version__}: {install}"
        )
    return file


class Plugin(BasePlugin):
    """Makes the warehouse's folder before DuckDB opens the file, and loads the Delta extension into it.

    Raises DbtRuntimeError, which dbt shows without a traceback, where there is nothing to read or nowhere to write.
    """

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:  # noqa: ARG002
        if creds.path == ":memory:":  # sqlfluff's dbt templater: it compiles and reads nothing
            return
        root = os.environ["REVIEWRISK_ROOT"]
        if not (Path(root) / "tables").is_dir():
            raise DbtRuntimeError(
                f"REVIEWRISK_ROOT is {root}, which is no local folder with tables: run `reviewrisk ingest` first, or"
                " check it."
            )
        if "://" in creds.path:
            raise DbtRuntimeError(
                f"dbt builds a local DuckDB file, and REVIEWRISK_WAREHOUSE is {creds.path}: set it to a local path."
            )
        Path(creds.path).parent.mkdir(parents=True, exist_ok=True)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        conn.load_extension(str(delta_extension()))
