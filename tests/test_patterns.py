"""Patterns that the code must not contain, beyond ruff's security rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver

from onehorizon.checks import routes
from tests.processes import ROOT

APPS = ("core", "workspaces", "apikeys", "oauth", "onehorizon")
MODULES = [file for app in APPS for file in (ROOT / app).rglob("*.py") if "migrations" not in file.parts]
TEMPLATES = list((ROOT / "templates").rglob("*.html"))
IDS: Callable[[Path], str] = lambda file: str(file.relative_to(ROOT))  # noqa: E731

# ---- Python ----

RUNS_SQL = {"execute", "executemany", "raw", "extra", "RawSQL", "fetch", "fetch_prepared"}
KNOWN = {
    "core/db/statements.py",  # passes on the constants that are handed to `fetch`
    "workspaces/task_pages.py",  # puts conditions together: the names of its own columns and parameters
}


def is_constant(node: ast.expr) -> bool:
    """A literal, or a constant of a module: `STATEMENT`, `_STATEMENTS[connection.vendor]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == name.upper()
    return False


def sql_made_on_the_way(source: str) -> list[str]:
    """The statements that are run and are no constants: there a value could have been written into them."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    runs = [call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) in RUNS_SQL]
    return [ast.unparse(call.args[0]) for call in runs if not is_constant(call.args[0])]


def test_sql_is_constant_and_values_are_parameters() -> None:
    assert {IDS(file) for file in MODULES if sql_made_on_the_way(file.read_text())} == KNOWN


@pytest.mark.parametrize(
    "statement",
    [
        "f'SELECT * FROM t WHERE a = {value}'",
        "'SELECT * FROM t WHERE a = %s' % value",
        "'DELETE FROM t WHERE a = ' + value",
        "STATEMENT.format(a=value)",
        "statement",
    ],
)
def test_sql_that_is_not_constant_is_found(statement: str) -> None:
    assert sql_made_on_the_way(f"cursor.execute({statement}, [])") == [statement]
    assert sql_made_on_the_way("cursor.execute(STATEMENTS[connection.vendor], [value])") == []


def test_each_exception_from_the_security_rules_is_known() -> None:
    """`noqa: S…` in what is shipped; a new one is argued for here."""
    names = {(IDS(file), code) for file in MODULES for code in re.findall(r"noqa:[^\n]*?\b(S\d+)", file.read_text())}

    assert names == {
        ("apikeys/admission.py", "S608"),  # names of columns, and parts of statements
        ("workspaces/models/audit.py", "S105"),  # names of actions, about tokens and passwords
        ("workspaces/quota.py", "S608"),
        ("workspaces/task_pages.py", "S608"),
    }


# ---- templates ----

FORM = re.compile(r"<form\b[^>]*>.*?</form>", re.DOTALL)
UNSAFE = {
    "unescaped": re.compile(r"\|\s*safe(seq)?\b|{%\s*autoescape\s+off|{%\s*filter\s+safe"),
    "inline script": re.compile(r"<script\b(?![^>]*\bsrc=)|\son[a-z]+\s*=|javascript:", re.IGNORECASE),
    "inline style": re.compile(r"<style\b|\sstyle\s*=", re.IGNORECASE),
    "another host": re.compile(r"<(script|link|img|iframe)\b[^>]*(src|href)=[\"'](https?:)?//", re.IGNORECASE),
}


def violations(template: str) -> list[str]:
    template = re.sub(r"{#.*?#}", "", template)
    names = [name for name, pattern in UNSAFE.items() if pattern.search(template)]
    for form in FORM.findall(template):
        posts = re.match(r"<form\b[^>]*\bmethod=[\"']?post", form, re.IGNORECASE) is not None
        if posts and "{% csrf_token %}" not in form:
            names.append("form without a token")
        if not posts and "{% csrf_token %}" in form:
            names.append("token in an address")
    return names


@pytest.mark.parametrize("file", TEMPLATES, ids=IDS)
def test_templates_escape_have_no_inline_code_and_have_csrf_tokens(file: Path) -> None:
    assert violations(file.read_text()) == []


@pytest.mark.parametrize(
    ("bad", "violation"),
    [
        ("{{ name|safe }}", "unescaped"),
        ("{% autoescape off %}", "unescaped"),
        ("<script>go()</script>", "inline script"),
        ('<a onclick="go()">', "inline script"),
        ('<p style="color: red">', "inline style"),
        ('<script src="https://cdn.example/x.js"></script>', "another host"),
        ('<form method="post"><button></form>', "form without a token"),
        ("<form>{% csrf_token %}</form>", "token in an address"),
    ],
)
def test_a_bad_template_is_found(bad: str, violation: str) -> None:
    assert violation in violations(bad)


# ---- pages ----


def pages() -> dict[str, Any]:
    """Every address outside the API, and what answers there."""
    return {route: view for route, view in routes(get_resolver(), "") if not re.match(r"\^?api\b", route)}


def address(route: str) -> str:
    """An address of that route."""
    filled = re.sub(r"<(\w+:)?\w+>", "1", route)
    return "/" + re.sub(r"\(\?P?[^)]*\)[*+?]?|\\Z|\\|[\^$]", "", filled)


def test_only_endpoints_for_clients_without_a_browser_are_csrf_exempt() -> None:
    exempt = {route for route, view in pages().items() if getattr(view, "csrf_exempt", False)}

    assert exempt == {"app/auth/token", "app/auth/revoke", "app/auth/device"}


OPEN_TO_ALL = {
    "/",  # leads to a page that asks
    "/docs/",
    "/docs/1/",
    "/sign-in/",
    "/sign-out/",
    "/admin/login/",
    "/admin/logout/",
    "/app/auth/authorize",  # tells a client that asks badly so, before anyone signs in
    "/app/auth/token",
    "/app/auth/revoke",
    "/app/auth/device",  # for a terminal's POST
    "/.well-known/oauth-authorization-server",
}


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_other_page_requires_sign_in(method: str, client: Client) -> None:
    let_in = set()
    for route in pages():
        answer = getattr(client, method)(address(route))
        assert answer.status_code < 500, route
        location = answer.headers.get("Location", "")
        if not (answer.status_code == 302 and location.startswith(("/sign-in/?next=", "/admin/login/?next="))):
            let_in.add(address(route))

    assert let_in <= OPEN_TO_ALL, let_in - OPEN_TO_ALL
