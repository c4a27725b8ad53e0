from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pychip_live.core.profile import EmbeddingOptions, WindowOptions
from pychip_live.embed import Embedder
from pychip_live.embed.weights import KNOWN, locate, read
from pychip_live.errors import EmbeddingError, WeightsError


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "efficientnet_lite2"])
def test_packaged_weights_are_the_pinned_ones(backbone: str) -> None:
    assert locate(backbone, None, allow_download=False).sha256 == KNOWN[backbone].sha256


def test_one_altered_byte_is_noticed(tmp_path: Path) -> None:
    source = locate("efficientnet_lite0", None, allow_download=False).path
    altered = tmp_path / "altered.pth"
    shutil.copy(source, altered)
    with altered.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(WeightsError, match=r"altered\.pth: SHA-256 is"):
        locate("efficientnet_lite0", altered, allow_download=False)


def test_missing_files_are_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth.*--allow-download"):
        locate("resnet18", None, allow_download=False)
    with pytest.raises(WeightsError, match="cannot be read"):
        locate("resnet18", tmp_path / "no.pth", allow_download=False)
    with pytest.raises(WeightsError, match="no weights of its own"):
        locate("mobilenetv3_small_050", None, allow_download=False)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="does not fit mobilenetv3_small_050"):
        Embedder(
            EmbeddingOptions(backbone="mobilenetv3_small_050"), WindowOptions(),
            weights=path, runtime="torch",
        )  # fmt: skip
    with pytest.raises(EmbeddingError, match="no network 'nonesuch'"):
        Embedder(EmbeddingOptions(backbone="nonesuch"), WindowOptions(), weights=path)


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"a": print}, path)
    with pytest.raises(WeightsError, match="not a readable weights file"):
        read(locate("mobilenetv3_small_050", path, allow_download=False))


@pytest.mark.parametrize("backbone", [name for name, known in KNOWN.items() if known.published])
def test_the_pinned_digits_are_those_of_the_installed_torchvision(backbone: str) -> None:
    import torchvision

    known = KNOWN[backbone]
    url = torchvision.models.get_weight(known.published).url
    assert url.rpartition("/")[2] == known.file
    assert known.file.endswith(f"-{known.sha256}.pth")
