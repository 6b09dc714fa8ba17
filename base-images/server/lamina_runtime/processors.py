"""How many processors this container may use, for engines that start a thread for each.

An engine counts the machine's processors, and a container that may use two of 64 is then slowed down by 64 threads that wait for each other. What must stay true:
where nothing limits the container, the number is the process's own.
"""

import math
import os


def available(root="/sys/fs/cgroup"):
    count = len(os.sched_getaffinity(0))
    limit = _limit(root)
    return count if limit is None else max(1, min(count, math.ceil(limit)))


def _limit(root):
    """The share of time that the control group has, as a number of processors; None without a limit."""
    # Version 2, then version 1.
    quota = _words(os.path.join(root, "cpu.max"))
    if len(quota) == 2:
        return _ratio(*quota)
    return _ratio(_first(_words(os.path.join(root, "cpu", "cpu.cfs_quota_us"))), _first(_words(os.path.join(root, "cpu", "cpu.cfs_period_us"))))


def _ratio(quota, period):
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        # "max", or no such file.
        return None
    return share if share > 0 else None


def _words(path):
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except (OSError, ValueError):
        return []


def _first(words):
    return words[0] if words else ""
