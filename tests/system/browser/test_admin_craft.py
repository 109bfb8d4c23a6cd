"""Every page of the admin fits the window and passes axe, with the longest values that its forms accept."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken
from playwright.sync_api import Page, expect

from apikeys.models import ApiKey, ApiKeyUsage, StoredSecret
from apikeys.validators import DESCRIPTION_MAX_LENGTH
from core.admin import change_url, changelist_url
from oauth.models import Application
from tests.admin.pages import BUSIEST, FIND, INDEX, MODELS, REVOKE, action_url, add_url
from tests.helpers import Visit, commits, make_staff, make_token, make_user, make_workspace
from tests.system.browser.craft import SIZES_AND_COLOURS, TAGS, axe_violations, too_wide
from workspaces.models import Action, Actor, AuditEvent, Tier, User, Via, Workspace
from workspaces.validators import REASON_MAX_LENGTH

pytestmark = [commits, pytest.mark.one_database("how Chromium shows a page")]

CLIENT_IP = "2001:db8:1234:5678:9abc:def1:2345:6789"
RIGHT_TO_LEFT = "مفتاح الفوترة 🔑 للإنتاج"
EMAIL = "{}@" + ".".join(["d" * 60] * 3) + ".com"

SELECT2_TEXT = ".select2-selection__rendered"  # Select2 gives it the role of a text box, and no name


def admin_problems(page: Page) -> list[str]:
    """Return what is wrong with the open page on a light screen, and on a dark phone."""
    problems = []
    for width, scheme, rules in ((1280, "light", TAGS), (390, "dark", SIZES_AND_COLOURS)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal
        page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
        found = axe_violations(page, rules, exclude=[SELECT2_TEXT])
        found += too_wide(page, "html" if width == 390 else "html, #changelist .results")  # on a phone, lists scroll
        problems += [f"{page.url} at {width}: {problem}" for problem in found]
    return problems


class Extremes:
    """Objects of every model and in every state, with long text without spaces, and text from right to left."""

    def __init__(self, operator: User) -> None:
        by_operator = Actor(Via.ADMIN, operator, CLIENT_IP)
        reason = "R" * REASON_MAX_LENGTH
        later = timezone.now() + timedelta(days=90)
        self.owner = make_user("owner")
        User.objects.filter(pk=self.owner.pk).update(email=EMAIL.format("o" * 64), name="N" * 100)
        self.owner.refresh_from_db()
        by_owner = Actor(Via.PAGE, self.owner, CLIENT_IP)
        self.tier, self.unused_tier = (
            Tier.objects.create_tier(
                name=name, requests=2000, seconds=900, burst_requests=1000, burst_seconds=60, by=by_operator
            )
            for name in ("t" * 32, "u" * 32)
        )
        self.workspace = make_workspace(self.owner, slug="w" * 50, admin=make_user("admin"))
        self.suspended = make_workspace(self.owner, slug="suspended")
        Workspace.objects.filter(pk=self.workspace.pk).update(name="W" * 100, tier=self.tier)
        Workspace.objects.filter(pk=self.suspended.pk).update(name=RIGHT_TO_LEFT)
        self.workspace.refresh_from_db()
        self.suspended.refresh_from_db()

        create = ApiKey.objects.create_key
        long = "D" * DESCRIPTION_MAX_LENGTH
        self.api_key, _ = create(self.workspace, description=long, by=by_owner, expires_at=later)
        self.rotated, _ = create(self.workspace, description=RIGHT_TO_LEFT, by=by_owner)
        self.rotated.rotate(overlap=timedelta(days=1), by=by_owner)
        self.revoked, _ = create(self.suspended, description="Revoked", by=by_owner)
        self.revoked.revoke(by=by_operator, reason=reason)
        self.suspended.suspend(reason, by=by_operator)
        StoredSecret.objects.update(last_used_at=timezone.now(), last_used_from=CLIENT_IP)
        hour = int(timezone.now().timestamp()) // 3600 * 3600
        ApiKeyUsage.objects.add({(api_key.pk, hour): [10**10] * 4 for api_key in ApiKey.objects.all()})

        make_token(self.owner)
        self.token, self.application = AccessToken.objects.get(), Application.objects.get(client_id="tests")
        Application.objects.filter(pk=self.application.pk).update(
            name="A" * 255, client_id="c" * 255, redirect_uris=f"https://{'r' * 200}.example/"
        )
        self.refresh = RefreshToken.objects.create(
            user=self.owner, token="r", application=self.application, revoked=timezone.now()
        )
        User.objects.filter(pk=operator.pk).update(email=EMAIL.format("operator"))
        User.objects.update(last_login=timezone.now())
        ended = Action.API_KEY_PREVIOUS_SECRET_ENDED  # the longest action
        AuditEvent.objects.record(ended, by_owner, workspace_id=self.workspace.pk, subject="s" * 40, secret="S" * 20)
        self.event = AuditEvent.objects.get(action=Action.API_KEY_REVOKED)

    def shown(self) -> list[Model]:
        keys = [self.api_key, self.rotated, self.revoked]
        others = [self.owner, self.tier, self.event, self.application, self.token, self.refresh]
        return [self.workspace, self.suspended, *keys, *others]

    def pages(self) -> list[str]:
        revoke, day = f"{REVOKE}?key={self.api_key.pk}&key={self.rotated.pk}", {"from": "2020-01-01"}
        return [
            INDEX,
            reverse("admin:app_list", args=["oauth"]),
            f"{FIND}?unknown=1",
            BUSIEST,
            *(changelist_url(model) for model in MODELS),
            changelist_url(ApiKey, workspace=self.workspace.pk),
            changelist_url(ApiKey, q="x" * 100, status="revoked"),
            changelist_url(AuditEvent, actor=self.owner.pk, **day),
            *(change_url(item) for item in self.shown()),
            *(add_url(model) for model in (Workspace, User, Tier, Application)),
            revoke,
            REVOKE,
            reverse("admin:apikeys_apikey_revoke_all", args=[self.workspace.pk]),
            action_url(self.workspace, "suspend"),
            action_url(self.suspended, "resume"),
            action_url(self.owner, "clear-quota"),
            action_url(self.owner, "end-access"),
            action_url(self.owner, "password").replace("_5F", "_"),
            *(action_url(tier, "delete") for tier in (self.tier, self.unused_tier)),
            add_url(ApiKey),  # 403
            f"{INDEX}nothing/",  # 404
        ]


@pytest.fixture
def extremes(operator: User) -> Extremes:
    operator.user_permissions.add(Permission.objects.get(codename="delete_tier"))
    return Extremes(operator)


def test_every_page_of_an_operator_fits_the_window_and_passes_axe(
    visit: Visit, operator: User, extremes: Extremes
) -> None:
    page = visit(operator)
    problems = []
    for url in extremes.pages():
        page.goto(url)
        problems += admin_problems(page)

    assert problems == []


def test_the_pages_after_a_change_or_an_error_fit_the_window_and_pass_axe(
    visit: Visit, operator: User, extremes: Extremes
) -> None:
    page = visit(operator)
    page.goto(action_url(extremes.workspace, "clear-quota"))
    page.get_by_role("button", name="Clear quota").click()
    expect(page.get_by_text("is cleared.")).to_be_visible()
    problems = admin_problems(page)
    page.goto(action_url(extremes.workspace, "suspend"))
    page.get_by_label("Reason").fill(" ")
    page.get_by_role("button", name="Suspend").click()
    expect(page.get_by_text("Enter a reason.")).to_be_visible()
    problems += admin_problems(page)
    page.goto(add_url(Workspace))
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Choose an owner.")).to_be_visible()
    problems += admin_problems(page)
    page.goto(changelist_url(AccessToken))
    page.get_by_role("row").nth(1).get_by_role("checkbox").check()
    page.get_by_role("combobox", name="Action").select_option("Revoke selected tokens")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("heading", name="Revoke 1 token?")).to_be_visible()
    problems += admin_problems(page)
    page.goto(f"{REVOKE}?key={extremes.api_key.pk}")
    page.get_by_label("Reason").fill("R" * REASON_MAX_LENGTH)
    page.get_by_role("button", name="Revoke key").click()
    expect(page.get_by_role("listitem")).to_contain_text("Revoked")
    problems += admin_problems(page)

    assert problems == []


def test_the_read_only_pages_of_support_fit_the_window_and_pass_axe(visit: Visit, db: None, extremes: Extremes) -> None:
    page = visit(make_staff("support", "support"))
    problems = []
    for item in (extremes.workspace, extremes.owner, extremes.tier, extremes.api_key, extremes.application):
        page.goto(change_url(item))
        problems += admin_problems(page)

    assert problems == []
