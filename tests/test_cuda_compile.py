"""Every .cu compiles for the GPUs of today, and keeps its numbers in registers. By nvcc or NVRTC, whichever is found."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import cuda_on_cpu
import pytest

from minirelu.kernels import _cuda, _train_mlp_cuda
from minirelu.kernels.optimiser_step import PARTS as OPTIMISER_PARTS

ARCHITECTURES = ["sm_90", *(pytest.param(name, marks=pytest.mark.long) for name in ("sm_80", "sm_100"))]
TEXTS = {  # parts, options
    "forward": (("bias_relu_forward", "residual_relu"), _cuda.OPTIONS),
    "relu_backward": (("relu_backward",), _cuda.OPTIONS),
    "count_units": (("count_units",), _cuda.OPTIONS),
    "optimiser_step": (OPTIMISER_PARTS, _cuda.OPTIONS),
    "train_mlp": (_train_mlp_cuda.PARTS, _cuda.CONTRACTED),
}
ALL = ", all entries"
REGISTERS = 128  # a thread, at most; 256 threads of 128 registers are half of what a multiprocessor has


def nvcc():
    return shutil.which("nvcc") or next((str(p) for p in [Path("/usr/local/cuda/bin/nvcc")] if p.exists()), None)


def nvrtc():
    """NVRTC from the package nvidia-cuda-nvrtc, or None."""
    spec = importlib.util.find_spec("nvidia")
    places = spec.submodule_search_locations if spec else []
    found = sorted(
        p for place in places for p in Path(place).glob("**/libnvrtc.so.*") if "builtins" not in p.name and "alt" not in p.name
    )
    return ctypes.CDLL(str(found[-1])) if found else None


def by_nvcc(source, architecture, options, tmp_path):
    command = [nvcc(), *options, "-cubin", f"-arch={architecture}", "-Xptxas", "-v", "-x", "cu", "-", "-o", str(tmp_path / "k")]
    ran = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def by_nvrtc(library, source, architecture, options):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    flags = [f"--gpu-architecture={architecture}".encode(), b"--ptxas-options=-v", *(o.encode() for o in options)]
    failed = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    return log.value.decode()


def text(name):
    """(source, options); the float32 entries, of the training the one that most runs take, unless all are asked for."""
    parts, options = TEXTS[name.removesuffix(ALL)]
    source = _cuda.source(*parts)
    if not name.endswith(ALL):
        source = re.sub(r"^ENTRY\(train_mlp_(split|global).*$", "", cuda_on_cpu.float32_only(source), flags=re.MULTILINE)
    return source, options


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", [*TEXTS, *(pytest.param(name + ALL, marks=pytest.mark.long) for name in TEXTS)])
def test_a_text_compiles_without_spills(name, architecture, tmp_path):
    source, options = text(name)
    if nvcc():
        log = by_nvcc(source, architecture, options, tmp_path)
    elif (library := nvrtc()) is not None:
        log = by_nvrtc(library, source, architecture, options)
    else:
        pytest.skip("neither nvcc nor NVRTC is here; pip install 'minirelu[nvrtc]' brings the latter")
    spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", log)]
    used = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
    assert spilled, log
    assert not any(spilled), log
    assert max(used) <= REGISTERS
