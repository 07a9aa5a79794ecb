"""A module's tests lie at its own path below this folder; tests of the project as a whole lie directly here."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
