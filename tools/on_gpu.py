"""`python tools/on_gpu.py OUT`: everything that wants a GPU, one after the other, in under ten minutes.

Every step is a process of its own with a time limit, writes what it prints to OUT/NAME.txt as it goes, and is marked as
done when it ends well: run it again, and it goes on where it stopped. OUT/summary.md says what became of each.
`--rehearse` takes the same steps on a CPU at small sizes, with ten times the limits, as a CPU may be busy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

WAN = ("--preset", "wan2.2-ti2v-5b", "--random-weights")
ONE = ("--chunks", "1", "--steps", "1", "--caches", "latent")
BENCH = ("mirage", "bench")
EXACT = ("test/memory/zbuffer", "-p", "no:cacheprovider")
READ = (*BENCH, "memory", "read")
FULL = (*BENCH, "rollout", *WAN, "--device", "cuda")
SMALL = (*BENCH, "rollout", "--preset", "test", "--random-weights", "--chunks", "1")
# What training is measured with: the default preset's last phase, from the shipped weights.
CLIPS = ("mirage", "data", "--out", "{out}/clips")
TRAIN = ("mirage", "train", "default", "--phase", "joint", "--source", "weights/default", "--run", "{out}/run")
TRAIN = (*TRAIN, "--data", "{out}/clips", "--held-out", "{out}/clips")
# Name, limit in seconds, what of the environment runs on a GPU, and at a rehearsal on a CPU. NAME=VALUE before a
# command goes to its environment.
STEPS: tuple[tuple[str, int, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "exact",
        60,
        ("pytest", "-q", *EXACT, "test/memory/test_read.py", "test/memory/test_latent.py"),
        ("pytest", "-q", "test/memory/zbuffer/test_reference.py", "-p", "no:cacheprovider"),
    ),
    (
        "read",
        40,
        (*READ, "--device", "cuda", "--elements", "10000", "100000", "1000000", "4000000"),
        (*READ, "--elements", "10000", "--repeats", "1"),
    ),
    (
        "read-large",
        25,
        (*READ, "--device", "cuda", "--cells", "88", "160", "--elements", "100000", "1000000", "4000000"),
        (*READ, "--cells", "88", "160", "--elements", "10000", "--repeats", "1"),
    ),
    ("rollout", 130, (*FULL, "--chunks", "3", "--steps", "4"), (*SMALL, "--caches", "latent")),
    (
        "compiled",
        110,
        (*FULL, "--chunks", "2", "--steps", "4", "--caches", "latent", "--compile"),
        (*SMALL, "--caches", "view"),
    ),
    (
        "cuda-graphs",
        70,
        ("TORCHINDUCTOR_CUDAGRAPHS=1", *FULL, "--chunks", "2", "--steps", "4", "--caches", "latent", "--compile"),
        ("TORCHINDUCTOR_CUDAGRAPHS=1", *SMALL, "--caches", "latent", "--compile"),
    ),
    (
        "small-gpu",
        60,
        (*BENCH, "rollout", *WAN, *ONE, "--device", "cuda", "--offload", "--quantised", "int8", "--tile", "512"),
        (*SMALL, "--caches", "latent", "--offload"),
    ),
    (
        "conditioning",
        40,
        (*BENCH, "conditioning", "--device", "cuda", "--groups", "2"),
        (*BENCH, "conditioning", "--preset", "test", "--chunks", "1"),
    ),
    (
        "clips",
        20,
        (*CLIPS, "--scenes", "16", "--clips-per-shard", "4"),
        (*CLIPS, "--scenes", "1", "--clips-per-shard", "1"),
    ),
    (
        "train",
        40,
        (*TRAIN, "--batch", "32", "--minutes", "joint=0.4"),
        (*TRAIN, "--batch", "1", "--steps", "joint=1"),
    ),
)


def run(name: str, limit: int, command: tuple[str, ...], out: Path) -> str:
    """Run one step; gives what became of it."""
    done = out / f"{name}.done"
    if done.is_file():
        return f"done before: {done.read_text().strip()}"
    start = time.monotonic()
    command = tuple(word.replace("{out}", str(out)) for word in command)
    settings = dict(word.split("=", 1) for word in command[:1] if "=" in word)
    program, *words = command[len(settings) :]
    with (out / f"{name}.txt").open("w") as printed:
        print(f"$ {' '.join(command)}", file=printed, flush=True)
        try:
            code = subprocess.run(
                [Path(sys.executable).with_name(program), *words],
                env={**os.environ, **settings},
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
        chosen = (10 * limit, small) if options.rehearse else (limit, full)
        results[name] = run(name, *chosen, options.out)
        print(f"{name}: {results[name]}", flush=True)
        rows = "\n".join(f"| {step} | {result} |" for step, result in results.items())
        (options.out / "summary.md").write_text(f"| step | result |\n|---|---|\n{rows}\n")
    return int(any(result.startswith(("failed", "stopped")) for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
