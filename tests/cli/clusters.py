"""Clusters of two nodes on this machine, for as long as a test lasts.

A node is a machine to all that runs on it: it has a name, an address and processes of its own, which end with it. The
file system is shared, as on a cluster. It takes root to make one.
"""

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("n1", "n2")
"""At 127.0.0.1 and 127.0.0.2."""

APART = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "sh", "-c")

SLURM = """\
ClusterName=kdal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdTimeout=10
SlurmdParameters=config_overrides
NodeName=n1 NodeAddr=127.0.0.1 Port={n1} CPUs=1
NodeName=n2 NodeAddr=127.0.0.2 Port={n2} CPUs=1
PartitionName=all Nodes=n[1-2] Default=YES State=UP
"""


class Cluster:
    """Nodes by name, and whatever else has to run beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.daemons: list[subprocess.Popen[bytes]] = []
        known = "".join(f"127.0.0.{number} {name}\n" for number, name in enumerate(NAMES, 1))
        (folder / "hosts").write_text(f"{Path('/etc/hosts').read_text()}\n{known}")

    def serve(self, *command: str, folder: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command that does not end, in a folder."""
        with (self.folder / f"{len(self.daemons)}.out").open("wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.daemons.append(process)
        return process

    def boot(self, name: str, *command: str, folder: Path | None = None) -> None:
        """Start a node with one command, which does not end."""
        hosts = shlex.quote(str(self.folder / "hosts"))
        named = f"mount --bind {hosts} /etc/hosts && echo {name} >/proc/sys/kernel/hostname"
        kept = f"{{ {shlex.join(command)} & wait; }}"  # sh reaps orphans
        self.nodes[name] = self.serve(*APART, f"{named} && {kept}", folder=folder)

    def on(self, name: str, folder: Path) -> list[str]:
        """What has to stand before a command that is typed on a node, in a folder."""
        outer = self.nodes[name].pid
        [inner] = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return ["nsenter", f"--target={inner}", "--pid", "--mount", "--uts", f"--wd={folder}"]

    def kill(self, name: str) -> None:
        """Take the power from a node."""
        self.nodes[name].kill()
        self.nodes[name].wait(30)

    def until(self, happened: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something to happen, at most so many seconds."""
        patience = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > patience:
                said = "\n".join(path.read_text(errors="replace")[-1000:] for path in self.folder.glob("*.out"))
                raise AssertionError(f"not after {seconds:.0f} s: {what}\n{said}")
            time.sleep(0.2)

    def end(self) -> None:
        for process in self.nodes.values():
            process.kill()
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, for nodes of its own")
    folder.chmod(0o755)
    made = Cluster(folder)
    try:
        yield made
    finally:
        made.end()


@contextmanager
def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes of one CPU each; a node that says nothing for 10 s is taken for dead."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install slurm-wlm munge")
    with cluster(folder) as made:
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        ports = dict(zip(("controller", *NAMES), free_ports(3), strict=True))
        host = socket.gethostname().partition(".")[0]
        conf = folder / "slurm.conf"
        conf.write_text(SLURM.format(host=host, folder=folder, **ports))
        monkeypatch.setenv("SLURM_CONF", str(conf))
        munge = [f"--{name}={folder}/munge{end}" for name, end in (("key-file", ".key"), ("socket", ".socket"))]
        munge += [f"--{name}={folder}/munge.{name}" for name in ("pid-file", "log-file", "seed-file")]
        made.serve("munged", "--foreground", "--force", *munge)
        made.until((folder / "munge.socket").exists, 30, "munged serves")
        made.serve("slurmctld", "-D")
        for name in NAMES:
            made.boot(name, "slurmd", "-D", "-N", name)
        made.until(lambda: said("sinfo", "-h", "-o", "%T %D") == "idle 2", 60, "both nodes are idle")
        yield made


@contextmanager
def ray(folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, str]]:
    """Two nodes of one CPU each, whose workers start in `here`, and the address of the first."""
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "240")  # of 30, which a busy machine does not keep
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # unset, it hangs on whether this user has ever had a cluster
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    command = Path(sys.executable).with_name("ray")
    if not command.exists():
        pytest.skip("needs Ray: pip install 'kdal[ray]'")
    with cluster(folder) as made:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        common = ("--block", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats")
        head = ("--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false")
        starts = {"n1": head, "n2": (f"--address={address}", "--node-ip-address=127.0.0.2")}
        for number, (name, words) in enumerate(starts.items()):
            made.boot(name, str(command), "start", *words, f"--temp-dir={folder}/{name}", *common, folder=here)
            out = folder / f"{number}.out"
            made.until(lambda: "will now block" in out.read_text(), 300, f"{name} is there")  # noqa: B023
        yield made, address


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports
