"""Token buckets that all workers of all nodes share, kept by Redis (or Valkey).

All requests of a worker that ask in the same moment are one call of a script, so the cost is one
round trip for many. Redis's own clock counts, so that nodes' clocks need not agree.

When Redis does not answer within `seconds_max`, a worker goes on alone with its share, 1 / `shares`
of rate and burst, beginning with its share of what was left: together the shares take what the
limit allows. What was taken meanwhile is a debt, paid when Redis is back; a Redis that has
forgotten the bucket begins with what the worker believes is left of it, not with a full one. A
worker that has failed asks again after `pause_seconds`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from edge.gateway.limits import Buckets, Rule, Verdict
from ops import metrics
from ops.errors import Unavailable
from ops.log import get_logger
from ops.tasks import SupervisedGroup

BATCH_MAX: Final = 500
"""Most requests that one call of the script decides."""
PREFIX: Final = "nexus:limit:"
DEBTS_MAX: Final = 20_000
"""Most buckets whose debt is remembered."""

SCRIPT: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local out = {}
for i, key in ipairs(KEYS) do
  local rate, burst = tonumber(ARGV[5 * i - 4]), tonumber(ARGV[5 * i - 3])
  local cost, debt = tonumber(ARGV[5 * i - 2]), tonumber(ARGV[5 * i - 1])
  local held = redis.call('HMGET', key, 'l', 't')
  local level = tonumber(ARGV[5 * i])
  if held[1] then
    level = math.min(burst, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * rate)
    level = math.max(-burst, level - debt)
  end
  local allowed = 0
  if level + 0.000001 >= cost then
    level = level - cost
    allowed = 1
  end
  redis.call('HSET', key, 'l', string.format('%.6f', level), 't', string.format('%.6f', now))
  redis.call('PEXPIRE', key, math.ceil((burst - level) / rate * 1000) + 1000)
  out[2 * i - 1] = allowed
  out[2 * i] = string.format('%.6f', level)
end
return out
"""

_log = get_logger("edge.gateway.shared_limits")
_calls = metrics.counter(
    "nexus_gateway_shared_limits", "Calls of Redis for shared limits.", ("outcome",)
)
_calls.expect(("answered",), ("failed",))
_alone = metrics.counter(
    "nexus_gateway_limits_alone", "Requests decided by a worker's own share: no Redis."
)


class AwayError(Exception):
    """Redis cannot run the script."""


class Script(Protocol):
    """`SCRIPT` as a Redis runs it (`redis_script.py`). Raises AwayError, OSError."""

    async def __call__(self, *, keys: list[str], args: list[Any]) -> Any: ...


class _Asked:
    __slots__ = ("answer", "cost", "name", "rule")

    def __init__(self, name: str, rule: Rule, cost: float, answer: asyncio.Future[Verdict]) -> None:
        self.name = name
        self.rule = rule
        self.cost = cost
        self.answer = answer


class SharedLimits:
    """The shared buckets as one worker sees them."""

    def __init__(
        self,
        script: Script,
        *,
        shares: int,
        seconds_max: float,
        pause_seconds: float,
        tasks: SupervisedGroup,
        clock: Callable[[], float],
        buckets_max: int = 20_000,
    ) -> None:
        """shares: how many workers there are altogether. clock: monotonic seconds."""
        self._script = script
        self._share = 1.0 / max(shares, 1)
        self._seconds_max = seconds_max
        self._pause = pause_seconds
        self._tasks = tasks
        self._clock = clock
        self._own = Buckets(buckets_max=buckets_max)
        self._debts: dict[str, float] = {}
        self._asked: list[_Asked] = []
        self._busy = False
        self._alone_until = 0.0

    @property
    def alone(self) -> bool:
        """Whether Redis is left alone just now."""
        return self._clock() < self._alone_until

    async def take(self, name: str, rule: Rule, cost: float) -> Verdict:
        """Takes tokens from a shared bucket. Cost: a round trip to Redis, shared with others."""
        if self.alone:
            return self._take_own(name, rule, cost)
        if not self._busy:
            try:
                self._tasks.start("shared limits", self._drain())
            except Unavailable:
                return self._take_own(name, rule, cost)
            self._busy = True
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(name, rule, cost, answer))
        return await answer

    def give_back(self, name: str, cost: float) -> None:
        """Returns tokens with the next call: another limit refused the request."""
        self._owe(name, -cost)

    async def _drain(self) -> None:
        batch: list[_Asked] = []
        try:
            while self._asked:
                batch, self._asked = self._asked[:BATCH_MAX], self._asked[BATCH_MAX:]
                await self._ask(batch)
        finally:
            # However this ends, nobody waits for an answer that never comes.
            self._busy = False
            left, self._asked = [*batch, *self._asked], []
            for one in left:
                if not one.answer.done():
                    self._say(one, self._take_own(one.name, one.rule, one.cost))

    async def _ask(self, batch: list[_Asked]) -> None:
        keys = [PREFIX + one.name for one in batch]
        values: list[Any] = []
        owed: dict[str, float] = {}
        for one in batch:
            debt = self._debts.pop(one.name, 0.0)
            if debt:
                owed[one.name] = debt
            values += [one.rule.rate, one.rule.burst, one.cost, debt, self._believed(one)]
        try:
            async with asyncio.timeout(self._seconds_max):
                said = await self._script(keys=keys, args=values)
        except (TimeoutError, AwayError, OSError) as error:
            _calls.inc(labels=("failed",))
            _log.warning("Redis does not answer: limits by share", reason=type(error).__name__)
            self._alone_until = self._clock() + self._pause
            for name, debt in owed.items():
                self._owe(name, debt)
            for one in batch:
                self._say(one, self._take_own(one.name, one.rule, one.cost))
            return
        _calls.inc(labels=("answered",))
        now = self._clock()
        for at, one in enumerate(batch):
            allowed, level = bool(said[2 * at]), float(said[2 * at + 1])
            self._own.put(one.name, max(level, 0.0) * self._share, now=now)
            wait = 0.0 if allowed else (one.cost - level) / one.rule.rate
            self._say(one, Verdict(allowed, max(level, 0.0), wait))

    def _believed(self, one: _Asked) -> float:
        """How full a shared bucket is, as far as this worker knows."""
        now = self._clock()
        level = self._own.peek(one.name, one.rule, now=now, share=self._share)
        return one.rule.burst if level is None else level / self._share

    def _say(self, one: _Asked, verdict: Verdict) -> None:
        if not one.answer.done():
            one.answer.set_result(verdict)

    def _take_own(self, name: str, rule: Rule, cost: float) -> Verdict:
        _alone.inc()
        verdict = self._own.take(name, rule, cost=cost, now=self._clock(), share=self._share)
        if verdict.allowed:
            self._owe(name, cost)
        return verdict

    def _owe(self, name: str, cost: float) -> None:
        if name not in self._debts and len(self._debts) >= DEBTS_MAX:
            del self._debts[next(iter(self._debts))]
        self._debts[name] = self._debts.get(name, 0.0) + cost
