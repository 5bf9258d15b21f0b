"""Where the process begins: Ctrl-C is quiet even while the rest is still being imported."""

import sys
from typing import Any


def main() -> int:
    sys.unraisablehook = _ctrl_c_is_not_lost
    try:
        from lmsupply_cli.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        return 130


def _ctrl_c_is_not_lost(unraisable: Any) -> None:
    """Python drops an exception in a finalizer or a weak reference's callback, of which an import has many; Ctrl-C
    comes again a moment later, outside of them."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    import threading

    threading.Timer(0.01, _interrupt).start()


def _interrupt() -> None:
    import _thread
    import signal
    import threading

    if hasattr(signal, "pthread_kill"):  # wakes the main thread too, where it waits
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(main())
