"""The workspace's quota as a DRF throttle class, and the limit on failed authentications by bearer token."""

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.ratelimits import FailureLimit, RateLimited
from workspaces.access import Principal

failures = FailureLimit("bearer")


class QuotaThrottle(BaseThrottle):
    """Counts requests against the quota of the principal: its workspace's for an API key, the person's for a token.

    Requests without a principal pass. A request counts once, however often it is checked. Rejected ones don't count.
    """

    def allow_request(self, request: Request, view: object) -> bool:
        """Return True, or raise `RateLimited`: after False, DRF would answer with its own message."""
        if not isinstance(request.auth, Principal):
            return True
        decision = request.auth.count_request()
        if not decision.admitted:
            raise RateLimited(f"{decision.status.tier} rate limit exceeded", decision.retry_after)
        return True
