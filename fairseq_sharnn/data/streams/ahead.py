"""Items made ahead of time in a thread, so that a GPU does not wait for the next chunk."""

import queue
import threading
from typing import Any, Iterable, Iterator

import torch

# One that waits and one in the making: an update takes much longer than a chunk.
_WAITING = 1


def made_ahead(items: Iterable[Any]) -> Iterator[Any]:
    """The items in order. A thread makes the next one while the caller works on the last one.

    An error in the thread is raised where its item would have come. The thread ends with this iterator.
    """
    ready: queue.Queue[Any] = queue.Queue(_WAITING)
    stopped = threading.Event()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def make() -> None:
        if device is not None:
            torch.cuda.set_device(device)  # pinning must not start another GPU's context
        try:
            for item in items:
                if not _put(ready, (item, None), stopped):
                    return
            _put(ready, (None, StopIteration()), stopped)
        except BaseException as error:
            _put(ready, (None, error), stopped)

    thread = threading.Thread(target=make, name="next chunk", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error = ready.get(timeout=1.0)
            except queue.Empty:
                if thread.is_alive():
                    continue
                raise RuntimeError("the thread that makes the next chunk has ended") from None
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()


def _put(ready: "queue.Queue[Any]", entry: Any, stopped: threading.Event) -> bool:
    """Hand over an entry when there is room. False if nobody takes it any more."""
    while not stopped.is_set():
        try:
            ready.put(entry, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
