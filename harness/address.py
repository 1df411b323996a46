"""MLflow's address: what of it may be seen and kept, and whether MLflow can serve it at all. Imports nothing heavy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

OPTION, VARIABLE = "--tracking-uri", "MLFLOW_TRACKING_URI"  # by which a user gives one; the second is MLflow's own
WITHHELD = "…"  # where a user name, a password or a token stood

_USERINFO = re.compile(r"(?<=://)[^\s'\"<>]*@")
_SECRET_KEY = r"[\w.-]*(?:user|pass|pwd|secret|token|key)[\w.-]*"
_QUERY = re.compile(rf"([?&]{_SECRET_KEY}=)[^&\s'\"<>#]+", re.IGNORECASE)
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_KINDS = "http://HOST:PORT or https://HOST of a server, sqlite:////PATH/mlflow.db, postgresql://, mysql://, mssql://"


def shown(address: str) -> str:
    """The address without what only the user may know of it: user name, password, tokens in its query."""
    before, at, place = address.rpartition("@")
    kind, mark, _ = before.partition("://")
    kept = f"{kind}{mark}{WITHHELD}@{place}" if mark else f"{WITHHELD}@{place}"
    return _QUERY.sub(rf"\1{WITHHELD}", kept if at else address)


def withhold(text: str, address: str = "") -> str:
    """A text with every address in it as `shown`.

    address: one whose user name and password are withheld where they stand alone, too, as in the errors of databases.
    """
    text = text.replace(address, shown(address)) if address else text
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", WITHHELD, text)
    return _QUERY.sub(rf"\1{WITHHELD}", _USERINFO.sub(f"{WITHHELD}@", text))


def command_shown(command: Sequence[str]) -> list[str]:
    """A command line as it may be kept."""
    given = ["", *command][: len(command)]
    return [
        shown(part) if before == OPTION or part.startswith(f"{OPTION}=") else withhold(part)
        for before, part in zip(given, command, strict=True)
    ]


def _secrets(address: str) -> Iterator[str]:
    """As written and as meant: user name and password, together and each, and tokens in the query."""
    userinfo = address.rpartition("@")[0]
    userinfo = userinfo.partition("://")[2] or userinfo
    query = parse_qsl(address.partition("?")[2])
    tokens = [value for name, value in query if re.fullmatch(_SECRET_KEY, name, re.IGNORECASE)]
    for secret in (userinfo, userinfo.partition(":")[0], userinfo.partition(":")[2], *tokens):
        yield from {secret, unquote(secret), quote(unquote(secret), safe="")} - {WITHHELD, ""}


def same_place(one: str, other: str) -> bool:
    """Whether two addresses differ at most in what is withheld of them."""
    bare = [shown(address).replace(f"{WITHHELD}@", "").rstrip("/") for address in (one, other)]
    return bare[0] == bare[1]


def absolute(address: str) -> str:
    """The address, from wherever it is read: SQLite's file by its whole path. A `file:` of SQLite's own stays."""
    file = address.removeprefix("sqlite:///")
    if file == address or file.startswith(("file:", ":memory:")) or not file:
        return address
    return f"sqlite:///{Path(file).absolute()}"


def unservable(address: str) -> str:
    """Why MLflow cannot serve it, up or down; empty where it can. Says nothing of what is withheld."""
    if why := _wrong(address):
        return f"MLflow cannot serve {shown(address)}: {why}"
    return ""


def _wrong(address: str) -> str:
    if WITHHELD in address:
        return f"{WITHHELD} stands for what is not kept, such as a user name and a password: write it out"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:  # whose message may hold a part of the password
        return "its host or its port cannot be read; in a password, / ? # and @ are written %2F %3F %23 and %40"
    if parts.scheme in ("http", "https"):
        return "" if host else "it names no host"
    if parts.scheme.partition("+")[0] in _DATABASES:
        return _wrong_database(address)
    if parts.scheme in ("", "file") and not address.startswith("databricks"):
        allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
        return "" if allowed else f"it is a folder, in which MLflow keeps runs no longer; take {_KINDS}"
    plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
    if parts.scheme in plugins or address.partition("://")[0] == "databricks":
        return ""
    return f"it is of no kind that MLflow knows; take {_KINDS}"


def _wrong_database(address: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
        url.get_dialect().import_dbapi()
    except ImportError as error:
        return f"the package {error.name} is not installed, by which it would be reached"
    except (ArgumentError, ValueError):
        return "it is no database's address; take sqlite:////PATH/mlflow.db, or postgresql://USER:PASSWORD@HOST/NAME"
    in_memory = url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")
    return "it names no file, and would be gone with the process" if in_memory else ""
