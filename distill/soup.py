"""Saved models of one start to their mean, tensor by tensor: memory holds a few numbers, however large the models."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from distill import hub
from distill.errors import Refused

AT_ONCE = 1 << 20
"""Numbers of a tensor that are averaged at once."""

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""What is averaged, as safetensors calls it; whole numbers count or point, and stay as the first model has them."""


class Spread:
    """How far models lie from their mean, summed over their tensors."""

    def __init__(self) -> None:
        self._squares = self._mean_square = 0.0

    def mean(self, ingredients: Iterable[Float[Tensor, "*shape"]]) -> Float[Tensor, "*shape"]:
        """The mean of one tensor of all models, in fp64."""
        wide = [held.double() for held in ingredients]
        made = torch.stack(wide).mean(0)
        self.add(sum(float(held.square().sum()) for held in wide) / len(wide), float(made.square().sum()))
        return made

    def add(self, squares: float, mean_square: float) -> None:
        """Take in a tensor whose mean was taken elsewhere.

        Args:
            squares: The models' squared lengths, on average.
            mean_square: The squared length of their mean.
        """
        self._squares += squares
        self._mean_square += mean_square

    @property
    def apart(self) -> float:
        """The root of the mean squared distance from the mean, as a share of the mean's length."""
        return (max(0.0, self._squares - self._mean_square) / (self._mean_square or 1.0)) ** 0.5


def average(folders: Sequence[Path], out: Path, spread: Spread, apart: Sequence[str] = ()) -> None:
    """Write the mean of saved models; all that is no tensor is the first one's.

    Args:
        folders: What their `save` wrote, in one layout.
        out: A folder that is not there.
        spread: Told of each tensor.
        apart: Names of files that are left to the caller.

    Raises:
        Refused: Their tensors differ in name or shape.
    """
    if not any(folders[0].rglob("*.safetensors")):
        raise Refused(f"average: {folders[0]} holds no weights. Train it again.")
    left = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(folders[0], out, ignore=left, copy_function=shutil.copyfile)
    for file in sorted(folders[0].rglob("*.safetensors")):
        name = file.relative_to(folders[0])
        if str(name) not in apart:
            average_file([folder / name for folder in folders], out / name, spread)


def average_file(files: Sequence[Path], out: Path, spread: Spread) -> None:
    """Write the mean of safetensors files of one layout, in the types of the first.

    What is equal in all is left as it is, to the bit.

    Raises:
        Refused: A file is missing, or their tensors differ in name or shape.
    """
    if absent := [file for file in files if not file.is_file()]:
        raise Refused(f"average: {absent[0]} is missing, and {files[0]} is there. Average trainings of one start.")
    for file in files:
        with hub.loading(file), safe_open(file, framework="pt"):
            pass  # a file that ends too soon would be read as another
    shutil.copyfile(files[0], out)
    with ExitStack() as stack:
        parts = [_Tensors(stack.enter_context(file.open("rb"))) for file in files]
        target = _Tensors(stack.enter_context(out.open("r+b")))
        for file, part in zip(files[1:], parts[1:], strict=True):
            _check_shapes(files[0], parts[0].shapes, file, part.shapes)
        for name, count in parts[0].counts.items():
            for start in range(0, count, AT_ONCE):
                pieces = [part.read(name, start) for part in parts]
                mean = spread.mean(pieces)
                if not all(torch.equal(pieces[0], piece) for piece in pieces[1:]):
                    target.write(name, start, mean)


class _Tensors:
    """The tensors of an open safetensors file, a piece at a time.

    Eight bytes say how long a description in JSON is, which says where in the rest of the file each tensor stands.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        length = int.from_bytes(stream.read(8), "little")
        entries: Mapping[str, Any] = json.loads(stream.read(length))
        self._begin = 8 + length
        self._entries = {name: held for name, held in entries.items() if held.get("dtype") in DTYPES}
        self.shapes = {name: tuple(held["shape"]) for name, held in self._entries.items()}
        self.counts = {name: torch.Size(shape).numel() for name, shape in self.shapes.items()}

    def read(self, name: str, start: int) -> Float[Tensor, "numbers"]:
        """The numbers from one on."""
        dtype = self._seek(name, start)
        count = min(AT_ONCE, self.counts[name] - start)
        return torch.frombuffer(bytearray(self._stream.read(count * dtype.itemsize)), dtype=dtype)

    def write(self, name: str, start: int, numbers: Float[Tensor, "numbers"]) -> None:
        """Put others in their place."""
        dtype = self._seek(name, start)
        self._stream.write(numbers.to(dtype).view(torch.uint8).numpy().tobytes())

    def _seek(self, name: str, start: int) -> torch.dtype:
        entry = self._entries[name]
        dtype = DTYPES[entry["dtype"]]
        self._stream.seek(self._begin + int(entry["data_offsets"][0]) + start * dtype.itemsize)
        return dtype


def _check_shapes(
    first: Path, one: Mapping[str, tuple[int, ...]], second: Path, other: Mapping[str, tuple[int, ...]]
) -> None:
    if one != other:
        name = sorted(dict(one.items() ^ other.items()))[0]
        raise Refused(
            f"average: {first} and {second} are of different shape ({name}: {one.get(name)}, {other.get(name)}). "
            "Average trainings of one start."
        )
