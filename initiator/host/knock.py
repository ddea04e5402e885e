"""Whether a portal takes a TCP connection at all: iscsid tries for two minutes before it says that it does not."""

from __future__ import annotations

import errno
import socket

from initiator.model import Portal

SECONDS = 5.0
"""Enough for three SYNs."""


def knock(portal: Portal, seconds: float = SECONDS) -> str:
    """Opens and closes one TCP connection to a portal.

    Returns:
        Why that does not work, in plain words; an empty string when it does.
    """
    try:
        socket.create_connection((portal.host, portal.port), seconds).close()
    except socket.gaierror as error:
        return f"the name {portal.host} cannot be resolved ({error.strerror})"
    except TimeoutError:
        return f"it is silent: no TCP connection within {seconds:g} s"
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            return f"nothing listens on port {portal.port} there"
        return f"no TCP connection: {error.strerror or error}"
    return ""
