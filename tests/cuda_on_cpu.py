"""Executes the CUDA C++ of kernels/ on the CPU: the same text, compiled by g++ behind cuda_on_cpu.h.

    installed(seed=3)        the module `cupy` is a stand-in whose RawModule runs here (fake_cupy.py has its arrays)
    Library(source, WATCHED).launch(name, grid, block, arguments, shared, seed)

A seed shuffles the order of the threads (0: in order, 1: reversed). PLAIN is quick; WATCHED switches threads between any two
accesses to memory and reports races, accesses outside of the arrays and shared memory that is read before it is written;
ADDRESS is AddressSanitizer's, for a process of its own. A launch that goes wrong raises `KernelError` with lines of the .cu.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import fake_cupy
import numpy as np

from minirelu.kernels import _cuda

HERE = Path(__file__).resolve().parent
HEADER, RUNTIME = HERE / "cuda_on_cpu.h", HERE / "cuda_on_cpu.cpp"
CACHE = HERE.parent / ".pytest_cache" / "cuda_on_cpu"
COMMON = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-Wno-unknown-pragmas", "-w"]
PLAIN = ("-O1",)
WATCHED = ("-O1", "-g", "-fsanitize=thread")
WATCHED_AT_ONCE = ("-O0", *WATCHED[1:])  # sooner compiled, slower to run
ADDRESS = ("-O1", "-g", "-fsanitize=address", "--param=asan-stack=0")
SHARED_LIMIT = 227 << 10


class KernelError(Exception):
    """A kernel did what it must not do."""


def type_only(source, type):
    """The text without its entries for other types of numbers than `type`: float, double, f16 or bf16."""
    others = "|".join({"float", "double", "f16", "bf16"} - {type})
    return re.sub(rf"(ENTRIES|ENTRY)\([^()\n]*\b({others})\b[^()\n]*\)", "", source)


def float32_only(source):
    return type_only(source, "float")


def step_only(source, version):
    """The text with the entries of one step of the ladder; the others are functions that nobody calls, or not there."""

    def entry(match):
        own = match[2] == str(version) or (match[2] == "sum" and version == 2)
        return match[0] if own else f"static void{match[1]}_{match[2]}_"

    source = re.sub(rf"ENTRY\(rule##_(?!{version})[^()]*\)", "", source)
    return re.sub(r'extern "C" __global__ void([^{]*?)_(\d|sum)_', entry, source)


def compiler():
    return shutil.which("g++")


def missing():
    """Why CUDA C++ cannot run on this CPU, or the empty string."""
    return "" if compiler() else "no g++ to compile the kernels for the CPU with"


def _made(suffix, text, command):
    """The file that `command` makes of `text`, cached by both."""
    key = hashlib.sha256("\0".join([text, HEADER.read_text(), *command]).encode()).hexdigest()[:20]
    path = CACHE / f"{key}{suffix}"
    with _alone(path):
        if not path.exists():
            temporary = path.with_name(f"{path.name}.{os.getpid()}")
            ran = subprocess.run(
                [compiler(), *COMMON, "-I", str(HERE), *command, "-x", "c++", "-", "-o", str(temporary)],
                input=text,
                capture_output=True,
                text=True,
                check=False,
            )
            if ran.returncode:
                raise KernelError(ran.stderr)
            temporary.replace(path)
    return path


@contextlib.contextmanager
def _alone(path):
    """Inside, no other process makes the same file."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(source, flavour=PLAIN):
    """The shared library of a kernel's text."""
    asan = ["-DWITH_ASAN"] if flavour is ADDRESS else []
    runtime = _made(".o", RUNTIME.read_text(), ["-O1", "-c", *asan])
    kernel = _made(".o", f'#include "cuda_on_cpu.h"\n{source}', [*flavour, "-c"])
    path = CACHE / f"{kernel.stem}-{runtime.stem}.so"
    if not path.exists():
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        link = ["-fsanitize=address"] if asan else []
        subprocess.run([compiler(), "-shared", *link, kernel, runtime, "-o", temporary], check=True)
        temporary.replace(path)
    return path


class Library:
    """A kernel's text, compiled for this CPU."""

    def __init__(self, source, flavour=PLAIN):
        self.path, self.flavour = build(source, flavour), flavour
        self.loaded = ctypes.CDLL(str(self.path))

    def launch(self, name, grid, block, arguments, shared=0, seed=0):
        """Run one launch; arrays are NumPy's and are all that the kernel may touch. Raises `KernelError`."""
        assert shared <= SHARED_LIMIT, f"{shared} bytes of shared memory are more than any GPU has"
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        values = [ctypes.c_uint64(_word(a)) for a in arguments]
        values += [ctypes.c_uint64(0)] * (24 - len(values))
        pointers = (ctypes.c_void_p * 24)(*(ctypes.addressof(v) for v in values))
        begins = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        ends = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data + a.nbytes for a in arrays))
        sizes = (ctypes.c_size_t * len(arrays))(*(a.itemsize for a in arrays))
        shape = (ctypes.c_uint * 6)(*_three(grid), *_three(block))
        message, where = ctypes.create_string_buffer(400), (ctypes.c_void_p * 2)()
        failed = self.loaded.coc_launch(
            ctypes.cast(getattr(self.loaded, name), ctypes.c_void_p),
            shape,
            pointers,
            ctypes.c_size_t(shared),
            ctypes.c_uint64(seed),
            ctypes.c_int("-fsanitize=thread" in self.flavour),
            ctypes.c_size_t(len(arrays)),
            begins,
            ends,
            sizes,
            message,
            ctypes.c_size_t(400),
            where,
        )
        if failed:
            lines = " and ".join(self._line(address) for address in where if address)
            raise KernelError(f"{name}: {message.value.decode()}" + (f", {lines}" if lines else ""))

    def _line(self, address):
        """`count_units.cu:42` of an address in the library."""
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(self.path) in line]
        base = min(int(fields[0].split("-")[0], 16) for fields in maps)
        found = subprocess.run(
            ["addr2line", "-e", self.path, hex(address - base - 1)], capture_output=True, text=True, check=True
        )
        return found.stdout.strip().split("/")[-1].split(" ")[0]


def _three(sizes):
    return (*sizes, 1, 1)[:3]


def _word(argument):
    """An argument of a kernel as the 64 bits that it travels in."""
    if isinstance(argument, np.ndarray):
        return argument.ctypes.data
    assert isinstance(argument, (int, np.integer)), f"{argument!r}: kernels take arrays and integers"
    return int(argument) % 2**64


class Function:
    def __init__(self, library, name, seed):
        self.library, self.name, self.seed = library, name, seed
        self.max_dynamic_shared_size_bytes = 48 << 10
        getattr(library.loaded, name)

    def __call__(self, grid, block, arguments, *, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes, "shared memory above 48 KB must be asked for"
        assert np.prod(block) <= 1024, "a block has at most 1024 threads"
        self.library.launch(self.name, grid, block, fake_cupy.unwrapped(tuple(arguments)), shared_mem, self.seed)


@contextlib.contextmanager
def installed(seed=0, flavour=PLAIN, multiprocessors=2, change=lambda source: source):
    """`import cupy` finds a module whose arrays are in NumPy's memory and whose kernels run on this CPU.

    NVRTC's stand-in hands the text on, and RawModule's compiles it; the latter takes no `code`: CuPy's would flush subnormals.
    """

    class RawModule:
        def __init__(self, *, path):
            self.library = Library(change(Path(path).read_text()), flavour)

        def get_function(self, name):
            return Function(self.library, name, seed)

    class Device:
        compute_capability = "cpu"
        attributes = {
            "MultiProcessorCount": multiprocessors,
            "MaxSharedMemoryPerBlockOptin": SHARED_LIMIT,
            "MaxSharedMemoryPerMultiprocessor": SHARED_LIMIT + 1024,
        }

        def __init__(self, device=0):
            self.id = device

    def compile_using_nvrtc(source, options=(), arch=None, filename="kern.cu", *, cache_in_memory=False):
        return source.encode(), None

    few = mock.patch.object(_cuda, "TASKS", 8)  # so that a block of these small arrays has several tasks
    with fake_cupy.installed() as module, mock.patch.dict(os.environ, CUPY_CACHE_DIR=str(CACHE)), few:
        module.RawModule = RawModule
        module.cuda = types.SimpleNamespace(
            is_available=lambda: True,
            Device=Device,
            nvrtc=types.SimpleNamespace(getVersion=lambda: (0, 0)),
            compiler=types.SimpleNamespace(compile_using_nvrtc=compile_using_nvrtc),
        )
        yield module


def sanitized(code):
    """What AddressSanitizer says of Python code that runs kernels of the flavour ADDRESS, in a process of its own.

    Empty where g++ has no such library.
    """
    found = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = found.stdout.strip()
    if not Path(library).is_absolute():
        return ""
    environment = {**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE)])
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr
