"""All settings of a node, collected: one section a component, each declared beside it.

Loading, sources and precedence are `ops/settings.py`; the reference page is `docs/settings.md`.
"""

from dataclasses import dataclass, field

from edge.access import AuthSettings
from edge.demo.settings import DemoSettings
from edge.gateway.settings import GatewaySettings
from edge.graphql.settings import GraphqlSettings
from edge.http_settings import HttpSettings
from edge.limit_settings import LimitSettings
from edge.tls import TlsSettings
from media.hls.writer import HlsSettings
from media.webrtc_settings import WebrtcSettings
from ops.db import DatabaseSettings
from ops.log import LogSettings
from ops.node import NodeSettings
from ops.region_settings import RegionSettings
from ops.state.settings import KafkaSettings, RedisSettings, StateSettings
from ops.tokens import TokenSettings
from ops.tracing import TracingSettings
from services._events.settings import EventsSettings
from services._jobs.settings import JobSettings
from services._live.settings import LiveSettings
from services.platform.backend_api.api import BackendApiSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """What the composition root hands to every role."""

    node: NodeSettings = field(default_factory=NodeSettings)
    edge: HttpSettings = field(default_factory=HttpSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    graphql: GraphqlSettings = field(default_factory=GraphqlSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    live: LiveSettings = field(default_factory=LiveSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    backend_api: BackendApiSettings = field(default_factory=BackendApiSettings)
    webrtc: WebrtcSettings = field(default_factory=WebrtcSettings)
    hls: HlsSettings = field(default_factory=HlsSettings)
    events: EventsSettings = field(default_factory=EventsSettings)
    regions: RegionSettings = field(default_factory=RegionSettings)
    state: StateSettings = field(default_factory=StateSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    demo: DemoSettings = field(default_factory=DemoSettings)
    log: LogSettings = field(default_factory=LogSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
