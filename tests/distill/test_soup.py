"""The mean of safetensors files, tensor by tensor, against the mean of whole tensors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill import soup
from distill.errors import Refused


def save(folder: Path, **tensors: Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "settings.json").write_text(json.dumps({"length": 16}))
    return folder


@pytest.mark.parametrize("at_once", [1 << 20, 7])
def test_the_mean_is_that_of_whole_tensors(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a piece is read at another place than it is written, or numbers are added in their own few bits."""
    monkeypatch.setattr(soup, "AT_ONCE", at_once)
    random = torch.Generator().manual_seed(0)
    frozen = torch.randn(5, generator=random)
    made = [
        {
            "matrix": torch.randn(4, 5, generator=random),
            "half": (torch.randn(9, generator=random) * 3).bfloat16(),
            "one": torch.randn((), generator=random),
            "none": torch.zeros(0, 3),
            "frozen": frozen,
            "places": torch.arange(3),
        }
        for _ in range(3)
    ]
    folders = [save(tmp_path / str(number), **tensors) for number, tensors in enumerate(made)]
    spread = soup.Spread()
    soup.average(folders, tmp_path / "mean", spread)
    found = load_file(tmp_path / "mean" / "model.safetensors")
    assert list(found) == list(load_file(folders[0] / "model.safetensors"))
    averaged = [name for name in found if name != "places"]
    for name in averaged:
        wanted = torch.stack([tensors[name].double() for tensors in made]).mean(0).to(made[0][name].dtype)
        assert torch.equal(found[name], wanted), name
    assert torch.equal(found["frozen"], frozen) and torch.equal(found["places"], torch.arange(3))
    assert (tmp_path / "mean" / "settings.json").read_text() == (folders[0] / "settings.json").read_text()
    flat = torch.stack([torch.cat([tensors[name].double().flatten() for name in averaged]) for tensors in made])
    apart = (flat - flat.mean(0)).square().sum(1).mean().sqrt() / flat.mean(0).norm()
    assert spread.apart == pytest.approx(apart.item(), rel=1e-9)


def test_equal_models_are_no_way_apart(tmp_path: Path) -> None:
    """Harm: rounding makes a distance of what is the same, or nothing at all divides by nothing."""
    folders = [save(tmp_path / name, a=torch.full((3,), 0.1)) for name in "ab"]
    spread = soup.Spread()
    soup.average(folders, tmp_path / "mean", spread)
    assert spread.apart == pytest.approx(0, abs=1e-7)
    assert soup.Spread().apart == 0


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    """Harm: numbers of one matrix are added to those of another."""
    one = save(tmp_path / "one", a=torch.zeros(2, 3))
    for name, other in {"turned": {"a": torch.zeros(3, 2)}, "named": {"b": torch.zeros(2, 3)}}.items():
        with pytest.raises(Refused, match=r"of different shape \(a: \(2, 3\), "):
            soup.average([one, save(tmp_path / name, **other)], tmp_path / f"{name}_mean", soup.Spread())
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="is missing, and"):
        soup.average([one, tmp_path / "empty"], tmp_path / "mean", soup.Spread())


def test_memory_is_bounded_whatever_the_size(tmp_path: Path) -> None:
    """Harm: the soup of two models of seven billion numbers needs more memory than either."""
    numbers = 24 << 20  # 96 MB each
    for name in "ab":
        save(tmp_path / name, weights=torch.full((numbers,), float(ord(name))))
    code = (
        "import resource, sys; from pathlib import Path; from distill import soup\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"soup.average([Path({str(tmp_path / 'a')!r}), Path({str(tmp_path / 'b')!r})], "
        f"Path({str(tmp_path / 'mean')!r}), soup.Spread())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert unit * int(done.stdout) < 4 * numbers
    assert load_file(tmp_path / "mean" / "model.safetensors")["weights"][-1] == (ord("a") + ord("b")) / 2
