"""Readers of files that hold arrays: CIFAR's pickles, MNIST's idx, SVHN's mat. No torch.

Every reader checks dtype, shape, lengths and the range of the labels, and says in one line what is wrong with
which file. No code in a file is executed.
"""

import gzip
import io
import pickle
import pickletools
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from trainables.base.errors import DataFileError

Array = np.ndarray

# -- CIFAR -------------------------------------------------------------------------------------------------

#: What a pickle of dicts, lists, strings, numbers and arrays consists of.
_OPCODES = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING
    BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM
    SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
    """.split()  # noqa: SIM905
)


class _DType:
    """Stands in for numpy.dtype: remembers the name, does nothing."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        pass


class _NDArray:
    """Stands in for numpy.ndarray: keeps shape, type and bytes until they are checked."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> Array:
        """Return the uint8 array, or raise ValueError."""
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _DType) or dtype.name not in ("u1", "|u1", "uint8"):
            raise ValueError("an array that is not uint8")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Reconstruct:
    """Stands in for numpy's function that makes an empty array to be filled."""

    def __new__(cls, *_: Any) -> Any:
        return _NDArray()


class _FromBuffer:
    """Stands in for numpy's function of protocol 5 that wraps bytes."""

    def __new__(cls, data: Any, dtype: Any, shape: Any, order: Any) -> Any:
        array = _NDArray()
        array.state = (1, shape, dtype, order == "F", data)
        return array


class _Encode:
    """Stands in for _codecs.encode, by which old protocols write bytes."""

    def __new__(cls, text: str, encoding: str = "") -> Any:
        if encoding != "latin1":
            raise pickle.UnpicklingError("bytes in another encoding")
        return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDArray,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is never loaded")
        return _STAND_INS[module, name]


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """Return the dict in a pickle of dicts, lists, strings, numbers and uint8 arrays; keys as str.

    The names in a pickle are looked up in a table of inert stand-ins, so that no function of any library is
    called; the opcodes are checked before that.

    Raises:
        DataFileError: anything else is in it, or it is cut short or damaged.
    """
    try:
        data = path.read_bytes()
        _check_opcodes(data)
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError("it holds no dict")
        named = {
            key.decode("latin1") if isinstance(key, bytes) else str(key): v for key, v in content.items()
        }
        return {key: value.array() if isinstance(value, _NDArray) else value for key, value in named.items()}
    except Exception as error:  # a damaged pickle may raise any error at all
        raise DataFileError(f"{path} is not a whole file of its kind: {_line(error)}") from error


def _check_opcodes(data: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise ValueError(f"pickle opcode {opcode.name} is not allowed")
        if "PUT" in opcode.name and int(argument or 0) > len(data):
            raise ValueError("a memo larger than the file")  # the C unpickler would allocate it


def read_cifar(root: Path, names: tuple[str, ...], label_key: str, classes: int) -> tuple[Array, Array]:
    """Return images uint8 (n, 32, 32, 3) and labels (n,) int64 of CIFAR's python batches, in file order.

    Args:
        label_key: "labels" or "fine_labels".
    """
    images, labels = [], []
    for name in names:
        path = root / name
        batch = read_plain_pickle(path)
        pixels = batch.get("data")
        if (
            not isinstance(pixels, np.ndarray)
            or pixels.ndim != 2
            or pixels.shape[1] != 3072
            or not len(pixels)
        ):
            raise DataFileError(f"{path}: data is {_kind(pixels)}; want a uint8 array n x 3072")
        images.append(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(_label_array(path, batch.get(label_key), len(pixels), classes, label_key))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


# -- idx ---------------------------------------------------------------------------------------------------


def read_idx(root: Path, part: str) -> tuple[Array, Array]:
    """Return images uint8 (n, 28, 28) and labels (n,) of MNIST's files, plain or gzipped.

    Args:
        part: "train" or "t10k".
    """
    images_path, labels_path = (
        _plain_or_gz(root, f"{part}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    images = _read_idx(images_path, 3)
    if images.shape[1:] != (28, 28) or not len(images):
        have = " x ".join(map(str, images.shape))
        raise DataFileError(f"{images_path}: images are {have}; want n x 28 x 28")
    return images, _label_array(labels_path, _read_idx(labels_path, 1), len(images), 10, "labels")


def _plain_or_gz(root: Path, name: str) -> Path:
    plain = root / name
    return plain if plain.is_file() else root / f"{name}.gz"


def _read_idx(path: Path, dimensions: int) -> Array:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, 8, dimensions]):
                raise ValueError(f"it does not begin as an idx file of uint8 in {dimensions} dimensions")
            shape = tuple(int(n) for n in np.frombuffer(head, ">u4", offset=4))
            size = int(np.prod(shape, dtype=object))
            if size > 2**32:
                raise ValueError(f"its header says {size} bytes")
            data = file.read(size)
            if len(data) != size or file.read(1):
                raise ValueError(
                    f"its header says {size} bytes, it has {'more' if len(data) == size else len(data)}"
                )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataFileError(f"{path} is not a whole idx file: {_line(error)}") from error
    return np.frombuffer(data, np.uint8).reshape(shape)


# -- mat ---------------------------------------------------------------------------------------------------


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Return named arrays of a MATLAB 5 file.

    Raises:
        DataFileError: a damaged file, or one without them.
    """
    import warnings

    from scipy.io import loadmat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged file scipy warns and then raises
            content = loadmat(path, variable_names=names)
        arrays = {name: content[name] for name in names if isinstance(content.get(name), np.ndarray)}
    except Exception as error:  # scipy's reader raises whatever its parser trips over
        raise DataFileError(f"{path} is not a whole mat file: {_line(error)}") from error
    if len(arrays) < len(names):
        raise DataFileError(
            f"{path} needs arrays {' and '.join(names)}; it holds {', '.join(arrays) or 'none'}"
        )
    return arrays


def read_svhn(path: Path) -> tuple[Array, Array]:
    """Return images uint8 (n, 32, 32, 3) and labels (n,) of an SVHN file; its label 10 is the digit 0."""
    arrays = read_mat(path, ("X", "y"))
    images, labels = arrays["X"], arrays["y"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3) or not images.shape[3]:
        raise DataFileError(f"{path}: X is {_kind(images)}; want uint8 32 x 32 x 3 x n")
    checked = _label_array(path, labels.ravel(), images.shape[3], 11, "y")
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), checked % 10


# -- all ---------------------------------------------------------------------------------------------------


def _label_array(path: Path, labels: Any, count: int, classes: int, name: str) -> Array:
    try:
        array = np.asarray(labels)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise DataFileError(f"{path}: {name} is {_kind(array)}; want integers ({count},), one for each image")
    if array.min() < 0 or array.max() >= classes:
        raise DataFileError(
            f"{path}: {name} runs from {array.min()} to {array.max()}; want 0 to {classes - 1}"
        )
    return array.astype(np.int64)


def _kind(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return "missing" if value is None else type(value).__name__
    return f"{value.dtype} " + " x ".join(map(str, value.shape))


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
