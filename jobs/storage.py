"""Where a root lies: a local folder or s3://bucket/prefix, and how each library reaches it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import field_validator

from jobs.outages import redacted, storage_errors
from model.errors import ReviewriskError
from model.settings import Settings

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# What delta-rs, Spark or dbt-duckdb takes for something else than a sign of a folder's name.
_NO_SIGN_OF_A_FOLDER = re.compile(r"[#?%\\\x00-\x1f\x7f\ud800-\udfff]")
_S3_ROOT = re.compile(r"s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[\w.=+,~!()'-]+)*", re.ASCII)
# A store that does not answer is given up within seconds: object_store would try for three minutes.
_CLIENT = {"connect_timeout": "5s", "timeout": "60s", "max_retries": "4", "retry_timeout": "30s"}


class StorageSettings(Settings):
    """How an s3 root is reached. Secrets stand in environment variables; the config has only their names."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id_env: str = "AWS_ACCESS_KEY_ID"
    secret_access_key_env: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 (a name, not a secret)
    session_token_env: str = "AWS_SESSION_TOKEN"  # noqa: S105

    @field_validator("access_key_id_env", "secret_access_key_env", "session_token_env")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)+", value):
            raise ValueError(
                "it must be the name of an environment variable with a _ in it, such as AWS_ACCESS_KEY_ID, and never"
                " the secret itself"
            )
        return value

    @field_validator("endpoint_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
            raise ValueError("it must be http://host:port or https://host, without user or password")
        return value


@dataclass(frozen=True)
class Root:
    """A root's address and the means to reach it. Holds names of environment variables, never a secret itself, so it
    may be shipped.
    """

    uri: str
    storage: StorageSettings

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def local_path(self) -> Path:
        """The root as a local folder; an error where it is not one."""
        if not self.is_local:
            raise ReviewriskError(f"{self.uri} is not a local folder, and this step needs one.")
        return Path(self.uri)

    def join(self, *parts: str) -> str:
        """The address of something below the root."""
        return "/".join((self.uri.rstrip("/"), *parts))

    def storage_options(self, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """delta-rs options; empty for a local root. Secrets are read here, from the environment variables that the
        config names.
        """
        if self.is_local:
            return {}
        options = {"aws_conditional_put": "etag", **_CLIENT}
        if self.storage.endpoint_url:
            options["aws_endpoint_url"] = self.storage.endpoint_url
            options["aws_allow_http"] = str(self.storage.endpoint_url.startswith("http://")).lower()
        if self.storage.region:
            options["aws_region"] = self.storage.region
        options.update(self._secrets(environment, "aws_access_key_id", "aws_secret_access_key", "aws_session_token"))
        return options

    def filesystem(self) -> FileSystem:
        """A pyarrow file system; paths on it come from `path_on_filesystem`."""
        from pyarrow import fs

        if self.is_local:
            return fs.LocalFileSystem()
        endpoint = urlsplit(self.storage.endpoint_url or "")
        if endpoint.netloc:
            # Stores that only resemble S3 keep the checksum that AWS's client appends by default as part of the file.
            os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        return fs.S3FileSystem(
            endpoint_override=endpoint.netloc or None,
            scheme=endpoint.scheme or None,
            region=self.storage.region,
            connect_timeout=5,
            request_timeout=60,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=4),
            **self._secrets(os.environ, "access_key", "secret_key", "session_token"),
        )

    def path_on_filesystem(self, address: str) -> str:
        """`address` (from `join`) as `filesystem()` wants it: without the scheme."""
        return address.split("://", 1)[1] if "://" in address else address

    def upload_folder(self, folder: Path, *parts: str) -> None:
        """Copy a local folder below the root. Files of an earlier copy are replaced."""
        from pyarrow import fs

        target = self.join(*parts)
        if self.is_local:
            if Path(target).resolve() != folder.resolve():
                with storage_errors(target):
                    shutil.copytree(folder, target, dirs_exist_ok=True)
            return
        with storage_errors(self.uri):
            fs.copy_files(str(folder), self.path_on_filesystem(target), destination_filesystem=self.filesystem())

    def local_copy(self, target: Path, *parts: str) -> Path:
        """A local folder with the content of a folder below the root: the folder itself for a local root, else
        `target`.

        A copy that stands at `target` is taken as it is, so its name must tell what is in it; several processes may
        make it at once.
        """
        from pyarrow import fs

        source = self.join(*parts)
        if self.is_local:
            return Path(source)
        if target.exists():
            return target
        with storage_errors(f"{source} or its copy {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copy-"))
            fs.copy_files(self.path_on_filesystem(source), str(draft), source_filesystem=self.filesystem())
        try:
            return draft.rename(target)
        except OSError:  # another process was first
            if not target.exists():
                raise
            shutil.rmtree(draft, ignore_errors=True)
            return target

    def _secrets(self, environment: Mapping[str, str], key_id: str, secret: str, token: str) -> dict[str, str]:
        names = {
            key_id: self.storage.access_key_id_env,
            secret: self.storage.secret_access_key_env,
            token: self.storage.session_token_env,
        }
        found = {option: environment[name] for option, name in names.items() if environment.get(name)}
        missing = [names[option] for option in (key_id, secret) if option not in found]
        # With no endpoint_url it is AWS itself, where the machine's role may stand in for both.
        if missing and (found or self.storage.endpoint_url):
            raise ReviewriskError(
                f"{self.uri} needs the environment variable {' and '.join(missing)}, which is not set: export it, here"
                " and on Spark's workers."
            )
        return found


def literal_path(path: str) -> str:
    """A local path as Spark is to read it: characters that it would take for a pattern are escaped."""
    return re.sub(r"([\\\[\]{}*?,])", r"\\\1", path)


def parse_root(text: str, storage: StorageSettings) -> Root:
    """A root from a config's or REVIEWRISK_ROOT's text; what some step of the work could not use is refused."""
    if not text.strip():
        raise ReviewriskError(
            "paths.root is empty: name a local folder or s3://bucket/prefix, in the config or in REVIEWRISK_ROOT."
        )
    scheme, found, rest = text.partition("://")
    if not found:
        return Root(_root_folder(text), storage)
    if scheme == "file" and rest.removeprefix("localhost").startswith("/"):
        return Root(_root_folder(unquote(rest.removeprefix("localhost"))), storage)
    if "@" in text:
        raise ReviewriskError(
            f"paths.root is {redacted(text)!r}: an address holds no password; put the credentials into the environment"
            " variables that `storage` names."
        )
    if scheme != "s3":
        raise ReviewriskError(
            f"paths.root is {text!r}: {scheme}:// is not supported; use a local folder or s3://bucket/prefix."
        )
    if not rest.split("/")[0]:
        raise ReviewriskError(f"paths.root is {text!r}: an s3 root names a bucket, as in s3://bucket/prefix.")
    if not _S3_ROOT.fullmatch(text.rstrip("/")):
        raise ReviewriskError(
            f"paths.root is {text!r}: write an s3 root as s3://bucket/prefix, in unaccented letters, digits and"
            " signs such as - _ . and = alone."
        )
    return Root(text.rstrip("/"), storage)


def _root_folder(text: str) -> str:
    folder = usable_path("paths.root", text)
    with storage_errors(str(folder)):
        if folder.is_file():
            raise ReviewriskError(f"paths.root is {str(folder)!r}, which is a file: name a folder.")
    return str(folder)


def usable_path(setting: str, text: str) -> Path:
    """The folder or file that a setting names, absolute; refused where a library would read its name otherwise."""
    try:
        path = Path(text).expanduser().resolve()
    except (RuntimeError, ValueError, OSError):
        raise ReviewriskError(f"{setting} is {text!r}, which is no path of this machine: name another.") from None
    found = _NO_SIGN_OF_A_FOLDER.search(str(path))
    sign = found[0] if found else None
    # A colon alone is fine, but not in a pattern, which a path with one of the others is to Spark (`literal_path`).
    if ":" in str(path) and literal_path(str(path)) != str(path):
        sign = sign or ":"
    if sign:
        raise ReviewriskError(
            f"{setting} is {str(path)!r}, but {sign!r} has a special meaning for Delta, Spark or dbt: choose a path"
            " without # ? % \\ or control characters, and without a colon if it also has any of [ ] { } * or a comma."
        )
    return path
