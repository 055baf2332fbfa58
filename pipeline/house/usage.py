"""What this process and all below it use of the machine: CPUs and memory.

Looked at about once a second, so it may cost a few milliseconds. What has ended counts with who has reaped it.
"""

from __future__ import annotations

import time


class Usage:
    """Between one look and the next."""

    def __init__(self) -> None:
        self._at = self._spent = 0.0

    def look(self) -> tuple[float, int]:
        """CPUs in use since the last look (0.0 at the first), and the bytes of memory in use now."""
        import psutil  # 20 ms that no start-up should wait for

        spent, memory = 0.0, 0
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                with process.oneshot():
                    spent += sum(process.cpu_times()[:4])
                    memory += process.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
        now = time.monotonic()
        cpus = (spent - self._spent) / (now - self._at) if self._at and now > self._at else 0.0
        self._at, self._spent = now, spent
        return max(0.0, cpus), memory
