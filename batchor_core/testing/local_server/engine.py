"""One simulated account: its files, its batches, its faults and its books."""

from __future__ import annotations

from pathlib import Path

from batchor_core.testing.local_server.batches import Batches
from batchor_core.testing.local_server.books import Books
from batchor_core.testing.local_server.clock import ServerClock
from batchor_core.testing.local_server.execution import RowRunner
from batchor_core.testing.local_server.faults import Faults
from batchor_core.testing.local_server.files import Files
from batchor_core.testing.local_server.protocol import Protocol
from batchor_core.testing.local_server.replies import Responder
from batchor_core.testing.local_server.settings import Settings
from batchor_core.testing.local_server.store import Store


class Engine:
    """Everything behind the HTTP routes."""

    def __init__(
        self,
        directory: Path,
        *,
        protocol: Protocol,
        clock: ServerClock,
        settings: Settings,
        responder: Responder,
    ) -> None:
        self.protocol = protocol
        self.clock = clock
        self.settings = settings
        self.faults = Faults(settings.seed)
        self.store = Store(directory)
        self.runner = RowRunner(self.store, self.faults, responder, protocol, seed=settings.seed)
        self.files = Files(self.store, clock, self.faults)
        self.batches = Batches(self.store, clock, settings, self.faults, self.files, self.runner, protocol)
        self.books = Books(self.store)

    def reset(self) -> None:
        """Forget files, batches, books and faults. The clock stays where it is."""
        self.store.clear()
        self.faults.clear()
