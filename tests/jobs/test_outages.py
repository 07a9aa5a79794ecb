"""What storage, network and workers say becomes one sentence, and no secret of the environment is in it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from jobs.outages import error_in_trace, outage, redacted, storage_errors, worker_errors
from model.errors import LostRaceError, OutageError, ReviewriskError


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/root/a.parquet"),
            OutageError,
            "the root: /root/a.parquet cannot be used (no space is left): make room, then run the command again.",
        ),
        (
            OSError("Generic LocalFileSystem error ↳ Read-only file system (os error 30)"),
            OutageError,
            "it is read-only",
        ),
        (
            OSError("[Errno 27] Error writing bytes. Detail: [errno 27] File too large"),
            OutageError,
            "the file is too large",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), OutageError, "permission is denied"),
        (OSError(errno.ESTALE, "Stale file handle"), OutageError, "stale file handle"),
        (OSError("HTTP error ↳ tcp connect ↳ Connection refused (os error 111)"), OutageError, "does not answer"),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"), OutageError, "not answer"),
        (OSError("failed to lookup address: dns error ↳ Name not known"), OutageError, "it does not answer"),
        (OSError("<Error><Code>NoSuchBucket</Code>"), ReviewriskError, "the bucket does not exist"),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject"), ReviewriskError, "the bucket does not exist"),
        (OSError("403 Forbidden <Code>SignatureDoesNotMatch</Code>"), ReviewriskError, "the credentials are refused"),
        (OSError("AWS Error ACCESS_DENIED during PutObject"), OutageError, "access is denied"),
        (OSError("Error performing PUT http://169.254.169.254/latest"), ReviewriskError, "no credentials were found"),
        (OSError("503 Service Unavailable, retry_timeout 30s"), OutageError, "the service is not available"),
        (ValueError("IO Error: Could not write file: No space left on device"), OutageError, "no space is left"),
        (OSError("the moon is full"), OutageError, "storage says: the moon is full"),
    ],
)
def test_a_refusal_is_a_sentence_of_its_kind(error: Exception, kind: type[Exception], sentence: str) -> None:
    found = outage(error, "the root")
    assert type(found) is kind and sentence in str(found) and "\n" not in str(found)


def test_no_secret_of_the_environment_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", "hunter22")
    monkeypatch.setenv("SHOP_KEY", "a")  # too short to be one: text would be full of stars
    found = str(outage(OSError("refused hunter22 for http://me:pass@host/a"), "s3://bucket"))
    assert "storage says: refused *** for http://***@host/a" in found
    assert redacted("a hunter22b", {}) == "a hunter22b"
    assert redacted("s3://me:pa/ss@bucket/x and a@b", {}) == "s3://***@bucket/x and a@b"


def test_only_what_the_system_refuses_is_translated() -> None:
    with pytest.raises(ZeroDivisionError), storage_errors("the root"):
        raise ZeroDivisionError
    with pytest.raises(OutageError, match="the root cannot be used"), storage_errors("the root"):
        raise OSError(errno.EROFS, "")


TRACE = """An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "a.py", line 1, in write
model.errors.ReviewriskError: not this one

During handling of the above exception, another exception occurred:

  File "a.py", line 2, in write
    raise OutageError(
model.errors.{name}: The table reviews cannot be used (no space is left): make room.
{end}"""


@pytest.mark.parametrize("end", ["", "\n\nJVM stacktrace:\njava.lang.Oh", "\n\tat org.apache.spark.Task.run"])
@pytest.mark.parametrize("kind", [OutageError, LostRaceError, ReviewriskError])
def test_an_error_of_ours_in_a_worker_comes_back_as_itself(kind: type[Exception], end: str) -> None:
    found = error_in_trace(TRACE.format(name=kind.__name__, end=end))
    assert type(found) is kind
    assert str(found) == "The table reviews cannot be used (no space is left): make room."
    assert error_in_trace("ValueError: model.errors") is None


def test_a_workers_error_ends_the_step_as_it_was_raised(spark: Any) -> None:
    def refuse(batches: Any) -> Any:
        for _ in batches:
            raise OutageError("The disk of a worker is full: make room.")
        yield from ()

    with pytest.raises(OutageError, match=r"^The disk of a worker is full: make room\.$"), worker_errors("the root"):
        spark.range(3).mapInArrow(refuse, "id long").collect()
    with pytest.raises(OutageError, match=r"the root cannot be used \(no space is left\)"), worker_errors("the root"):
        raise RuntimeError("java.io.IOException: No space left on device")
    with pytest.raises(KeyError), worker_errors("the root"):
        raise KeyError
