"""The command line as a user meets it, in this process."""

from __future__ import annotations

from pathlib import Path

import yaml
from click.testing import CliRunner, Result

from jobs.cli.main import main
from jobs.config import Config


def run(*arguments: object) -> Result:
    """What came of `reviewrisk` with these arguments."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def written(config: Config, path: Path) -> Path:
    """The path, with the config in it."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path
