"""When a learner starts a compaction, and those that it has started."""

from __future__ import annotations

import os
import subprocess
import sys

from mtaw_fast.bundle import Bundle
from mtaw_fast.online.compaction.current import compacted_by_all, position_in, reader_id
from mtaw_fast.online.compaction.redaction import is_redacted
from mtaw_fast.online.log.event_log import EventLog
from mtaw_fast.online.log.events import now_ms
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.online.state.event_processor import EventProcessor
from mtaw_fast.system import host

_MIN_SECONDS = 60.0  # between two


class CompactionSchedule:
    """Starts compactions of what was learned on top of the bundle in `folder`, each in a process of its own.

    latest: the compactor that was started last, without those that were requested.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: LearningSettings) -> None:
        module = "mtaw_fast.online.compaction.compactor"
        self._command = [sys.executable, "-m", module, str(folder), *settings.arguments()]
        self._settings = settings
        self.latest: subprocess.Popen[bytes] | None = None
        self._requested: subprocess.Popen[bytes] | None = None
        self._tried = host.monotonic()

    def start(self, wait: bool) -> subprocess.Popen[bytes]:
        """Start a compaction. wait: whether it waits for another one that is running; if not, it ends at once."""
        self.latest = host.start_process([*self._command, "--wait"] if wait else self._command)
        return self.latest

    def request(self) -> None:
        """Start a compaction that waits for another one that is running."""
        self._requested = host.start_process([*self._command, "--wait"])

    @property
    def is_requested(self) -> bool:
        """Whether a requested one is waiting or running."""
        return self._requested is not None and self._requested.poll() is None

    def restart_pause(self) -> None:
        """Count the pause until the next one from now."""
        self._tried = host.monotonic()

    def should_start(self, event_processor: EventProcessor, bundle: Bundle, log: EventLog) -> bool:
        """Return whether to start one now. event_processor: what was learned on top of the bundle that is served."""
        if event_processor.tracker.clock.jump(now_ms()):
            return False
        running = any(process is not None and process.poll() is None for process in (self.latest, self._requested))
        if running or not self._settings.compact:
            return False
        waited, position = host.monotonic() - self._tried, position_in(bundle, log)
        # The position, not the clicks: clicks of carried sessions are old, and a request to forget is not a click.
        news = event_processor.position > position
        enough = event_processor.learned_clicks >= self._settings.compact_clicks
        if news and (enough or event_processor.keeps_vectors):
            return waited >= _MIN_SECONDS  # while most sessions are open, compactions gain little
        if waited < self._settings.compact_seconds:
            return False
        until = log.read_by_all(reader_id(self._settings), compacted_by_all(self._settings.other_arms, position))
        return news or not is_redacted(log, self._settings.log_folder, until)
