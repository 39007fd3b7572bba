"""Locks the calling process in, for good: to open what a stranger made, where opening may mean running.

Called once by the process that opens foreign models (``bench``), before it looks at one, and by workers that are to
be locked in. Three layers of the Linux kernel, none of which needs privileges or can be taken off again:

- **Landlock**: no file but the given ones can be opened, no signal sent to another process, none be traced;
- **seccomp**: no socket, no new program, no child process, no io_uring, no namespace, no keyring;
- **limits** of memory, file size and open files.

Sources: the manual pages landlock(7), seccomp(2), bpf(4) and the kernel's ``include/uapi/linux``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from mofang.base.domain.errors import SandboxMissing

_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _ALL_THREADS = 38, 1, 1
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_READ, _READ_FOLDER, _WRITE = 1 << 2, 1 << 3, 1 << 1
_FILE_RIGHTS = _READ | _WRITE | 1 << 0 | 1 << 14 | 1 << 15  # what also makes sense for a file: execute, truncate, ioctl
_ALL_RIGHTS_OF = (13, 13, 14, 15, 15, 16)  # how many rights each version of Landlock's interface knows, from the first
_SCOPES = 0b11  # abstract sockets and signals, from the sixth

_AUDIT_X86_64, _AUDIT_AARCH64 = 0xC000003E, 0xC00000B7
_CLONE_THREAD = 0x00010000
_FORBIDDEN: Mapping[str, tuple[int, tuple[int, ...]]] = MappingProxyType(
    {
        # socket socketpair fork vfork execve ptrace mount umount2 pivot_root chroot unshare setns keyctl add_key
        # request_key bpf perf_event_open process_vm_readv process_vm_writev io_uring_setup execveat userfaultfd
        # pidfd_open pidfd_getfd memfd_secret kexec_load init_module
        "x86_64": (
            _AUDIT_X86_64,
            (41, 53, 57, 58, 59, 101, 165, 166, 155, 161, 272, 308, 250, 248, 249, 321, 298, 310, 311, 425, 322, 323,
             434, 438, 447, 246, 175),
        ),
        "aarch64": (
            _AUDIT_AARCH64,
            (198, 199, 221, 117, 40, 39, 41, 51, 97, 268, 219, 217, 218, 280, 241, 270, 271, 425, 281, 282, 434, 438,
             447, 104, 105),
        ),
    }
)  # fmt: skip
_SYSTEM = (
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache",
    "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo", "/proc/self", "/proc/stat", "/sys/devices/system",
    "/dev/urandom", "/sys/fs/cgroup", "/sys/bus/pci", "/sys/class/drm",
)  # fmt: skip
"""What interpreters and numeric libraries read of a system; nothing that belongs to anybody."""
_CLONE: Mapping[str, int] = MappingProxyType({"x86_64": 56, "aarch64": 220})
_SECCOMP: Mapping[str, int] = MappingProxyType({"x86_64": 317, "aarch64": 277})
_CLONE3 = 435


def frameworks() -> Iterator[Path]:
    """Yield what an interpreter and its packages are read from."""
    yield from map(Path, _SYSTEM)
    yield from (Path(path) for path in sys.path if path)
    yield from (Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield Path(sys.base_prefix) / "lib"


def confine(readable: Iterable[Path], writable: Iterable[Path], memory_bytes: int) -> None:
    """Leave this process only what is under ``readable``, and ``writable`` to write in; raise SandboxMissing.

    Paths that do not exist are left out. Of threads that run already only the system calls are confined, and not the
    files: call it while there is one.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    machine = platform.machine()
    if machine not in _FORBIDDEN:
        raise SandboxMissing(f"there is no sandbox for {machine or 'this kind of machine'}")
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _missing("prctl")
    _confine_files(kernel, readable, writable)
    _confine_calls(kernel, machine)


def _confine_files(kernel: ctypes.CDLL, readable: Iterable[Path], writable: Iterable[Path]) -> None:
    version = kernel.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        raise _missing("Landlock")
    rights = (1 << _ALL_RIGHTS_OF[min(version, len(_ALL_RIGHTS_OF)) - 1]) - 1
    scopes = _SCOPES if version >= 6 else 0
    described = struct.pack("<QQQ", rights, 0, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = kernel.syscall(_CREATE_RULESET, described, len(described), 0)
    if ruleset < 0:
        raise _missing("Landlock")
    try:
        for path in readable:
            _allow(kernel, ruleset, path, (_READ | _READ_FOLDER) & rights)
        for path in writable:
            _allow(kernel, ruleset, path, rights & ~1)  # everything but to run it
        for device in ("/dev/null", "/dev/zero"):
            _allow(kernel, ruleset, Path(device), (_READ | _WRITE) & rights)
        if kernel.syscall(_RESTRICT_SELF, ruleset, 0):
            raise _missing("Landlock")
    finally:
        os.close(ruleset)


def _allow(kernel: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        granted = rights if path.is_dir() else rights & _FILE_RIGHTS
        rule = struct.pack("<Qi", granted, descriptor)
        if kernel.syscall(_ADD_RULE, ruleset, 1, rule, 0):
            raise _missing(f"Landlock ({path})")
    finally:
        os.close(descriptor)


def _confine_calls(kernel: ctypes.CDLL, machine: str) -> None:
    architecture, forbidden = _FORBIDDEN[machine]
    program = _program(architecture, forbidden, _CLONE[machine])
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    if kernel.syscall(_SECCOMP[machine], _SET_MODE_FILTER, _ALL_THREADS, filter_):
        raise _missing("seccomp")


def _program(architecture: int, forbidden: Iterable[int], clone: int) -> bytes:
    """Return the filter in classic BPF: what is forbidden fails with EPERM, clone3 does as if it did not exist.

    Threads may be made by clone, whose flags a filter can see; glibc falls back to it from clone3, whose it cannot.
    """
    load, equal, least, bits, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, deny, absent = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS

    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("<HBBI", code, if_true, if_false, value)

    steps = [step(load, 4), step(equal, architecture, 1, 0), step(give, deny), step(load, 0)]
    steps += [step(least, 0x40000000, 0, 1), step(give, deny)]  # the x32 interface has other numbers
    for number in forbidden:
        steps += [step(equal, number, 0, 1), step(give, deny)]
    steps += [step(equal, _CLONE3, 0, 1), step(give, absent)]
    steps += [step(equal, clone, 0, 3), step(load, 16), step(bits, _CLONE_THREAD, 1, 0), step(give, deny)]
    return b"".join([*steps, step(give, allow)])


def _missing(what: str) -> SandboxMissing:
    reason = os.strerror(ctypes.get_errno())
    return SandboxMissing(f"this machine cannot lock a process in: {what} fails ({reason})")
