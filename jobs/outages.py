"""What storage, network and Spark's workers refuse, as one sentence that repeats no secret."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from model.errors import LostRaceError, OutageError, ReviewriskError

# What the system says by number: what is wrong, and what to do.
_BY_NUMBER: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("no space is left", "make room"),
    errno.EDQUOT: ("the quota is used up", "make room"),
    errno.EFBIG: ("the file is too large there", "raise the limit on file sizes"),
    errno.EROFS: ("it is read-only", "make it writable"),
    errno.EACCES: ("permission is denied", "give this user access"),
    errno.EPERM: ("permission is denied", "give this user access"),
    errno.EIO: ("the disk reports an I/O error", "check the disk"),
    errno.EMFILE: ("too many files are open", "raise the limit on open files"),
    errno.ENFILE: ("too many files are open", "raise the limit on open files"),
    errno.ENAMETOOLONG: ("its path is too long", "choose a shorter one"),
    errno.ENOTDIR: ("a part of its path is not a folder", "choose another path"),
    errno.EISDIR: ("a folder is there instead of a file", "choose another path"),
}
# What the libraries that reach s3 say in words.
_BY_TEXT: tuple[tuple[str, type[ReviewriskError], tuple[str, str]], ...] = (
    ("nosuchbucket", ReviewriskError, ("the bucket does not exist", "create it or name another in paths.root")),
    (
        "invalidaccesskeyid|signaturedoesnotmatch|invalidtoken|expiredtoken|authorizationheadermalformed",
        ReviewriskError,
        ("the credentials are refused", "correct the environment variables that `storage` names"),
    ),
    (
        r"169\.254\.|nocredentials|credentialsprovider",
        ReviewriskError,
        ("no credentials were found", "set the environment variables that `storage` names"),
    ),
    ("accessdenied|403forbidden", OutageError, ("access is denied", "give these credentials access")),
    (
        "slowdown|serviceunavailable|internal(server)?error|badgateway",
        OutageError,
        ("the service is not available", "wait a while"),
    ),
    (
        "networkconnection|dnserror|connecterror|connectionrefused|errorsendingrequest|timedout|requesttimeout",
        OutageError,
        ("it does not answer", "check the network and storage.endpoint_url"),
    ),
)
_SECRET_NAMES = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)
# MachineFaultError is an OutageError of model.scoring, which this module need not load.
_OWN = {each.__name__: each for each in (ReviewriskError, LostRaceError, OutageError)} | {
    "MachineFaultError": OutageError
}
_WORKER_DIED = "Python worker exited unexpectedly"
_OWN_IN_TRACE = re.compile(rf"^(?:\w+\.)*({'|'.join(_OWN)}): (.*?)(?=\n\s*\n|\n\s+at |\Z)", re.MULTILINE | re.DOTALL)


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without passwords in addresses and without the values of environment variables named like secrets."""
    hidden = {value for name, value in environment.items() if _SECRET_NAMES.search(name) and len(value) >= 6}
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, "***")
    return re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)


def is_outage(error: OSError) -> bool:
    """Whether the system refused something, and it is no defect of ours such as a path that was never made."""
    return error.errno in _BY_NUMBER


def outage(error: Exception, place: str) -> ReviewriskError:
    """The sentence for what storage said of `place`: an OutageError, or a ReviewriskError where waiting is no help."""
    number = _number(error)
    if number is not None:
        kind: type[ReviewriskError] = OutageError
        wrong, remedy = _BY_NUMBER.get(number, (os.strerror(number).lower(), "correct that"))
    else:
        kind, (wrong, remedy) = _in_words(str(error))
    named = getattr(error, "filename", None)
    where = place if not isinstance(named, str) or named in place else f"{place}: {named}"
    return kind(redacted(f"{where} cannot be used ({wrong}): {remedy}, then run the command again."))


def _number(error: Exception) -> int | None:
    """The errno of an error, or the one that a library wrote into its text, as a number or in the system's words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error).lower()
    found = re.search(r"(?:os error|\[errno) (\d+)", text)
    in_words = (number for number in _BY_NUMBER if os.strerror(number).lower() in text)
    number = int(found[1]) if found else next(in_words, None)
    network = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
    return None if number in network else number


def _in_words(text: str) -> tuple[type[ReviewriskError], tuple[str, str]]:
    plain = re.sub(r"[\s_-]", "", text.lower())
    for pattern, kind, words in _BY_TEXT:
        if re.search(pattern, plain):
            return kind, words
    return OutageError, (f"storage says: {' '.join(redacted(text).split())[:200]}", "correct that")


@contextmanager
def storage_errors(place: str, *others: type[Exception]) -> Iterator[None]:
    """Within it, what the system or an object store refuses is one sentence that names `place`.

    `others`: the classes, beside OSError, in which a library tells of it.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, *others)):
            raise
        raise outage(error, place) from None


@contextmanager
def worker_errors(place: str) -> Iterator[None]:
    """Within it, an error of ours that a Spark worker raised comes back as itself; a full disk and a worker that died
    are a sentence each.
    """
    try:
        yield
    except ReviewriskError:
        raise
    except Exception as error:
        own = error_in_trace(str(error))
        if own is None and "No space left on device" in str(error):
            own = outage(OSError(errno.ENOSPC, ""), place)
        if own is None and _WORKER_DIED in str(error):
            own = OutageError(
                "A Python worker of Spark died, probably because memory ran out: lower the tasks at once"
                " (spark.master) or add memory, then run the command again."
            )
        if own is None:
            raise
        raise own from None


def error_in_trace(trace: str) -> ReviewriskError | None:
    """The last error of ours that a traceback ends in, None where it ends in none."""
    found = _OWN_IN_TRACE.findall(trace)
    return _OWN[found[-1][0]](" ".join(found[-1][1].split())) if found else None
