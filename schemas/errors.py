"""Everything that can go wrong, one class for each thing a caller would do differently.

SchedulingError
├── Unsupported        the service cannot do this; the message says what to do instead
├── NotConnected       the account has no valid sign-in; connect it again
├── PermissionDenied   signed in, but not allowed: a scope, a plan or a role is missing
├── NotFound           no such event type, booking or schedule
├── SlotTaken          the time is not on offer (any more); look for another slot
├── InvalidRequest     the arguments are wrong; the message says how to mend them
├── RateLimited        too many requests; try again after `retry_after` seconds
├── ProviderDown       the service did not answer; nothing happened, trying again is safe
├── OutcomeUnknown     a write may or may not have happened; look before trying again
└── PolicyDenied       the operator of this gateway does not allow it
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class SchedulingError(Exception):
    """A failure with a name.

    `message` is one or two sentences for the reader: what happened, and what to do next. `account` is filled in by
    whoever knows it; `retry_after` is in seconds.
    """

    code: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        account: str | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.account = account
        self.retry_after = retry_after
        self.details = details

    def __str__(self) -> str:
        return f"[{self.code}] {self.account}: {self.message}" if self.account else f"[{self.code}] {self.message}"


class Unsupported(SchedulingError):
    code = "unsupported"


class NotConnected(SchedulingError):
    code = "not_connected"


class PermissionDenied(SchedulingError):
    code = "permission_denied"


class NotFound(SchedulingError):
    code = "not_found"


class SlotTaken(SchedulingError):
    code = "slot_taken"


class InvalidRequest(SchedulingError):
    code = "invalid_request"


class RateLimited(SchedulingError):
    code = "rate_limited"


class ProviderDown(SchedulingError):
    code = "provider_down"


class OutcomeUnknown(SchedulingError):
    code = "outcome_unknown"


class PolicyDenied(SchedulingError):
    code = "policy_denied"


ERRORS: Mapping[str, type[SchedulingError]] = {kind.code: kind for kind in SchedulingError.__subclasses__()}
