"""A node with business services for tests: `nexus up` with real servers, and signed-in users."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.end_to_end.family import Family, wait_until
from tests.fakes.state_node import servers


class Node(Family):
    """A node with state, and somebody who may do everything in a tenant of it."""

    def __init__(self, directory: Path, data: Path, **settings: str) -> None:
        own = {
            "NEXUS_NODE_ROLES": "edge,media,state,worker",
            "NEXUS_EDGE_WORKERS": "1",
            "NEXUS_STATE_DATA_DIR": str(data),
        }
        super().__init__(directory, **(own | settings))
        self.data = data
        self.region = settings.get("NEXUS_NODE_REGION", "eu1")
        self.token = ""

    def start(self) -> None:
        super().start()
        self.sign_in()
        wait_until("its state is ready", self.has_state, 30)

    def start_again(self) -> None:
        """After a kill: waits until it serves, not until its state is there."""
        super().start()

    def has_state(self) -> bool:
        """Whether the servers of this start answer, and every schema is made."""
        started = self.log_path.read_text().rpartition('"node starts"')[2]
        ready = [line for line in started.splitlines() if '"child is ready"' in line]
        return any('"state-0"' in line for line in ready)

    def servers(self) -> dict[str, int]:
        """The living servers, "postgres" and "valkey"."""
        return servers(self.data, self.region)

    def database_url(self, login: str = "nexus_app") -> str:
        """Of the embedded PostgreSQL."""
        return f"postgresql://{login}@/nexus?host={self.data / self.region / 'postgres'}"

    def minted(self, tenant: str) -> str:
        """A token, by the command that stands in for the identity services."""
        arguments = ("token", "--tenant", tenant, "--subject", "usr_1", "--permissions", "*")
        done = subprocess.run(
            [sys.executable, "-m", "edge.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def sign_in(self, tenant: str = "acme") -> None:
        """Who asks from now on."""
        self.token = self.minted(tenant)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer; status 0: no connection."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        if self.token:
            asked.add_header("Authorization", f"Bearer {self.token}")
        if data is not None:
            asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as fault:
            return fault.code, json.loads(fault.read() or b"null")
        except OSError:
            return 0, None
