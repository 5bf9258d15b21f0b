"""Windows: adapters from DXGI, whose memory is in 64 bits (WMI's stops at 4 GB).

The layout is that of DXGI_ADAPTER_DESC1 (dxgi.h) on 64-bit Windows.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import uuid
from typing import Any

from lmsupply_cli.hardware.profile import PCI_VENDORS, Gpu

_LAYOUT = struct.Struct("<256s4I3Q3I")  # description (128 UTF-16), ids, three SIZE_T, LUID, flags
DESCRIPTION_BYTES = 312
_SOFTWARE = 2  # DXGI_ADAPTER_FLAG_SOFTWARE
_FACTORY = uuid.UUID("770aae78-f26f-4dba-a829-253c83d1b387")  # IDXGIFactory1


def probe() -> list[Gpu]:
    """Every hardware adapter; [] on another system."""
    if sys.platform != "win32":
        return []
    return [gpu for gpu in map(parse_adapter, _adapters()) if gpu is not None]


def parse_adapter(data: bytes) -> Gpu | None:
    """A DXGI_ADAPTER_DESC1; None for a software adapter."""
    name, vendor, _, _, _, dedicated, _, shared, _, _, flags = _LAYOUT.unpack_from(data)
    if flags & _SOFTWARE:
        return None
    text = name.decode("utf-16-le", errors="replace").split("\0")[0]
    unified = dedicated < 512 << 20  # an integrated GPU sets little aside and shares the rest
    total = shared if unified else dedicated
    return Gpu(text, PCI_VENDORS.get(f"{vendor:04x}", "other"), total, unified=unified)


def _adapters() -> list[bytes]:  # pragma: no cover  (only on Windows)
    """IDXGIFactory1::EnumAdapters1 is entry 12 of its table, IDXGIAdapter1::GetDesc1 entry 10, Release entry 2."""
    dxgi: Any = ctypes.WinDLL("dxgi")  # type: ignore[attr-defined]
    factory = ctypes.c_void_p()
    iid = (ctypes.c_byte * 16).from_buffer_copy(_FACTORY.bytes_le)
    if dxgi.CreateDXGIFactory1(iid, ctypes.byref(factory)) != 0:
        return []
    found: list[bytes] = []
    index = 0
    while True:
        adapter = ctypes.c_void_p()
        if _method(factory, 12, ctypes.c_uint, ctypes.c_void_p)(factory, index, ctypes.byref(adapter)) != 0:
            break
        buffer = ctypes.create_string_buffer(DESCRIPTION_BYTES)
        if _method(adapter, 10, ctypes.c_void_p)(adapter, buffer) == 0:
            found.append(buffer.raw)
        _method(adapter, 2)(adapter)
        index += 1
    _method(factory, 2)(factory)
    return found


def _method(instance: Any, entry: int, *arguments: Any) -> Any:  # pragma: no cover  (only on Windows)
    table = ctypes.cast(instance, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p))).contents
    prototype = ctypes.WINFUNCTYPE(ctypes.c_long, ctypes.c_void_p, *arguments)  # type: ignore[attr-defined]
    return prototype(table[entry])
