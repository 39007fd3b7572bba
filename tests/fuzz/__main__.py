"""Feeds every parser with bytes nobody chose (``make fuzz SECONDS=600``): atheris looks which lead somewhere new.

    python tests/fuzz --seconds 600 [TARGET ...]    each target so long, one after the other
    python tests/fuzz TARGET FILE                   the bytes that made one fail, once more

What was found is kept in ``.cache/fuzz`` and begun from the next time.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # what tests share

import atheris

CACHE = Path(".cache/fuzz")
SLOWEST_SECONDS = 10
MOST_MEGABYTES = 2048
READ = ["mofang", "python_multipart", "hpack", "tomllib", "numpy.lib"]

if "--alone" in sys.argv:
    with atheris.instrument_imports(include=READ):
        from targets import TARGETS
else:
    from targets import TARGETS


def main() -> int:
    """Run the targets asked for; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; none: all")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    asked = parser.parse_args()
    if len(asked.names) == 2 and asked.names[1] not in TARGETS:
        TARGETS[asked.names[0]].try_one(Path(asked.names[1]).read_bytes())
        return 0
    if unknown := [name for name in asked.names if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if asked.alone:
        fuzz(asked.names[0], asked.seconds)
    return sum([not run(name, asked.seconds) for name in asked.names or TARGETS])


def run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; print how many executions there were, and what failed."""
    command = [sys.executable, __file__, name, "--seconds", str(seconds), "--alone"]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # files are written and read often
        environ = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environ)
    said = done.stdout + done.stderr
    executions = re.findall(r"number_of_executed_units: *(\d+)|Done (\d+) runs", said)
    count = int(max(executions[-1])) if executions else 0
    if done.returncode == 0:
        print(f"{name:14} {count:>10,} executions, no failure", flush=True)
        return True
    print(f"{name:14} {count:>10,} executions, FAILED", flush=True)
    print("\n".join(said.splitlines()[-40:]), flush=True)
    for crash in re.findall(r"Test unit written to (\S+)", said):
        print(f"again: {sys.executable} {__file__} {name} {crash}", flush=True)
    return False


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target; does not return."""
    target, corpus = TARGETS[name], CACHE / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    settings = {
        "max_total_time": seconds, "timeout": SLOWEST_SECONDS, "rss_limit_mb": MOST_MEGABYTES, "max_len": 4096,
        "artifact_prefix": f"{CACHE}/{name}-", "print_final_stats": 1, "verbosity": 1,
    }  # fmt: skip
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{key}={value}" for key, value in settings.items())], target.try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
