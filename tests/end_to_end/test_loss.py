"""Loss on the way in, on the way out and on both: frames published against frames decoded.

A Chromium with its fake camera publishes, another page plays. Frames are counted by both ends' own
`getStats`: what the sender's encoder gave to the network, and what the player's decoder took. The
short form plays for a quarter of a minute, the long one (`make prove`) for a minute each way.
"""

import io
import re
import time
from typing import Any

import av
import pytest

from tests.end_to_end.browser import BrowserContext, Page, open_page
from tests.end_to_end.conftest import PROBE, PROVE
from tests.end_to_end.family import Family, fetch, wait_until
from tests.end_to_end.figures import percentile, say
from tests.end_to_end.loss import lossy

WANTED = {0.05: 0.995, 0.10: 0.98}
"""Share of packets lost, and the share of frames that must be decoded nonetheless."""
RUNS = [(where, share) for share in WANTED for where in ("publisher", "viewer", "both")]
SHORT_RUNS = [("both", 0.10)]
SECONDS = 60 if PROVE else 15
ROOM = 0.0 if PROVE else 0.02
"""What the short form forgives: a busy machine, and the frame on its way when it is counted."""
IN_FLIGHT_MS = 300

SENDER = """async (url) => {
  const media = await navigator.mediaDevices.getUserMedia({
    video: { width: 640, height: 360, frameRate: 30 }, audio: true,
  });
  window.sender = await probe.whip(url, media);
}"""

STATS = """async (name) => {
  const found = { port: 0 };
  for (const s of (await window[name].pc.getStats()).values()) {
    if (s.kind === "video" && (s.type === "outbound-rtp" || s.type === "inbound-rtp"))
      Object.assign(found, s);
    if (s.type === "candidate-pair" && s.nominated) found.pair = s;
    if (s.type === "local-candidate") found.port = found.port || s.port;
  }
  return found;
}"""


def _stats(page: Page, name: str) -> dict[str, Any]:
    return dict(page.evaluate(STATS, name))


def _publish(browser: BrowserContext, family: Family, stream: str) -> Page:
    page = open_page(browser, f"{family.url}/live").page
    page.evaluate(PROBE)
    page.evaluate(SENDER, f"{family.url}/whip/{stream}")
    wait_until("it is live", lambda: family.live(stream), 20)
    return page


def _play(browser: BrowserContext, family: Family, stream: str) -> Page:
    page = open_page(browser, f"{family.url}/").page
    page.evaluate(PROBE)
    page.evaluate(
        "async (url) => { window.player = await probe.whep(url) }", f"{family.url}/whep/{stream}"
    )
    page.wait_for_function("window.player.times.frame > 0", timeout=20_000)
    return page


def _counted(sender: Page, player: Page) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both ends' figures: what was sent, and, once that had time to come, what was decoded."""
    sent = _stats(sender, "sender")
    player.wait_for_timeout(IN_FLIGHT_MS)
    return sent, _stats(player, "player")


def _hls_frames_per_second(family: Family, stream: str, seconds: float) -> float:
    """Pictures that decode from the whole segments of the last seconds, by their timeline."""
    url = f"{family.url}/hls/{stream}/v"
    text = fetch(f"{url}/live.m3u8")[1].decode()
    init = re.findall(r'MAP:URI="([^"]+)"', text)[-1]
    listed = re.findall(r"#EXTINF:([\d.]+),[^\n]*\n(?:#[^\n]*\n)*(s\d+\.m4s)", text)
    names: list[str] = []
    total = 0.0
    for length, name in reversed(listed):
        if total + float(length) > seconds:
            break
        total += float(length)
        names.insert(0, name)
    assert names, text
    media = b"".join(fetch(f"{url}/{name}")[1] for name in (init, *names))
    with av.open(io.BytesIO(media)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    return frames / total


@pytest.mark.parametrize(("where", "share"), RUNS if PROVE else SHORT_RUNS)
def test_frames_survive(
    where: str, share: float, browser: BrowserContext, quiet_family: Family
) -> None:
    """5 % loss: at least 99.5 % of the frames are decoded; 10 %: 98 %. HLS has them too."""
    stream = f"loss-{where}-{round(share * 100)}"
    sender = _publish(browser, quiet_family, stream)
    player = _play(browser, quiet_family, stream)
    ports = {
        "publisher": _stats(sender, "sender")["port"],
        "viewer": _stats(player, "player")["port"],
    }
    chosen = list(ports.values()) if where == "both" else [ports[where]]
    player.wait_for_timeout(2_000)
    with lossy(share, chosen):
        sender.wait_for_timeout(1_000)
        sent_before, before = _counted(sender, player)
        start = time.monotonic()
        sender.wait_for_timeout(SECONDS * 1_000)
        sent_after, after = _counted(sender, player)
        seconds = time.monotonic() - start
        hls = _hls_frames_per_second(quiet_family, stream, SECONDS - 4)

    def grown(name: str, *, at: str = "player") -> float:
        old, new = (before, after) if at == "player" else (sent_before, sent_after)
        return float(new.get(name, 0)) - float(old.get(name, 0))

    sent, decoded = grown("framesSent", at="sender"), grown("framesDecoded")
    say(
        f"{share:.0%} loss, {where}",
        sent=int(sent),
        decoded=int(decoded),
        percent=100 * decoded / sent,
        freezes=int(grown("freezeCount")),
        frozen_s=round(grown("totalFreezesDuration"), 2),
        dropped=int(grown("framesDropped")),
        nacks=int(grown("nackCount")),
        plis=int(grown("pliCount")),
        asked_of_sender=int(grown("nackCount", at="sender")),
        plis_to_sender=int(grown("pliCount", at="sender")),
        hls_fps=hls,
        sent_fps=sent / seconds,
    )
    assert sent > 10 * SECONDS, f"the camera gave {sent} frames in {seconds:.0f} s"
    assert decoded / sent >= WANTED[share] - ROOM
    assert hls >= (WANTED[share] - ROOM - 0.02) * sent / seconds


def test_joining_under_loss(browser: BrowserContext, quiet_family: Family) -> None:
    """Every viewer that joins under 10 % loss gets its picture; so does the publisher's stream."""
    times = 40 if PROVE else 8
    family = quiet_family
    ports = range(family.udp_port, family.udp_port + 4)
    first, connected = [], []
    with lossy(0.10, ports):
        _publish(browser, family, "loss-joins")
        page = open_page(browser, f"{family.url}/").page
        page.evaluate(PROBE)
        for turn in range(times):
            got = page.evaluate(
                """async ([url, pause]) => {
                  await new Promise((r) => setTimeout(r, pause));
                  const v = await probe.whep(url);
                  const t = performance.now();
                  while (!v.times.frame && performance.now() - t < 10000)
                    await new Promise((r) => setTimeout(r, 10));
                  await fetch(v.location, { method: "DELETE" });
                  v.pc.close(); v.video.remove();
                  return v.times;
                }""",
                [f"{family.url}/whep/loss-joins", 97 * (turn % 7)],
            )
            assert got["frame"], f"join {turn}: no picture within 10 s"
            first.append(got["frame"])
            connected.append(got["connected"])
    say(
        "10 % loss: POST to the first picture",
        joins=times,
        p50_ms=percentile(first, 0.5),
        p95_ms=percentile(first, 0.95),
        worst_ms=max(first),
        connected_p50_ms=percentile(connected, 0.5),
        connected_p95_ms=percentile(connected, 0.95),
    )
