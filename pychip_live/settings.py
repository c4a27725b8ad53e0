"""Settings of a place: what differs from one microscope PC to the next, and is no profile's.

Read from ``PYCHIP_…`` variables, then from ``pychip.toml`` in the working folder.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pychip_live.errors import UsageError


class Settings(BaseSettings):
    """One value a key; each is also a variable ``PYCHIP_<KEY>``."""

    model_config = SettingsConfigDict(
        env_prefix="PYCHIP_", toml_file="pychip.toml", extra="forbid", frozen=True
    )

    runs: Path = Path("runs")
    """Folder that holds the run folders."""
    weights: Path | None = None
    """Weights file of the backbone; None for the packaged weights."""
    allow_download: bool = False
    """Whether torchvision may fetch weights from its hub."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """What runs the network on the CPU."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the network; None for all cores."""
    settle_s: float = Field(default=5.0, gt=0)
    """Quiet time after which a file that may be preallocated (its end is zeros) is believed, s."""
    embedding_budget_gb: float = Field(default=50.0, ge=0)
    """Stored embeddings a run may grow to, GB; what is beyond is not stored."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options given in code first, then variables, then ``pychip.toml``."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**options: object) -> Settings:
    """Read the settings; options that are None, or flags that are not set, count as not given.

    Raises
    ------
    UsageError
        Naming the key and the value that do not fit, or what is wrong with ``pychip.toml``.
    """
    given = {k: v for k, v in options.items() if v is not None and v is not False}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"setting {key} = {first['input']!r}: {first['msg']}; look at pychip.toml and at the "
            f"variable PYCHIP_{key.upper()}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"pychip.toml: not valid TOML ({error}); mend the line, or remove the file"
        ) from error
    except OSError as error:
        raise UsageError(f"pychip.toml: cannot be read ({error.strerror or error})") from error
