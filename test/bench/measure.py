"""Runs a command and prints as one JSON line what it cost: python3 measure.py LOG COMMAND...

wall: seconds from start to end. cpu: user + system seconds of the command and of all children it waited for (wait4).
peak: highest sum of resident bytes over its process tree, sampled from /proc every 20 ms. maxrss: ru_maxrss, the largest single process, in bytes.
The command's output goes to the file LOG.
"""
import json
import os
import sys
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE")


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += file.read().split()
    except OSError:
        pass
    return found


def resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as file:
            own = int(file.read().split()[1]) * PAGE
    except OSError:
        return 0
    return own + sum(resident(child) for child in children(pid))


log, *command = sys.argv[1:]
output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
began = time.monotonic()
pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
over = threading.Event()
peak = 0


def watch():
    global peak
    while not over.is_set():
        peak = max(peak, resident(pid))
        over.wait(0.02)


watcher = threading.Thread(target=watch)
watcher.start()
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - began
over.set()
watcher.join()
print(json.dumps({
    "exitCode": os.waitstatus_to_exitcode(status),
    "wall": wall,
    "cpu": usage.ru_utime + usage.ru_stime,
    "peak": peak,
    "maxrss": usage.ru_maxrss * 1024,
}))
