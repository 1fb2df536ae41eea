"""Who makes a call, and whether they may."""

from typing import TYPE_CHECKING

from gateway.callers import LOCAL, Caller
from gateway.policy import NOTHING, Policy
from schemas import PolicyDenied

if TYPE_CHECKING:
    from gateway.core import Gateway


def calls(gateway: "Gateway") -> Caller:
    """Who makes the call that is answered now. Raises PolicyDenied."""
    return LOCAL if gateway.door is None else gateway.door.caller()


def must_be_allowed(gateway: "Gateway", who: Caller, tool: str) -> None:
    """Raises PolicyDenied, with what is allowed instead."""
    policy = who.policy
    if policy is NOTHING:
        raise PolicyDenied("No policy of this gateway is for you. Ask whoever runs it to add you to one.")
    if policy.is_over(gateway.clock.now()):
        raise PolicyDenied("Your access has ended. Ask whoever runs this gateway.")
    if tool not in policy.allowed:
        raise PolicyDenied(f"You may not use {tool}: {_said(policy)}. Nothing was sent. Do not try it in another way.")


def _said(policy: Policy) -> str:
    if policy.read_only:
        return "your access is read-only"
    return f"your access is for {', '.join(policy.tools) or 'no tools'}"
