"""A private Slurm cluster of two nodes on this machine, with all its files in one folder."""

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
PATIENCE = 60  # seconds to wait for the start and for the end
NODES = ["one", "two"]
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}

# Without cgroups and root, so it runs only jobs of the same user. Each node claims four processors.
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
    """The Slurm programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Slurm:
    """A controller and two nodes, running from construction until `close`.

    Args:
        folder: the folder for all files of the cluster, which must be private.

    Raises:
        TimeoutError: the daemons did not start; the message has their logs.
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
        """Submit an example, and wait for the job; returns its exit code and output.

        Args:
            example: the name of the job script.
            arguments: arguments of the script.
            folder: the working directory.
        """
        output = self._folder / "job.out"
        _, job, complaints = run(
            ["sbatch", "--parsable", f"--output={output}", example], *arguments, folder=folder,
            SLURM_CONF=self._environment["SLURM_CONF"],
        )  # fmt: skip
        assert complaints == ""
        # `sbatch --wait` would poll only after 2, 10 and 42 seconds.
        wait_until(lambda: self._told(job, "JobState") in ENDED, "the job does not end", patience=200)
        return int(self._told(job, "ExitCode").partition(":")[0]), output.read_text(encoding="utf-8")

    def close(self):
        """Cancel the jobs, then stop the daemons."""
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
        # --force accepts a private folder, which is enough because no other user takes part.
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
        """The output of a program, or an empty string on a timeout."""
        try:
            return subprocess.run(
                command, env=self._environment, capture_output=True, encoding="utf-8", check=False, timeout=10
            ).stdout
        except subprocess.TimeoutExpired:
            return ""

    def _logs(self):
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')}" for log in self._folder.glob("*.log"))


def wait_until(holds, otherwise, patience=PATIENCE):
    """Wait until a condition holds; after a timeout, raise TimeoutError with `otherwise`."""
    until = time.monotonic() + patience
    while not holds():
        if time.monotonic() >= until:
            raise TimeoutError(otherwise() if callable(otherwise) else otherwise)
        time.sleep(0.1)


def free_ports(count):
    """Ports on which no process listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
