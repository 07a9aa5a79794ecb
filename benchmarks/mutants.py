"""Mutation tests: runs mutmut and prints, in Markdown, a table of the modules and the mutants that no test notices.

python benchmarks/mutants.py                    # what has no result yet, from where the last run stopped
python benchmarks/mutants.py "model.text*"      # the mutants of these names again
python benchmarks/mutants.py --table            # only the table of the results that are there
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

MUTANTS = Path("mutants")
LOG = MUTANTS / "run.log"
COLUMNS = ("module", "mutants", "killed", "timed out", "survived", "share killed")


def run(names: list[str], children: int) -> None:
    """Let mutmut test these mutants; its output, a spinner, goes to a file."""
    MUTANTS.mkdir(exist_ok=True)
    program = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(children), *names]
    print(f"mutmut runs, for hours where all mutants are new; its own lines go to {LOG}", flush=True)
    with LOG.open("w") as log:
        code = subprocess.run(program, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode
    if code:
        sys.exit(f"mutmut ended with {code}; the end of {LOG} says why")


def results() -> dict[str, dict[str, str]]:
    """{module: {mutant: what became of it}} of the modules that have mutants."""
    found = {}
    for path in sorted(MUTANTS.glob("**/*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        if codes:
            found[str(path.relative_to(MUTANTS))[: -len(".meta")]] = {
                name: status_by_exit_code[code] for name, code in codes.items()
            }
    return found


def row(module: str, statuses: list[str]) -> str:
    """One line of the table. What no test calls has survived, and what was not run yet is left out."""
    count = Counter(statuses)
    mutants = len(statuses) - count["not checked"]
    survived = mutants - count["killed"] - count["timeout"]
    share = f"{count['killed'] / mutants:.1%}" if mutants else "–"
    return f"| {module} | {mutants:,} | {count['killed']:,} | {count['timeout']} | {survived} | {share} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the mutation tests and print their table.")
    parser.add_argument("names", nargs="*", help="wildcards of mutants; without them, all that have no result yet")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="mutants tested at once")
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        run(arguments.names, arguments.children)
    found = results()
    every = [status for statuses in found.values() for status in statuses.values()]
    print(f"\n| {' | '.join(COLUMNS)} |\n|---|{'---:|' * (len(COLUMNS) - 1)}")
    print("\n".join([*(row(f"`{module}`", list(of.values())) for module, of in found.items()), row("all", every)]))
    if waiting := every.count("not checked"):
        print(f"\n{waiting:,} mutants have no result yet.")
    print("\nNoticed by no test (`mutmut show NAME` shows one):\n")
    for statuses in found.values():
        for name, status in statuses.items():
            if status not in ("killed", "timeout", "not checked"):
                print(f"- {name}: {status}")


if __name__ == "__main__":
    main()
