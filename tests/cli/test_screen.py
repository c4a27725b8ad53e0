"""What the terminal says of a frame."""

from __future__ import annotations

import pytest

from pychip_live.cli.screen import SATURATED, Screen
from pychip_live.core.result import FrameIdentity
from pychip_live.engine.run import Done


@pytest.mark.parametrize(("saturated", "said"), [(SATURATED / 2, False), (0.3, True)])
def test_saturation_is_said(
    capsys: pytest.CaptureFixture[str], saturated: float, said: bool
) -> None:
    with Screen(None) as screen:
        screen.frame(Done(1, FrameIdentity("a.tif", None), None, "", 0.01, {}, saturated))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a.tif" in shown.err
    assert ("30 % saturated" in shown.err) == said
