"""The profile: the recipe that turns a frame into phase fractions, as values and as a schema."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    model_validator,
)

from pychip_live.core.prototypes import Strictness
from pychip_live.core.support import Color, Name, SupportSet
from pychip_live.core.window import Limits, Mode


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GridOptions(_Section):
    """``[grid]``: ``chip`` is the edge of a chip, frame px."""

    chip: int = Field(ge=1, le=65536)


class WindowOptions(_Section):
    """``[window]``: how raw intensities become 0…1.

    ``steady`` uses mean and standard deviation of the reference frames, kept in the fit, and takes
    out a drift of gain and offset beyond what a specimen does (see `steady_limits`); ``frozen``
    uses the percentiles of the reference frames and never gives way; ``frame`` uses those of
    each frame; ``minmax`` the extremes of each frame; ``fixed`` the numbers ``low`` and ``high``.
    ``clahe`` then equalises contrast locally (Zuiderveld 1994; clip limit 2, 8 × 8 tiles).
    """

    mode: Mode = "steady"
    percentiles: tuple[
        Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]
    ] = (0.1, 99.9)
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    clahe: bool = False

    @model_validator(mode="after")
    def _limits(self) -> Self:
        given = (self.low is not None, self.high is not None)
        if given != ((True, True) if self.mode == "fixed" else (False, False)):
            raise ValueError("low and high belong to mode = 'fixed', and it needs both")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(f"percentiles must rise, not {list(self.percentiles)}")
        return self

    @property
    def fixed(self) -> Limits | None:
        """Limits given as numbers, if any."""
        return None if self.low is None or self.high is None else Limits(self.low, self.high)


class EmbeddingOptions(_Section):
    """``[embedding]``: which network looks at the chips, and how.

    ``method`` is ``dense`` (one pass over the frame) or ``chip`` (each chip alone, last layer).
    ``chip_px`` is the edge of a chip in network pixels, ``stages`` the feature stages used
    (numbered from 1 at stride 2; ignored by ``chip``), ``components`` the dimensions kept.
    """

    backbone: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "efficientnet_lite0"
    method: Literal["dense", "chip"] = "dense"
    chip_px: int = Field(default=16, ge=4, le=512)
    stages: tuple[Annotated[int, Field(ge=1, le=5)], ...] = (1, 2, 3, 4, 5)
    components: int = Field(default=64, ge=1, le=2048)

    @model_validator(mode="after")
    def _stages(self) -> Self:
        if not self.stages or list(self.stages) != sorted(set(self.stages)):
            raise ValueError(f"stages must rise and not be empty, not {list(self.stages)}")
        return self


class DecisionOptions(_Section):
    """``[decision]``: ``unknown`` says how readily a chip is called unknown."""

    unknown: Strictness = "lenient"


class ClassOptions(_Section):
    """``[[classes]]``: ``id`` ties the class to its examples and stays when it is renamed."""

    id: int = Field(ge=0, le=32767)
    name: Name
    color: Color


class ProfileOptions(_Section):
    """All that people edit: the content of ``profile.toml``."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: Name
    grid: GridOptions
    window: WindowOptions = WindowOptions()
    embedding: EmbeddingOptions = EmbeddingOptions()
    decision: DecisionOptions = DecisionOptions()
    classes: tuple[ClassOptions, ...] = ()


class Profile(_Section):
    """Options and support set together: what a run is done with.

    The classes live in ``support``; ``options.classes`` only carries them in the file.
    """

    options: ProfileOptions
    support: SupportSet

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with every option, class or example."""
        content = self.options.model_dump_json(by_alias=True) + self.support.model_dump_json()
        return hashlib.sha256(content.encode()).hexdigest()[:16]
