"""An ONNX model that is planned first and written later, its weights streamed into model.onnx.data.

Nodes and initializers are added while a model is built. An initializer beyond 1 kB only reserves a region of the data
file, and a job that fills it is kept. `write` runs the jobs, so that no more than some rows of two weights are in memory,
and the model itself stays far below protobuf's limit of 2 GB.

The only module that imports onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any, BinaryIO, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lmsupply_cli._version import __version__
from lmsupply_cli.files import our_io_error

MODEL = "model.onnx"
DATA = "model.onnx.data"
MICROSOFT = "com.microsoft"  # the domain of ONNX Runtime's own operators
_OPSET = 21
_IR_VERSION = 10
_INLINE_BYTES = 1024
_PAGE_BYTES = 65536  # onnxruntime maps large regions; 64 kB is the granularity of Windows, and a multiple of all pages
_LINE_BYTES = 64
_WORKERS = 2  # each holds some copies of a piece of a weight, so more of them would cost memory
_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}

Progress = Callable[[int], None]
Job = Callable[[Progress], None]


class _Sink(Protocol):
    def put(self, offset: int, data: NDArray[Any]) -> None: ...


class Stored:
    """A region of the data file that is an initializer: row after row is written, in any number of pieces.

    A region has one writer, and different regions may be written in turn.
    """

    def __init__(self, dtype: str, shape: Sequence[int], offset: int) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = tuple(shape)
        self.offset = offset
        self.size_bytes = math.prod(self.shape) * self.dtype.itemsize
        self._sink: _Sink | None = None
        self._written = 0

    def write(self, values: NDArray[Any]) -> None:
        """The next values, in the order of the region."""
        data = np.ascontiguousarray(values, dtype=self.dtype)
        self._room(data.nbytes)
        self._open().put(self.offset + self._written, data)
        self._written += data.nbytes

    def write_columns(self, rows: NDArray[Any]) -> None:
        """`rows` [n, inputs] as the next n columns of a region [inputs, all rows]."""
        data = np.ascontiguousarray(rows.T, dtype=self.dtype)
        inputs, columns = self.shape
        self._room(data.nbytes)
        start = self._written // (inputs * self.dtype.itemsize)
        sink = self._open()
        for at, column in enumerate(data):
            sink.put(self.offset + (at * columns + start) * self.dtype.itemsize, column)
        self._written += data.nbytes

    @property
    def is_complete(self) -> bool:
        return self._written == self.size_bytes

    def open(self, sink: _Sink) -> None:
        self._sink, self._written = sink, 0

    def _open(self) -> _Sink:
        if self._sink is None:
            raise RuntimeError("a region is only written while its graph is")
        return self._sink

    def _room(self, size: int) -> None:
        if self._written + size > self.size_bytes:
            raise RuntimeError(f"{self._written + size} bytes for a region of {self.size_bytes}")


class Graph:
    """`dtype`: of activations and floats, "float32" or "float16"."""

    def __init__(self, name: str, dtype: str = "float32") -> None:
        self.name = name
        self.dtype = dtype
        self.data_bytes = 0
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._regions: list[Stored] = []
        self._jobs: list[Job] = []

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))

    def node(self, op: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """A node with one output, which is returned. An input of "" is one left out."""
        return self.nodes(op, inputs, [output], domain=domain, **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node with several outputs, of which "" are left out."""
        name = next(output for output in outputs if output)
        self._nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes))
        return list(outputs)

    def ints(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant("int64." + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A constant number of the type of the activations."""
        return self.constant(f"{self.dtype}.{value!r}", np.array(value, self.dtype))

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """An initializer that is known now. The same name again is the same constant."""
        if name in self._initializers:
            return name
        if values.nbytes > _INLINE_BYTES:
            region = self.stored(name, values.dtype.name, values.shape)
            self.later(lambda _: region.write(values))
            return name
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def stored(self, name: str, dtype: str, shape: Sequence[int]) -> Stored:
        """Reserve a region of the data file for the initializer `name`; a job has to fill it."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        unit = _PAGE_BYTES if size >= _PAGE_BYTES else _LINE_BYTES
        offset = -(-self.data_bytes // unit) * unit
        region = Stored(dtype, shape, offset)
        self.data_bytes = offset + size
        self._regions.append(region)
        self._external(name, region, shape)
        return region

    def alias(self, name: str, region: Stored, shape: Sequence[int]) -> str:
        """Another initializer of the bytes of `region`, in another shape. They are on disk once."""
        if math.prod(shape) != math.prod(region.shape):
            raise RuntimeError(f"{name}: {shape} are not the bytes of {region.shape}")
        self._external(name, region, shape)
        return name

    def later(self, job: Job) -> None:
        """Run `job` when the graph is written; it calls its argument with the bytes of the source that it has read."""
        self._jobs.append(job)

    @property
    def model_bytes(self) -> int:
        """Of model.onnx."""
        return int(self._model().ByteSize())

    def write(self, folder: Path, progress: Progress) -> None:
        """Write model.onnx and model.onnx.data, and run the jobs. Raises FileError."""
        with our_io_error(folder / DATA), (folder / DATA).open("wb") as file:
            file.truncate(self.data_bytes)
            data = _File(file)
            for region in self._regions:
                region.open(data)
            _run(self._jobs, progress)
        if not all(region.is_complete for region in self._regions):
            raise RuntimeError("a weight was not written completely")
        with our_io_error(folder / MODEL):
            (folder / MODEL).write_bytes(self._model().SerializeToString())

    def _external(self, name: str, region: Stored, shape: Sequence[int]) -> None:
        if name in self._initializers:
            raise RuntimeError(f"two initializers are called {name}")
        tensor = TensorProto(name=name, data_type=_TYPES[region.dtype.name], dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", DATA), ("offset", region.offset), ("length", region.size_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor

    def _model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="lmsupply", producer_version=__version__
        )


class _File:
    """Regions are written from several threads."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = Lock()

    def put(self, offset: int, data: NDArray[Any]) -> None:
        flat = data.reshape(-1).view(np.uint8)
        with self._lock:
            self._file.seek(offset)
            self._file.write(flat.data)


class _Stopped(Exception):
    """In a job whose result nobody waits for any more."""


def _run(jobs: Sequence[Job], progress: Progress) -> None:
    """Two at a time: numpy computes outside of Python's lock. `progress` is called in this thread. The first error of a
    job, or of `progress`, stops all of them and is raised."""
    reports: SimpleQueue[int | BaseException | None] = SimpleQueue()  # bytes read, or the end of a job
    stopped = Event()

    def report(read_bytes: int) -> None:
        if stopped.is_set():
            raise _Stopped
        reports.put(read_bytes)

    def do(job: Job) -> None:
        try:
            job(report)
        except BaseException as error:
            reports.put(error)
        else:
            reports.put(None)

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="import") as pool:
        left = [pool.submit(do, job) for job in jobs]
        try:
            while left:
                found = reports.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    left.pop()
                else:
                    progress(found)
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
