"""A Slurm of two nodes on this machine, beside whatever Slurm it has: all that this one knows is in its own folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time

from example_runs import run

PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo", "squeue"]
PATIENCE = 60  # seconds until it is ready, or until it has ended
NODES = ["one", "two"]
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}

# No cgroups and no root: it runs only jobs of whoever started it. Four processors each, whatever the machine has.
CONFIGURATION = """
ClusterName=lazyckpt
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
KillWait=2
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=8000
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=8000
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing_programs():
    """What of Slurm is not on this machine."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Slurm:
    """One controller and two nodes, from when it is made until `close`.

    Args:
        folder: where all is kept; nobody else's.

    Raises:
        TimeoutError: the daemons did not come up; with what they said.
    """

    def __init__(self, folder):
        self._folder = folder
        self._user = pwd.getpwuid(os.getuid()).pw_name
        self._daemons = []
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").touch(mode=0o600)
        (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname().partition(".")[0],
                ports=free_ports(3),
                user=self._user,
            )
        )
        self._environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def submit(self, example, *arguments, folder):
        """Submit an example, and wait for its end: the job's exit code, and all that it printed.

        Args:
            example: the name of the job's script.
            arguments: of the example.
            folder: where it is submitted.
        """
        output = self._folder / "job.out"
        _, job, complaints = run(
            ["sbatch", "--parsable", f"--output={output}", example], *arguments, folder=folder,
            SLURM_CONF=self._environment["SLURM_CONF"],
        )  # fmt: skip
        assert complaints == ""
        # `sbatch --wait` asks after 2, 10, 42 seconds.
        wait_until(lambda: self._told(job, "JobState") in ENDED, "the job does not end", patience=200)
        return int(self._told(job, "ExitCode").partition(":")[0]), output.read_text(encoding="utf-8")

    def close(self):
        """End its jobs, then its daemons."""
        self._ask("scancel", "--quiet", f"--user={self._user}")
        try:
            wait_until(lambda: not self._ask("squeue", "--noheader"), "its jobs do not end")
        finally:
            for daemon in reversed(self._daemons):
                daemon.terminate()
            for daemon in self._daemons:
                daemon.wait(PATIENCE)

    def _told(self, job, name):
        told = self._ask("scontrol", "--oneliner", "show", "job", job.strip())
        return dict(word.partition("=")[::2] for word in told.split()).get(name)

    def _start(self):
        files = [f"--{name}-file={self._folder / name}" for name in ("pid", "seed")]
        # Forced to, it takes a folder that is its user's alone: there is no other user.
        key, heard_at = f"--key-file={self._folder / 'munge.key'}", f"--socket={self._folder / 'munge.socket'}"
        self._daemon("munged", "--foreground", "--force", key, heard_at, *files)
        wait_until((self._folder / "munge.socket").exists, self._logs)
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        states = ["idle"] * len(NODES)
        wait_until(lambda: self._ask("sinfo", "--Node", "--noheader", "--format=%T").split() == states, self._logs)

    def _daemon(self, *command):
        log = self._folder / f"{command[0]}{len(self._daemons)}.log"
        with log.open("wb") as printed:
            self._daemons.append(
                subprocess.Popen(
                    command, env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=printed,
                    stderr=subprocess.STDOUT,
                )
            )  # fmt: skip

    def _ask(self, *command):
        """What a program prints; nothing if the daemons give it no answer."""
        try:
            return subprocess.run(
                command, env=self._environment, capture_output=True, encoding="utf-8", check=False, timeout=10
            ).stdout
        except subprocess.TimeoutExpired:
            return ""

    def _logs(self):
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')}" for log in self._folder.glob("*.log"))


def wait_until(holds, otherwise, patience=PATIENCE):
    """Wait until something holds; if it does not for too long, raise what `otherwise` is or returns."""
    until = time.monotonic() + patience
    while not holds():
        if time.monotonic() >= until:
            raise TimeoutError(otherwise() if callable(otherwise) else otherwise)
        time.sleep(0.1)


def free_ports(count):
    """Ports at which nobody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
