"""Mutation tests: runs mutmut and prints, in Markdown, a table of the modules and the mutants that no test notices.

python benchmarks/mutants.py                    # what has no result yet, from where the last run stopped
python benchmarks/mutants.py "model.text*"      # the mutants of these names again
python benchmarks/mutants.py --spark --sample 40 "jobs.*"   # some of each module, with the tests that need Spark
python benchmarks/mutants.py --table            # only the table of the results that are there
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from mutmut.stats import status_by_exit_code

MUTANTS = Path("mutants")
WITH_SPARK = "REVIEWRISK_MUTANTS_WITH_SPARK"  # read by tests/support/mutants.py
LOG = MUTANTS / "run.log"
COLUMNS = ("module", "mutants", "killed", "timed out", "survived", "share killed")


def run(names: list[str], children: int, spark: bool) -> None:
    """Let mutmut test these mutants; its output, a spinner, goes to a file."""
    children = 1 if spark else children  # all share one connection to the JVM
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({WITH_SPARK: "yes"} if spark else {})
    MUTANTS.mkdir(exist_ok=True)
    program = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(children), *names]
    print(f"mutmut runs, for hours where all mutants are new; its own lines go to {LOG}", flush=True)
    with LOG.open("w") as log:
        code = subprocess.run(program, stdout=log, stderr=log, env=environment).returncode
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


def sample(found: dict[str, dict[str, str]], patterns: list[str], size: int) -> dict[str, str]:
    """{mutant: what became of it so far}: of each module `size` mutants, drawn at random, of those that a pattern
    names.
    """
    if not found:
        sys.exit("there are no mutants yet: start `make mutants` and stop it once its log says `Running clean tests`")
    drawn = {}
    for statuses in found.values():
        named = [name for name in statuses if any(fnmatch(name, pattern) for pattern in patterns)]
        shuffled = sorted(named, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        drawn |= {name: statuses[name] for name in shuffled[:size]}
    return drawn


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
    parser.add_argument("--spark", action="store_true", help="with the tests that need Spark, one mutant at a time")
    parser.add_argument("--sample", type=int, metavar="N", help="of each module N mutants, always the same ones")
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    names = arguments.names
    if arguments.sample:
        drawn = sample(results(), names or ["*"], arguments.sample)
        names = [name for name, status in drawn.items() if status != "killed"]
    if not arguments.table:
        run(names, arguments.children, arguments.spark)
    found = results()
    if arguments.sample:
        found = {
            module: {name: of for name, of in statuses.items() if name in drawn} for module, statuses in found.items()
        }
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
