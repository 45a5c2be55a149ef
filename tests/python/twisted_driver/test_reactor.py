"""Twisted's reactor in a thread; each test has its own process and so its own reactor."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run(program: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_twisted_is_imported_only_when_asked_for() -> None:
    assert run(
        """
        import sys
        import zc.zrs.primary, zc.zrs.secondary, zc.zrs.reactor
        print("twisted" in sys.modules)
        zc.zrs.reactor.reactor()
        print("twisted" in sys.modules)
        """
    ).split() == ["False", "True"]


def test_reactor_runs_in_a_daemon_thread_until_shutdown() -> None:
    assert run(
        """
        import threading, zc.zrs.reactor
        reactor = zc.zrs.reactor.reactor()
        assert zc.zrs.reactor.reactor() is reactor
        called = threading.Event()
        reactor.callFromThread(called.set)
        print(called.wait(30), reactor.running)
        assert all(t.daemon for t in threading.enumerate() if t is not threading.main_thread())
        zc.zrs.reactor.shutdown()
        zc.zrs.reactor.shutdown()
        print(reactor.running, threading.active_count())
        try:
            zc.zrs.reactor.reactor()
        except RuntimeError as error:
            print(error)
        """
    ).splitlines() == [
        "True True",
        "False 1",
        "Twisted's reactor was shut down; it cannot be restarted",
    ]


def test_reactor_that_already_runs_is_left_alone() -> None:
    assert run(
        """
        import threading, zc.zrs.reactor
        from twisted.internet import reactor
        def look():
            assert zc.zrs.reactor.reactor() is reactor
            zc.zrs.reactor.shutdown()
            print(reactor.running, threading.active_count())
            reactor.stop()
        reactor.callWhenRunning(look)
        reactor.run()
        """
    ).split() == ["True", "1"]


def test_log_of_twisted_goes_to_logging() -> None:
    lines = run(
        """
        import logging, sys, zc.zrs.reactor
        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
        zc.zrs.reactor.reactor()
        from twisted.python import log
        log.msg("hello")
        try:
            1 / 0
        except ZeroDivisionError:
            log.err()
        """
    )
    assert "INFO zc.zrs.reactor hello\n" in lines
    assert "ERROR zc.zrs.reactor Unhandled Error\n" in lines
    assert "ZeroDivisionError" in lines


def test_a_reactor_that_ends_by_itself_is_critical() -> None:
    program = """
        import logging, sys, zc.zrs.reactor
        logging.basicConfig(level=logging.CRITICAL, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
        reactor = zc.zrs.reactor.reactor()
        thread = zc.zrs.reactor._thread
        reactor.callFromThread(reactor.crash)
        thread.join(30)
        """
    said = "CRITICAL zc.zrs.reactor The twisted reactor quit unexpectedly\n"
    assert run(program) == said
    assert (
        run(
            program.replace(
                "reactor.callFromThread(reactor.crash)", "zc.zrs.reactor.shutdown()"
            )
        )
        == ""
    )
