"""Every environment variable: name, type, default, reason; an unknown BACKLOG_ name stops the start."""

import difflib
import getpass
import hashlib
import os
import re
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from platformdirs import user_runtime_path
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from backlog_worker.domain import masking
from backlog_worker.domain.errors import InvalidInputError, NotFoundError
from backlog_worker.domain.forms import SHORTEST
from backlog_worker.domain.masking import masked
from backlog_worker.domain.wire import fault_in_text
from backlog_worker.integrations import secrets

PREFIX = "BACKLOG_"
ENV = r"^[a-z][a-z0-9_-]{0,31}$"  # a name of folders and queues: no dot, no slash
SOCKET_BYTES_MAX = 100  # a unix socket's path ends at 107 bytes
# Names that go on: of tests, and of people and systems that are notified, such as BACKLOG_NOTIFY_ONCALL.
FREE = ("BACKLOG_TEST_", "BACKLOG_NOTIFY_")
# What jobs find in their environment; a command line that a job starts must not trip over it.
FOR_JOBS = frozenset({"CONTEXT", "OUTPUT", "PROMPT", "WORKSPACE", "ENTRY_ID", "RUN_ID"})


# The schemes of databases that are served, with the backend that each means where none is named.
_SERVED = {
    "postgres": "auto",
    "postgresql": "auto",
    "postgresql+psycopg": "auto",
    "sqlite": "sqlite",
    "jsonl": "jsonl",
    "memory": "memory",
}
_SECRET_NAMES = ("BACKLOG_BROKER_URL", "BACKLOG_TOKEN", "BACKLOG_TOKEN_PEPPER")
_DATABASE_NAMES = ("BACKLOG_DATABASE_URL", "BACKLOG_POSTGRES_DSN")
_DATABASES = "postgresql://user@host/name, or sqlite:////absolute/path.db; unset: SQLite in the project's folder"
_BROKERS = ("redis", "rediss", "redis+socket", "valkey", "valkeys", "valkey+unix", "amqp", "amqps", "memory")


class Settings(BaseSettings):
    """The settings of one process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True)

    dir: Path = Field(default=Path(".backlog-worker"), description="The project's folder: policy, pipelines, state.")
    env: str = Field(default="prod", pattern=ENV, description="The backlog to work on.")
    database_url: str = Field(
        default="",
        validation_alias=AliasChoices("BACKLOG_DATABASE_URL", "BACKLOG_POSTGRES_DSN", "POSTGRES_DSN", "database_url"),
        description="postgresql://... or sqlite:///path; unset: SQLite in the project's state folder."
        " BACKLOG_POSTGRES_DSN and POSTGRES_DSN are the same under the names of older runbooks.",
    )
    backend: Literal["", "auto", "postgres", "sqlite", "jsonl", "memory"] = Field(
        default="", description="Where the backlog is kept; unset: auto with a PostgreSQL address, else sqlite."
    )
    retry_seconds: float = Field(
        default=300.0, gt=0, description="How long intake waits before it asks a database again that was away."
    )
    token_pepper: SecretStr = Field(
        default=SecretStr(""), description="A secret that keys the hashes of tokens; unset: a file in the state folder."
    )
    url: str = Field(default="", description="A server of ours; commands that can go over it do.")
    token: SecretStr = Field(default=SecretStr(""), description="The token with which commands go over BACKLOG_URL.")
    broker_url: str = Field(
        default="", description="redis://, rediss://, redis+socket://, valkey:// or amqp://; unset: the broker of `up`."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="What is logged.")
    log_json: bool | None = Field(
        default=None, description="JSON lines; unset: JSON where standard error is no terminal."
    )
    ci_install: str = Field(
        default="", max_length=1000, description="The line that installs backlog-worker in exported CI files."
    )
    actor: str = Field(default="", description="Who you are, in the history; unset: your login name.")
    openai_url: str = Field(default="", description="An OpenAI-compatible endpoint for agents that name none.")
    secrets_dir: Path = Field(default=Path("/run/secrets"), description="A folder with a file for each secret.")
    secrets_command: str = Field(
        default="", description="A program that prints the secret named by its argument; asked last."
    )
    isolation: Literal["", "namespaces", "subreaper", "group"] = Field(
        default="", description="What keeps the children of jobs apart; unset: the best that works on this machine."
    )
    stage_seconds_max: int = Field(
        default=7200, ge=1, description="Celery's hard limit frees a slot that hangs 120 s longer than this."
    )

    def elsewhere(self, env: str) -> "Settings":
        """Return the same settings for another environment; raises InvalidInputError for what is no name of one."""
        if not re.fullmatch(ENV, env):
            message = f"{env!r} is no name of an environment: small letters, digits, - and _, at most 32"
            raise InvalidInputError(message)
        return self.model_copy(update={"env": env})

    @property
    def folder(self) -> Path:
        """Return the project's folder, absolute: where none is named, the nearest one here or above, as git looks."""
        if "dir" in self.model_fields_set:
            return self.dir.absolute()
        above = (self.here, *(each / self.dir for each in Path.cwd().parents))
        return next((each for each in above if each.is_dir()), self.here)

    @property
    def here(self) -> Path:
        """Return the folder of a project that begins in this directory."""
        return self.dir.absolute()

    def must_have_begun(self) -> None:
        """Make sure that there is a project, unless the backlog is kept elsewhere; raises NotFoundError."""
        elsewhere = self.keeps in {"auto", "postgres", "memory"} or bool(self.database_url)
        if elsewhere or any((self.folder / name).exists() for name in ("policy.yml", "policy.yaml", "state")):
            return
        where = f"in {self.folder}" if "dir" in self.model_fields_set else f"in {self.here.parent} or above"
        message = f"there is no project {where}"
        raise NotFoundError(message, hint="backlog-worker init makes one here; --dir names another")

    @property
    def keeps(self) -> str:
        """Return the backend: auto, postgres, sqlite, jsonl or memory."""
        return self.backend or _SERVED.get(_scheme(self.database_url), "sqlite")

    @property
    def database(self) -> str:
        """Return the address of the database; raises InvalidInputError for one that is not served or does not fit."""
        embedded = {
            "sqlite": f"sqlite:///{self.folder / 'state' / 'backlog.db'}",
            "jsonl": f"jsonl://{self.folder / 'state' / 'backlog'}",
            "memory": "memory://",
        }
        wanted = "postgresql" if self.keeps in {"auto", "postgres"} else self.keeps
        if not self.database_url and wanted in embedded:
            return embedded[wanted]
        if not self.database_url:
            message = f"BACKLOG_BACKEND={self.keeps} needs a PostgreSQL address, BACKLOG_DATABASE_URL has none"
            raise InvalidInputError(message, hint="BACKLOG_DATABASE_URL=postgresql://user@host/name")
        scheme = _scheme(self.database_url)
        if scheme not in _SERVED:
            message = f"BACKLOG_DATABASE_URL begins with {scheme!r}, which is not a database that we can use"
            raise InvalidInputError(message, hint=_DATABASES)
        if wanted in {"jsonl", "memory"} and scheme != wanted:
            return embedded[wanted]  # named for this command; the address is that of the fleet
        if {"auto": "postgresql"}.get(_SERVED[scheme], scheme.partition("+")[0]) != wanted:
            message = f"BACKLOG_BACKEND={self.keeps} does not fit BACKLOG_DATABASE_URL={masked(self.database_url)}"
            raise InvalidInputError(message, hint="set only one of them, or the two alike")
        rest = self.database_url[len(scheme) :]
        return f"{'postgresql' if scheme == 'postgres' else scheme}{rest}"

    @property
    def journal(self) -> Path:
        """Return the folder of the journal that takes in work while PostgreSQL is away."""
        return self.folder / "state" / "journal" / self.env

    @property
    def reports(self) -> Path:
        """Return the folder of the environment's digests, seals and merge reports."""
        return self.folder / "reports" / self.env

    @property
    def own(self) -> Path:
        """Return the state folder of the environment; the database alone is kept beside it, for all."""
        return self.folder / "state" / "env" / self.env

    @property
    def broker(self) -> str:
        """Return the address of the broker in kombu's words."""
        url = self.broker_url or f"redis+socket://{self.socket}"
        if _scheme(url) not in _BROKERS:
            message = f"BACKLOG_BROKER_URL begins with {_scheme(url)!r}, which is not a broker that we can use"
            raise InvalidInputError(message, hint=f"one of {', '.join(f'{each}://' for each in _BROKERS)}")
        for theirs, ours in (
            ("valkey+unix://", "redis+socket://"),
            ("valkeys://", "rediss://"),
            ("valkey://", "redis://"),
        ):
            if url.startswith(theirs):
                return ours + url.removeprefix(theirs)
        return url

    @property
    def socket(self) -> Path:
        """Return the socket of the embedded broker; a deep project gets one in a short folder."""
        path = self.own / "broker.sock"
        if len(os.fsencode(path)) <= SOCKET_BYTES_MAX:
            return path
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that XDG_RUNTIME_DIR is not set: another folder is taken
            return user_runtime_path("backlog-worker") / f"{name}.sock"

    @property
    def who(self) -> str:
        """Return the name under which a person's acts stand in the history."""
        if self.actor:
            return self.actor
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return "unknown"

    @property
    def host(self) -> str:
        """Return the name of this machine."""
        return socket.gethostname()


def load() -> Settings:
    """Read the settings from the environment; raises InvalidInputError that names every wrong one."""
    known = {f"{PREFIX}{name.upper()}" for name in (*Settings.model_fields, "postgres_dsn", *FOR_JOBS)}
    told = secrets.environment()
    for name in sorted(told):
        if name.startswith(PREFIX) and name not in known and not name.startswith(FREE):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            message = f"{name} is not a setting"
            raise InvalidInputError(message, hint=hint)
    _check_texts(told)
    _agreeing({name: told[name] for name in _DATABASE_NAMES if told.get(name)})
    try:
        made = Settings(**_withdrawn(told))
    except ValidationError as error:
        wrong = "; ".join(f"{PREFIX}{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors())
        raise InvalidInputError(wrong) from None
    if made.backend in {"sqlite", "jsonl", "memory"} and not any(map(told.get, _DATABASE_NAMES)):
        made = made.model_copy(update={"database_url": ""})  # POSTGRES_DSN may be meant for other programs
    _keep_secrets(made)
    made.database, made.broker  # noqa: B018 - an address that is not served stops the start
    for name in ("database_url", "broker_url", "url", "openai_url"):
        _check_address(f"{PREFIX}{name.upper()}", getattr(made, name))
    return made


def _check_texts(told: Mapping[str, str]) -> None:
    """Refuse a value that is no text: it could neither be stored nor printed."""
    for name, value in told.items():
        if name.startswith(PREFIX) and (fault := fault_in_text(name + value)):
            message = f"{ascii(name)[1:-1]} is {fault}"
            raise InvalidInputError(message, hint="write it in UTF-8")


def _check_address(name: str, address: str) -> None:
    """Refuse an address whose host or port cannot be one; its words are not repeated, for it may hold a password."""
    if not address:
        return
    try:
        fits = "://" in address and (urlsplit(address).port or 1) > 0
    except ValueError:
        fits = False
    if not fits:
        message = f"{name} is no address: {_scheme(address)[:20]!r}, then //, a host, and a port from 1 to 65535"
        raise InvalidInputError(message, hint="a symbol in a password is written in percents, such as %40 for @")


def _agreeing(given: Mapping[str, str]) -> None:
    """Refuse two names of the database that say different things."""
    if len(set(given.values())) > 1:
        message = f"{' and '.join(given)} name different databases"
        raise InvalidInputError(message, hint="unset one of them; they are two names of the same setting")


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def withdraw() -> None:
    """Take the secrets of the settings out of the environment of a process that does jobs; `load` still knows them."""
    told = {name for name in os.environ if name.startswith(f"{PREFIX}NOTIFY_")}
    secrets.withdraw({*_DATABASE_NAMES, *_SECRET_NAMES, *told})


def _withdrawn(told: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that were taken out of the environment, by their fields."""
    gone = {name: told[name] for name in (*_DATABASE_NAMES, *_SECRET_NAMES) if name in told and name not in os.environ}
    fields = dict.fromkeys(_DATABASE_NAMES, "database_url")
    return {fields.get(name, name.removeprefix(PREFIX).lower()): value for name, value in gone.items()}


def _keep_secrets(given: Settings) -> None:
    """Let nothing print the secrets of these settings, nor those of the addresses in the environment."""
    for name, secret in (("TOKEN", given.token), ("TOKEN_PEPPER", given.token_pepper)):
        value = secret.get_secret_value()
        if value and len(value.strip()) < SHORTEST:
            message = f"{PREFIX}{name} has less than {SHORTEST} characters and could not be masked"
            raise InvalidInputError(message, hint="make it longer")
        masking.keep([value])
    told = secrets.environment()
    names = (name for name in told if name.startswith(f"{PREFIX}NOTIFY_") or name.lower().endswith("_proxy"))
    for address in (given.database_url, given.broker_url, given.openai_url, *(told[name] for name in names)):
        masking.keep_address(address)
