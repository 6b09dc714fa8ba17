"""The threads in which models compute, and the count of what they are at.

Functions block, so they run in threads; the event loop only moves bytes, and answers probes while every thread is busy. What must stay true: work is
counted until its thread is done, not until its caller has gone, since what has begun cannot be ended; what has not begun when its caller goes never does.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor


class Work:
    def __init__(self, threads):
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="predict")
        self._lock = threading.Lock()
        self._running = 0

    @property
    def running(self):
        with self._lock:
            return self._running

    async def run(self, function, *arguments):
        """What the function returns or raises, from a thread."""
        with self._lock:
            self._running += 1
        job = self._executor.submit(function, *arguments)
        job.add_done_callback(self._done)
        outcome = asyncio.wrap_future(job)
        outcome.add_done_callback(_see)
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            job.cancel()
            raise

    def shut_down(self):
        """Ends the threads, where none is at work."""
        self._executor.shutdown(wait=not self.running, cancel_futures=True)

    def _done(self, _job):
        with self._lock:
            self._running -= 1


def _see(outcome):
    # Where the caller has gone, nobody else will look at it.
    if not outcome.cancelled():
        outcome.exception()
