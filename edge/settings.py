"""All settings of a node, collected: one section a component, each declared beside it.

Loading, sources and precedence are `ops/settings.py`; the reference page is `docs/settings.md`.
"""

from dataclasses import dataclass

from edge.access import AuthSettings
from edge.demo.settings import DemoSettings
from edge.http_settings import HttpSettings
from edge.tls import TlsSettings
from media.hls.writer import HlsSettings
from media.plane import WebrtcSettings
from ops.log import LogSettings
from ops.node import NodeSettings
from ops.tracing import TracingSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """What the composition root hands to every role."""

    node: NodeSettings = NodeSettings()
    edge: HttpSettings = HttpSettings()
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings = AuthSettings()
    webrtc: WebrtcSettings = WebrtcSettings()
    hls: HlsSettings = HlsSettings()
    demo: DemoSettings = DemoSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
