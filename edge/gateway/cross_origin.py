"""Which other sites' pages may ask (CORS, the Fetch standard), as a configuration says.

Without a configuration none may: an answer without these fields is the browser's no. A preflight is
answered here, without asking anybody.
"""

import re
from dataclasses import dataclass

from edge.gateway.fields import Pairs
from services.platform.backend_api.api import Cors


@dataclass(frozen=True, slots=True)
class CrossOrigin:
    """One rule, ready to be applied."""

    origins: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    anybody: bool
    methods: frozenset[str]
    rule: Cors

    @classmethod
    def of(cls, rule: Cors) -> "CrossOrigin":
        patterns = tuple(
            re.compile(re.escape(origin).replace(r"\*", r"[a-z0-9-]+(?:\.[a-z0-9-]+)*"))
            for origin in rule.origins
            if "*." in origin
        )
        return cls(
            frozenset(rule.origins), patterns, "*" in rule.origins, frozenset(rule.methods), rule
        )

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may ask."""
        if self.anybody or origin in self.origins:
            return True
        return any(pattern.fullmatch(origin) for pattern in self.patterns)

    def fields(self, origin: str) -> Pairs:
        """What an answer to this origin carries; Vary even where it may not ask."""
        if not self.allows(origin):
            return [] if self.anybody else [("vary", "Origin")]
        found = [("access-control-allow-origin", "*" if self.anybody else origin)]
        if not self.anybody:
            found.append(("vary", "Origin"))
        if self.rule.credentials:
            found.append(("access-control-allow-credentials", "true"))
        if self.rule.expose:
            found.append(("access-control-expose-headers", ", ".join(self.rule.expose)))
        return found

    def preflight(self, origin: str, *, method: str, headers: str) -> Pairs:
        """The fields of the answer to a preflight for this method and these fields."""
        found = self.fields(origin)
        wanted = {name.strip().lower() for name in headers.split(",") if name.strip()}
        found.append(
            ("vary", "Access-Control-Request-Method, Access-Control-Request-Headers"),
        )
        if not self.allows(origin) or method not in self.methods:
            return [(name, value) for name, value in found if name == "vary"]
        if not wanted <= set(self.rule.headers):
            return [(name, value) for name, value in found if name == "vary"]
        return [
            *found,
            ("access-control-allow-methods", ", ".join(self.rule.methods)),
            ("access-control-allow-headers", ", ".join(self.rule.headers)),
            ("access-control-max-age", str(self.rule.seconds)),
        ]
