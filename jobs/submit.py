"""The file to hand to spark-submit: `spark-submit [options] jobs/submit.py COMMAND …` is `reviewrisk COMMAND …`."""

import sys
from pathlib import Path

# spark-submit puts this file's folder first on the path, where jobs/*.py would shadow other packages' modules. Where
# the code runs from a checkout its parent is the entry wanted; where reviewrisk is installed, neither is needed.
here = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
if (here / "cli" / "main.py").exists() and (here.parent / "model").is_dir():
    sys.path.insert(0, str(here.parent))

if __name__ == "__main__":
    from jobs.cli.main import main

    main()
