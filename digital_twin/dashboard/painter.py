"""Work on the page in a thread of its own, which runs only while nothing else wants to."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Painter:
    """Does what it is asked, the oldest first; what is asked again before it was done is done once, the newer way.

    Only this thread and that of the server yield. Those of the middleware do not: the twin's own writers could wait for
    whatever lock one of them holds while it is kept from running.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        """begin: done first, in the thread; it makes the thread yield."""
        self._wake = threading.Condition()
        self._asked: dict[str, Callable[[], None]] = {}
        self._open, self._begin = True, begin
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)
        self._thread.start()

    def ask(self, what: str, work: Callable[[], None]) -> None:
        """Do this soon, in place of what was asked under the same name."""
        with self._wake:
            self._asked[what] = work
            self._wake.notify()

    def close(self) -> None:
        """Finish what is under way, and stop."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join(5.0)

    def _work(self) -> None:
        self._begin()
        while True:
            with self._wake:
                while self._open and not self._asked:
                    self._wake.wait()
                if not self._open:
                    return
                what = next(iter(self._asked))
                work = self._asked.pop(what)
            work()
