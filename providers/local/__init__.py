"""The embedded calendar: a scheduler for one person, in the gateway's own database."""

from providers.local.adapter import Local

__all__ = ["Local"]
