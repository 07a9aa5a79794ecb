"""Where the data files that come with the code lie: dbt/, sql/ and conf/, in a checkout or beside an
installed wheel.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from model.errors import ReviewriskError

# A file or folder that each resource must hold: in an installed copy the folder `dbt` next to `jobs` is the package
# dbt-core, not our project.
_MARKERS = {"dbt": "dbt_project.yml", "sql": "checks", "conf": "demo.yml"}


def resource_folder(name: str) -> Path:
    """The folder "dbt", "sql" or "conf": the checkout's where the code runs from one, else the installed wheel's, under
    share/reviewrisk.
    """
    marker = _MARKERS[name]
    candidates = [
        Path(__file__).resolve().parents[1] / name,
        Path(sysconfig.get_path("data")) / "share" / "reviewrisk" / name,
    ]
    for folder in candidates:
        if (folder / marker).exists():
            return folder
    places = " or ".join(str(folder) for folder in candidates)
    raise ReviewriskError(
        f"The {name} files that come with reviewrisk are missing (looked for {marker} in {places}): install reviewrisk"
        " again."
    )
