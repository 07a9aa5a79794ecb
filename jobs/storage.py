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
from urllib.parse import urlsplit

from model.errors import ReviewriskError
from model.settings import Settings

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


class StorageSettings(Settings):
    """How an s3 root is reached. Secrets stand in environment variables; the config has only their names."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id_env: str = "AWS_ACCESS_KEY_ID"
    secret_access_key_env: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 (a name, not a secret)
    session_token_env: str = "AWS_SESSION_TOKEN"  # noqa: S105


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
        options = {"aws_conditional_put": "etag"}
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
                shutil.copytree(folder, target, dirs_exist_ok=True)
            return
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
        if found and missing:
            raise ReviewriskError(f"{self.uri} needs the environment variable {missing[0]}, which is not set.")
        return found


def literal_path(path: str) -> str:
    """A local path as Spark is to read it: characters that it would take for a pattern are escaped."""
    return re.sub(r"([\\\[\]{}*?,])", r"\\\1", path)


def parse_root(text: str, storage: StorageSettings) -> Root:
    """A root from a config's or REVIEWRISK_ROOT's text; schemes that are not tested are refused by name."""
    scheme = text.split("://", 1)[0] if "://" in text else ""
    if scheme == "file":
        text = urlsplit(text).path
    elif scheme == "s3":
        if not urlsplit(text).netloc:
            raise ReviewriskError(f"paths.root is {text!r}: an s3 root names a bucket, as in s3://bucket/prefix.")
        return Root(text.rstrip("/"), storage)
    elif scheme:
        raise ReviewriskError(
            f"paths.root is {text!r}: {scheme}:// is not supported; use a local folder or s3://bucket/prefix."
        )
    if not text.strip():
        raise ReviewriskError(
            "paths.root is empty: name a local folder or s3://bucket/prefix, in the config or in REVIEWRISK_ROOT."
        )
    return Root(str(Path(text).expanduser().resolve()), storage)
