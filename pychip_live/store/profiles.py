"""Profile folders: ``profile.toml``, ``support.json``, ``fit.safetensors``, ``reference/*.tif``.

People edit the first (comments survive our edits), the others are ours. Every file is replaced
atomically; the support sets of the last revisions are kept under ``history/``.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tifffile
import tomlkit
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pychip_live.core.embedding import Fit
from pychip_live.core.frame import Frame
from pychip_live.core.profile import ClassOptions, Profile, ProfileOptions
from pychip_live.core.support import SupportSet
from pychip_live.core.window import Limits
from pychip_live.errors import ProfileError, ReadError
from pychip_live.readers import open_file
from pychip_live.store.atomic import replace, replacing

OPTIONS, SUPPORT, FIT, REFERENCE, HISTORY = (
    "profile.toml",
    "support.json",
    "fit.safetensors",
    "reference",
    "history",
)
KEPT_REVISIONS = 20
_M = TypeVar("_M", bound=BaseModel)
_OME_UNITS = {"pm": "pm", "nm": "nm", "µm": "µm", "um": "µm", "μm": "µm", "mm": "mm", "Å": "Å"}
_OME_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@dataclass(frozen=True, slots=True)
class ProfileFolder:
    """A folder that holds a profile, or is about to.

    Parameters
    ----------
    path
        The folder.
    """

    path: Path

    def create(self, options: ProfileOptions) -> None:
        """Make the folder and its ``profile.toml``; ProfileError where something is there."""
        if self.path.exists():
            raise ProfileError(
                f"{self.path} exists already; choose another folder, or remove it first"
            )
        (self.path / REFERENCE).mkdir(parents=True)
        content = options.model_dump(mode="json", by_alias=True, exclude_none=True)
        classes = content.pop("classes")
        document = tomlkit.document()
        document.update(content)
        self._write_toml(document, classes)
        self._write_support(SupportSet())

    def load(self) -> Profile:
        """Read and validate options and support set.

        Raises
        ------
        ProfileError
            Naming file, key, value and remedy.
        """
        options = self._options()
        path = self.path / SUPPORT
        support: dict[str, Any] = {}
        if path.exists():
            try:
                support = json.loads(path.read_text(encoding="utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise ProfileError(
                    f"{path}: not valid JSON ({error}); copy the newest file of "
                    f"{self.path / HISTORY} over it"
                ) from error
        if not isinstance(support, dict) or "classes" in support:
            raise ProfileError(f"{path}: expected revision and examples; classes are in {OPTIONS}")
        classes = [c.model_dump() for c in options.classes]
        _validate(SupportSet, {"classes": classes}, self.path / OPTIONS)
        merged = _validate(SupportSet, {**support, "classes": classes}, path)
        names = {p.name for p in self.references()}
        for example in merged.examples:
            if example.reference not in names:
                raise ProfileError(
                    f"{path}: an example refers to {example.reference}, but {REFERENCE}/ holds "
                    f"{', '.join(sorted(names)) or 'nothing'}; put the file back or remove the "
                    "example"
                )
        return Profile(options=options, support=merged)

    def save_support(self, support: SupportSet) -> None:
        """Write a new support set: examples here, classes into ``profile.toml``."""
        path = self.path / SUPPORT
        if path.exists():
            self._keep(path)
        classes = [c.model_dump() for c in support.classes]
        before = [c.model_dump() for c in self._options().classes]
        document = tomlkit.parse((self.path / OPTIONS).read_text(encoding="utf-8"))
        kept = {c["id"] for c in classes}
        removed = [c for c in before if c["id"] not in kept]
        # new classes first, removed ones last: killed in between, every example finds its class
        if before != classes + removed:
            self._write_toml(document, classes + removed)
        self._write_support(support)
        if removed:
            self._write_toml(document, classes)

    def references(self) -> list[Path]:
        """List the reference frames, by name."""
        return sorted((self.path / REFERENCE).glob("*.tif"))

    def read_reference(self, name: str) -> Frame:
        """Pixels of one reference frame; ProfileError where it cannot be read."""
        try:
            with open_file(self.path / REFERENCE / name) as file:
                return file.read(0)
        except (ReadError, OSError) as error:
            raise ProfileError(f"the reference frame cannot be read: {error}") from error

    def add_reference(self, frame: Frame, stem: str) -> str:
        """Keep a frame as a lossless TIFF, unless it is kept already; return its file name."""
        for path in self.references():
            kept = self.read_reference(path.name).pixels
            if kept.dtype == frame.pixels.dtype and np.array_equal(kept, frame.pixels):
                return path.name
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem) or "frame"
        name, number = f"{stem}.tif", 1
        while (self.path / REFERENCE / name).exists():
            number += 1
            name = f"{stem}-{number}.tif"
        with replacing(self.path / REFERENCE / name) as temporary:
            write_tiff(temporary, frame)
        return name

    def load_fit(self) -> Fit | None:
        """Read the fitted statistics, None where there are none yet; ProfileError if damaged."""
        path = self.path / FIT
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                arrays: dict[str, NDArray[Any]] = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
            low, high = (float(v) for v in arrays["limits"])
            fit = Fit(
                Limits(low, high),
                arrays["stage_scale"],
                arrays["center"],
                arrays["components"],
                metadata["recipe"],
            )
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise ProfileError(
                f"{path}: damaged ({error}); delete it, and it is made again from the reference "
                "frames"
            ) from error
        if fit.embedding_id != metadata.get("embedding_id"):
            raise ProfileError(
                f"{path}: its numbers do not match its id {metadata.get('embedding_id')}; delete "
                "it, and it is made again from the reference frames"
            )
        return fit

    def save_fit(self, fit: Fit) -> None:
        """Write the fitted statistics."""
        arrays: dict[str, NDArray[Any]] = {
            "limits": np.array([fit.limits.low, fit.limits.high], np.float64),
            "stage_scale": fit.stage_scale,
            "center": fit.center,
            "components": fit.components,
        }
        metadata = {"recipe": fit.recipe, "embedding_id": fit.embedding_id}
        with replacing(self.path / FIT) as temporary:
            save_file(arrays, temporary, metadata)

    def copy_to(self, target: Path) -> ProfileFolder:
        """Copy all of this profile but its history; what was there before is replaced.

        The folder appears whole: a copy that was interrupted leaves none.
        """
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(self.path, temporary, ignore=shutil.ignore_patterns(HISTORY, ".*"))
        if target.exists():
            shutil.rmtree(target)
        replace(temporary, target)
        return ProfileFolder(target)

    def _options(self) -> ProfileOptions:
        path = self.path / OPTIONS
        try:
            content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ProfileError(
                f"{self.path} is not a profile: it has no {OPTIONS}; make one with "
                "'pychip-live profile new'"
            ) from None
        except OSError as error:
            raise ProfileError(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProfileError(f"{path}: not valid TOML ({error})") from error
        classes = content.get("classes", [])
        if isinstance(classes, list):
            _number(classes)
        return _validate(ProfileOptions, content, path)

    def _write_toml(self, document: tomlkit.TOMLDocument, classes: list[dict[str, Any]]) -> None:
        tables = tomlkit.aot()
        for phase in classes:
            table = tomlkit.table()
            table.update(ClassOptions.model_validate(phase).model_dump())
            tables.append(table)
        document.pop("classes", None)
        if classes:
            document["classes"] = tables
        with replacing(self.path / OPTIONS) as temporary:
            temporary.write_text(tomlkit.dumps(document), encoding="utf-8", newline="\n")

    def _write_support(self, support: SupportSet) -> None:
        content = support.model_dump(mode="json", exclude={"classes"})
        with replacing(self.path / SUPPORT) as temporary:
            temporary.write_text(
                json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8", newline="\n"
            )

    def _keep(self, path: Path) -> None:
        revision = json.loads(path.read_text(encoding="utf-8")).get("revision", 0)
        folder = self.path / HISTORY
        folder.mkdir(exist_ok=True)
        shutil.copy2(path, folder / f"support-{revision:06}.json")
        for old in sorted(folder.glob("support-*.json"))[:-KEPT_REVISIONS]:
            old.unlink()


def write_tiff(path: Path, frame: Frame) -> None:
    """Write a frame losslessly, with its calibration where it is a length."""
    unit = _OME_UNITS.get(frame.calibration.unit) if frame.calibration else None
    if frame.calibration and unit and frame.pixels.dtype.name in _OME_TYPES:
        size = frame.calibration.pixel_size
        metadata = {
            "axes": "YX",
            "PhysicalSizeX": size,
            "PhysicalSizeXUnit": unit,
            "PhysicalSizeY": size,
            "PhysicalSizeYUnit": unit,
        }
        tifffile.imwrite(
            path,
            frame.pixels,
            compression="zlib",
            photometric="minisblack",
            ome=True,
            metadata=metadata,
        )
    else:
        tifffile.imwrite(
            path, frame.pixels, compression="zlib", photometric="minisblack", metadata=None
        )


def _number(classes: list[Any]) -> None:
    """Give classes without an id the next free one, so that people may leave it out."""
    taken = {c["id"] for c in classes if isinstance(c, dict) and isinstance(c.get("id"), int)}
    following = max(taken, default=-1) + 1
    for phase in classes:
        if isinstance(phase, dict) and "id" not in phase:
            phase["id"] = following
            following += 1


def _validate(model: type[_M], content: dict[str, Any], path: Path) -> _M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ProfileError(f"{path}: {_explain(error, model)}") from error


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say the first thing that is wrong: key, value, remedy."""
    first = error.errors(include_url=False)[0]
    *section, key = first["loc"] or ("",)
    where = ".".join(str(s) for s in section)
    inside = f" in [{where}]" if where else ""
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(key), sorted(_keys(model)), 1)
        hint = f"; did you mean '{near[0]}'?" if near else "; remove it"
        return f"unknown key '{key}'{inside}{hint}{more}"
    if first["type"] == "missing":
        return f"key '{key}' is missing{inside}{more}"
    message = str(first["msg"]).removeprefix("Value error, ")
    subject = f"{key}{inside} = {first['input']!r}: " if section or key else ""
    return f"{subject if len(subject) < 200 else f'{key}{inside}: '}{message}{more}"


def _keys(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for name, info in model.model_fields.items():
        names.add(info.alias or name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names |= _keys(info.annotation)
    return names
