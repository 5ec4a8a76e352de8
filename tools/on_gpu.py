"""`python tools/on_gpu.py OUT`: everything that wants a GPU, one after the other, in under ten minutes.

Every step is a process of its own with a time limit, writes what it prints to OUT/NAME.txt as it goes, and is marked as
done when it ends well: run it again, and it goes on where it stopped. OUT/summary.md says what became of each.
`--rehearse` takes the same steps on a CPU at small sizes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

WAN = ("--preset", "wan2.2-ti2v-5b", "--random-weights")
ONE = ("--chunks", "1", "--steps", "1", "--caches", "latent")
BENCH = ("mirage", "bench")
# Name, limit in seconds, what of the environment runs on a GPU, and at a rehearsal on a CPU.
STEPS: tuple[tuple[str, int, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "exact",
        60,
        ("pytest", "-q", "test/memory/zbuffer", "-p", "no:cacheprovider"),
        ("pytest", "-q", "test/memory/zbuffer/test_cpu.py", "-p", "no:cacheprovider"),
    ),
    ("read", 60, (*BENCH, "memory", "read", "--device", "cuda"), (*BENCH, "memory", "fork", "--repeats", "1")),
    (
        "rollout",
        150,
        (*BENCH, "rollout", *WAN, "--device", "cuda", "--chunks", "3", "--steps", "4"),
        (*BENCH, "rollout", "--preset", "test", "--random-weights", "--chunks", "1", "--caches", "latent"),
    ),
    (
        "compiled",
        150,
        (
            *BENCH,
            "rollout",
            *WAN,
            "--device",
            "cuda",
            "--chunks",
            "2",
            "--steps",
            "4",
            "--caches",
            "latent",
            "--compile",
        ),
        (*BENCH, "rollout", "--preset", "test", "--random-weights", "--chunks", "1", "--caches", "view"),
    ),
    (
        "small-gpu",
        80,
        (*BENCH, "rollout", *WAN, *ONE, "--device", "cuda", "--offload", "--quantised", "int8", "--tile", "512"),
        (*BENCH, "rollout", "--preset", "test", "--random-weights", "--chunks", "1", "--caches", "latent", "--offload"),
    ),
    (
        "conditioning",
        60,
        (*BENCH, "conditioning", "--device", "cuda", "--groups", "2"),
        (*BENCH, "conditioning", "--preset", "test", "--chunks", "1"),
    ),
)


def run(name: str, limit: int, command: tuple[str, ...], out: Path) -> str:
    """Run one step; gives what became of it."""
    done = out / f"{name}.done"
    if done.is_file():
        return f"done before: {done.read_text().strip()}"
    start = time.monotonic()
    with (out / f"{name}.txt").open("w") as printed:
        print(f"$ {' '.join(command)}", file=printed, flush=True)
        try:
            code = subprocess.run(
                [Path(sys.executable).with_name(command[0]), *command[1:]],
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=limit,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"stopped after {limit} s"
    seconds = f"{time.monotonic() - start:.0f} s"
    if code:
        return f"failed with {code} after {seconds}"
    done.write_text(seconds + "\n")
    return seconds


def main() -> int:
    """Run what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rehearse", action="store_true", help="small, on a CPU")
    parser.add_argument("--only", nargs="*", choices=[step[0] for step in STEPS], help="steps")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, limit, full, small in STEPS:
        if options.only and name not in options.only:
            continue
        results[name] = run(name, limit, small if options.rehearse else full, options.out)
        print(f"{name}: {results[name]}", flush=True)
        rows = "\n".join(f"| {step} | {result} |" for step, result in results.items())
        (options.out / "summary.md").write_text(f"| step | result |\n|---|---|\n{rows}\n")
    return int(any(result.startswith(("failed", "stopped")) for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
