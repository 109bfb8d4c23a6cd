"""Log lines about sign-ins. They identify the user by id only: people type passwords into the field for the email."""

import logging
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from core.client_ip import client_ip
from core.logs import bind
from workspaces.models import User

logger = logging.getLogger("onehorizon.sign_ins")


@receiver(user_logged_in)
def log_sign_in(request: HttpRequest, user: User, **_: Any) -> None:
    bind(user=user.pk)
    logger.info("signed in", extra={"user": user.pk, "clientIp": client_ip(request)})


@receiver(user_logged_out)
def log_sign_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        logger.info("signed out", extra={"user": user.pk, "clientIp": client_ip(request)})


@receiver(user_login_failed)
def log_failed_sign_in(credentials: dict[str, Any], request: HttpRequest, **_: Any) -> None:
    email = User.objects.normalize_email(credentials["username"])
    user_id = User.objects.filter(email=email).values_list("pk", flat=True).first()
    logger.warning("sign-in failed", extra={"user": user_id or "unknown", "clientIp": client_ip(request)})
