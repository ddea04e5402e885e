"""Work that may block, away from the screen: daemon threads that hand their result back as a message.

Not Textual's thread workers: those are waited for at exit, and a call that hangs in the kernel would keep the
dashboard from closing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from textual.message import Message
from textual.message_pump import MessagePump

from initiator.errors import MooringError

T = TypeVar("T")


class Ready(Message):
    """A piece of work is done; whoever gets it calls `deliver`."""

    def __init__(self, deliver: Callable[[], None]) -> None:
        super().__init__()
        self.deliver = deliver


def run(pump: MessagePump, work: Callable[[], T], deliver: Callable[[T | MooringError], None]) -> None:
    """Do `work` in a thread, then call `deliver` with its result in the thread of the screen.

    What the work raises arrives as a `MooringError`. `pump` (the app) handles `Ready`.
    """

    def body() -> None:
        outcome: T | MooringError = MooringError(
            "something went wrong inside Mooring", fix="its log file names the place"
        )
        try:
            outcome = work()
        except MooringError as error:
            outcome = error
        except OSError as error:
            outcome = MooringError(str(error))
        finally:
            post(pump, Ready(lambda: deliver(outcome)))

    threading.Thread(target=body, name="background", daemon=True).start()


def post(pump: MessagePump, message: Message) -> None:
    """Send a message from any thread; a screen that has gone does not want it any more."""
    with contextlib.suppress(RuntimeError):  # the loop has closed
        pump.post_message(message)


def log_failures(arguments: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook`: a traceback on stderr would be drawn across the screen."""
    if arguments.exc_value is not None:
        trace = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        logging.getLogger("mooring").error("a thread of the dashboard failed", exc_info=trace)
