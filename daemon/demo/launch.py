"""Run as a script: become a child that cannot outlive its parent, then become the program named.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID:GID|- PROGRAM ARGUMENT...

On Linux the kernel sends DEATH_SIGNAL when the thread that started the child ends, kill -9 included; elsewhere only
the orderly way of stopping works. Privileges are dropped first, because changing them clears the death signal.
Imports nothing of the package: the interpreter may be one that has no access to it.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, identity: str, command: list[str]) -> None:
    """Never returns: the process becomes `command`, or ends because its parent is gone already."""
    if identity != "-":
        uid, gid = (int(part) for part in identity.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - becoming the program is the point


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
