"""The settings file of ``pe-unified pacs``."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastjsonschema
import yaml

from pe_unified.archive.backoff import Backoff
from pe_unified.archive.rules import Rule
from pe_unified.errors import DataError

_SCHEMA = json.loads(files(__package__).joinpath("settings.schema.json").read_text("utf-8"))
_CHECK = fastjsonschema.compile(_SCHEMA, use_default=False)
_CURE = "compare it with what pe-unified pacs --example prints"
#: Settings under ``model`` that are options of the analysis, and those that are files.
_OPTIONS = {"every_slice": "every_slice", "lungs": "lungs_from"}
_FILES = ("checkpoint", "exam_checkpoint", "lung_checkpoint", "volume_checkpoint", "exported")


@dataclass(frozen=True)
class Receive:
    """How studies are received by C-STORE.

    Attributes:
        port: 0 takes any free one.
        allow: calling AE titles; empty allows all.
    """

    port: int
    host: str = "0.0.0.0"
    ae_title: str = "PE_UNIFIED"
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class DicomNode:
    """Another application entity."""

    host: str
    port: int
    ae_title: str
    timeout_s: float = 30.0


@dataclass(frozen=True)
class WebService:
    """A DICOMweb service.

    Attributes:
        url: root of the service, before ``/studies``.
        user: for HTTP basic authentication.
        password_env: environment variable that holds the password.
        token_env: environment variable that holds a bearer token.
        ca_file: certificates to trust instead of the system's.
    """

    url: str
    user: str | None = None
    password_env: str | None = None
    token_env: str | None = None
    ca_file: str | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Poll:
    """A DICOMweb service that is polled for new studies.

    Attributes:
        every_s: seconds between polls; fewer than ``complete_after_s``.
        days: how far back to look, by study date.
    """

    name: str
    web: WebService
    every_s: float = 30.0
    days: int = 2


@dataclass(frozen=True)
class Destination:
    """Where results go: a DICOM node or a DICOMweb service.

    Attributes:
        objects: kinds from :data:`~pe_unified.archive.nodes.CLASSES`.
    """

    name: str
    objects: tuple[str, ...] = ("seg", "sr")
    dicom: DicomNode | None = None
    web: WebService | None = None


@dataclass(frozen=True)
class StatusPage:
    """Address of the status page, ``/health`` and ``/metrics``."""

    host: str = "127.0.0.1"
    port: int = 8480


@dataclass(frozen=True)
class Keep:
    """How long files of finished studies are kept, days."""

    images_days: float = 3.0
    reports_days: float = 90.0
    least_free_gb: float = 2.0


@dataclass(frozen=True)
class Settings:
    """All settings; defaults as in the example.

    Attributes:
        folder: queue, received images and reports; used by one service only.
        model, options: see :class:`~pe_unified.archive.job.Request`.
        complete_after_s: a study is complete if nothing new arrived for this long.
        order: of studies with equal priority, ``oldest`` or ``newest`` first.
        workers: number of studies analysed at the same time.
        threads: per worker; None for an equal share of the cores.
        crashes: a study that crashed the service or its worker this often is given up.
        key_images: maximum number of key images sent with a study.
    """

    folder: Path
    model: Mapping[str, Any]
    rules: tuple[Rule, ...]
    send: tuple[Destination, ...]
    receive: Receive | None = None
    poll: tuple[Poll, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    complete_after_s: float = 60.0
    order: str = "oldest"
    workers: int = 1
    threads: int | None = None
    crashes: int = 5
    key_images: int = 10
    retry: Backoff = field(default_factory=Backoff)
    status: StatusPage = field(default_factory=StatusPage)
    keep: Keep = field(default_factory=Keep)

    @property
    def database(self) -> Path:
        return self.folder / "queue.sqlite"


def load_settings(path: Path) -> Settings:
    """Read the settings; paths in them are relative to their file.

    Raises:
        DataError: no such file, not YAML, an unknown or impossible setting.
    """
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(path, "cannot be read", "check the path", error) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(path, f"is not YAML: {error}", _CURE) from error
    try:
        _CHECK(found)
        return _settings(found, path.resolve().parent)
    except fastjsonschema.JsonSchemaValueException as error:
        raise DataError(path, _said(error), _CURE) from error
    except ValueError as error:
        raise DataError(path, str(error), _CURE) from error


def _said(error: fastjsonschema.JsonSchemaValueException) -> str:
    message = re.sub(r"^data\.?", "", error.message)
    return f"the file {message}" if message.startswith(("must", "cannot")) else message


def _settings(found: Mapping[str, Any], base: Path) -> Settings:
    for group in ("poll", "send"):
        own = [each["name"] for each in found.get(group, ())]
        if len(own) != len(set(own)):
            raise ValueError(f"two of '{group}' have the same name")
    if "receive" not in found and not found.get("poll"):
        raise ValueError("neither receive nor poll is set, so no study would arrive")
    plain = ("complete_after_s", "order", "workers", "threads", "crashes", "key_images")
    settings = Settings(
        folder=(base / found["folder"]).resolve(),
        model=_model(found["model"], base),
        options={
            name: found["model"][own] for own, name in _OPTIONS.items() if own in found["model"]
        },
        rules=tuple(Rule.of(each) for each in found["rules"]),
        send=tuple(_destination(each, base) for each in found["send"]),
        poll=tuple(
            Poll(**{**each, "web": _web(each["web"], base)}) for each in found.get("poll", ())
        ),
        retry=Backoff(**found.get("retry", {})),
        status=StatusPage(**found.get("status", {})),
        keep=Keep(**found.get("keep", {})),
        **{name: found[name] for name in plain if name in found},
    )
    if "receive" in found:
        allow = tuple(found["receive"].get("allow", ()))
        settings = replace(settings, receive=Receive(**{**found["receive"], "allow": allow}))
    for poll in settings.poll:
        if poll.every_s >= settings.complete_after_s:
            raise ValueError(
                f"complete_after_s is {settings.complete_after_s:g}, {poll.name} is asked every "
                f"{poll.every_s:g} s: a study would be complete before its next images are seen"
            )
    return settings


def _model(found: Mapping[str, Any], base: Path) -> dict[str, Any]:
    values = {name: value for name, value in found.items() if name not in _OPTIONS}
    for name in _FILES:
        if name in values:
            values[name] = str((base / values[name]).resolve())
    if "exported" in values:
        values["exported"] = Path(values["exported"])
    return values


def _destination(found: Mapping[str, Any], base: Path) -> Destination:
    values = dict(found)
    if "objects" in values:
        values["objects"] = tuple(values["objects"])
    if "dicom" in values:
        values["dicom"] = DicomNode(**values["dicom"])
    if "web" in values:
        values["web"] = _web(values["web"], base)
    return Destination(**values)


def _web(found: Mapping[str, Any], base: Path) -> WebService:
    web = WebService(**found)
    for variable in (web.password_env, web.token_env):
        if variable is not None and variable not in os.environ:
            cure = f"set it before the start (export {variable}=...)"
            raise ValueError(f"the environment has no {variable}, which {web.url} needs: {cure}")
    ca_file = web.ca_file and str((base / web.ca_file).resolve())
    return replace(web, url=web.url.rstrip("/"), ca_file=ca_file)
