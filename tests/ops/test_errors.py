"""The kinds of failure and what each carries."""

from ops.errors import NexusError, Rejected, Unavailable


class NotLive(Unavailable):
    code = "stream.not_live"


def test_kinds_say_whether_to_repeat() -> None:
    assert not Rejected("no").retryable
    assert Unavailable("later", retry_after_seconds=2).retry_after_seconds == 2
    assert NotLive("nobody publishes").code == "stream.not_live"
    assert isinstance(NotLive("x"), NexusError)


def test_a_raise_may_name_its_own_code_and_fields() -> None:
    fault = Rejected("too long", code="body.too_long", fields={"limit": 3})
    assert (fault.code, str(fault), dict(fault.fields)) == (
        "body.too_long",
        "too long",
        {"limit": 3},
    )
    assert Rejected("other").code == "rejected"
