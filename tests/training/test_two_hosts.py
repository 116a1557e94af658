"""Two hosts train one model, each in a network namespace of its own, and one of their processes is killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.command import SOURCE, verse

TRAIN = [
    "train",
    "language-model",
    "--data",
    "a.txt",
    "--hidden",
    "16",
    "--layers",
    "2",
    "--batch",
    "6",
    "--steps",
    "8",
]
TRAIN += [
    "--no-baselines",
    "--threads",
    "1",
    "--epochs",
    "99",
    "--max-steps",
    "300",
    "--validate-every",
    "100",
]
TRAIN += ["--checkpoint-every", "20"]


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str]]]:
    """Two namespaces with their addresses, joined by a cable."""
    if not shutil.which("ip"):
        pytest.skip("there is no `ip` (iproute2)")
    names = [f"elman{os.getpid()}{end}" for end in "ab"]
    net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    try:
        for name in names:
            if (made := ip("netns", "add", name)).returncode:
                pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        one, other = names
        made = ip(
            "link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", other
        )
        if made.returncode:
            pytest.skip(f"no cables between network namespaces here: {made.stderr.strip()}")
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"{net}.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        yield [(name, f"{net}.{number}") for number, name in enumerate(names, 1)]
    finally:
        for name in names:
            ip("netns", "del", name)


def start(hosts: list[tuple[str, str]], folder: Path, *arguments: str) -> list[subprocess.Popen[bytes]]:
    """The command on each host, one process on each; the first one is where they meet.

    After a death a host may meet the other before that one has noticed, and begin again: hence the restarts.
    """
    found = []
    for number, (name, address) in enumerate(hosts):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0][1]}:29400", "--rdzv-id", "two"]
        torchrun += [
            "--rdzv-conf",
            f"is_host={int(number == 0)}",
            "--local-addr",
            address,
            "--max-restarts",
            "3",
        ]
        environment = os.environ | {
            "PYTHONPATH": SOURCE,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "cable",
        }
        words = ["ip", "netns", "exec", name, *torchrun, "-m", "--", "elman", *arguments]
        with (folder / f"said-{number}.txt").open("w") as said:
            nowhere = subprocess.DEVNULL
            found.append(subprocess.Popen(words, cwd=folder, env=environment, stdout=nowhere, stderr=said))
    return found


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def kill_when(run: Path, step: int, agent: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a host's process once the log has come to a step."""
    while agent.poll() is None:
        log = run / "log.jsonl"
        steps = re.findall(r'"step": (\d+)', log.read_text()) if log.is_file() else []
        if steps and int(steps[-1]) >= step:
            # `ip netns exec` becomes the command.
            os.kill(children(agent.pid)[0], signal.SIGKILL)
            return
        time.sleep(0.05)


def weights(run: Path) -> torch.Tensor:
    tensors = load_file(run / "last.safetensors")
    return torch.cat(
        [t.double().flatten() for name, t in sorted(tensors.items()) if name.startswith("model.")]
    )


@pytest.mark.slow
def test_two_hosts_end_where_one_process_does_though_one_of_them_is_killed(
    hosts: list[tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(verse(400))
    alone = [sys.executable, "-m", "elman", *TRAIN, "--run", "alone", "--quiet"]
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    subprocess.run(alone, cwd=tmp_path, env=environment, check=True, timeout=400)
    for run, victim in (("whole", None), ("killed", 1)):
        agents = start(hosts, tmp_path, *TRAIN, "--run", run)
        try:
            if victim is not None:
                kill_when(tmp_path / run, 60, agents[victim])
            ends = [agent.wait(timeout=400) for agent in agents]
        finally:
            for agent in agents:
                agent.terminate()
        assert ends == [0, 0], (tmp_path / "said-0.txt").read_text()
    assert "continuing killed at step" in (tmp_path / "said-0.txt").read_text()
    whole, killed, one = (weights(tmp_path / run) for run in ("whole", "killed", "alone"))
    assert torch.equal(whole, killed)
    assert float((whole - one).norm() / one.norm()) < 1e-6
