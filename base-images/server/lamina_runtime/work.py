"""The threads in which models compute, and the count of what they are at.

Functions block, so they run in threads; the event loop only moves bytes, and answers probes while every thread is busy. What must stay true: work is
counted until its thread is done, not until its caller has gone: a call that was cancelled leaves its function running.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor


class Work:
    """Lives in one event loop."""

    def __init__(self, threads):
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="predict")
        self.running = 0

    async def run(self, function, *arguments):
        future = asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        self.running += 1
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def shut_down(self):
        """Ends the threads, where none is at work."""
        self._executor.shutdown(wait=not self.running, cancel_futures=True)

    def _done(self, future):
        self.running -= 1
        if not future.cancelled():
            # Marks the outcome as seen, where the caller has gone and nobody else will.
            future.exception()
