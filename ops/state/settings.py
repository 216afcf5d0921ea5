"""Settings of state: where it lies, whom the embedded servers run as, and whose servers to use.

An address given in `database.url` (`ops/db.py`), `redis.url` or `kafka.servers` names a server of
yours; then none of ours is started in its place.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ops.settings import setting

AUTOMATIC: Final = Path()
"""No directory given: `ops.state.places` chooses one."""


@dataclass(frozen=True, slots=True)
class StateSettings:
    """The embedded servers, and bringing schemas up to date."""

    data_dir: Path = setting(
        AUTOMATIC,
        "Directory for what outlives the node, a folder a region; empty: /var/lib/nexus-cos for"
        " root, nexus-cos in the user's state directory (XDG) for others.",
    )
    account: str = setting(
        "",
        "Account that the servers run as when the node runs as root, since PostgreSQL refuses root;"
        " empty: postgres where there is one, else nobody.",
    )
    migrate: bool = setting(
        True,  # noqa: FBT003  a default
        "Whether a node that starts brings all schemas up to date; false: nexus migrate does.",
    )
    postgres_memory_bytes: int = setting(
        67_108_864,
        "Bytes of memory in which PostgreSQL keeps pages for all its connections.",
        min=1_048_576,
        max=1 << 40,
    )
    postgres_options: tuple[str, ...] = setting(
        (), "More settings of the embedded PostgreSQL, each as name=value; they win over ours."
    )
    valkey_memory_bytes: int = setting(
        67_108_864,
        "Bytes of memory that Valkey's data may take; beyond, what was used least goes.",
        min=1_048_576,
        max=1 << 40,
    )
    start_seconds: float = setting(
        60.0,
        "Seconds that a server may take until it answers, recovery included; then it is restarted.",
        min=1,
        max=3_600,
    )
    stop_seconds: float = setting(
        10.0, "Seconds that a server may take to stop before it is forced.", min=0.1, max=600
    )
    orphan_seconds: float = setting(
        2.0,
        "Seconds that the servers of a killed node wait for the next one to take them over.",
        min=0,
        max=600,
    )
    log_bytes_max: int = setting(
        4_194_304,
        "Bytes that a server's own log may grow to before it begins anew.",
        min=65_536,
        max=1 << 40,
    )

    def __post_init__(self) -> None:
        if any(character in str(self.data_dir) for character in ",\"'\n"):
            raise ValueError("data_dir: no commas, quotes or line ends, please")
        for option in self.postgres_options:
            name, equals, _ = option.partition("=")
            if not equals or not name.replace("_", "").replace(".", "").isalnum():
                raise ValueError(f"postgres_options: {option!r} is not name=value")


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The store of what is fast and may be lost."""

    url: str = setting(
        "", "Redis or Valkey of this region, redis://…; empty: the embedded Valkey.", secret=True
    )


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The bus between services, when PostgreSQL shall not carry it alone."""

    servers: tuple[str, ...] = setting(
        (),
        "Kafka brokers of this region, each as host:port; empty: events travel in PostgreSQL.",
        variable="NEXUS_KAFKA",
    )
    tls: bool = setting(default=False, help="Whether brokers are spoken to by TLS.")
    authorities: str = setting(
        "", "File with the authorities of brokers' certificates, PEM; empty: the system's."
    )
    certificate: str = setting(
        "", "File with our own certificate chain, PEM, where brokers ask for one; empty: none."
    )
    key: str = setting("", "File with the private key of `certificate`, PEM.")
    user: str = setting("", "Name to log in with, by SASL; empty: no login.")
    password: str = setting("", "Password to log in with.", secret=True)
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = setting(
        "SCRAM-SHA-512", "How to log in; PLAIN shows the password, and so needs `tls`."
    )

    def __post_init__(self) -> None:
        """Raises ValueError for what would not be used, or would show a password."""
        if (self.authorities or self.certificate) and not self.tls:
            raise ValueError("tls: a certificate is of no use without it")
        if bool(self.certificate) != bool(self.key):
            raise ValueError("key: a certificate and its key are given together")
        if bool(self.user) != bool(self.password):
            raise ValueError("password: a user and a password are given together")
        if self.user and self.mechanism == "PLAIN" and not self.tls:
            raise ValueError("mechanism: PLAIN needs tls, or anybody could read the password")
