"""A private Slurm on loopback: two nodes with two fake GPUs each, no accounting database.

Everything it writes lies in one fresh directory, so it neither needs nor disturbs a Slurm of the machine.
The daemons run in the foreground as children of this process: their process ids cannot be reused before they
are waited for, and the kernel ends them when this process dies.

    python tests/slurm/cluster.py COMMAND [ARGUMENT ...]

starts a cluster, runs the command with the cluster's environment, and stops the cluster again.
"""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

NODES = ("ebb1", "ebb2")  # each is a daemon on this machine with a port of its own
# The real number: faked processors cannot be bound, and the step of a grouped job needs its own bound.
CPUS = len(os.sched_getaffinity(0))
GPUS = 2
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "setpriv")
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
PATIENCE = 30  # seconds a daemon may take to answer or to stop
# The controller listens where its host name points to, and no machine's own name is sure to mean 127.0.0.1.
OWN_HOST_NAME = ("unshare", "--uts", "sh", "-c", 'hostname localhost && exec "$@"', "sh")
NULL_DEVICE = (1, 3)  # major and minor number of /dev/null


class ClusterError(RuntimeError):
    """A daemon of the private Slurm did not start."""


@dataclass(frozen=True)
class Job:
    """One submission, as the controller remembers it."""

    id: str
    state: str
    gres: str
    memory: str
    time_limit: str
    log: Path


@dataclass(frozen=True)
class Cluster:
    """A running Slurm: its directory and the environment in which `sbatch`, `squeue` and Snakemake use it."""

    directory: Path
    environment: Mapping[str, str]

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command as a user of the cluster would; its output, or CalledProcessError."""
        done = subprocess.run(
            command, cwd=cwd, env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def jobs(self, workdir: Path) -> list[Job]:
        """All jobs ever submitted from one directory, oldest first, finished ones too."""
        fields = ("workdir", "jobarrayid", "state", "tres-per-node", "minmemory", "timelimit", "stdout")
        # A separator also lifts the limit of 20 characters a column.
        columns = ",".join(f"{field}:|" for field in fields)
        table = self.run("squeue", "--noheader", "--states=all", "--sort=i", f"--Format={columns}")
        rows = [line.rstrip().removesuffix("|").split("|") for line in table.splitlines()]
        return [
            Job(id, state, gres, memory, time_limit, Path(log.replace("%j", id)))
            for submitted_from, id, state, gres, memory, time_limit, log in rows
            if Path(submitted_from) == workdir
        ]


def obstacle() -> str | None:
    """Why no cluster can run here, in one sentence; None when one can."""
    if any(shutil.which(program, path=SEARCH_PATH) is None for program in PROGRAMS):
        if shutil.which("apt-get") is None:
            return "Slurm is not installed, and tests/slurm/install.sh knows Debian packages only"
        return "Slurm is not installed: run tests/slurm/install.sh as root"
    if os.geteuid() != 0:
        return "a private Slurm needs root: its node starts jobs as other users"
    if subprocess.run((*OWN_HOST_NAME[:2], "true"), check=False, stderr=subprocess.DEVNULL).returncode:
        return "a private Slurm needs a host name of its own, which this container forbids (unshare --uts)"
    return None


@contextmanager
def running() -> Iterator[Cluster]:
    """Start a cluster, and stop what was started, however far that was.

    Raises ClusterError, with the last lines of its log, when a daemon does not come up.
    """
    with ExitStack() as undo:
        # Not pytest's: munge wants a path that every user may traverse, and a socket wants a short one.
        directory = Path(tempfile.mkdtemp(prefix="ebbtide-slurm-"))
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        undo.callback(_kill_leftovers, directory)
        directory.chmod(0o755)
        _write_configuration(directory)
        cluster = Cluster(directory, _environment(directory))
        munge = f"--socket={directory}/munge.socket"
        munged = [
            *("munged", "--foreground", munge, "--num-threads=2", f"--key-file={directory}/munge.key"),
            *(f"--pid-file={directory}/munged.pid", f"--seed-file={directory}/munged.seed"),
        ]
        _start(cluster, undo, munged, ready=lambda: _succeeds(cluster, "munge", "--no-input", munge))
        _start(cluster, undo, ["slurmctld", "-D"], ready=lambda: _succeeds(cluster, "scontrol", "ping"))
        for number, node in enumerate(NODES, start=1):
            _start(cluster, undo, ["slurmd", "-D", "-N", node], ready=partial(_idle, cluster, number))
        undo.callback(_cancel_everything, cluster)
        yield cluster


def _environment(directory: Path) -> dict[str, str]:
    of_another_job = ("SLURM_", "SBATCH_", "SRUN_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(of_another_job)}
    # Jobs shall find the Python that runs the tests, whether or not its environment is activated.
    path = [f"{directory}/bin", str(Path(sys.executable).parent), SEARCH_PATH]
    return {**kept, "PATH": os.pathsep.join(path), "SLURM_CONF": f"{directory}/slurm.conf"}


def _idle(cluster: Cluster, nodes: int) -> bool:
    """Whether this number of nodes is ready."""
    return cluster.run("sinfo", "--noheader", "--Node", "--format=%t").split().count("idle") == nodes


def _write_configuration(directory: Path) -> None:
    for name in ("state", "bin", *(f"spool/{node}" for node in NODES)):
        (directory / name).mkdir(parents=True)
    secret = directory / "munge.key"
    secret.touch(mode=0o400)
    secret.write_bytes(os.urandom(128))
    # A GPU without a device file makes the node invalid; a clone of /dev/null is enough to be handed out.
    for gpu in range(GPUS):
        os.mknod(directory / f"gpu{gpu}", stat.S_IFCHR | 0o666, os.makedev(*NULL_DEVICE))
    gpus = f"Name=gpu File={directory}/gpu[0-{GPUS - 1}]"
    (directory / "gres.conf").write_text("".join(f"NodeName={node} {gpus}\n" for node in NODES))
    (directory / "slurm.conf").write_text(_configuration(directory))
    # Snakemake's job step drops SLURM_CONF before it calls srun.
    srun = directory / "bin" / "srun"
    real = shutil.which("srun", path=SEARCH_PATH)
    srun.write_text(
        "#!/bin/sh\n"
        # Both nodes are this machine, but each has GPUs of its own.
        f'export EBBTIDE_GPU_LOCKS="${{EBBTIDE_GPU_LOCKS:-{directory}/gpus}}-$SLURMD_NODENAME"\n'
        f'SLURM_CONF={directory}/slurm.conf exec {real} "$@"\n'
    )
    srun.chmod(0o755)


def _configuration(directory: Path) -> str:
    controller, *ports = _free_ports(1 + len(NODES))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    size = f"CPUs={CPUS} RealMemory={memory} Gres=gpu:{GPUS}"
    nodes = "\n".join(
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} {size}"
        for node, port in zip(NODES, ports, strict=True)
    )
    # MinJobAge: finished jobs stay visible to squeue for a day, in place of a database.
    # task/affinity: without it the step of a grouped job does not start.
    # NoInAddrAny: listen on the loopback address alone.
    return f"""\
ClusterName=ebbtide
SlurmctldHost=localhost
SlurmctldPort={controller}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.%n.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=86400
KillWait=2
EnforcePartLimits=ALL
ReturnToService=2
GresTypes=gpu
{nodes}
PartitionName=gpu Nodes={",".join(NODES)} Default=YES MaxTime=1440 DefMemPerCPU=500
"""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:  # all held at once, so that they differ
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _start(cluster: Cluster, undo: ExitStack, command: list[str], *, ready: Callable[[], bool]) -> None:
    name = "-".join([command[0], *command[3:4]])
    log = cluster.directory / f"{name}.log"
    with log.open("wb") as stream:
        # A session of its own: Ctrl-C at the terminal is for the tests, which then stop the daemons in order.
        daemon = subprocess.Popen(
            [*OWN_HOST_NAME, "setpriv", "--pdeathsig=TERM", *command],
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    undo.callback(_stop, daemon)
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if daemon.poll() is not None or time.monotonic() > deadline:
            what = "does not answer" if daemon.returncode is None else f"ended with {daemon.returncode}"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ClusterError(f"{name} {what}:\n{tail}")
        time.sleep(0.05)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()  # does nothing to a child that has ended
    try:
        daemon.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _cancel_everything(cluster: Cluster) -> None:
    # slurmd leaves running jobs alone when it stops: they would outlive the tests.
    with suppress(subprocess.CalledProcessError):
        for state in ("PENDING", "RUNNING", "SUSPENDED"):
            cluster.run("scancel", f"--state={state}")
        deadline = time.monotonic() + PATIENCE
        while cluster.run("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.1)


def _kill_leftovers(directory: Path) -> None:
    """Kill processes of submissions that have outlived their daemons, which would have killed them."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended
            if f"SLURM_CONF={directory}/".encode() in environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)


def _succeeds(cluster: Cluster, *command: str) -> bool:
    quiet = subprocess.DEVNULL
    done = subprocess.run(command, check=False, env=cluster.environment, stdout=quiet, stderr=quiet)
    return done.returncode == 0


def main() -> int:
    """Run the command line's command inside a fresh cluster; its exit status."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    if reason := obstacle():
        print(reason, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with running() as cluster:
        return subprocess.run(sys.argv[1:], check=False, env=cluster.environment).returncode


if __name__ == "__main__":
    sys.exit(main())
