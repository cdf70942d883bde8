"""The two sides of a comparison as processes that answer JSON lines, and whether the machine was quiet meanwhile."""
import json
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV_PYTHON = ROOT / "target/bench-peers/venv/bin/python"
PEERS = [str(VENV_PYTHON), str(ROOT / "bench/peers.py")]
TICK = os.sysconf("SC_CLK_TCK")
# A sample during which others took more of the machine than this is tried again, and counts as noisy.
QUIET = 0.05


def engine_binary():
    """Builds the engine's side and returns its path."""
    command = ["cargo", "bench", "--bench", "engine", "--no-run", "--message-format=json-render-diagnostics"]
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    for line in output.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "engine" and message["executable"]:
            return message["executable"]
    raise SystemExit("cargo built no bench named engine")


class Worker:
    """A process that answers one JSON line with another."""

    def __init__(self, command, environment={}, **open_with):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                                        env=os.environ | environment)
        self.about = self.ask(do="open", **open_with)

    def ask(self, **request):
        """The answer, with `others`: the share of the machine's processors that other processes took meanwhile."""
        own, busy, begin = cpu_of(self.process.pid), cpu_of_machine(), time.monotonic()
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended at {request} with {self.process.wait()}")
        answer = json.loads(line)
        took = max(time.monotonic() - begin, 0.05)
        others = (cpu_of_machine() - busy) - (cpu_of(self.process.pid) - own)
        answer["others"] = max(0.0, others / took / os.cpu_count())
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def once(command, threads):
    """The answer of a process that measures one thing and ends."""
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True,
                            env=os.environ | {"THREADS": str(threads)}).stdout
    return json.loads(output.splitlines()[-1])


def cpu_of(pid):
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def cpu_of_machine():
    """Busy (or stolen) processor seconds of the machine so far."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


def quiet_share(samples):
    """The share of samples that were taken on a quiet machine."""
    return sum(s["others"] <= QUIET for s in samples) / len(samples)
